/* tests/test_stats.c - statistics of tokens, of two models, and the likeliest tokens, on every
 * instruction set with 1 to 3 threads against float64 loops. */
#include "tests/ops_reference.h"

#include <float.h>

/* ---- rows of logits ---- */

typedef enum {
    RANDOM,
    FAR,     /* all of one sign and size, as GPT-2's are */
    FLAT,    /* all equal */
    TIES,    /* a few values */
    ZEROS,   /* 0 and -0, which are equal */
    ONE_HOT,
    STEEP,   /* weights of which most are 0 */
    MASKED,  /* every third is -1e10, which sample.py puts in place of a masked logit */
    N_KINDS
} row_kind;

static float entry(row_kind kind, float x, int i, int n)
{
    switch (kind) {
    case FAR:
        return 10 * x - 90;
    case FLAT:
        return 2;
    case TIES:
        return floorf(4 * x);
    case ZEROS:
        return i % 3 ? -0.0f : 0.0f;
    case ONE_HOT:
        return i == n / 2 ? 40 : x;
    case STEEP:
        return 300 * x;
    case MASKED:
        return i % 3 == 1 ? -1e10f : 8 * x;
    default:
        return 8 * x;
    }
}

/* [N_KINDS, n], one row of each kind, the gap behind each filled with NaN. */
static float *make_rows(int n, int stride, uint64_t seed)
{
    float *rows = random_floats((size_t)(N_KINDS * stride), seed);
    for (int r = 0; r < N_KINDS; r++)
        for (int i = 0; i < stride; i++)
            rows[r * stride + i] = i < n ? entry((row_kind)r, rows[r * stride + i], i, n) : NAN;
    return rows;
}

static tdm_mat view(const float *rows, int64_t n_rows, int n, int stride)
{
    return (tdm_mat){(void *)rows, n_rows, n, TDM_F32, stride};
}

/* ln p of each entry. */
static double *log_weights(const float *row, int n)
{
    double *ln = doubles((size_t)n), largest = -INFINITY, total = 0;
    for (int i = 0; i < n; i++)
        largest = fmax(largest, (double)row[i]);
    for (int i = 0; i < n; i++)
        total += exp((double)row[i] - largest);
    for (int i = 0; i < n; i++)
        ln[i] = (double)row[i] - largest - log(total);
    return ln;
}

/* Mean and variance of v under weights e^ln. */
static double mean_under(double *variance, const double *v, const double *ln, int n)
{
    double mean = 0;
    *variance = 0;
    for (int i = 0; i < n; i++)
        mean += exp(ln[i]) * v[i];
    for (int i = 0; i < n; i++)
        *variance += exp(ln[i]) * (v[i] - mean) * (v[i] - mean);
    return mean;
}

/* A logarithm of a sum of f32 exponentials, rounded to f32. What is 0 in exact arithmetic is nearly so. */
static void check_value(const char *what, int n, int row, float got, double want)
{
    if (!(fabs((double)got - want) <= 0x1p-22 * fabs(want) + 1e-12))
        fail_msg("%s, row %d of %d entries: %.9g, want %.12g", what, row, n, (double)got, want);
}

static const int VOCABULARIES[] = {1, 2, 3, 15, 16, 17, 50, 64, 1000, 5003};
enum { WHOLE = 50257 };

/* ---- token_stats ---- */

static void check_stat(const tdm_stat *got, const float *row, int n, int target, int r)
{
    double *ln = log_weights(row, n), variance;
    const double entropy = -mean_under(&variance, ln, ln, n);
    int32_t rank = 1;
    for (int i = 0; i < n; i++)
        rank += row[i] > row[target];
    check_value("logprob", n, r, got->logprob, ln[target]);
    check_value("entropy", n, r, got->entropy, entropy);
    check_value("variance", n, r, got->variance, variance);
    assert_int_equal(got->rank, rank);
    free(ln);
}

