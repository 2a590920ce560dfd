/* tests/eval_report_subject.h - made-up results and tables for those who print them: ordinary ones, and all that can
 * be odd about them. */
#ifndef TESTS_EVAL_REPORT_SUBJECT_H
#define TESTS_EVAL_REPORT_SUBJECT_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tools/eval.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_FIELDS = 20 };

static const char HOSTILE[] = "<script>alert(\"1\")</script> & 'x' ]]> \x01\x7f \xff\xfe \xc3\xa9 \xef\xbf\xbf";
static const char *const NAMES[] = {"fake", "fast_detect", "entropy"};
static const eval_options OPTIONS = {.fields = NAMES, .n_fields = 3, .validation = 0.2,
                                     .evaluate = {.fprs = {0.05, 0.01, 0.001}, .n_fprs = 3},
                                     .bootstrap = {.confidence = 0.95, .replicates = 1000}};

static tdm_interval around(double x)
{
    return (tdm_interval){x - 0.02, x + 0.01};
}

/* A made-up result of 400 humans and 200 machines. */
static eval_result ordinary(const char *field)
{
    eval_result r = {.field = field, .is_probability = true, .humans = 400, .machines = 200, .threshold = 0.5, .low = 0,
                     .high = 1, .n_curve = 3, .fitted_on = 120, .best_threshold = 0.62, .n_buckets = 3,
                     .length_field = "used_tokens"};
    const tdm_roc_point curve[] = {{INFINITY, 0, 0}, {0.7, 0.25, 0.5}, {0, 1, 1}};
    memcpy(r.curve, curve, sizeof curve);
    r.values = (tdm_values){.auroc = 0.875, .average_precision = 0.8, .pr_auc = 0.79, .accuracy = 0.81,
                            .balanced_accuracy = 0.8, .precision = 0.7, .recall = 0.75, .f1 = 0.72,
                            .confusion = {150, 50, 360, 40},
                            .at_fpr = {{0.8, 0.6, 0.05}, {0.9, 0.4, 0.01}, {0.97, 0.2, 0}}};
    r.intervals = (tdm_intervals){.auroc = around(0.875), .accuracy = around(0.81), .tpr = {around(0.6), around(0.4), around(0.2)}};
    r.best = r.values;
    r.best_intervals = r.intervals;
    for (int i = 0; i < 3; i++)
        r.buckets[i] = (eval_bucket){.from = 100 * i, .to = i < 2 ? 100 * (i + 1) : INT64_MAX, .humans = 130, .machines = 60,
                                     .is_measured = true, .values = r.values, .intervals = r.intervals};
    for (int i = 0; i < EVAL_HISTOGRAM; i++) {
        r.human_histogram[i] = i < 20 ? 20 : 0;
        r.machine_histogram[i] = i < 20 ? 0 : 10;
    }
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++) {
        r.calibration.bins[i].n = 60;
        r.calibration.bins[i].mean_score = 0.05 + 0.1 * i;
        r.calibration.bins[i].machine = 0.1 * i;
    }
    return r;
}

/* ---- results that are not ordinary ---- */

static void make_zero(eval_result *r)
{
    *r = (eval_result){.field = r->field, .is_probability = true, .threshold = NAN};
}

static void make_one_point(eval_result *r)
{
    r->n_curve = 1;
    r->n_buckets = 1;
    r->buckets[0].to = INT64_MAX;
    r->low = r->high = 0.3;
}

static void make_nan(eval_result *r)
{
    const tdm_interval none = {NAN, NAN};
    r->values = (tdm_values){.auroc = NAN, .accuracy = NAN, .at_fpr = {{NAN, NAN, NAN}, {NAN, NAN, NAN}, {NAN, NAN, NAN}}};
    r->intervals = (tdm_intervals){.auroc = none, .accuracy = none, .tpr = {none, none, none}};
    r->best = r->values;
    r->best_intervals = r->intervals;
    r->best_threshold = NAN;
    r->low = r->high = NAN;
    for (size_t i = 0; i < r->n_curve; i++)
        r->curve[i] = (tdm_roc_point){NAN, NAN, NAN};
    for (int i = 0; i < r->n_buckets; i++) {
        r->buckets[i].values = r->values;
        r->buckets[i].intervals = r->intervals;
    }
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++)
        r->calibration.bins[i].mean_score = r->calibration.bins[i].machine = NAN;
    r->calibration.ece = NAN;
}

static void make_infinite(eval_result *r)
{
    r->best_threshold = -INFINITY;
    r->threshold = INFINITY;
    for (int i = 0; i < 3; i++)
        r->values.at_fpr[i] = (tdm_operating_point){INFINITY, 0, 0};
    r->low = -INFINITY;
    r->high = INFINITY;
}

static void make_wide(eval_result *r)
{
    r->low = -DBL_MAX;
    r->high = DBL_MAX;
    r->threshold = 1e300;
}

static void make_narrow(eval_result *r)
{
    r->low = 1e9;
    r->high = nextafter(1e9, 2e9);
}

static void make_tiny(eval_result *r)
{
    r->low = 0;
    r->high = 5e-324;
}

static void make_many_buckets(eval_result *r)
{
    r->n_buckets = EVAL_BUCKETS_MOST + 1;
    for (int i = 0; i < r->n_buckets; i++)
        r->buckets[i] = (eval_bucket){.from = i, .to = i < EVAL_BUCKETS_MOST ? i + 1 : INT64_MAX, .is_measured = i % 2,
                                      .values = r->values, .intervals = r->intervals};
}

static void make_no_lengths(eval_result *r)
{
    r->n_buckets = 0;
    r->length_field = NULL;
    r->fitted_on = 0;
    r->is_probability = false;
}

static void make_turned(eval_result *r)
{
    r->is_turned = r->is_suspicious = true;
    r->excluded = 7;
}

static void make_hostile(eval_result *r)
{
    r->field = HOSTILE;
    r->length_field = HOSTILE;
}

static void make_huge(eval_result *r)
{
    r->humans = r->machines = INT64_MAX;
    r->human_histogram[3] = INT64_MAX;
    r->calibration.bins[3].n = INT64_MAX;
}

static const struct {
    const char *name;
    void (*make)(eval_result *r);
} KINDS[] = {
    {"zero", make_zero},       {"one point", make_one_point},         {"nan", make_nan},
    {"infinite", make_infinite}, {"wide", make_wide},                 {"narrow", make_narrow},
    {"tiny", make_tiny},       {"many buckets", make_many_buckets},   {"no lengths", make_no_lengths},
    {"turned", make_turned},   {"hostile", make_hostile},             {"huge", make_huge},
};

/* ---- what is printed ---- */

static char *NAMED[] = {"124M", (char *)HOSTILE, "a name that is so long that no cell of the table has the room for it"};

/* A table of which a cell is missing, one has no interval and one no value. */
static eval_matrix made_matrix(eval_cell cells[9])
{
    for (int i = 0; i < 9; i++)
        cells[i] = (eval_cell){.is_there = i != 4, .value = i / 8.0, .interval = around(i / 8.0), .humans = 400, .machines = 100};
    cells[2].interval = (tdm_interval){NAN, NAN};
    cells[3].value = NAN;
    cells[5] = (eval_cell){.is_there = true, .value = INFINITY, .interval = {-INFINITY, INFINITY}};
    return (eval_matrix){.title = (char *)HOSTILE, .row_title = HOSTILE, .column_title = "texts", .n_rows = 3, .n_columns = 3,
                         .rows = NAMED, .columns = NAMED, .cells = cells, .confidence = 0.95, .source = HOSTILE, .note = HOSTILE};
}

#endif
