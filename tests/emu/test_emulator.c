/* tests/emu/test_emulator.c - what a kernel may call, each against its definition. Holds on a GPU
 * too. */
#include "tests/emu/test_emulator.h"

#include <math.h>
#include <string.h>

#include "tests/emu/test_device.h"

enum { LANES = 32 };

static void threads_know_where_they_are(void **state)
{
    (void)state;
    const dim3 grid = {3, 2, 2}, block = {4, 3, 2};
    enum { THREADS = 12 * 24 };
    int out[THREADS][8];
    void *p = on_device(NULL, sizeof out);
    OK(tdme_indices(p, grid, block, 0, NULL));
    take_back(out, p, sizeof out);
    for (int i = 0; i < THREADS; i++) {
        const int b = i / 24, t = i % 24;
        const int want[8] = {b % 3, b / 3 % 2, b / 6, t % 4, t / 4 % 3, t / 12, 3, 4};
        assert_memory_equal(out[i], want, sizeof want);
    }
}

static void a_row_is_summed_across_warps(void **state)
{
    (void)state;
    enum { ROWS = 3, WIDTH = 200 };
    float in[ROWS * WIDTH], out[ROWS], want[ROWS] = {0};
    for (int i = 0; i < ROWS * WIDTH; i++) {
        in[i] = (float)(i % 13);
        want[i / WIDTH] += in[i];
    }
    void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
    OK(tdme_row_sum(y, x, ROWS, WIDTH, NULL));
    take_back(out, y, sizeof out);
    OK(cudaFree(x));
    for (int r = 0; r < ROWS; r++)
        assert_true(out[r] == want[r]);
}

static void barriers_vote(void **state)
{
    (void)state;
    enum { N = 70 };
    for (int ones = 0; ones <= N; ones += N / 2) {
        int in[N], out[N][3];
        for (int i = 0; i < N; i++)
            in[i] = i < ones ? 5 : 0;
        void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
        OK(tdme_barrier_votes(y, x, N, NULL));
        take_back(out, y, sizeof out);
        OK(cudaFree(x));
        for (int i = 0; i < N; i++) {
            assert_int_equal(out[i][0] != 0, ones > 0);
            assert_int_equal(out[i][1] != 0, ones == N);
            assert_int_equal(out[i][2], ones);
        }
    }
}

/* The lane that a lane reads. Source: CUDA C++ Programming Guide, "Warp Shuffle Functions". */
static int source(int mode, int lane, int argument, int width)
{
    const int start = lane / width * width;
    int from = lane;
    if (mode == 0)
        from = start + argument % width;
    else if (mode == 1)
        from = lane - argument < start ? lane : lane - argument;
    else if (mode == 2)
        from = lane + argument >= start + width ? lane : lane + argument;
    else if ((lane ^ argument) < start + width)
        from = lane ^ argument;
    return from;
}

static void lanes_shuffle(void **state)
{
    (void)state;
    static const int CASES[][2] = {{0, 32}, {1, 32}, {5, 32}, {16, 32}, {31, 32},
                                   {3, 8},  {7, 8},  {1, 2},  {4, 16},  {2, 4}};
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        const int argument = CASES[c][0], width = CASES[c][1];
        int32_t in[LANES], out[LANES][4];
        double wide_in[LANES], wide_out[LANES][4];
        for (int i = 0; i < LANES; i++)
            wide_in[i] = in[i] = 1000 + i * i;
        void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
        void *wide_x = on_device(wide_in, sizeof wide_in),
             *wide_y = on_device(NULL, sizeof wide_out);
        OK(tdme_shuffles_i32(y, x, argument, width, NULL));
        OK(tdme_shuffles_f64(wide_y, wide_x, argument, width, NULL));
        take_back(out, y, sizeof out);
        take_back(wide_out, wide_y, sizeof wide_out);
        OK(cudaFree(x));
        OK(cudaFree(wide_x));
        for (int i = 0; i < LANES * 4; i++) {
            const int from = source(i % 4, i / 4, argument, width);
            assert_int_equal(out[i / 4][i % 4], in[from]);
            assert_true(wide_out[i / 4][i % 4] == wide_in[from]);
        }
    }
}

static void expected_votes(unsigned want[12], const unsigned *in, unsigned mask)
{
    const unsigned start[12] = {0, 0, 1, 0, ~0u, 0, ~0u, 0, 0, 0, INT32_MAX, (unsigned)INT32_MIN};
    memcpy(want, start, sizeof start);
    for (int i = 0; i < LANES; i++) {
        const unsigned v = in[i];
        if (!(mask >> i & 1))
            continue;
        want[0] |= (v & 1) << i;
        want[1] |= (v & 2) != 0;
        want[2] &= (v & 4) != 0;
        want[3] += v;
        want[4] = v < want[4] ? v : want[4];
        want[5] = v > want[5] ? v : want[5];
        want[6] &= v;
        want[7] |= v;
        want[8] ^= v;
        want[9] += v;
        want[10] = (int)v < (int)want[10] ? v : want[10];
        want[11] = (int)v > (int)want[11] ? v : want[11];
    }
}

