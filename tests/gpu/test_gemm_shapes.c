/* tests/gpu/test_gemm_shapes.c - a row of a matrix product has the same bits whatever the number of
 * rows, at the shapes of the published models, with the algorithms that a run takes and up to the
 * rows that it has. tests/emu/test_gemm_rows.c asks the same at small shapes; which algorithm
 * cuBLASLt offers depends on the shape, hence this one. TDM_GPU_SMALL=1 narrows all shapes, for the
 * emulated device. */
#include "tests/emu/backend_test.h"

typedef struct {
    const char *name;
    int32_t in, out;
    tdm_epilogue epilogue;
    bool logits; /* f32 out, no bias */
    int64_t most, period;
} shape;

/* The detector has up to 32768 rows at once, scoring 16384, and logits of up to 1024 texts are
 * wanted at once. Rows of x repeat after `period`, so that rows far apart can be compared. */
enum { ROWS_MOST = 32768, ROWS_PERIOD = 2048, LOGITS_MOST = 1024, LOGITS_PERIOD = 512 };
#define PRODUCT(name, in, out, epilogue)                                                           \
    {                                                                                              \
        name, in, out, epilogue, false, ROWS_MOST, ROWS_PERIOD                                     \
    }
#define LOGITS(name, in)                                                                           \
    {                                                                                              \
        name, in, 50257, TDM_LINEAR, true, LOGITS_MOST, LOGITS_PERIOD                              \
    }

/* What has the same shape in two models is here once: base is 124M but for its GELU, 355M is large.
 */
static const shape SHAPES[] = {
    PRODUCT("1558M qkv", 1600, 4800, TDM_LINEAR),
    PRODUCT("1558M out", 1600, 1600, TDM_LINEAR),
    PRODUCT("1558M up", 1600, 6400, TDM_GELU_TANH),
    PRODUCT("1558M down", 6400, 1600, TDM_LINEAR),
    LOGITS("1558M logits", 1600),
    PRODUCT("774M qkv", 1280, 3840, TDM_LINEAR),
    PRODUCT("774M out", 1280, 1280, TDM_LINEAR),
    PRODUCT("774M up", 1280, 5120, TDM_GELU_TANH),
    PRODUCT("774M down", 5120, 1280, TDM_LINEAR),
    LOGITS("774M logits", 1280),
    PRODUCT("large qkv", 1024, 3072, TDM_LINEAR),
    PRODUCT("large out", 1024, 1024, TDM_LINEAR),
    PRODUCT("355M up", 1024, 4096, TDM_GELU_TANH),
    PRODUCT("large up", 1024, 4096, TDM_GELU_ERF),
    PRODUCT("large down", 4096, 1024, TDM_LINEAR),
    LOGITS("355M logits", 1024),
    PRODUCT("124M qkv", 768, 2304, TDM_LINEAR),
    PRODUCT("124M out", 768, 768, TDM_LINEAR),
    PRODUCT("124M up", 768, 3072, TDM_GELU_TANH),
    PRODUCT("base up", 768, 3072, TDM_GELU_ERF),
    PRODUCT("124M down", 3072, 768, TDM_LINEAR),
    LOGITS("124M logits", 768),
};

/* What is compared with the rows of one period: tile edges and their neighbours. */
static const int64_t ROWS[] = {1,    2,    3,    4,    5,    7,    8,     9,     15,    16,   17,
                               24,   31,   32,   33,   48,   63,   64,    65,    95,    96,   97,
                               127,  128,  129,  160,  191,  192,  193,   255,   256,   257,  383,
                               384,  385,  454,  511,  512,  513,  768,   777,   908,   1024, 1536,
                               1800, 2048, 2049, 3333, 4096, 8192, 16384, 20000, 32767, 32768};

static bool is_small(void)
{
    const char *small = getenv("TDM_GPU_SMALL");
    return small && !strcmp(small, "1");
}

static shape narrowed(shape s)
{
    if (is_small()) {
        s.in = s.in / 100 / 8 * 64 + 64;
        s.out = s.logits ? 130 : 128;
        s.most = 70;
        s.period = 33;
    }
    return s;
}

