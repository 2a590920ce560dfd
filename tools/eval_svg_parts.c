/* tools/eval_svg_parts.c - pictures of what becomes of the scores in parts: by predicted probability, and by length. */
#include "tools/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "tools/eval_svg.h"
#include "tools/eval_wilson.h"

/* ---- calibration ---- */

static double largest_bin(const tdm_calibration *c)
{
    int64_t most = 1;
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++)
        most = c->bins[i].n > most ? c->bins[i].n : most;
    return (double)most;
}

static void put_bin(markup *m, const svg_plot *p, const svg_plot *counts, const tdm_calibration *c, int i)
{
    const int64_t n = c->bins[i].n;
    if (n <= 0 || !isfinite(c->bins[i].mean_score) || !isfinite(c->bins[i].machine))
        return;
    const double x = svg_x(p, c->bins[i].mean_score), width = p->width / TDM_CALIBRATION_BINS;
    const double left = p->left + width * i, top = svg_y(counts, (double)n);
    svg_range(m, p, 0, x, eval_wilson(c->bins[i].machine * (double)n, (double)n));
    markup_put(m,
               "<circle class=\"f0\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%" PRId64 " texts, mean score %.3f, "
                                                                                      "machines %.1f "
                                                                                      "%%</title></circle>\n",
               x, svg_y(p, c->bins[i].machine), n, c->bins[i].mean_score, 100 * c->bins[i].machine);
    markup_put(m, "<rect class=\"area f5\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", left + 2, top,
               width - 4, counts->top + counts->height - top);
    markup_put(m, "<text class=\"small\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%" PRId64 "</text>\n",
               left + width / 2, top - 4, n);
}

static void put_figure(markup *m, double y, const char *name, double value, const char *meaning)
{
    markup_put(m, "<text class=\"ink\" x=\"462\" y=\"%.1f\">%s ", y, name);
    markup_number(m, value, 4);
    markup_put(m, "</text>\n");
    svg_label(m, 462, y + 15, "small", "start", meaning);
}

tdm_status eval_svg_calibration(tdm_buf *out, const eval_result *result, tdm_err *err)
{
    markup m = {.out = out, .err = err};
    const tdm_calibration *c = &result->calibration;
    const svg_plot p = {60, 44, 380, 340, 0, 1, 0, 1};
    const svg_plot counts = {60, 404, 380, 70, 0, 1, 0, largest_bin(c)};
    const svg_page page = {SVG_WIDTH, 530, "Calibration", result->field};
    svg_open(&m, &page);
    markup_put(&m, "Share of machine texts against the mean predicted probability, in ten bins. ECE ");
    markup_number(&m, c->ece, 4);
    markup_put(&m, ".");
    svg_begin(&m, &page);
    svg_axis_y(&m, &p, true, "machine texts (%)");
    const svg_plot below = {60, 44, 380, 430, 0, 1, 0, 1}; /* one axis under both */
    svg_axis_x(&m, &below, true, "predicted probability of a machine (%)");
    svg_line(&m, "chance", p.left, p.top + p.height, p.left + p.width, p.top);
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++)
        put_bin(&m, &p, &counts, c, i);
    put_figure(&m, 60, "ECE", c->ece, "mean distance from the line");
    put_figure(&m, 104, "MCE", c->mce, "largest distance");
    put_figure(&m, 148, "Brier", c->brier, "mean squared error");
    svg_label(&m, 462, 198, "small", "start", "dashed: as predicted");
    svg_label(&m, 462, 214, "small", "start", "bars: 95 % (Wilson)");
    svg_label(&m, 462, 440, "small", "start", "texts in the bin");
    svg_close(&m);
    return m.st;
}

/* ---- length ---- */

enum { MOST_FLAT = 7 }; /* labels that fit beside each other */

static double bucket_x(const svg_plot *p, int n_buckets, int bucket)
{
    return p->left + p->width * (bucket + 0.5) / n_buckets;
}

