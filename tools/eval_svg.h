/* tools/eval_svg.h - inside the pictures of tandem eval: a frame, axes and a look that all of them share.
 *
 *   svg_open(&m, &page);
 *   markup_text(&m, "what those hear who cannot see it");
 *   svg_begin(&m, &page);
 *   ...
 *   svg_close(&m);
 *
 * The look is one style sheet in each picture: series in colours that the colour-blind can tell apart, each with its
 * own dashes; a light and a dark scheme; text is text. Coordinates are finite and inside the picture, whatever the
 * values are. */
#ifndef TOOLS_EVAL_SVG_H
#define TOOLS_EVAL_SVG_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/eval_markup.h"

enum { SVG_WIDTH = 640, SVG_SERIES = 6 };

/* A plot on the page, and the values that its edges stand for. */
typedef struct {
    double left, top, width, height;
    double x_low, x_high, y_low, y_high;
} svg_plot;

typedef struct {
    double width, height;
    const char *title, *of; /* of: NULL, or what the title speaks of */
} svg_page;

/* Open the picture and its description; end that and draw paper and title. */
void svg_open(markup *m, const svg_page *page);
void svg_begin(markup *m, const svg_page *page);
void svg_close(markup *m);

double svg_x(const svg_plot *p, double value);
double svg_y(const svg_plot *p, double value);

/* Grid lines, numbers and a label below, or on the left. Values in shares are written in per cent. */
void svg_axis_x(markup *m, const svg_plot *p, bool is_share, const char *label);
void svg_axis_y(markup *m, const svg_plot *p, bool is_share, const char *label);
/* The smallest round number that is not below x > 0: where an axis ends. */
double svg_round_up(double x);

/* Text from outside at a place. look  of the style: "ink", "soft", "small"; anchor "start", "middle", "end" */
void svg_label(markup *m, double x, double y, const char *look, const char *anchor, const char *text);
/* A line in the look of a class: "axis", "chance", "mark". */
void svg_line(markup *m, const char *look, double x0, double y0, double x1, double y1);
/* A vertical range with caps, in the colour of series i. Nothing where it is not finite. */
void svg_range(markup *m, const svg_plot *p, size_t series, double x, tdm_interval range);
/* The example of a series in a legend. */
void svg_swatch(markup *m, size_t series, double x, double y);

#endif
