/* tests/emu/test_stats_kernels.c - kernels/stats.cu and kernels/top.cu against float64. */
#include "tests/emu/logit_rows.h"

#include <float.h>

/* The statistics of one row in float64; fields 0 .. 2 are logprob, entropy, variance. */
static int32_t plain_stats(double want[3], const float *row, int32_t n, int32_t target)
{
    double largest = -INFINITY, sum = 0, entropy = 0, variance = 0;
    int32_t rank = 1;
    for (int32_t i = 0; i < n; i++) {
        largest = fmax(largest, (double)row[i]);
        rank += row[i] > row[target];
    }
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)row[i] - largest);
    for (int32_t i = 0; i < n; i++) {
        const double ln_p = (double)row[i] - largest - log(sum);
        entropy -= exp(ln_p) * ln_p;
    }
    for (int32_t i = 0; i < n; i++) {
        const double ln_p = (double)row[i] - largest - log(sum);
        variance += exp(ln_p) * (ln_p + entropy) * (ln_p + entropy);
    }
    want[0] = (double)row[target] - largest - log(sum);
    want[1] = entropy;
    want[2] = variance;
    return rank;
}

static void check_stats(int32_t n, row_kind kind, record *records)
{
    enum { R = 5 };
    static const char *NAMES[] = {"logprob", "entropy", "variance"};
    float *rows = checked(malloc(R * (size_t)n * sizeof *rows)), got[3][R];
    const int32_t targets[R] = {0, n - 1, n / 2, n / 3, -1};
    double want[3][R] = {{0}};
    stream rng = {.key = (uint64_t)kind};
    tdm_stat stats[R], alone;
    for (int r = 0; r < R; r++)
        make_row(rows + r * n, n, kind, &rng);
    memset(stats, 0xff, sizeof stats);
    tdm_stat *out = on_device(stats, sizeof stats);
    const tdm_mat logits = upload_logits(rows, R, n, (n + 7) / 4 * 4);
    const int32_t *ids = on_device(targets, sizeof targets);
    ASSERT_CUDA(tdmk_token_stats(out, logits, ids, NULL));
    fetch(stats, out, sizeof stats);
    for (int r = 0; r < R; r++) {
        double row_want[3] = {0};
        const int32_t rank =
            targets[r] < 0 ? 0 : plain_stats(row_want, rows + r * n, n, targets[r]);
        assert_int_equal(stats[r].rank, rank);
        for (int f = 0; f < 3; f++)
            want[f][r] = row_want[f];
        got[0][r] = stats[r].logprob;
        got[1][r] = stats[r].entropy;
        got[2][r] = stats[r].variance;
    }
    for (int f = 0; f < 3; f++)
        note(&records[f], NAMES[f], got[f], want[f], R);
    tdm_mat last = logits; /* a row alone has the same bits */
    last.p = (float *)logits.p + 3 * logits.stride;
    last.rows = 1;
    ASSERT_CUDA(tdmk_token_stats(out, last, ids + 3, NULL));
    fetch(&alone, out, sizeof alone);
    assert_memory_equal(&alone, &stats[3], sizeof alone);
    free_device();
    free(rows);
}

static void stats_match(void **state)
{
    (void)state;
    static const int32_t SIZES[] = {1, 2, 31, 257, 1000};
    record records[3] = {{"logprob", TDM_F32, 0x1p-21, 0, 0},
                         {"entropy", TDM_F32, 0x1p-21, 0, 0},
                         {"variance", TDM_F32, 0x1p-21, 0, 0}};
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int kind = 0; kind < N_KINDS; kind++)
            check_stats(SIZES[i], (row_kind)kind, records);
    check_stats(5003, NORMAL, records);
    check_stats(50257, FAR, records);
    for (int f = 0; f < 3; f++)
        print_record(&records[f]);
}

/* ---- two models ---- */

/* ln p of each entry; free() it. */
static double *log_weights(const float *row, int32_t n)
{
    double *ln = checked(malloc((size_t)n * sizeof *ln)), largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        largest = fmax(largest, (double)row[i]);
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)row[i] - largest);
    for (int32_t i = 0; i < n; i++)
        ln[i] = (double)row[i] - largest - log(sum);
    return ln;
}