static void lanes_vote_and_reduce(void **state)
{
    (void)state;
    static const unsigned MASKS[] = {0xffffffffu, 0x000fffffu, 0x0f0f0f0fu, 0x80000000u};
    for (size_t m = 0; m < sizeof MASKS / sizeof *MASKS; m++) {
        unsigned in[LANES], out[LANES][12], want[12];
        for (unsigned i = 0; i < LANES; i++)
            in[i] = (i * 2654435761u) | (m == 2 ? 4u : 0u);
        memset(out, 0xff, sizeof out);
        void *x = on_device(in, sizeof in), *y = on_device(out, sizeof out);
        OK(tdme_votes(y, x, MASKS[m], NULL));
        take_back(out, y, sizeof out);
        OK(cudaFree(x));
        expected_votes(want, in, MASKS[m]);
        for (int i = 0; i < LANES; i++)
            for (int k = 0; k < 12; k++) {
                const unsigned got = k == 1 || k == 2 ? out[i][k] != 0 : out[i][k];
                if (MASKS[m] >> i & 1)
                    assert_int_equal(got, want[k]);
                else
                    assert_int_equal(out[i][k], 0xffffffffu);
            }
    }
}

static void atomics_lose_nothing(void **state)
{
    (void)state;
    enum { BLOCKS = 5, THREADS = 40, N = BLOCKS * THREADS };
    int values[7] = {10, 1 << 20, -5, -1, 0, -1, 0};
    unsigned long long wide[7] = {1ull << 40, 1ull << 40, 0, ~0ull, 0, ~0ull, 0};
    void *p = on_device(values, sizeof values), *q = on_device(wide, sizeof wide);
    OK(tdme_atomics_i32(p, BLOCKS, THREADS, NULL));
    OK(tdme_atomics_u64(q, BLOCKS, THREADS, NULL));
    take_back(values, p, sizeof values);
    take_back(wide, q, sizeof wide);
    const int want[5] = {10 + N * (N - 1) / 2, 0, N - 1, (int)0x80000000u, 0x7fffffff};
    const unsigned long long want_wide[5] = {(1ull << 40) + N * (N - 1) / 2, 0, N - 1,
                                             ~0x7fffffffull, 0x7fffffffull};
    assert_memory_equal(values, want, sizeof want);
    assert_memory_equal(wide, want_wide, sizeof want_wide);
    assert_in_range(values[5], 0, N - 1); /* whoever was last */
    assert_in_range(values[6], 1, N);     /* whoever was first */
}

static void atomic_inc_wraps(void **state)
{
    (void)state;
    unsigned value = 0;
    void *p = on_device(&value, sizeof value);
    OK(tdme_atomic_inc(p, 6, 33, NULL));
    take_back(&value, p, sizeof value);
    assert_int_equal(value, 33 % 7);
}

/* Small whole numbers, which f16, bf16 and f32 hold exactly. */
static uint16_t as_16_bits(int value, int bf16)
{
    const float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (bf16 || value == 0)
        return (uint16_t)(bits >> 16);
    const uint32_t exponent = (bits >> 23 & 0xff) - 127 + 15;
    return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(exponent << 10) |
           (uint16_t)(bits >> 13 & 0x3ff);
}

static void tensor_cores_multiply(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        int a[16][16], b[16][8];
        uint16_t a_bits[16][16], b_bits[16][8];
        float d[16][8], want[16][8];
        for (int i = 0; i < 16; i++)
            for (int k = 0; k < 16; k++)
                a_bits[i][k] = as_16_bits(a[i][k] = (i * 7 + k * 3) % 11 - 5, bf16);
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                b_bits[k][j] = as_16_bits(b[k][j] = (k * 5 + j) % 9 - 4, bf16);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                want[i][j] = d[i][j] = (float)(i - 2 * j);
                for (int k = 0; k < 16; k++)
                    want[i][j] += (float)(a[i][k] * b[k][j]);
            }
        void *x = on_device(a_bits, sizeof a_bits), *y = on_device(b_bits, sizeof b_bits);
        void *z = on_device(d, sizeof d);
        OK(tdme_mma(z, x, y, bf16, NULL));
        take_back(d, z, sizeof d);
        OK(cudaFree(x));
        OK(cudaFree(y));
        assert_memory_equal(d, want, sizeof want);
    }
}

static void matrices_are_loaded_from_shared_memory(void **state)
{
    (void)state;
    uint16_t in[LANES][8];
    unsigned out[LANES][4];
    for (int i = 0; i < LANES * 8; i++)
        in[i / 8][i % 8] = (uint16_t)(i * 257);
    for (int transposed = 0; transposed < 2; transposed++) {
        void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
        OK(tdme_ldmatrix(y, x, transposed, NULL));
        take_back(out, y, sizeof out);
        OK(cudaFree(x));
        for (int l = 0; l < LANES; l++)
            for (int m = 0; m < 4; m++) {
                const int row = l / 4, col = 2 * (l % 4);
                const unsigned low = transposed ? in[8 * m + col][row] : in[8 * m + row][col];
                const unsigned high =
                    transposed ? in[8 * m + col + 1][row] : in[8 * m + row][col + 1];
                assert_int_equal(out[l][m], low | high << 16);
            }
    }
}

