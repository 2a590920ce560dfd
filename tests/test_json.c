/* JSON: what is refused and where, what a document gives back, and how strings are written. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/json.h"

#define TEXT(literal) literal, sizeof(literal) - 1

enum { FINE = -1 };

static const struct {
    const char *text;
    size_t len;
    int fault; /* tdm_json_fault, or FINE */
    size_t at;
} CASES[] = {
    {TEXT("{\"a\":1}"), FINE, 0},
    {TEXT(" \t\r\n{ \"a\" : [ ] , \"b\" : { } }\n"), FINE, 0},
    {TEXT("[1,-0,0.5,1e5,1E+5,1.25e-3,true,false,null,\"\"]"), FINE, 0},
    {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\ud83d\\ude00\""), FINE, 0},
    {TEXT("\"\x7f \xc2\x80 \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
          "\xf4\x8f\xbf\xbf\""),
     FINE, 0},
    {TEXT("7"), FINE, 0},
    {TEXT("{\"a\":{\"k\":1},\"b\":{\"k\":1}}"), FINE, 0}, /* one key in two objects */
    {TEXT("{\"a\":1,\"A\":1}"), FINE, 0},                 /* keys are case-sensitive */

    {TEXT(""), TDM_JSON_SYNTAX, 0},
    {TEXT("  "), TDM_JSON_SYNTAX, 2},
    {TEXT("{"), TDM_JSON_SYNTAX, 1},
    {TEXT("{\"a\""), TDM_JSON_SYNTAX, 4},
    {TEXT("{\"a\":"), TDM_JSON_SYNTAX, 5},
    {TEXT("{\"a\":1"), TDM_JSON_SYNTAX, 6},
    {TEXT("{\"a\":1,}"), TDM_JSON_SYNTAX, 7},
    {TEXT("{,}"), TDM_JSON_SYNTAX, 1},
    {TEXT("{a:1}"), TDM_JSON_SYNTAX, 1},
    {TEXT("{'a':1}"), TDM_JSON_SYNTAX, 1},
    {TEXT("{\"a\" 1}"), TDM_JSON_SYNTAX, 5},
    {TEXT("{\"a\":1 \"b\":2}"), TDM_JSON_SYNTAX, 7},
    {TEXT("{1:1}"), TDM_JSON_SYNTAX, 1},
    {TEXT("[1,]"), TDM_JSON_SYNTAX, 3},
    {TEXT("[1 2]"), TDM_JSON_SYNTAX, 3},
    {TEXT("[1}"), TDM_JSON_SYNTAX, 2},
    {TEXT("{\"a\":1]"), TDM_JSON_SYNTAX, 6},
    {TEXT("]"), TDM_JSON_SYNTAX, 0},
    {TEXT("1 2"), TDM_JSON_SYNTAX, 2},
    {TEXT("{}x"), TDM_JSON_SYNTAX, 2},
    {TEXT("01"), TDM_JSON_SYNTAX, 1},
    {TEXT("-01"), TDM_JSON_SYNTAX, 2},
    {TEXT("1."), TDM_JSON_SYNTAX, 2},
    {TEXT(".5"), TDM_JSON_SYNTAX, 0},
    {TEXT("+1"), TDM_JSON_SYNTAX, 0},
    {TEXT("-"), TDM_JSON_SYNTAX, 1},
    {TEXT("1e"), TDM_JSON_SYNTAX, 2},
    {TEXT("1e+"), TDM_JSON_SYNTAX, 3},
    {TEXT("0x10"), TDM_JSON_SYNTAX, 1},
    {TEXT("1_0"), TDM_JSON_SYNTAX, 1},
    {TEXT("NaN"), TDM_JSON_SYNTAX, 0},
    {TEXT("Infinity"), TDM_JSON_SYNTAX, 0},
    {TEXT("-Infinity"), TDM_JSON_SYNTAX, 1},
    {TEXT("True"), TDM_JSON_SYNTAX, 0},
    {TEXT("truE"), TDM_JSON_SYNTAX, 0},
    {TEXT("nul"), TDM_JSON_SYNTAX, 0},
    {TEXT("nulll"), TDM_JSON_SYNTAX, 4},
    {TEXT("\"abc"), TDM_JSON_SYNTAX, 0},
    {TEXT("\"abc\\"), TDM_JSON_SYNTAX, 4},
    {TEXT("\"\\x41\""), TDM_JSON_SYNTAX, 1},
    {TEXT("\"\\u12\""), TDM_JSON_SYNTAX, 1},
    {TEXT("\"\\uZZZZ\""), TDM_JSON_SYNTAX, 1},
    {TEXT("\"\\U0041\""), TDM_JSON_SYNTAX, 1},
    {TEXT("/* c */ 1"), TDM_JSON_SYNTAX, 0},
    {TEXT("\xef\xbb\xbf{}"), TDM_JSON_SYNTAX, 0}, /* byte order mark */
    {TEXT("{}\xc2\xa0"), TDM_JSON_SYNTAX, 2},     /* a space, but not JSON's */
    {TEXT("1111111111222222222233333333334444444444555555555566666666667777"), FINE, 0},

    {TEXT("\"\xff\""), TDM_JSON_UTF8, 1},
    {TEXT("\"ok \x80\""), TDM_JSON_UTF8, 4},
    {TEXT("\"\xc0\xaf\""), TDM_JSON_UTF8, 1}, /* overlong */
    {TEXT("\"\xc1\xbf\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\xe0\x9f\xbf\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\xf0\x8f\xbf\xbf\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\xed\xa0\x80\""), TDM_JSON_UTF8, 1},     /* surrogate */
    {TEXT("\"\xf4\x90\x80\x80\""), TDM_JSON_UTF8, 1}, /* beyond 10FFFF */
    {TEXT("\"\xf5\x80\x80\x80\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\xe2\x82\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\xe2\x82"), TDM_JSON_UTF8, 1},
    {TEXT("{}\xff"), TDM_JSON_UTF8, 2},
    {TEXT("\"a\\ud800\""), TDM_JSON_UTF8, 2},
    {TEXT("\"\\ud800x\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\\ud800\\u0041\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\\ud800\\ud800\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\\udc00\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\\uDFFF\\uD800\""), TDM_JSON_UTF8, 1},
    {TEXT("\"\\udc00\\udc00\""), TDM_JSON_UTF8, 1},

    {TEXT("\"\\u0000\""), TDM_JSON_NUL, 1},
    {TEXT("\"a\0b\""), TDM_JSON_NUL, 2},
    {TEXT("{}\0"), TDM_JSON_NUL, 2},
    {TEXT("{\"a\\u0000b\":1}"), TDM_JSON_NUL, 3},

    {TEXT("\"a\tb\""), TDM_JSON_CONTROL, 2},
    {TEXT("\"a\nb\""), TDM_JSON_CONTROL, 2},
    {TEXT("\"0123456789abcdef\x1f\""), TDM_JSON_CONTROL, 17},
    {TEXT("{\x01}"), TDM_JSON_CONTROL, 1},
    {TEXT("1\f"), TDM_JSON_CONTROL, 1},
    {TEXT("[1,\v2]"), TDM_JSON_CONTROL, 3},

    {TEXT("{\"a\":1,\"a\":1}"), TDM_JSON_DUPLICATE, 7},
    {TEXT("{\"a\":1,\"b\":2,\"\\u0061\":1}"), TDM_JSON_DUPLICATE, 13}, /* equal once decoded */
    {TEXT("[0,{\"x\":{\"\":1,\"\":2}}]"), TDM_JSON_DUPLICATE, 14},
    {TEXT("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"c\":0}"),
     TDM_JSON_DUPLICATE, 55},
};

