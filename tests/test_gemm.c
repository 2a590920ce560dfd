/* tests/test_gemm.c - the matrix product and its epilogues against float64, and the promise that a
 * row's bits depend on nothing but the row. */
#include "tests/ops_reference.h"

/* f32 sums of blocks of 128 products and of up to 50 blocks: a random walk of about sqrt(128) roundings
 * of at most 2^-25, and some for the blocks and the epilogue. */
static const double TOLERANCE = 0x1p-20;

typedef struct {
    const char *name;
    int rows, in, out;
    tdm_dtype dtype;
    tdm_layout layout;
    bool bias;
    tdm_epilogue epilogue;
} linear_case;

static const linear_case LINEAR[] = {
    {"one number", 1, 1, 1, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"narrower than a vector", 5, 3, 2, TDM_F32, TDM_OUT_IN, true, TDM_LINEAR},
    {"one past a panel", 7, 65, 65, TDM_F32, TDM_IN_OUT, true, TDM_GELU_TANH},
    {"one short of a panel", 13, 63, 127, TDM_F32, TDM_OUT_IN, true, TDM_GELU_ERF},
    {"depth of one block", 6, 128, 100, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"depth of one block and one", 6, 129, 100, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"3 heads", 20, 192, 576, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"f16", 9, 320, 321, TDM_F16, TDM_IN_OUT, true, TDM_GELU_TANH},
    {"f16, rows are outputs", 9, 320, 321, TDM_F16, TDM_OUT_IN, true, TDM_GELU_ERF},
    {"bf16", 9, 100, 50, TDM_BF16, TDM_IN_OUT, false, TDM_LINEAR},
    {"bf16, rows are outputs", 9, 100, 50, TDM_BF16, TDM_OUT_IN, true, TDM_TANH},
    {"124M feed-forward", 64, 768, 3072, TDM_F32, TDM_IN_OUT, true, TDM_GELU_TANH},
    {"124M back", 3, 3072, 768, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"1558M qkv", 8, 1600, 4800, TDM_F32, TDM_IN_OUT, true, TDM_LINEAR},
    {"124M logits", 2, 768, 50257, TDM_F32, TDM_OUT_IN, false, TDM_LINEAR},
    {"several chunks of rows", 400, 64, 300, TDM_F32, TDM_OUT_IN, true, TDM_TANH},
};

/* Random weights [in, out] that the format holds exactly, and their bytes in the case's layout. */
static float *make_weight(const linear_case *c, void **bytes)
{
    const size_t in = (size_t)c->in, out = (size_t)c->out;
    float *w = random_floats(in * out, 2);
    uint16_t *half = malloc(in * out * 2);
    float *single = malloc(in * out * 4);
    assert_true(half && single);
    for (size_t k = 0; k < in; k++)
        for (size_t j = 0; j < out; j++) {
            float *v = &w[k * out + j];
            const size_t i = c->layout == TDM_IN_OUT ? k * out + j : j * in + k;
            uint32_t bits;
            if (c->dtype == TDM_F16) /* 10 bits of fraction at exponent 0: 1 <= |v| < 2 */
                *v = copysignf(1 + floorf(fabsf(*v) * 1024) / 1024, *v);
            memcpy(&bits, v, 4);
            if (c->dtype == TDM_BF16) {
                bits &= 0xffff0000u;
                memcpy(v, &bits, 4);
                half[i] = (uint16_t)(bits >> 16);
            } else {
                half[i] = (uint16_t)((bits >> 16 & 0x8000) | 0x3c00 | (bits >> 13 & 0x3ff));
            }
            single[i] = *v;
        }
    *bytes = c->dtype == TDM_F32 ? (void *)single : (void *)half;
    free(c->dtype == TDM_F32 ? (void *)half : (void *)single);
    return w;
}