/* cross, variance, back */
static void plain_cross(double want[3], const float *p, const float *q, int32_t n)
{
    double *ln_p = log_weights(p, n), *ln_q = log_weights(q, n);
    for (int f = 0; f < 3; f++)
        want[f] = 0;
    for (int32_t i = 0; i < n; i++) {
        want[0] -= exp(ln_q[i]) * ln_p[i];
        want[2] -= exp(ln_p[i]) * ln_q[i];
    }
    for (int32_t i = 0; i < n; i++)
        want[1] += exp(ln_q[i]) * (ln_p[i] + want[0]) * (ln_p[i] + want[0]);
    free(ln_p);
    free(ln_q);
}

/* Rows of two kinds, in different strides; the first row of nobody. */
static void check_cross(int32_t n, row_kind kind_p, row_kind kind_q, record *records)
{
    enum { R = 3 };
    static const int32_t TARGETS[R] = {-1, 0, 0};
    float *p = checked(malloc(2 * R * (size_t)n * sizeof *p)), *q = p + R * n;
    double want[3];
    stream rng = {.key = (uint64_t)(kind_p * N_KINDS) + kind_q};
    tdm_cross stats[R], alone;
    for (int r = 0; r < R; r++) {
        make_row(p + r * n, n, kind_p, &rng);
        make_row(q + r * n, n, kind_q, &rng);
    }
    memset(stats, 0xff, sizeof stats);
    tdm_cross *out = on_device(stats, sizeof stats);
    tdm_mat mp = upload_logits(p, R, n, (n + 3) / 4 * 4), mq = upload_logits(q, R, n, (n + 7) / 4 * 4);
    const int32_t *ids = on_device(TARGETS, sizeof TARGETS);
    ASSERT_CUDA(tdmk_cross_stats(out, mp, mq, ids, NULL));
    fetch(stats, out, sizeof stats);
    assert_memory_equal(&stats[0], &(tdm_cross){0}, sizeof *stats);
    for (int r = 1; r < R; r++) {
        plain_cross(want, p + r * n, q + r * n, n);
        note(&records[0], "row", &stats[r].cross, &want[0], 1);
        note(&records[1], "row", &stats[r].back, &want[2], 1);
        /* a weight of e^-40 is within e^(40 * 2^-24), and may be all there is; squares are summed in double */
        const double off = fabs((double)stats[r].variance - want[1]);
        if (!(off <= 0x1p-18 * want[1] + 1e-12 + 1e-14 * want[0] * want[0]))
            fail_msg("variance, kinds %d and %d of %d: %.9g, want %.12g", kind_p, kind_q, n,
                     (double)stats[r].variance, want[1]);
    }
    mp.p = (float *)mp.p + 2 * mp.stride; /* a row alone has the same bits */
    mq.p = (float *)mq.p + 2 * mq.stride;
    mp.rows = mq.rows = 1;
    ASSERT_CUDA(tdmk_cross_stats(out, mp, mq, ids + 2, NULL));
    fetch(&alone, out, sizeof alone);
    assert_memory_equal(&alone, &stats[2], sizeof alone);
    free_device();
    free(p);
}

static void cross_matches(void **state)
{
    (void)state;
    static const int32_t SIZES[] = {1, 2, 31, 257};
    record records[2] = {{"cross", TDM_F32, 0x1p-20, 0, 0}, {"back", TDM_F32, 0x1p-20, 0, 0}};
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int p = 0; p < N_KINDS; p++)
            for (int q = 0; q < N_KINDS; q++)
                check_cross(SIZES[i], (row_kind)p, (row_kind)q, records);
    check_cross(5003, NORMAL, PEAKED, records);
    check_cross(50257, FAR, NORMAL, records);
    for (int f = 0; f < 2; f++)
        print_record(&records[f]);
}

/* ---- the likeliest ---- */