static void refuses_with_class_and_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        /* An exact copy without a NUL, so that a read behind the end is caught. */
        char *copy = malloc(CASES[i].len ? CASES[i].len : 1);
        memcpy(copy, CASES[i].text, CASES[i].len);
        tdm_json *doc = NULL;
        tdm_json_error why = {0};
        tdm_err err = {0};
        const tdm_status st = tdm_json_parse(copy, CASES[i].len, 1000, &doc, &why, &err);
        if (CASES[i].fault == FINE) {
            if (st != TDM_OK)
                fail_msg("%s: refused: %s", CASES[i].text, err.msg);
            assert_non_null(tdm_json_root(doc));
        } else {
            char place[32];
            if (st != TDM_EFORMAT || (int)why.fault != CASES[i].fault || why.at != CASES[i].at)
                fail_msg("%s: status %d fault %d at %zu (%s)", CASES[i].text, (int)st,
                         (int)why.fault, why.at, err.msg);
            assert_null(doc);
            snprintf(place, sizeof place, "at byte %zu: ", why.at);
            assert_non_null(strstr(err.msg, place));
        }
        tdm_json_close(doc);
        free(copy);
    }
}

/* The scan takes eight bytes a step: each byte value at each place of two steps and a tail. */
static void every_byte_at_every_place(void **state)
{
    (void)state;
    enum { N = 21 };
    for (int byte = 0; byte < 256; byte++) {
        for (size_t at = 1; at < N - 1; at++) {
            char text[N + 1] = "\"ABCDEFGHI \x7f~!JKLMNO\"";
            tdm_json *doc = NULL;
            tdm_json_error why = {0};
            text[at] = (char)byte;
            const tdm_status st = tdm_json_parse(text, N, 1, &doc, &why, NULL);
            const bool fine = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
            assert_int_equal(st, fine ? TDM_OK : TDM_EFORMAT);
            if (byte < 0x20 || byte >= 0x80) {
                assert_int_equal(why.at, at);
                assert_int_equal(why.fault, byte == 0     ? TDM_JSON_NUL
                                            : byte < 0x20 ? TDM_JSON_CONTROL
                                                          : TDM_JSON_UTF8);
            }
            tdm_json_close(doc);
        }
    }
}

