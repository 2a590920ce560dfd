/* The bootstrap against one that takes the words literally: draw texts, make a set of them, evaluate it, sort. Equal bits. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/evaluate.h"
#include "host/rng.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { MOST_TEXTS = 250000, MOST_REPLICATES = 64, VALUES = 8 + TDM_FPRS_MOST };

static double scores[2 * MOST_TEXTS];
static uint8_t machine[2 * MOST_TEXTS];

static const tdm_evaluate_options OPTIONS = {0.3, {0.05, 0.01, 0, 1, 0.3, 0.001, 0.05, 0.5}, 8};

/* Humans behind machines; `levels` different scores, 0: as good as no ties. */
static tdm_scored make_set(size_t humans, size_t machines, uint32_t levels, uint32_t seed)
{
    for (uint32_t i = 0; i < humans + machines; i++) {
        uint32_t w[4];
        tdm_philox((uint32_t[4]){i, 0, 0, seed}, 7, w);
        machine[i] = i < machines;
        scores[i] = tdm_word_uniform(w[0]) + 0.2 * machine[i];
        scores[i] = levels ? floor(scores[i] * levels) / levels : scores[i];
    }
    return (tdm_scored){scores, machine, NULL, humans + machines};
}

static tdm_ranking *open_ranking(const tdm_scored *set)
{
    tdm_ranking *r = NULL;
    tdm_err err = {0};
    if (tdm_ranking_open(set, &r, &err))
        fail_msg("%s", err.msg);
    return r;
}

static tdm_intervals intervals_of(const tdm_scored *set, const tdm_evaluate_options *options,
                                  const tdm_bootstrap_options *boot)
{
    tdm_intervals found;
    tdm_err err = {0};
    tdm_ranking *r = open_ranking(set);
    if (tdm_bootstrap(r, options, boot, &found, &err))
        fail_msg("%s", err.msg);
    tdm_ranking_close(r);
    return found;
}

/* ---- literally ---- */

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static int rising(const void *a, const void *b)
{
    return falling(b, a);
}

/* Draw i of a class, as host/evaluate.h has it. */
static size_t literal_draw(uint64_t seed, size_t i, uint32_t class, uint64_t replicate, size_t n)
{
    uint32_t w[4];
    tdm_philox((uint32_t[4]){(uint32_t)(i / 2), class, (uint32_t)replicate, (uint32_t)(replicate >> 32)}, seed, w);
    const uint64_t u = i % 2 ? (uint64_t)w[3] << 32 | w[2] : (uint64_t)w[1] << 32 | w[0];
    size_t index = 0; /* u * n / 2^64, a digit of n at a time */
    uint64_t rest = 0;
    for (int bit = 63; bit >= 0; bit--) {
        const uint64_t twice = rest << 1, more = n >> bit & 1 ? u : 0;
        index = index << 1 | rest >> 63;
        rest = twice + more;
        index += rest < more;
    }
    return index;
}

static void put_values(const tdm_values *v, double row[VALUES])
{
    const double values[] = {v->auroc, v->average_precision, v->pr_auc, v->accuracy, v->balanced_accuracy, v->precision,
                             v->recall, v->f1};
    memcpy(row, values, sizeof values);
    for (int i = 0; i < TDM_FPRS_MOST; i++)
        row[8 + i] = v->at_fpr[i].tpr;
}

static void literal_replicate(const double *const falling_scores[2], const size_t n[2], const tdm_bootstrap_options *boot,
                              uint64_t replicate, double row[VALUES])
{
    static double drawn[2 * MOST_TEXTS];
    static uint8_t classes[2 * MOST_TEXTS];
    size_t at = 0;
    for (uint32_t class = 0; class < 2; class++)
        for (size_t i = 0; i < n[class]; i++) {
            drawn[at] = falling_scores[class][literal_draw(boot->seed, i, class, replicate, n[class])];
            classes[at++] = (uint8_t)class;
        }
    tdm_ranking *r = open_ranking(&(tdm_scored){drawn, classes, NULL, at});
    tdm_values v;
    tdm_evaluate(r, &OPTIONS, &v);
    put_values(&v, row);
    tdm_ranking_close(r);
}

static double literal_percentile(const double *sorted, size_t n, double q)
{
    const double place = q * (double)(n - 1);
    const size_t i = (size_t)place;
    return i + 1 < n ? sorted[i] + (sorted[i + 1] - sorted[i]) * (place - (double)i) : sorted[i];
}

