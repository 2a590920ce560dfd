/* tests/emu/test_cublaslt.c - the emulated cuBLASLt against a product in double. */
#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emu/control.h"
#include "tests/emu/test_device.h"

enum { WORKSPACE = 1 << 20, MOST_ROWS = 37 };

typedef struct {
    cudaDataType_t in, out;
    cublasLtEpilogue_t epilogue;
    int inputs, outputs; /* y [rows, outputs] = x [rows, inputs] @ w [outputs, inputs]^T */
} shape;

static const shape SHAPES[] = {
    {CUDA_R_16F, CUDA_R_16F, CUBLASLT_EPILOGUE_DEFAULT, 64, 64},
    {CUDA_R_16F, CUDA_R_32F, CUBLASLT_EPILOGUE_DEFAULT, 72, 192},
    {CUDA_R_16BF, CUDA_R_16BF, CUBLASLT_EPILOGUE_BIAS, 200, 64},
    {CUDA_R_16F, CUDA_R_16F, CUBLASLT_EPILOGUE_GELU_BIAS, 136, 128},
    {CUDA_R_32F, CUDA_R_32F, CUBLASLT_EPILOGUE_GELU, 64, 64},
    {CUDA_R_32F, CUDA_R_32F, CUBLASLT_EPILOGUE_BIAS, 8, 64},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static size_t size_of(cudaDataType_t t)
{
    return t == CUDA_R_32F ? 4 : 2;
}

/* 7 bits and a sign, exact in all three types, of many sizes: their sums are not exact in f32. */
static float value(int i)
{
    const uint32_t hash = (uint32_t)i * 2654435761u;
    return ldexpf((float)(hash >> 16 & 255) - 128, -3 - (int)(hash >> 25 & 7));
}

static void put(void *p, int i, cudaDataType_t t, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint16_t f16 =
        (uint16_t)(sign | ((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff));
    if (t == CUDA_R_32F)
        ((float *)p)[i] = f;
    else if (t == CUDA_R_16BF)
        ((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
    else
        ((uint16_t *)p)[i] = f == 0 ? sign : f16;
}

static float get(const void *p, int i, cudaDataType_t t)
{
    if (t == CUDA_R_32F)
        return ((const float *)p)[i];
    const uint32_t half = ((const uint16_t *)p)[i];
    const uint32_t bits = half << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    if (t == CUDA_R_16BF)
        return f;
    const int exponent = (int)(half >> 10 & 31), mantissa = (int)(half & 0x3ff);
    const float size =
        exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
    return half & 0x8000 ? -size : size;
}

static void *operand(int n, cudaDataType_t t, int seed)
{
    void *host = malloc((size_t)n * size_of(t));
    for (int i = 0; i < n; i++)
        put(host, i, t, value(i + seed));
    void *p = on_device(host, (size_t)n * size_of(t));
    free(host);
    return p;
}

/* How a product is set up; closed by the caller. */
typedef struct {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulPreference_t preference;
    void *w_data, *x_data, *bias, *workspace;
} setup;

static void set_up(setup *s, const shape *k, int rows)
{
    const int32_t transposed = CUBLAS_OP_T;
    const uint64_t workspace = WORKSPACE;
    s->w_data = operand(k->outputs * k->inputs, k->in, 1);
    s->x_data = operand(MOST_ROWS * k->inputs, k->in, 7);
    s->bias = operand(k->outputs, k->out, 3);
    s->workspace = on_device(NULL, WORKSPACE);
    OK(cublasLtCreate(&s->handle));
    OK(cublasLtMatmulDescCreate(&s->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    OK(cublasLtMatmulDescSetAttribute(s->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                      sizeof transposed));
    OK(cublasLtMatmulDescSetAttribute(s->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &k->epilogue,
                                      sizeof k->epilogue));
    OK(cublasLtMatmulDescSetAttribute(s->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &s->bias,
                                      sizeof s->bias));
    const uint64_t in = (uint64_t)k->inputs, out = (uint64_t)k->outputs, n = (uint64_t)rows;
    OK(cublasLtMatrixLayoutCreate(&s->w, k->in, in, out, k->inputs));
    OK(cublasLtMatrixLayoutCreate(&s->x, k->in, in, n, k->inputs));
    OK(cublasLtMatrixLayoutCreate(&s->y, k->out, out, n, k->outputs));
    OK(cublasLtMatmulPreferenceCreate(&s->preference));
    OK(cublasLtMatmulPreferenceSetAttribute(s->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &workspace, sizeof workspace));
}

static void tear_down(setup *s)
{
    OK(cublasLtMatmulPreferenceDestroy(s->preference));
    OK(cublasLtMatrixLayoutDestroy(s->w));
    OK(cublasLtMatrixLayoutDestroy(s->x));
    OK(cublasLtMatrixLayoutDestroy(s->y));
    OK(cublasLtMatmulDescDestroy(s->product));
    OK(cublasLtDestroy(s->handle));
    OK(cudaFree(s->w_data));
    OK(cudaFree(s->x_data));
    OK(cudaFree(s->bias));
    OK(cudaFree(s->workspace));
}

/* y of `rows` rows by the heuristic's choice number `choice` for chosen_for rows; y: host memory.
 */
static void multiply(const shape *k, int rows, int chosen_for, int choice, void *y)
{
    setup s;
    cublasLtMatmulHeuristicResult_t found[3], check;
    int n = 0;
    const float one = 1, zero = 0;
    const uint64_t columns = (uint64_t)rows;
    const size_t bytes = (size_t)(rows * k->outputs) * size_of(k->out);
    set_up(&s, k, chosen_for);
    OK(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.w, s.x, s.y, s.y, s.preference, 3,
                                      found, &n));
    assert_in_range(choice, 0, n - 1);
    OK(cublasLtMatrixLayoutSetAttribute(s.x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                        sizeof columns));
    OK(cublasLtMatrixLayoutSetAttribute(s.y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                        sizeof columns));
    OK(cublasLtMatmulAlgoCheck(s.handle, s.product, s.w, s.x, s.y, s.y, &found[choice].algo,
                               &check));
    void *device = on_device(NULL, bytes);
    OK(cublasLtMatmul(s.handle, s.product, &one, s.w_data, s.w, s.x_data, s.x, &zero, device, s.y,
                      device, s.y, &found[choice].algo, s.workspace, WORKSPACE, NULL));
    take_back(y, device, bytes);
    tear_down(&s);
}

/* size: the sum of the magnitudes of the terms */
static double expected(const shape *k, int row, int out, double *size)
{
    double sum = 0;
    *size = 0;
    for (int i = 0; i < k->inputs; i++) {
        const double term =
            (double)value(out * k->inputs + i + 1) * (double)value(row * k->inputs + i + 7);
        sum += term;
        *size += fabs(term);
    }
    if (k->epilogue == CUBLASLT_EPILOGUE_BIAS || k->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS)
        sum += (double)value(out + 3);
    if (k->epilogue == CUBLASLT_EPILOGUE_GELU || k->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS)
        sum =
            0.5 * sum * (1 + tanh(sqrt(2 / 3.14159265358979) * (sum + 0.044715 * sum * sum * sum)));
    return sum;
}

static void products_are_right(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        const shape *k = &SHAPES[i];
        /* half a unit in the last place of the result; f32 loses 2^-24 of the sum at every step */
        const double unit = k->out == CUDA_R_16F    ? 0x1p-11
                            : k->out == CUDA_R_16BF ? 0x1p-8
                                                    : 0x1p-21;
        const double steps = k->inputs / 16 + 16;
        void *y = malloc((size_t)(MOST_ROWS * k->outputs) * size_of(k->out));
        for (int choice = 0; choice < 3; choice++) {
            multiply(k, MOST_ROWS, MOST_ROWS, choice, y);
            for (int e = 0; e < MOST_ROWS * k->outputs; e++) {
                double size;
                const double want = expected(k, e / k->outputs, e % k->outputs, &size);
                const double got = (double)get(y, e, k->out);
                if (!(fabs(got - want) <= unit * fabs(want) + steps * 0x1p-24 * (size + 1)))
                    fail_msg("shape %d, algorithm %d, element %d: %g, want %g", i, choice, e, got,
                             want);
            }
        }
        free(y);
    }
}

/* The number of rows at which row 0 has other bits than in MOST_ROWS rows; 0: none. */
static int rows_that_differ(const shape *k)
{
    const size_t row = (size_t)k->outputs * size_of(k->out);
    char *all = malloc(MOST_ROWS * row), *some = malloc(MOST_ROWS * row);
    int differs = 0;
    multiply(k, MOST_ROWS, 512, 0, all);
    for (int rows = 1; rows < MOST_ROWS && !differs; rows++) {
        multiply(k, rows, 512, 0, some);
        differs = memcmp(all, some, (size_t)rows * row) ? rows : 0;
    }
    free(all);
    free(some);
    return differs;
}

static void row_bits_do_not_depend_on_the_number_of_rows(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        assert_int_equal(rows_that_differ(&SHAPES[i]), 0);
}

static void unless_that_is_planted(void **state)
{
    (void)state;
    setenv("TDM_EMU_GEMM_VARIES", "1", 1);
    tdm_emu_configure();
    assert_int_not_equal(rows_that_differ(&SHAPES[1]), 0);
    unsetenv("TDM_EMU_GEMM_VARIES");
    tdm_emu_configure();
}

/* Who asks the heuristic anew for every number of rows gets another algorithm. */
static void the_heuristic_depends_on_the_number_of_rows(void **state)
{
    (void)state;
    setup s;
    cublasLtMatmulHeuristicResult_t few, many;
    int n;
    set_up(&s, &SHAPES[0], 1);
    OK(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.w, s.x, s.y, s.y, s.preference, 1,
                                      &few, &n));
    tear_down(&s);
    set_up(&s, &SHAPES[0], MOST_ROWS);
    OK(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.w, s.x, s.y, s.y, s.preference, 1,
                                      &many, &n));
    tear_down(&s);
    assert_memory_not_equal(&few.algo, &many.algo, sizeof few.algo);
}

static void wrong_shapes_and_types_are_refused(void **state)
{
    (void)state;
    const shape mixed = {CUDA_R_16F, CUDA_R_16BF, CUBLASLT_EPILOGUE_DEFAULT, 64, 64};
    setup s;
    cublasLtMatmulHeuristicResult_t found;
    const uint64_t other = 72;
    int n;
    set_up(&s, &mixed, 4);
    assert_int_equal(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.w, s.x, s.y, s.y,
                                                    s.preference, 1, &found, &n),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    OK(cublasLtMatrixLayoutSetAttribute(s.x, CUBLASLT_MATRIX_LAYOUT_ROWS, &other, sizeof other));
    assert_int_equal(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.w, s.x, s.y, s.y,
                                                    s.preference, 1, &found, &n),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(n, 0);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(row_bits_do_not_depend_on_the_number_of_rows),
        cmocka_unit_test(unless_that_is_planted),
        cmocka_unit_test(the_heuristic_depends_on_the_number_of_rows),
        cmocka_unit_test(wrong_shapes_and_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