static void members_know_their_source(void **state)
{
    (void)state;
    static const char TEXT_OF[] = " { \"id\" : 12345678901234567890 , \"\\u00e9\": \"x\\ny\" ,\n"
                                  "\"list\":[1,{\"deep\":[ ]} ],\"last\":null}";
    static const struct {
        const char *key, *source;
    } WANT[] = {{"id", "12345678901234567890"},
                {"\xc3\xa9", "\"x\\ny\""},
                {"list", "[1,{\"deep\":[ ]} ]"},
                {"last", "null"}};
    tdm_json *doc = NULL;
    size_t n = 0;
    assert_int_equal(tdm_json_parse(TEXT(TEXT_OF), 100, &doc, NULL, NULL), TDM_OK);
    const tdm_json_member *m = tdm_json_members(doc, &n);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(m[i].key, WANT[i].key);
        assert_int_equal(m[i].key_len, strlen(WANT[i].key));
        assert_int_equal(m[i].value_len, strlen(WANT[i].source));
        assert_memory_equal(TEXT_OF + m[i].value_at, WANT[i].source, m[i].value_len);
        assert_ptr_equal(m[i].value,
                         cJSON_GetObjectItemCaseSensitive(tdm_json_root(doc), m[i].key));
    }
    assert_string_equal(m[1].value->valuestring, "x\ny");
    tdm_json_close(doc);
}

/* cJSON reads 63 characters of a number; the grammar has no limit, and an id is echoed as it
 * stands. */
