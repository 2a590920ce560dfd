/* tools/eval_html.c - the report: one page that needs nothing from elsewhere and runs nothing. */
#include "tools/eval_html.h"

static void put_head(markup *m, const char *title)
{
    markup_put(m, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                  "'unsafe-inline'\"/>\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                  "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>");
    markup_text(m, title);
    markup_put(m, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<h1>", HTML_STYLE);
    markup_text(m, title);
    markup_put(m, "</h1>\n");
}

/* A picture appends to the same buffer and has errors of its own. */
static void put_roc(markup *m, const eval_result *results, size_t n)
{
    markup_put(m, "<figure>\n");
    if (m->st == TDM_OK)
        m->st = eval_svg_roc(m->out, results, n, m->err);
    markup_put(m, "<figcaption>Each point of a curve is a threshold: how many machine texts it finds, against how "
                  "many human texts it takes for a machine's. On the dashed line a detector guesses. What matters in "
                  "use is the left edge, where few humans are accused; the tables below give it in "
                  "numbers.</figcaption>\n</figure>\n");
}

static void put_results(markup *m, const eval_result *results, size_t n, const eval_options *o)
{
    markup_put(m, "<section>\n<h2>At a glance</h2>\n");
    html_summary(m, results, n, o);
    put_roc(m, results, n);
    markup_put(m, "</section>\n");
    for (size_t i = 0; i < n; i++)
        html_field(m, &results[i], o);
    html_lengths(m, results, n, o);
}

static void put_matrices(markup *m, const eval_matrix *matrices, size_t n)
{
    markup_put(m, "<section>\n<h2>Tables</h2>\n<div class=\"pair\">\n");
    for (size_t i = 0; i < n; i++)
        html_matrix(m, &matrices[i]);
    markup_put(m, "</div>\n</section>\n");
}

tdm_status eval_html(tdm_buf *out, const char *title, const char *about, const eval_result *results, size_t n,
                     const eval_options *o, const eval_matrix *matrices, size_t n_matrices, tdm_err *err)
{
    markup m = {.out = out, .err = err};
    put_head(&m, title);
    markup_put(&m, "<pre class=\"about\">");
    markup_text(&m, about);
    markup_put(&m, "</pre>\n");
    if (n > 0)
        put_results(&m, results, n, o);
    if (n_matrices > 0)
        put_matrices(&m, matrices, n_matrices);
    if (n == 0 && n_matrices == 0)
        markup_put(&m, "<p>Nothing was measured.</p>\n");
    markup_put(&m, "%s<footer>tandem " TDM_VERSION "</footer>\n</main>\n</body>\n</html>\n", HTML_HOW_TO_READ);
    return m.st;
}
