/* tools/eval_svg_matrix.c - a table as a heat map, with values and intervals in its cells. */
#include "tools/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/eval_matrix.h"
#include "tools/eval_svg.h"

enum { MOST_ROW_NAME = 24, LETTER = 7, TOP = 98, CELL_HEIGHT = 52 };

typedef struct {
    double left, cell_width;
    double low; /* of the colours: chance, or 0 */
    svg_page page;
} heat_map;

/* Characters of a text, as far as its place goes. */
static size_t length_of(const char *text)
{
    size_t n = 0;
    for (const char *p = text; *p; p++)
        n += (*p & 0xC0) != 0x80;
    return n;
}

static heat_map lay_out(const eval_matrix *m)
{
    size_t longest = length_of(m->row_title);
    heat_map h = {.low = 0.5};
    for (size_t i = 0; i < m->n_rows; i++)
        longest = length_of(m->rows[i]) > longest ? length_of(m->rows[i]) : longest;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++)
        if (m->cells[i].is_there && m->cells[i].value < 0.45)
            h.low = 0;
    h.left = 28 + LETTER * (double)(longest < MOST_ROW_NAME ? longest : MOST_ROW_NAME);
    h.cell_width = fmin(fmax((SVG_WIDTH - 16 - h.left) / fmax((double)m->n_columns, 1), 76), 130);
    h.page = (svg_page){fmax(SVG_WIDTH, h.left + h.cell_width * (double)m->n_columns + 16),
                        TOP + CELL_HEIGHT * (double)m->n_rows + (m->source ? 72 : 52), m->title, NULL};
    return h;
}

/* From pale to deep blue: darker is more, also without colours. */
static void colour(const heat_map *h, double value, int rgb[3])
{
    static const int STOPS[4][3] = {{243, 247, 251}, {164, 202, 228}, {56, 132, 190}, {8, 52, 107}};
    const double at = fmin(fmax((value - h->low) / (1 - h->low), 0), 1) * 3;
    const int stop = at < 2 ? (int)at : 2;
    for (int i = 0; i < 3; i++)
        rgb[i] = (int)(STOPS[stop][i] + (at - stop) * (STOPS[stop + 1][i] - STOPS[stop][i]) + 0.5);
}

/* White where black would be the worse to read: either has a contrast of 4.5 (WCAG) on its side. */
static const char *ink_on(const int rgb[3])
{
    double light = 0; /* relative luminance */
    static const double WEIGHTS[] = {0.2126, 0.7152, 0.0722};
    for (int i = 0; i < 3; i++)
        light += WEIGHTS[i] * pow((rgb[i] / 255.0 + 0.055) / 1.055, 2.4);
    return light < 0.179 ? "#fff" : "#000";
}

/* ---- names ---- */

/* The space that is nearest to the middle; 0 where there is none. */
static size_t middle_space(const char *name)
{
    const size_t n = strlen(name);
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (name[i] == ' ' && (best == 0 || labs((long)(2 * i) - (long)n) < labs((long)(2 * best) - (long)n)))
            best = i;
    return best;
}

