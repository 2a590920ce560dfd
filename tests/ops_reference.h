/* tests/ops_reference.h - the fused operations as float64 loops, and how results are compared. */
#ifndef TESTS_OPS_REFERENCE_H
#define TESTS_OPS_REFERENCE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/cpu.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- numbers ---- */

/* splitmix64 to [-1, 1) */
static inline float uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (float)((double)(int64_t)z * 0x1p-63);
}

static inline float *random_floats(size_t n, uint64_t seed)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64 + 64);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = uniform(&seed);
    return p;
}

static inline double *doubles(size_t n)
{
    double *p = calloc(n ? n : 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static inline tdm_mat mat(const float *p, int64_t rows, int32_t cols)
{
    return (tdm_mat){.p = (void *)p, .rows = rows, .cols = cols, .dtype = TDM_F32};
}

/* ---- comparison ---- */

typedef struct {
    double relative; /* L2 of the difference over L2 of the reference */
    double largest;  /* largest difference over the reference's root mean square */
    size_t at;       /* where it is */
} difference;

static inline difference compare(const float *got, const double *want, size_t n)
{
    double sum = 0, norm = 0, largest = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - want[i]);
        sum += d * d;
        norm += want[i] * want[i];
        if (!(d <= largest)) {
            largest = d;
            at = i;
        }
    }
    const double rms = sqrt(norm / (double)(n ? n : 1));
    return (difference){sqrt(sum / (norm > 0 ? norm : 1)), largest / (rms > 0 ? rms : 1), at};
}

/* Within `tolerance` in L2, and nowhere off by more than 16 times that of the root mean square. */
static inline int is_close(difference d, double tolerance)
{
    return d.relative <= tolerance && d.largest <= 16 * tolerance;
}

#define ASSERT_CLOSE(got, want, n, cols, tolerance, ...)                                           \
    do {                                                                                           \
        const difference d_ = compare(got, want, n);                                               \
        if (!is_close(d_, tolerance)) {                                                            \
            print_error(__VA_ARGS__);                                                              \
            fail_msg(": relative %.3g, largest %.3g at [%zu, %zu]: %.9g, want %.9g", d_.relative,  \
                     d_.largest, d_.at / (size_t)(cols), d_.at % (size_t)(cols),                   \
                     (double)(got)[d_.at], (want)[d_.at]);                                         \
        }                                                                                          \
    } while (0)

/* The reference of a wrong parameter must be told apart. */
#define ASSERT_FAR(got, wrong, n, tolerance, ...)                                                  \
    do {                                                                                           \
        if (is_close(compare(got, wrong, n), tolerance)) {                                         \
            print_error(__VA_ARGS__);                                                              \
            fail_msg(": a wrong parameter is not noticed");                                        \
        }                                                                                          \
    } while (0)

/* ---- backends: every instruction set of this machine ---- */

static inline size_t kernel_tables(const cpu_kernels *tables[3])
{
    const cpu_kernels *all[] = {cpu_kernels_baseline(), cpu_kernels_avx2(), cpu_kernels_avx512()};
    size_t n = 0;
    for (size_t i = 0; i < COUNT(all); i++)
        if (all[i])
            tables[n++] = all[i];
    return n;
}

static inline tdm_backend open_backend(const cpu_kernels *kernels, int threads)
{
    tdm_backend be;
    tdm_err err = {0};
    if (cpu_open(kernels, threads, &be, &err))
        fail_msg("%s", err.msg);
    return be;
}

/* Run test(be) on every instruction set with 1, 2 and 3 threads. */
static inline void on_all_backends(void (*test)(tdm_backend *be))
{
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++)
        for (int threads = 1; threads <= 3; threads++) {
            tdm_backend be = open_backend(tables[i], threads);
            test(&be);
            tdm_backend_close(&be);
        }
}