static void stats_of(tdm_backend *be, int n)
{
    const int stride = tdm_padded(n);
    float *rows = make_rows(n, stride, (uint64_t)n);
    int32_t targets[N_KINDS];
    tdm_stat stats[N_KINDS], alone;
    for (int r = 0; r < N_KINDS; r++)
        targets[r] = (r * 31 + 7) % n;
    ASSERT_OK(tdm_token_stats(be, stats, view(rows, N_KINDS, n, stride), targets, err));
    for (int r = 0; r < N_KINDS; r++) {
        check_stat(&stats[r], rows + r * stride, n, targets[r], r);
        ASSERT_OK(tdm_token_stats(be, &alone, view(rows + r * stride, 1, n, 0), targets + r, err));
        assert_memory_equal(&alone, &stats[r], sizeof alone);
    }
    targets[1] = n;
    ASSERT_FAILS(tdm_token_stats(be, stats, view(rows, N_KINDS, n, stride), targets, err), TDM_EARG,
                 "token_stats: row 1: token");
    free(rows);
}

static void stats_on(tdm_backend *be)
{
    for (size_t i = 0; i < COUNT(VOCABULARIES); i++)
        stats_of(be, VOCABULARIES[i]);
}

/* ---- cross_stats ---- */

static void check_cross(const tdm_cross *got, const float *p, const float *q, int n, int r)
{
    double *ln_p = log_weights(p, n), *ln_q = log_weights(q, n), variance, other;
    const double cross = -mean_under(&variance, ln_p, ln_q, n);
    check_value("cross", n, r, got->cross, cross);
    /* a weight of e^-40 is within e^(40 * 2^-24), and may be all there is; the squares are summed in double */
    if (!(fabs((double)got->variance - variance) <= 0x1p-18 * variance + 1e-12 + 1e-14 * cross * cross))
        fail_msg("variance, row %d of %d: %.9g, want %.12g", r, n, (double)got->variance, variance);
    check_value("back", n, r, got->back, -mean_under(&other, ln_q, ln_p, n));
    free(ln_p);
    free(ln_q);
}

/* Every kind of row beside every other. */
static void cross_of(tdm_backend *be, int n)
{
    const int stride = tdm_padded(n);
    float *p = make_rows(n, stride, (uint64_t)n), *q = make_rows(n, n, (uint64_t)n + 1000);
    float *turned = random_floats((size_t)(N_KINDS * n), 0);
    int32_t targets[N_KINDS];
    tdm_cross stats[N_KINDS], alone;
    for (int r = 0; r < N_KINDS; r++)
        targets[r] = (r * 31 + 7) % n;
    for (int turn = 0; turn < N_KINDS; turn++) {
        for (int r = 0; r < N_KINDS; r++)
            memcpy(turned + r * n, q + (r + turn) % N_KINDS * n, (size_t)n * sizeof *q);
        ASSERT_OK(tdm_cross_stats(be, stats, view(p, N_KINDS, n, stride), view(turned, N_KINDS, n, 0),
                                  targets, err));
        for (int r = 0; r < N_KINDS; r++) {
            check_cross(&stats[r], p + r * stride, turned + r * n, n, r);
            ASSERT_OK(tdm_cross_stats(be, &alone, view(p + r * stride, 1, n, 0),
                                      view(turned + r * n, 1, n, 0), targets + r, err));
            assert_memory_equal(&alone, &stats[r], sizeof alone);
        }
    }
    targets[2] = n;
    ASSERT_FAILS(tdm_cross_stats(be, stats, view(p, N_KINDS, n, stride), view(q, N_KINDS, n, 0),
                                 targets, err), TDM_EARG, "cross_stats: row 2: token");
    free(turned);
    free(p);
    free(q);
}

static void cross_on(tdm_backend *be)
{
    for (size_t i = 0; i < COUNT(VOCABULARIES); i++)
        cross_of(be, VOCABULARIES[i]);
}

/* A model beside itself: the entropy, twice, and its variance. */
static void a_model_beside_itself(tdm_backend *be)
{
    enum { N = 1000, STRIDE = 1024 };
    float *rows = make_rows(N, STRIDE, 5);
    const tdm_mat m = view(rows, N_KINDS, N, STRIDE);
    const int32_t targets[N_KINDS] = {0};
    tdm_cross cross[N_KINDS];
    tdm_stat stats[N_KINDS];
    ASSERT_OK(tdm_cross_stats(be, cross, m, m, targets, err));
    ASSERT_OK(tdm_token_stats(be, stats, m, targets, err));
    for (int r = 0; r < N_KINDS; r++)
        assert_true(cross[r].cross == stats[r].entropy && cross[r].back == stats[r].entropy &&
                    cross[r].variance == stats[r].variance);
    free(rows);
}

