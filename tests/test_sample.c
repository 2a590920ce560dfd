/* The sampler against the definition in host/sample.h, written down plainly: sort, add up, compute
 * the noise of every entry. And against exact probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/rng.h"
#include "host/sample.h"

enum { MOST = 50257 };

/* ---- numbers ---- */

typedef struct {
    uint64_t key;
    uint32_t i;
} stream;

static uint32_t next_word(stream *s)
{
    uint32_t words[4];
    tdm_philox((uint32_t[4]){s->i++, 0, 0, 0x7e57}, s->key, words);
    return words[0];
}

static double next_normal(stream *s)
{
    const double r = sqrt(-2 * log(tdm_word_uniform(next_word(s))));
    return r * cos(6.283185307179586 * tdm_word_uniform(next_word(s)));
}

/* ---- the plain definition ---- */

typedef struct {
    float value;
    int32_t id;
    bool alive;
} plain;

static int falling(const void *a, const void *b)
{
    const plain *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static void plain_top_k(plain *sorted, int32_t n, int32_t k)
{
    if (k > 0 && k < n)
        for (int32_t i = 0; i < n; i++)
            sorted[i].alive = sorted[i].value >= sorted[k - 1].value;
}

static void plain_top_p(plain *sorted, int32_t n, double p, tdm_nucleus nucleus)
{
    static double cumulative[MOST];
    double sum = 0;
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        if (sorted[i].alive)
            sum += exp((double)sorted[i].value - (double)sorted[0].value);
        cumulative[i] = sum;
    }
    if (nucleus == TDM_NUCLEUS_OPENAI) {
        while (kept < n && cumulative[kept] <= p * sum)
            kept++;
        const float threshold = sorted[kept > 0 ? kept - 1 : 0].value;
        for (int32_t i = 0; i < n; i++)
            sorted[i].alive = sorted[i].alive && sorted[i].value >= threshold;
    } else {
        while (kept < n - 1 && cumulative[kept] < p * sum)
            kept++;
        for (int32_t i = kept + 1; i < n; i++)
            sorted[i].alive = false;
    }
}

static int32_t plain_sample(const float *logits, int32_t n, const tdm_draw *d)
{
    static plain sorted[MOST];
    for (int32_t i = 0; i < n; i++)
        sorted[i] = (plain){d->temperature > 0 ? logits[i] / d->temperature : logits[i], i, true};
    qsort(sorted, (size_t)n, sizeof *sorted, falling);
    if (!(d->temperature > 0))
        return sorted[0].id;
    plain_top_k(sorted, n, d->top_k);
    if (d->top_p < 1)
        plain_top_p(sorted, n, (double)d->top_p, d->nucleus);
    int32_t best = -1;
    double best_value = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!sorted[i].alive)
            continue;
        const uint32_t v = (uint32_t)sorted[i].id;
        uint32_t words[4];
        tdm_philox((uint32_t[4]){v / 4, d->position, (uint32_t)d->document,
                                 (uint32_t)(d->document >> 32)},
                   d->seed, words);
        const double value = (double)sorted[i].value + tdm_word_gumbel(words[v % 4]);
        if (best < 0 || value > best_value || (value == best_value && sorted[i].id < best)) {
            best = sorted[i].id;
            best_value = value;
        }
    }
    return best;
}

/* ---- rows of every kind ---- */

enum { NORMAL, FLAT, TIES, PEAKED, STEEP, OUTLIER, N_KINDS };

static void make_row(float *row, int32_t n, int kind, stream *s)
{
    const double scale = exp(next_normal(s));
    for (int32_t i = 0; i < n; i++) {
        const double x = next_normal(s);
        row[i] = (float)(kind == FLAT     ? 1.5
                         : kind == TIES   ? floor(x * 2) / 2
                         : kind == STEEP  ? x * 100
                         : kind == PEAKED ? x * scale * 0.1 + (i == n / 3) * 12.0
                                          : x * scale);
        if (kind == OUTLIER && i == n - 1)
            row[i] = -1e10f; /* what sample.py puts in place of a masked logit */
    }
}

