/* tests/test_cpu_ranks.c - what ranks do together on the CPU: sums in the order of the ranks, columns side by side, the
 * embedding in parts; and failures at each of them. Meant to run under ThreadSanitizer too. */
#include "host/ranks.h"
#include "tests/ops_reference.h"

enum { MOST = 7 };

static tdm_backend open_ranks(int32_t n)
{
    tdm_backend be;
    ASSERT_OK(tdm_open_cpu_ranks(n, 1, &be, err));
    return be;
}

static void on_each(const tdm_backend *be, tdm_rank_call call, void *ctx)
{
    ASSERT_OK(tdm_each_rank(be, call, ctx, err));
}

/* ---- sums ---- */

typedef struct {
    int64_t rows;
    int32_t cols;
    float *y[MOST];
} sum_job;

static tdm_status sum_up(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const sum_job *job = ctx;
    return tdm_sum_ranks(be, mat(job->y[rank], job->rows, job->cols), err);
}

/* Numbers of many sizes, so that the order of the sum shows. */
static float *uneven_floats(size_t n, uint64_t seed)
{
    float *p = random_floats(n, seed);
    for (size_t i = 0; i < n; i++)
        p[i] = ldexpf(p[i], (int)((i + seed) * 7 % 24));
    return p;
}

static void check_sum(const tdm_backend *be, int32_t n, int64_t rows, int32_t cols)
{
    const size_t size = (size_t)rows * (size_t)cols;
    float *want = random_floats(size, 1), *otherwise = random_floats(size, 1);
    sum_job job = {.rows = rows, .cols = cols};
    for (int32_t r = 0; r < n; r++)
        job.y[r] = uneven_floats(size, (uint64_t)r + 1);
    for (size_t i = 0; i < size; i++) {
        want[i] = job.y[0][i];
        for (int32_t r = 1; r < n; r++)
            want[i] += job.y[r][i];
        otherwise[i] = job.y[n - 1][i];
        for (int32_t r = n - 2; r >= 0; r--)
            otherwise[i] += job.y[r][i];
    }
    if (n > 2 && size > 100)
        assert_memory_not_equal(want, otherwise, size * sizeof *want);
    on_each(be, sum_up, &job);
    for (int32_t r = 0; r < n; r++) {
        assert_memory_equal(job.y[r], want, size * sizeof *want);
        free(job.y[r]);
    }
    free(want);
    free(otherwise);
}

static void sums_have_the_order_of_ranks(void **state)
{
    (void)state;
    static const struct {
        int64_t rows;
        int32_t cols;
    } SHAPES[] = {{1, 1}, {1, 5}, {3, 77}, {0, 64}, {7, 192}, {2, 1600}, {1, 3}};
    static const int32_t NS[] = {1, 2, 3, 5, 7};
    for (size_t k = 0; k < COUNT(NS); k++) {
        tdm_backend be = open_ranks(NS[k]);
        for (size_t i = 0; i < COUNT(SHAPES); i++)
            check_sum(&be, NS[k], SHAPES[i].rows, SHAPES[i].cols);
        tdm_backend_close(&be);
    }
}

/* ---- columns side by side ---- */

typedef struct {
    const char *name;
    int32_t n;
    int64_t rows;
    int32_t block, vocab;
    bool padded; /* rows of y have gaps */
} join_case;

static const join_case JOINS[] = {
    {"one rank", 1, 3, 64, 50, true},
    {"nothing is dropped", 2, 3, 64, 128, false},
    {"the last is short", 3, 4, 64, 150, false},
    {"the last is short, gaps", 3, 4, 64, 150, true},
    {"the last is empty", 4, 2, 64, 192, false},
    {"two are empty", 4, 2, 64, 100, true},
    {"narrow", 3, 5, 2, 5, false},
    {"no rows", 2, 0, 64, 100, true},
};

typedef struct {
    const join_case *c;
    float *x[MOST], *y[MOST];
} join_job;

static int32_t stride_of(const join_case *c)
{
    return c->padded ? tdm_padded(c->vocab) : c->vocab;
}

static tdm_status join(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const join_job *job = ctx;
    tdm_mat y = mat(job->y[rank], job->c->rows, job->c->vocab);
    y.stride = stride_of(job->c);
    return tdm_join_ranks(be, y, mat(job->x[rank], job->c->rows, job->c->block), err);
}

