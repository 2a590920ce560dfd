/* tests/emu/test_backend_ranks.c - the CUDA backend as several ranks: sums and joined columns bit for bit, in every way,
 * alone and in graphs. With fewer devices than a case wants it is left out: a machine with one GPU does what it can. */
#include "tests/emu/ranks_test.h"

/* Call on all ranks; what a rank sees is checked there and comes back as an error. */
#define ON_RANKS(be, call, ctx) ASSERT_OK(tdm_each_rank(be, call, ctx, err))

/* ---- sums ---- */

typedef struct {
    const char *name;
    int64_t rows;
    int32_t cols;
    tdm_dtype dtype;
    size_t room; /* for messages; 0: all */
} sum_case;

static const sum_case SUM_CASES[] = {
    {"one row", 1, 64, TDM_F16, 0},
    {"odd", 3, 7, TDM_F16, 0},
    {"one element", 1, 1, TDM_BF16, 0},
    {"no slice for all", 1, 40, TDM_BF16, 0},
    {"several blocks", 11, 320, TDM_F32, 0},
    {"in pieces", 9, 33, TDM_F16, 256},
};
enum { SEVERAL_BLOCKS = 4, IN_GRAPHS = 5 };

typedef enum { CHOSEN, GATHERED, EXCHANGED } sum_way;

typedef struct {
    const sum_case *c;
    sum_way way;
    int32_t n;
    bool in_graph;
    uint64_t seed;
} sum_job;

static size_t count_of(const sum_case *c)
{
    return (size_t)c->rows * (size_t)c->cols;
}

/* The part of a rank, in f32 and (bytes) as it is sent. Magnitudes differ, so that the order of a sum is seen. */
static float *part_of(const sum_job *job, int32_t rank, void *bytes)
{
    const size_t n = count_of(job->c);
    float *v = random_floats(n, job->seed + (uint64_t)rank), *other = random_floats(n, 99 + (uint64_t)rank);
    for (size_t i = 0; i < n; i++)
        v[i] *= exp2f(12 * other[i]);
    tdm_from_f32(bytes, job->c->dtype, v, n);
    tdm_to_f32(v, bytes, job->c->dtype, n);
    free(other);
    return v;
}

/* The literal loop. */
static void want_sum(const sum_job *job, void *bytes)
{
    const size_t n = count_of(job->c);
    float *sum = part_of(job, 0, bytes);
    for (int32_t r = 1; r < job->n; r++) {
        float *v = part_of(job, r, bytes);
        for (size_t i = 0; i < n; i++)
            sum[i] += v[i];
        free(v);
    }
    tdm_from_f32(bytes, job->c->dtype, sum, n);
    free(sum);
}

static tdm_status enqueue_sum(const tdm_backend *be, const sum_job *job, tdm_mat y, tdm_err *err)
{
    switch (job->way) {
    case GATHERED:
        return cuda_sum_gathered(be->self, y, err);
    case EXCHANGED:
        return cuda_sum_exchanged(be->self, y, err);
    default:
        return tdm_sum_ranks(be, y, err);
    }
}

static tdm_status record_sum(const tdm_backend *be, const sum_job *job, tdm_mat y, tdm_graph **graph, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *graph = NULL;
    TDM_TRY(enqueue_sum(be, job, y, err)); /* a kernel may not be loaded in a capture */
    TDM_TRY(tdm_graph_begin(be, err));
    st = enqueue_sum(be, job, y, err);
    const tdm_status end = tdm_graph_end(be, graph, st == TDM_OK ? err : NULL);
    st = st == TDM_OK ? end : st;
done:
    return st;
}

static tdm_status check_bytes(const void *got, const void *want, size_t bytes, const sum_job *job, int32_t rank,
                              tdm_err *err)
{
    for (size_t i = 0; i < bytes; i++)
        if (((const char *)got)[i] != ((const char *)want)[i])
            return tdm_fail(err, TDM_EINTERNAL, "%s, way %d, rank %d of %d: byte %zu of %zu", job->c->name, job->way,
                            rank, job->n, i, bytes);
    return TDM_OK;
}

