/* host/utf8.h - one step through text that may be invalid UTF-8.
 *
 *   for (size_t i = 0; i < len; i += tdm_utf8_next(text + i, len - i, &c))
 *       ... c is a code point, TDM_UTF8_BAD or TDM_UTF8_CUT ...
 *
 * Valid is what Unicode 16 table 3-7 lists: no surrogates, no overlong forms, nothing above
 * U+10FFFF. Thread safety: no state. */
#ifndef HOST_UTF8_H
#define HOST_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum {
    TDM_UTF8_BAD = -1, /* a maximal ill-formed subpart: one U+FFFD in Python's "replace" */
    TDM_UTF8_CUT = -2, /* the text ends inside a character that is well formed so far */
};

/* Read the character at p.
 *   n   bytes that can be read, at least 1
 *   c   receives the code point, TDM_UTF8_BAD or TDM_UTF8_CUT
 * Returns the bytes that belong to it, at least 1. */
static inline size_t tdm_utf8_next(const unsigned char *p, size_t n, int32_t *c)
{
    const unsigned lead = p[0];
    if (lead < 0x80) {
        *c = (int32_t)lead;
        return 1;
    }
    *c = TDM_UTF8_BAD;
    if (lead < 0xC2 || lead > 0xF4)
        return 1;
    const size_t size = 2u + (lead >= 0xE0) + (lead >= 0xF0);
    uint32_t value = lead & (0x7Fu >> size);
    /* Only the second byte has a range that depends on the lead. */
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < size; i++) {
        if (i == n) {
            *c = TDM_UTF8_CUT;
            return n;
        }
        if (p[i] < low || p[i] > high)
            return i;
        value = value << 6 | (p[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *c = (int32_t)value;
    return size;
}

#endif
