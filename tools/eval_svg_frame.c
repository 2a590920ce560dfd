#include "tools/eval_svg.h"

#include <math.h>
#include <stdio.h>

/* Six colours of nearly one lightness (after Okabe and Ito), brighter on dark paper; dashes tell them apart in grey. */
static const char STYLE[] = "<style>"
                            "svg.tandem{font:12px system-ui,-apple-system,'Segoe UI','DejaVu "
                            "Sans',sans-serif;max-width:100%;height:auto}"
                            "svg.tandem .paper{fill:#fff}svg.tandem .ink{fill:#1c1e21}svg.tandem .soft,svg.tandem "
                            ".small{fill:#575c63}"
                            "svg.tandem .title{font-size:15px;font-weight:600}svg.tandem .small{font-size:11px}"
                            "svg.tandem .value{font-size:15px;font-weight:600}"
                            "svg.tandem .grid{stroke:#e6e7e9}svg.tandem .axis{stroke:#8b9097}"
                            "svg.tandem .chance{stroke:#8b9097;stroke-dasharray:4 4}svg.tandem "
                            ".mark{stroke:#1c1e21;stroke-dasharray:5 3}"
                            "svg.tandem .line{fill:none;stroke-width:2;stroke-linejoin:round}svg.tandem "
                            ".area{fill-opacity:.28}"
                            "svg.tandem .d1{stroke-dasharray:8 3}svg.tandem .d2{stroke-dasharray:3 2}svg.tandem "
                            ".d3{stroke-dasharray:10 3 2 3}"
                            "svg.tandem .d4{stroke-dasharray:5 2 2 2 2 2}svg.tandem .d5{stroke-dasharray:1.5 2}"
                            "svg.tandem .s0{stroke:#0072b2}svg.tandem .s1{stroke:#d55e00}svg.tandem .s2{stroke:#00835f}"
                            "svg.tandem .s3{stroke:#b0488f}svg.tandem .s4{stroke:#8f7000}svg.tandem .s5{stroke:#5b6068}"
                            "svg.tandem .f0{fill:#0072b2}svg.tandem .f1{fill:#d55e00}svg.tandem .f2{fill:#00835f}"
                            "svg.tandem .f3{fill:#b0488f}svg.tandem .f4{fill:#8f7000}svg.tandem .f5{fill:#5b6068}"
                            "svg.tandem .none{fill:none;stroke:#b9bdc3;stroke-dasharray:3 3}"
                            "@media (prefers-color-scheme:dark){"
                            "svg.tandem .paper{fill:#17191c}svg.tandem .ink{fill:#e8eaed}svg.tandem .soft,svg.tandem "
                            ".small{fill:#a9afb8}"
                            "svg.tandem .grid{stroke:#2c3035}svg.tandem .axis{stroke:#7c828b}"
                            "svg.tandem .chance{stroke:#7c828b}svg.tandem .mark{stroke:#e8eaed}"
                            "svg.tandem .s0{stroke:#5ab4e8}svg.tandem .s1{stroke:#ff8d4f}svg.tandem .s2{stroke:#3fcf9f}"
                            "svg.tandem .s3{stroke:#e394cb}svg.tandem .s4{stroke:#e0c24d}svg.tandem .s5{stroke:#b5bac2}"
                            "svg.tandem .f0{fill:#5ab4e8}svg.tandem .f1{fill:#ff8d4f}svg.tandem .f2{fill:#3fcf9f}"
                            "svg.tandem .f3{fill:#e394cb}svg.tandem .f4{fill:#e0c24d}svg.tandem .f5{fill:#b5bac2}"
                            "svg.tandem .none{stroke:#4a4f57}"
                            "}</style>\n";

static void put_title(markup *m, const svg_page *page, size_t most)
{
    markup_cut(m, page->title, most);
    if (page->of) {
        markup_put(m, ": ");
        markup_cut(m, page->of, most / 2);
    }
}

void svg_open(markup *m, const svg_page *page)
{
    markup_put(m,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tandem\" role=\"img\" width=\"%.0f\" height=\"%.0f\" "
               "viewBox=\"0 0 %.0f %.0f\">\n<title>",
               page->width, page->height, page->width, page->height);
    put_title(m, page, 1000);
    markup_put(m, "</title>\n<desc>");
}

void svg_begin(markup *m, const svg_page *page)
{
    markup_put(m, "</desc>\n%s<rect class=\"paper\" width=\"%.0f\" height=\"%.0f\"/>\n", STYLE, page->width,
               page->height);
    markup_put(m, "<text class=\"ink title\" x=\"16\" y=\"26\">");
    put_title(m, page, (size_t)(page->width / 10));
    markup_put(m, "</text>\n");
}

void svg_close(markup *m)
{
    markup_put(m, "</svg>\n");
}

/* ---- places ---- */

/* Where a value stands between two others, from 0 to 1; 0 where they are one. Halves, since high - low may be too large
 * for a double. */