static void numbers_of_any_length(void **state)
{
    (void)state;
    enum { N = 300 };
    char zeros[N + 1], text[4 * N];
    memset(zeros, '0', N);
    zeros[N] = 0;
    const struct {
        const char *before, *after; /* of the zeros */
        double value;
    } numbers[] = {
        {"1", "", 1e300},   {"-1", "", -1e300}, {"0.", "25", 25e-302},  {"1.5", "e3", 1500},
        {"12e-", "1", 1.2}, {"-0.", "", -0.0},  {"9", "e99", INFINITY}, {"1", "e-300", 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        tdm_json *doc = NULL;
        size_t n = 0;
        const int len = snprintf(
            text, sizeof text, "{\"a\\\"1%s\":[1,%s%s%s],\"id\":%s%s%s ,\"b\":7}", zeros,
            numbers[i].before, zeros, numbers[i].after, numbers[i].before, zeros, numbers[i].after);
        char *copy = malloc((size_t)len); /* without a NUL */
        memcpy(copy, text, (size_t)len);
        tdm_err err = {0};
        if (tdm_json_parse(copy, (size_t)len, 10, &doc, NULL, &err) != TDM_OK)
            fail_msg("%s: %s", text, err.msg);
        const tdm_json_member *m = tdm_json_members(doc, &n);
        assert_int_equal(n, 3);
        assert_int_equal(m[0].key_len, N + 3); /* digits in a string stay */
        assert_true(m[0].value->child->next->valuedouble == numbers[i].value);
        assert_true(m[1].value->valuedouble == numbers[i].value);
        assert_int_equal(m[1].value_at, strstr(text, "\"id\":") + 5 - text);
        assert_int_equal(m[1].value_len, strlen(numbers[i].before) + N + strlen(numbers[i].after));
        assert_true(m[2].value->valuedouble == 7);
        assert_int_equal(tdm_json_only_naturals(doc), i == 0);
        tdm_json_close(doc);
        free(copy);
    }
}

static void other_roots_have_no_members(void **state)
{
    (void)state;
    static const char *const ROOTS[] = {"[{\"a\":1}]", "\"text\"", "3", "{}", "null"};
    for (size_t i = 0; i < sizeof ROOTS / sizeof *ROOTS; i++) {
        tdm_json *doc = NULL;
        size_t n = 99;
        assert_int_equal(tdm_json_parse(ROOTS[i], strlen(ROOTS[i]), 10, &doc, NULL, NULL), TDM_OK);
        tdm_json_members(doc, &n);
        assert_int_equal(n, 0);
        tdm_json_close(doc);
    }
}

static void null_is_fine(void **state)
{
    (void)state;
    tdm_json *doc = NULL;
    size_t n = 1;
    assert_int_equal(tdm_json_parse(NULL, 5, 10, &doc, NULL, NULL), TDM_EFORMAT);
    assert_null(tdm_json_root(NULL));
    assert_null(tdm_json_members(NULL, &n));
    assert_int_equal(n, 0);
    assert_false(tdm_json_only_naturals(NULL));
    tdm_json_close(NULL);
}

static void counts_values_before_building(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
    } COUNTS[] = {
        {"1", 1}, {"[]", 1}, {"[1,2,3]", 4}, {"{\"a\":{\"b\":[true,null]},\"c\":\"\"}", 6}};
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        tdm_json *doc = NULL;
        tdm_json_error why;
        const size_t len = strlen(COUNTS[i].text);
        assert_int_equal(tdm_json_parse(COUNTS[i].text, len, COUNTS[i].n, &doc, NULL, NULL),
                         TDM_OK);
        tdm_json_close(doc);
        assert_int_equal(tdm_json_parse(COUNTS[i].text, len, COUNTS[i].n - 1, &doc, &why, NULL),
                         TDM_EFORMAT);
        assert_int_equal(why.fault, TDM_JSON_TOO_BIG);
    }
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    for (int depth = 999; depth <= 1001; depth++) {
        tdm_buf text = {0};
        tdm_json *doc = NULL;
        tdm_json_error why;
        for (int i = 0; i < depth; i++)
            tdm_buf_put(&text, i % 2 ? "{\"k\":" : "[", i % 2 ? 5 : 1, NULL);
        tdm_buf_put(&text, "0", 1, NULL);
        for (int i = depth; i-- > 0;)
            tdm_buf_put(&text, i % 2 ? "}" : "]", 1, NULL);
        const tdm_status st = tdm_json_parse(text.p, text.len, 5000, &doc, &why, NULL);
        assert_int_equal(st, depth <= 1000 ? TDM_OK : TDM_EFORMAT);
        if (st != TDM_OK)
            assert_int_equal(why.fault, TDM_JSON_SYNTAX);
        tdm_json_close(doc);
        tdm_buf_free(&text);
    }
    /* A million levels must not touch the stack either. */
    const size_t n = 1000000;
    char *deep = malloc(n);
    memset(deep, '[', n);
    tdm_json *doc = NULL;
    assert_int_equal(tdm_json_parse(deep, n, n, &doc, NULL, NULL), TDM_EFORMAT);
    free(deep);
}

static void a_vocabulary_of_members(void **state)
{
    (void)state;
    enum { N = 50257 };
    tdm_buf text = {0};
    tdm_json *doc = NULL;
    tdm_json_error why;
    size_t n = 0;
    for (int i = 0; i < N; i++)
        tdm_buf_printf(&text, NULL, "%s\"token %d\": %d", i ? ", " : "{", i, i);
    tdm_buf_put(&text, "}", 1, NULL);
    assert_int_equal(tdm_json_parse(text.p, text.len, N + 1, &doc, NULL, NULL), TDM_OK);
    const tdm_json_member *m = tdm_json_members(doc, &n);
    assert_int_equal(n, N);
    assert_string_equal(m[N - 1].key, "token 50256");
    assert_int_equal(m[N - 1].value->valueint, N - 1);
    tdm_json_close(doc);

    const size_t at = text.len + 1;
    text.len--;
    tdm_buf_printf(&text, NULL, ", \"token 7\": 0}");
    assert_int_equal(tdm_json_parse(text.p, text.len, N + 2, &doc, &why, NULL), TDM_EFORMAT);
    assert_int_equal(why.fault, TDM_JSON_DUPLICATE);
    assert_int_equal(why.at, at);
    tdm_buf_free(&text);
}

