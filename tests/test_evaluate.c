/* Ranking, values, thresholds and curves: small sets by hand, and random ones against definitions taken
 * literally. */
#include <math.h>
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
enum { MOST_TEXTS = 400 };
#define BIG 0x1p1023 /* twice as much is no double */

/* A set that owns its texts. */
typedef struct {
    double scores[MOST_TEXTS];
    uint8_t machine[MOST_TEXTS];
    size_t n;
} texts;

static tdm_ranking *ranking_of(const texts *t)
{
    tdm_ranking *r = NULL;
    tdm_err err = {0};
    const tdm_scored set = {t->scores, t->machine, NULL, t->n};
    if (tdm_ranking_open(&set, &r, &err))
        fail_msg("%s", err.msg);
    return r;
}

static void near(const char *why, const char *what, double got, double want)
{
    if (!(fabs(got - want) <= 1e-15) && !(got == want) && !(isnan(got) && isnan(want)))
        fail_msg("%s: %s is %.17g, want %.17g", why, what, got, want);
}

/* ---- by hand ---- */

/* Scores and classes (m or h) as written; FPR targets 0 and 0.5. */
static const struct {
    const char *why;
    double scores[8];
    const char *classes;
    double threshold;
    double auroc, average_precision, pr_auc;
    tdm_confusion confusion;
    double accuracy, balanced, precision, recall, f1;
    struct {
        double threshold, tpr, fpr;
    } at[2];
    double best;
} SETS[] = {
    {"parted", {1, 2, 3, 4}, "hhmm", 2.5, 1, 1, 1, {2, 0, 2, 0}, 1, 1, 1, 1, 1, {{3, 1, 0}, {3, 1, 0}}, 2.5},
    {"parted, the wrong way", {1, 2, 3, 4}, "mmhh", 2.5, 0, 5. / 12, 7. / 24, {0, 2, 0, 2}, 0, 0, 0, 0, 0,
     {{INFINITY, 0, 0}, {INFINITY, 0, 0}}, -INFINITY},
    {"one of each", {0, 1}, "hm", 1, 1, 1, 1, {1, 0, 1, 0}, 1, 1, 1, 1, 1, {{1, 1, 0}, {1, 1, 0}}, 0.5},
    {"one of each, equal", {7, 7}, "mh", 7, 0.5, 0.5, 0.75, {1, 0, 0, 1}, 0.5, 0.5, 0.5, 1, 2. / 3,
     {{INFINITY, 0, 0}, {INFINITY, 0, 0}}, -INFINITY},
    {"all equal, none called", {7, 7, 7, 7, 7}, "mhhmh", 7.5, 0.5, 0.4, 0.7, {0, 2, 3, 0}, 0.6, 0.5, 0, 0, 0,
     {{INFINITY, 0, 0}, {INFINITY, 0, 0}}, -INFINITY},
    {"-0 is 0", {-0.0, 0.0, 0.0, -0.0}, "mmhh", -0.0, 0.5, 0.5, 0.75, {2, 0, 0, 2}, 0.5, 0.5, 0.5, 1, 2. / 3,
     {{INFINITY, 0, 0}, {INFINITY, 0, 0}}, -INFINITY},
    {"a tie across", {1, 2, 2, 3}, "hhmm", 2, 0.875, 5. / 6, 11. / 12, {2, 0, 1, 1}, 0.75, 0.75, 2. / 3, 1, 0.8,
     {{3, 0.5, 0}, {2, 1, 0.5}}, 1.5},
    {"between", {4, 3, 2, 1}, "mhmh", 0, 0.75, 5. / 6, 19. / 24, {2, 0, 0, 2}, 0.5, 0.5, 0.5, 1, 2. / 3,
     {{4, 0.5, 0}, {2, 1, 0.5}}, 1.5},
    {"huge", {-BIG, BIG, -1, 1.5 * BIG}, "hmhm", 0, 1, 1, 1, {2, 0, 2, 0}, 1, 1, 1, 1, 1,
     {{BIG, 1, 0}, {BIG, 1, 0}}, 0x1p1022},
    {"all huge", {BIG, 1.5 * BIG}, "hm", 0, 1, 1, 1, {1, 0, 0, 1}, 0.5, 0.5, 0.5, 1, 2. / 3,
     {{1.5 * BIG, 1, 0}, {1.5 * BIG, 1, 0}}, 1.25 * BIG},
    {"unbalanced", {1, 2, 3, 4, 5, 6, 7, 8}, "hhhhhhmh", 6.5, 6. / 7, 0.5, 0.25, {1, 0, 6, 1}, 7. / 8, 13. / 14, 0.5, 1,
     2. / 3, {{INFINITY, 0, 0}, {7, 1, 1. / 7}}, 6.5},
};