static tdm_draw make_draw(stream *s)
{
    static const float TEMPERATURES[] = {1, 1, 0.7f, 2, 0.1f, 0};
    static const int32_t KS[] = {0, 0, 1, 2, 7, 40, 1000, 100000};
    static const float PS[] = {1, 1, 0.9f, 0.95f, 0.5f, 0.25f, 0.01f, 0.999999f, 1e-30f};
    return (tdm_draw){.seed = (uint64_t)next_word(s) << 32 | next_word(s),
                      .document = (uint64_t)next_word(s) << (next_word(s) % 33),
                      .position = next_word(s) % 1024,
                      .temperature = TEMPERATURES[next_word(s) % 6],
                      .top_k = KS[next_word(s) % 8],
                      .top_p = PS[next_word(s) % 9],
                      .nucleus = next_word(s) % 2 ? TDM_NUCLEUS_HF : TDM_NUCLEUS_OPENAI};
}

static void compare(tdm_sampler *s, const float *row, int32_t n, int kind, const tdm_draw *d)
{
    const int32_t got = tdm_sample_row(s, row, d), want = plain_sample(row, n, d);
    if (got != want)
        fail_msg("kind %d, %d entries, T %g, k %d, p %.9g, nucleus %d, seed %llu: %d, want %d", kind,
                 (int)n, (double)d->temperature, (int)d->top_k, (double)d->top_p, (int)d->nucleus,
                 (unsigned long long)d->seed, (int)got, (int)want);
}

static void test_small_rows(void **state)
{
    (void)state;
    static float row[400];
    stream s = {.key = 1};
    for (int round = 0; round < 350; round++) {
        const int32_t n = round < 40 ? round + 1 : 1 + (int32_t)(next_word(&s) % 399);
        tdm_sampler *sampler = NULL;
        assert_int_equal(tdm_sampler_open(n, &sampler, NULL), TDM_OK);
        for (int i = 0; i < 300; i++) {
            const int kind = i % N_KINDS;
            make_row(row, n, kind, &s);
            const tdm_draw d = make_draw(&s);
            compare(sampler, row, n, kind, &d);
        }
        tdm_sampler_close(sampler);
    }
}

static void test_full_vocabulary(void **state)
{
    (void)state;
    static float row[MOST];
    stream s = {.key = 2};
    tdm_sampler *sampler = NULL;
    assert_int_equal(tdm_sampler_open(MOST, &sampler, NULL), TDM_OK);
    for (int i = 0; i < 120; i++) {
        const int kind = i % N_KINDS;
        make_row(row, MOST, kind, &s);
        const tdm_draw d = make_draw(&s);
        compare(sampler, row, MOST, kind, &d);
    }
    tdm_sampler_close(sampler);
}

/* ---- exact probabilities ---- */

/* The value that a chi-square variable of df degrees exceeds with probability 1e-6 (Wilson and
 * Hilferty's approximation, good to a percent). */
static double chi_square_limit(int df)
{
    const double z = 4.753, a = 2.0 / (9 * df);
    return df * pow(1 - a + z * sqrt(a), 3);
}

enum { N_TOKENS = 8, N_DRAWS = 100000 };

