/* tools/eval_json.c - results for programs: JSON and CSV. Every digit that a double has; what is not a number (a
 * measure without a threshold, an infinite threshold) is null, and in CSV an empty cell. */
#include "tools/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"

/* What tdm_values and tdm_intervals share. */
#define MEASURES(X)                                                                                \
    X(balanced_accuracy)                                                                           \
    X(precision)                                                                                   \
    X(recall)                                                                                      \
    X(f1)                                                                                          \
    X(average_precision)                                                                           \
    X(pr_auc)

/* The shortest decimal number that is read back as the same double; `none` where it is not finite. */
static tdm_status put_number(tdm_buf *out, double value, const char *none, tdm_err *err)
{
    char text[32];
    if (!isfinite(value))
        return tdm_buf_put(out, none, strlen(none), err);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return tdm_buf_put(out, text, strlen(text), err);
}

/* ---- JSON ---- */

/* , "name": value */
static tdm_status put_member(tdm_buf *out, const char *name, double value, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, ", \"%s\": ", name));
    TDM_TRY(put_number(out, value, "null", err));
done:
    return st;
}

static tdm_status put_interval(tdm_buf *out, const tdm_interval *interval, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(out, "[", 1, err));
    TDM_TRY(put_number(out, interval->low, "null", err));
    TDM_TRY(tdm_buf_put(out, ", ", 2, err));
    TDM_TRY(put_number(out, interval->high, "null", err));
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
done:
    return st;
}

static tdm_status put_points(tdm_buf *out, const tdm_values *v, const tdm_intervals *in, const eval_options *o,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, ", \"tpr_at_fpr\": ["));
    for (int i = 0; i < o->evaluate.n_fprs; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s{\"fpr\": ", i ? ", " : ""));
        TDM_TRY(put_number(out, o->evaluate.fprs[i], "null", err));
        TDM_TRY(put_member(out, "tpr", v->at_fpr[i].tpr, err));
        TDM_TRY(put_member(out, "achieved_fpr", v->at_fpr[i].fpr, err));
        TDM_TRY(put_member(out, "threshold", v->at_fpr[i].threshold, err));
        TDM_TRY(tdm_buf_printf(out, err, ", \"interval\": "));
        TDM_TRY(put_interval(out, &in->tpr[i], err));
        TDM_TRY(tdm_buf_put(out, "}", 1, err));
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
done:
    return st;
}

static tdm_status put_confusion(tdm_buf *out, const tdm_values *v, tdm_err *err)
{
    const tdm_confusion *c = &v->confusion;
    if (isnan(v->accuracy))
        return tdm_buf_printf(out, err, ", \"confusion\": null");
    return tdm_buf_printf(out, err,
                          ", \"confusion\": {\"machine_right\": %" PRId64 ", \"machine_wrong\": %" PRId64
                          ", \"human_right\": %" PRId64 ", \"human_wrong\": %" PRId64 "}",
                          c->machine_right, c->machine_wrong, c->human_right, c->human_wrong);
}

/* "auroc": ... up to "intervals", without the braces around. */
static tdm_status put_values(tdm_buf *out, const tdm_values *v, const tdm_intervals *in, const eval_options *o,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "\"auroc\": "));
    TDM_TRY(put_number(out, v->auroc, "null", err));
    TDM_TRY(put_member(out, "accuracy", v->accuracy, err));
    TDM_TRY(put_points(out, v, in, o, err));
#define X(name) TDM_TRY(put_member(out, #name, v->name, err));
    MEASURES(X)
#undef X
    TDM_TRY(put_confusion(out, v, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"intervals\": {\"auroc\": "));
    TDM_TRY(put_interval(out, &in->auroc, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"accuracy\": "));
    TDM_TRY(put_interval(out, &in->accuracy, err));