static void put_bucket_label(markup *m, const svg_plot *p, const eval_result *r, int i)
{
    const eval_bucket *b = &r->buckets[i];
    const double x = bucket_x(p, r->n_buckets, i), y = p->top + p->height + 18;
    if (r->n_buckets <= MOST_FLAT)
        markup_put(m, "<text class=\"soft\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">", x, y);
    else
        markup_put(m, "<text class=\"soft\" text-anchor=\"end\" transform=\"translate(%.1f %.1f) rotate(-40)\">", x + 4,
                   y - 4);
    if (b->to == INT64_MAX)
        markup_put(m, "%" PRId64 " and more", b->from);
    else
        markup_put(m, "%" PRId64 " to %" PRId64, b->from, b->to - 1);
    markup_put(m, "</text>\n");
}

typedef struct {
    const char *label;
    bool is_auroc; /* or else accuracy */
} bucket_panel;

static double panel_value(const bucket_panel *panel, const eval_bucket *b)
{
    if (!b->is_measured)
        return NAN;
    return panel->is_auroc ? b->values.auroc : b->values.accuracy;
}

static void put_bucket_series(markup *m, const svg_plot *p, const bucket_panel *panel, const eval_result *r,
                              size_t series, double shift)
{
    bool is_joined = false;
    markup_put(m, "<path class=\"line s%zu d%zu\" d=\"", series % SVG_SERIES,
               (series + series / SVG_SERIES) % SVG_SERIES);
    for (int i = 0; i < r->n_buckets; i++) {
        const double value = panel_value(panel, &r->buckets[i]);
        if (isfinite(value))
            markup_put(m, "%s%.1f %.1f", is_joined ? "L" : "M", bucket_x(p, r->n_buckets, i) + shift, svg_y(p, value));
        is_joined = isfinite(value);
    }
    markup_put(m, "\"/>\n");
    for (int i = 0; i < r->n_buckets; i++) {
        const eval_bucket *b = &r->buckets[i];
        const double value = panel_value(panel, b), x = bucket_x(p, r->n_buckets, i) + shift;
        if (!isfinite(value))
            continue;
        svg_range(m, p, series, x, panel->is_auroc ? b->intervals.auroc : b->intervals.accuracy);
        markup_put(m, "<circle class=\"f%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", series % SVG_SERIES, x,
                   svg_y(p, value));
    }
}

/* Half of the range is enough where nothing is worse than chance. */
static double panel_floor(const bucket_panel *panel, const eval_result *results, size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < results[k].n_buckets; i++) {
            const eval_bucket *b = &results[k].buckets[i];
            const tdm_interval v = panel->is_auroc ? b->intervals.auroc : b->intervals.accuracy;
            if (panel_value(panel, b) < 0.5 || (b->is_measured && v.low < 0.5))
                return 0;
        }
    return 0.5;
}

static void put_panel(markup *m, double top, const bucket_panel *panel, const eval_result *results, size_t n)
{
    const svg_plot p = {60, top, 560, 190, 0, 1, panel_floor(panel, results, n), 1};
    const double room = n ? fmin(0.7 * p.width / fmax(results[0].n_buckets, 1) / (double)n, 14) : 0;
    svg_axis_y(m, &p, !panel->is_auroc, panel->label);
    svg_line(m, "axis", p.left, top + p.height, p.left + p.width, top + p.height);
    svg_line(m, "chance", p.left, svg_y(&p, 0.5), p.left + p.width, svg_y(&p, 0.5));
    for (size_t i = 0; i < n; i++)
        put_bucket_series(m, &p, panel, &results[i], i, ((double)i - ((double)n - 1) / 2) * room);
    for (int i = 0; n && i < results[0].n_buckets; i++)
        put_bucket_label(m, &p, &results[0], i);
}

static bool has_accuracy(const eval_result *results, size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < results[k].n_buckets; i++)
            if (results[k].buckets[i].is_measured && isfinite(results[k].buckets[i].values.accuracy))
                return true;
    return false;
}

tdm_status eval_svg_buckets(tdm_buf *out, const eval_result *results, size_t n, tdm_err *err)
{
    enum { PER_ROW = 3, ROW = 18 };
    markup m = {.out = out, .err = err};
    const bucket_panel auroc = {"AUROC", true}, accuracy = {"accuracy (%)", false};
    const bool has_two = has_accuracy(results, n), is_flat = n == 0 || results[0].n_buckets <= MOST_FLAT;
    const double panel = is_flat ? 236 : 262;
    const double top = 60 + ROW * (double)((n + PER_ROW - 1) / PER_ROW);
    const svg_page page = {SVG_WIDTH, top + panel * (has_two ? 2 : 1) + 14, "By length of text", NULL};
    svg_open(&m, &page);
    markup_put(&m, "%s by length of text, with intervals, for %zu fields.", has_two ? "AUROC and accuracy" : "AUROC",
               n);
    svg_begin(&m, &page);
    for (size_t i = 0; i < n; i++) {
        const double x = 60 + 188 * (double)(i % PER_ROW), y = 52 + ROW * (double)(i / PER_ROW);
        svg_swatch(&m, i, x, y - 4);
        markup_put(&m, "<text class=\"ink\" x=\"%.1f\" y=\"%.1f\">", x + 34, y);
        markup_cut(&m, results[i].field, 22);
        markup_put(&m, "</text>\n");
    }
    put_panel(&m, top, &auroc, results, n);
    if (has_two)
        put_panel(&m, top + panel, &accuracy, results, n);
    svg_label(&m, 340, page.height - 12, "ink", "middle",
              n && results[0].length_field ? results[0].length_field : "length");
    svg_close(&m);
    return m.st;
}
