/* tokenizer/pretoken.h - cut text into the pieces inside which BPE merges.
 *
 *   tdm_pretoken_init();
 *   for (p = text; p < end; p += tdm_pretoken(p, end))
 *       ...
 *
 * The pieces are those of GPT-2's pattern
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * A byte that is not part of a valid character counts as a symbol (the third kind of run).
 * Thread safety: after tdm_pretoken_init there is no state that changes. */
#ifndef TOKENIZER_PRETOKEN_H
#define TOKENIZER_PRETOKEN_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum {
    TDM_CLASS_OTHER, /* punctuation, symbols, marks, controls, invalid bytes, unassigned */
    TDM_CLASS_LETTER,
    TDM_CLASS_NUMBER,
    TDM_CLASS_SPACE, /* the 25 code points of White_Space */
} tdm_char_class;

/* Build the class table, once per process. Any thread may call it, any number of times. */
void tdm_pretoken_init(void);

/* The class of a code point; OTHER for TDM_UTF8_BAD and TDM_UTF8_CUT. */
tdm_char_class tdm_class_of(int32_t code_point);

/* The length of the piece at p, p < end; every kind of piece. */
size_t tdm_pretoken_any(const unsigned char *p, const unsigned char *end);

/* How many of the 8 bytes at p are ASCII letters, counted up to the first that is none. */
static inline size_t tdm_ascii_letters(const unsigned char *p)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x80 * ones;
    uint64_t x;
    memcpy(&x, p, sizeof x);
    x = le64toh(x);
    const uint64_t folded = (x & ~tops) | 0x20 * ones;
    // The top bit of a byte shows the result; seven-bit values cannot carry into their neighbour.
    const uint64_t from_a = folded + (0x80 - 'a') * ones;
    const uint64_t beyond_z = folded + (0x7F - 'z') * ones;
    const uint64_t others = ~(from_a & ~beyond_z & ~x) & tops;
    return others ? (size_t)__builtin_ctzll(others) / 8 : 8;
}

/* The length of the piece at p, p < end. Most pieces are an ASCII word of up to 15 letters with or
 * without a space; the rest goes to tdm_pretoken_any. */
static inline size_t tdm_pretoken(const unsigned char *p, const unsigned char *end)
{
    if (end - p > 17) {
        const size_t space = *p == ' ';
        size_t run = tdm_ascii_letters(p + space);
        if (run == 8)
            run += tdm_ascii_letters(p + space + 8);
        if (run > 0 && run < 16 && p[space + run] < 0x80)
            return space + run;
    }
    return tdm_pretoken_any(p, end);
}

#endif
