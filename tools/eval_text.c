/* tools/eval_text.c - results as tables that people read: one of all fields, then details. */
#include "tools/eval.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- tables: cells that end in tabs, lines that end in newlines, to columns ---- */

enum { MOST_COLUMNS = 16 };

static size_t cell_width(const char *cell)
{
    size_t n = 0;
    for (; *cell != '\t'; cell++)
        n += (*cell & 0xc0) != 0x80; /* bytes that continue a character take no room */
    return n;
}

/* Append the table: the first column to the left, the others to the right. */
static tdm_status put_table(tdm_buf *out, tdm_buf *cells, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t widths[MOST_COLUMNS] = {0}, column = 0;
    TDM_TRY(tdm_buf_put(cells, "", 1, err));
    for (const char *p = cells->p; *p; p = strchr(p, '\t') + 1) {
        if (*p == '\n') {
            p++;
            column = 0;
        }
        if (!*p)
            break;
        if (widths[column] < cell_width(p))
            widths[column] = cell_width(p);
        column++;
    }
    column = 0;
    for (const char *p = cells->p; *p; p++) {
        if (*p == '\n') {
            TDM_TRY(tdm_buf_put(out, "\n", 1, err));
            column = 0;
            continue;
        }
        const int len = (int)strcspn(p, "\t"), pad = (int)(widths[column] - cell_width(p));
        if (column++ == 0)
            TDM_TRY(tdm_buf_printf(out, err, "%.*s%*s", len, p, pad, ""));
        else
            TDM_TRY(tdm_buf_printf(out, err, "  %*s%.*s", pad, "", len, p));
        p += len;
    }
    cells->len = 0;
done:
    return st;
}

/* ---- cells ---- */

/* 0.9512, or 0.9512 [0.9407, 0.9610] */
static tdm_status put_ratio(tdm_buf *cells, double value, const tdm_interval *in, tdm_err *err)
{
    if (isnan(value))
        return tdm_buf_printf(cells, err, "-\t");
    if (!in || isnan(in->low))
        return tdm_buf_printf(cells, err, "%.4f\t", value);
    return tdm_buf_printf(cells, err, "%.4f [%.4f, %.4f]\t", value, in->low, in->high);
}

/* 95.1%, or 95.1% [94.1, 96.1] */
static tdm_status put_share(tdm_buf *cells, double value, const tdm_interval *in, tdm_err *err)
{
    if (isnan(value))
        return tdm_buf_printf(cells, err, "-\t");
    if (!in || isnan(in->low))
        return tdm_buf_printf(cells, err, "%.1f%%\t", 100 * value);
    return tdm_buf_printf(cells, err, "%.1f%% [%.1f, %.1f]\t", 100 * value, 100 * in->low, 100 * in->high);
}

/* A field; whatever would end a cell or a line is a question mark. */
static tdm_status put_name(tdm_buf *cells, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (const char *p = name; *p; p++)
        TDM_TRY(tdm_buf_put(cells, (unsigned char)*p < ' ' ? "?" : p, 1, err));
    TDM_TRY(tdm_buf_put(cells, "\t", 1, err));
done:
    return st;
}

static tdm_status put_threshold(tdm_buf *cells, double threshold, tdm_err *err)
{
    return isfinite(threshold) ? tdm_buf_printf(cells, err, "%.6g\t", threshold) : tdm_buf_printf(cells, err, "none\t");
}

/* ---- sections ---- */