static void check_set(size_t i)
{
    const char *why = SETS[i].why;
    texts t = {.n = strlen(SETS[i].classes)};
    tdm_evaluate_options options = {.threshold = SETS[i].threshold, .fprs = {0, 0.5}, .n_fprs = 2};
    tdm_values v;
    for (size_t k = 0; k < t.n; k++) {
        t.scores[k] = SETS[i].scores[k];
        t.machine[k] = SETS[i].classes[k] == 'm';
    }
    tdm_ranking *r = ranking_of(&t);
    tdm_evaluate(r, &options, &v);
    near(why, "AUROC", v.auroc, SETS[i].auroc);
    near(why, "average precision", v.average_precision, SETS[i].average_precision);
    near(why, "PR-AUC", v.pr_auc, SETS[i].pr_auc);
    near(why, "accuracy", v.accuracy, SETS[i].accuracy);
    near(why, "balanced accuracy", v.balanced_accuracy, SETS[i].balanced);
    near(why, "precision", v.precision, SETS[i].precision);
    near(why, "recall", v.recall, SETS[i].recall);
    near(why, "F1", v.f1, SETS[i].f1);
    near(why, "best threshold", tdm_best_threshold(r), SETS[i].best);
    assert_memory_equal(&v.confusion, &SETS[i].confusion, sizeof v.confusion);
    for (int k = 0; k < 2; k++) {
        near(why, "threshold at FPR", v.at_fpr[k].threshold, SETS[i].at[k].threshold);
        near(why, "TPR", v.at_fpr[k].tpr, SETS[i].at[k].tpr);
        near(why, "FPR", v.at_fpr[k].fpr, SETS[i].at[k].fpr);
    }
    options.threshold = NAN;
    tdm_evaluate(r, &options, &v);
    near(why, "accuracy without a threshold", v.accuracy, NAN);
    near(why, "F1 without a threshold", v.f1, NAN);
    assert_int_equal(v.confusion.human_right + v.confusion.machine_wrong, 0);
    near(why, "AUROC without a threshold", v.auroc, SETS[i].auroc);
    tdm_ranking_close(r);
}

static void test_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SETS); i++)
        check_set(i);
}

/* No double between the scores that the threshold parts: it still calls the upper one, and only that, a machine's. */
static void test_best_threshold_parts(void **state)
{
    (void)state;
    const double pairs[][2] = {{1, 1 + 0x1p-52}, {-1 - 0x1p-52, -1}, {0, 0x1p-1074}, {-0x1p-1074, 0},
                               {0x1p-1074, 0x1p-1073}, {0x1.fffffffffffffp-1, 1}, {-1.5 * BIG, 1.5 * BIG}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        texts t = {.scores = {pairs[i][0], pairs[i][1]}, .machine = {0, 1}, .n = 2};
        tdm_ranking *r = ranking_of(&t);
        const double best = tdm_best_threshold(r);
        if (!(pairs[i][0] < best && best <= pairs[i][1]))
            fail_msg("between %a and %a: %a", pairs[i][0], pairs[i][1], best);
        tdm_ranking_close(r);
    }
}

/* A target that is the double next to f / n allows f humans of n, and the next lower double does not. */
static void test_targets_are_exact(void **state)
{
    (void)state;
    static const size_t HUMANS[] = {1, 3, 10, 49, 100, 107, MOST_TEXTS - 1};
    for (size_t k = 0; k < COUNT(HUMANS); k++)
        for (size_t f = 1; f <= HUMANS[k]; f++) {
            texts t = {.n = HUMANS[k] + 1};
            for (size_t i = 0; i < t.n; i++) {
                t.scores[i] = -(double)i;
                t.machine[i] = i == f; /* f humans are above it */
            }
            const double target = (double)f / (double)HUMANS[k];
            const tdm_evaluate_options options = {.threshold = NAN, .fprs = {target, nextafter(target, 0)}, .n_fprs = 2};
            tdm_values v;
            tdm_ranking *r = ranking_of(&t);
            tdm_evaluate(r, &options, &v);
            tdm_ranking_close(r);
            if (v.at_fpr[0].tpr != 1 || v.at_fpr[0].fpr != target || v.at_fpr[1].tpr != 0)
                fail_msg("%zu of %zu humans: TPR %g and %g", f, HUMANS[k], v.at_fpr[0].tpr, v.at_fpr[1].tpr);
        }
}

