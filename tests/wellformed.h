/* tests/wellformed.h - whether a page is XML that holds only characters, balanced elements, quoted attributes and known
 * entities, and whether it is still: no script, nothing loaded, no handler.
 *
 *   assert_wellformed(text, len); // names the place of the first fault */
#ifndef TESTS_WELLFORMED_H
#define TESTS_WELLFORMED_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/utf8.h"

enum { DEEPEST = 32, MOST_ATTRIBUTES = 16 };

typedef struct {
    const char *p, *end;
    struct {
        const char *name;
        size_t len;
    } open[DEEPEST];
    size_t depth;
    const char *fault;
} xml_walk;

static inline bool starts(const xml_walk *w, const char *with)
{
    const size_t n = strlen(with);
    return (size_t)(w->end - w->p) >= n && !memcmp(w->p, with, n);
}

static inline size_t name_length(const xml_walk *w)
{
    size_t n = 0;
    while (w->p + n < w->end &&
           (strchr("-:_.", w->p[n]) || (w->p[n] >= '0' && w->p[n] <= '9') ||
            ((w->p[n] | 0x20) >= 'a' && (w->p[n] | 0x20) <= 'z')) &&
           w->p[n])
        n++;
    return n;
}

/* One character of text, or an entity. */
static inline void walk_character(xml_walk *w)
{
    static const char *const ENTITIES[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&#39;"};
    int32_t c;
    if (*w->p == '&') {
        for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++)
            if (starts(w, ENTITIES[i])) {
                w->p += strlen(ENTITIES[i]);
                return;
            }
        w->fault = "an entity";
        return;
    }
    w->p += tdm_utf8_next((const unsigned char *)w->p, (size_t)(w->end - w->p), &c);
    if (c < 0 || (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || (c >= 0x7F && c < 0xA0) || c == 0xFFFE ||
        c == 0xFFFF)
        w->fault = "a character";
}

/* Numbers of what is drawn: finite, and not far from the page. */
static inline bool is_sane_number(const char *name, size_t len, const char *value, size_t n)
{
    static const char *const NUMBERS[] = {"x",  "y", "x1",    "x2",     "y1", "y2",     "cx",
                                          "cy", "r", "width", "height", "d",  "viewBox"};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        if (strlen(NUMBERS[i]) != len || strncmp(NUMBERS[i], name, len) != 0)
            continue;
        for (size_t k = 0; k < n; k++)
            if (!strchr("0123456789.- MLHVZh", value[k]))
                return false;
        for (const char *p = value; p < value + n;) {
            char *end = NULL;
            const double x = strtod(p, &end);
            if (end > p && !(fabs(x) <= 5000))
                return false;
            p = end > p ? end : p + 1;
        }
    }
    return true;
}

static inline void walk_attribute(xml_walk *w)
{
    static const char *const LOADED[] = {"href", "src", "xlink:href", "action", "data", "srcset"};
    const char *name = w->p, *value;
    const size_t len = name_length(w);
    w->p += len;
    if (len == 0 || !starts(w, "=\"")) {
        w->fault = "an attribute";
        return;
    }
    if (len > 2 && !strncmp(name, "on", 2))
        w->fault = "a handler";
    for (size_t i = 0; i < sizeof LOADED / sizeof *LOADED; i++)
        if (strlen(LOADED[i]) == len && !strncmp(LOADED[i], name, len))
            w->fault = "something to load";
    w->p += 2;
    for (value = w->p; w->p < w->end && *w->p != '"' && !w->fault;) {
        if (*w->p == '<')
            w->fault = "a tag in an attribute";
        else
            walk_character(w);
    }
    if (!w->fault && !is_sane_number(name, len, value, (size_t)(w->p - value)))
        w->fault = "a number";
    w->p++;
}

static inline void walk_start(xml_walk *w)
{
    w->p++;
    const char *name = w->p;
    const size_t len = name_length(w);
    w->p += len;
    if (len == 0 || w->depth == DEEPEST || (len == 6 && !strncmp(name, "script", 6))) {
        w->fault = "an element";
        return;
    }
    while (starts(w, " ") && !w->fault) {
        w->p++;
        walk_attribute(w);
    }
    if (starts(w, "/>")) {
        w->p += 2;
    } else if (starts(w, ">")) {
        w->p++;
        w->open[w->depth].name = name;
        w->open[w->depth++].len = len;
    } else if (!w->fault) {
        w->fault = "the end of a tag";
    }
}

static inline void walk_end(xml_walk *w)
{
    w->p += 2;
    const size_t len = name_length(w);
    if (w->depth == 0 || w->open[w->depth - 1].len != len || memcmp(w->open[w->depth - 1].name, w->p, len) != 0) {
        w->fault = "an end without its start";
        return;
    }
    w->depth--;
    w->p += len;
    if (!starts(w, ">"))
        w->fault = "the end of a tag";
    w->p++;
}

static inline const char *wellformed_fault(const char *text, size_t len, const char **place)
{
    xml_walk w = {.p = text, .end = text + len};
    if (starts(&w, "<!DOCTYPE html>"))
        w.p += strlen("<!DOCTYPE html>");
    while (w.p < w.end && !w.fault) {
        *place = w.p;
        if (starts(&w, "</"))
            walk_end(&w);
        else if (*w.p == '<')
            walk_start(&w);
        else
            walk_character(&w);
    }
    return w.fault ? w.fault : w.depth ? "an element without its end" : NULL;
}

static inline void assert_wellformed(const char *text, size_t len)
{
    const char *place = text, *fault = wellformed_fault(text, len, &place);
    if (fault)
        fail_msg("%s at byte %zu: %.80s", fault, (size_t)(place - text), place);
}

#endif