/* Upload one's part, sum up, look at the sum; in graphs several times, with other parts each. */
static tdm_status sum_on_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    sum_job job = *(const sum_job *)ctx;
    const sum_case *c = job.c;
    const size_t bytes = count_of(c) * tdm_dtype_size(c->dtype);
    tdm_mat y = {NULL, c->rows, c->cols, c->dtype, 0};
    tdm_graph *graph = NULL;
    char *part = malloc(bytes), *want = malloc(bytes), *got = malloc(bytes + 1);
    TDM_REQUIRE(part && want && got, TDM_ENOMEM, "buffers");
    leave_room(be, c->room);
    TDM_TRY(tdm_alloc(be, bytes + 1, &y.p, err));
    TDM_TRY(tdm_upload(be, (char *)y.p + bytes, "G", 1, err)); /* and nothing behind it */
    if (job.in_graph)
        TDM_TRY(record_sum(be, &job, y, &graph, err));
    for (int i = 0; i < (graph ? 6 : 1); i++, job.seed += 100) {
        free(part_of(&job, rank, part));
        want_sum(&job, want);
        TDM_TRY(tdm_upload(be, y.p, part, bytes, err));
        TDM_TRY(graph ? tdm_graph_run(be, graph, err) : enqueue_sum(be, &job, y, err));
        TDM_TRY(tdm_download(be, got, y.p, bytes + 1, err));
        TDM_TRY(check_bytes(got, want, bytes, &job, rank, err));
        TDM_REQUIRE(got[bytes] == 'G', TDM_EINTERNAL, "%s: behind the end", c->name);
    }
done:
    leave_room(be, 0);
    tdm_graph_close(be, graph);
    tdm_release(be, y.p);
    free(part), free(want), free(got);
    return st;
}

static bool is_act(const tdm_backend *be, const sum_case *c)
{
    return c->dtype == TDM_F32 || c->dtype == be->dtype;
}

static void check_sums(const tdm_backend *be)
{
    const int32_t n = tdm_rank_count(be);
    for (size_t i = 0; i < COUNT(SUM_CASES); i++)
        for (int way = CHOSEN; way <= EXCHANGED; way++)
            if (way != CHOSEN || is_act(be, &SUM_CASES[i]))
                ON_RANKS(be, sum_on_rank, (&(sum_job){&SUM_CASES[i], (sum_way)way, n, false, 1}));
    for (int way = GATHERED; way <= EXCHANGED; way++)
        ON_RANKS(be, sum_on_rank, (&(sum_job){&SUM_CASES[IN_GRAPHS], (sum_way)way, n, true, 7}));
}

/* The order of the ranks matters in these sums, or it would not be seen. */
static void sums_depend_on_the_order(void **state)
{
    (void)state;
    const sum_job job = {&SUM_CASES[SEVERAL_BLOCKS], CHOSEN, 3, false, 1};
    const size_t n = count_of(job.c);
    float *bytes = random_floats(n, 0), *parts[3];
    size_t differ = 0;
    for (int32_t r = 0; r < 3; r++)
        parts[r] = part_of(&job, r, bytes);
    for (size_t i = 0; i < n; i++) {
        const float forth = (parts[0][i] + parts[1][i]) + parts[2][i], back = (parts[2][i] + parts[1][i]) + parts[0][i];
        differ += forth != back;
    }
    assert_true(differ > 0);
    for (int r = 0; r < 3; r++)
        free(parts[r]);
    free(bytes);
}

/* ---- columns ---- */

typedef struct {
    int64_t rows;
    int32_t width, cols, stride;
    size_t room;
} join_case;

typedef struct {
    join_case c;
    int32_t n;
} join_job;

static float cell_of(int32_t rank, int64_t row, int32_t column)
{
    return (float)(rank * 100000 + row * 1000 + column);
}

