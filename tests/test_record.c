/* Records: every class of fault with its line and offset, whatever the line endings and the number of
 * files. */
#include "tests/record_files.h"

#include <inttypes.h>

/* ---- one line, one fault ---- */

enum { GOOD = -1, BLANK = -2 };

static const struct {
    const char *line;
    size_t len;
    int fault; /* or GOOD, BLANK */
    const char *text, *id; /* expected; NULL: the reader's own id, or any */
} LINES[] = {
    {BYTES("{\"text\": \"a\"}"), GOOD, "a", NULL},
    {BYTES("{\"id\": 12345678901234567890123, \"text\": \"a\"}"), GOOD, "a",
     "12345678901234567890123"},
    {BYTES("{\"id\":1.50,\"text\":\"a\"}"), GOOD, "a", "1.50"},
    {BYTES("{\"id\": \"\\u00e9\\n\", \"text\": \"a\"}"), GOOD, "a", "\"\\u00e9\\n\""},
    {BYTES("{\"id\": {\"b\": [1, 2]}, \"text\": \"a\"}"), GOOD, "a", "{\"b\": [1, 2]}"},
    {BYTES("{\"id\": null, \"text\": \"a\"}"), GOOD, "a", "null"},
    {BYTES(" {\"text\" : \" \\t\"} "), GOOD, " \t", NULL},
    {BYTES("{\"text\": \"\\ud83d\\ude00 \xc3\xa9\", \"more\": [1, {}]}"), GOOD,
     "\xf0\x9f\x98\x80 \xc3\xa9", NULL},
    {BYTES("{\"\": 1, \"tex\": 2, \"textt\": 3, \"text\": \"x\"}"), GOOD, "x", NULL},
    {BYTES("{\"text\": \"a\"}\r"), GOOD, "a", NULL},
    {BYTES(""), BLANK, NULL, NULL},
    {BYTES(" \t"), BLANK, NULL, NULL},
    {BYTES("\r"), BLANK, NULL, NULL},
    {BYTES("{\"text\": \"\xff\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"\xc0\xaf\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"\xed\xa0\x80\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"\xf4\x90\x80\x80\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"\\ud800\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"\\udc00\\ud800\"}"), TDM_FAULT_UTF8, NULL, NULL},
    {BYTES("{\"text\": \"a"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("{\"text\": \"a\"} {}"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("{\"text\": NaN}"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("{\"text\": \"a\", \"x\": Infinity}"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("{'text': 'a'}"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("{\"text\": \"a\",}"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("nonsense"), TDM_FAULT_JSON, NULL, NULL},
    {BYTES("[\"text\"]"), TDM_FAULT_NOT_OBJECT, NULL, NULL},
    {BYTES("\"text\""), TDM_FAULT_NOT_OBJECT, NULL, NULL},
    {BYTES("null"), TDM_FAULT_NOT_OBJECT, NULL, NULL},
    {BYTES("12"), TDM_FAULT_NOT_OBJECT, NULL, NULL},
    {BYTES("{}"), TDM_FAULT_NO_TEXT, NULL, NULL},
    {BYTES("{\"id\": 7, \"Text\": \"a\"}"), TDM_FAULT_NO_TEXT, NULL, "7"},
    {BYTES("{\"id\": 7, \"text\": 5}"), TDM_FAULT_TEXT_TYPE, NULL, "7"},
    {BYTES("{\"text\": null}"), TDM_FAULT_TEXT_TYPE, NULL, NULL},
    {BYTES("{\"text\": [\"a\"]}"), TDM_FAULT_TEXT_TYPE, NULL, NULL},
    {BYTES("{\"id\": \"e\", \"text\": \"\"}"), TDM_FAULT_EMPTY, NULL, "\"e\""},
    {BYTES("{\"text\": \"a\\u0000b\"}"), TDM_FAULT_NUL, NULL, NULL},
    {BYTES("{\"text\": \"a\0b\"}"), TDM_FAULT_NUL, NULL, NULL},
    {BYTES("\0\0\0"), TDM_FAULT_NUL, NULL, NULL},
    {BYTES("{\"text\": \"a\tb\"}"), TDM_FAULT_CONTROL, NULL, NULL},
    {BYTES("{\"text\": \"a\x1b[0m\"}"), TDM_FAULT_CONTROL, NULL, NULL},
    {BYTES("{\"text\": \"a\", \"text\": \"b\"}"), TDM_FAULT_DUPLICATE_KEY, NULL, NULL},
    {BYTES("{\"text\": \"a\", \"m\": {\"k\": 1, \"\\u006b\": 2}}"), TDM_FAULT_DUPLICATE_KEY, NULL, NULL},
    {BYTES("\xef\xbb\xbf{\"text\": \"a\"}"), TDM_FAULT_JSON, NULL, NULL}, /* not at the file's start */
};

static void check_line(size_t i, const char *path, int64_t line, uint64_t offset, tdm_record r)
{
    char own_id[256];
    if (r.line != line || r.offset != offset || strcmp(r.file, path) != 0)
        fail_msg("line %zu: found at %s:%" PRId64 " byte %" PRIu64, i, r.file, r.line, r.offset);
    snprintf(own_id, sizeof own_id, "\"%s:%" PRId64 "\"", path, line);
    if (LINES[i].fault == GOOD) {
        const char *id = LINES[i].id ? LINES[i].id : own_id;
        if (r.kind != TDM_RECORD_OK)
            fail_msg("line %zu: %s: %s", i, tdm_fault_name(r.fault), r.detail);
        assert_string_equal(r.text, LINES[i].text);
        assert_int_equal(r.text_len, strlen(LINES[i].text));
        assert_int_equal(r.id_len, strlen(id));
        assert_memory_equal(r.id_json, id, r.id_len);
        return;
    }
    if (r.kind != TDM_RECORD_BAD || (int)r.fault != LINES[i].fault)
        fail_msg("line %zu: want %s, got %s", i, tdm_fault_name((tdm_fault)LINES[i].fault),
                 r.kind == TDM_RECORD_BAD ? tdm_fault_name(r.fault) : "a good record");
    assert_true(r.detail[0] != '\0');
    assert_null(r.text);
    if (LINES[i].id)
        assert_memory_equal(r.id_json, LINES[i].id, r.id_len);
}

/* The table as one file; `ending` after each line, the last one perhaps without. */
static void check_table(const char *ending, bool last_ending, const char *mark)
{
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_buf all = {0};
    uint64_t offsets[COUNT(LINES)], begin = 0;
    int64_t blank = 0;
    tdm_buf_put(&all, mark, strlen(mark), NULL);
    for (size_t i = 0; i < COUNT(LINES); i++) {
        offsets[i] = begin;
        tdm_buf_put(&all, LINES[i].line, LINES[i].len, NULL);
        if (i + 1 < COUNT(LINES) || last_ending)
            tdm_buf_put(&all, ending, strlen(ending), NULL);
        begin = all.len;
    }
    char *path = write_file("table.jsonl", all.p, all.len);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    for (size_t i = 0; i < COUNT(LINES); i++) {
        if (LINES[i].fault == BLANK)
            blank++;
        else
            check_line(i, path, (int64_t)i + 1, offsets[i], next(reader));
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    assert_int_equal(tdm_reader_blank_lines(reader), blank);
    uint64_t done = 0, total = 0;
    tdm_reader_progress(reader, &done, &total);
    assert_int_equal(done, all.len);
    assert_int_equal(total, all.len);
    tdm_reader_close(reader);
    remove_file(path);
    tdm_buf_free(&all);
}

static void test_every_fault(void **state)
{
    (void)state;
    check_table("\n", true, "");
    check_table("\n", false, "");
    check_table("\r\n", true, "");
    check_table("\r\n", false, "\xef\xbb\xbf");
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(tdm_fault_name(TDM_FAULT_DUPLICATE_KEY), "duplicate-key");
    assert_string_equal(tdm_fault_name(TDM_FAULT_NON_FINITE), "non-finite");
}

/* ---- options ---- */

static void test_ids(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int fault;
        size_t n;
        const char *detail; /* a part of it */
    } CASES[] = {
        {"{\"id\": 1, \"ids\": [0, 50256, 2147483647]}", GOOD, 3, NULL},
        {"{\"ids\": [7], \"text\": 5}", GOOD, 1, NULL},
        {"{\"ids\": []}", TDM_FAULT_EMPTY, 0, "empty"},
        {"{\"text\": \"a\"}", TDM_FAULT_NO_TEXT, 0, "ids"},
        {"{\"ids\": \"1 2\"}", TDM_FAULT_TEXT_TYPE, 0, "a string"},
        {"{\"ids\": {\"0\": 1}}", TDM_FAULT_TEXT_TYPE, 0, "an object"},
        {"{\"ids\": [1, -1]}", TDM_FAULT_TEXT_TYPE, 0, "ids[1]"},
        {"{\"ids\": [1, 2, 2147483648]}", TDM_FAULT_TEXT_TYPE, 0, "ids[2]"},
        {"{\"ids\": [1.5]}", TDM_FAULT_TEXT_TYPE, 0, "ids[0]"},
        {"{\"ids\": [1e99]}", TDM_FAULT_TEXT_TYPE, 0, "ids[0]"},
        {"{\"ids\": [3, \"4\"]}", TDM_FAULT_TEXT_TYPE, 0, "ids[1]"},
        {"{\"ids\": [3, [4]]}", TDM_FAULT_TEXT_TYPE, 0, "ids[1]"},
        {"{\"ids\": [3, null]}", TDM_FAULT_TEXT_TYPE, 0, "ids[1]"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_reader_options options = TDM_READER_DEFAULTS;
        options.want_ids = true;
        char *path = write_file("ids.jsonl", CASES[i].line, strlen(CASES[i].line));
        tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
        const tdm_record r = next(reader);
        assert_int_equal(r.kind, CASES[i].fault == GOOD ? TDM_RECORD_OK : TDM_RECORD_BAD);
        assert_int_equal(r.n_ids, CASES[i].n);
        if (r.kind == TDM_RECORD_BAD) {
            assert_int_equal(r.fault, CASES[i].fault);
            if (!strstr(r.detail, CASES[i].detail))
                fail_msg("case %zu: %s", i, r.detail);
        } else if (i == 0) {
            assert_int_equal(r.ids[1], 50256);
            assert_int_equal(r.ids[2], INT32_MAX);
        }
        tdm_reader_close(reader);
        remove_file(path);
    }
}

/* ---- fields ---- */

static void test_field_kinds(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"a", "b", "none", NULL};
    static const struct {
        const char *source;
        tdm_field_kind kind;
        double number;
        const char *string;
    } CASES[] = {
        {"0", TDM_FIELD_NUMBER, 0, NULL},
        {"-1.5e-3", TDM_FIELD_NUMBER, -1.5e-3, NULL},
        {"0.1", TDM_FIELD_NUMBER, 0.1, NULL},
        {"9007199254740993", TDM_FIELD_NUMBER, 9007199254740992.0, NULL}, /* a tie, to even */
        {"2.2250738585072011e-308", TDM_FIELD_NUMBER, 0x0.fffffffffffffp-1022, NULL},
        {"4.9406564584124654e-324", TDM_FIELD_NUMBER, 0x1p-1074, NULL},
        {"1e-999", TDM_FIELD_NUMBER, 0, NULL},
        {"1.7976931348623157e308", TDM_FIELD_NUMBER, 0x1.fffffffffffffp1023, NULL},
        /* half way between two doubles, and a digit behind the place where cJSON stops to read */
        {"1.00000000000000011102230246251565404236316680908203125", TDM_FIELD_NUMBER, 1, NULL},
        {"1.000000000000000111022302462515654042363166809082031250000000000000001", TDM_FIELD_NUMBER,
         0x1.0000000000001p0, NULL},
        {"true", TDM_FIELD_BOOL, 1, NULL},
        {"false", TDM_FIELD_BOOL, 0, NULL},
        {"null", TDM_FIELD_NULL, 0, NULL},
        {"\"\"", TDM_FIELD_STRING, 0, ""},
        {"\"\\u00e9\\n1\"", TDM_FIELD_STRING, 0, "\xc3\xa9\n1"},
        {"[1, 2]", TDM_FIELD_OTHER, 0, NULL},
        {"{\"a\": 1}", TDM_FIELD_OTHER, 0, NULL},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_reader_options options = TDM_READER_DEFAULTS;
        char line[256];
        options.want_fields = NAMES;
        const int len = snprintf(line, sizeof line, "{\"id\": 7, \"b\": \"x\", \"a\":  %s }", CASES[i].source);
        char *path = write_file("fields.jsonl", line, (size_t)len);
        tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
        const tdm_record r = next(reader);
        assert_int_equal(r.kind, TDM_RECORD_OK);
        assert_null(r.text);
        assert_memory_equal(r.id_json, "7", 1);
        const tdm_field *f = r.fields;
        if (f->kind != CASES[i].kind || f->number != CASES[i].number)
            fail_msg("%s: kind %d, %.17g", CASES[i].source, f->kind, f->number);
        if (CASES[i].string)
            assert_string_equal(f->string, CASES[i].string);
        assert_int_equal(f->source_len, strlen(CASES[i].source));
        assert_memory_equal(f->source, CASES[i].source, f->source_len);
        assert_int_equal(f[1].kind, TDM_FIELD_STRING);
        assert_string_equal(f[1].string, "x");
        assert_int_equal(f[2].kind, TDM_FIELD_ABSENT);
        assert_null(f[2].source);
        tdm_reader_close(reader);
        remove_file(path);
    }
}

static void test_no_double(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"a", NULL};
    static const struct {
        const char *line;
        tdm_fault fault;
        const char *detail;
    } CASES[] = {
        {"{\"a\": NaN}", TDM_FAULT_NON_FINITE, "field \"a\" is NaN"},
        {"{\"a\":-NaN, \"b\": 1}", TDM_FAULT_NON_FINITE, "field \"a\" is -NaN"},
        {"{\"b\": 1, \"c d\" : Infinity}", TDM_FAULT_NON_FINITE, "field \"c d\" is Infinity"},
        {"{\"a\": -Infinity}", TDM_FAULT_NON_FINITE, "field \"a\" is -Infinity"},
        {"{\"a\": [1, NaN]}", TDM_FAULT_NON_FINITE, "at byte 10: NaN"},
        {"NaN", TDM_FAULT_NON_FINITE, "at byte 0: NaN"},
        {"{\"a\": 1e309}", TDM_FAULT_NON_FINITE, "field \"a\" is 1e309, which no double can hold"},
        {"{\"a\": -1e309}", TDM_FAULT_NON_FINITE, "field \"a\" is -1e309"},
        {"{\"a\": Nano}", TDM_FAULT_JSON, "at byte 6: a value is wanted here"},
        {"{\"a\": \"NaN}", TDM_FAULT_JSON, "at byte 6: a string without an end"},
        {"{\"a\": -}", TDM_FAULT_JSON, "at byte 7: a number lacks a digit"},
        {"nan\0", TDM_FAULT_NON_FINITE, "at byte 0: nan"},
        {"[1]", TDM_FAULT_NOT_OBJECT, "the line is an array"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_reader_options options = TDM_READER_DEFAULTS;
        options.want_fields = NAMES;
        char *path = write_file("none.jsonl", CASES[i].line, strlen(CASES[i].line));
        tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
        const tdm_record r = next(reader);
        assert_int_equal(r.kind, TDM_RECORD_BAD);
        assert_null(r.fields);
        if (r.fault != CASES[i].fault || strncmp(r.detail, CASES[i].detail, strlen(CASES[i].detail)) != 0)
            fail_msg("%s: %s: %s", CASES[i].line, tdm_fault_name(r.fault), r.detail);
        tdm_reader_close(reader);
        remove_file(path);
    }
    /* what is not asked for may be as large as it likes */
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.want_fields = NAMES;
    char *path = write_file("other.jsonl", BYTES("{\"id\": 1e999, \"b\": 1e999, \"a\": 2}"));
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    const tdm_record r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_OK);
    assert_true(r.fields[0].number == 2);
    tdm_reader_close(reader);
    remove_file(path);
}

static void test_keys_and_collisions(void **state)
{
    (void)state;
    static const char *const FIELDS[] = {"fake", "real", NULL};
    static const char LINE[] = "{\"nr\": 4, \"body\": \"b\", \"real\": 1}\n{\"body\": \"c\"}\n{\"real\": 2}\n";
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.text_key = "body";
    options.id_key = "nr";
    char *path = write_file("keys.jsonl", BYTES(LINE));
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    tdm_record r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_OK);
    assert_string_equal(r.text, "b");
    assert_memory_equal(r.id_json, "4", 1);
    assert_memory_equal(r.source, LINE, r.source_len);
    assert_int_equal(r.source_len, strchr(LINE, '\n') - LINE);
    tdm_reader_close(reader);

    options.collide = true;
    options.collide_keys = FIELDS;
    reader = open_one((const char *const *)&path, 1, &options);
    r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_BAD);
    assert_int_equal(r.fault, TDM_FAULT_COLLISION);
    assert_non_null(strstr(r.detail, "real"));
    assert_int_equal(next(reader).kind, TDM_RECORD_OK);
    assert_int_equal(next(reader).fault, TDM_FAULT_NO_TEXT); /* the first fault is the one reported */
    tdm_reader_close(reader);
    remove_file(path);
}

/* ---- files ---- */

static void test_several_files(void **state)
{
    (void)state;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    char *paths[] = {
        write_file("a.jsonl", BYTES("\n{\"text\": \"1\"}\n{\"text\": \"2\"}")),
        write_file("b.jsonl", BYTES("")),
        write_file("c.jsonl", BYTES("\xef\xbb\xbf{\"text\": \"3\"}\n\n")),
    };
    static const struct {
        size_t file;
        int64_t line;
        uint64_t offset;
    } WANT[] = {{0, 2, 1}, {0, 3, 15}, {2, 1, 0}};
    uint64_t done = 0, total = 0;
    tdm_reader *reader = open_one((const char *const *)paths, COUNT(paths), &options);
    for (size_t i = 0; i < COUNT(WANT); i++) {
        const tdm_record r = next(reader);
        tdm_reader_progress(reader, &done, &total);
        assert_int_equal(total, 28 + 18);
        assert_int_equal(done, i == 0 ? 15 : i == 1 ? 28 : 28 + 17);
        assert_int_equal(r.kind, TDM_RECORD_OK);
        assert_string_equal(r.file, paths[WANT[i].file]);
        assert_int_equal(r.line, WANT[i].line);
        assert_int_equal(r.offset, WANT[i].offset);
        assert_int_equal(r.text[0], '1' + (int)i);
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    assert_int_equal(tdm_reader_blank_lines(reader), 2);
    tdm_reader_close(reader);
    for (size_t i = 0; i < COUNT(paths); i++)
        remove_file(paths[i]);
}

/* ---- many lines, one in a hundred bad ---- */

static void test_exact_accounting(void **state)
{
    (void)state;
    enum { N = 10000, EVERY = 100 };
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_buf all = {0};
    static uint64_t offsets[N];
    size_t bad_lines[COUNT(LINES)], n_bad = 0;
    for (size_t i = 0; i < COUNT(LINES); i++)
        if (LINES[i].fault >= 0)
            bad_lines[n_bad++] = i;
    for (size_t i = 0; i < N; i++) {
        offsets[i] = all.len;
        if (i % EVERY == 37) {
            const size_t k = bad_lines[i / EVERY % n_bad];
            tdm_buf_put(&all, LINES[k].line, LINES[k].len, NULL);
        } else {
            tdm_buf_printf(&all, NULL, "{\"id\": %zu, \"text\": \"number %zu\"}%s", i, i,
                           i % 7 ? "" : "\r");
        }
        tdm_buf_put(&all, "\n", 1, NULL);
    }
    options.max_line = 1000;
    char *path = write_file("many.jsonl", all.p, all.len);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    for (size_t i = 0; i < N; i++) {
        char text[32];
        const tdm_record r = next(reader);
        assert_int_equal(r.line, i + 1);
        assert_int_equal(r.offset, offsets[i]);
        snprintf(text, sizeof text, "number %zu", i);
        if (i % EVERY == 37)
            assert_int_equal(r.fault, LINES[bad_lines[i / EVERY % n_bad]].fault);
        else
            assert_string_equal(r.text, text);
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    tdm_reader_close(reader);
    remove_file(path);
    tdm_buf_free(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_field_kinds),
        cmocka_unit_test(test_no_double),
        cmocka_unit_test(test_keys_and_collisions),
        cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_exact_accounting),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
