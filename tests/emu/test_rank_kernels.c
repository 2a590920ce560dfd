/* tests/emu/test_rank_kernels.c - kernels/ranks.cu against the literal loops, bit for bit. */
#include "tests/emu/kernel_test.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};
static const int32_t RANKS[] = {1, 2, 3, 4, 5, 7, 8};

/* ---- sums ---- */

typedef struct {
    const char *name;
    int64_t n;
    size_t shift; /* elements that y and the parts lie behind an aligned address */
} add_case;

static const add_case ADD[] = {
    {"one element", 1, 0},       {"less than 16 bytes", 3, 0},   {"16 bytes", 8, 0},
    {"odd", 1001, 0},            {"several blocks", 8 * 700, 0}, {"not aligned", 64, 1},
    {"a block and a thread", 257, 0},
};

static float order(const float *values, int32_t ranks, int64_t n, int64_t i, bool backwards)
{
    float sum = values[(backwards ? ranks - 1 : 0) * n + i];
    for (int32_t r = 1; r < ranks; r++)
        sum += values[(backwards ? ranks - 1 - r : r) * n + i];
    return sum;
}

/* Of magnitudes so different that the order of a sum is seen; the first element is -0 everywhere. */
static float *parts_of(int32_t ranks, int64_t n, tdm_dtype dtype)
{
    const size_t all = (size_t)ranks * (size_t)n;
    float *v = random_values(all, 5, 1, 0), *other = random_values(all, 6, 1, 0);
    void *narrowed = checked(malloc(all * sizeof *v));
    for (size_t i = 0; i < all; i++)
        v[i] = i % (size_t)n == 0 ? -0.f : v[i] * exp2f(12 * other[i]);
    narrow(narrowed, v, dtype, all);
    tdm_to_f32(v, narrowed, dtype, all);
    free(narrowed);
    free(other);
    return v;
}

/* The number of elements whose sum from the last rank on has other bits. */
static size_t check_add(const add_case *c, int32_t ranks, tdm_dtype dtype)
{
    const size_t n = (size_t)c->n, item = tdm_dtype_size(dtype), all = (size_t)ranks * n;
    float *v = parts_of(ranks, c->n, dtype), *want = checked(malloc(n * sizeof *want));
    char *bytes = checked(calloc(all + c->shift + 1, item)), *expected = checked(malloc(n * item));
    char *got = checked(malloc((n + 1) * item));
    size_t differ = 0;
    narrow(bytes + c->shift * item, v, dtype, all);
    for (int64_t i = 0; i < c->n; i++) {
        want[i] = order(v, ranks, c->n, i, false);
        differ += bits_of(want[i]) != bits_of(order(v, ranks, c->n, i, true));
    }
    narrow(expected, want, dtype, n);
    char *parts = (char *)on_device(bytes, (all + c->shift) * item) + c->shift * item;
    memset(got, 0x5a, (n + 1) * item);
    char *y = (char *)on_device(bytes, (n + 1 + c->shift) * item) + c->shift * item;
    ASSERT_CUDA(cudaMemcpy(y, got, (n + 1) * item, cudaMemcpyHostToDevice));
    ASSERT_CUDA(tdmk_add_ranks(y, parts, dtype, ranks, c->n, NULL));
    fetch(got, y, (n + 1) * item);
    for (size_t i = 0; i < n * item; i++)
        if (got[i] != expected[i])
            fail_msg("%s, %d ranks, %s: byte %zu of %zu", c->name, ranks, tdm_dtype_name(dtype), i, n * item);
    assert_int_equal(got[n * item], 0x5a); /* and nothing behind it */
    free_device();
    free(v), free(want), free(bytes), free(expected), free(got);
    return differ;
}

static void sums_are_in_order(void **state)
{
    (void)state;
    for (size_t d = 0; d < COUNT(DTYPES); d++)
        for (size_t r = 0; r < COUNT(RANKS); r++)
            for (size_t c = 0; c < COUNT(ADD); c++) {
                const size_t differ = check_add(&ADD[c], RANKS[r], DTYPES[d]);
                if (RANKS[r] > 2 && ADD[c].n > 1000)
                    assert_true(differ > 0); /* or the order would not be seen */
            }
}

/* ---- columns ---- */

typedef struct {
    const char *name;
    int32_t ranks, width, cols, stride;
} join_case;

static const join_case JOIN[] = {
    {"one rank", 1, 64, 50, 64},          {"one rank, no gap", 1, 64, 50, 50}, {"the last is short", 3, 64, 130, 192},
    {"no gap", 3, 64, 130, 130},          {"the last is empty", 4, 64, 190, 192},
    {"all are full", 2, 64, 128, 0},      {"more than a block", 2, 832, 1601, 1664}, {"odd width", 5, 7, 33, 36},
};

static void check_join(const join_case *c, int64_t rows)
{
    const size_t stride = (size_t)(c->stride ? c->stride : c->cols), width = (size_t)c->width;
    const size_t all = (size_t)c->ranks * (size_t)rows * width, cells = (size_t)rows * stride;
    float *v = random_values(all, 9, 1, 0), *got = checked(malloc((cells + 1) * sizeof *got));
    memset(got, 0x5a, (cells + 1) * sizeof *got);
    const float guard = got[cells], *parts = on_device(v, all * sizeof *v);
    float *y = on_device(got, (cells + 1) * sizeof *got);
    const tdm_mat m = {y, rows, c->cols, TDM_F32, c->stride};
    ASSERT_CUDA(tdmk_join_ranks(m, parts, c->width, NULL));
    fetch(got, y, (cells + 1) * sizeof *got);
    for (size_t i = 0; i < (size_t)rows; i++)
        for (size_t j = 0; j < (size_t)c->cols; j++)
            if (got[i * stride + j] != v[(j / width * (size_t)rows + i) * width + j % width])
                fail_msg("%s: [%zu, %zu]", c->name, i, j);
    assert_true(got[cells] == guard);
    free_device();
    free(v), free(got);
}