#define X(name)                                                                                    \
    TDM_TRY(tdm_buf_printf(out, err, ", \"" #name "\": "));                                        \
    TDM_TRY(put_interval(out, &in->name, err));
    MEASURES(X)
#undef X
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

static tdm_status put_best(tdm_buf *out, const eval_result *r, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_member(out, "best_threshold", r->best_threshold, err));
    if (!r->fitted_on) {
        st = tdm_buf_printf(out, err, ", \"best\": null");
        goto done;
    }
    TDM_TRY(tdm_buf_printf(out, err, ", \"best\": {\"fitted_on\": %" PRId64 ", \"judged_on\": %" PRId64 ", ",
                           r->fitted_on, r->humans + r->machines - r->fitted_on));
    TDM_TRY(put_values(out, &r->best, &r->best_intervals, o, err));
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

static tdm_status put_bucket(tdm_buf *out, const eval_bucket *b, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "{\"from\": %" PRId64 ", \"to\": ", b->from));
    TDM_TRY(b->to == INT64_MAX ? tdm_buf_printf(out, err, "null") : tdm_buf_printf(out, err, "%" PRId64, b->to));
    TDM_TRY(tdm_buf_printf(out, err, ", \"humans\": %" PRId64 ", \"machines\": %" PRId64, b->humans, b->machines));
    if (b->is_measured) {
        TDM_TRY(tdm_buf_put(out, ", ", 2, err));
        TDM_TRY(put_values(out, &b->values, &b->intervals, o, err));
    }
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

static tdm_status put_calibration(tdm_buf *out, const eval_result *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_calibration *c = &r->calibration;
    if (!r->is_probability)
        return tdm_buf_printf(out, err, ", \"calibration\": null");
    TDM_TRY(tdm_buf_printf(out, err, ", \"calibration\": {\"ece\": "));
    TDM_TRY(put_number(out, c->ece, "null", err));
    TDM_TRY(put_member(out, "mce", c->mce, err));
    TDM_TRY(put_member(out, "brier", c->brier, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"bins\": ["));
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s{\"n\": %" PRId64, i ? ", " : "", c->bins[i].n));
        TDM_TRY(put_member(out, "mean_score", c->bins[i].mean_score, err));
        TDM_TRY(put_member(out, "machine", c->bins[i].machine, err));
        TDM_TRY(tdm_buf_put(out, "}", 1, err));
    }
    TDM_TRY(tdm_buf_put(out, "]}", 2, err));
done:
    return st;
}

static tdm_status put_result(tdm_buf *out, const eval_result *r, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(out, "{", 1, err));
    TDM_TRY(put_values(out, &r->values, &r->intervals, o, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"field\": "));
    TDM_TRY(tdm_json_put_string(out, r->field, strlen(r->field), err));
    TDM_TRY(tdm_buf_printf(out, err,
                           ", \"higher_is\": \"%s\", \"suspicious\": %s, \"humans\": %" PRId64
                           ", \"machines\": %" PRId64 ", \"excluded\": %" PRId64,
                           r->is_turned ? "human" : "machine", r->is_suspicious ? "true" : "false", r->humans,
                           r->machines, r->excluded));
    TDM_TRY(put_member(out, "threshold", r->threshold, err));
    TDM_TRY(put_best(out, r, o, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"length_field\": "));
    if (r->length_field)
        TDM_TRY(tdm_json_put_string(out, r->length_field, strlen(r->length_field), err));
    else
        TDM_TRY(tdm_buf_put(out, "null", 4, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"buckets\": ["));
    for (int i = 0; i < r->n_buckets; i++) {
        TDM_TRY(tdm_buf_put(out, ", ", i ? 2 : 0, err));
        TDM_TRY(put_bucket(out, &r->buckets[i], o, err));
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
    TDM_TRY(put_calibration(out, r, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"bootstrap\": {\"replicates\": %" PRId64 ", \"seed\": %" PRIu64,
                           o->bootstrap.replicates, o->bootstrap.seed));
    TDM_TRY(put_member(out, "confidence", o->bootstrap.confidence, err));
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
    TDM_TRY(put_member(out, "validation", o->validation, err));
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

tdm_status eval_print_json(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (n != 1)
        TDM_TRY(tdm_buf_printf(out, err, "{\"results\": ["));
    for (size_t i = 0; i < n; i++) {
        TDM_TRY(tdm_buf_put(out, ", ", i ? 2 : 0, err));
        TDM_TRY(put_result(out, &results[i], o, err));
    }
    TDM_TRY(n != 1 ? tdm_buf_put(out, "]}\n", 3, err) : tdm_buf_put(out, "\n", 1, err));
done:
    return st;
}

/* ---- CSV: RFC 4180, but for lines that end in newlines alone ---- */

static tdm_status put_cell(tdm_buf *out, double value, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(out, ",", 1, err));
    TDM_TRY(put_number(out, value, "", err));
done:
    return st;
}

static tdm_status put_quoted(tdm_buf *out, const char *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!text[strcspn(text, ",\"\r\n")])
        return tdm_buf_put(out, text, strlen(text), err);
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
    for (const char *p = text; *p; p++)
        TDM_TRY(*p == '"' ? tdm_buf_put(out, "\"\"", 2, err) : tdm_buf_put(out, p, 1, err));
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
done:
    return st;
}

static tdm_status put_header(tdm_buf *out, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "field,part,from,to,higher_is,threshold,humans,machines"));
    TDM_TRY(tdm_buf_printf(out, err, ",auroc,auroc_low,auroc_high,accuracy,accuracy_low,accuracy_high"));
