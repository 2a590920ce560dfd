/* tests/emu/test_gemm_table.c - which line of a table of algorithms a product follows. The emulated
 * cuBLASLt has algorithms 0 and 1, which sum in different orders: a real table holds only those
 * whose bits agree. */
#define TDM_GEMM_TABLE "tests/emu/gemm_table_test.inc"
#include "kernels/gemm.c"

#include "tests/emu/backend_test.h"

#define ASSERT_CUDA(call) assert_int_equal((call), cudaSuccess)

enum { MOST = 40, IN = 128, OUT = 192 };

typedef struct {
    tdm_gemm *g;
    cudaStream_t stream;
    void *y, *x, *w, *bias;
} operands;

static void multiply(const operands *o, int plan, const void *bias, int rows, uint16_t *y)
{
    const size_t bytes = (size_t)rows * OUT * 2;
    ASSERT_OK(tdm_gemm_run(o->g, plan, o->y, OUT, o->x, o->w, bias, rows, err));
    ASSERT_CUDA(cudaMemcpyAsync(y, o->y, bytes, cudaMemcpyDeviceToHost, o->stream));
    ASSERT_CUDA(cudaStreamSynchronize(o->stream));
}

static void *random_f16(const operands *o, size_t n, uint64_t seed)
{
    void *p = NULL;
    float *values = random_floats(n, seed);
    tdm_from_f32(values, TDM_F16, values, n);
    ASSERT_CUDA(cudaMalloc(&p, n * 2));
    ASSERT_CUDA(cudaMemcpyAsync(p, values, n * 2, cudaMemcpyHostToDevice, o->stream));
    ASSERT_CUDA(cudaStreamSynchronize(o->stream));
    free(values);
    return p;
}

static void lines_are_followed(void **state)
{
    (void)state;
    const tdm_gemm_shape shape = {IN, OUT, TDM_F16, TDM_F16, TDM_LINEAR, false};
    tdm_gemm_shape biased = shape, wider = shape;
    static uint16_t got[MOST * OUT], by[2][MOST * OUT];
    operands o = {0};
    int plan = -1, with[2] = {-1, -1};
    char line[512];
    biased.has_bias = true;
    wider.out = 2 * OUT;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&o.stream, cudaStreamNonBlocking));
    ASSERT_OK(tdm_gemm_open(o.stream, &o.g, err));
    o.x = random_f16(&o, MOST * IN, 1);
    o.w = random_f16(&o, IN * OUT, 2);
    o.bias = random_f16(&o, OUT, 3);
    o.y = random_f16(&o, MOST * OUT, 4);
    for (int i = 0; i < 2; i++) { /* the last two lines: algorithms 1 and 0 */
        const tdm_gemm_algo *algo = &TABLE[4 - i].algo;
        ASSERT_OK(tdm_gemm_plan_with(o.g, &shape, algo, &with[i], err));
        multiply(&o, with[i], NULL, MOST, by[i]);
    }
    assert_memory_not_equal(by[0], by[1], sizeof by[0]);
    ASSERT_OK(tdm_gemm_plan(o.g, &shape, &plan, err));
    for (int rows = 1; rows <= MOST; rows++) {
        multiply(&o, plan, NULL, rows, got);
        assert_memory_equal(got, by[rows <= 20], (size_t)rows * OUT * 2);
    }
    ASSERT_OK(tdm_gemm_plan(o.g, &biased, &plan, err));
    assert_true(o.g->plans[plan].n_choices == 1 &&
                !memcmp(o.g->plans[plan].choices[0].algo.data, TABLE[2].algo.words, 64));
    ASSERT_OK(tdm_gemm_plan(o.g, &wider, &plan, err)); /* not in the table: the heuristic's */
    assert_int_equal(o.g->plans[plan].n_choices, 1);
    /* what is written is what can be read */
    tdm_gemm_table_line(o.g, &shape, 20, &TABLE[3].algo, line, sizeof line);
    assert_non_null(strstr(line, ", {128, 192, TDM_F16, TDM_F16, TDM_LINEAR, false}, 20, "
                                 "{{0x656d756c61746564, 0x10000000001, 0x1000000010, 0x10, 0x0, "
                                 "0x0, 0x0, 0x0}}},\n"));
    assert_int_equal(strncmp(line, "{90, ", 5), 0);
    tdm_gemm_identity(o.g, line, sizeof line);
    assert_non_null(strstr(line, ", table #"));
    o.g->version++;
    tdm_gemm_identity(o.g, line, sizeof line);
    assert_non_null(strstr(line, ", no table"));
    tdm_gemm_close(o.g);
    ASSERT_CUDA(cudaFree(o.y));
    ASSERT_CUDA(cudaFree(o.bias));
    ASSERT_CUDA(cudaFree(o.w));
    ASSERT_CUDA(cudaFree(o.x));
    ASSERT_CUDA(cudaStreamDestroy(o.stream));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_are_followed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
