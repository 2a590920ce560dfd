/* Invalid UTF-8 to U+FFFD as Python's errors="replace" does it, whole and as a stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "host/utf8.h"
#include "tokenizer/bpe.h"

#define R "\xEF\xBF\xBD"

/* What CPython 3.11 gives. */
static const struct {
    const char *in, *out;
} CASES[] = {
    {"", ""},
    {"plain", "plain"},
    {"\xC3\xA9\xE6\x97\xA5\xF0\x9F\x99\x82", "\xC3\xA9\xE6\x97\xA5\xF0\x9F\x99\x82"},
    {"\xE2\x82", R},
    {"\xE2\x28\xA1", R "(" R},
    {"\xF0\x9F\x98", R},
    {"\xFF\xFE\x41", R R "A"},
    {"\xC0\x80", R R},
    {"\xC1\xBF", R R},
    {"\xED\xA0\x80", R R R},
    {"\xED\x9F\xBF", "\xED\x9F\xBF"},
    {"\xEE\x80\x80", "\xEE\x80\x80"},
    {"\xF4\x90\x80\x80", R R R R},
    {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
    {"\xF5\x80\x80\x80", R R R R},
    {"\xF0\x80\x80\x80", R R R R},
    {"\xF0\x90\x80\x80", "\xF0\x90\x80\x80"},
    {"\xE0\x80\x80", R R R},
    {"\xE0\xA0\x80", "\xE0\xA0\x80"},
    {"\xE0\x9F\xBF", R R R},
    {"\xF0\x9F\x99\xF0\x9F\x99\x82", R "\xF0\x9F\x99\x82"},
    {"\xF0\x9F\x99"
     "A\xC3",
     R "A" R},
    {"\x80\xBF", R R},
    {"\xC3\xC3\xA9", R "\xC3\xA9"},
    {"\xF1\x80\x80\xE1\x80\xC2", R R R},
    {"a\xE1\x80"
     "b\xF1\x80"
     "c",
     "a" R "b" R "c"},
};

static void replace_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        tdm_buf out = {0};
        assert_int_equal(tdm_utf8_replace(CASES[i].in, strlen(CASES[i].in), &out, NULL), TDM_OK);
        if (out.len != strlen(CASES[i].out) ||
            memcmp(out.p ? out.p : "", CASES[i].out, out.len) != 0)
            fail_msg("case %zu: %.*s", i, (int)out.len, out.p ? out.p : "");
        tdm_buf_free(&out);
    }
}

static void keep_nul(void **state)
{
    (void)state;
    tdm_buf out = {0};
    assert_int_equal(tdm_utf8_replace("a\0\xFF\0", 4, &out, NULL), TDM_OK);
    assert_int_equal(out.len, 6);
    assert_memory_equal(out.p, "a\0" R "\0", 6);
    tdm_buf_free(&out);
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* Any cut gives what the whole gives, and nothing that was put out is half a character. */
static void stream_in_any_cut(void **state)
{
    (void)state;
    static const unsigned char BYTES[] = {0x41, 0x80, 0xA0, 0x9F, 0x90, 0x8F, 0xBF,
                                          0xC2, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0,
                                          0xF1, 0xF4, 0xF5, 0xFF, 0x82, 0x00};
    for (int round = 0; round < 100000; round++) {
        char text[24];
        const size_t len = random_below(sizeof text);
        for (size_t i = 0; i < len; i++)
            text[i] = (char)BYTES[random_below(sizeof BYTES)];
        tdm_buf whole = {0}, parts = {0}, again = {0};
        tdm_utf8_stream stream = {0};
        assert_int_equal(tdm_utf8_replace(text, len, &whole, NULL), TDM_OK);
        for (size_t at = 0; at < len;) {
            const size_t n = 1 + random_below((uint32_t)(len - at));
            assert_int_equal(tdm_utf8_stream_put(&stream, text + at, n, 0, &parts, NULL), TDM_OK);
            again.len = 0;
            assert_int_equal(tdm_utf8_replace(parts.p ? parts.p : "", parts.len, &again, NULL),
                             TDM_OK);
            assert_int_equal(again.len, parts.len);
            assert_true(stream.n_held < 4);
            at += n;
        }
        assert_int_equal(tdm_utf8_stream_put(&stream, "", 0, 1, &parts, NULL), TDM_OK);
        assert_int_equal(stream.n_held, 0);
        assert_int_equal(parts.len, whole.len);
        if (whole.len)
            assert_memory_equal(parts.p, whole.p, whole.len);
        tdm_buf_free(&whole);
        tdm_buf_free(&parts);
        tdm_buf_free(&again);
    }
}

/* Every code point is read back, and everything that is not its encoding is refused. */
static void read_every_code_point(void **state)
{
    (void)state;
    for (int32_t c = 0x80; c < 0x110000; c++) {
        const size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        unsigned char text[4];
        int32_t got;
        for (size_t i = 0; i < size; i++)
            text[i] = (unsigned char)(0x80 | (c >> 6 * (size - 1 - i) & 0x3F));
        text[0] = (unsigned char)((0xF00 >> size & 0xFF) | c >> 6 * (size - 1));
        const size_t n = tdm_utf8_next(text, size, &got);
        if (c >= 0xD800 && c < 0xE000) {
            assert_int_equal(got, TDM_UTF8_BAD);
            continue;
        }
        assert_int_equal(n, size);
        assert_int_equal(got, c);
        assert_int_equal(tdm_utf8_next(text, size - 1, &got), size - 1);
        assert_int_equal(got, TDM_UTF8_CUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace_known),
        cmocka_unit_test(keep_nul),
        cmocka_unit_test(stream_in_any_cut),
        cmocka_unit_test(read_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