static void check_join(const join_case *c)
{
    tdm_backend be = open_ranks(c->n);
    join_job job = {.c = c};
    const size_t rows = (size_t)c->rows, block = (size_t)c->block, stride = (size_t)stride_of(c);
    for (int32_t r = 0; r < c->n; r++) {
        job.x[r] = random_floats(rows * block, (uint64_t)r);
        job.y[r] = random_floats(rows * stride, 99);
    }
    on_each(&be, join, &job);
    for (int32_t r = 0; r < c->n; r++)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < (size_t)c->vocab; j++)
                if (job.y[r][i * stride + j] != job.x[j / block][i * block + j % block])
                    fail_msg("%s: rank %d, [%zu, %zu]", c->name, r, i, j);
    for (int32_t r = 0; r < c->n; r++) {
        free(job.x[r]);
        free(job.y[r]);
    }
    tdm_backend_close(&be);
}

static void columns_come_side_by_side(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(JOINS); i++)
        check_join(&JOINS[i]);
}

/* ---- one behind the other ---- */

enum { TIMES = 300, COLUMNS = 40 };

static tdm_status take_turns(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    (void)ctx;
    float x[COLUMNS], all[3 * COLUMNS];
    for (int i = 0; i < TIMES; i++) {
        for (int j = 0; j < COLUMNS; j++)
            x[j] = (float)(rank + i + j);
        if (i % 2) {
            TDM_TRY(tdm_join_ranks(be, mat(all, 1, 3 * COLUMNS), mat(x, 1, COLUMNS), err));
            for (int j = 0; j < 3 * COLUMNS; j++)
                TDM_REQUIRE(all[j] == (float)(j / COLUMNS + i + j % COLUMNS), TDM_EINTERNAL, "join %d, %d", i, j);
        } else {
            TDM_TRY(tdm_sum_ranks(be, mat(x, 1, COLUMNS), err));
            for (int j = 0; j < COLUMNS; j++)
                TDM_REQUIRE(x[j] == (float)(3 + 3 * i + 3 * j), TDM_EINTERNAL, "sum %d, %d", i, j);
        }
    }
done:
    return st;
}

/* Whoever is through with a sum or a join may write at once what it read. */
static void operations_follow_each_other(void **state)
{
    (void)state;
    tdm_backend be = open_ranks(3);
    on_each(&be, take_turns, NULL);
    tdm_backend_close(&be);
}

/* ---- the embedding in parts ---- */

enum { VOCAB = 300, PLACES = 40, WIDTH = 70, ROWS = 45 };

typedef struct {
    const tdm_step *step;
    tdm_mat words, positions;
    float *y[MOST];
} embed_job;

static tdm_status embed_part(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const embed_job *job = ctx;
    const tdm_share mine = tdm_part_of(1, 64, VOCAB, rank, be->n_ranks).words;
    const size_t row = WIDTH * tdm_dtype_size(job->words.dtype);
    const tdm_mat y = mat(job->y[rank], job->step->n_rows, WIDTH), none = {.cols = WIDTH};
    tdm_mat words = job->words;
    words.p = mine.n ? (char *)words.p + (size_t)mine.first * row : NULL;
    words.rows = mine.n;
    TDM_TRY(tdm_embed(be, y, job->step, words, mine.first, rank ? none : job->positions, 2, err));
    TDM_TRY(tdm_sum_ranks(be, y, err));
done:
    return st;
}

/* Finite numbers of any size, and -0 in a third of the columns. */
static void *make_table(size_t rows, tdm_dtype dtype, uint64_t seed)
{
    const size_t n = rows * WIDTH;
    uint32_t *whole = calloc(n, sizeof *whole);
    assert_non_null(whole);
    uint16_t *half = (uint16_t *)whole;
    for (size_t i = 0; i < n; i++) {
        const float value = ldexpf(uniform(&seed), (int)(i % 9) - 4);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (i % WIDTH % 3 == 0)
            bits = 0x80000000u;
        if (dtype == TDM_F32)
            whole[i] = bits;
        else /* of f16 too the upper half of such a number is one, of whatever size */
            half[i] = (uint16_t)(bits >> 16);
    }
    return whole;
}

