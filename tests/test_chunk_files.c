/* Chunks of whole files: several, larger than 4 GiB, that changed since they were listed, or that a filter refuses. */
#include "tests/record_files.h"

#include "host/codec.h"
#include "host/lines.h"

/* The caller frees the inputs and closes the lines. */
static tdm_lines *open_lines(const char *const *paths, size_t n, const tdm_lines_options *options, tdm_inputs *inputs)
{
    tdm_err err = {0};
    tdm_lines *lines = NULL;
    assert_int_equal(tdm_inputs_list(paths, n, NULL, inputs, &err), TDM_OK);
    assert_int_equal(tdm_lines_open(inputs, options, &lines, &err), TDM_OK);
    return lines;
}

/* Places beyond 4 GiB: a file with a hole, of which only the last chunk is read. */
static bool is_last_chunk(void *ctx, size_t file, uint64_t number)
{
    (void)file;
    return number == *(uint64_t *)ctx;
}

static void test_far(void **state)
{
    (void)state;
    const uint64_t begin = (UINT64_C(5) << 30) + 7, size = 1 << 20;
    uint64_t last = begin / size;
    const tdm_lines_options options = {.max_line = 100, .chunk_bytes = size, .filter = {&last, is_last_chunk, NULL}};
    tdm_err err = {0};
    tdm_inputs inputs;
    tdm_line line;
    char *path = write_file("far.jsonl", BYTES("first\n"));
    FILE *f = fopen(path, "r+b");
    assert_true(f && fseeko(f, (off_t)begin - 1, SEEK_SET) == 0 && fputs("\nlast\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    tdm_lines *lines = open_lines((const char *const *)&path, 1, &options, &inputs);
    assert_int_equal(inputs.bytes, begin + 5);
    assert_int_equal(tdm_input_chunks(&inputs.items[0], size), last + 1);
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
    assert_int_equal(line.kind, TDM_LINES_LINE);
    assert_int_equal(line.offset, begin);
    assert_memory_equal(line.text, "last", line.len);
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
    assert_int_equal(line.kind, TDM_LINES_CHUNK);
    assert_true(line.chunk.is_last && line.chunk.number == last);
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
    remove_file(path);
}

/* Chunks are counted in each file from 0; a plain file without a byte has none. */
static void test_several_files(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"a\nb\nc\n", "", "a\nb\n", "", "\n"};
    static const char *const NAMES[] = {"1.jsonl", "2.jsonl", "3.gz", "4.gz", "5.jsonl"};
    static const size_t WANT[][2] = {{0, 0}, {0, 1}, {0, 2}, {2, 0}, {2, 1}, {3, 0}, {4, 0}}; /* file, number */
    const tdm_lines_options options = {.max_line = 10, .chunk_bytes = 2};
    char *paths[COUNT(TEXTS)];
    tdm_inputs inputs;
    tdm_line line;
    tdm_err err = {0};
    size_t k = 0;
    for (size_t i = 0; i < COUNT(TEXTS); i++) {
        tdm_buf packed = {0};
        assert_int_equal(tdm_compress(tdm_codec_of_name(NAMES[i]), TEXTS[i], strlen(TEXTS[i]), &packed, NULL), TDM_OK);
        paths[i] = write_file(NAMES[i], packed.p, packed.len);
        tdm_buf_free(&packed);
    }
    tdm_lines *lines = open_lines((const char *const *)paths, COUNT(paths), &options, &inputs);
    do {
        assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_OK);
        if (line.kind != TDM_LINES_CHUNK)
            continue;
        assert_true(k < COUNT(WANT));
        assert_int_equal(line.number, WANT[k][0]);
        assert_int_equal(line.chunk.file, WANT[k][0]);
        assert_int_equal(line.chunk.number, WANT[k][1]);
        k++;
    } while (line.kind != TDM_LINES_END);
    assert_int_equal(k, COUNT(WANT));
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
    for (size_t i = 0; i < COUNT(paths); i++)
        remove_file(paths[i]);
}

/* A file that is another length than when it was listed. */
static void test_size_changed(void **state)
{
    (void)state;
    static const struct {
        const char *now;
        size_t n_lines;
        tdm_status st;
    } CASES[] = {
        {"abc\ndef\n", 2, TDM_OK},
        {"abc\ndef\nghi\n", 2, TDM_OK}, /* what has been appended is not read */
        {"abc\ndefghi\n", 2, TDM_OK},   /* nor when it goes on with the last line: "defg" */
        {"abc\ndef", 1, TDM_EIO},
        {"", 0, TDM_EIO},
    };
    const tdm_lines_options options = {.max_line = 100, .chunk_bytes = 2};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char *path = write_file("size.jsonl", BYTES("abc\ndef\n"));
        tdm_err err = {0};
        tdm_status st = TDM_OK;
        tdm_inputs inputs;
        tdm_line line = {0};
        size_t n_lines = 0, n_chunks = 0;
        tdm_lines *lines = open_lines((const char *const *)&path, 1, &options, &inputs);
        free(write_file("size.jsonl", CASES[i].now, strlen(CASES[i].now))); /* it is opened with the first line */
        while ((st = tdm_lines_next(lines, &line, &err)) == TDM_OK && line.kind != TDM_LINES_END) {
            n_lines += line.kind == TDM_LINES_LINE;
            n_chunks += line.kind == TDM_LINES_CHUNK;
        }
        assert_int_equal(st, CASES[i].st);
        assert_int_equal(n_lines, CASES[i].n_lines);
        if (st == TDM_OK)
            assert_int_equal(n_chunks, 4);
        else
            assert_non_null(strstr(err.msg, path));
        tdm_lines_close(lines);
        tdm_inputs_free(&inputs);
        remove_file(path);
    }
}

/* What has been committed and is another text now: the filter's word ends the reading. */
static tdm_status refuse_chunk(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    (void)ctx;
    return tdm_fail(err, TDM_EMISMATCH, "chunk %d has changed", (int)chunk->number);
}

static bool from_second(void *ctx, size_t file, uint64_t number)
{
    (void)ctx;
    (void)file;
    return number > 0;
}

static void test_filter_refuses(void **state)
{
    (void)state;
    const tdm_lines_options options = {.max_line = 100, .chunk_bytes = 5, .filter = {NULL, from_second, refuse_chunk}};
    tdm_buf gz = {0};
    tdm_err err = {0};
    tdm_inputs inputs;
    tdm_line line;
    assert_int_equal(tdm_compress(TDM_GZ, BYTES("abc\ndef\n\nghi\n"), &gz, NULL), TDM_OK);
    char *path = write_file("refused.gz", gz.p, gz.len);
    tdm_lines *lines = open_lines((const char *const *)&path, 1, &options, &inputs);
    assert_int_equal(tdm_lines_next(lines, &line, &err), TDM_EMISMATCH);
    assert_string_equal(err.msg, "chunk 0 has changed");
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
    remove_file(path);
    tdm_buf_free(&gz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_size_changed),
        cmocka_unit_test(test_filter_refuses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
