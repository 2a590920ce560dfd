/* tests/emu/test_gemm_rows.c - a row of a matrix product has the same bits whatever the number of
 * rows, through the backend and for the algorithms that tuning would try. */
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "kernels/gemm.h"
#include "tests/emu/backend_test.h"

/* Is there where the device is emulated, whose algorithm 1 does not say whether it splits. */
extern long tdm_emu_allocations(void) __attribute__((weak));

enum { MOST = 257 };

/* The numbers of rows that are tried: 1 to 70, and some larger. */
static int next_rows(int rows)
{
    static const int MORE[] = {96, 127, 128, 129, 192, 255, 256, MOST};
    for (size_t i = 0; rows >= 70 && i < COUNT(MORE); i++)
        if (MORE[i] > rows)
            return MORE[i];
    return rows + 1;
}

/* run(ctx, rows, y) multiplies the first `rows` rows and copies the result to y.
 * Returns the first number of rows with a row that differs from that of MOST rows, or 0. */
static int differs_at(void (*run)(void *ctx, int rows, char *y), void *ctx, size_t row_bytes)
{
    char *all = malloc(MOST * row_bytes), *some = malloc(MOST * row_bytes);
    int bad = 0;
    assert_true(all && some);
    run(ctx, MOST, all);
    for (int rows = 1; rows <= MOST && !bad; rows = next_rows(rows)) {
        run(ctx, rows, some);
        bad = memcmp(all, some, (size_t)rows * row_bytes) ? rows : 0;
    }
    free(some);
    free(all);
    return bad;
}

/* ---- through the backend: what the models use ---- */

typedef struct {
    const char *name;
    int in, out;
    bool bias, f32_result;
    tdm_epilogue epilogue;
} shape;

static const shape SHAPES[] = {
    {"qkv", 128, 384, true, false, TDM_LINEAR},
    {"feed-forward", 128, 512, true, false, TDM_GELU_TANH},
    {"back", 512, 128, true, false, TDM_LINEAR},
    {"RoBERTa's feed-forward", 128, 256, true, false, TDM_GELU_ERF},
    {"logits", 128, 100, false, true, TDM_LINEAR},
};

typedef struct {
    const tdm_backend *be;
    const tdm_weight *weight;
    tdm_mat y, x, bias;
    const shape *s;
} product;

static void run_linear(void *ctx, int rows, char *y)
{
    product *p = ctx;
    p->y.rows = p->x.rows = rows;
    ASSERT_OK(tdm_linear(p->be, p->y, p->x, p->weight, p->s->bias ? &p->bias : NULL, p->s->epilogue,
                         err));
    ASSERT_OK(tdm_download(p->be, y, p->y.p,
                           (size_t)rows * (size_t)p->y.stride * tdm_dtype_size(p->y.dtype), err));
}

static void check_shape(const tdm_backend *be, const shape *s)
{
    const tdm_dtype result = s->f32_result ? TDM_F32 : be->dtype;
    const int32_t stride = tdm_padded(s->out);
    float *x = random_floats(MOST * (size_t)s->in, 1), *bias = random_floats((size_t)s->out, 3);
    float *w = random_floats((size_t)s->in * (size_t)s->out, 2);
    tdm_weight *weight = NULL;
    ASSERT_OK(tdm_weight_open(be, w, TDM_F32, s->in, s->out, TDM_OUT_IN, &weight, err));
    product p = {be,
                 weight,
                 room(be, MOST, s->out, stride, result),
                 put(be, x, MOST, s->in, be->dtype),
                 put(be, bias, 1, s->out, be->dtype),
                 s};
    const int bad = differs_at(run_linear, &p, (size_t)stride * tdm_dtype_size(result));
    if (bad)
        fail_msg("%s, %s: a row differs between %d rows and %d", s->name, tdm_dtype_name(be->dtype),
                 bad, MOST);
    tdm_weight_close(be, weight);
    release_all(be);
    free(w);
    free(bias);
    free(x);
}

static void rows_of_linear_do_not_depend_on_their_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(DTYPES); i++) {
        tdm_backend be = open_cuda(DTYPES[i], DTYPES[i], false);
        for (size_t k = 0; k < COUNT(SHAPES); k++)
            check_shape(&be, &SHAPES[k]);
        tdm_backend_close(&be);
    }
}

/* ---- the algorithms ---- */

#define ASSERT_CUDA(call) assert_int_equal((call), cudaSuccess)

typedef struct {
    tdm_gemm *g;
    cudaStream_t stream;
    tdm_gemm_shape shape;
    int plan;
    void *y, *x, *w;
} planned;

static void run_plan(void *ctx, int rows, char *y)
{
    const planned *p = ctx;
    ASSERT_OK(tdm_gemm_run(p->g, p->plan, p->y, p->shape.out, p->x, p->w, NULL, rows, err));
    ASSERT_CUDA(cudaMemcpyAsync(y, p->y, (size_t)rows * (size_t)p->shape.out * 2,
                                cudaMemcpyDeviceToHost, p->stream));
    ASSERT_CUDA(cudaStreamSynchronize(p->stream));
}