static void copies_arrive(void **state)
{
    (void)state;
    enum { THREADS = 64 };
    int in[4 * THREADS], out[8 * THREADS];
    for (int i = 0; i < 4 * THREADS; i++)
        in[i] = i + 1;
    void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
    OK(tdme_copies(y, x, THREADS, NULL));
    take_back(out, y, sizeof out);
    OK(cudaFree(x));
    assert_memory_equal(out, in, sizeof in);
    for (int i = 4 * THREADS; i < 8 * THREADS; i++)
        assert_int_equal(out[i], 0);
}

static void scalar_functions_mean_what_they_say(void **state)
{
    (void)state;
    static const float WANT[TDME_SCALARS] = {1,  8, 0, 0,  1.41421356f, 3,    8,   31,
                                             32, 4, 0, 1,  -2,          1,    1,   .5f,
                                             -1, 3, 2, 16, 7,           2048, 256, .25f};
    const float in[4] = {1, 2, 3, 4};
    float out[TDME_SCALARS];
    void *x = on_device(in, sizeof in), *y = on_device(NULL, sizeof out);
    OK(tdme_scalars(y, x, NULL));
    take_back(out, y, sizeof out);
    OK(cudaFree(x));
    for (int i = 0; i < TDME_SCALARS; i++)
        if (!(fabsf(out[i] - WANT[i]) <= 0x1p-22f * fabsf(WANT[i])))
            fail_msg("case %d: %g, want %g", i, (double)out[i], (double)WANT[i]);
}

static void the_last_block_sees_what_all_wrote(void **state)
{
    (void)state;
    enum { BLOCKS = 9 };
    unsigned count = 0;
    int sum = 0;
    void *total = on_device(&sum, sizeof sum), *n = on_device(&count, sizeof count);
    void *parts = on_device(NULL, BLOCKS * sizeof(int));
    OK(tdme_last_block(total, parts, n, BLOCKS, NULL));
    take_back(&sum, total, sizeof sum);
    OK(cudaFree(n));
    OK(cudaFree(parts));
    assert_int_equal(sum, BLOCKS * (BLOCKS + 1) / 2);
}

static void launches_have_limits(void **state)
{
    (void)state;
    const struct {
        dim3 grid, block;
        size_t shared_bytes;
        cudaError_t want;
    } cases[] = {
        {{1, 1, 1}, {1024, 1, 1}, 0, cudaSuccess},
        {{1, 1, 1}, {1025, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {32, 33, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1, 1, 65}, 0, cudaErrorInvalidConfiguration},
        {{0, 1, 1}, {32, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 65536, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {32, 1, 1}, 48 << 10, cudaSuccess},
        {{1, 1, 1}, {32, 1, 1}, (48 << 10) + 1, cudaErrorInvalidValue},
    };
    void *p = on_device(NULL, 1024 * 8 * sizeof(int));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            tdme_indices(p, cases[i].grid, cases[i].block, cases[i].shared_bytes, NULL),
            cases[i].want);
        OK(cudaGetLastError()); /* the launcher took it */
    }
    OK(cudaDeviceSynchronize());
    OK(cudaFree(p));
}

static void much_shared_memory_must_be_allowed(void **state)
{
    (void)state;
    int out = 0, most = 0;
    OK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    void *p = on_device(NULL, sizeof out);
    assert_int_equal(tdme_much_shared(p, 60 << 10, 0, NULL), cudaErrorInvalidValue);
    OK(tdme_much_shared(p, 60 << 10, 1, NULL));
    OK(tdme_much_shared(p, most, 1, NULL));
    assert_int_equal(tdme_much_shared(p, most + 4, 1, NULL), cudaErrorInvalidValue);
    OK(cudaGetLastError() == cudaErrorInvalidValue ? cudaSuccess : cudaErrorUnknown);
    take_back(&out, p, sizeof out);
    assert_int_equal(out, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_know_where_they_are),
        cmocka_unit_test(a_row_is_summed_across_warps),
        cmocka_unit_test(barriers_vote),
        cmocka_unit_test(lanes_shuffle),
        cmocka_unit_test(lanes_vote_and_reduce),
        cmocka_unit_test(atomics_lose_nothing),
        cmocka_unit_test(atomic_inc_wraps),
        cmocka_unit_test(tensor_cores_multiply),
        cmocka_unit_test(matrices_are_loaded_from_shared_memory),
        cmocka_unit_test(copies_arrive),
        cmocka_unit_test(scalar_functions_mean_what_they_say),
        cmocka_unit_test(the_last_block_sees_what_all_wrote),
        cmocka_unit_test(launches_have_limits),
        cmocka_unit_test(much_shared_memory_must_be_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