static void check_embed(const tdm_backend *alone, const tdm_backend *be, const tdm_step *step, tdm_dtype dtype)
{
    float *want = random_floats((size_t)step->n_rows * WIDTH, 1);
    const size_t bytes = (size_t)step->n_rows * WIDTH * sizeof *want;
    embed_job job = {.step = step,
                     .words = {make_table(VOCAB, dtype, 2), VOCAB, WIDTH, dtype, 0},
                     .positions = {make_table(PLACES, dtype, 3), PLACES, WIDTH, dtype, 0}};
    ASSERT_OK(tdm_embed(alone, mat(want, step->n_rows, WIDTH), step, job.words, 0, job.positions, 2, err));
    assert_true(signbit(want[0]) && want[0] == 0); /* -0 + -0 */
    for (int32_t r = 0; r < tdm_rank_count(be); r++)
        job.y[r] = random_floats((size_t)step->n_rows * WIDTH, 4);
    on_each(be, embed_part, &job);
    for (int32_t r = 0; r < tdm_rank_count(be); r++) {
        assert_memory_equal(job.y[r], want, bytes);
        free(job.y[r]);
    }
    free(want);
    free(job.words.p);
    free(job.positions.p);
}

static void parts_of_embeddings_sum_up(void **state)
{
    (void)state;
    static const int32_t NS[] = {1, 2, 3, 7};
    static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};
    int32_t tokens[ROWS], positions[ROWS], slots[ROWS];
    for (int32_t r = 0; r < ROWS; r++) {
        tokens[r] = r < 9 ? (r + 1) / 2 * 64 - r % 2 : r * 7 % VOCAB; /* on both sides of every border */
        positions[r] = r % 5 == 3 ? -1 : r * 5 % (PLACES - 2);
        slots[r] = r % 7 == 2 ? -1 : r;
    }
    tokens[10] = VOCAB - 1;
    const tdm_step decoding = {.n_rows = ROWS, .n_seqs = ROWS, .longest = 1, .tokens = tokens,
                               .positions = positions, .slots = slots};
    int32_t places[ROWS];
    for (int32_t r = 0; r < ROWS; r++)
        places[r] = r * 5 % (PLACES - 2);
    const int32_t starts[] = {0, ROWS};
    const tdm_step ragged = {.n_rows = ROWS, .n_seqs = 1, .longest = ROWS, .tokens = tokens, .positions = places,
                             .starts = starts};
    tdm_backend alone;
    ASSERT_OK(tdm_open_cpu(1, &alone, err));
    for (size_t k = 0; k < COUNT(NS); k++) {
        tdm_backend be = open_ranks(NS[k]);
        for (size_t d = 0; d < COUNT(DTYPES); d++) {
            check_embed(&alone, &be, &ragged, DTYPES[d]);
            check_embed(&alone, &be, &decoding, DTYPES[d]);
        }
        tdm_backend_close(&be);
    }
    tdm_backend_close(&alone);
}

/* ---- failures ---- */

static tdm_status sum_or_fail(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    static float y[MOST][8];
    const int32_t fails = *(const int32_t *)ctx;
    return rank == fails ? tdm_fail(err, TDM_EIO, "the disk") : tdm_sum_ranks(be, mat(y[rank], 1, 8), err);
}

static tdm_status join_or_fail(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    static float x[MOST][8], y[MOST][8 * MOST];
    const int32_t fails = *(const int32_t *)ctx;
    return rank == fails ? tdm_fail(err, TDM_EIO, "the disk")
                         : tdm_join_ranks(be, mat(y[rank], 1, 8), mat(x[rank], 1, 8), err);
}

static void who_waits_is_ended(void **state)
{
    (void)state;
    static const tdm_rank_call CALLS[] = {sum_or_fail, join_or_fail};
    static const char *MESSAGES[] = {"rank 0: the disk", "rank 1: the disk", "rank 2: the disk"};
    for (int32_t fails = 0; fails < 3; fails++)
        for (size_t i = 0; i < COUNT(CALLS); i++) {
            tdm_backend be = open_ranks(3);
            int32_t nobody = -1;
            on_each(&be, CALLS[i], &nobody);
            ASSERT_FAILS(tdm_each_rank(&be, CALLS[i], &fails, err), TDM_EIO, MESSAGES[fails]);
            ASSERT_FAILS(tdm_each_rank(&be, CALLS[i], &nobody, err), TDM_ESTOPPED, MESSAGES[fails]);
            tdm_backend_close(&be);
        }
}

typedef struct {
    tdm_mat sums[3]; /* of the ranks */
    int32_t joins;   /* the rank that joins instead; -1: none */
    const char *message;
} mismatch;