static void check_linear(tdm_backend *be, const linear_case *c)
{
    const size_t rows = (size_t)c->rows, in = (size_t)c->in, out = (size_t)c->out, n = rows * out;
    const float scale = 1 / sqrtf((float)in);
    float *x = random_floats(rows * in, 1), *bias = random_floats(out, 3), *y = random_floats(n, 4);
    double *want = doubles(n);
    void *bytes = NULL;
    float *w = make_weight(c, &bytes);
    for (size_t i = 0; i < rows * in; i++)
        x[i] *= 4 * scale;
    float *copy = random_floats(rows * in, 5);
    memcpy(copy, x, rows * in * sizeof *x);
    const tdm_mat b = mat(bias, 1, c->out);
    tdm_weight *weight = NULL;
    ASSERT_OK(tdm_weight_open(be, bytes, c->dtype, c->in, c->out, c->layout, &weight, err));
    free(bytes);
    poison_scratch(be);
    ASSERT_OK(tdm_linear(be, mat(y, c->rows, c->out), mat(x, c->rows, c->in), weight,
                         c->bias ? &b : NULL, c->epilogue, err));
    assert_memory_equal(x, copy, rows * in * sizeof *x);
    ref_linear(want, x, w, c->bias ? bias : NULL, rows, in, out, c->epilogue);
    ASSERT_CLOSE(y, want, n, out, TOLERANCE, "%s", c->name);
    /* Padded rows hold the same bits. */
    const size_t stride = (size_t)tdm_padded(c->out);
    float *padded = random_floats(rows * stride, 6);
    ASSERT_OK(tdm_linear(be, (tdm_mat){padded, c->rows, c->out, TDM_F32, (int32_t)stride},
                         mat(x, c->rows, c->in), weight, c->bias ? &b : NULL, c->epilogue, err));
    for (size_t r = 0; r < rows; r++)
        assert_memory_equal(padded + r * stride, y + r * out, out * sizeof *y);
    free(padded);
    ref_linear(want, x, w, c->bias ? NULL : bias, rows, in, out, c->epilogue);
    ASSERT_FAR(y, want, n, TOLERANCE, "%s, bias", c->name);
    const tdm_epilogue other = c->epilogue == TDM_GELU_ERF ? TDM_GELU_TANH : TDM_GELU_ERF;
    ref_linear(want, x, w, c->bias ? bias : NULL, rows, in, out, other);
    ASSERT_FAR(y, want, n, TOLERANCE, "%s, epilogue", c->name);
    ref_linear(want, x, w, c->bias ? bias : NULL, rows, in - 1, out, c->epilogue);
    if (in > 1 && rows == 1)
        ASSERT_FAR(y, want, n, TOLERANCE, "%s, depth", c->name);
    tdm_weight_close(be, weight);
    free(want);
    free(copy);
    free(y);
    free(bias);
    free(x);
    free(w);
}

static void linear_matches_float64(void **state)
{
    (void)state;
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++) {
        tdm_backend be = open_backend(tables[i], 2);
        for (size_t j = 0; j < COUNT(LINEAR); j++)
            check_linear(&be, &LINEAR[j]);
        tdm_backend_close(&be);
    }
}

/* ---- the same bits whatever the number of rows, their place, the threads ---- */

static void check_rows(tdm_backend *be, const tdm_weight *w, const float *bias, const float *x,
                       const float *all, int n_all, int n, int first)
{
    const size_t out = (size_t)w->out, count = (size_t)n * out;
    float *y = random_floats(count, 9);
    const tdm_mat b = mat(bias, 1, w->out);
    assert_true(first + n <= n_all);
    ASSERT_OK(tdm_linear(be, mat(y, n, w->out), mat(x + (size_t)first * (size_t)w->in, n, w->in), w,
                         &b, TDM_GELU_TANH, err));
    for (size_t r = 0; r < (size_t)n; r++)
        if (memcmp(y + r * out, all + ((size_t)first + r) * out, out * sizeof *y))
            fail_msg("%d x %d: row %zu of %d differs from row %zu of %d", w->in, w->out, r, n,
                     (size_t)first + r, n_all);
    free(y);
}

static void rows_do_not_depend_on_each_other(void **state)
{
    (void)state;
    enum { ALL = 512 };
    static const int SHAPES[][2] = {{300, 131}, {768, 200}, {1600, 64}, {64, 1000}, {129, 1}};
    const cpu_kernels *tables[3];
    const size_t n_tables = kernel_tables(tables);
    for (size_t i = 0; i < n_tables * COUNT(SHAPES); i++) {
        const int *shape = SHAPES[i / n_tables];
        float *x = random_floats(ALL * (size_t)shape[0], 1);
        float *src = random_floats((size_t)shape[0] * (size_t)shape[1], 2);
        float *bias = random_floats((size_t)shape[1], 3), *all = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            tdm_backend be = open_backend(tables[i % n_tables], threads);
            tdm_weight *w = NULL;
            ASSERT_OK(tdm_weight_open(&be, src, TDM_F32, shape[0], shape[1], TDM_IN_OUT, &w, err));
            if (!all) {
                const tdm_mat b = mat(bias, 1, shape[1]);
                all = random_floats(ALL * (size_t)shape[1], 4);
                ASSERT_OK(tdm_linear(&be, mat(all, ALL, shape[1]), mat(x, ALL, shape[0]), w, &b,
                                     TDM_GELU_TANH, err));
            }
            for (int n = 1; n <= 20; n++)
                for (int first = 0; first < 3; first++)
                    check_rows(&be, w, bias, x, all, ALL, n, first * 7 * n % (ALL - n));
            check_rows(&be, w, bias, x, all, ALL, 64, 11);
            check_rows(&be, w, bias, x, all, ALL, 193, 1);
            check_rows(&be, w, bias, x, all, ALL, ALL, 0);
            tdm_weight_close(&be, w);
            tdm_backend_close(&be);
        }
        free(all);
        free(bias);
        free(src);
        free(x);
    }
}

