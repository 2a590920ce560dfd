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

typedef double dvec __attribute__((vector_size(VECTOR_BYTES)));
typedef double both_halves __attribute__((vector_size(2 * VECTOR_BYTES)));

/* The lanes of one vec, or sums of them, in double. Arithmetic on vectors of two registers would be slow. */
typedef struct {
    dvec low, high;
} wide;

INLINE wide widen(vec v)
{
    const both_halves doubles = __builtin_convertvector(v, both_halves);
    wide w;
    memcpy(&w, &doubles, sizeof w);
    return w;
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

/* The last entries of a row, fewer than LANES. */
INLINE vec load_end(const float *p, size_t n)
{
    return choose(lane_numbers() < (int32_t)n, load_some(p, n), splat(-FLT_MAX));
}

typedef struct {
    vec largest;
    ivec ahead, finite;
} outlines;

INLINE void look_at_lanes(outlines *seen, vec v, float given)
{
    seen->finite &= magnitude(v) <= FLT_MAX;
    seen->largest = choose(v > seen->largest, v, seen->largest);
    seen->ahead -= v > given;
}

static cpu_outline look_at(const float *row, size_t n, float given)
{
    outlines lanes = {.largest = splat(-FLT_MAX), .finite = ~(ivec){0}};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        look_at_lanes(&lanes, load(row + i), given);
    if (i < n)
        look_at_lanes(&lanes, load_end(row + i, n - i), given);
    cpu_outline seen = {.largest = max_lanes(lanes.largest), .finite = true};
    for (int j = 0; j < LANES; j++) {
        seen.finite &= lanes.finite[j] != 0;
        seen.ahead += lanes.ahead[j];
    }
    return seen;
}

typedef struct {
    wide total, first, second;
} moments;

INLINE void sum_up_lanes(moments *sums, vec v, float largest)
{
    const wide d = minus(widen(v), (double)largest), e = widen(vec_exp(v - largest));
    const wide weighted = times(d, e);
    add(&sums->total, e);
    add(&sums->first, weighted);
    add(&sums->second, times(d, weighted));
}

static cpu_moments sum_up(const float *row, size_t n, float largest)
{
    moments sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sum_up_lanes(&sums, load(row + i), largest);
    if (i < n)
        sum_up_lanes(&sums, load_end(row + i, n - i), largest);
    return (cpu_moments){sum_wide(sums.total), sum_wide(sums.first), sum_wide(sums.second)};
}

typedef struct {
    wide total_p, total_q, first, second, back;
} cross_sums;

INLINE void sum_up_lanes_of_two(cross_sums *sums, vec p, vec q, float largest_p, float largest_q)
{
    const wide dp = minus(widen(p), (double)largest_p), ep = widen(vec_exp(p - largest_p));
    const wide dq = minus(widen(q), (double)largest_q), eq = widen(vec_exp(q - largest_q));
    const wide weighted = times(dp, eq);
    add(&sums->total_p, ep);
    add(&sums->total_q, eq);
    add(&sums->first, weighted);
    add(&sums->second, times(dp, weighted));
    add(&sums->back, times(dq, ep));
}

static cpu_cross_sums sum_up_two(const float *p, const float *q, size_t n, float largest_p,
                                 float largest_q)
{
    cross_sums sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sum_up_lanes_of_two(&sums, load(p + i), load(q + i), largest_p, largest_q);
    if (i < n)
        sum_up_lanes_of_two(&sums, load_end(p + i, n - i), load_end(q + i, n - i), largest_p,
                            largest_q);
    return (cpu_cross_sums){sum_wide(sums.total_p), sum_wide(sums.total_q), sum_wide(sums.first),
                            sum_wide(sums.second), sum_wide(sums.back)};
}

#endif