static tdm_status meet_differently(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const mismatch *m = ctx;
    const tdm_mat y = m->sums[rank];
    static float joined[12];
    return rank == m->joins ? tdm_join_ranks(be, mat(joined, y.rows, y.cols), y, err) : tdm_sum_ranks(be, y, err);
}

/* All ranks say so, in the same words; they are usable then. */
static void different_shapes_are_refused(void **state)
{
    (void)state;
    float y[3][12] = {{0}};
    const mismatch cases[] = {
        {{mat(y[0], 3, 4), mat(y[1], 3, 4), mat(y[2], 2, 4)}, -1,
         "sum_ranks: rank 0 sums up 3 x 4, rank 2 sums up 2 x 4"},
        {{mat(y[0], 3, 4), mat(y[1], 3, 2), mat(y[2], 3, 4)}, -1,
         "sum_ranks: rank 0 sums up 3 x 4, rank 1 sums up 3 x 2"},
    };
    tdm_backend be = open_ranks(3);
    for (size_t i = 0; i < COUNT(cases); i++) {
        tdm_err e = {0};
        assert_int_equal(tdm_each_rank(&be, meet_differently, (void *)&cases[i], &e), TDM_EINTERNAL);
        assert_string_equal(e.msg, cases[i].message);
    }
    sum_job job = {.rows = 3, .cols = 4, .y = {y[0], y[1], y[2]}};
    on_each(&be, sum_up, &job);
    const mismatch other = {{mat(y[0], 3, 4), mat(y[1], 3, 4), mat(y[2], 3, 4)}, 1, ""};
    ASSERT_FAILS(tdm_each_rank(&be, meet_differently, (void *)&other, err), TDM_EINTERNAL,
                 "rank 0 sums up 3 x 4, rank 1 joins 3 x 4 to 4 columns");
    tdm_backend_close(&be);
}

static tdm_status sum_and_fail(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const int32_t nobody = -1;
    (void)ctx;
    const tdm_status st = sum_or_fail((void *)&nobody, be, rank, err);
    return st == TDM_OK ? tdm_fail(err, TDM_EARG, "bad argument") : st;
}

/* One that still waits at a complete meeting, while another one has come back from it and failed, fails by itself. */
static void failing_alike_behind_a_sum_ends_nobody(void **state)
{
    (void)state;
    tdm_backend be = open_ranks(3);
    for (int i = 0; i < TIMES; i++) {
        tdm_err e = {0};
        assert_int_equal(tdm_each_rank(&be, sum_and_fail, NULL, &e), TDM_EARG);
        assert_string_equal(e.msg, "bad argument");
    }
    tdm_backend_close(&be);
}

static void numbers_of_ranks(void **state)
{
    (void)state;
    tdm_backend alone, be;
    ASSERT_OK(tdm_open_cpu(1, &alone, err));
    ASSERT_FAILS(tdm_open_cpu_ranks(0, 1, &be, err), TDM_EARG, "0 ranks, want 1 to 64");
    ASSERT_FAILS(tdm_open_cpu_ranks(65, 1, &be, err), TDM_EARG, "65 ranks");
    ASSERT_FAILS(tdm_open_cpu_ranks(2, -1, &be, err), TDM_EARG, "-1 threads");
    ASSERT_OK(tdm_open_cpu_ranks(1, 0, &be, err));
    assert_string_equal(be.device, "cpu, 1 rank");
    assert_string_equal(be.identity, alone.identity); /* its bits are the same */
    tdm_backend_close(&be);
    ASSERT_OK(tdm_open_cpu_ranks(TDM_MOST_RANKS, 0, &be, err));
    assert_string_equal(be.device, "cpu, 64 ranks");
    assert_int_equal(tdm_rank_count(&be), TDM_MOST_RANKS);
    assert_in_range(tdm_backend_memory(&be), 1, tdm_backend_memory(&alone) / 32); /* a rank's part of what is left */
    tdm_backend_close(&be);
    tdm_backend_close(&alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_order_of_ranks),
        cmocka_unit_test(columns_come_side_by_side),
        cmocka_unit_test(operations_follow_each_other),
        cmocka_unit_test(parts_of_embeddings_sum_up),
        cmocka_unit_test(who_waits_is_ended),
        cmocka_unit_test(different_shapes_are_refused),
        cmocka_unit_test(failing_alike_behind_a_sum_ends_nobody),
        cmocka_unit_test(numbers_of_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