static tdm_status join_on_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const join_job *job = ctx;
    const join_case *c = &job->c;
    const size_t stride = (size_t)(c->stride ? c->stride : c->cols), width = (size_t)c->width;
    const size_t cells = (size_t)c->rows * stride, own = (size_t)c->rows * width;
    tdm_mat y = {NULL, c->rows, c->cols, TDM_F32, c->stride}, x = {NULL, c->rows, c->width, TDM_F32, 0};
    float *values = malloc((own + cells + 1) * sizeof *values), *got = values + own;
    TDM_REQUIRE(values, TDM_ENOMEM, "buffers");
    leave_room(be, c->room);
    for (size_t i = 0; i < own; i++)
        values[i] = cell_of(rank, (int64_t)(i / width), (int32_t)(i % width));
    got[cells] = -7;
    TDM_TRY(tdm_alloc(be, own * sizeof *values, &x.p, err));
    TDM_TRY(tdm_alloc(be, (cells + 1) * sizeof *values, &y.p, err));
    TDM_TRY(tdm_upload(be, x.p, values, own * sizeof *values, err));
    TDM_TRY(tdm_upload(be, (float *)y.p + cells, got + cells, sizeof *got, err));
    TDM_TRY(tdm_join_ranks(be, y, x, err));
    TDM_TRY(tdm_download(be, got, y.p, (cells + 1) * sizeof *got, err));
    for (int64_t i = 0; i < c->rows; i++)
        for (int32_t j = 0; j < c->cols; j++)
            TDM_REQUIRE(got[(size_t)i * stride + (size_t)j] == cell_of(j / c->width, i, j % c->width), TDM_EINTERNAL,
                        "rank %d of %d, %d columns of %d: [%d, %d]", rank, job->n, c->cols, c->width, (int)i, j);
    TDM_REQUIRE(got[cells] == -7, TDM_EINTERNAL, "behind the end");
done:
    leave_room(be, 0);
    tdm_release(be, x.p);
    tdm_release(be, y.p);
    free(values);
    return st;
}

static void check_joins(const tdm_backend *be)
{
    const int32_t n = tdm_rank_count(be), most = 64 * n;
    const join_case CASES[] = {
        {3, 64, most, 0, 0},
        {3, 64, most - 13, tdm_padded(most - 13), 0},
        {2, 64, most - 13, 0, 0},
        {5, 64, n > 1 ? most - 80 : 50, n > 1 ? most - 64 : 64, 0}, /* of the last rank nothing */
        {7, 64, most - 1, most, (size_t)n * 64 * sizeof(float) * 3}, /* three rows a piece */
    };
    for (size_t i = 0; i < COUNT(CASES); i++)
        ON_RANKS(be, join_on_rank, (&(join_job){CASES[i], n}));
}

static tdm_status join_too_wide(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)ctx, (void)rank;
    cuda_backend *c = be->self;
    float cells[64];
    leave_room(be, 240);
    const tdm_status st = cuda_join_ranks(c, (tdm_mat){cells, 1, 64, TDM_F32, 0}, (tdm_mat){cells, 1, 64, TDM_F32, 0}, err);
    leave_room(be, 0);
    return st;
}

static void rows_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    tdm_backend be = open_ranks(1, TDM_F32);
    ASSERT_FAILS(tdm_each_rank(&be, join_too_wide, NULL, err), TDM_EARG, "rows of 1 ranks x 64 columns, at most 240 bytes");
    tdm_backend_close(&be);
}

static void ranks_do_as_the_loops(void **state)
{
    (void)state;
    static const int32_t N[] = {1, 2, 3, 4, 5, 7};
    for (size_t i = 0; i < COUNT(N) && N[i] <= n_devices; i++) {
        tdm_backend be = open_ranks(N[i], DTYPES[i % 3]);
        check_sums(&be);
        check_joins(&be);
        tdm_backend_close(&be);
    }
}

/* As a user does who looks for the operation that fails: every one is waited for. */
static void ranks_wait_for_every_operation(void **state)
{
    (void)state;
    if (n_devices < 2)
        skip();
    setenv("TDM_SYNC", "1", 1);
    tdm_backend be = open_ranks(2, TDM_F16);
    unsetenv("TDM_SYNC");
    assert_false(tdm_has_graphs(tdm_rank_backend(&be, 0)));
    for (int way = CHOSEN; way <= EXCHANGED; way++)
        ON_RANKS(&be, sum_on_rank, (&(sum_job){&SUM_CASES[0], (sum_way)way, 2, false, 1}));
    check_joins(&be);
    tdm_backend_close(&be);
}

int main(void)
{
    count_devices();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_depend_on_the_order),
        cmocka_unit_test(ranks_do_as_the_loops),
        cmocka_unit_test(ranks_wait_for_every_operation),
        cmocka_unit_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