/* ---- top_tokens ---- */

/* Ids of the k largest, of equal ones the lowest first, one after the other. */
static void check_top(const tdm_top *got, const float *row, int n, int k)
{
    double *ln = log_weights(row, n);
    bool *taken = calloc((size_t)n, 1);
    assert_non_null(taken);
    for (int j = 0; j < k; j++) {
        int32_t best = -1;
        for (int32_t i = 0; i < n; i++)
            if (!taken[i] && (best < 0 || row[i] > row[best]))
                best = i;
        if (got[j].id != best)
            fail_msg("%d of the first %d of %d: %d, want %d", j, k, n, got[j].id, best);
        check_value("logprob of a likely token", n, j, got[j].logprob, ln[best]);
        taken[best] = true;
    }
    free(taken);
    free(ln);
}

static void top_of(tdm_backend *be, int n, int k)
{
    const int stride = tdm_padded(n);
    float *rows = make_rows(n, stride, (uint64_t)n);
    int32_t targets[N_KINDS];
    tdm_top top[N_KINDS * TDM_TOP_MOST + 1], alone[TDM_TOP_MOST];
    for (int r = 0; r < N_KINDS; r++)
        targets[r] = (r * 31 + 7) % n;
    memset(top, 0x5a, sizeof top);
    ASSERT_OK(tdm_top_tokens(be, top, k, view(rows, N_KINDS, n, stride), targets, err));
    assert_int_equal(top[N_KINDS * k].id, 0x5a5a5a5a); /* behind the last */
    for (int r = 0; r < N_KINDS; r++) {
        check_top(top + r * k, rows + r * stride, n, k);
        ASSERT_OK(tdm_top_tokens(be, alone, k, view(rows + r * stride, 1, n, 0), targets + r, err));
        assert_memory_equal(alone, top + r * k, (size_t)k * sizeof *alone);
    }
    targets[0] = n;
    ASSERT_FAILS(tdm_top_tokens(be, top, k, view(rows, N_KINDS, n, stride), targets, err), TDM_EARG,
                 "top_tokens: row 0: token");
    free(rows);
}

static void top_on(tdm_backend *be)
{
    static const int COUNTS[] = {1, 2, 10, 63, TDM_TOP_MOST};
    for (size_t i = 0; i < COUNT(VOCABULARIES); i++)
        for (size_t k = 0; k < COUNT(COUNTS); k++)
            top_of(be, VOCABULARIES[i],
                   COUNTS[k] < VOCABULARIES[i] ? COUNTS[k] : VOCABULARIES[i] < TDM_TOP_MOST
                                                                 ? VOCABULARIES[i]
                                                                 : TDM_TOP_MOST);
}

/* ---- rows that are not asked about, and logits that are not finite ---- */

