/* tools/eval_html_matrix.c - tables in the report, its look, and the words that hold for every report. */
#include "tools/eval_html.h"

#include <math.h>

#include "tools/eval_matrix.h"

const char HTML_STYLE[] = ":root{--paper:#fff;--ink:#1c1e21;--soft:#575c63;--line:#e0e2e5;--head:#f5f6f8;--warn:#"
                          "fff4e5;--edge:#d55e00}\n"
                          "@media "
                          "(prefers-color-scheme:dark){:root{--paper:#17191c;--ink:#e8eaed;--soft:#a9afb8;--line:#"
                          "33373d;--head:#202327;"
                          "--warn:#33261a;--edge:#ff8d4f}}\n"
                          "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 "
                          "system-ui,-apple-system,'Segoe UI','DejaVu Sans',"
                          "sans-serif}\n"
                          "main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}\n"
                          "h1{font-size:1.7rem;line-height:1.25;margin:.5rem 0 1rem;overflow-wrap:anywhere}\n"
                          "h2{font-size:1.3rem;margin:2.5rem 0 .5rem;padding-top:1rem;border-top:1px solid "
                          "var(--line);overflow-wrap:anywhere}\n"
                          "h3{font-size:1.05rem;margin:1.5rem 0 .25rem}\n"
                          ".about{font:13px/1.5 ui-monospace,'DejaVu Sans "
                          "Mono',monospace;white-space:pre-wrap;overflow-wrap:anywhere;"
                          "background:var(--head);padding:.75rem 1rem;border-radius:6px}\n"
                          ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px;margin:.75rem "
                          "0;font-variant-numeric:tabular-nums}\n"
                          "th,td{padding:.35rem .75rem;text-align:left;vertical-align:top;border-bottom:1px solid "
                          "var(--line)}\n"
                          "thead th{background:var(--head);font-weight:600;vertical-align:bottom}tbody "
                          "th{font-weight:500}\n"
                          ".interval{color:var(--soft);font-size:12px;white-space:nowrap}.glance "
                          ".interval{display:block}.note,figcaption,footer{color:var(--soft);font-size:14px}\n"
                          ".warning{background:var(--warn);border-left:4px solid var(--edge);padding:.5rem 1rem}\n"
                          ".marked th,.marked td{color:var(--soft)}\n"
                          "figure{margin:1.25rem 0}figcaption{max-width:40rem;margin-top:.4rem}svg{display:block}\n"
                          ".pair{display:grid;gap:1rem 2rem}\n"
                          "@media "
                          "(min-width:84rem){.pair{grid-template-columns:repeat(2,minmax(0,1fr));width:80rem;margin-"
                          "left:-10rem}}\n"
                          "summary{color:var(--soft);font-size:14px;cursor:pointer}footer{margin-top:3rem}\n"
                          "@media (max-width:44rem){th,td{padding:.3rem .4rem}}\n"
                          "@media print{section{break-inside:avoid-page}}\n";

const char HTML_HOW_TO_READ[] = "<section>\n<h2>How to read this</h2>\n<ul>\n"
                                "<li><strong>An interval</strong> says how far a figure would move with other texts of "
                                "the same kind: the texts are drawn "
                                "again, with replacement and class by class, many times (percentile bootstrap, fixed "
                                "seed). It knows nothing of texts of "
                                "another kind: other writers, other sampling, other subjects, other lengths.</li>\n"
                                "<li><strong>AUROC</strong> is how often a machine text gets the more machine-like "
                                "value of the two, when one text of each "
                                "class is drawn; a tie counts a half. It needs no threshold, and says little about the "
                                "left edge of the ROC curve.</li>\n"
                                "<li><strong>A rate of false positives</strong> is measured on the human texts that "
                                "are there. From 400 of them one "
                                "cannot tell 0.1 % from 0.5 %: 0.4 texts would be wrong.</li>\n"
                                "<li><strong>Precision, F1 and accuracy</strong> depend on how many of the texts are "
                                "machines'. Where machines are rare, "
                                "most of the accused may be human although the false positive rate is low.</li>\n"
                                "<li><strong>A fitted threshold</strong> comes from one part of the texts and is "
                                "judged on the other.</li>\n"
                                "<li>A detector that is right on average is no proof about one text.</li>\n"
                                "</ul>\n</section>\n";

