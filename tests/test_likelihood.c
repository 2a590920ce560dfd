/* Measures of a text from the statistics of its tokens: cases by hand, plain loops in long double, the edges of GLTR's
 * buckets, quotients by zero, and what is not finite. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/likelihood.h"
#include "host/rng.h"

/* ---- by hand ---- */

/* Four equally likely tokens: ln p = -ln 4 whichever comes, entropy ln 4, nothing varies. */
#define LN4 1.3862944f
/* p = (3/4, 1/4) and the second came: ln p = -ln 4, H = ln 4 - 3/4 ln 3, Var = 3/16 (ln 3)^2. */
#define H31 0.5623351f
#define VAR31 0.22630302f

static const struct {
    const char *why;
    size_t n;
    bool behind;
    tdm_stat stats[3]; /* logprob, entropy, variance, rank */
    double logprob, mean_logprob, ppl, mean_rank, mean_logrank, entropy, lrr, fast_detect;
    int64_t gltr[TDM_GLTR_BUCKETS];
} CASES[] = {
    {"one token", 1, false, {{-LN4, H31, VAR31, 2}},
     -1.386294361, -1.386294361, 4, 2, 0.6931471806, 0.5623351446, 2, -1.732050808, {1}},
    {"all ranks 1: no LRR", 2, false, {{-0.25f, 0.5f, 0.5f, 1}, {-0.75f, 1.5f, 0.5f, 1}},
     -1, -0.5, 1.648721271, 1, 0, 1, NAN, 1, {2}},
    {"nothing varies: no curvature", 2, false, {{-LN4, LN4, 0, 1}, {-LN4, LN4, 0, 4}},
     -2.772588722, -1.386294361, 4, 2.5, 0.6931471806, 1.386294361, 2, NAN, {2}},
    {"certain", 1, false, {{0, 0, 0, 1}}, 0, 0, 1, 1, 0, 0, NAN, NAN, {1}},
    {"no number for the perplexity", 1, false, {{-1000, 1, 1, 3}},
     -1000, -1000, INFINITY, 3, 1.098612289, 1, 910.2392266, -999, {1}},
    {"edges of the buckets", 3, false, {{-1, 1, 1, 10}, {-1, 1, 1, 100}, {-1, 1, 1, 1000}},
     -3, -1, 2.718281828, 370, 4.605170186, 1, 0.2171472410, 0, {1, 1, 1, 0}},
    {"just beyond them", 3, false, {{-1, 1, 1, 11}, {-1, 1, 1, 101}, {-1, 1, 1, 1001}},
     -3, -1, 2.718281828, 371, 4.640586944, 1, 0.2154899999, 0, {0, 1, 1, 1}},
    {"behind the last: entropy alone", 2, true, {{-1, 1, 2, 2}, {-2, 2, 2, 2}, {-9, 6, 9, 50}},
     -3, -1.5, 4.481689070, 2, 0.6931471806, 3, 2.164042561, 0, {2}},
};

static void check(const char *why, const char *what, double got, double want, double tolerance)
{
    if (isnan(want) ? !isnan(got) : !(got == want || fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%s: %s is %.12g, want %.12g", why, what, got, want);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        tdm_likelihood l;
        assert_true(tdm_likelihood_of(CASES[i].stats, NULL, CASES[i].n, CASES[i].behind, &l));
        assert_int_equal(l.tokens, CASES[i].n);
#define X(name) check(CASES[i].why, #name, l.name, CASES[i].name, 0x1p-20); /* the constants are floats */
        X(logprob) X(mean_logprob) X(ppl) X(mean_rank) X(mean_logrank) X(entropy) X(lrr) X(fast_detect)
#undef X
        assert_memory_equal(l.gltr, CASES[i].gltr, sizeof l.gltr);
        assert_true(isnan(l.binoculars) && isnan(l.binoculars_paper) && isnan(l.fast_detect_observer));
    }
}

/* Two tokens with an observer; then with the position behind them. */
static void test_observer_by_hand(void **state)
{
    (void)state;
    const tdm_stat stats[] = {{-1, 2, 1, 3}, {-3, 1, 1, 1}, {-5, 4, 1, 1}};
    const tdm_cross cross[] = {{2.5f, 4, 1}, {1.5f, 5, 2}, {5, 9, 6}};
    tdm_likelihood l;
    assert_true(tdm_likelihood_of(stats, cross, 2, false, &l));
    check("two", "binoculars", l.binoculars, 1, 0);                     /* (4 / 2) / (4 / 2) */
    check("two", "binoculars_paper", l.binoculars_paper, 4. / 3, 1e-15); /* 2 / (3 / 2) */
    check("two", "fast_detect_observer", l.fast_detect_observer, 0, 0); /* (-4 + 4) / 3 */
    check("two", "fast_detect", l.fast_detect, -1 / sqrt(2), 1e-15);
    assert_true(tdm_likelihood_of(stats, cross, 2, true, &l));
    check("behind", "binoculars", l.binoculars, 2. / 3, 1e-15);       /* 2 / (9 / 3) */
    check("behind", "binoculars_paper", l.binoculars_paper, 2. / 3, 1e-15); /* 2 / (9 / 3) */
    check("behind", "entropy", l.entropy, 7. / 3, 1e-15);
    check("behind", "mean_logprob", l.mean_logprob, -2, 0);
    check("behind", "fast_detect_observer", l.fast_detect_observer, 0, 0);
}

static void test_observer_without_surprise(void **state)
{
    (void)state;
    const tdm_stat stat = {-1, 2, 1, 3};
    const tdm_cross cross = {0};
    tdm_likelihood l;
    assert_true(tdm_likelihood_of(&stat, &cross, 1, false, &l));
    assert_true(isnan(l.binoculars) && isnan(l.binoculars_paper) && isnan(l.fast_detect_observer));
}

/* ---- plain loops ---- */

enum { MOST = 5000 };

static float unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

static void make(tdm_stat *stats, tdm_cross *cross, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t a[4], b[4];
        tdm_philox((uint32_t[4]){(uint32_t)i}, seed, a);
        tdm_philox((uint32_t[4]){(uint32_t)i, 1}, seed, b);
        stats[i] = (tdm_stat){-20 * unit(a[0]), 10 * unit(a[1]), 8 * unit(a[2]), 1 + (int32_t)(a[3] >> (12 + i % 20))};
        cross[i] = (tdm_cross){10 * unit(b[0]), 8 * unit(b[1]), 10 * unit(b[2])};
    }
}

