#include "host/dtype.h"

#include <string.h>

const char *tdm_dtype_name(tdm_dtype t)
{
    static const char *const NAMES[] = {"f32", "f16", "bf16"};
    return NAMES[t];
}

/* Four numbers a step: what every x86-64 has, and what gcc 12 does not spill to memory. */
enum { STEP = 4 };
typedef uint16_t half_vec __attribute__((vector_size(STEP * 2)));
typedef uint32_t word_vec __attribute__((vector_size(STEP * 4)));
typedef float float_vec __attribute__((vector_size(STEP * 4)));

/* Put the 15 low bits where f32 has its exponent and mantissa, and add the difference of the
 * exponent biases, 112; twice for infinity and NaN, whose exponent is all ones. A subnormal m *
 * 2^-24 is (1 + m / 1024) * 2^-14 - 2^-14, which is exact and meets no f32 subnormal. */
static word_vec widen_f16(half_vec h)
{
    const word_vec bias = (word_vec){0} + (112u << 23), least = (word_vec){0} + (113u << 23);
    const word_vec bits = __builtin_convertvector(h, word_vec);
    const word_vec magnitude = (bits & 0x7FFFu) << 13;
    const word_vec special = (word_vec)(magnitude >= 0x7C00u << 13);
    const word_vec tiny = (word_vec)(magnitude < 0x0400u << 13);
    const word_vec normal = magnitude + bias + (special & bias);
    const word_vec subnormal = (word_vec)((float_vec)(magnitude + least) - (float_vec)least);
    return (tiny & subnormal) | (~tiny & normal) | (bits & 0x8000u) << 16;
}

static word_vec widen_bf16(half_vec h)
{
    return __builtin_convertvector(h, word_vec) << 16;
}

/* Inlined once for each format, so that `widen` is no call. */
static inline __attribute__((always_inline)) void widen_all(float *dst, const unsigned char *src,
                                                            size_t n, word_vec (*widen)(half_vec))
{
    half_vec h = {0};
    word_vec w;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        memcpy(&h, src + 2 * i, sizeof h);
        w = widen(h);
        memcpy(dst + i, &w, sizeof w);
    }
    if (i < n) {
        memcpy(&h, src + 2 * i, 2 * (n - i));
        w = widen(h);
        memcpy(dst + i, &w, 4 * (n - i));
    }
}

void tdm_to_f32(float *dst, const void *src, tdm_dtype type, size_t n)
{
    switch (type) {
    case TDM_F32:
        if (n)
            memcpy(dst, src, n * sizeof *dst);
        break;
    case TDM_F16:
        widen_all(dst, src, n, widen_f16);
        break;
    case TDM_BF16:
        widen_all(dst, src, n, widen_bf16);
        break;
    }
}

static uint16_t narrow_f16(uint32_t bits)
{
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return 0x7FFF;
    if (magnitude >=
        0x477FF000) /* 65520, half way between the largest number and the next power of 2 */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude <
        113u << 23) { /* subnormal: a multiple of 2^-24, the unit of numbers from 0.5 to 1 */
        float f;
        uint32_t rounded;
        memcpy(&f, &magnitude, sizeof f);
        f += 0.5f;
        memcpy(&rounded, &f, sizeof rounded);
        return (uint16_t)(sign | (rounded - (126u << 23)));
    }
    const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

static uint16_t narrow_bf16(uint32_t bits)
{
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return 0x7FFF;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void tdm_from_f32(void *dst, tdm_dtype type, const float *src, size_t n)
{
    if (type == TDM_F32) {
        if (n)
            memmove(dst, src, n * sizeof *src);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, src + i, sizeof bits);
        const uint16_t half = type == TDM_F16 ? narrow_f16(bits) : narrow_bf16(bits);
        memcpy((char *)dst + 2 * i, &half, sizeof half);
    }
}

/* The bits that are all ones in infinity and NaN and in nothing else. */
static const struct {
    size_t bytes;
    uint32_t mask;
} EXPONENT[] = {[TDM_F32] = {4, 0x7F800000}, [TDM_F16] = {2, 0x7C00}, [TDM_BF16] = {2, 0x7F80}};

static size_t one_by_one(const unsigned char *src, tdm_dtype type, size_t from, size_t to)
{
    const size_t bytes = EXPONENT[type].bytes;
    for (size_t i = from; i < to; i++) {
        uint32_t x = 0;
        memcpy(&x, src + i * bytes, bytes);
        if ((x & EXPONENT[type].mask) == EXPONENT[type].mask)
            return i;
    }
    return to;
}

size_t tdm_first_not_finite(const void *src, tdm_dtype type, size_t n)
{
    enum { BLOCK = 4096 }; /* elements tested together before looking for the one */
    const unsigned char *p = src;
    size_t i = 0;
    for (; n - i >= BLOCK; i += BLOCK) {
        word_vec bad = {0};
        const unsigned char *block = p + i * EXPONENT[type].bytes;
        for (size_t at = 0; at < BLOCK * EXPONENT[type].bytes; at += sizeof bad) {
            word_vec x;
            memcpy(&x, block + at, sizeof x);
            if (type == TDM_F32) {
                bad |= (word_vec)((x & 0x7F800000u) == 0x7F800000u);
            } else {
                const uint32_t mask = EXPONENT[type].mask;
                bad |= (word_vec)((x & mask) == mask) | (word_vec)((x & mask << 16) == mask << 16);
            }
        }
        uint32_t any = 0;
        for (int lane = 0; lane < STEP; lane++)
            any |= bad[lane];
        if (any)
            break;
    }
    return one_by_one(p, type, i, n);
}
