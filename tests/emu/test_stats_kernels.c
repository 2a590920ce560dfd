/* tests/emu/test_stats_kernels.c - kernels/stats.cu against float64. */
#include "tests/emu/logit_rows.h"

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

/* ---- what the launcher refuses ---- */

static void launcher_checks(void **state)
{
    (void)state;
    const float rows[12] = {0};
    const tdm_mat m = upload_logits(rows, 2, 6, 8);
    tdm_mat none = m, refused[N_REFUSED];
    none.rows = 0;
    refused_logits(m, refused);
    ASSERT_CUDA(tdmk_token_stats(NULL, none, NULL, NULL));
    for (int i = 0; i < N_REFUSED; i++)
        ASSERT_REFUSED(tdmk_token_stats(NULL, refused[i], NULL, NULL));
    free_device();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stats_match),
        cmocka_unit_test(stats_of_what_is_not_finite),
        cmocka_unit_test(launcher_checks),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
