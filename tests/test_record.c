/* Lines and records: every class of fault with its line and offset, whatever the line endings,
 * buffer boundaries and number of files. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/lines.h"
#include "host/record.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_record.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* A file in the folder; the caller removes it and frees the path. */
static char *write_file(const char *name, const char *data, size_t len)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void remove_file(char *path)
{
    assert_int_equal(unlink(path), 0);
    free(path);
}

static tdm_reader *open_one(const char *const *paths, size_t n, const tdm_reader_options *options)
{
    tdm_err err = {0};
    tdm_reader *reader = NULL;
    if (tdm_reader_open(paths, n, options, &reader, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return reader;
}

static tdm_record next(tdm_reader *reader)
{
    tdm_err err = {0};
    tdm_record record;
    if (tdm_reader_next(reader, &record, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return record;
}

/* ---- one line, one fault ---- */

enum { GOOD = -1, BLANK = -2 };

#define BYTES(s) s, sizeof s - 1
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

/* ---- long lines ---- */

/* A record of exactly n bytes; n >= 13. */
static void put_record_of(tdm_buf *b, size_t n)
{
    tdm_buf_put(b, "{\"text\": \"", 10, NULL);
    for (size_t i = 0; i < n - 12; i++)
        tdm_buf_put(b, "x", 1, NULL);
    tdm_buf_put(b, "\"}", 2, NULL);
}

/* Lines around the limit, with every ending, and far longer than any buffer. */
static void test_line_too_long(void **state)
{
    (void)state;
    static const size_t LIMITS[] = {13, 64, 1000, (64 << 10) - 7, 64 << 10, (1 << 20) + 1};
    static const char *const ENDINGS[] = {"\n", "\r\n"};
    for (size_t i = 0; i < COUNT(LIMITS) * 4; i++) {
        const size_t limit = LIMITS[i / 4];
        const char *ending = ENDINGS[i % 2];
        const char *mark = i % 4 < 2 ? "" : "\xef\xbb\xbf";
        const size_t lens[] = {limit, limit + 1, limit, 3 * limit + 5, limit + 2, limit - (limit > 13)};
        tdm_reader_options options = TDM_READER_DEFAULTS;
        tdm_buf all = {0};
        uint64_t offsets[COUNT(lens)] = {0};
        options.max_line = limit;
        tdm_buf_put(&all, mark, strlen(mark), NULL);
        for (size_t k = 0; k < COUNT(lens); k++) {
            if (k)
                offsets[k] = all.len;
            put_record_of(&all, lens[k]);
            if (k + 1 < COUNT(lens))
                tdm_buf_put(&all, ending, strlen(ending), NULL);
        }
        char *path = write_file("long.jsonl", all.p, all.len);
        tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
        for (size_t k = 0; k < COUNT(lens); k++) {
            char detail[64];
            const tdm_record r = next(reader);
            assert_int_equal(r.line, k + 1);
            assert_int_equal(r.offset, offsets[k]);
            assert_int_equal(r.kind, lens[k] > limit ? TDM_RECORD_BAD : TDM_RECORD_OK);
            if (r.kind == TDM_RECORD_OK) {
                assert_int_equal(r.text_len, lens[k] - 12);
                continue;
            }
            assert_int_equal(r.fault, TDM_FAULT_LINE_TOO_LONG);
            snprintf(detail, sizeof detail, "%zu bytes, at most %zu", lens[k], limit);
            assert_string_equal(r.detail, detail);
            assert_int_equal(r.id_len, 0);
        }
        assert_int_equal(next(reader).kind, TDM_RECORD_END);
        tdm_reader_close(reader);
        remove_file(path);
        tdm_buf_free(&all);
    }
}

/* Every read ends somewhere else: stdin is a socket whose packets are `step` bytes. */
static void check_packets(const tdm_buf *all, size_t step, size_t limit, const size_t *lens, size_t n)
{
    tdm_reader_options options = TDM_READER_DEFAULTS;
    int ends[2];
    const int saved = dup(STDIN_FILENO);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    for (size_t at = 0; at < all->len; at += step) {
        const size_t some = all->len - at < step ? all->len - at : step;
        assert_int_equal(write(ends[1], all->p + at, some), some);
    }
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    options.max_line = limit;
    tdm_reader *reader = open_one(NULL, 0, &options);
    for (size_t k = 0; k < n; k++) {
        char detail[64];
        const tdm_record r = next(reader);
        snprintf(detail, sizeof detail, "%zu bytes, at most %zu", lens[k], limit);
        assert_string_equal(r.file, "-");
        if (lens[k] > limit)
            assert_string_equal(r.detail, detail);
        else
            assert_int_equal(r.text_len, lens[k] - 12);
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    tdm_reader_close(reader);
    if (saved >= 0) {
        dup2(saved, STDIN_FILENO);
        close(saved);
    }
}

static void test_any_read_size(void **state)
{
    (void)state;
    enum { LIMIT = 20 };
    static const size_t LENS[][3] = {{LIMIT, LIMIT, LIMIT}, {LIMIT + 1, LIMIT - 1, LIMIT + 2},
                                     {LIMIT, LIMIT + 40, LIMIT}};
    static const char *const ENDINGS[] = {"\n", "\r\n"};
    for (size_t i = 0; i < COUNT(LENS) * 4; i++) {
        tdm_buf all = {0};
        const char *mark = i % 2 ? "\xef\xbb\xbf" : "", *ending = ENDINGS[i / 2 % 2];
        tdm_buf_put(&all, mark, strlen(mark), NULL);
        for (size_t k = 0; k < COUNT(LENS[0]); k++) {
            put_record_of(&all, LENS[i / 4][k]);
            tdm_buf_put(&all, ending, strlen(ending), NULL);
        }
        for (size_t step = 1; step < 30; step++)
            check_packets(&all, step, LIMIT, LENS[i / 4], COUNT(LENS[0]));
        tdm_buf_free(&all);
    }
}

/* A line without an end, longer than any buffer. */
static void test_long_line_at_the_end(void **state)
{
    (void)state;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_buf all = {0};
    options.max_line = 100;
    put_record_of(&all, 20);
    tdm_buf_put(&all, "\n", 1, NULL);
    put_record_of(&all, 3 << 20);
    char *path = write_file("end.jsonl", all.p, all.len);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    assert_int_equal(next(reader).kind, TDM_RECORD_OK);
    const tdm_record r = next(reader);
    assert_int_equal(r.fault, TDM_FAULT_LINE_TOO_LONG);
    assert_int_equal(r.offset, 21);
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    tdm_reader_close(reader);
    remove_file(path);
    tdm_buf_free(&all);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    tdm_reader_options options = TDM_READER_DEFAULTS;
    char *text = malloc(DEPTH + 1);
    assert_non_null(text);
    memset(text, '[', DEPTH);
    text[DEPTH] = '\n';
    char *path = write_file("deep.jsonl", text, DEPTH + 1);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    const tdm_record r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_BAD);
    assert_int_equal(r.fault, TDM_FAULT_JSON);
    tdm_reader_close(reader);
    remove_file(path);
    free(text);
}

/* A line of very many values would cost a hundred times its size in memory. */
static void test_too_many_values(void **state)
{
    (void)state;
    enum { VALUES = 1 << 20 };
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_buf all = {0};
    tdm_buf_printf(&all, NULL, "{\"text\": \"a\", \"list\": [0");
    for (int i = 1; i < VALUES; i++)
        tdm_buf_put(&all, ",0", 2, NULL);
    tdm_buf_put(&all, "]}\n", 3, NULL);
    char *path = write_file("values.jsonl", all.p, all.len);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    const tdm_record r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_BAD);
    assert_int_equal(r.fault, TDM_FAULT_JSON);
    assert_non_null(strstr(r.detail, "values"));
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    tdm_reader_close(reader);
    remove_file(path);
    tdm_buf_free(&all);
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

static void test_open_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        tdm_status status;
        const char *says;
    } CASES[] = {
        {"/nowhere/at all.jsonl", TDM_ENOINPUT, "No such file"},
        {"/tmp", TDM_ENOINPUT, "folder"},
    };
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_reader *reader = NULL;
    tdm_err err;
    for (size_t i = 0; i < COUNT(CASES); i++) {
        const char *paths[] = {"-", CASES[i].path}; /* the second is checked before the first is read */
        assert_int_equal(tdm_reader_open(paths, 2, &options, &reader, &err), CASES[i].status);
        assert_null(reader);
        assert_non_null(strstr(err.msg, CASES[i].path));
        assert_non_null(strstr(err.msg, CASES[i].says));
    }
    static const char *const PACKED[] = {"x.jsonl.gz", "x.zst"};
    for (size_t i = 0; i < COUNT(PACKED); i++) {
        char *path = write_file(PACKED[i], BYTES("x"));
        assert_int_equal(tdm_reader_open((const char *const *)&path, 1, &options, &reader, &err),
                         TDM_EARG);
        assert_non_null(strstr(err.msg, "compressed"));
        remove_file(path);
    }
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

/* Lines straddle the edges of the read buffer at every phase. */
static void test_buffer_edges(void **state)
{
    (void)state;
    enum { N = 4000 };
    tdm_err err = {0};
    tdm_buf all = {0};
    tdm_lines *lines = NULL;
    tdm_line line;
    static uint64_t offsets[N];
    for (size_t i = 0; i < N; i++) {
        offsets[i] = all.len;
        for (size_t k = 0; k < 1 + i * 2654435761u % 997; k++)
            tdm_buf_put(&all, &"0123456789"[k % 10], 1, NULL);
        tdm_buf_put(&all, "\n", 1, NULL);
    }
    char *path = write_file("edges", all.p, all.len);
    assert_int_equal(tdm_lines_open((const char *const *)&path, 1, 1000, NULL, &lines, &err), TDM_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
        assert_int_equal(line.offset, offsets[i]);
        assert_int_equal(line.len, 1 + i * 2654435761u % 997);
        assert_memory_equal(line.text, all.p + offsets[i], line.len);
    }
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
    assert_null(line.file);
    tdm_lines_close(lines);
    remove_file(path);
    tdm_buf_free(&all);
}

/* A pipe that is filled bit by bit: when the next line must be waited for, and what a signal does. */
static void test_would_block(void **state)
{
    (void)state;
    static const struct {
        const char *bytes; /* written before the question */
        bool blocks;
        const char *line; /* what comes next, where that does not block */
    } STEPS[] = {
        {"", true, NULL},           {"a", true, NULL},    {"b", true, NULL},
        {"c\n", false, "abc"},      {"", true, NULL},     {"\n \n", true, NULL},
        {"x\ny\n\nz", false, "x"}, {"", false, "y"},     {"", true, NULL},
        {"\n", false, "z"},         {"\n\n", true, NULL},
    };
    tdm_stop stop = {0};
    char path[64];
    int ends[2];
    tdm_err err = {0};
    tdm_lines *lines = NULL;
    tdm_line line;
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    const char *const paths[] = {path};
    assert_int_equal(tdm_lines_open(paths, 1, 100, &stop, &lines, &err), TDM_OK);
    for (size_t i = 0; i < COUNT(STEPS); i++) {
        const size_t len = strlen(STEPS[i].bytes);
        assert_int_equal(write(ends[1], STEPS[i].bytes, len), len);
        if (tdm_lines_would_block(lines) != STEPS[i].blocks)
            fail_msg("step %zu", i);
        if (STEPS[i].blocks)
            continue;
        assert_false(tdm_lines_would_block(lines)); /* asking again changes nothing */
        assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
        assert_int_equal(line.len, strlen(STEPS[i].line));
        assert_memory_equal(line.text, STEPS[i].line, line.len);
    }
    assert_int_equal(tdm_lines_blank(lines), 5);
    tdm_stop_set(&stop, SIGTERM);
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_ESTOPPED);
    assert_string_equal(err.msg, "stopped by signal 15");
    close(ends[1]);
    assert_false(tdm_lines_would_block(lines));
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
    assert_null(line.file);
    tdm_lines_close(lines);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_line_too_long),    cmocka_unit_test(test_long_line_at_the_end),
        cmocka_unit_test(test_deep_nesting),     cmocka_unit_test(test_too_many_values),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_keys_and_collisions), cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_open_refuses),     cmocka_unit_test(test_exact_accounting),
        cmocka_unit_test(test_buffer_edges),     cmocka_unit_test(test_any_read_size),
        cmocka_unit_test(test_would_block),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
