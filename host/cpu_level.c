/* host/cpu_level.c - which kernels this machine can run. Compiled for any machine, unlike the kernels:
 * nothing of theirs is called before this has looked. */
#include "host/cpu.h"

/* What a level of the x86-64 psABI adds to the one below it, as bits of cpu_features. The operating
 * system must save the registers too: XMM and YMM, then the masks and ZMM. */
enum { OSXSAVE = 27 }; /* bit of leaf1_ecx */
#define BIT(n) (UINT32_C(1) << (n))

static const cpu_features LEVEL_2 = {
    /* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF */
    .leaf1_ecx = BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(23),
    .extended_ecx = BIT(0),
};
static const cpu_features LEVEL_3 = {
    /* FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT */
    .leaf1_ecx = BIT(12) | BIT(22) | BIT(OSXSAVE) | BIT(28) | BIT(29),
    .leaf7_ebx = BIT(3) | BIT(5) | BIT(8),
    .extended_ecx = BIT(5),
    .saved = BIT(1) | BIT(2),
};
static const cpu_features LEVEL_4 = {
    /* AVX-512 F, DQ, CD, BW, VL */
    .leaf7_ebx = BIT(16) | BIT(17) | BIT(28) | BIT(30) | BIT(31),
    .saved = BIT(5) | BIT(6) | BIT(7),
};

static bool has(const cpu_features *f, const cpu_features *wanted)
{
    return (f->leaf1_ecx & wanted->leaf1_ecx) == wanted->leaf1_ecx &&
           (f->leaf7_ebx & wanted->leaf7_ebx) == wanted->leaf7_ebx &&
           (f->extended_ecx & wanted->extended_ecx) == wanted->extended_ecx &&
           (f->saved & wanted->saved) == wanted->saved;
}

int cpu_level(const cpu_features *f)
{
    if (!has(f, &LEVEL_2))
        return 1;
    if (!has(f, &LEVEL_3))
        return 2;
    return has(f, &LEVEL_4) ? 4 : 3;
}

#if defined(__x86_64__)
#include <cpuid.h>

cpu_features cpu_features_read(void)
{
    cpu_features f = {0};
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        f.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        f.leaf7_ebx = ebx;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
        f.extended_ecx = ecx;
    if (f.leaf1_ecx & BIT(OSXSAVE)) { /* else xgetbv does not exist */
        __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
        f.saved = eax;
    }
    return f;
}
#else
cpu_features cpu_features_read(void)
{
    return (cpu_features){0};
}
#endif

/* A table of a level, unless the build or the machine lacks it. */
static const cpu_kernels *at_level(const cpu_kernels *table, int level)
{
    const cpu_features f = cpu_features_read();
    return table->name && cpu_level(&f) >= level ? table : NULL;
}

const cpu_kernels *cpu_kernels_avx512(void)
{
    return at_level(&cpu_table_avx512, 4);
}

const cpu_kernels *cpu_kernels_avx2(void)
{
    return at_level(&cpu_table_avx2, 3);
}

const cpu_kernels *cpu_kernels_baseline(void)
{
    return &cpu_table_baseline;
}