static tdm_status put_summary(tdm_buf *out, tdm_buf *cells, const eval_result *results, size_t n, const eval_options *o,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    const eval_result *first = &results[0];
    TDM_TRY(tdm_buf_printf(out, err, "%" PRId64 " human and %" PRId64 " machine texts", first->humans,
                           first->machines));
    if (first->excluded)
        TDM_TRY(tdm_buf_printf(out, err, "; %" PRId64 " bad records left out", first->excluded));
    if (o->bootstrap.replicates)
        TDM_TRY(tdm_buf_printf(out, err,
                               "; in brackets %.4g %% intervals (%" PRId64 " bootstrap replicates, seed %" PRIu64 ")",
                               100 * o->bootstrap.confidence, o->bootstrap.replicates, o->bootstrap.seed));
    TDM_TRY(tdm_buf_printf(out, err, "\n\n"));
    TDM_TRY(tdm_buf_printf(cells, err, "field\thigher is\tAUROC\taccuracy\tfitted\t"));
    for (int i = 0; i < o->evaluate.n_fprs; i++)
        TDM_TRY(tdm_buf_printf(cells, err, "TPR at %.4g%% FPR\t", 100 * o->evaluate.fprs[i]));
    TDM_TRY(tdm_buf_printf(cells, err, "F1\t\n"));
    for (size_t k = 0; k < n; k++) {
        const eval_result *r = &results[k];
        TDM_TRY(put_name(cells, r->field, err));
        TDM_TRY(tdm_buf_printf(cells, err, "%s\t", r->is_turned ? "human" : "machine"));
        TDM_TRY(put_ratio(cells, r->values.auroc, &r->intervals.auroc, err));
        TDM_TRY(put_share(cells, r->values.accuracy, &r->intervals.accuracy, err));
        TDM_TRY(put_share(cells, r->fitted_on ? r->best.accuracy : NAN, &r->best_intervals.accuracy, err));
        for (int i = 0; i < o->evaluate.n_fprs; i++)
            TDM_TRY(put_share(cells, r->values.at_fpr[i].tpr, NULL, err));
        TDM_TRY(put_ratio(cells, r->values.f1, NULL, err));
        TDM_TRY(tdm_buf_printf(cells, err, "\n"));
    }
    TDM_TRY(put_table(out, cells, err));
done:
    return st;
}

static tdm_status put_threshold_row(tdm_buf *cells, const char *field, const char *how, double threshold,
                                    const tdm_values *v, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_confusion *c = &v->confusion;
    TDM_TRY(put_name(cells, field, err));
    TDM_TRY(tdm_buf_printf(cells, err, "%s\t", how));
    TDM_TRY(put_threshold(cells, threshold, err));
    TDM_TRY(put_share(cells, v->balanced_accuracy, NULL, err));
    TDM_TRY(put_share(cells, v->precision, NULL, err));
    TDM_TRY(put_share(cells, v->recall, NULL, err));
    TDM_TRY(put_ratio(cells, v->f1, NULL, err));
    TDM_TRY(tdm_buf_printf(cells, err, "%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t\n", c->machine_right,
                           c->machine_wrong, c->human_right, c->human_wrong));
done:
    return st;
}

static tdm_status put_thresholds(tdm_buf *out, tdm_buf *cells, const eval_result *results, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool any = false;
    TDM_TRY(tdm_buf_printf(cells, err, "field\tthreshold\t\tbalanced\tprecision\trecall\tF1\tmachine: right\twrong"
                                       "\thuman: right\twrong\t\n"));
    for (size_t k = 0; k < n; k++) {
        const eval_result *r = &results[k];
        if (!isnan(r->threshold))
            TDM_TRY(put_threshold_row(cells, r->field, "given", r->threshold, &r->values, err));
        if (r->fitted_on)
            TDM_TRY(put_threshold_row(cells, r->field, "fitted", r->best_threshold, &r->best, err));
        any = any || !isnan(r->threshold) || r->fitted_on;
    }
    if (!any) {
        cells->len = 0;
        goto done;
    }
    TDM_TRY(tdm_buf_printf(out, err, "\nAt a threshold (fitted: on one part of the texts, judged on the other)\n"));
    TDM_TRY(put_table(out, cells, err));
done:
    return st;
}

static tdm_status put_points(tdm_buf *out, tdm_buf *cells, const eval_result *results, size_t n, const eval_options *o,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "\nAt a false positive rate\n"));
    TDM_TRY(tdm_buf_printf(cells, err, "field\tFPR at most\tFPR\tTPR\tthreshold\t\n"));
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < o->evaluate.n_fprs; i++) {
            const eval_result *r = &results[k];
            const tdm_operating_point *p = &r->values.at_fpr[i];
            TDM_TRY(put_name(cells, r->field, err));
            TDM_TRY(tdm_buf_printf(cells, err, "%.4g%%\t%.3f%%\t", 100 * o->evaluate.fprs[i], 100 * p->fpr));
            TDM_TRY(put_share(cells, p->tpr, &r->intervals.tpr[i], err));
            TDM_TRY(put_threshold(cells, p->threshold, err));
            TDM_TRY(tdm_buf_printf(cells, err, "\n"));
        }
    TDM_TRY(put_table(out, cells, err));
