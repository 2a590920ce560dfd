/* host/cpu_stats.h - sums over rows of logits; compiled once per instruction set.
 *
 * The exponentials are f32 and the sums double: an error of an exponential is that of one weight, the
 * same in every sum, while a variance is a small difference of large sums. A lane sums every LANES-th
 * entry; a row's end is filled up with the lowest finite value, which weighs nothing. */
#ifndef HOST_CPU_STATS_H
#define HOST_CPU_STATS_H

#include <float.h>

#include "host/cpu.h"
#include "host/cpu_vector.h"

typedef float half_vec __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef double dvec __attribute__((vector_size(VECTOR_BYTES)));

/* The lanes of one vec, or sums of them, in double. */
typedef struct {
    dvec low, high;
} wide;

INLINE wide widen(vec v)
{
    half_vec half[2];
    memcpy(half, &v, sizeof v);
    return (wide){__builtin_convertvector(half[0], dvec), __builtin_convertvector(half[1], dvec)};
}

INLINE wide minus(wide a, double b)
{
    return (wide){a.low - b, a.high - b};
}

INLINE wide times(wide a, wide b)
{
    return (wide){a.low * b.low, a.high * b.high};
}

INLINE void add(wide *sum, wide a)
{
    sum->low += a.low;
    sum->high += a.high;
}

/* In a fixed tree. */
INLINE double sum_wide(wide v)
{
    double t[LANES];
    memcpy(t, &v, sizeof t);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

/* Entries i, i + 1, ... of a row of n. */
INLINE vec logits_at(const float *row, size_t n, size_t i)
{
    if (i + LANES <= n)
        return load(row + i);
    const ivec inside = lane_numbers() < (int32_t)(n - i);
    return choose(inside, load_some(row + i, n - i), splat(-FLT_MAX));
}

static cpu_outline look_at(const float *row, size_t n, float given)
{
    vec largest = splat(-FLT_MAX);
    ivec ahead = {0}, finite = ~(ivec){0};
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = logits_at(row, n, i);
        finite &= magnitude(v) <= FLT_MAX;
        largest = choose(v > largest, v, largest);
        ahead -= v > given;
    }
    cpu_outline seen = {.largest = max_lanes(largest), .finite = true};
    for (int j = 0; j < LANES; j++) {
        seen.finite &= finite[j] != 0;
        seen.ahead += ahead[j];
    }
    return seen;
}

static cpu_moments sum_up(const float *row, size_t n, float largest)
{
    wide total = {{0}, {0}}, first = {{0}, {0}}, second = {{0}, {0}};
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = logits_at(row, n, i);
        const wide d = minus(widen(v), (double)largest), e = widen(vec_exp(v - largest));
        const wide weighted = times(d, e);
        add(&total, e);
        add(&first, weighted);
        add(&second, times(d, weighted));
    }
    return (cpu_moments){sum_wide(total), sum_wide(first), sum_wide(second)};
}

static cpu_cross_sums sum_up_two(const float *p, const float *q, size_t n, float largest_p,
                                 float largest_q)
{
    wide total_p = {{0}, {0}}, total_q = {{0}, {0}}, first = {{0}, {0}}, second = {{0}, {0}}, back = {{0}, {0}};
    for (size_t i = 0; i < n; i += LANES) {
        const vec vp = logits_at(p, n, i), vq = logits_at(q, n, i);
        const wide dp = minus(widen(vp), (double)largest_p), dq = minus(widen(vq), (double)largest_q);
        const wide ep = widen(vec_exp(vp - largest_p)), eq = widen(vec_exp(vq - largest_q));
        const wide weighted = times(dp, eq);
        add(&total_p, ep);
        add(&total_q, eq);
        add(&first, weighted);
        add(&second, times(dp, weighted));
        add(&back, times(dq, ep));
    }
    return (cpu_cross_sums){sum_wide(total_p), sum_wide(total_q), sum_wide(first), sum_wide(second),
                            sum_wide(back)};
}

#endif
