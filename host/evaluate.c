/* host/evaluate.c - a ranking, and what is read off it. */
#include "host/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/evaluate_state.h"

static bool is_wanted(const tdm_scored *set, size_t i)
{
    return !set->wanted || set->wanted[i];
}

/* The keys of both classes in the order of the set. */
static tdm_status take_scores(tdm_ranking *r, const tdm_scored *set, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n[2] = {0, 0};
    for (size_t i = 0; i < set->n; i++)
        if (is_wanted(set, i)) {
            TDM_REQUIRE(isfinite(set->scores[i]), TDM_EFORMAT, "score %zu is %g, want a finite number", i,
                        set->scores[i]);
            n[set->machine[i] != 0]++;
        }
    TDM_REQUIRE(n[HUMAN], TDM_EFORMAT, "none of %zu texts is a human's", n[MACHINE]);
    TDM_REQUIRE(n[MACHINE], TDM_EFORMAT, "none of %zu texts is a machine's", n[HUMAN]);
    TDM_REQUIRE(n[HUMAN] + n[MACHINE] <= UINT32_MAX, TDM_EARG, "%zu texts, want at most %" PRIu32,
                n[HUMAN] + n[MACHINE], UINT32_MAX);
    for (int class = HUMAN; class <= MACHINE; class++) {
        r->keys[class] = calloc(n[class], sizeof *r->keys[class]);
        TDM_REQUIRE(r->keys[class], TDM_ENOMEM, "%zu scores", n[class]);
    }
    for (size_t i = 0; i < set->n; i++)
        if (is_wanted(set, i)) {
            const int class = set->machine[i] != 0;
            r->keys[class][r->n[class]++] = tdm_key_of(set->scores[i]);
        }
done:
    return st;
}

/* Merge both classes into one order. */
static void put_in_order(tdm_ranking *r)
{
    size_t at[2] = {0, 0};
    const size_t n = r->n[HUMAN] + r->n[MACHINE];
    uint64_t before = 0;
    for (size_t i = 0; i < n; i++) {
        const int class = at[HUMAN] == r->n[HUMAN] ||
                          (at[MACHINE] < r->n[MACHINE] && r->keys[MACHINE][at[MACHINE]] < r->keys[HUMAN][at[HUMAN]]);
        const uint64_t key = r->keys[class][at[class]++];
        if (i && key != before)
            r->order[i - 1] |= LAST_OF_GROUP;
        r->order[i] = (uint8_t)class;
        before = key;
    }
    r->order[n - 1] |= LAST_OF_GROUP;
}

tdm_status tdm_ranking_open(const tdm_scored *set, tdm_ranking **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *r = calloc(1, sizeof *r);
    *out = NULL;
    TDM_REQUIRE(r, TDM_ENOMEM, "a ranking");
    TDM_TRY(take_scores(r, set, err));
    for (int class = HUMAN; class <= MACHINE; class++)
        TDM_TRY(tdm_sort_keys(r->keys[class], r->n[class], err));
    r->order = calloc(r->n[HUMAN] + r->n[MACHINE], 1);
    TDM_REQUIRE(r->order, TDM_ENOMEM, "the order of %zu scores", r->n[HUMAN] + r->n[MACHINE]);
    put_in_order(r);
    *out = r;
    r = NULL;
done:
    tdm_ranking_close(r);
    return st;
}

void tdm_ranking_close(tdm_ranking *r)
{
    if (!r)
        return;
    free(r->keys[HUMAN]);
    free(r->keys[MACHINE]);
    free(r->order);
    free(r);
}

size_t tdm_ranking_humans(const tdm_ranking *r)
{
    return r->n[HUMAN];
}

size_t tdm_ranking_machines(const tdm_ranking *r)
{
    return r->n[MACHINE];
}

/* ---- values ---- */

