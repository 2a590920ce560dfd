/* tests/emu/kernel_test.h - what the tests of kernels share: device memory, number formats, errors.
 * Only the CUDA runtime is used, so the same tests run on the emulated device and on a real one. */
#ifndef TESTS_EMU_KERNEL_TEST_H
#define TESTS_EMU_KERNEL_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define ASSERT_CUDA(call)                                                                          \
    do {                                                                                           \
        const cudaError_t e_ = (call);                                                             \
        if (e_ != cudaSuccess)                                                                     \
            fail_msg("%s: %s", #call, cudaGetErrorString(e_));                                     \
    } while (0)
#define ASSERT_REFUSED(call) assert_int_equal((call), cudaErrorInvalidValue)

/* Without a device: exit status 77, which ctest counts as skipped, unless TDM_REQUIRE_CUDA is set.
 */
static inline int has_device(void)
{
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0)
        return 1;
    fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(e));
    return 0;
}
static inline int status_without_device(void)
{
    return getenv("TDM_REQUIRE_CUDA") ? 1 : 77;
}

/* ---- memory ---- */

static inline void *checked(void *p)
{
    assert_non_null(p);
    return p;
}

/* Device memory lives until free_device(). */
static void *device_memory[64];
static size_t device_arrays;

static inline void *on_device(const void *src, size_t bytes)
{
    void *p = NULL;
    assert_true(device_arrays < COUNT(device_memory));
    ASSERT_CUDA(cudaMalloc(&p, bytes ? bytes : 1));
    device_memory[device_arrays++] = p;
    ASSERT_CUDA(cudaMemcpy(p, src, bytes, cudaMemcpyHostToDevice));
    return p;
}

static inline void free_device(void)
{
    while (device_arrays > 0)
        ASSERT_CUDA(cudaFree(device_memory[--device_arrays]));
}

/* What the kernels so far left at p. */
static inline void fetch(void *dst, const void *p, size_t bytes)
{
    ASSERT_CUDA(cudaDeviceSynchronize());
    ASSERT_CUDA(cudaMemcpy(dst, p, bytes, cudaMemcpyDeviceToHost));
}

/* ---- number formats, to nearest even ---- */

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline uint16_t to_f16(float x)
{
    const uint32_t bits = bits_of(x), size = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
    if (size > 0x7f800000)
        return 0x7fff;
    if (size >= 0x477ff000) /* 65520 */
        return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000) /* 2^-14 */
        return (uint16_t)(sign | (uint32_t)rintf(fabsf(x) * 0x1p24f));
    return (uint16_t)(sign | ((size + 0xfff + (size >> 13 & 1) - (112u << 23)) >> 13));
}

static inline uint16_t to_bf16(float x)
{
    const uint32_t bits = bits_of(x);
    return x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* values [n] as dtype, at dst. */
static inline void narrow(void *dst, const float *values, tdm_dtype dtype, size_t n)
{
    uint16_t *half = dst;
    if (dtype == TDM_F32)
        memcpy(dst, values, n * sizeof *values);
    else
        for (size_t i = 0; i < n; i++)
            half[i] = dtype == TDM_F16 ? to_f16(values[i]) : to_bf16(values[i]);
}

/* Half of the distance between neighbours, relative. */
static inline double unit_of(tdm_dtype dtype)
{
    return dtype == TDM_F32 ? 0x1p-24 : dtype == TDM_F16 ? 0x1p-11 : 0x1p-8;
}

/* ---- matrices ---- */

/* splitmix64 to [-1, 1) */
static inline float uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (float)((double)(int64_t)z * 0x1p-63);
}

static inline float *random_values(size_t n, uint64_t seed, float scale, float shift)
{
    float *p = checked(malloc(n * sizeof *p + 1));
    for (size_t i = 0; i < n; i++)
        p[i] = shift + scale * uniform(&seed);
    return p;
}

/* A device matrix of these values, which are rounded to dtype in place. */
static inline tdm_mat matrix(float *values, int64_t rows, int32_t cols, tdm_dtype dtype)
{
    const size_t n = (size_t)rows * (size_t)cols;
    void *narrowed = checked(malloc(n * sizeof(float) + 1));
    narrow(narrowed, values, dtype, n);
    tdm_to_f32(values, narrowed, dtype, n);
    const tdm_mat m = {on_device(narrowed, n * tdm_dtype_size(dtype)), rows, cols, dtype, 0};
    free(narrowed);
    return m;
}

/* The values of a device matrix; free() them. */
static inline float *values_of(tdm_mat m)
{
    const size_t n = (size_t)m.rows * (size_t)m.cols;
    void *narrowed = checked(malloc(n * sizeof(float) + 1));
    float *values = checked(malloc(n * sizeof *values + 1));
    fetch(narrowed, m.p, n * tdm_dtype_size(m.dtype));
    tdm_to_f32(values, narrowed, m.dtype, n);
    free(narrowed);
    return values;
}

/* Row r of m, alone. */
static inline tdm_mat row_of(tdm_mat m, int64_t r)
{
    m.p = (char *)m.p + (size_t)r * (size_t)m.cols * tdm_dtype_size(m.dtype);
    m.rows = 1;
    return m;
}

/* ---- errors ---- */

/* The largest difference, each relative to the wanted value, to their root mean square, or to 1e-6,
 * whichever is largest. Infinite where a value is not a number. */
static inline double error_of(const float *got, const double *want, size_t n)
{
    double squares = 0, worst = 0;
    for (size_t i = 0; i < n; i++)
        squares += want[i] * want[i];
    const double rms = sqrt(squares / (double)(n ? n : 1));
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)got[i] - want[i]) / fmax(fmax(rms, fabs(want[i])), 1e-6);
        if (!(e <= worst))
            worst = e == e ? e : INFINITY;
    }
    return worst;
}

/* One line of the report: the worst error of some cases beside what they may have. */
typedef struct {
    const char *what;
    tdm_dtype dtype;
    double tolerance, worst;
    int cases;
} record;

static inline void note(record *r, const char *name, const float *got, const double *want, size_t n)
{
    const double error = error_of(got, want, n);
    r->cases++;
    r->worst = fmax(r->worst, error);
    if (!(error <= r->tolerance))
        fail_msg("%s %s, %s: error %.3g, may be %.3g", r->what, tdm_dtype_name(r->dtype), name,
                 error, r->tolerance);
}

static inline void print_record(const record *r)
{
    print_message("%-12s %-4s %3d cases, worst error %.2e of %.2e\n", r->what,
                  tdm_dtype_name(r->dtype), r->cases, r->worst, r->tolerance);
}

#endif
