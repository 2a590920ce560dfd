#include "host/json_scan.h"

#include <stdlib.h>
#include <string.h>

#include "host/utf8.h"

static bool fault(tdm_json_scan *s, tdm_json_fault class, const char *at, const char *what)
{
    s->status = TDM_EFORMAT;
    s->why = (tdm_json_error){class, (size_t)(at - s->text)};
    s->what = what;
    return false;
}

/* ---- bytes ---- */

/* Bytes of the valid character at p; 0 when there is none. */
static size_t character_at(const char *p, const char *end)
{
    int32_t code;
    const size_t n = tdm_utf8_next((const unsigned char *)p, (size_t)(end - p), &code);
    return code < 0 ? 0 : n;
}

/* Say what is wrong with the byte at p, where the grammar does not want it. */
static bool unexpected(tdm_json_scan *s, const char *what)
{
    const unsigned char c = s->p < s->end ? (unsigned char)*s->p : ' ';
    if (s->p < s->end && c == 0)
        return fault(s, TDM_JSON_NUL, s->p, "a NUL byte");
    if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
        return fault(s, TDM_JSON_CONTROL, s->p, "a raw control character");
    if (c >= 0x80 && character_at(s->p, s->end) == 0)
        return fault(s, TDM_JSON_UTF8, s->p, "invalid UTF-8");
    return fault(s, TDM_JSON_SYNTAX, s->p, s->p < s->end ? what : "the text ends too early");
}

static void skip_space(tdm_json_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* First byte that is not printable ASCII other than quote and backslash, eight bytes a step. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x80 * ones;
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        const uint64_t quote = x ^ ('"' * ones), slash = x ^ ('\\' * ones);
        /* A borrow can only reach bytes above the first hit, so the lowest set bit is exact. */
        const uint64_t hit = (x | (x - 0x20 * ones) | (quote - ones) | (slash - ones)) & high;
        if (hit)
            return p + __builtin_ctzll(hit) / 8;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

/* ---- scalars ---- */

/* Four hexadecimal digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        int digit = -1;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* p stands on a backslash. */
static bool scan_escape(tdm_json_scan *s)
{
    const char *at = s->p;
    if (s->end - at < 2 || !memchr("\"\\/bfnrtu", at[1], 9))
        return fault(s, TDM_JSON_SYNTAX, at, "an unknown escape");
    if (at[1] != 'u') {
        s->p = at + 2;
        return true;
    }
    const int unit = hex4(at + 2, s->end);
    if (unit < 0)
        return fault(s, TDM_JSON_SYNTAX, at, "\\u without four hexadecimal digits");
    if (unit == 0)
        return fault(s, TDM_JSON_NUL, at, "\\u0000");
    s->p = at + 6;
    if (unit < 0xD800 || unit > 0xDFFF)
        return true;
    if (unit > 0xDBFF || s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
        return fault(s, TDM_JSON_UTF8, at, "an escape that is a lone surrogate");
    const int low = hex4(s->p + 2, s->end);
    if (low < 0xDC00 || low > 0xDFFF)
        return fault(s, TDM_JSON_UTF8, at, "an escape that is a lone surrogate");
    s->p += 6;
    return true;
}

/* p stands on the opening quote; ends behind the closing one. */
static bool scan_string(tdm_json_scan *s)
{
    const char *open = s->p++;
    for (;;) {
        s->p = skip_plain(s->p, s->end);
        if (s->p == s->end)
            return fault(s, TDM_JSON_SYNTAX, open, "a string without an end");
        const unsigned char c = (unsigned char)*s->p;
        if (c == '"') {
            s->p++;
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(s))
                return false;
        } else {
            const size_t n = c < 0x80 ? 0 : character_at(s->p, s->end);
            if (n == 0)
                return c == '\t' || c == '\n' || c == '\r'
                           ? fault(s, TDM_JSON_CONTROL, s->p, "a raw control character")
                           : unexpected(s, "a byte that cannot stand in a string");
            s->p += n;
        }
    }
}

static bool scan_digits(tdm_json_scan *s)
{
    const char *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > first || unexpected(s, "a number lacks a digit");
}

static bool scan_number(tdm_json_scan *s)
{
    const char *first = s->p;
    bool natural = *s->p != '-';
    if (!natural)
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!scan_digits(s))
        return false;
    if (s->p < s->end && *s->p == '.') {
        natural = false;
        s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        natural = false;
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p - first > TDM_JSON_LONG_NUMBER)
        s->has_long_numbers = true;
    if (!natural)
        s->has_other_numbers = true;
    return true;
}