/* A row that is not finite is its own problem. */
static void a_bad_row_stays_alone(tdm_backend *be)
{
    enum { ROWS = 13, IN = 70, OUT = 90 };
    float *x = random_floats(ROWS * IN, 1), *w = random_floats(IN * OUT, 2);
    float *y = random_floats(ROWS * OUT, 3), *clean = random_floats(ROWS * OUT, 3);
    tdm_weight *weight = NULL;
    ASSERT_OK(tdm_weight_open(be, w, TDM_F32, IN, OUT, TDM_OUT_IN, &weight, err));
    ASSERT_OK(tdm_linear(be, mat(clean, ROWS, OUT), mat(x, ROWS, IN), weight, NULL, TDM_LINEAR, err));
    x[5 * IN + 7] = NAN;
    ASSERT_OK(tdm_linear(be, mat(y, ROWS, OUT), mat(x, ROWS, IN), weight, NULL, TDM_LINEAR, err));
    for (size_t i = 0; i < ROWS * OUT; i++) {
        if (i / OUT == 5)
            assert_true(isnan(y[i]));
        else
            assert_memory_equal(&y[i], &clean[i], sizeof *y);
    }
    tdm_weight_close(be, weight);
    free(clean);
    free(y);
    free(w);
    free(x);
}

static void bad_rows_stay_alone(void **state)
{
    (void)state;
    on_all_backends(a_bad_row_stays_alone);
}

/* ---- the functions of the epilogue and of the softmax ---- */

enum { EXPONENTIAL = 100 };

typedef struct {
    const char *name;
    int function; /* tdm_epilogue, or EXPONENTIAL */
    double low, high;
    double ulps;  /* of the value, relative to itself */
    double floor; /* absolute error that is allowed besides, relative to |x| */
} function_case;

/* The GELUs cancel for negative x: what f32 makes of 0.5 x (1 + erf) is off by 2^-25 |x| there. */
static const function_case FUNCTIONS[] = {
    {"exp", EXPONENTIAL, -87, 88, 1, 0},
    {"tanh", TDM_TANH, -12, 12, 1.5, 0},
    {"gelu-erf", TDM_GELU_ERF, -12, 12, 1, 0x1p-24},
    {"gelu-tanh", TDM_GELU_TANH, -12, 12, 1, 0x1p-24},
};

static void evaluate(const cpu_kernels *k, int function, float *y, size_t n)
{
    if (function == EXPONENTIAL)
        k->exponential(y, n);
    else
        k->epilogue(y, n, (tdm_epilogue)function);
}

static void check_function(const cpu_kernels *k, const function_case *c)
{
    enum { N = 4096, ROUNDS = 500 };
    uint64_t seed = 7;
    double worst = 0, where = 0;
    for (int round = 0; round < ROUNDS; round++) {
        float x[N], y[N];
        for (size_t i = 0; i < N; i++) {
            const double u = 0.5 + 0.5 * (double)uniform(&seed);
            x[i] = (float)(c->low + u * (c->high - c->low));
            if (round % 2) /* as many small ones */
                x[i] = ldexpf(x[i], -(int)(i % 40));
        }
        memcpy(y, x, sizeof y);
        evaluate(k, c->function, y, N);
        for (size_t i = 0; i < N; i++) {
            const double v = (double)x[i];
            const double want = c->function == EXPONENTIAL
                                    ? exp(v) : ref_epilogue(v, (tdm_epilogue)c->function);
            int exponent;
            frexp(want, &exponent);
            const double ulp = ldexp(1, exponent - 24), error = fabs((double)y[i] - want);
            const double units = error / (c->ulps * ulp + c->floor * fabs(v));
            if (!(units <= worst)) { /* a NaN wins, and stays */
                worst = isnan(units) ? INFINITY : units;
                where = v;
            }
        }
    }
    print_message("%s %s: at most %.2f of the tolerance\n", k->name, c->name, worst);
    if (!(worst <= 1))
        fail_msg("%s %s: %.2f of the tolerance at %.9g", k->name, c->name, worst, where);
}