/* Parts that an algorithm splits the sum into; -1: it does not say. */
static int32_t splits_of(const tdm_gemm_algo *words)
{
    cublasLtMatmulAlgo_t algo;
    int32_t splits = -1;
    size_t written = 0;
    memcpy(algo.data, words->words, sizeof algo.data);
    (void)cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                               sizeof splits, &written);
    return splits;
}

/* Of what cuBLASLt offers some may not keep the bits: tuning leaves them out. None splits the sum.
 */
static void candidates_can_be_tried(void **state)
{
    (void)state;
    enum { IN = 128, OUT = 192, CAP = 16 };
    planned p = {.shape = {IN, OUT, TDM_F16, TDM_F16, TDM_LINEAR, false}};
    tdm_gemm_algo algos[CAP];
    float *x = random_floats(MOST * IN, 1), *w = random_floats(IN * OUT, 2);
    int n = 0, first = -1, again = -1, tried = 0, steady = 0, silent = 0;
    char line[512];
    tdm_from_f32(x, TDM_F16, x, MOST * IN);
    tdm_from_f32(w, TDM_F16, w, IN * OUT);
    ASSERT_CUDA(cudaStreamCreateWithFlags(&p.stream, cudaStreamNonBlocking));
    ASSERT_OK(tdm_gemm_open(p.stream, &p.g, err));
    ASSERT_CUDA(cudaMalloc(&p.x, MOST * IN * 2));
    ASSERT_CUDA(cudaMalloc(&p.w, IN * OUT * 2));
    ASSERT_CUDA(cudaMalloc(&p.y, MOST * OUT * 2));
    ASSERT_CUDA(cudaMemcpyAsync(p.x, x, MOST * IN * 2, cudaMemcpyHostToDevice, p.stream));
    ASSERT_CUDA(cudaMemcpyAsync(p.w, w, IN * OUT * 2, cudaMemcpyHostToDevice, p.stream));
    ASSERT_CUDA(cudaStreamSynchronize(p.stream));
    for (int64_t rows = 1; rows < 2000; rows *= 16) {
        ASSERT_OK(tdm_gemm_candidates(p.g, &p.shape, rows, algos, CAP, &n, err));
        assert_true(n > 0 && n <= CAP);
        for (int i = 0; i < n; i++) {
            assert_true(splits_of(&algos[i]) <= 1);
            silent += splits_of(&algos[i]) < 0;
            ASSERT_OK(tdm_gemm_plan_with(p.g, &p.shape, &algos[i], &p.plan, err));
            steady += differs_at(run_plan, &p, OUT * 2) == 0;
        }
        tried += n;
        ASSERT_OK(tdm_gemm_candidates(p.g, &p.shape, rows, algos, 1, &n, err));
        assert_int_equal(n, 1);
    }
    print_message("%d of %d algorithms keep the bits of rows\n", steady, tried);
    assert_true(steady > 0 && (silent > 0 || !tdm_emu_allocations));
    ASSERT_OK(tdm_gemm_plan(p.g, &p.shape, &first, err));
    ASSERT_OK(tdm_gemm_plan(p.g, &p.shape, &again, err));
    assert_true(first >= 0 && first == again && first != p.plan);
    const int length = tdm_gemm_table_line(p.g, &p.shape, 64, &algos[0], line, sizeof line);
    assert_int_equal(length, strlen(line));
    assert_non_null(strstr(line, ", {128, 192, TDM_F16, TDM_F16, TDM_LINEAR, false}, 64, {{0x"));
    tdm_gemm_close(p.g);
    ASSERT_CUDA(cudaFree(p.y));
    ASSERT_CUDA(cudaFree(p.w));
    ASSERT_CUDA(cudaFree(p.x));
    ASSERT_CUDA(cudaStreamDestroy(p.stream));
    free(w);
    free(x);
}

static void shapes_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        tdm_gemm_shape shape;
        const char *says;
    } CASES[] = {
        {{12, 64, TDM_F16, TDM_F16, TDM_LINEAR, false}, "12 inputs and 64 outputs"},
        {{64, 50, TDM_F16, TDM_F16, TDM_LINEAR, false}, "64 inputs and 50 outputs"},
        {{64, 64, TDM_F16, TDM_F16, TDM_GELU_ERF, false}, "epilogue"},
        {{64, 64, TDM_F16, TDM_BF16, TDM_LINEAR, false}, "bf16 results of f16"},
        {{64, 64, TDM_F16, TDM_F32, TDM_LINEAR, true}, "f32 results of f16 with a bias"},
    };
    cudaStream_t stream;
    tdm_gemm *g = NULL;
    int plan = -1;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ASSERT_OK(tdm_gemm_open(stream, &g, err));
    for (size_t i = 0; i < COUNT(CASES); i++)
        ASSERT_FAILS(tdm_gemm_plan(g, &CASES[i].shape, &plan, err), TDM_EARG, CASES[i].says);
    assert_int_equal(plan, -1);
    tdm_gemm_close(g);
    tdm_gemm_close(NULL);
    ASSERT_CUDA(cudaStreamDestroy(stream));
}

int main(void)
{
    require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_linear_do_not_depend_on_their_number),
        cmocka_unit_test(candidates_can_be_tried),
        cmocka_unit_test(shapes_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
