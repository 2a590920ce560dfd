/* The pre-tokeniser: pieces of known texts, the classes of all code points, and random texts
 * against GPT-2's pattern taken literally. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <utf8proc.h>

#include "host/utf8.h"
#include "tokenizer/pretoken.h"

static int set_up(void **state)
{
    (void)state;
    tdm_pretoken_init();
    return 0;
}

/* Pieces separated by | (which no text here contains). */
static const char *const TEXTS[] = {
    "Hello| world",
    " Hello| world",
    "a|  | b",
    " | two| lead|,| two| trail|  ",
    "x|\n\n|\n|y",
    "tab|\t|and|\r|\n|CRLF| \t \n| mix",
    "I|'m| you|'re| they|'ve| we|'ll| he|'d| it|'s| don|'t",
    "I|'|M| YOU|'|RE| IT|'|S",
    "''|s| '|s|'",
    "'s|up",
    "'|lo| '|lo| '|re",
    "'ll|'|",
    "3|.|14159| 1|,|000| 2|nd",
    "\xC2\xBD| \xC2\xB2| \xE2\x85\xA7| \xD9\xA3",
    "caf\xC3\xA9| na\xC3\xAFve| Z\xC3\xBCrich",
    "e|\xCC\x81| combining",
    "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E| \xE4\xB8\xAD\xE6\x96\x87",
    "a|\xC2\xA0|b|\xE2\x80\x83|c|\xE3\x80\x80|d|\xE2\x80\x8B|e",
    "!!!???| ...| ---| ___",
    "snake|_|case| camelCase|2",
    " ",
    "   ",
    "\n",
    "a| ",
    "a|\xC2\xA0\xC2\xA0|\xC2\xA0|b",
    "\xFF\xFE|A| \x80|b",
    "\xE2\x82|a|\xF0\x9F\x98|   | b",
    "antidisestablishmentarianism| antidisestablishmentarianism| x",
    "abcdefghijklmn|,| abcdefghijklm|.|abcdefghijklmno|,|abcdefghijklmnop|,| abcdefghijklmno|!",
    "abcdefg\xC3\xA9| abcdefghijkl\xC3\xA9gh| abcdefghijklmnopqrst\xC3\xA9| the| rest| of| it",
};

static void cut_known_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        unsigned char text[256];
        size_t len = 0, at = 0;
        for (const char *p = TEXTS[i]; *p; p++)
            if (*p != '|')
                text[len++] = (unsigned char)*p;
        for (const char *p = TEXTS[i]; *p;) {
            const size_t want = strcspn(p, "|");
            const size_t got = tdm_pretoken(text + at, text + len);
            if (got != want)
                fail_msg("\"%s\" at %zu: %zu bytes, want %zu", TEXTS[i], at, got, want);
            at += got;
            p += want + (p[want] == '|');
        }
        assert_int_equal(at, len);
    }
}

/* ---- classes ---- */

static void count_classes(void **state)
{
    (void)state;
    int counts[4] = {0};
    for (int32_t c = 0; c < 0x110000; c++)
        counts[tdm_class_of(c)]++;
    assert_int_equal(counts[TDM_CLASS_SPACE], 25);
    assert_int_equal(tdm_class_of(TDM_UTF8_BAD), TDM_CLASS_OTHER);
    assert_int_equal(tdm_class_of(0x110000), TDM_CLASS_OTHER);
    /* What HF tokenizers 0.23 (Unicode 16) has. */
    assert_int_equal(counts[TDM_CLASS_LETTER], 141028);
    assert_int_equal(counts[TDM_CLASS_NUMBER], 1911);
}

/* Token ids hang on the classes, and most of these come from the installed library. */
static void classes_are_those_of_unicode_16(void **state)
{
    (void)state;
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a over one byte for each code point */
    for (int32_t c = 0; c < 0x110000; c++)
        hash = (hash ^ (uint64_t)tdm_class_of(c)) * 0x100000001B3u;
    if (hash != 0x48B1698009766D10u) /* also that of the classes HF tokenizers 0.23 cuts by */
        fail_msg("utf8proc %s (Unicode %s) gives some character another class than Unicode 16, so "
                 "token ids would differ from the reference: extend the tables in "
                 "tokenizer/pretoken.c (hash %016llx)",
                 utf8proc_version(), utf8proc_unicode_version(), (unsigned long long)hash);
}

