/* tools/eval_html_field.c - what the report says of each field. */
#include "tools/eval_html.h"

#include <inttypes.h>
#include <math.h>

#include "tools/eval_wilson.h"

/* ---- cells ---- */

/* A value with its interval, as a cell of a table. */
static void put_cell(markup *m, double value, tdm_interval interval, double scale, int decimals)
{
    markup_put(m, "<td>");
    markup_number(m, value * scale, decimals);
    if (isfinite(interval.low) && isfinite(interval.high)) {
        markup_put(m, " <span class=\"interval\">");
        markup_interval(m, interval, scale, decimals);
        markup_put(m, "</span>");
    }
    markup_put(m, "</td>");
}

/* Which values are called a machine's. */
static void put_rule(markup *m, const eval_result *r, double threshold)
{
    if (isnan(threshold))
        markup_put(m, "no threshold");
    else if (isinf(threshold))
        markup_put(m, (threshold > 0) == r->is_turned ? "all values" : "no value");
    else
        markup_put(m, "%s %.6g", r->is_turned ? "≤" : "≥", threshold);
}

/* The share of these humans that may be wrong is less than one of them. */
static bool is_too_fine(const eval_result *r, double target)
{
    return (double)r->humans * target < 1;
}

/* ---- all fields ---- */

void html_summary(markup *m, const eval_result *results, size_t n, const eval_options *o)
{
    bool has_mark = false;
    markup_put(m, "<div class=\"wide\"><table class=\"glance\">\n<thead><tr><th>field</th><th>AUROC</th><th>accuracy, "
                  "%%</th>"
                  "<th>balanced accuracy, %%, fitted threshold</th>");
    for (int i = 0; i < o->evaluate.n_fprs; i++) {
        const bool is_marked = n > 0 && is_too_fine(&results[0], o->evaluate.fprs[i]); /* all are of the same texts */
        markup_put(m, "<th>machines found, %%, at FPR %g %%%s</th>", 100 * o->evaluate.fprs[i], is_marked ? " †" : "");
        has_mark = has_mark || is_marked;
    }
    markup_put(m, "</tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < n; k++) {
        const eval_result *r = &results[k];
        markup_put(m, "<tr><th>");
        markup_text(m, r->field);
        markup_put(m, "</th>");
        put_cell(m, r->values.auroc, r->intervals.auroc, 1, 4);
        put_cell(m, r->values.accuracy, r->intervals.accuracy, 100, 1);
        put_cell(m, r->fitted_on > 0 ? r->best.balanced_accuracy : NAN, r->best_intervals.balanced_accuracy, 100, 1);
        for (int i = 0; i < o->evaluate.n_fprs; i++)
            put_cell(m, r->values.at_fpr[i].tpr, r->intervals.tpr[i], 100, 1);
        markup_put(m, "</tr>\n");
    }
    markup_put(m, "</tbody></table></div>\n");
    if (o->bootstrap.replicates > 0)
        markup_put(m,
                   "<p class=\"note\">In small print: %g %% intervals, from %" PRId64 " bootstrap replicates, seed "
                                                                                      "%" PRIu64 ".</p>\n",
                   100 * o->bootstrap.confidence, o->bootstrap.replicates, o->bootstrap.seed);
    if (has_mark)
        markup_put(m, "<p class=\"note\">† finer than one of the human texts: see below.</p>\n");
}

/* ---- one field ---- */

static void put_direction(markup *m, const eval_result *r)
{
    markup_put(m, "<p>A %s value speaks for a machine. %" PRId64 " human and %" PRId64 " machine texts",
               r->is_turned ? "lower" : "higher", r->humans, r->machines);
    if (r->excluded > 0)
        markup_put(m, "; <strong>%" PRId64 " bad records are left out</strong>", r->excluded);
    markup_put(m, ".</p>\n");
    if (r->is_suspicious)
        markup_put(m, "<p class=\"warning\">AUROC is below 0.5: in these texts the field points the other way than "
                      "said here, or "
                      "the classes are mixed up.</p>\n");
}

typedef struct {
    const char *name;
    double value, best;
    tdm_interval interval, best_interval;
    double scale;
    int decimals;
} measure_row;