done:
    return st;
}

static tdm_status put_bucket(tdm_buf *cells, const eval_result *r, const eval_bucket *b, const eval_options *o,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool is_last = b->to == INT64_MAX;
    TDM_TRY(put_name(cells, r->field, err));
    TDM_TRY(tdm_buf_printf(cells, err, "%" PRId64, b->from));
    TDM_TRY(is_last ? tdm_buf_printf(cells, err, " and more\t")
                    : tdm_buf_printf(cells, err, " to %" PRId64 "\t", b->to - 1));
    TDM_TRY(tdm_buf_printf(cells, err, "%" PRId64 "\t%" PRId64 "\t", b->humans, b->machines));
    TDM_TRY(put_ratio(cells, b->is_measured ? b->values.auroc : NAN, &b->intervals.auroc, err));
    TDM_TRY(put_share(cells, b->is_measured ? b->values.accuracy : NAN, &b->intervals.accuracy, err));
    if (o->evaluate.n_fprs)
        TDM_TRY(put_share(cells, b->is_measured ? b->values.at_fpr[0].tpr : NAN, &b->intervals.tpr[0], err));
    TDM_TRY(tdm_buf_printf(cells, err, "\n"));
done:
    return st;
}

static tdm_status put_buckets(tdm_buf *out, tdm_buf *cells, const eval_result *results, size_t n, const eval_options *o,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!results[0].n_buckets) /* lengths are those of the texts: all fields have them, or none */
        goto done;
    TDM_TRY(tdm_buf_printf(out, err, "\nBy length (%s)\n", results[0].length_field));
    TDM_TRY(tdm_buf_printf(cells, err, "field\tlength\thuman\tmachine\tAUROC\taccuracy\t"));
    if (o->evaluate.n_fprs)
        TDM_TRY(tdm_buf_printf(cells, err, "TPR at %.4g%% FPR\t", 100 * o->evaluate.fprs[0]));
    TDM_TRY(tdm_buf_printf(cells, err, "\n"));
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < results[k].n_buckets; i++)
            TDM_TRY(put_bucket(cells, &results[k], &results[k].buckets[i], o, err));
    TDM_TRY(put_table(out, cells, err));
done:
    return st;
}

static tdm_status put_calibration(tdm_buf *out, tdm_buf *cells, const eval_result *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_calibration *c = &r->calibration;
    TDM_TRY(tdm_buf_printf(out, err,
                           "\nCalibration of %s%s: expected error %.4f, largest %.4f, Brier score %.4f\n", r->field,
                           r->is_turned ? " (1 - p)" : "", c->ece, c->mce, c->brier));
    TDM_TRY(tdm_buf_printf(cells, err, "p(machine)\ttexts\tmean p\tare machine\t\n"));
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++) {
        if (!c->bins[i].n)
            continue;
        TDM_TRY(tdm_buf_printf(cells, err, "%.1f to %.1f\t%" PRId64 "\t", (double)i / TDM_CALIBRATION_BINS,
                               (double)(i + 1) / TDM_CALIBRATION_BINS, c->bins[i].n));
        TDM_TRY(tdm_buf_printf(cells, err, "%.3f\t", c->bins[i].mean_score));
        TDM_TRY(put_share(cells, c->bins[i].machine, NULL, err));
        TDM_TRY(tdm_buf_printf(cells, err, "\n"));
    }
    TDM_TRY(put_table(out, cells, err));
done:
    return st;
}

tdm_status eval_print_text(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf cells = {0};
    TDM_TRY(put_summary(out, &cells, results, n, o, err));
    TDM_TRY(put_thresholds(out, &cells, results, n, err));
    TDM_TRY(put_points(out, &cells, results, n, o, err));
    TDM_TRY(put_buckets(out, &cells, results, n, o, err));
    for (size_t k = 0; k < n; k++)
        if (results[k].is_probability)
            TDM_TRY(put_calibration(out, &cells, &results[k], err));
done:
    tdm_buf_free(&cells);
    return st;
}
