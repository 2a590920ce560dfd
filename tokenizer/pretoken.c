#include "tokenizer/pretoken.h"

#include <pthread.h>
#include <stdbool.h>
#include <utf8proc.h>

#include "host/utf8.h"

/* No letter, number or white space stands at or above this: the planes behind are unassigned,
 * tags, variation selectors or private use. */
enum { CLASSES_END = 0x40000 };

/* Two bits per code point. Written once by build_classes, read-only afterwards. */
static unsigned char classes[CLASSES_END / 4];
static pthread_once_t classes_once = PTHREAD_ONCE_INIT;

typedef struct {
    int32_t first, last;
} range;

static const range SPACES[] = {
    {0x0009, 0x000D}, {0x0020, 0x0020}, {0x0085, 0x0085}, {0x00A0, 0x00A0}, {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

/* The letters and numbers of Unicode 15.1 and 16.0. HF tokenizers 0.23, the reference, knows
 * them; utf8proc 2.8 stops at 15.0. */
static const range LETTERS_SINCE_15[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389},
    {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
    {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA},
    {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
    {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D},
};
static const range NUMBERS_SINCE_15[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};

static void set_class(int32_t c, tdm_char_class class)
{
    const int shift = c % 4 * 2;
    classes[c / 4] = (unsigned char)((classes[c / 4] & ~(3 << shift)) | (int)class << shift);
}

static void set_ranges(const range *ranges, size_t n, tdm_char_class class)
{
    for (size_t i = 0; i < n; i++)
        for (int32_t c = ranges[i].first; c <= ranges[i].last; c++)
            set_class(c, class);
}

static tdm_char_class class_in_utf8proc(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return TDM_CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return TDM_CLASS_NUMBER;
    default:
        return TDM_CLASS_OTHER;
    }
}

static void build_classes(void)
{
    for (int32_t c = 0; c < CLASSES_END; c++)
        set_class(c, class_in_utf8proc(c));
    set_ranges(LETTERS_SINCE_15, sizeof LETTERS_SINCE_15 / sizeof(range), TDM_CLASS_LETTER);
    set_ranges(NUMBERS_SINCE_15, sizeof NUMBERS_SINCE_15 / sizeof(range), TDM_CLASS_NUMBER);
    set_ranges(SPACES, sizeof SPACES / sizeof(range), TDM_CLASS_SPACE);
}

void tdm_pretoken_init(void)
{
    pthread_once(&classes_once, build_classes);
}

static inline tdm_char_class class_of(int32_t c)
{
    if (c < 0 || c >= CLASSES_END)
        return TDM_CLASS_OTHER;
    return (tdm_char_class)(classes[c / 4] >> c % 4 * 2 & 3);
}

tdm_char_class tdm_class_of(int32_t c)
{
    return class_of(c);
}

/* The class of the character at p and its size in bytes. */
static inline tdm_char_class class_at(const unsigned char *p, const unsigned char *end,
                                      size_t *size)
{
    int32_t c;
    *size = tdm_utf8_next(p, (size_t)(end - p), &c);
    return class_of(c);
}

/* Where the run of `class` that starts at p ends. */
static const unsigned char *run_end(const unsigned char *p, const unsigned char *end,
                                    tdm_char_class class)
{
    size_t size;
    while (p < end && class_at(p, end, &size) == class)
        p += size;
    return p;
}

/* A run of white space in front of a word leaves its last character to the word (a space becomes
 * the word's prefix, anything else a piece of its own), unless that is all there is. */
static size_t space_piece(const unsigned char *p, const unsigned char *end)
{
    const unsigned char *at = p, *last = p;
    size_t size;
    while (at < end && class_at(at, end, &size) == TDM_CLASS_SPACE) {
        last = at;
        at += size;
    }
    return (size_t)((at == end || last == p ? at : last) - p);
}

/* The length of 's 't 're 've 'm 'll 'd at the apostrophe p, or 0. */
static size_t contraction(const unsigned char *p, const unsigned char *end)
{
    const size_t left = (size_t)(end - p);
    if (left >= 2 && (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd'))
        return 2;
    const bool two = left >= 3 && ((p[1] == 'r' && p[2] == 'e') || (p[1] == 'v' && p[2] == 'e') ||
                                   (p[1] == 'l' && p[2] == 'l'));
    return two ? 3 : 0;
}

size_t tdm_pretoken_any(const unsigned char *p, const unsigned char *end)
{
    const size_t suffix = *p == '\'' ? contraction(p, end) : 0;
    if (suffix)
        return suffix;
    size_t size;
    const unsigned char *word = p + (*p == ' ' && end - p > 1);
    const tdm_char_class class = class_at(word, end, &size);
    if (class == TDM_CLASS_SPACE)
        return space_piece(p, end);
    return (size_t)(run_end(word + size, end, class) - p);
}