static void put_measure(markup *m, const measure_row *row, bool has_best)
{
    markup_put(m, "<tr><th>%s</th>", row->name);
    put_cell(m, row->value, row->interval, row->scale, row->decimals);
    if (has_best)
        put_cell(m, row->best, row->best_interval, row->scale, row->decimals);
    markup_put(m, "</tr>\n");
}

static void put_counts(markup *m, const tdm_confusion *c, bool is_known)
{
    if (is_known)
        markup_put(m,
                   "<td>%" PRId64 " of %" PRId64 " machine texts found; %" PRId64 " of %" PRId64 " human texts "
                                                                                                 "accused</td>",
                   c->machine_right, c->machine_right + c->machine_wrong, c->human_wrong,
                   c->human_right + c->human_wrong);
    else
        markup_put(m, "<td>–</td>");
}

static void put_measures(markup *m, const eval_result *r)
{
    const tdm_values *v = &r->values, *b = &r->best;
    const tdm_intervals *i = &r->intervals, *j = &r->best_intervals;
    const bool has_best = r->fitted_on > 0;
    const measure_row rows[] = {
        {"AUROC", v->auroc, b->auroc, i->auroc, j->auroc, 1, 4},
        {"average precision", v->average_precision, b->average_precision, i->average_precision, j->average_precision, 1,
         4},
        {"area under precision and recall", v->pr_auc, b->pr_auc, i->pr_auc, j->pr_auc, 1, 4},
        {"accuracy, %", v->accuracy, b->accuracy, i->accuracy, j->accuracy, 100, 2},
        {"balanced accuracy, %", v->balanced_accuracy, b->balanced_accuracy, i->balanced_accuracy, j->balanced_accuracy,
         100, 2},
        {"precision, %", v->precision, b->precision, i->precision, j->precision, 100, 2},
        {"recall, %", v->recall, b->recall, i->recall, j->recall, 100, 2},
        {"F1", v->f1, b->f1, i->f1, j->f1, 1, 4},
    };
    markup_put(m, "<div class=\"wide\"><table>\n<thead><tr><th>called a machine's</th><th>");
    put_rule(m, r, r->threshold);
    markup_put(m, ", all texts");
    if (has_best) {
        markup_put(m, "</th><th>");
        put_rule(m, r, r->best_threshold);
        markup_put(m, ", fitted on %" PRId64 " texts, judged on the others", r->fitted_on);
    }
    markup_put(m, "</th></tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        put_measure(m, &rows[k], has_best);
    markup_put(m, "<tr><th>counts</th>");
    put_counts(m, &v->confusion, !isnan(r->threshold));
    if (has_best)
        put_counts(m, &b->confusion, true);
    markup_put(m, "</tr>\n</tbody></table></div>\n");
    if (!has_best)
        markup_put(m, "<p class=\"note\">No threshold was fitted: a class has no text in one of the two parts.</p>\n");
}

static void put_point(markup *m, const eval_result *r, double target, int i)
{
    const tdm_operating_point *p = &r->values.at_fpr[i];
    const double wrong = round(p->fpr * (double)r->humans);
    const bool is_marked = is_too_fine(r, target);
    markup_put(m, "<tr%s><th>%g %%%s</th><td>", is_marked ? " class=\"marked\"" : "", 100 * target,
               is_marked ? " †" : "");
    put_rule(m, r, p->threshold);
    markup_put(m, "</td>");
    put_cell(m, p->tpr, r->intervals.tpr[i], 100, 2);
    if (r->humans > 0) {
        const tdm_interval fpr = eval_wilson(wrong, (double)r->humans);
        markup_put(m, "<td>%.0f of %" PRId64 "</td><td>%.2f to %.2f</td>", wrong, r->humans, 100 * fpr.low,
                   100 * fpr.high);
    } else {
        markup_put(m, "<td>–</td><td>–</td>");
    }
    markup_put(m, "</tr>\n");
}

static void put_points(markup *m, const eval_result *r, const eval_options *o)
{
    bool has_mark = false;
    if (o->evaluate.n_fprs == 0)
        return;
    markup_put(m, "<div class=\"wide\"><table>\n<thead><tr><th>FPR at most</th><th>called a machine's</th><th>machine "
                  "texts found, %%</th>"
                  "<th>human texts accused</th><th>FPR of other humans, %%</th></tr></thead>\n<tbody>\n");
    for (int i = 0; i < o->evaluate.n_fprs; i++) {
        put_point(m, r, o->evaluate.fprs[i], i);
        has_mark = has_mark || is_too_fine(r, o->evaluate.fprs[i]);
    }
    markup_put(m, "</tbody></table></div>\n<p class=\"note\">The last column is the 95 %% interval of a share of so "
                  "many texts (Wilson). The threshold was chosen on the same humans, so the rate of others is rather "
                  "above the middle of it.</p>\n");
    if (has_mark)
        markup_put(m,
                   "<p class=\"note\">† At this rate fewer than one of %" PRId64 " human texts may be accused, so the "
                   "threshold lies beyond all of them. That none is accused shows a rate below %.2f %% (95 %% "
                   "interval), "
                   "and nothing finer.</p>\n",
                   r->humans, 100 * eval_wilson(0, fmax((double)r->humans, 1)).high);
}

static void put_pictures(markup *m, const eval_result *r)
{
    markup_put(m, "<figure>\n");
    if (m->st == TDM_OK)
        m->st = eval_svg_histogram(m->out, r, m->err);
    markup_put(m, "<figcaption>How the values of humans and machines are spread, each class as 100 %%. Where the two "
                  "overlap, "
                  "no threshold is right about both.</figcaption>\n</figure>\n");
    if (!r->is_probability)
        return;
    markup_put(m, "<figure>\n");
    if (m->st == TDM_OK)
        m->st = eval_svg_calibration(m->out, r, m->err);
    markup_put(m,
               "<figcaption>Of the texts that were given a probability, how many were a machine's. On the dashed line "
               "a probability means what it says. It holds for this mixture, with %.0f %% machine texts: among fewer "
               "machines the points lie lower.</figcaption>\n</figure>\n",
               100 * (double)r->machines / fmax((double)r->machines + (double)r->humans, 1));
}

void html_field(markup *m, const eval_result *r, const eval_options *o)
{
    markup_put(m, "<section>\n<h2>");
    markup_text(m, r->field);
    markup_put(m, "</h2>\n");
    put_direction(m, r);
    put_measures(m, r);
    markup_put(m, "<h3>Few humans accused</h3>\n");
    put_points(m, r, o);
    put_pictures(m, r);
    markup_put(m, "</section>\n");
}

/* ---- length ---- */

static void put_bucket(markup *m, const eval_result *r, const eval_bucket *b)
{
    markup_put(m, "<tr><th>");
    markup_text(m, r->field);
    if (b->to == INT64_MAX)
        markup_put(m, "</th><td>%" PRId64 " and more</td>", b->from);
    else
        markup_put(m, "</th><td>%" PRId64 " to %" PRId64 "</td>", b->from, b->to - 1);
    markup_put(m, "<td>%" PRId64 "</td><td>%" PRId64 "</td>", b->humans, b->machines);
    if (b->is_measured) {
        put_cell(m, b->values.auroc, b->intervals.auroc, 1, 4);
        put_cell(m, b->values.accuracy, b->intervals.accuracy, 100, 2);
    } else {
        markup_put(m, "<td>–</td><td>–</td>");
    }
    markup_put(m, "</tr>\n");
}

void html_lengths(markup *m, const eval_result *results, size_t n, const eval_options *o)
{
    size_t have = 0;
    while (have < n && results[have].n_buckets > 0) /* all have lengths, or none: they come from the same records */
        have++;
    if (have == 0)
        return;
    markup_put(m, "<section>\n<h2>By length of text</h2>\n<figure>\n");
    if (m->st == TDM_OK)
        m->st = eval_svg_buckets(m->out, results, have, m->err);
    markup_put(m,
               "<figcaption>Bars are %g %% intervals: of a bucket with few texts little is known. A bucket without "
               "texts of "
               "both classes has no point.</figcaption>\n</figure>\n",
               100 * o->bootstrap.confidence);
    markup_put(m, "<details><summary>as a table</summary>\n<div class=\"wide\"><table>\n<thead><tr><th>field</th><th>");
    markup_text(m, results[0].length_field ? results[0].length_field : "length");
    markup_put(m, "</th><th>humans</th><th>machines</th><th>AUROC</th><th>accuracy, %%</th></tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < have; k++)
        for (int i = 0; i < results[k].n_buckets; i++)
            put_bucket(m, &results[k], &results[k].buckets[i]);
    markup_put(m, "</tbody></table></div>\n</details>\n</section>\n");
}