/* The name of a column above it, in two lines where it has to be. */
static void put_column(markup *m, const char *name, double x, double width)
{
    const size_t fits = (size_t)(width / LETTER), cut = middle_space(name);
    char first[64];
    markup_put(m, "<g><title>");
    markup_text(m, name);
    markup_put(m, "</title>");
    if (length_of(name) > fits && cut > 0 && cut <= fits) {
        snprintf(first, sizeof first, "%.*s", (int)cut, name);
        svg_label(m, x, TOP - 24, "ink", "middle", first);
        name += cut + 1;
    }
    markup_put(m, "<text class=\"ink\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x, TOP - 9);
    markup_cut(m, name, fits);
    markup_put(m, "</text></g>\n");
}

static void put_names(markup *m, const eval_matrix *table, const heat_map *h)
{
    const double middle = h->left + h->cell_width * (double)table->n_columns / 2;
    svg_label(m, middle, 54, "soft", "middle", table->column_title);
    svg_label(m, h->left - 10, TOP - 9, "soft", "end", table->row_title);
    for (size_t j = 0; j < table->n_columns; j++)
        put_column(m, table->columns[j], h->left + h->cell_width * ((double)j + 0.5), h->cell_width);
    for (size_t i = 0; i < table->n_rows; i++) {
        markup_put(m, "<text class=\"ink\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", h->left - 10,
                   TOP + CELL_HEIGHT * ((double)i + 0.5) + 4);
        markup_cut(m, table->rows[i], MOST_ROW_NAME);
        markup_put(m, "</text>\n");
    }
}

/* ---- cells ---- */

static void describe_cell(markup *m, const eval_matrix *table, size_t i, const eval_cell *c)
{
    markup_put(m, "<title>");
    markup_text(m, table->rows[i / table->n_columns]);
    markup_put(m, ", ");
    markup_text(m, table->columns[i % table->n_columns]);
    markup_put(m, ": ");
    if (!c->is_there || !isfinite(c->value)) {
        markup_put(m, "no value</title>");
        return;
    }
    markup_put(m, "%.2f %%", 100 * c->value);
    if (isfinite(c->interval.low))
        markup_put(m, ", ");
    markup_interval(m, c->interval, 100, 2);
    if (c->humans > 0)
        markup_put(m, "; %lld human and %lld machine texts", (long long)c->humans, (long long)c->machines);
    markup_put(m, "</title>");
}

static void put_value(markup *m, const eval_cell *c, int decimals, const char *ink, double x, double y)
{
    const bool has_interval = isfinite(c->interval.low) && isfinite(c->interval.high);
    markup_put(m, "<text class=\"value\" fill=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", ink, x,
               y + (has_interval ? -2 : 5));
    markup_put(m, "%.*f</text>", decimals, 100 * c->value);
    if (!has_interval)
        return;
    markup_put(m, "<text font-size=\"11\" fill=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", ink, x, y + 15);
    markup_interval(m, c->interval, 100, 1);
    markup_put(m, "</text>");
}

static void put_cell(markup *m, const eval_matrix *table, const heat_map *h, size_t i)
{
    const eval_cell *c = &table->cells[i];
    const double x = h->left + h->cell_width * (double)(i % table->n_columns);
    const double y = TOP + CELL_HEIGHT * (double)(i / table->n_columns);
    int rgb[3];
    markup_put(m, "<g>");
    describe_cell(m, table, i, c);
    markup_put(m, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\" ", x + 1, y + 1, h->cell_width - 2,
               CELL_HEIGHT - 2);
    if (!c->is_there || !isfinite(c->value)) {
        markup_put(m, "class=\"none\"/></g>\n");
        return;
    }
    colour(h, c->value, rgb);
    markup_put(m, "fill=\"#%02x%02x%02x\"/>", (unsigned)rgb[0], (unsigned)rgb[1], (unsigned)rgb[2]);
    put_value(m, c, matrix_decimals(table, c), ink_on(rgb), x + h->cell_width / 2, y + CELL_HEIGHT / 2.0);
    markup_put(m, "</g>\n");
}

/* What the colours stand for, and where the numbers are from. */
static void put_key(markup *m, const eval_matrix *table, const heat_map *h)
{
    enum { STEPS = 24, STEP = 8 };
    const double y = TOP + CELL_HEIGHT * (double)table->n_rows + 20;
    char text[32];
    int rgb[3];
    markup_put(m, "<g shape-rendering=\"crispEdges\">");
    for (int i = 0; i < STEPS; i++) {
        colour(h, h->low + (1 - h->low) * i / (STEPS - 1), rgb);
        markup_put(m, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"10\" fill=\"#%02x%02x%02x\"/>",
                   h->left + STEP * i, y, STEP, (unsigned)rgb[0], (unsigned)rgb[1], (unsigned)rgb[2]);
    }
    markup_put(m, "</g>\n");
    snprintf(text, sizeof text, "%.0f %%", 100 * h->low);
    svg_label(m, h->left - 6, y + 9, "small", "end", text);
    svg_label(m, h->left + STEP * STEPS + 6, y + 9, "small", "start", "100 %");
    if (!table->source)
        return;
    markup_put(m, "<text class=\"small\" x=\"16\" y=\"%.1f\">published: ", h->page.height - 12);
    markup_cut(m, table->source, (size_t)(h->page.width / 7));
    markup_put(m, "</text>\n");
}

tdm_status eval_svg_matrix(tdm_buf *out, const eval_matrix *table, tdm_err *err)
{
    markup m = {.out = out, .err = err};
    const heat_map h = lay_out(table);
    svg_open(&m, &h.page);
    markup_put(&m, "A table in per cent. Rows: ");
    markup_text(&m, table->row_title);
    markup_put(&m, "; columns: ");
    markup_text(&m, table->column_title);
    markup_put(&m, ".");
    svg_begin(&m, &h.page);
    put_names(&m, table, &h);
    for (size_t i = 0; i < table->n_rows * table->n_columns; i++)
        put_cell(&m, table, &h, i);
    put_key(&m, table, &h);
    svg_close(&m);
    return m.st;
}