#define X(name) TDM_TRY(tdm_buf_printf(out, err, "," #name "," #name "_low," #name "_high"));
    MEASURES(X)
#undef X
    TDM_TRY(tdm_buf_printf(out, err, ",machine_right,machine_wrong,human_right,human_wrong"));
    for (int i = 0; i < o->evaluate.n_fprs; i++) {
        const double fpr = o->evaluate.fprs[i];
        TDM_TRY(tdm_buf_printf(out, err, ",tpr_at_%.15g,tpr_low_at_%.15g,tpr_high_at_%.15g", fpr, fpr, fpr));
        TDM_TRY(tdm_buf_printf(out, err, ",fpr_at_%.15g,threshold_at_%.15g", fpr, fpr));
    }
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
done:
    return st;
}

/* A row of values; of a part without one of the classes (v is NULL) the cells are empty. */
static tdm_status put_row_values(tdm_buf *out, const tdm_values *v, const tdm_intervals *in, const eval_options *o,
                                 tdm_err *err)
{
    tdm_status st = TDM_OK;
#define X(name)                                                                                    \
    TDM_TRY(put_cell(out, v ? v->name : NAN, err));                                                \
    TDM_TRY(put_cell(out, v ? in->name.low : NAN, err));                                           \
    TDM_TRY(put_cell(out, v ? in->name.high : NAN, err));
    X(auroc)
    X(accuracy)
    MEASURES(X)
#undef X
    if (v && !isnan(v->accuracy))
        TDM_TRY(tdm_buf_printf(out, err, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64, v->confusion.machine_right,
                               v->confusion.machine_wrong, v->confusion.human_right, v->confusion.human_wrong));
    else
        TDM_TRY(tdm_buf_put(out, ",,,,", 4, err));
    for (int i = 0; i < o->evaluate.n_fprs; i++) {
        TDM_TRY(put_cell(out, v ? v->at_fpr[i].tpr : NAN, err));
        TDM_TRY(put_cell(out, v ? in->tpr[i].low : NAN, err));
        TDM_TRY(put_cell(out, v ? in->tpr[i].high : NAN, err));
        TDM_TRY(put_cell(out, v ? v->at_fpr[i].fpr : NAN, err));
        TDM_TRY(put_cell(out, v ? v->at_fpr[i].threshold : NAN, err));
    }
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
done:
    return st;
}

/* What a row is about. */
typedef struct {
    const char *part; /* "all", "best": judged at the fitted threshold, "length" */
    int64_t from, to; /* of lengths; from < 0: none */
    double threshold;
    int64_t humans, machines;
    const tdm_values *values; /* NULL: a class is missing */
    const tdm_intervals *intervals;
} csv_row;

static tdm_status put_row(tdm_buf *out, const eval_result *r, const csv_row *row, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_quoted(out, r->field, err));
    TDM_TRY(tdm_buf_printf(out, err, ",%s", row->part));
    TDM_TRY(put_cell(out, row->from >= 0 ? (double)row->from : NAN, err));
    TDM_TRY(put_cell(out, row->from >= 0 && row->to != INT64_MAX ? (double)row->to : NAN, err));
    TDM_TRY(tdm_buf_printf(out, err, ",%s", r->is_turned ? "human" : "machine"));
    TDM_TRY(put_cell(out, row->threshold, err));
    TDM_TRY(tdm_buf_printf(out, err, ",%" PRId64 ",%" PRId64, row->humans, row->machines));
    TDM_TRY(put_row_values(out, row->values, row->intervals, o, err));
done:
    return st;
}

static tdm_status put_rows(tdm_buf *out, const eval_result *r, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_confusion *c = &r->best.confusion;
    const csv_row all = {"all", -1, 0, r->threshold, r->humans, r->machines, &r->values, &r->intervals};
    const csv_row best = {"best", -1, 0, r->best_threshold, c->human_right + c->human_wrong,
                          c->machine_right + c->machine_wrong, &r->best, &r->best_intervals};
    TDM_TRY(put_row(out, r, &all, o, err));
    if (r->fitted_on)
        TDM_TRY(put_row(out, r, &best, o, err));
    for (int i = 0; i < r->n_buckets; i++) {
        const eval_bucket *b = &r->buckets[i];
        const csv_row row = {"length", b->from, b->to, r->threshold, b->humans, b->machines,
                             b->is_measured ? &b->values : NULL, &b->intervals};
        TDM_TRY(put_row(out, r, &row, o, err));
    }
done:
    return st;
}

tdm_status eval_print_csv(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_header(out, o, err));
    for (size_t i = 0; i < n; i++)
        TDM_TRY(put_rows(out, &results[i], o, err));
done:
    return st;
}
