/* tests/emu/backend_test.h - what the tests of the CUDA backend share. Everything goes through
 * host/backend.h, so the same tests run on the emulated device and on a real one. */
#ifndef TESTS_EMU_BACKEND_TEST_H
#define TESTS_EMU_BACKEND_TEST_H

#include "tests/ops_reference.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};
#define SUMS 0x1p-20 /* error of a few hundred products or exponentials in f32 */

/* Half of the distance between neighbours, relative: the error of one rounding. */
static inline double unit_of(tdm_dtype t)
{
    return t == TDM_F32 ? 0x1p-24 : t == TDM_F16 ? 0x1p-11 : 0x1p-8;
}

/* Without a device: exit status 77, which ctest counts as skipped, unless TDM_REQUIRE_CUDA is set.
 */
static inline void require_device(void)
{
    tdm_backend be;
    tdm_err err = {0};
    const tdm_cuda_options options = {.dtype = TDM_F16, .kv_dtype = TDM_F16};
    if (tdm_open_cuda(&options, &be, &err) == TDM_ENODEV) {
        fprintf(stderr, "%s\n", err.msg);
        exit(getenv("TDM_REQUIRE_CUDA") ? 1 : 77);
    }
    tdm_backend_close(&be);
}

static inline tdm_backend open_cuda(tdm_dtype dtype, tdm_dtype kv_dtype, bool no_graphs)
{
    tdm_backend be;
    const tdm_cuda_options options = {.dtype = dtype, .kv_dtype = kv_dtype, .no_graphs = no_graphs};
    ASSERT_OK(tdm_open_cuda(&options, &be, err));
    assert_string_equal(be.ops->name, "cuda");
    assert_int_equal(be.dtype, dtype);
    return be;
}

/* ---- memory of the device, until release_all() ---- */

static void *taken[64];
static size_t n_taken;

static inline void *take(const tdm_backend *be, size_t bytes)
{
    void *p = NULL;
    assert_true(n_taken < COUNT(taken));
    ASSERT_OK(tdm_alloc(be, bytes, &p, err));
    assert_int_equal((uintptr_t)p % 256, 0);
    return taken[n_taken++] = p;
}

static inline void *on_device(const tdm_backend *be, const void *src, size_t bytes)
{
    void *p = take(be, bytes);
    ASSERT_OK(tdm_upload(be, p, src, bytes, err));
    return p;
}

static inline void release_all(const tdm_backend *be)
{
    while (n_taken > 0)
        tdm_release(be, taken[--n_taken]);
}

/* ---- matrices ---- */

static inline void round_to(float *values, tdm_dtype dtype, size_t n)
{
    void *narrow = malloc(n * sizeof(float) + 1);
    assert_non_null(narrow);
    tdm_from_f32(narrow, dtype, values, n);
    tdm_to_f32(values, narrow, dtype, n);
    free(narrow);
}

/* Random values, rounded to dtype, scaled and shifted; free() them. */
static inline float *values_of(size_t n, uint64_t seed, float scale, float shift, tdm_dtype dtype)
{
    float *v = random_floats(n, seed);
    for (size_t i = 0; i < n; i++)
        v[i] = shift + scale * v[i];
    round_to(v, dtype, n);
    return v;
}

/* A matrix of the device with these values. */
static inline tdm_mat put(const tdm_backend *be, const float *values, int64_t rows, int32_t cols,
                          tdm_dtype dtype)
{
    const size_t n = (size_t)rows * (size_t)cols;
    void *narrow = malloc(n * sizeof(float) + 1);
    assert_non_null(narrow);
    tdm_from_f32(narrow, dtype, values, n);
    const tdm_mat m = {on_device(be, narrow, n * tdm_dtype_size(dtype)), rows, cols, dtype, 0};
    free(narrow);
    return m;
}

/* A matrix for results, whatever was in that memory. */
static inline tdm_mat room(const tdm_backend *be, int64_t rows, int32_t cols, int32_t stride,
                           tdm_dtype dtype)
{
    const size_t n = (size_t)rows * (size_t)(stride ? stride : cols);
    return (tdm_mat){take(be, n * tdm_dtype_size(dtype)), rows, cols, dtype, stride};
}

/* All elements, those between the rows too; free() them. */
static inline float *get(const tdm_backend *be, tdm_mat m)
{
    const size_t n = (size_t)m.rows * (size_t)(m.stride ? m.stride : m.cols);
    void *narrow = malloc(n * sizeof(float) + 1);
    float *values = malloc(n * sizeof(float) + 1);
    assert_true(narrow && values);
    ASSERT_OK(tdm_download(be, narrow, m.p, n * tdm_dtype_size(m.dtype), err));
    tdm_to_f32(values, narrow, m.dtype, n);
    free(narrow);
    return values;
}

/* ---- the report: the worst error of an operation beside what it may have ---- */

typedef struct {
    const char *what;
    int cases;
    double worst, tolerance; /* of the case that comes nearest to its own */
} record;

static inline void note(record *r, const char *name, tdm_dtype dtype, const float *got,
                        const double *want, size_t n, double tolerance)
{
    const difference d = compare(got, want, n);
    if (!is_close(d, tolerance))
        fail_msg("%s %s, %s: relative %.3g, largest %.3g at %zu, may be %.3g: %.9g, want %.9g",
                 r->what, tdm_dtype_name(dtype), name, d.relative, d.largest, d.at, tolerance,
                 (double)got[d.at], want[d.at]);
    if (r->cases++ == 0 || d.relative / tolerance > r->worst / r->tolerance) {
        r->worst = d.relative;
        r->tolerance = tolerance;
    }
}

static inline void print_record(const record *r, tdm_dtype dtype)
{
    print_message("%-14s %-4s %3d cases, worst error %.2e of %.2e\n", r->what,
                  tdm_dtype_name(dtype), r->cases, r->worst, r->tolerance);
}

#endif