/* Rows of one period, again and again. */
static tdm_mat repeated_matrix(const tdm_backend *be, const shape *s)
{
    const size_t row = (size_t)s->in * tdm_dtype_size(be->dtype);
    const size_t n_values = (size_t)s->period * (size_t)s->in;
    const tdm_mat x = room(be, s->most, s->in, 0, be->dtype);
    float *values = values_of(n_values, 2, 0.25f, 0, be->dtype);
    char *period = malloc((size_t)s->period * row);
    assert_non_null(period);
    tdm_from_f32(period, be->dtype, values, n_values);
    for (int64_t r = 0; r < s->most; r += s->period) {
        const int64_t n = s->most - r < s->period ? s->most - r : s->period;
        ASSERT_OK(tdm_upload(be, (char *)x.p + (size_t)r * row, period, (size_t)n * row, err));
    }
    free(period);
    free(values);
    return x;
}

static tdm_weight *random_weight(const tdm_backend *be, const shape *s)
{
    float *values = values_of((size_t)s->in * (size_t)s->out, 1, 0.1f, 0, be->dtype);
    tdm_weight *w = NULL;
    ASSERT_OK(tdm_weight_open(be, values, TDM_F32, s->in, s->out, TDM_OUT_IN, &w, err));
    free(values);
    return w;
}

typedef struct {
    const tdm_backend *be;
    const shape *s;
    size_t row;       /* bytes of y's */
    char *all, *some; /* [period, row]: what is right, and what is looked at */
} look;

/* Rows first .. first + n of y, of `rows`, are those of the first period. */
static void compare_rows(const look *l, tdm_mat y, int64_t first, int64_t n)
{
    ASSERT_OK(tdm_download(l->be, l->some, (char *)y.p + (size_t)first * l->row, (size_t)n * l->row,
                           err));
    for (int64_t r = 0; r < n; r++)
        if (memcmp(l->all + (size_t)((first + r) % l->s->period) * l->row,
                   l->some + (size_t)r * l->row, l->row))
            fail_msg("%s %s: row %d of %d differs from that of %d", l->s->name,
                     tdm_dtype_name(l->be->dtype), (int)(first + r), (int)y.rows,
                     (int)l->s->period);
}

static void check(const tdm_backend *be, const shape *s)
{
    const tdm_dtype result = s->logits ? TDM_F32 : be->dtype;
    const size_t row = (size_t)tdm_padded(s->out) * tdm_dtype_size(result);
    const look l = {be, s, row, malloc((size_t)s->period * row), malloc((size_t)s->period * row)};
    assert_true(l.all && l.some);
    tdm_mat x = repeated_matrix(be, s);
    float *values = values_of((size_t)s->out, 3, 0.25f, 0, be->dtype);
    const tdm_mat bias = put(be, values, 1, s->out, be->dtype);
    tdm_mat y = room(be, s->most, s->out, tdm_padded(s->out), result);
    tdm_weight *w = random_weight(be, s);
    for (int k = -1; k < (int)COUNT(ROWS); k++) {
        const int64_t n = k < 0 ? s->period : ROWS[k];
        if (n > s->most)
            break;
        x.rows = y.rows = n;
        ASSERT_OK(tdm_linear(be, y, x, w, s->logits ? NULL : &bias, s->epilogue, err));
        if (k < 0) {
            ASSERT_OK(tdm_download(be, l.all, y.p, (size_t)n * row, err));
            continue;
        }
        const int64_t looked = n < s->period ? n : s->period;
        compare_rows(&l, y, 0, looked);
        if (n > looked)
            compare_rows(&l, y, n - looked, looked);
    }
    free(values);
    free(l.some);
    free(l.all);
    tdm_weight_close(be, w);
    release_all(be);
}

static void check_dtype(tdm_dtype dtype)
{
    tdm_backend be = open_cuda(dtype, dtype, false);
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        const shape s = narrowed(SHAPES[i]);
        check(&be, &s);
    }
    tdm_backend_close(&be);
}

static void test_f16(void **state)
{
    (void)state;
    check_dtype(TDM_F16);
}

static void test_bf16(void **state)
{
    (void)state;
    check_dtype(TDM_BF16);
}

static void test_f32(void **state)
{
    (void)state;
    check_dtype(TDM_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f32),
    };
    require_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
