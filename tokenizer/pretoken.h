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

/* One bit, the top one, in every byte of 8 that is no ASCII letter. */
static inline uint64_t tdm_ascii_others(const unsigned char *p)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x80 * ones;
    uint64_t x;
    memcpy(&x, p, sizeof x);
    x = le64toh(x);
    /* Seven-bit values cannot carry into their neighbour. */
    const uint64_t folded = (x & ~tops) | 0x20 * ones;
    const uint64_t from_a = folded + (0x80 - 'a') * ones;
    const uint64_t beyond_z = folded + (0x7F - 'z') * ones;
    return ~(from_a & ~beyond_z & ~x) & tops;
}

/* The length of the piece at p, p < end. Most pieces are an ASCII word of up to 15 bytes, with its
 * space; they are measured without a loop. The rest goes to tdm_pretoken_any. */
static inline size_t tdm_pretoken(const unsigned char *p, const unsigned char *end)
{
    if (end - p >= 16) {
        const uint64_t low = tdm_ascii_others(p) & ~((uint64_t)(*p == ' ') << 7);
        const uint64_t high = tdm_ascii_others(p + 8) | (uint64_t)1 << 63;
        const unsigned bits =
            low ? (unsigned)__builtin_ctzll(low) : 64u + (unsigned)__builtin_ctzll(high);
        const size_t len = bits / 8;
        /* A letter behind p, and no end that could be a letter outside ASCII or lie beyond 16
         * bytes. */
        if (len > (size_t)(*p == ' ') && p[len] < 0x80 && len < 15)
            return len;
    }
    return tdm_pretoken_any(p, end);
}

#endif
