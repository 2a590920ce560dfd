#include "tools/eval_markup.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "host/utf8.h"

void markup_put(markup *m, const char *fmt, ...)
{
    if (m->st != TDM_OK)
        return;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0)
        m->st = tdm_fail(m->err, TDM_EINTERNAL, "a format of the report");
    else
        m->st = tdm_buf_reserve(m->out, (size_t)n + 1, m->err);
    if (m->st == TDM_OK) {
        vsnprintf(m->out->p + m->out->len, (size_t)n + 1, fmt, again);
        m->out->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

static void put_bytes(markup *m, const char *bytes, size_t n)
{
    if (m->st == TDM_OK)
        m->st = tdm_buf_put(m->out, bytes, n, m->err);
}

/* XML 1.0, 2.2; without the controls from U+007F on, which HTML forbids. */
static bool is_character(int32_t c)
{
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0x7F) || (c >= 0xA0 && c < 0xFFFE) || c >= 0x10000;
}

static const char *entity(int32_t c)
{
    switch (c) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return is_character(c) ? NULL : "\xEF\xBF\xBD";
    }
}

static size_t characters(const char *text)
{
    size_t count = 0;
    int32_t c;
    for (size_t n = strlen(text), i = 0; i < n; i += tdm_utf8_next((const unsigned char *)text + i, n - i, &c))
        count++;
    return count;
}

void markup_cut(markup *m, const char *text, size_t most)
{
    const size_t n = strlen(text), have = characters(text), kept = have > most ? most - 1 : have;
    int32_t c;
    for (size_t i = 0, done = 0, used; done < kept; i += used, done++) {
        used = tdm_utf8_next((const unsigned char *)text + i, n - i, &c);
        const char *instead = entity(c);
        put_bytes(m, instead ? instead : text + i, instead ? strlen(instead) : used);
    }
    if (kept < have)
        markup_put(m, "\xE2\x80\xA6");
}

void markup_text(markup *m, const char *text)
{
    markup_cut(m, text, SIZE_MAX);
}

void markup_number(markup *m, double x, int decimals)
{
    if (isfinite(x))
        markup_put(m, "%.*f", decimals, x);
    else
        markup_put(m, "\xE2\x80\x93");
}

void markup_interval(markup *m, tdm_interval interval, double scale, int decimals)
{
    if (isfinite(interval.low) && isfinite(interval.high))
        markup_put(m, "%.*f to %.*f", decimals, interval.low * scale, decimals, interval.high * scale);
}