static void put_row(markup *m, const eval_matrix *matrix, size_t row)
{
    markup_put(m, "<tr><th>");
    markup_text(m, matrix->rows[row]);
    markup_put(m, "</th>");
    for (size_t j = 0; j < matrix->n_columns; j++) {
        const eval_cell *c = &matrix->cells[row * matrix->n_columns + j];
        markup_put(m, "<td>");
        markup_number(m, c->is_there ? 100 * c->value : NAN, matrix->source ? matrix_decimals(matrix, c) : 2);
        if (c->is_there && isfinite(c->interval.low) && isfinite(c->interval.high)) {
            markup_put(m, " <span class=\"interval\">");
            markup_interval(m, c->interval, 100, 2);
            markup_put(m, "</span>");
        }
        if (c->is_there && c->humans > 0)
            markup_put(m, "<br/><span class=\"interval\">%lld + %lld</span>", (long long)c->humans,
                       (long long)c->machines);
        markup_put(m, "</td>");
    }
    markup_put(m, "</tr>\n");
}

static void put_table(markup *m, const eval_matrix *matrix)
{
    markup_put(m, "<details><summary>as a table%s</summary>\n<div class=\"wide\"><table>\n<thead><tr><th>",
               matrix->source ? ", %" : ", %, with intervals and numbers of human + machine texts");
    markup_text(m, matrix->row_title);
    markup_put(m, " / ");
    markup_text(m, matrix->column_title);
    markup_put(m, "</th>");
    for (size_t j = 0; j < matrix->n_columns; j++) {
        markup_put(m, "<th>");
        markup_text(m, matrix->columns[j]);
        markup_put(m, "</th>");
    }
    markup_put(m, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < matrix->n_rows; i++)
        put_row(m, matrix, i);
    markup_put(m, "</tbody></table></div>\n</details>\n");
}

static void put_count(markup *m, int64_t fewest, int64_t most, const char *what)
{
    if (fewest < most)
        markup_put(m, "%lld to ", (long long)fewest);
    markup_put(m, "%lld %s", (long long)most, what);
}

static void put_facts(markup *m, const eval_matrix *matrix)
{
    const matrix_facts f = matrix_facts_of(matrix);
    markup_put(m, "<strong>Measured here.</strong> ");
    if (f.most_humans > 0) {
        put_count(m, f.fewest_humans, f.most_humans, "human and ");
        put_count(m, f.fewest_machines, f.most_machines, "machine texts a cell. ");
    }
    if (f.excluded > 0)
        markup_put(m, "%lld bad records are left out, over all cells. ", (long long)f.excluded);
    if (f.has_intervals)
        markup_put(m, "Below each value its %g %% interval. ", 100 * matrix->confidence);
    if (f.is_mixed)
        markup_put(m, "The field points one way in some cells and the other way in others. ");
    if (f.has_holes)
        markup_put(m, "An empty cell has no file. ");
}

static void put_caption(markup *m, const eval_matrix *matrix)
{
    markup_put(m, "<figcaption>");
    if (matrix->source) {
        markup_put(m, "<strong>Published, not measured here:</strong> ");
        markup_text(m, matrix->source);
        markup_put(m, ". %s", matrix_facts_of(matrix).has_holes ? "An empty cell is not known. " : "");
    } else {
        put_facts(m, matrix);
    }
    if (matrix->note)
        markup_text(m, matrix->note);
    markup_put(m, "</figcaption>\n");
}

void html_matrix(markup *m, const eval_matrix *matrix)
{
    markup_put(m, "<figure>\n");
    if (m->st == TDM_OK)
        m->st = eval_svg_matrix(m->out, matrix, m->err);
    put_caption(m, matrix);
    put_table(m, matrix);
    markup_put(m, "</figure>\n");
}