static void literal_bootstrap(const tdm_scored *set, const tdm_bootstrap_options *boot, tdm_interval out[VALUES])
{
    static double classes[2][2 * MOST_TEXTS], rows[MOST_REPLICATES][VALUES];
    const double *const falling_scores[2] = {classes[0], classes[1]};
    size_t n[2] = {0, 0};
    const size_t replicates = (size_t)boot->replicates;
    for (size_t i = 0; i < set->n; i++)
        classes[set->machine[i]][n[set->machine[i]]++] = set->scores[i];
    for (int class = 0; class < 2; class++)
        qsort(classes[class], n[class], sizeof(double), falling);
    for (size_t k = 0; k < replicates; k++)
        literal_replicate(falling_scores, n, boot, k, rows[k]);
    for (int value = 0; value < VALUES; value++) {
        double column[MOST_REPLICATES];
        for (size_t k = 0; k < replicates; k++)
            column[k] = rows[k][value];
        qsort(column, replicates, sizeof *column, rising);
        out[value].low = literal_percentile(column, replicates, (1 - boot->confidence) / 2);
        out[value].high = literal_percentile(column, replicates, (1 + boot->confidence) / 2);
    }
}

static void check_intervals(const char *why, const tdm_intervals *got, const tdm_interval want[VALUES])
{
    const tdm_interval found[] = {got->auroc, got->average_precision, got->pr_auc, got->accuracy,
                                  got->balanced_accuracy, got->precision, got->recall, got->f1};
    for (int i = 0; i < VALUES; i++) {
        const tdm_interval *g = i < 8 ? &found[i] : &got->tpr[i - 8];
        if (g->low != want[i].low || g->high != want[i].high)
            fail_msg("%s: value %d is in %.17g .. %.17g, want %.17g .. %.17g", why, i, g->low, g->high, want[i].low,
                     want[i].high);
    }
}

static const struct {
    const char *why;
    size_t humans, machines;
    uint32_t levels;
    int64_t replicates;
    uint64_t seed;
    double confidence;
} SETS[] = {
    {"one of each", 1, 1, 0, 9, 1, 0.95},
    {"one of each, equal", 1, 1, 1, 9, 1, 0.95},
    {"one replicate", 20, 20, 0, 1, 3, 0.9},
    {"two replicates", 21, 20, 0, 2, 3, 0.9},
    {"all equal", 30, 40, 1, 20, 1, 0.95},
    {"ties", 50, 61, 7, 64, 1, 0.95},
    {"no ties", 101, 100, 0, 64, 9, 0.99},
    {"unbalanced", 300, 3, 20, 64, 5, 0.5},
    {"few humans", 2, 301, 0, 64, 5, 0.95},
    {"draws in one piece", 1024, 1023, 500, 30, UINT64_C(0x123456789abcdef0), 0.95},
    {"a draw more", 1025, 2049, 0, 30, UINT64_MAX, 0.95},
    {"many: the lower half of a draw counts", 250000, 250000, 0, 3, 2, 0.95},
};

static void test_literally(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SETS); i++) {
        tdm_interval want[VALUES];
        const tdm_bootstrap_options boot = {SETS[i].replicates, SETS[i].seed, SETS[i].confidence, 2, NULL};
        const tdm_scored set = make_set(SETS[i].humans, SETS[i].machines, SETS[i].levels, (uint32_t)i);
        literal_bootstrap(&set, &boot, want);
        const tdm_intervals got = intervals_of(&set, &OPTIONS, &boot);
        check_intervals(SETS[i].why, &got, want);
    }
}

/* ---- what matters not, and what does ---- */

static void test_threads_and_order_do_not_matter(void **state)
{
    (void)state;
    const tdm_scored set = make_set(700, 500, 100, 1);
    tdm_bootstrap_options boot = {.replicates = 1000, .seed = 4, .confidence = 0.95, .threads = 1};
    const tdm_intervals want = intervals_of(&set, &OPTIONS, &boot);
    for (boot.threads = 2; boot.threads <= 4; boot.threads++) {
        const tdm_intervals got = intervals_of(&set, &OPTIONS, &boot);
        assert_memory_equal(&got, &want, sizeof got);
    }
    for (size_t i = 0; i < set.n / 2; i++) { /* from the back */
        const double score = scores[i];
        const uint8_t class = machine[i];
        scores[i] = scores[set.n - 1 - i];
        machine[i] = machine[set.n - 1 - i];
        scores[set.n - 1 - i] = score;
        machine[set.n - 1 - i] = class;
    }
    const tdm_intervals turned = intervals_of(&set, &OPTIONS, &boot);
    assert_memory_equal(&turned, &want, sizeof want);
    boot.seed = 5;
    const tdm_intervals other = intervals_of(&set, &OPTIONS, &boot);
    assert_true(other.auroc.low != want.auroc.low && other.auroc.high != want.auroc.high);
}