/* Two pairs of ties. p as the model gives it; keep: what survives. */
static const double P[N_TOKENS] = {0.06, 0.22, 0.10, 0.22, 0.02, 0.10, 0.25, 0.03};
static const struct {
    const char *why;
    float temperature;
    int32_t top_k;
    float top_p;
    tdm_nucleus nucleus;
    bool keep[N_TOKENS];
} CHI[] = {
    {"plain", 1, 0, 1, TDM_NUCLEUS_OPENAI, {1, 1, 1, 1, 1, 1, 1, 1}},
    {"temperature 0.5", 0.5f, 0, 1, TDM_NUCLEUS_OPENAI, {1, 1, 1, 1, 1, 1, 1, 1}},
    {"temperature 2", 2, 0, 1, TDM_NUCLEUS_OPENAI, {1, 1, 1, 1, 1, 1, 1, 1}},
    {"top-k 3", 1, 3, 1, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
    {"top-k 2: the tie with the second survives", 1, 2, 1, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
    {"top-k 4: so does the tie with the fourth", 1, 4, 1, TDM_NUCLEUS_HF, {0, 1, 1, 1, 0, 1, 1, 0}},
    /* falling: .25 .22 .22 .10 .10 .06 .03 .02; sums .25 .47 .69 .79 .89 .95 .98 1 */
    {"top-p .9 openai: the one that crosses is out", 1, 0, 0.9f, TDM_NUCLEUS_OPENAI, {0, 1, 1, 1, 0, 1, 1, 0}},
    {"top-p .9 hf: it is in", 1, 0, 0.9f, TDM_NUCLEUS_HF, {1, 1, 1, 1, 0, 1, 1, 0}},
    {"top-p .8 openai: the second of a tie crosses, and ties survive", 1, 0, 0.8f, TDM_NUCLEUS_OPENAI, {0, 1, 1, 1, 0, 1, 1, 0}},
    {"top-p .75 openai: the first of a tie crosses, both are out", 1, 0, 0.75f, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
    {"top-p .75 hf: the tie breaks by the lower id", 1, 0, 0.75f, TDM_NUCLEUS_HF, {0, 1, 1, 1, 0, 0, 1, 0}},
    {"top-p .1 openai: one is left", 1, 0, 0.1f, TDM_NUCLEUS_OPENAI, {0, 0, 0, 0, 0, 0, 1, 0}},
    {"top-k 5, then top-p .7 of what is left (.89)", 1, 5, 0.7f, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
};

static void count_draws(tdm_sampler *s, size_t c, const float *logits, int counts[N_TOKENS])
{
    for (uint32_t i = 0; i < N_DRAWS; i++) {
        /* every document and every position is another draw */
        const tdm_draw d = {.seed = 11 + c,
                            .document = i / 7,
                            .position = i % 7,
                            .temperature = CHI[c].temperature,
                            .top_k = CHI[c].top_k,
                            .top_p = CHI[c].top_p,
                            .nucleus = CHI[c].nucleus};
        const int32_t id = tdm_sample_row(s, logits, &d);
        assert_in_range(id, 0, N_TOKENS - 1);
        counts[id]++;
    }
}

static void test_chi_square(void **state)
{
    (void)state;
    tdm_sampler *s = NULL;
    float logits[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        logits[i] = (float)log(P[i]);
    assert_int_equal(tdm_sampler_open(N_TOKENS, &s, NULL), TDM_OK);
    for (size_t c = 0; c < sizeof CHI / sizeof *CHI; c++) {
        int counts[N_TOKENS] = {0}, df = -1;
        double mass = 0, chi = 0;
        count_draws(s, c, logits, counts);
        for (int i = 0; i < N_TOKENS; i++)
            mass += CHI[c].keep[i] ? pow(P[i], 1 / (double)CHI[c].temperature) : 0;
        for (int i = 0; i < N_TOKENS; i++) {
            if (!CHI[c].keep[i]) {
                if (counts[i])
                    fail_msg("%s: token %d was drawn", CHI[c].why, i);
                continue;
            }
            const double want = N_DRAWS * pow(P[i], 1 / (double)CHI[c].temperature) / mass;
            chi += (counts[i] - want) * (counts[i] - want) / want;
            df++;
        }
        if (df > 0 && !(chi < chi_square_limit(df)))
            fail_msg("%s: chi-square %.1f for %d degrees, limit %.1f", CHI[c].why, chi, df,
                     chi_square_limit(df));
    }
    tdm_sampler_close(s);
}

/* The example of the specification: probabilities .5 .3 .2. */
static void test_nucleus_example(void **state)
{
    (void)state;
    static const struct {
        float p;
        tdm_nucleus nucleus;
        int kept;
    } CASES[] = {{0.7f, TDM_NUCLEUS_OPENAI, 1},
                 {0.7f, TDM_NUCLEUS_HF, 2},
                 {0.85f, TDM_NUCLEUS_OPENAI, 2},
                 {0.85f, TDM_NUCLEUS_HF, 3}};
    const float logits[3] = {logf(0.2f), logf(0.5f), logf(0.3f)};
    tdm_sampler *s = NULL;
    assert_int_equal(tdm_sampler_open(3, &s, NULL), TDM_OK);
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        bool seen[3] = {0};
        for (uint32_t i = 0; i < 1000; i++)
            seen[tdm_sample_row(s, logits,
                                &(tdm_draw){.document = i, .temperature = 1, .top_p = CASES[c].p,
                                            .nucleus = CASES[c].nucleus})] = true;
        assert_int_equal(seen[0] + seen[1] + seen[2], CASES[c].kept);
    }
    tdm_sampler_close(s);
}

/* ---- corners ---- */

static void test_not_finite(void **state)
{
    (void)state;
    static float row[1000];
    static const int32_t PLACES[] = {0, 31, 500, 992, 998, 999};
    const float values[] = {NAN, INFINITY, -INFINITY};
    tdm_sampler *s = NULL;
    assert_int_equal(tdm_sampler_open(999, &s, NULL), TDM_OK); /* the last place is not looked at */
    for (size_t p = 0; p < sizeof PLACES / sizeof *PLACES; p++)
        for (int v = 0; v < 3; v++)
            for (int greedy = 0; greedy < 2; greedy++) {
                memset(row, 0, sizeof row);
                row[PLACES[p]] = values[v];
                const tdm_draw d = {.temperature = greedy ? 0.f : 1.f, .top_p = 1};
                const int32_t id = tdm_sample_row(s, row, &d);
                assert_true(PLACES[p] == 999 ? id >= 0 : id == -1);
            }
    row[PLACES[5]] = 0;
    row[3] = 1e30f; /* finite, but not after the division */
    assert_int_equal(tdm_sample_row(s, row, &(tdm_draw){.temperature = 1e-20f, .top_p = 1}), -1);
    tdm_sampler_close(s);
}

static void test_greedy(void **state)
{
    (void)state;
    float row[100] = {0};
    tdm_sampler *s = NULL;
    assert_int_equal(tdm_sampler_open(100, &s, NULL), TDM_OK);
    const tdm_draw d = {.temperature = 0, .top_k = 5, .top_p = 0.5f};
    assert_int_equal(tdm_sample_row(s, row, &d), 0);
    row[99] = row[41] = row[40] = 2;
    assert_int_equal(tdm_sample_row(s, row, &d), 40);
    for (int i = 0; i < 100; i++)
        row[i] = (float)(i - 200);
    assert_int_equal(tdm_sample_row(s, row, &d), 99);
    tdm_sampler_close(s);
}

static void test_document_p(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t document = 0; document < 10000; document++) {
        const float p = tdm_draw_top_p(7, document << 20, 0.8f, 1.0f);
        assert_true(p >= 0.8f && p < 1.0f);
        sum += (double)p;
    }
    assert_true(fabs(sum / 10000 - 0.9) < 5 * 0.2 / sqrt(12.0 * 10000));
    assert_true(tdm_draw_top_p(7, 1, 0.9f, 0.9f) == 0.9f);
    const float next = nextafterf(0.9f, 1); /* a range of one number */
    for (uint64_t document = 0; document < 100; document++)
        assert_true(tdm_draw_top_p(7, document, 0.9f, next) == 0.9f);
    uint32_t words[4];
    tdm_philox((uint32_t[4]){0, 0xffffffff, 5, 1}, 7, words);
    assert_true(tdm_draw_top_p(7, (UINT64_C(1) << 32) + 5, 0.5f, 1.f) ==
                (float)(0.5 + 0.5 * tdm_word_uniform(words[0])));
}

/* The flags of the build: where a machine could multiply and add in one rounding, it does not (the
 * sampler's loops are cloned for such machines). */
#if defined(__x86_64__)
__attribute__((target("fma"), noinline)) static double multiply_add(double a, double b, double c)
{
    return a * b + c;
}
#else
__attribute__((noinline)) static double multiply_add(double a, double b, double c)
{
    return a * b + c;
}
#endif

static void test_two_roundings(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("fma"))
        skip();
#endif
    volatile double a = 1 + 0x1p-30; /* its square is 1 + 2^-29 + 2^-60, which rounds to 1 + 2^-29 */
    assert_true(multiply_add(a, a, -(1 + 0x1p-29)) == 0);
}

static void test_open_refuses(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_sampler *s = NULL;
    assert_int_equal(tdm_sampler_open(0, &s, &err), TDM_EARG);
    assert_null(s);
    tdm_sampler_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_rows),      cmocka_unit_test(test_full_vocabulary),
        cmocka_unit_test(test_chi_square),      cmocka_unit_test(test_nucleus_example),
        cmocka_unit_test(test_not_finite),      cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_document_p),      cmocka_unit_test(test_open_refuses),
        cmocka_unit_test(test_two_roundings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
