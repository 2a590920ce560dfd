/* tests/gpu/test_gemm_shapes.c - a row of a matrix product has the same bits whatever the number of
 * rows, at the shapes of the published models and with the algorithms that a run takes.
 * tests/emu/test_gemm_rows.c asks the same at small shapes; which algorithm cuBLASLt offers depends
 * on the shape, hence this one. TDM_GPU_SMALL=1 narrows all shapes, for the emulated device. */
#include "tests/emu/backend_test.h"

typedef struct {
    const char *name;
    int32_t in, out;
    tdm_epilogue epilogue;
    bool logits;  /* f32 out, no bias */
    int64_t most; /* rows */
} shape;

static const shape SHAPES[] = {
    {"1558M qkv", 1600, 4800, TDM_LINEAR, false, 2048},
    {"1558M out", 1600, 1600, TDM_LINEAR, false, 2048},
    {"1558M up", 1600, 6400, TDM_GELU_TANH, false, 2048},
    {"1558M down", 6400, 1600, TDM_LINEAR, false, 2048},
    {"1558M logits", 1600, 50257, TDM_LINEAR, true, 512},
    {"124M qkv", 768, 2304, TDM_LINEAR, false, 2048},
    {"124M out", 768, 768, TDM_LINEAR, false, 2048},
    {"124M up", 768, 3072, TDM_GELU_TANH, false, 2048},
    {"124M down", 3072, 768, TDM_LINEAR, false, 2048},
    {"124M logits", 768, 50257, TDM_LINEAR, true, 512},
    {"base up", 768, 3072, TDM_GELU_ERF, false, 2048},
    {"large qkv", 1024, 3072, TDM_LINEAR, false, 2048},
    {"large out", 1024, 1024, TDM_LINEAR, false, 2048},
    {"large up", 1024, 4096, TDM_GELU_ERF, false, 2048},
    {"large down", 4096, 1024, TDM_LINEAR, false, 2048},
};

/* What is compared with the largest number of rows: tile edges and their neighbours. */
static const int64_t ROWS[] = {1,   2,   3,   4,   5,   7,   8,    9,    15,  16,  17,  24,
                               31,  32,  33,  48,  63,  64,  65,   95,   96,  97,  127, 128,
                               129, 160, 191, 192, 193, 255, 256,  257,  383, 384, 385, 454,
                               511, 512, 513, 768, 777, 908, 1024, 1536, 1800};

static shape narrowed(shape s)
{
    if (getenv("TDM_GPU_SMALL")) {
        s.in = s.in / 100 / 8 * 64 + 64;
        s.out = s.logits ? 130 : 128;
        s.most = 70;
    }
    return s;
}

static tdm_mat random_matrix(const tdm_backend *be, int64_t rows, int32_t cols, uint64_t seed)
{
    float *values = values_of((size_t)rows * (size_t)cols, seed, 0.25f, 0, be->dtype);
    const tdm_mat m = put(be, values, rows, cols, be->dtype);
    free(values);
    return m;
}

static tdm_weight *random_weight(const tdm_backend *be, const shape *s)
{
    float *values = values_of((size_t)s->in * (size_t)s->out, 1, 0.1f, 0, be->dtype);
    tdm_weight *w = NULL;
    ASSERT_OK(tdm_weight_open(be, values, TDM_F32, s->in, s->out, TDM_OUT_IN, &w, err));
    free(values);
    return w;
}

static void check(const tdm_backend *be, const shape *s)
{
    const tdm_dtype act = be->dtype, result = s->logits ? TDM_F32 : act;
    const size_t row = (size_t)tdm_padded(s->out) * tdm_dtype_size(result);
    tdm_mat x = random_matrix(be, s->most, s->in, 2);
    const tdm_mat bias = random_matrix(be, 1, s->out, 3);
    tdm_mat y = room(be, s->most, s->out, tdm_padded(s->out), result);
    tdm_weight *w = random_weight(be, s);
    char *all = malloc((size_t)s->most * row), *some = malloc((size_t)s->most * row);
    assert_true(all && some);
    for (int k = -1; k < (int)COUNT(ROWS); k++) {
        const int64_t n = k < 0 ? s->most : ROWS[k];
        if (n > s->most)
            break;
        x.rows = y.rows = n;
        ASSERT_OK(tdm_linear(be, y, x, w, s->logits ? NULL : &bias, s->epilogue, err));
        ASSERT_OK(tdm_download(be, k < 0 ? all : some, y.p, (size_t)n * row, err));
        for (int64_t r = 0; k >= 0 && r < n; r++)
            if (memcmp(all + (size_t)r * row, some + (size_t)r * row, row))
                fail_msg("%s %s: row %d of %d differs from that of %d", s->name,
                         tdm_dtype_name(act), (int)r, (int)n, (int)s->most);
    }
    free(some);
    free(all);
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