static double share(double value, double low, double high)
{
    const double span = high / 2 - low / 2;
    const double at = span > 0 ? (value / 2 - low / 2) / span : 0;
    return at > 1 ? 1 : at >= 0 ? at : 0;
}

double svg_x(const svg_plot *p, double value)
{
    return p->left + p->width * share(value, p->x_low, p->x_high);
}

double svg_y(const svg_plot *p, double value)
{
    return p->top + p->height * (1 - share(value, p->y_low, p->y_high));
}

/* ---- axes ---- */

double svg_round_up(double x)
{
    const double power = pow(10, floor(log10(x)));
    static const double STEPS[] = {1, 2, 2.5, 5};
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
        if (power * STEPS[i] >= x * (1 - 1e-12))
            return power * STEPS[i];
    return power * 10;
}

/* Round values between two others: first, first + 1, ..., last times step. Where there are none, n is 0. */
typedef struct {
    double first, step;
    int n;
} ticks;

static ticks choose_ticks(double low, double high)
{
    enum { ABOUT = 5 };
    const double span = high - low;
    if (!(span > 0) || !isfinite(span) || span < 1e-9 * fmax(fabs(low), fabs(high)))
        return (ticks){0};
    const double step = svg_round_up(span / ABOUT), first = ceil(low / step - 1e-9);
    if (!(step > 0) || !isfinite(first))
        return (ticks){0};
    return (ticks){first, step, (int)(floor(high / step + 1e-9) - first) + 1};
}

static void tick_text(char text[32], double value, bool is_share)
{
    snprintf(text, 32, "%.10g", is_share ? value * 100 : value);
}

/* The numbers of an axis: round ones, or else those of its ends. None where an end is no number. */
static int tick_values(double low, double high, double values[16])
{
    const ticks t = choose_ticks(low, high);
    for (int i = 0; i < t.n && i < 16; i++)
        values[i] = (t.first + i) * t.step;
    if (t.n > 0)
        return t.n < 16 ? t.n : 16;
    if (!isfinite(low) || !isfinite(high))
        return 0;
    values[0] = low;
    values[1] = high;
    return low < high ? 2 : 1;
}

void svg_axis_x(markup *m, const svg_plot *p, bool is_share, const char *label)
{
    double values[16];
    char text[32];
    const double bottom = p->top + p->height;
    for (int i = 0, n = tick_values(p->x_low, p->x_high, values); i < n; i++) {
        const double x = svg_x(p, values[i]);
        svg_line(m, "grid", x, p->top, x, bottom);
        tick_text(text, values[i], is_share);
        svg_label(m, x, bottom + 18, "soft", "middle", text);
    }
    svg_line(m, "axis", p->left, bottom, p->left + p->width, bottom);
    svg_label(m, p->left + p->width / 2, bottom + 38, "ink", "middle", label);
}

void svg_axis_y(markup *m, const svg_plot *p, bool is_share, const char *label)
{
    double values[16];
    char text[32];
    const double middle = p->top + p->height / 2;
    for (int i = 0, n = tick_values(p->y_low, p->y_high, values); i < n; i++) {
        const double y = svg_y(p, values[i]);
        svg_line(m, "grid", p->left, y, p->left + p->width, y);
        tick_text(text, values[i], is_share);
        svg_label(m, p->left - 8, y + 4, "soft", "end", text);
    }
    svg_line(m, "axis", p->left, p->top, p->left, p->top + p->height);
    markup_put(m, "<text class=\"ink\" text-anchor=\"middle\" transform=\"translate(18 %.1f) rotate(-90)\">", middle);
    markup_text(m, label);
    markup_put(m, "</text>\n");
}

/* ---- marks ---- */

void svg_label(markup *m, double x, double y, const char *look, const char *anchor, const char *text)
{
    markup_put(m, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", look, x, y, anchor);
    markup_text(m, text);
    markup_put(m, "</text>\n");
}

void svg_line(markup *m, const char *look, double x0, double y0, double x1, double y1)
{
    markup_put(m, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", look, x0, y0, x1, y1);
}

void svg_range(markup *m, const svg_plot *p, size_t series, double x, tdm_interval range)
{
    if (!isfinite(range.low) || !isfinite(range.high))
        return;
    const double low = svg_y(p, range.low), high = svg_y(p, range.high);
    markup_put(m,
               "<path class=\"s%zu\" fill=\"none\" stroke-width=\"1.5\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f "
               "%.1fh8\"/>\n",
               series % SVG_SERIES, x, low, high, x - 4, low, x - 4, high);
}

void svg_swatch(markup *m, size_t series, double x, double y)
{
    markup_put(m, "<path class=\"line s%zu d%zu\" d=\"M%.1f %.1fh28\"/>\n", series % SVG_SERIES,
               (series + series / SVG_SERIES) % SVG_SERIES, x, y);
}