/* ---- what is refused ---- */

static const struct {
    const char *why;
    double scores[3];
    uint8_t machine[3], wanted[3];
    size_t n;
    const char *says; /* NULL: fine */
} REFUSED[] = {
    {"NaN", {1, 2, NAN}, {0, 1, 1}, {1, 1, 1}, 3, "score 2 is nan, want a finite number"},
    {"infinity", {1, INFINITY, NAN}, {0, 1, 1}, {1, 1, 1}, 3, "score 1 is inf, want a finite number"},
    {"minus infinity", {-INFINITY, 0, 0}, {0, 1, 1}, {1, 1, 1}, 3, "score 0 is -inf, want a finite number"},
    {"NaN that is not wanted", {NAN, 0, 1}, {0, 1, 0}, {0, 1, 1}, 3, NULL},
    {"no human", {1, 2, 3}, {1, 1, 1}, {1, 1, 1}, 3, "none of 3 texts is a human's"},
    {"no machine", {1, 2, 3}, {0, 0, 0}, {1, 1, 1}, 3, "none of 3 texts is a machine's"},
    {"no machine that is wanted", {1, 2, 3}, {0, 0, 1}, {1, 1, 0}, 3, "none of 2 texts is a machine's"},
    {"nothing", {0}, {0}, {0}, 0, "none of 0 texts is a human's"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        const tdm_scored set = {REFUSED[i].scores, REFUSED[i].machine, REFUSED[i].wanted, REFUSED[i].n};
        tdm_ranking *r = (tdm_ranking *)state;
        tdm_err err = {0};
        const tdm_status st = tdm_ranking_open(&set, &r, &err);
        if (st != (REFUSED[i].says ? TDM_EFORMAT : TDM_OK) || strcmp(err.msg, REFUSED[i].says ? REFUSED[i].says : ""))
            fail_msg("%s: %d, %s", REFUSED[i].why, st, err.msg);
        assert_true((r == NULL) == (st != TDM_OK));
        tdm_ranking_close(r);
    }
    tdm_ranking_close(NULL);
}

static void test_wanted(void **state)
{
    (void)state;
    const double scores[] = {5, 1, 2, 9, 3, 0};
    const uint8_t machine[] = {1, 0, 1, 0, 1, 0}, wanted[] = {0, 1, 1, 0, 1, 1};
    const tdm_scored set = {scores, machine, wanted, COUNT(scores)};
    const tdm_evaluate_options options = {.threshold = NAN};
    tdm_ranking *r = NULL;
    tdm_values v;
    assert_int_equal(tdm_ranking_open(&set, &r, NULL), TDM_OK);
    assert_int_equal(tdm_ranking_humans(r), 2);
    assert_int_equal(tdm_ranking_machines(r), 2);
    tdm_evaluate(r, &options, &v);
    near("wanted", "AUROC", v.auroc, 1);
    tdm_ranking_close(r);
}

/* ---- random sets against the definitions ---- */

/* Text i of set `seed`: `levels` different scores around 0, or as good as no ties; machines a little higher. */
static void random_texts(texts *t, uint32_t seed)
{
    static const uint32_t LEVELS[] = {1, 2, 3, 10, 100, 1u << 30};
    uint32_t w[4];
    tdm_philox((uint32_t[4]){0, 0, 0, seed}, 1, w);
    const uint32_t levels = LEVELS[w[0] % COUNT(LEVELS)], share = 1 + w[1] % 9, shift = w[3] % 3;
    t->n = 2 + w[2] % (seed % 4 ? 30 : MOST_TEXTS - 2);
    for (uint32_t i = 0; i < t->n; i++) {
        tdm_philox((uint32_t[4]){1 + i, 0, 0, seed}, 1, w);
        t->machine[i] = i < 2 ? i == 1 : w[0] % 10 < share;
        t->scores[i] = (double)(w[1] % levels) - levels / 2 + (t->machine[i] ? shift * (levels / 7) : 0);
        t->scores[i] = seed % 5 ? t->scores[i] : ldexp(t->scores[i], -300);
    }
}