size_t tdm_count_to(const tdm_ranking *r, int class, uint64_t key)
{
    size_t low = 0, high = r->n[class];
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (r->keys[class][middle] <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t tdm_false_most(size_t n, double target)
{
    const double whole = (double)n;
    size_t f = target >= 1 ? n : target > 0 ? (size_t)(target * whole) : 0;
    while (f > 0 && (double)f / whole > target)
        f--;
    while (f < n && (double)(f + 1) / whole <= target)
        f++;
    return f;
}

static tdm_operating_point operating_point(const tdm_ranking *r, double target)
{
    tdm_operating_point p = {.threshold = INFINITY};
    const size_t most = tdm_false_most(r->n[HUMAN], target);
    /* all machines above the first human that is one too many */
    const size_t hits = most == r->n[HUMAN] ? r->n[MACHINE] : tdm_count_to(r, MACHINE, r->keys[HUMAN][most] - 1);
    if (hits == 0)
        return p;
    const uint64_t key = r->keys[MACHINE][hits - 1];
    p.threshold = tdm_score_of(key);
    p.tpr = (double)hits / (double)r->n[MACHINE];
    p.fpr = (double)tdm_count_to(r, HUMAN, key) / (double)r->n[HUMAN];
    return p;
}

tdm_confusion tdm_confusion_at(const tdm_ranking *r, double threshold)
{
    if (isnan(threshold))
        return (tdm_confusion){0};
    const uint64_t key = tdm_key_of(threshold);
    const int64_t right = (int64_t)tdm_count_to(r, MACHINE, key), wrong = (int64_t)tdm_count_to(r, HUMAN, key);
    return (tdm_confusion){
        .machine_right = right,
        .machine_wrong = (int64_t)r->n[MACHINE] - right,
        .human_right = (int64_t)r->n[HUMAN] - wrong,
        .human_wrong = wrong,
    };
}

size_t tdm_split_of(const tdm_ranking *r, double threshold)
{
    const tdm_confusion c = tdm_confusion_at(r, threshold);
    return (size_t)(c.machine_right + c.human_wrong);
}

void tdm_evaluate(const tdm_ranking *r, const tdm_evaluate_options *options, tdm_values *out)
{
    const tdm_sweep_options o = {.split = tdm_split_of(r, options->threshold)};
    tdm_sweep_sums sums;
    tdm_sweep(r, &o, NULL, &sums);
    tdm_values_from_sums(&sums, !isnan(options->threshold), out);
    for (int i = 0; i < options->n_fprs; i++)
        out->at_fpr[i] = operating_point(r, options->fprs[i]);
}

/* ---- thresholds ---- */

/* A walk down the groups of equal scores. */
typedef struct {
    const tdm_ranking *r;
    size_t at[2]; /* texts behind us: those that the threshold calls a machine's */
    uint64_t key; /* of the last group */
} descent;

static bool next_group(descent *d)
{
    const tdm_ranking *r = d->r;
    size_t i = d->at[HUMAN] + d->at[MACHINE];
    if (i == r->n[HUMAN] + r->n[MACHINE])
        return false;
    const int class = r->order[i] & MACHINE;
    d->key = r->keys[class][d->at[class]];
    do
        d->at[r->order[i] & MACHINE]++;
    while (!(r->order[i++] & LAST_OF_GROUP));
    return true;
}

/* A number t with low < t <= high, half way. */
static double between(double low, double high)
{
    const double middle = low / 2 + high / 2;
    return low < middle && middle <= high ? middle : high;
}

double tdm_best_threshold(const tdm_ranking *r)
{
    descent d = {.r = r};
    double above = INFINITY, best = INFINITY; /* the last group's score; half way from it to the next */
    int64_t most = 0;  /* (TPR - FPR) x humans x machines; 0 when none is called a machine's */
    bool is_open = false;
    while (next_group(&d)) {
        const double score = tdm_score_of(d.key);
        if (is_open)
            best = between(score, above);
        const int64_t gain = (int64_t)(d.at[MACHINE] * r->n[HUMAN]) - (int64_t)(d.at[HUMAN] * r->n[MACHINE]);
        is_open = gain >= most;
        most = is_open ? gain : most;
        above = score;
    }
    return is_open ? -INFINITY : best;
}

/* ---- curves ---- */

size_t tdm_roc_curve(const tdm_ranking *r, tdm_roc_point *points, size_t most)
{
    const double humans = (double)r->n[HUMAN], machines = (double)r->n[MACHINE];
    const double cells = (double)(most - 1); /* of the way from (0, 0) to (1, 1), which is 2 long; the end is none's */
    size_t n_groups = 0, n = 0;
    double cell = 0;
    for (descent d = {.r = r}; next_group(&d);)
        n_groups++;
    points[n++] = (tdm_roc_point){INFINITY, 0, 0};
    for (descent d = {.r = r}; next_group(&d);) {
        const double fpr = (double)d.at[HUMAN] / humans, tpr = (double)d.at[MACHINE] / machines;
        const double cell_here = floor((fpr + tpr) / 2 * cells);
        if (n_groups < most || cell_here > cell)
            points[n++] = (tdm_roc_point){tdm_score_of(d.key), fpr, tpr};
        cell = cell_here;
    }
    return n;
}
