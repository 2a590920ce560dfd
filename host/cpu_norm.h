/* host/cpu_norm.h - residual sum and layer normalisation of one row; compiled once per instruction
 * set. The mean is corrected by the mean of the differences from it, so that a row whose mean is
 * many times its spread keeps its digits: the differences are exact, the sum that gave the mean is not. */
#ifndef HOST_CPU_NORM_H
#define HOST_CPU_NORM_H

#include "host/cpu_vector.h"

/* x += delta; returns the sum of x. */
static float add_and_sum(float *x, const float *delta, size_t n)
{
    vec sum = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(x + i);
        if (delta) {
            v += load(delta + i);
            store(x + i, v);
        }
        sum += v;
    }
    if (i < n) {
        vec v = load_some(x + i, n - i);
        if (delta) {
            v += load_some(delta + i, n - i);
            store_some(x + i, v, n - i);
        }
        sum += v;
    }
    return sum_lanes(sum);
}

static void add_norm(float *y, float *x, const float *delta, const float *gamma, const float *beta,
                     size_t n, float eps)
{
    const float mean = add_and_sum(x, delta, n) / (float)n;
    vec sum = {0}, squares = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec d = load(x + i) - mean;
        sum += d;
        squares += d * d;
    }
    if (i < n) {
        const ivec inside = lane_numbers() < (int32_t)(n - i);
        const vec d = choose(inside, load_some(x + i, n - i) - mean, (vec){0});
        sum += d;
        squares += d * d;
    }
    const float rest = sum_lanes(sum) / (float)n;
    const float variance = sum_lanes(squares) / (float)n - rest * rest;
    const float scale = 1.0f / __builtin_sqrtf(variance + eps);
    for (i = 0; i + LANES <= n; i += LANES) {
        const vec d = (load(x + i) - mean) - rest;
        store(y + i, load(gamma + i) * (d * scale) + load(beta + i));
    }
    if (i < n) {
        const size_t left = n - i;
        const vec d = (load_some(x + i, left) - mean) - rest;
        store_some(y + i, load_some(gamma + i, left) * (d * scale) + load_some(beta + i, left), left);
    }
}

#endif
