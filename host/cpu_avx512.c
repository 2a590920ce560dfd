/* host/cpu_avx512.c - the kernels for x86-64-v4: 32 registers of 16 floats. */
#include "host/cpu.h"

#ifdef __AVX512VL__
#define TABLE cpu_kernels_avx512
#define NAME "avx512"
#define VECTOR_BYTES 64
#define PANEL_VECTORS 4
#define PEAK_SUMS 12
#define SUPPORTED (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&                  \
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && \
                   __builtin_cpu_supports("fma"))
#include "host/cpu_kernels.h"
#else
const cpu_kernels *cpu_kernels_avx512(void)
{
    return NULL;
}
#endif