static void check_top(int32_t n, int32_t k, row_kind kind, record *r)
{
    enum { R = 3 };
    static const int32_t TARGETS[R] = {0, -1, 0};
    float *rows = checked(malloc(R * (size_t)n * sizeof *rows));
    bool *taken = checked(calloc((size_t)n, 1));
    stream rng = {.key = (uint64_t)kind};
    tdm_top top[R * TDM_TOP_MOST + 1], alone[TDM_TOP_MOST];
    for (int i = 0; i < R; i++)
        make_row(rows + i * n, n, kind, &rng);
    memset(top, 0x5a, sizeof top);
    tdm_top *out = on_device(top, sizeof top);
    tdm_mat logits = upload_logits(rows, R, n, (n + 7) / 4 * 4);
    const int32_t *ids = on_device(TARGETS, sizeof TARGETS);
    ASSERT_CUDA(tdmk_top_tokens(out, k, logits, ids, NULL));
    fetch(top, out, sizeof top);
    assert_int_equal(top[R * k].id, 0x5a5a5a5a); /* behind the last */
    double *ln = log_weights(rows + 2 * n, n);
    for (int32_t j = 0; j < k; j++) {
        int32_t best = -1;
        for (int32_t i = 0; i < n; i++)
            if (!taken[i] && (best < 0 || rows[2 * n + i] > rows[2 * n + best]))
                best = i;
        taken[best] = true;
        assert_int_equal(top[2 * k + j].id, best);
        note(r, "token", &top[2 * k + j].logprob, &ln[best], 1);
        assert_memory_equal(&top[k + j], &(tdm_top){0}, sizeof *top);
    }
    logits.p = (float *)logits.p + 2 * logits.stride; /* a row alone has the same bits */
    logits.rows = 1;
    ASSERT_CUDA(tdmk_top_tokens(out, k, logits, ids, NULL));
    fetch(alone, out, (size_t)k * sizeof *alone);
    assert_memory_equal(alone, top + 2 * k, (size_t)k * sizeof *alone);
    free_device();
    free(rows);
    free(taken);
    free(ln);
}

static void top_matches(void **state)
{
    (void)state;
    static const int32_t SIZES[][2] = {{1, 1}, {2, 2}, {31, 5}, {64, 64}, {257, 1}, {257, 64}, {1000, 10}};
    record r = {"top", TDM_F32, 0x1p-21, 0, 0};
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int kind = 0; kind < N_KINDS; kind++)
            check_top(SIZES[i][0], SIZES[i][1], (row_kind)kind, &r);
    check_top(50257, 64, TIES, &r);
    check_top(50257, 10, FAR, &r);
    print_record(&r);
}

/* The largest and the smallest values that are finite. */
static void extremes(void **state)
{
    (void)state;
    enum { N = 20 };
    static const int32_t TARGET = 3;
    float p[N], q[N];
    tdm_cross cross;
    tdm_top top[N];
    for (int i = 0; i < N; i++) {
        p[i] = i == 3 ? -1e18f : i == 5 ? 1e18f : 0;
        q[i] = i == 3 ? FLT_MAX : -FLT_MAX;
    }
    tdm_cross *out = on_device(&cross, sizeof cross);
    tdm_top *likely = on_device(top, sizeof top);
    const int32_t *id = on_device(&TARGET, sizeof TARGET);
    const tdm_mat mp = upload_logits(p, 1, N, N), mq = upload_logits(q, 1, N, N);
    ASSERT_CUDA(tdmk_cross_stats(out, mp, mq, id, NULL));
    ASSERT_CUDA(tdmk_top_tokens(likely, N, mq, id, NULL));
    fetch(&cross, out, sizeof cross);
    fetch(top, likely, sizeof top);
    assert_true(cross.cross == 2e18f && cross.variance == 0 && isinf(cross.back));
    assert_true(top[0].id == 3 && top[0].logprob == 0);
    for (int j = 1; j < N; j++)
        assert_int_equal(top[j].id, j - 1 + (j > 3));
    free_device();
}

/* ---- what is not finite ---- */

static void stats_of_what_is_not_finite(void **state)
{
    (void)state;
    enum { N = 33, R = 5 };
    float rows[R * N] = {0};
    const int32_t targets[R] = {0, 1, 2, N, -3};
    rows[5] = NAN;
    rows[N + 32] = INFINITY;
    rows[2 * N + 2] = -INFINITY;
    rows[4 * N] = NAN;
    tdm_stat stats[R] = {{0}};
    tdm_stat *out = on_device(stats, sizeof stats);
    ASSERT_CUDA(tdmk_token_stats(out, upload_logits(rows, R, N, 36),
                                 on_device(targets, sizeof targets), NULL));
    fetch(stats, out, sizeof stats);
    for (int r = 0; r < R; r++) {
        assert_int_equal(stats[r].rank, r == 4 ? 0 : TDM_NOT_FINITE);
        assert_true(r == 4
                        ? stats[r].logprob == 0 && stats[r].entropy == 0 && stats[r].variance == 0
                        : isnan(stats[r].logprob) && isnan(stats[r].entropy) &&
                              isnan(stats[r].variance));
    }
    free_device();
}

