/* Lines, as records see them: around the limit and far beyond it, across the edges of every buffer and read, from a
 * pipe that is filled bit by bit; and lines that would cost too much to parse. */
#include "tests/record_files.h"

#include <signal.h>
#include <sys/socket.h>

#include "host/lines.h"

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
    const tdm_lines_options options = {.max_line = 1000};
    tdm_inputs inputs;
    assert_int_equal(tdm_inputs_list((const char *const *)&path, 1, NULL, &inputs, &err), TDM_OK);
    assert_int_equal(tdm_lines_open(&inputs, &options, &lines, &err), TDM_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
        assert_int_equal(line.offset, offsets[i]);
        assert_int_equal(line.len, 1 + i * 2654435761u % 997);
        assert_memory_equal(line.text, all.p + offsets[i], line.len);
    }
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
    assert_int_equal(line.kind, TDM_LINES_END);
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
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
    const tdm_lines_options options = {.max_line = 100, .stop = &stop};
    tdm_inputs inputs;
    assert_int_equal(tdm_inputs_list(paths, 1, NULL, &inputs, &err), TDM_OK);
    assert_int_equal(tdm_lines_open(&inputs, &options, &lines, &err), TDM_OK);
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
    assert_int_equal(line.kind, TDM_LINES_END);
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_too_long),
        cmocka_unit_test(test_any_read_size),
        cmocka_unit_test(test_long_line_at_the_end),
        cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_too_many_values),
        cmocka_unit_test(test_buffer_edges),
        cmocka_unit_test(test_would_block),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
