/* tools/eval_markup.h - writing SVG and HTML: marks by printf, text escaped. The first error stays, so that a drawing
 * is a list of calls and one question at the end.
 *
 *   markup m = {.out = out, .err = err};
 *   markup_put(&m, "<text x=\"%.1f\">", x);
 *   markup_text(&m, name); // whatever it holds
 *   markup_put(&m, "</text>");
 *   return m.st;
 *
 * What is written is XML as well as HTML: it holds no character that either forbids. */
#ifndef TOOLS_EVAL_MARKUP_H
#define TOOLS_EVAL_MARKUP_H

#include "host/buf.h"
#include "host/err.h"
#include "host/evaluate.h"

typedef struct {
    tdm_buf *out;
    tdm_err *err;
    tdm_status st;
} markup;

/* Marks and numbers; no text from outside. */
void markup_put(markup *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text, in an element or a quoted attribute. What is no UTF-8 or no character of XML becomes U+FFFD. */
void markup_text(markup *m, const char *text);
/* The same, no longer than `most` characters: of a longer text the beginning, and dots. */
void markup_cut(markup *m, const char *text, size_t most);

/* "97.9", or a dash where there is no number. */
void markup_number(markup *m, double x, int decimals);
/* "97.2 to 98.4", times scale; nothing where there is no interval. */
void markup_interval(markup *m, tdm_interval interval, double scale, int decimals);

#endif