static void absent_and_bad_rows(tdm_backend *be)
{
    enum { N = 50, STRIDE = 64, K = 3, R = 5 };
    static const float BAD[] = {NAN, INFINITY, -INFINITY};
    const int32_t targets[R] = {4, -1, 49, 0, -7};
    for (size_t b = 0; b < COUNT(BAD); b++)
        for (int at = 0; at < N; at += 7) { /* in a whole vector and in a part of one */
            float *p = make_rows(N, STRIDE, 1), *q = make_rows(N, STRIDE, 2);
            tdm_stat stats[R];
            tdm_cross cross[R];
            tdm_top top[R][K];
            p[at] = p[STRIDE + at] = q[2 * STRIDE + at] = BAD[b];
            const tdm_mat mp = view(p, R, N, STRIDE), mq = view(q, R, N, STRIDE);
            ASSERT_OK(tdm_token_stats(be, stats, mp, targets, err));
            ASSERT_OK(tdm_cross_stats(be, cross, mp, mq, targets, err));
            ASSERT_OK(tdm_top_tokens(be, top[0], K, mp, targets, err));
            for (int r = 0; r < R; r++) {
                const bool none = targets[r] < 0, bad_p = r == 0, bad = r == 0 || r == 2;
                assert_int_equal(stats[r].rank <= 0, none || bad_p);
                if (none) {
                    assert_memory_equal(&stats[r], &(tdm_stat){0}, sizeof *stats);
                    assert_memory_equal(&cross[r], &(tdm_cross){0}, sizeof *cross);
                    assert_memory_equal(top[r], ((tdm_top[K]){{0}}), sizeof *top);
                    continue;
                }
                if (bad_p) {
                    assert_int_equal(stats[r].rank, TDM_NOT_FINITE);
                    assert_true(isnan(stats[r].logprob) && isnan(stats[r].entropy) &&
                                isnan(stats[r].variance));
                }
                assert_int_equal(bad, isnan(cross[r].cross));
                assert_int_equal(bad, isnan(cross[r].variance));
                assert_int_equal(bad, isnan(cross[r].back));
                for (int j = 0; j < K; j++) {
                    assert_int_equal(top[r][j].id == TDM_NOT_FINITE, bad_p);
                    assert_int_equal(isnan(top[r][j].logprob) != 0, bad_p);
                }
            }
            free(p);
            free(q);
        }
}

/* The largest and the smallest values that are finite: nothing overflows on the way to what is finite. */
static void extreme_rows(tdm_backend *be)
{
    enum { N = 20 };
    float p[N], q[N];
    const int32_t target = 3;
    tdm_stat stat;
    tdm_cross cross;
    tdm_top top[N];
    for (int i = 0; i < N; i++) {
        p[i] = i == 3 ? FLT_MAX : -FLT_MAX;
        q[i] = i == 3 ? -1e18f : i == 5 ? 1e18f : 0;
    }
    const tdm_mat mp = view(p, 1, N, 0), mq = view(q, 1, N, 0);
    ASSERT_OK(tdm_token_stats(be, &stat, mp, &target, err));
    assert_true(stat.logprob == 0 && stat.entropy == 0 && stat.variance == 0 && stat.rank == 1);
    ASSERT_OK(tdm_token_stats(be, &stat, mq, &target, err));
    assert_true(stat.logprob == -2e18f && stat.entropy == 0 && stat.variance == 0 && stat.rank == N);
    ASSERT_OK(tdm_cross_stats(be, &cross, mq, mp, &target, err)); /* p is sure of what q excludes */
    assert_true(cross.cross == 2e18f && cross.variance == 0 && isinf(cross.back));
    ASSERT_OK(tdm_top_tokens(be, top, N, mp, &target, err));
    assert_true(top[0].id == 3 && top[0].logprob == 0);
    for (int j = 1; j < N; j++)
        assert_int_equal(top[j].id, j - 1 + (j > 3));
}

/* ---- the vocabulary of GPT-2 ---- */

static void whole_vocabulary(void **state)
{
    (void)state;
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++) {
        tdm_backend be = open_backend(tables[i], 2);
        stats_of(&be, WHOLE);
        cross_of(&be, WHOLE);
        top_of(&be, WHOLE, TDM_TOP_MOST);
        tdm_backend_close(&be);
    }
}

#define ON_ALL(name)                                                                               \
    static void name##_match(void **state)                                                         \
    {                                                                                              \
        (void)state;                                                                               \
        on_all_backends(name);                                                                     \
    }
ON_ALL(stats_on)
ON_ALL(cross_on)
ON_ALL(a_model_beside_itself)
ON_ALL(top_on)
ON_ALL(absent_and_bad_rows)
ON_ALL(extreme_rows)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stats_on_match),
        cmocka_unit_test(cross_on_match),
        cmocka_unit_test(a_model_beside_itself_match),
        cmocka_unit_test(top_on_match),
        cmocka_unit_test(absent_and_bad_rows_match),
        cmocka_unit_test(extreme_rows_match),
        cmocka_unit_test(whole_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