static void columns_are_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(JOIN); i++) {
        check_join(&JOIN[i], 1);
        check_join(&JOIN[i], 3);
    }
}

/* ---- the embedding ---- */

enum { E = 64, WORDS = 10, PLACES = 4, ROWS = 6, PARTS = 3 };
static const int32_t FIRST[PARTS + 1] = {0, 4, WORDS, WORDS}; /* the last rank has no words */

/* Rank `part` of PARTS, or (-1) all. */
static void embed_part(tdm_mat y, const tdm_step *step, tdm_mat words, tdm_mat positions, int part)
{
    const int32_t first = part < 0 ? 0 : FIRST[part];
    words.rows = part < 0 ? WORDS : FIRST[part + 1] - first;
    words.p = words.rows ? (char *)words.p + (size_t)first * E * tdm_dtype_size(words.dtype) : NULL;
    if (part > 0)
        positions = (tdm_mat){0};
    ASSERT_CUDA(tdmk_embed(y, step, words, first, positions, 0, part >= 0, NULL));
}

/* The sum over the ranks is what one alone computes, -0 too. */
static void embeddings_of_ranks_add_up(void **state)
{
    (void)state;
    static const int32_t TOKENS[ROWS] = {0, 9, 4, 3, 1, 7}, AT[ROWS] = {0, 1, 2, 3, -1, 0}, SLOTS[ROWS] = {0, 1, 2, 3, 4, -1};
    float *w = random_values(WORDS * E, 1, 1, 0), *p = random_values(PLACES * E, 2, 1, 0);
    float *nothing = checked(calloc(PARTS * ROWS * E, sizeof *nothing));
    for (int i = 0; i < WORDS * E; i += 2)
        w[i] = -0.f;
    for (int i = 0; i < PLACES * E; i += 3)
        p[i] = -0.f;
    const tdm_mat words = matrix(w, WORDS, E, TDM_F16), positions = matrix(p, PLACES, E, TDM_F32);
    const tdm_mat alone = matrix(nothing, ROWS, E, TDM_F32), sum = matrix(nothing, ROWS, E, TDM_F32);
    const tdm_mat parts = matrix(nothing, PARTS * ROWS, E, TDM_F32);
    const tdm_step step = {.n_rows = ROWS,
                           .n_seqs = ROWS,
                           .longest = 1,
                           .tokens = on_device(TOKENS, sizeof TOKENS),
                           .positions = on_device(AT, sizeof AT),
                           .slots = on_device(SLOTS, sizeof SLOTS)};
    embed_part(alone, &step, words, positions, -1);
    for (int i = 0; i < PARTS; i++) {
        tdm_mat y = row_of(parts, i * ROWS);
        y.rows = ROWS;
        embed_part(y, &step, words, positions, i);
    }
    ASSERT_CUDA(tdmk_add_ranks(sum.p, parts.p, TDM_F32, PARTS, ROWS * E, NULL));
    float *want = values_of(alone), *got = values_of(sum);
    for (int i = 0; i < ROWS * E; i++)
        if (bits_of(want[i]) != bits_of(got[i]))
            fail_msg("row %d, column %d: %g, want %g", i / E, i % E, (double)got[i], (double)want[i]);
    assert_true(bits_of(want[0]) == bits_of(-0.f)); /* or it would not be seen */
    free_device();
    free(w), free(p), free(nothing), free(want), free(got);
}

static void the_launchers_check(void **state)
{
    (void)state;
    float *values = random_values(64, 1, 1, 0);
    tdm_mat m = matrix(values, 8, 8, TDM_F32);
    ASSERT_CUDA(tdmk_add_ranks(m.p, m.p, TDM_F32, 1, 0, NULL));
    ASSERT_REFUSED(tdmk_add_ranks(m.p, m.p, TDM_F32, 0, 8, NULL));
    ASSERT_REFUSED(tdmk_add_ranks(m.p, m.p, TDM_F32, 1, -1, NULL));
    ASSERT_REFUSED(tdmk_add_ranks(m.p, m.p, (tdm_dtype)3, 1, 8, NULL));
    ASSERT_REFUSED(tdmk_join_ranks(m, m.p, 0, NULL));
    m.rows = 0;
    ASSERT_CUDA(tdmk_join_ranks(m, m.p, 8, NULL));
    m.rows = 65536;
    ASSERT_REFUSED(tdmk_join_ranks(m, m.p, 8, NULL));
    m.rows = 8;
    m.stride = 7;
    ASSERT_REFUSED(tdmk_join_ranks(m, m.p, 8, NULL));
    m.stride = 0;
    m.dtype = TDM_F16;
    ASSERT_REFUSED(tdmk_join_ranks(m, m.p, 8, NULL));
    free_device();
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_in_order),
        cmocka_unit_test(columns_are_in_order),
        cmocka_unit_test(embeddings_of_ranks_add_up),
        cmocka_unit_test(the_launchers_check),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
