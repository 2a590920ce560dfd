/* tools/eval_html.h - inside the report of tandem eval: the parts of its page. */
#ifndef TOOLS_EVAL_HTML_H
#define TOOLS_EVAL_HTML_H

#include "tools/eval.h"
#include "tools/eval_markup.h"

/* The style sheet, and words that hold for every report. */
extern const char HTML_STYLE[], HTML_HOW_TO_READ[];

/* One line a field: the figures that are compared first. */
void html_summary(markup *m, const eval_result *results, size_t n, const eval_options *o);
/* All about one field, with its pictures. */
void html_field(markup *m, const eval_result *r, const eval_options *o);
/* Values by length of text, of all fields that have them. */
void html_lengths(markup *m, const eval_result *results, size_t n, const eval_options *o);
/* One table: heat map, what it is, and the same as a table of text. */
void html_matrix(markup *m, const eval_matrix *matrix);

#endif