static void functions_match_libm(void **state)
{
    (void)state;
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < COUNT(FUNCTIONS); j++)
            check_function(tables[i], &FUNCTIONS[j]);
}

static void functions_at_the_edges(void **state)
{
    (void)state;
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++) {
        float e[] = {0, -0.0f, -INFINITY, -1000, NAN};
        tables[i]->exponential(e, COUNT(e));
        assert_true(e[0] == 1 && e[1] == 1 && e[2] == 0 && e[3] == 0 && isnan(e[4]));
        float t[] = {0, INFINITY, -INFINITY, 50, -50, NAN};
        tables[i]->epilogue(t, COUNT(t), TDM_TANH);
        assert_true(t[0] == 0 && t[1] == 1 && t[2] == -1 && t[3] == 1 && t[4] == -1 && isnan(t[5]));
        for (int f = TDM_GELU_TANH; f <= TDM_GELU_ERF; f++) {
            float g[] = {0, 100, -100, 3e38f, -3e38f, NAN, INFINITY};
            tables[i]->epilogue(g, COUNT(g), (tdm_epilogue)f);
            assert_true(g[0] == 0 && g[1] == 100 && g[2] == 0 && g[3] == 3e38f && g[4] == 0);
            assert_true(isnan(g[5]) && g[6] == INFINITY);
        }
    }
}

/* A NaN is a NaN whatever its other bits and wherever it lies, and infinity has its limit. */
static void functions_keep_bad_values(void **state)
{
    (void)state;
    static const uint32_t NANS[] = {0x7fc00000, 0x7fc00001, 0x7f800001, 0xffc00123,
                                    0x7fffffff, 0xffffffff, 0x7fa5a5a5};
    enum { N = 37 }; /* vectors and a tail of every width */
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < COUNT(FUNCTIONS); j++) {
            const int f = FUNCTIONS[j].function;
            const float bottom = f == TDM_TANH ? -1 : 0, top = f == TDM_TANH ? 1 : INFINITY;
            float y[N];
            for (size_t place = 0; place < N; place++) {
                for (size_t k = 0; k < COUNT(NANS); k++) {
                    memset(y, 0, sizeof y);
                    memcpy(&y[place], &NANS[k], sizeof *y);
                    evaluate(tables[i], f, y, N);
                    if (!isnan(y[place]))
                        fail_msg("%s %s: NaN %08x at %zu gives %g", tables[i]->name,
                                 FUNCTIONS[j].name, NANS[k], place, (double)y[place]);
                }
                memset(y, 0, sizeof y);
                y[place] = INFINITY;
                evaluate(tables[i], f, y, N);
                assert_true(y[place] == top);
                y[place] = -INFINITY;
                evaluate(tables[i], f, y, N);
                /* GELU multiplies it by 0, as its definition does */
                const bool gelu = f == TDM_GELU_TANH || f == TDM_GELU_ERF;
                assert_true(gelu ? isnan(y[place]) : y[place] == bottom);
            }
        }
}

/* A value has the same bits at every place of arrays of every length. */
static void functions_do_not_see_their_place(void **state)
{
    (void)state;
    enum { N = 200 };
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    float *x = random_floats(N, 3), all[N], y[N];
    for (size_t i = 0; i < N; i++)
        x[i] *= 6;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < COUNT(FUNCTIONS); j++) {
            memcpy(all, x, sizeof all);
            evaluate(tables[i], FUNCTIONS[j].function, all, N);
            for (size_t first = 0; first < 70; first++) {
                const size_t count = 1 + (first * 13) % 100;
                memcpy(y, x + first, count * sizeof *y);
                evaluate(tables[i], FUNCTIONS[j].function, y, count);
                assert_memory_equal(y, all + first, count * sizeof *y);
            }
        }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_matches_float64),
        cmocka_unit_test(rows_do_not_depend_on_each_other),
        cmocka_unit_test(bad_rows_stay_alone),
        cmocka_unit_test(functions_match_libm),
        cmocka_unit_test(functions_at_the_edges),
        cmocka_unit_test(functions_keep_bad_values),
        cmocka_unit_test(functions_do_not_see_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