static tdm_confusion literal_confusion(const texts *t, double threshold)
{
    tdm_confusion c = {0};
    for (size_t i = 0; i < t->n; i++) {
        const bool called = t->scores[i] >= threshold;
        c.machine_right += called && t->machine[i];
        c.machine_wrong += !called && t->machine[i];
        c.human_right += !called && !t->machine[i];
        c.human_wrong += called && !t->machine[i];
    }
    return c;
}

static double literal_auroc(const texts *t)
{
    double right = 0, pairs = 0;
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->n; k++)
            if (t->machine[i] && !t->machine[k]) {
                right += t->scores[i] > t->scores[k] ? 1 : t->scores[i] == t->scores[k] ? 0.5 : 0;
                pairs++;
            }
    return right / pairs;
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* +infinity and the different scores, falling. Returns how many. */
static size_t thresholds_of(const texts *t, double thresholds[MOST_TEXTS + 1])
{
    size_t n = 1;
    double sorted[MOST_TEXTS];
    memcpy(sorted, t->scores, sizeof sorted);
    qsort(sorted, t->n, sizeof *sorted, falling);
    thresholds[0] = INFINITY;
    for (size_t i = 0; i < t->n; i++)
        if (sorted[i] != thresholds[n - 1])
            thresholds[n++] = sorted[i];
    return n;
}

static double tpr_of(const tdm_confusion *c)
{
    return (double)c->machine_right / (double)(c->machine_right + c->machine_wrong);
}

static double fpr_of(const tdm_confusion *c)
{
    return (double)c->human_wrong / (double)(c->human_right + c->human_wrong);
}

static void check_operating_point(const texts *t, uint32_t seed, double target, const tdm_operating_point *p)
{
    double thresholds[MOST_TEXTS + 1], tpr = 0, at = INFINITY;
    const size_t n = thresholds_of(t, thresholds);
    for (size_t i = 0; i < n; i++) {
        const tdm_confusion c = literal_confusion(t, thresholds[i]);
        if (fpr_of(&c) <= target && tpr_of(&c) > tpr) {
            tpr = tpr_of(&c);
            at = thresholds[i];
        }
    }
    const tdm_confusion c = literal_confusion(t, at);
    if (p->tpr != tpr || p->threshold != at || p->fpr != fpr_of(&c) || p->fpr > target)
        fail_msg("set %u, FPR %g: threshold %g TPR %g FPR %g, want %g %g %g", seed, target, p->threshold, p->tpr, p->fpr,
                 at, tpr, fpr_of(&c));
}

static void check_best(const texts *t, uint32_t seed, double best)
{
    double thresholds[MOST_TEXTS + 1];
    const size_t n = thresholds_of(t, thresholds);
    const tdm_confusion found = literal_confusion(t, best);
    for (size_t i = 0; i < n; i++) {
        const tdm_confusion c = literal_confusion(t, thresholds[i]);
        const double gain = tdm_balanced_accuracy(&c) - tdm_balanced_accuracy(&found);
        if (gain > 1e-12 || (gain > -1e-12 && thresholds[i] < best && c.human_right < found.human_right))
            fail_msg("set %u: threshold %g is better than %g, or as good and lower", seed, thresholds[i], best);
    }
}

static void check_curves(const texts *t, uint32_t seed, const tdm_values *v)
{
    double thresholds[MOST_TEXTS + 1], average = 0, area = 0, recall = 0, precision = 1;
    const size_t n = thresholds_of(t, thresholds);
    for (size_t i = 1; i < n; i++) {
        const tdm_confusion c = literal_confusion(t, thresholds[i]);
        const double here = (double)c.machine_right / (double)(c.machine_right + c.human_wrong), step = tpr_of(&c) - recall;
        average += step * here;
        area += step * (here + precision) / 2;
        precision = here;
        recall = tpr_of(&c);
    }
    if (fabs(average - v->average_precision) > 1e-14 || fabs(area - v->pr_auc) > 1e-14)
        fail_msg("set %u: average precision %.17g, PR-AUC %.17g, want %.17g, %.17g", seed, v->average_precision, v->pr_auc,
                 average, area);
}

