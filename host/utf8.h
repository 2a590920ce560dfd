/* host/utf8.h - one character of UTF-8, strictly: no overlong forms, no surrogates, nothing beyond
 * U+10FFFF. Thread safety: pure functions. */
#ifndef HOST_UTF8_H
#define HOST_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decode the character at p, which must be below end.
 *   code  receives the code point; NULL allowed; untouched on failure
 * Returns: its bytes, 1 to 4, or 0 when no valid character starts here.
 * Source:  the table of well-formed byte sequences of the Unicode standard (3.9, D92). */
size_t tdm_utf8_decode(const char *p, const char *end, uint32_t *code);

#endif