static void test_not_asked_for(void **state)
{
    (void)state;
    const tdm_scored set = make_set(30, 30, 0, 1);
    const tdm_evaluate_options none = {.threshold = NAN, .fprs = {0.1}, .n_fprs = 1};
    tdm_bootstrap_options boot = {.replicates = 10, .confidence = 0.95};
    tdm_intervals found = intervals_of(&set, &none, &boot);
    assert_true(found.auroc.low < found.auroc.high && found.tpr[0].low <= found.tpr[0].high);
    assert_true(isnan(found.accuracy.low) && isnan(found.f1.high) && isnan(found.tpr[1].low) && isnan(found.tpr[7].high));
    boot.replicates = 0;
    found = intervals_of(&set, &OPTIONS, &boot);
    assert_true(isnan(found.auroc.low) && isnan(found.recall.high) && isnan(found.tpr[0].low));
}

static const struct {
    tdm_evaluate_options options;
    tdm_bootstrap_options boot;
    const char *says;
} REFUSED[] = {
    {{.n_fprs = 0}, {-1, 0, 0.95, 1, NULL}, "-1 replicates"},
    {{.n_fprs = 0}, {1, 0, 0, 1, NULL}, "confidence 0, want a number between 0 and 1"},
    {{.n_fprs = 0}, {1, 0, 1, 1, NULL}, "confidence 1, want a number between 0 and 1"},
    {{.n_fprs = 0}, {1, 0, NAN, 1, NULL}, "confidence nan, want a number between 0 and 1"},
    {{.n_fprs = 9}, {1, 0, 0.95, 1, NULL}, "9 FPRs, want at most 8"},
    {{.n_fprs = 2, .fprs = {1, -0.1}}, {1, 0, 0.95, 1, NULL}, "FPR -0.1, want a number from 0 to 1"},
    {{.n_fprs = 2, .fprs = {NAN, 0}}, {1, 0, 0.95, 1, NULL}, "FPR nan, want a number from 0 to 1"},
    {{.n_fprs = 1, .fprs = {1.5}}, {1, 0, 0.95, 1, NULL}, "FPR 1.5, want a number from 0 to 1"},
};

static void test_refused(void **state)
{
    (void)state;
    const tdm_scored set = make_set(3, 3, 0, 1);
    tdm_ranking *r = open_ranking(&set);
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        tdm_err err = {0};
        tdm_intervals found;
        assert_int_equal(tdm_bootstrap(r, &REFUSED[i].options, &REFUSED[i].boot, &found, &err), TDM_EARG);
        assert_string_equal(err.msg, REFUSED[i].says);
    }
    tdm_ranking_close(r);
}

static void *set_stop(void *stop)
{
    tdm_stop_set(stop, 15);
    return NULL;
}

/* Minutes of work, ended by another thread. */
static void test_stopped(void **state)
{
    (void)state;
    const tdm_scored set = make_set(2000, 2000, 0, 1);
    tdm_stop stop = {0};
    tdm_err err = {0};
    tdm_intervals found;
    pthread_t other;
    const tdm_bootstrap_options boot = {.replicates = 3000000, .confidence = 0.95, .threads = 2, .stop = &stop};
    tdm_ranking *r = open_ranking(&set);
    assert_int_equal(pthread_create(&other, NULL, set_stop, &stop), 0);
    assert_int_equal(tdm_bootstrap(r, &OPTIONS, &boot, &found, &err), TDM_ESTOPPED);
    assert_string_equal(err.msg, "stopped by signal 15");
    assert_int_equal(pthread_join(other, NULL), 0);
    tdm_ranking_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literally),
        cmocka_unit_test(test_threads_and_order_do_not_matter),
        cmocka_unit_test(test_not_asked_for),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