static void check_random(uint32_t seed)
{
    static const double TARGETS[] = {0, 0.001, 0.01, 0.05, 0.1, 1. / 3, 0.7, 1};
    texts t;
    random_texts(&t, seed);
    tdm_evaluate_options options = {.threshold = t.scores[t.n / 2], .n_fprs = COUNT(TARGETS)};
    memcpy(options.fprs, TARGETS, sizeof TARGETS);
    tdm_ranking *r = ranking_of(&t);
    tdm_values v;
    tdm_evaluate(r, &options, &v);
    const tdm_confusion want = literal_confusion(&t, options.threshold);
    assert_memory_equal(&v.confusion, &want, sizeof want);
    if (fabs(v.auroc - literal_auroc(&t)) > 1e-15)
        fail_msg("set %u: AUROC %.17g, want %.17g", seed, v.auroc, literal_auroc(&t));
    for (size_t i = 0; i < COUNT(TARGETS); i++)
        check_operating_point(&t, seed, TARGETS[i], &v.at_fpr[i]);
    check_best(&t, seed, tdm_best_threshold(r));
    check_curves(&t, seed, &v);
    tdm_ranking_close(r);
}

static void test_random_sets(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 400; seed++)
        check_random(seed);
}

/* Sums stay exact where a sum of doubles would drift: 2,000,000 texts, machine and human by turns, so that every precision
 * is of a form whose sum is known, here by adding the smallest terms first. */
static void test_large(void **state)
{
    (void)state;
    enum { N = 2000000 };
    double *scores = malloc(N * sizeof *scores), want = 0;
    uint8_t *machine = malloc(N);
    assert_true(scores && machine);
    for (size_t i = 0; i < N; i++) {
        scores[i] = -(double)i;
        machine[i] = i % 2 == 0;
    }
    const tdm_scored set = {scores, machine, NULL, N};
    const tdm_evaluate_options options = {.threshold = NAN};
    tdm_ranking *r = NULL;
    tdm_values v;
    assert_int_equal(tdm_ranking_open(&set, &r, NULL), TDM_OK);
    tdm_evaluate(r, &options, &v);
    /* machine k (from 1) is text 2 k - 1: precision k / (2 k - 1) = 1/2 + 1/2 / (2 k - 1) */
    for (int k = N / 2; k >= 1; k--)
        want += 0.5 / (2 * k - 1);
    want = 0.5 + want / (N / 2);
    near("by turns", "average precision", v.average_precision, want);
    near("by turns", "AUROC", v.auroc, 0.5 + 1.0 / N);
    tdm_ranking_close(r);
    free(scores);
    free(machine);
}

/* ---- the ROC curve ---- */

static void check_roc(const texts *t, uint32_t seed, size_t most)
{
    static tdm_roc_point points[MOST_TEXTS + 2];
    double thresholds[MOST_TEXTS + 1];
    const size_t n_all = thresholds_of(t, thresholds);
    tdm_ranking *r = ranking_of(t);
    const size_t n = tdm_roc_curve(r, points, most);
    tdm_ranking_close(r);
    assert_true(n >= 2 && n <= most);
    assert_true(n_all > most || n == n_all);
    assert_true(points[0].fpr == 0 && points[0].tpr == 0 && isinf(points[0].threshold));
    assert_true(points[n - 1].fpr == 1 && points[n - 1].tpr == 1);
    size_t k = 0; /* the last point kept up to the threshold */
    for (size_t i = 0; i < n_all; i++) {
        const tdm_confusion c = literal_confusion(t, thresholds[i]);
        if (k + 1 < n && points[k + 1].threshold >= thresholds[i])
            k++;
        const double away = fabs(fpr_of(&c) - points[k].fpr) + fabs(tpr_of(&c) - points[k].tpr);
        const bool is_kept = points[k].threshold == thresholds[i];
        if (is_kept ? away != 0 : away > 2 / ((double)most - 1))
            fail_msg("set %u, at most %zu points: threshold %g is %g away", seed, most, thresholds[i], away);
    }
    assert_int_equal(k, n - 1);
}

static void test_roc_curve(void **state)
{
    (void)state;
    const size_t mosts[] = {2, 3, 10, 100, MOST_TEXTS + 1};
    for (uint32_t seed = 0; seed < 100; seed++)
        for (size_t i = 0; i < COUNT(mosts); i++) {
            texts t;
            random_texts(&t, seed);
            check_roc(&t, seed, mosts[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_best_threshold_parts),
        cmocka_unit_test(test_targets_are_exact),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_random_sets),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_roc_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