/* ---- the pattern, taken literally ---- */

enum { MAX_CHARS = 40 };

typedef struct {
    tdm_char_class class[MAX_CHARS];
    int32_t c[MAX_CHARS];
    size_t at[MAX_CHARS + 1]; /* byte offsets */
    size_t n;
} chars;

/* The end of the longest run of class from i on. */
static size_t run_of(const chars *t, size_t i, tdm_char_class class)
{
    while (i < t->n && t->class[i] == class)
        i++;
    return i;
}

static bool spells(const chars *t, size_t i, const char *word)
{
    for (; *word; word++, i++)
        if (i >= t->n || t->c[i] != *word)
            return false;
    return true;
}

/* One match at character i: alternative after alternative, each greedy with backtracking. */
static size_t match(const chars *t, size_t i)
{
    static const char *const SUFFIXES[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    static const tdm_char_class KINDS[] = {TDM_CLASS_LETTER, TDM_CLASS_NUMBER, TDM_CLASS_OTHER};
    for (size_t k = 0; k < 7; k++)
        if (spells(t, i, SUFFIXES[k]))
            return i + strlen(SUFFIXES[k]);
    for (size_t k = 0; k < 3; k++) {
        const size_t from = i + (t->c[i] == ' ');
        const size_t end = run_of(t, from, KINDS[k]);
        if (end > from)
            return end;
    }
    const size_t end = run_of(t, i, TDM_CLASS_SPACE);
    for (size_t e = end; e > i; e--) /* \s+(?!\S) */
        if (e == t->n || t->class[e] == TDM_CLASS_SPACE)
            return e;
    return end; /* \s+ */
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static void match_random_texts(void **state)
{
    (void)state;
    static const char *const PARTS[] = {
        "a",
        "b",
        "s",
        "t",
        "re",
        "ll",
        "word",
        "longerword",
        "Z",
        "7",
        "42",
        " ",
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
        "'",
        "'",
        "'s",
        ".",
        "--",
        "{",
        "\xC3\xA9",
        "\xD0\xB6",
        "\xE6\x97\xA5",
        "\xC2\xA0",
        "\xE3\x80\x80",
        "\xE2\x80\xA8",
        "\xC2\x85",
        "\xCC\x81",
        "\xD9\xA3",
        "\xC2\xB2",
        "\xF0\x9F\x99\x82",
        "\xE2\x80\x8D",
        "\xF0\x90\x97\x80",
        "\xFF",
        "\x80",
        "\xE2\x82",
        "\x01",
        "\x7F",
        "\xC2\xAD",
    };
    for (int round = 0; round < 200000; round++) {
        unsigned char text[512];
        chars t = {.n = 0};
        size_t len = 0;
        const uint32_t n_parts = 1 + random_below(12);
        for (uint32_t i = 0; i < n_parts; i++) {
            const char *part = PARTS[random_below(sizeof PARTS / sizeof *PARTS)];
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        for (size_t at = 0; at < len && t.n < MAX_CHARS; t.n++) {
            t.at[t.n] = at;
            at += tdm_utf8_next(text + at, len - at, &t.c[t.n]);
            t.class[t.n] = tdm_class_of(t.c[t.n]);
            t.at[t.n + 1] = at;
        }
        len = t.at[t.n];
        for (size_t i = 0; i < t.n;) {
            const size_t end = match(&t, i);
            assert_int_equal(tdm_pretoken(text + t.at[i], text + len), t.at[end] - t.at[i]);
            i = end;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_known_texts),
        cmocka_unit_test(count_classes),
        cmocka_unit_test(classes_are_those_of_unicode_16),
        cmocka_unit_test(match_random_texts),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