/* Sums of n terms in double differ from those in long double by at most n roundings. */
static void check_against_loops(const tdm_stat *s, const tdm_cross *c, size_t n)
{
    tdm_likelihood l;
    long double L = 0, rank = 0, logrank = 0, entropy = 0, variance = 0, cross = 0, cross_variance = 0, back = 0;
    int64_t gltr[TDM_GLTR_BUCKETS] = {0};
    const double tolerance = (double)n * 0x1p-52;
    for (size_t i = 0; i < n; i++) {
        L += (long double)s[i].logprob;
        rank += s[i].rank;
        logrank += logl((long double)s[i].rank);
        entropy += (long double)s[i].entropy;
        variance += (long double)s[i].variance;
        cross += (long double)c[i].cross;
        cross_variance += (long double)c[i].variance;
        back += (long double)c[i].back;
        gltr[s[i].rank <= 10 ? 0 : s[i].rank <= 100 ? 1 : s[i].rank <= 1000 ? 2 : 3]++;
    }
    const long double N = (long double)n;
    assert_true(tdm_likelihood_of(s, c, n, false, &l));
    assert_memory_equal(l.gltr, gltr, sizeof gltr);
    check("loops", "logprob", l.logprob, (double)L, tolerance);
    check("loops", "mean_logprob", l.mean_logprob, (double)(L / N), tolerance);
    check("loops", "ppl", l.ppl, (double)expl(-L / N), 32 * tolerance);
    check("loops", "mean_rank", l.mean_rank, (double)(rank / N), tolerance);
    check("loops", "mean_logrank", l.mean_logrank, (double)(logrank / N), tolerance);
    check("loops", "entropy", l.entropy, (double)(entropy / N), tolerance);
    check("loops", "lrr", l.lrr, (double)(-L / logrank), 2 * tolerance);
    /* the difference of two sums: their errors, over the divisor */
    const double apart = 20 * (double)n * tolerance / (double)sqrtl(variance);
    check("loops", "fast_detect", l.fast_detect, (double)((L + entropy) / sqrtl(variance)), tolerance + apart);
    check("loops", "binoculars", l.binoculars, (double)(-L / cross), 2 * tolerance);
    check("loops", "binoculars_paper", l.binoculars_paper, (double)(-L / back), 2 * tolerance);
    check("loops", "fast_detect_observer", l.fast_detect_observer, (double)((L + cross) / sqrtl(cross_variance)),
          tolerance + apart);
}

static void test_loops(void **state)
{
    (void)state;
    static tdm_stat stats[MOST];
    static tdm_cross cross[MOST];
    static const size_t LENGTHS[] = {2, 3, 17, 100, 1024, MOST};
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        make(stats, cross, LENGTHS[i], 7 + i);
        check_against_loops(stats, cross, LENGTHS[i]);
    }
}

/* ---- what is not finite ---- */

static void test_not_finite(void **state)
{
    (void)state;
    enum { N = 5 };
    tdm_stat stats[N + 1];
    tdm_cross cross[N + 1];
    tdm_likelihood l;
    for (int field = 0; field < 9; field++) {
        for (size_t at = 0; at <= N; at++) {
            make(stats, cross, N + 1, 1);
            float *const fields[] = {&stats[at].logprob, &stats[at].entropy, &stats[at].variance,
                                     &cross[at].cross, &cross[at].variance, &cross[at].back};
            if (field < 6)
                *fields[field] = at % 2 ? NAN : INFINITY;
            else
                stats[at].rank = field == 6 ? TDM_NOT_FINITE : field == 7 ? 0 : INT32_MIN;
            const bool of_observer = field >= 3 && field < 6;
            assert_int_equal(tdm_likelihood_of(stats, cross, N, false, &l), at == N);
            assert_false(tdm_likelihood_of(stats, cross, N, true, &l));
            assert_int_equal(tdm_likelihood_of(stats, NULL, N, true, &l), of_observer);
        }
    }
}

static void test_buckets(void **state)
{
    (void)state;
    static const struct {
        int32_t rank;
        int bucket;
    } EDGES[] = {{0, 0}, {1, 0}, {10, 0}, {11, 1}, {100, 1}, {101, 2}, {1000, 2}, {1001, 3}, {INT32_MAX, 3}};
    for (size_t i = 0; i < sizeof EDGES / sizeof *EDGES; i++)
        assert_int_equal(tdm_gltr_bucket(EDGES[i].rank), EDGES[i].bucket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_observer_by_hand),
        cmocka_unit_test(test_observer_without_surprise),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