static bool scan_word(tdm_json_scan *s)
{
    static const char *const WORDS[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(WORDS[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, WORDS[i], n) == 0) {
            s->p += n;
            return true;
        }
    }
    return unexpected(s, "a value is wanted here");
}

/* ---- structure ---- */

static bool add_member(tdm_json_scan *s)
{
    if (s->n_members == s->cap_members) {
        const size_t cap = s->cap_members ? s->cap_members * 2 : 8;
        tdm_json_member *more = realloc(s->members, cap * sizeof *more);
        if (!more) {
            s->status = TDM_ENOMEM;
            s->what = "no memory for the members of an object";
            return false;
        }
        s->members = more;
        s->cap_members = cap;
    }
    s->members[s->n_members++] = (tdm_json_member){.value_at = (size_t)(s->p - s->text)};
    return true;
}

/* The key of a member and its colon; ends before the value. */
static bool scan_key(tdm_json_scan *s)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"')
        return unexpected(s, "a key in quotes is wanted here");
    if (++s->n_keys == s->stop_at_key)
        return fault(s, TDM_JSON_DUPLICATE, s->p, "a key that stands twice in one object");
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (s->p == s->end || *s->p != ':')
        return unexpected(s, "a colon is wanted here");
    s->p++;
    skip_space(s);
    return s->depth != 1 || add_member(s);
}

/* p stands on a bracket. *complete tells an empty container from one whose first value follows. */
static bool scan_open(tdm_json_scan *s, bool *complete)
{
    const bool object = *s->p == '{';
    if (s->depth == CJSON_NESTING_LIMIT)
        return fault(s, TDM_JSON_SYNTAX, s->p, "more than 1000 levels");
    s->in_object[s->depth++] = object;
    s->p++;
    skip_space(s);
    *complete = s->p < s->end && *s->p == (object ? '}' : ']');
    if (*complete) {
        s->depth--;
        s->p++;
        return true;
    }
    return !object || scan_key(s);
}

/* One scalar, or the opening of a container. */
static bool scan_value(tdm_json_scan *s, bool *complete)
{
    skip_space(s);
    *complete = true;
    if (s->n_values++ == s->max_values)
        return fault(s, TDM_JSON_TOO_BIG, s->p, "more values than allowed");
    if (s->p == s->end)
        return unexpected(s, "");
    if (*s->p == '"')
        return scan_string(s);
    if (*s->p == '{' || *s->p == '[')
        return scan_open(s, complete);
    if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
        return scan_number(s);
    return scan_word(s);
}

/* Behind a complete value: close what ends here, up to a comma (*more) or the end of the root. */
static bool scan_behind(tdm_json_scan *s, bool *more)
{
    *more = false;
    while (s->depth > 0) {
        const bool object = s->in_object[s->depth - 1];
        if (s->depth == 1 && s->n_members) {
            tdm_json_member *m = &s->members[s->n_members - 1];
            m->value_len = (size_t)(s->p - s->text) - m->value_at;
        }
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            *more = true;
            return !object || scan_key(s);
        }
        if (s->p == s->end || *s->p != (object ? '}' : ']'))
            return unexpected(s, "a comma or a closing bracket is wanted here");
        s->p++;
        s->depth--;
    }
    return true;
}

bool tdm_json_scan_text(tdm_json_scan *s)
{
    for (bool more = true; more;) {
        bool complete = false;
        if (!scan_value(s, &complete) || (complete && !scan_behind(s, &more)))
            return false;
    }
    skip_space(s);
    return s->p == s->end || unexpected(s, "bytes behind the value");
}
