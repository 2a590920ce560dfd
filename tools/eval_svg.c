/* tools/eval_svg.c - the ROC curves of all fields, and how the scores of one field are spread. */
#include "tools/eval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/eval_svg.h"

/* ---- ROC ---- */

enum { LEGEND_STEP = 42, LEGEND_NAME = 20 };

static void put_curve(markup *m, const svg_plot *p, const eval_result *r, size_t series)
{
    if (r->n_curve == 0)
        return;
    markup_put(m, "<path class=\"line s%zu d%zu\" d=\"", series % SVG_SERIES,
               (series + series / SVG_SERIES) % SVG_SERIES);
    for (size_t i = 0; i < r->n_curve; i++)
        markup_put(m, "%s%.1f %.1f", i ? "L" : "M", svg_x(p, r->curve[i].fpr), svg_y(p, r->curve[i].tpr));
    markup_put(m, "\"/>\n");
}

/* Name, AUROC and interval of one field, beside the plot. */
static void put_legend(markup *m, const eval_result *r, size_t series, double x, double y)
{
    markup_put(m, "<g><title>");
    markup_text(m, r->field);
    markup_put(m, "</title>\n");
    svg_swatch(m, series, x, y - 4);
    markup_put(m, "<text class=\"ink\" x=\"%.1f\" y=\"%.1f\">", x + 34, y);
    markup_cut(m, r->field, LEGEND_NAME);
    markup_put(m, "</text>\n<text class=\"small\" x=\"%.1f\" y=\"%.1f\">", x + 34, y + 15);
    markup_number(m, r->values.auroc, 3);
    if (isfinite(r->intervals.auroc.low)) {
        markup_put(m, " (");
        markup_interval(m, r->intervals.auroc, 1, 3);
        markup_put(m, ")");
    }
    markup_put(m, "</text></g>\n");
}

static void describe_roc(markup *m, const eval_result *results, size_t n)
{
    markup_put(m, "True positive rate against false positive rate. Area under the curve:");
    for (size_t i = 0; i < n; i++) {
        markup_put(m, "%s ", i ? "," : "");
        markup_text(m, results[i].field);
        markup_put(m, " ");
        markup_number(m, results[i].values.auroc, 4);
    }
    markup_put(m, "; chance 0.5.");
}

tdm_status eval_svg_roc(tdm_buf *out, const eval_result *results, size_t n, tdm_err *err)
{
    markup m = {.out = out, .err = err};
    const svg_plot p = {60, 44, 390, 390, 0, 1, 0, 1};
    const double legend = 76 + LEGEND_STEP * (double)n, x = p.left + p.width + 14;
    const svg_page page = {SVG_WIDTH, fmax(p.top + p.height + 54, legend), "ROC curves", NULL};
    svg_open(&m, &page);
    describe_roc(&m, results, n);
    svg_begin(&m, &page);
    svg_axis_x(&m, &p, true, "human texts called a machine's (false positive rate, %)");
    svg_axis_y(&m, &p, true, "machine texts found (true positive rate, %)");
    svg_line(&m, "chance", p.left, p.top + p.height, p.left + p.width, p.top);
    for (size_t i = 0; i < n; i++) /* dashes above lines: of two curves on one place both are seen */
        put_curve(&m, &p, &results[i], i);
    svg_label(&m, x, 56, "soft", "start", "AUROC (interval)");
    for (size_t i = 0; i < n; i++)
        put_legend(&m, &results[i], i, x, 82 + LEGEND_STEP * (double)i);
    svg_close(&m);
    return m.st;
}

/* ---- histogram ---- */

static double largest_share(const int64_t counts[EVAL_HISTOGRAM], int64_t all)
{
    int64_t most = 0;
    for (int i = 0; i < EVAL_HISTOGRAM; i++)
        most = counts[i] > most ? counts[i] : most;
    return all > 0 ? (double)most / (double)all : 0;
}

/* The steps of one class, filled; each as high as its share of the class. */
static void put_steps(markup *m, const svg_plot *p, const int64_t counts[EVAL_HISTOGRAM], int64_t all, size_t series)
{
    if (all <= 0)
        return;
    const double bottom = p->top + p->height, step = p->width / EVAL_HISTOGRAM;
    markup_put(m, "<path class=\"area f%zu s%zu\" stroke-width=\"1.5\" d=\"M%.1f %.1f", series, series, p->left,
               bottom);
    for (int i = 0; i < EVAL_HISTOGRAM; i++)
        markup_put(m, "V%.1fH%.1f", svg_y(p, (double)counts[i] / (double)all), p->left + step * (i + 1));
    markup_put(m, "V%.1fZ\"/>\n", bottom);
}

static void put_threshold(markup *m, const svg_plot *p, const char *name, double threshold, double y)
{
    char text[64];
    if (!isfinite(threshold) || threshold < p->x_low || threshold > p->x_high)
        return;
    const double x = svg_x(p, threshold);
    const bool is_right = x > p->left + p->width / 2;
    snprintf(text, sizeof text, "%s %.4g", name, threshold);
    svg_line(m, "mark", x, y - 9, x, p->top + p->height);
    svg_label(m, is_right ? x - 5 : x + 5, y, "small", is_right ? "end" : "start", text);
}

static void put_class(markup *m, const char *name, int64_t texts, size_t series, double x)
{
    markup_put(m,
               "<rect class=\"area f%zu s%zu\" stroke-width=\"1.5\" x=\"%.1f\" y=\"41\" width=\"14\" height=\"12\"/>\n",
               series, series, x);
    markup_put(m, "<text class=\"ink\" x=\"%.1f\" y=\"51\">%s, %lld texts</text>\n", x + 21, name, (long long)texts);
}

tdm_status eval_svg_histogram(tdm_buf *out, const eval_result *result, tdm_err *err)
{
    markup m = {.out = out, .err = err};
    const eval_result *r = result;
    const double most =
        fmax(largest_share(r->human_histogram, r->humans), largest_share(r->machine_histogram, r->machines));
    const svg_plot p = {60, 98, 560, 210, r->low, r->high, 0, most > 0 ? svg_round_up(most) : 1};
    const svg_page page = {SVG_WIDTH, 362, "Scores of humans and machines", r->field};
    svg_open(&m, &page);
    markup_put(&m,
               "Share of each class in %d equal steps of the field from %.6g to %.6g; %lld human and %lld machine "
               "texts.",
               EVAL_HISTOGRAM, r->low, r->high, (long long)r->humans, (long long)r->machines);
    svg_begin(&m, &page);
    svg_axis_x(&m, &p, false, r->is_turned ? "value (higher: rather a human)" : "value (higher: rather a machine)");
    svg_axis_y(&m, &p, true, "texts of the class (%)");
    put_class(&m, "human", r->humans, 0, p.left);
    put_class(&m, "machine", r->machines, 1, p.left + 190);
    put_steps(&m, &p, r->human_histogram, r->humans, 0);
    put_steps(&m, &p, r->machine_histogram, r->machines, 1);
    put_threshold(&m, &p, "threshold", r->threshold, 76);
    put_threshold(&m, &p, "fitted", r->fitted_on > 0 ? r->best_threshold : NAN, 92);
    svg_close(&m);
    return m.st;
}
