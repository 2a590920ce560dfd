/* host/cpu_vector.h - one vector of floats, and the functions that the kernels need of it.
 *
 * Compiled once per instruction set: the including file defines VECTOR_BYTES. The files are compiled
 * with -ffp-contract=fast, so a * b + c is one rounding wherever the instruction set has it. All
 * functions work on each lane alone: a value does not depend on its place in the vector. */
#ifndef HOST_CPU_VECTOR_H
#define HOST_CPU_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES (VECTOR_BYTES / 4)
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t uvec __attribute__((vector_size(VECTOR_BYTES)));
typedef float loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

INLINE vec load(const float *p)
{
    return *(const loose_vec *)p;
}

INLINE void store(float *p, vec v)
{
    *(loose_vec *)p = v;
}

INLINE vec splat(float x)
{
    return x - (vec){0};
}

/* The first n < LANES values; the other lanes are zero. */
INLINE vec load_some(const float *p, size_t n)
{
    vec v = {0};
    memcpy(&v, p, n * sizeof *p);
    return v;
}

INLINE void store_some(float *p, vec v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

INLINE ivec lane_numbers(void)
{
    ivec v;
    for (int i = 0; i < LANES; i++)
        v[i] = i;
    return v;
}

/* Sum and largest of the lanes, in a fixed tree. A NaN lane does not win the maximum. */
INLINE float sum_lanes(vec v)
{
    float t[LANES];
    store(t, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

INLINE float max_lanes(vec v)
{
    float t[LANES];
    store(t, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] = t[i + half] > t[i] ? t[i + half] : t[i];
    return t[0];
}

INLINE vec magnitude(vec x)
{
    return (vec)((uvec)x & 0x7fffffffu);
}

/* e^x. Below -87: 0. Above 88: infinity. 1 at 0. NaN stays NaN: by the last line, for the shift would
 * move what a NaN carries in its low bits into exponent and sign.
 * x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial for e^r; n goes into the exponent. Adding 1.5 * 2^23
 * rounds to an integer and leaves it in the low bits. The coefficients are a weighted minimax fit. */
INLINE vec vec_exp(vec x)
{
    const float round = 12582912.0f, ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
    const vec shifted = x * 1.44269504f + round;
    const vec n = shifted - round;
    const vec r = (x - n * ln2_high) - n * ln2_low;
    vec p = r * 1.99193804e-4f + 1.39472249e-3f;
    p = p * r + 8.33326299e-3f;
    p = p * r + 4.16662544e-2f;
    p = p * r + 0.166666672f;
    p = p * r + 0.5f;
    p = (r * r) * p + r;
    const uvec e = (uvec)(p + 1.0f) + ((uvec)shifted << 23);
    const vec inside = choose(x > 88.0f, splat(__builtin_inff()), (vec)e);
    const vec limited = choose(x < -87.0f, (vec){0}, inside);
    return choose(x == x, limited, x);
}

INLINE vec vec_tanh(vec x)
{
    const vec a = magnitude(x), s = x * x;
    vec p = s * 2.23106099e-3f - 8.26708786e-3f;
    p = p * s + 2.17344388e-2f;
    p = p * s - 5.39524741e-2f;
    p = p * s + 0.133332476f;
    p = p * s - 0.333333313f;
    const vec small = x + x * (s * p);
    const vec large = 1.0f - 2.0f / (vec_exp(2.0f * a) + 1.0f);
    const vec signed_large = (vec)((uvec)large | ((uvec)x & 0x80000000u));
    return choose(a < 0.6f, small, signed_large);
}

/* 1 + erf(z): erf z / z as a polynomial in z^2 up to 0.95; beyond, -ln erfc(t) / t as one in t. */
INLINE vec one_plus_erf(vec z)
{
    const vec t = magnitude(z), s = z * z;
    vec p = s * 8.21542344e-5f - 8.1059651e-4f;
    p = p * s + 5.19779697e-3f;
    p = p * s - 2.68581044e-2f;
    p = p * s + 0.112836726f;
    p = p * s - 0.376126319f;
    p = p * s + 0.128379166f;
    const vec small = 1.0f + (z + z * p);
    vec q = t * 5.1508805e-6f - 4.82022297e-5f;
    q = q * t - 3.60647573e-5f;
    q = q * t + 2.89230072e-3f;
    q = q * t - 2.26120092e-2f;
    q = q * t + 0.105202913f;
    q = q * t + 0.635656536f;
    q = q * t + 1.12854493f;
    const vec erfc = choose(t > 4.0f, (vec){0}, vec_exp(-t * q));
    return choose(t < 0.95f, small, choose(z < 0.0f, erfc, 2.0f - erfc));
}

INLINE vec gelu_erf(vec x)
{
    return (0.5f * x) * one_plus_erf(x * 0.707106781f);
}

/* 0.5 x (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
INLINE vec gelu_tanh(vec x)
{
    const vec minus_2u = x * (x * x * -0.0713548163f - 1.59576912f);
    return x / (1.0f + vec_exp(minus_2u));
}

#endif