/* Row by row: in p, in q, a target that is none, fine, of nobody. */
static void two_models_of_what_is_not_finite(void **state)
{
    (void)state;
    enum { N = 33, R = 5, K = 3 };
    static const float BAD[] = {NAN, INFINITY, -INFINITY};
    const int32_t targets[R] = {0, 1, N, 3, -3};
    for (size_t b = 0; b < COUNT(BAD); b++) {
        float p[R * N] = {0}, q[R * N] = {0};
        tdm_cross stats[R] = {{0}};
        tdm_top top[R][K] = {{{0}}};
        p[N - 1] = q[N] = p[4 * N + 9] = q[4 * N] = BAD[b];
        tdm_cross *out = on_device(stats, sizeof stats);
        tdm_top *likely = on_device(top, sizeof top);
        const int32_t *ids = on_device(targets, sizeof targets);
        const tdm_mat mp = upload_logits(p, R, N, 36);
        ASSERT_CUDA(tdmk_cross_stats(out, mp, upload_logits(q, R, N, 40), ids, NULL));
        ASSERT_CUDA(tdmk_top_tokens(likely, K, mp, ids, NULL));
        fetch(stats, out, sizeof stats);
        fetch(top, likely, sizeof top);
        for (int r = 0; r < R; r++) {
            assert_int_equal(isnan(stats[r].cross) != 0, r < 3);
            assert_int_equal(isnan(stats[r].variance) != 0, r < 3);
            assert_int_equal(isnan(stats[r].back) != 0, r < 3);
            for (int j = 0; j < K; j++) {
                const bool bad = r == 0 || r == 2;
                assert_int_equal(top[r][j].id, bad ? TDM_NOT_FINITE : r == 4 ? 0 : j);
                assert_int_equal(isnan(top[r][j].logprob) != 0, bad);
            }
        }
        assert_memory_equal(&stats[4], &(tdm_cross){0}, sizeof *stats);
        assert_memory_equal(top[4], ((tdm_top[K]){{0}}), sizeof *top);
        free_device();
    }
}

/* ---- what the launchers refuse ---- */

static void launchers_check(void **state)
{
    (void)state;
    const float rows[12] = {0};
    const tdm_mat m = upload_logits(rows, 2, 6, 8);
    tdm_mat none = m, refused[N_REFUSED];
    none.rows = 0;
    refused_logits(m, refused);
    ASSERT_CUDA(tdmk_token_stats(NULL, none, NULL, NULL));
    ASSERT_CUDA(tdmk_cross_stats(NULL, none, none, NULL, NULL));
    ASSERT_CUDA(tdmk_top_tokens(NULL, 6, none, NULL, NULL));
    for (int i = 0; i < N_REFUSED; i++) {
        ASSERT_REFUSED(tdmk_token_stats(NULL, refused[i], NULL, NULL));
        ASSERT_REFUSED(tdmk_cross_stats(NULL, refused[i], m, NULL, NULL));
        ASSERT_REFUSED(tdmk_cross_stats(NULL, m, refused[i], NULL, NULL));
        ASSERT_REFUSED(tdmk_top_tokens(NULL, 1, refused[i], NULL, NULL));
    }
    tdm_mat narrow = m;
    narrow.cols = 5;
    ASSERT_REFUSED(tdmk_cross_stats(NULL, m, none, NULL, NULL));
    ASSERT_REFUSED(tdmk_cross_stats(NULL, m, narrow, NULL, NULL));
    ASSERT_REFUSED(tdmk_top_tokens(NULL, 0, m, NULL, NULL));
    ASSERT_REFUSED(tdmk_top_tokens(NULL, 7, m, NULL, NULL));
    ASSERT_REFUSED(tdmk_top_tokens(NULL, TDM_TOP_MOST + 1, m, NULL, NULL));
    free_device();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stats_match),
        cmocka_unit_test(cross_matches),
        cmocka_unit_test(top_matches),
        cmocka_unit_test(extremes),
        cmocka_unit_test(stats_of_what_is_not_finite),
        cmocka_unit_test(two_models_of_what_is_not_finite),
        cmocka_unit_test(launchers_check),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