/* Fill what earlier calls left behind with NaN. */
static inline void poison_scratch(tdm_backend *be)
{
    cpu_backend *cpu = be->self;
    for (size_t i = 0; i < cpu->n_lanes; i++) {
        cpu_lane *lane = &cpu->lanes[i];
        memset(lane->scratch, 0xff, CPU_SCRATCH * sizeof(float));
        if (lane->n_blocks)
            memset(lane->blocks, 0xff, lane->n_blocks * CPU_KEY_BLOCK * sizeof(float));
    }
}

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        tdm_err e_ = {0};                                                                          \
        tdm_err *err = &e_;                                                                        \
        if ((call) != TDM_OK)                                                                      \
            fail_msg("%s: %s", #call, e_.msg);                                                     \
    } while (0)

/* The call fails with `status` and a message that holds `text`. */
#define ASSERT_FAILS(call, code, text)                                                             \
    do {                                                                                           \
        tdm_err e_ = {0};                                                                          \
        tdm_err *err = &e_;                                                                        \
        assert_int_equal((call), code);                                                            \
        if (!strstr(e_.msg, text))                                                                 \
            fail_msg("message \"%s\" lacks \"%s\"", e_.msg, text);                                 \
    } while (0)

/* ---- operations ---- */

static inline double ref_epilogue(double v, tdm_epilogue epilogue)
{
    switch (epilogue) {
    case TDM_GELU_TANH:
        return 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    case TDM_GELU_ERF:
        return 0.5 * v * erfc(-v * 0.7071067811865476);
    case TDM_TANH:
        return tanh(v);
    default:
        return v;
    }
}

/* w [in, out] */
static inline void ref_linear(double *y, const float *x, const float *w, const float *bias,
                              size_t rows, size_t in, size_t out, tdm_epilogue epilogue)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < out; j++)
            y[r * out + j] = bias ? (double)bias[j] : 0;
        for (size_t k = 0; k < in; k++)
            for (size_t j = 0; j < out; j++)
                y[r * out + j] += (double)x[r * in + k] * (double)w[k * out + j];
        for (size_t j = 0; j < out; j++)
            y[r * out + j] = ref_epilogue(y[r * out + j], epilogue);
    }
}

/* One text: qkv [n, 3E]; row r sees r + 1 + extra keys, at most n. scale: 1/8. */
static inline void ref_attend(double *y, const float *qkv, size_t n, size_t heads, size_t extra,
                              double scale)
{
    const size_t width = heads * TDM_HEAD;
    double *weights = doubles(n);
    for (size_t r = 0; r < n; r++)
        for (size_t h = 0; h < heads; h++) {
            const size_t keys = r + 1 + extra < n ? r + 1 + extra : n;
            const float *q = qkv + r * 3 * width + h * TDM_HEAD;
            double largest = -INFINITY, total = 0;
            for (size_t k = 0; k < keys; k++) {
                const float *key = qkv + k * 3 * width + width + h * TDM_HEAD;
                weights[k] = 0;
                for (size_t d = 0; d < TDM_HEAD; d++)
                    weights[k] += (double)q[d] * (double)key[d];
                weights[k] *= scale;
                largest = fmax(largest, weights[k]);
            }
            for (size_t k = 0; k < keys; k++)
                total += weights[k] = exp(weights[k] - largest);
            double *out = y + r * width + h * TDM_HEAD;
            memset(out, 0, TDM_HEAD * sizeof *out);
            for (size_t k = 0; k < keys; k++)
                for (size_t d = 0; d < TDM_HEAD; d++)
                    out[d] += weights[k] / total *
                              (double)qkv[k * 3 * width + 2 * width + h * TDM_HEAD + d];
        }
    free(weights);
}

static inline void ref_norm(double *y, const float *x, const float *gamma, const float *beta,
                            size_t rows, size_t n, double eps)
{
    for (size_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < n; i++)
            mean += (double)x[r * n + i];
        mean /= (double)n;
        for (size_t i = 0; i < n; i++)
            variance += ((double)x[r * n + i] - mean) * ((double)x[r * n + i] - mean);
        for (size_t i = 0; i < n; i++)
            y[r * n + i] = (double)gamma[i] * ((double)x[r * n + i] - mean) /
                               sqrt(variance / (double)n + eps) +
                           (double)beta[i];
    }
}

#endif