static void naturals_are_told_from_other_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool only;
    } NUMBERS[] = {{"[1,0,12]", true}, {"{\"a\":\"1.5\"}", true}, {"[1.0]", false},
                   {"[1e3]", false},   {"[-0]", false},           {"[1,2,[-3]]", false}};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        tdm_json *doc = NULL;
        const char *text = NUMBERS[i].text;
        assert_int_equal(tdm_json_parse(text, strlen(text), 10, &doc, NULL, NULL), TDM_OK);
        assert_int_equal(tdm_json_only_naturals(doc), NUMBERS[i].only);
        tdm_json_close(doc);
    }
}

/* Expected values are what Python 3's json.dumps prints. */
static void writes_strings_like_python(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *want;
    } STRINGS[] = {
        {TEXT(""), "\"\""},
        {NULL, 0, "\"\""},
        {TEXT("plain ~ text"), "\"plain ~ text\""},
        {TEXT("\"\\/\b\t\n\f\r"), "\"\\\"\\\\/\\b\\t\\n\\f\\r\""},
        {TEXT("\0\x01\x0b\x1f\x7f"), "\"\\u0000\\u0001\\u000b\\u001f\\u007f\""},
        {TEXT("\xc2\x80\xc3\xa9\xe2\x80\x99\xef\xbf\xbf"), "\"\\u0080\\u00e9\\u2019\\uffff\""},
        {TEXT("\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"),
         "\"\\ud800\\udc00\\ud83d\\ude00\\udbff\\udfff\""},
        {TEXT("a\xff\xe2\x82z"), "\"a\\ufffd\\ufffd\\ufffdz\""},
    };
    tdm_buf out = {0};
    for (size_t i = 0; i < sizeof STRINGS / sizeof *STRINGS; i++) {
        out.len = 0;
        assert_int_equal(tdm_json_put_string(&out, STRINGS[i].text, STRINGS[i].len, NULL), TDM_OK);
        assert_int_equal(out.len, strlen(STRINGS[i].want));
        assert_memory_equal(out.p, STRINGS[i].want, out.len);
    }
    tdm_buf_free(&out);
}

/* All characters but NUL, 256 to a string. */
static void every_character_returns(void **state)
{
    (void)state;
    static const unsigned LEAD[] = {0, 0xC0, 0xE0, 0xF0};
    tdm_buf text = {0}, out = {0};
    for (uint32_t c = 1; c <= 0x10FFFF; c++) {
        const int extra = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        char utf8[4] = {(char)(LEAD[extra] | c >> (6 * extra))};
        for (int i = extra; i > 0; i--)
            utf8[extra - i + 1] = (char)(0x80 | (c >> (6 * i - 6) & 0x3F));
        if (c < 0xD800 || c > 0xDFFF)
            tdm_buf_put(&text, utf8, (size_t)extra + 1, NULL);
        if (c % 256 != 255 || text.len == 0)
            continue;
        tdm_json *doc = NULL;
        out.len = 0;
        assert_int_equal(tdm_json_put_string(&out, text.p, text.len, NULL), TDM_OK);
        assert_int_equal(tdm_json_parse(out.p, out.len, 1, &doc, NULL, NULL), TDM_OK);
        assert_int_equal(strlen(tdm_json_root(doc)->valuestring), text.len);
        assert_memory_equal(tdm_json_root(doc)->valuestring, text.p, text.len);
        tdm_json_close(doc);
        text.len = 0;
    }
    assert_int_equal(text.len, 0);
    tdm_buf_free(&text);
    tdm_buf_free(&out);
}

static void quotes_fit_and_print(void **state)
{
    (void)state;
    char line[16];
    tdm_json_quote(line, sizeof line, TEXT("short"));
    assert_string_equal(line, "\"short\"");
    tdm_json_quote(line, sizeof line, TEXT("a\n\x1b"));
    assert_string_equal(line, "\"a\\n\\u001b\"");
    tdm_json_quote(line, sizeof line, TEXT("0123456789abcdefghij"));
    assert_string_equal(line, "\"0123456789...\"");
    tdm_json_quote(line, sizeof line, TEXT("01234567\xf0\x9f\x98\x80"));
    assert_string_equal(line, "\"01234567...\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_with_class_and_place),
        cmocka_unit_test(every_byte_at_every_place),
        cmocka_unit_test(members_know_their_source),
        cmocka_unit_test(numbers_of_any_length),
        cmocka_unit_test(other_roots_have_no_members),
        cmocka_unit_test(null_is_fine),
        cmocka_unit_test(counts_values_before_building),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(a_vocabulary_of_members),
        cmocka_unit_test(naturals_are_told_from_other_numbers),
        cmocka_unit_test(writes_strings_like_python),
        cmocka_unit_test(every_character_returns),
        cmocka_unit_test(quotes_fit_and_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
