/* Records of files that are read in parts, of compressed files and pipes: ids by line, chunks in their places,
 * damage as a record, and a look at records without reading them. */
#include "tests/record_files.h"

#include <inttypes.h>
#include <sys/socket.h>

#include "host/codec.h"

static const char RECORDS[] = "{\"text\": \"a\"}\n"              /* 0: line 1 */
                              "{\"text\": \"bb\", \"id\": 7}\n"   /* 14 */
                              "\n"                                /* 38: line 3 */
                              "{\"text\": \"ccc\"}\n"             /* 39: line 4 */
                              "{\"text\": 5}\n"                   /* 55: line 5 */
                              "nonsense\n"                        /* 67: line 6 */
                              "{\"text\": \"d\"}";                /* 76: line 7 */
enum { N_RECORDS = 6, SIZE = 20 }; /* chunks: [0, 20) [20, 40) [40, 60) [60, 80) [80, 89) */
static const uint64_t OFFSETS[N_RECORDS] = {0, 14, 39, 55, 67, 76};
static const int64_t LINES[N_RECORDS] = {1, 2, 4, 5, 6, 7};

typedef struct {
    uint32_t mask; /* of wanted chunks */
    uint32_t passed;
} some;

static bool is_wanted(void *ctx, size_t file, uint64_t number)
{
    const some *s = ctx;
    assert_int_equal(file, 0);
    return s->mask >> number & 1;
}

static tdm_status pass(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    some *s = ctx;
    (void)err;
    s->passed |= UINT32_C(1) << chunk->number;
    return TDM_OK;
}

static void check_record(const tdm_record *r, size_t i, const char *path, bool is_plain, bool from_start)
{
    char id[128];
    assert_int_equal(r->file_number, 0);
    assert_string_equal(r->file, path);
    assert_int_equal(r->offset, OFFSETS[i]);
    assert_int_equal(r->kind, i == 3 || i == 4 ? TDM_RECORD_BAD : TDM_RECORD_OK);
    snprintf(id, sizeof id, i == 1 ? "7" : "\"%s:%" PRId64 "\"", path, LINES[i]);
    const bool is_named = i != 1 && i != 4; /* by its line */
    assert_int_equal(r->has_no_id, is_named);
    assert_int_equal(r->line, is_named || !is_plain || from_start ? LINES[i] : 0);
    if (i == 4)
        assert_int_equal(r->id_len, 0);
    else
        assert_memory_equal(r->id_json, id, strlen(id));
}

/* Each set of wanted chunks: their records with the ids they always have, and an event behind each. */
static void check_set(const char *path, uint32_t mask, bool is_plain)
{
    some wanted = {.mask = mask};
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.chunk_bytes = SIZE;
    options.filter = (tdm_chunk_filter){&wanted, is_wanted, pass};
    tdm_reader *reader = open_one(&path, 1, &options);
    size_t i = 0;
    bool from_start = true; /* nothing has been left out so far */
    for (uint64_t number = 0; number < 5; number++) {
        const bool is_mine = mask >> number & 1;
        from_start = from_start && is_mine;
        for (; i < N_RECORDS && OFFSETS[i] < (number + 1) * SIZE; i++) {
            if (!is_mine)
                continue;
            const tdm_record r = next(reader);
            check_record(&r, i, path, is_plain, from_start);
        }
        if (!is_mine)
            continue;
        const tdm_record r = next(reader);
        assert_int_equal(r.kind, TDM_RECORD_CHUNK);
        assert_int_equal(r.chunk.number, number);
        assert_int_equal(r.chunk.skipped, number == 1);
        assert_int_equal(r.chunk.is_last, number == 4);
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    assert_int_equal(wanted.passed, is_plain ? 0 : mask ^ 31);
    tdm_reader_close(reader);
}

static void test_sets(void **state)
{
    (void)state;
    tdm_buf gz = {0};
    assert_int_equal(tdm_compress(TDM_GZ, BYTES(RECORDS), &gz, NULL), TDM_OK);
    char *plain = write_file("sets.jsonl", BYTES(RECORDS)), *packed = write_file("sets.jsonl.gz", gz.p, gz.len);
    for (uint32_t mask = 0; mask < 32; mask++) {
        check_set(plain, mask, true);
        check_set(packed, mask, false);
    }
    remove_file(plain);
    remove_file(packed);
    tdm_buf_free(&gz);
}

/* Skipping tells place and hash and nothing more; what reading tells of them is the same. */
static void test_skip(void **state)
{
    (void)state;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_err err = {0};
    tdm_record skipped;
    uint64_t last = 0;
    options.chunk_bytes = SIZE;
    options.max_line = 15;
    char *path = write_file("skip.jsonl", BYTES(RECORDS));
    tdm_inputs inputs;
    tdm_reader *other = NULL;
    assert_int_equal(tdm_inputs_list((const char *const *)&path, 1, NULL, &inputs, &err), TDM_OK);
    tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
    assert_int_equal(tdm_reader_open(&inputs, &options, &other, &err), TDM_OK);
    for (;;) {
        const tdm_record read = next(reader);
        assert_int_equal(tdm_reader_skip(other, &skipped, &err), TDM_OK);
        assert_int_equal(skipped.offset, read.offset);
        assert_int_equal(skipped.hash, read.hash);
        assert_true(skipped.hash != last || skipped.kind == TDM_RECORD_CHUNK || skipped.kind == TDM_RECORD_END);
        last = skipped.hash;
        assert_int_equal(skipped.file_number, read.file_number);
        assert_int_equal(skipped.chunk.number, read.chunk.number);
        assert_null(skipped.text);
        assert_null(skipped.source);
        assert_int_equal(skipped.id_len, 0);
        const bool is_long = read.kind == TDM_RECORD_BAD && read.fault == TDM_FAULT_LINE_TOO_LONG;
        assert_int_equal(skipped.kind, read.kind == TDM_RECORD_BAD && !is_long ? TDM_RECORD_OK : read.kind);
        if (read.kind == TDM_RECORD_END)
            break;
    }
    tdm_reader_close(reader);
    tdm_reader_close(other);
    tdm_inputs_free(&inputs);
    remove_file(path);
}

/* A compressed file that breaks off is one bad record; the next file is read. */
static void test_damaged(void **state)
{
    (void)state;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    tdm_buf gz = {0};
    assert_int_equal(tdm_compress(TDM_GZ, BYTES(RECORDS), &gz, NULL), TDM_OK);
    char *paths[] = {write_file("cut.gz", gz.p, gz.len - 8), write_file("next.jsonl", BYTES("{\"text\": \"x\"}\n"))};
    tdm_reader *reader = open_one((const char *const *)paths, 2, &options);
    for (size_t i = 0; i + 1 < N_RECORDS; i++)
        assert_int_equal(next(reader).offset, OFFSETS[i]);
    tdm_record r = next(reader);
    assert_int_equal(r.kind, TDM_RECORD_BAD);
    assert_int_equal(r.fault, TDM_FAULT_DAMAGED);
    assert_string_equal(tdm_fault_name(r.fault), "damaged");
    assert_int_equal(r.offset, OFFSETS[N_RECORDS - 1]); /* its line was not complete */
    assert_int_equal(r.line, 7);
    assert_int_equal(r.id_len, 0);
    assert_non_null(strstr(r.detail, "gzip data is damaged behind byte"));
    assert_non_null(strstr(r.detail, "(byte 89 of the text)"));
    r = next(reader);
    assert_int_equal(r.file_number, 1);
    assert_int_equal(r.line, 1);
    assert_string_equal(r.text, "x");
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    tdm_reader_close(reader);
    remove_file(paths[0]);
    remove_file(paths[1]);
    tdm_buf_free(&gz);
}

/* Write record i, compressed, in two pieces; the blank line goes with the one behind it. */
static void write_packed(int fd, tdm_codec codec, size_t i)
{
    const size_t begin = i == 2 ? 38 : OFFSETS[i];
    const size_t end = i == 1 ? 38 : i + 1 < N_RECORDS ? OFFSETS[i + 1] : sizeof RECORDS - 1;
    tdm_buf part = {0};
    assert_int_equal(tdm_compress(codec, RECORDS + begin, end - begin, &part, NULL), TDM_OK);
    const size_t half = part.len / 2;
    assert_int_equal(write(fd, part.p, half), half);
    assert_int_equal(write(fd, part.p + half, part.len - half), part.len - half);
    tdm_buf_free(&part);
}

static void check_packed(int fd, tdm_codec codec)
{
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.chunk_bytes = SIZE;
    tdm_reader *reader = open_one(NULL, 0, &options);
    for (size_t i = 0; i < N_RECORDS; i++) {
        assert_true(tdm_reader_would_block(reader));
        write_packed(fd, codec, i);
        if (i + 1 == N_RECORDS)
            close(fd);
        assert_false(tdm_reader_would_block(reader));
        tdm_record r = next(reader);
        if (r.kind == TDM_RECORD_CHUNK) {
            assert_int_equal(r.chunk.number, OFFSETS[i] / SIZE - 1);
            r = next(reader);
        }
        check_record(&r, i, "-", false, true);
    }
    for (uint64_t number = 3; number < 5; number++) {
        const tdm_record r = next(reader);
        assert_int_equal(r.kind, TDM_RECORD_CHUNK);
        assert_int_equal(r.chunk.number, number);
        assert_int_equal(r.chunk.is_last, number == 4);
    }
    assert_int_equal(next(reader).kind, TDM_RECORD_END);
    assert_false(tdm_reader_would_block(reader));
    tdm_reader_close(reader);
}

/* Stdin that comes piece by piece, compressed: a record can be had as soon as its bytes are there, a chunk's end as
 * soon as something follows. */
static void test_packed_stdin(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        int ends[2];
        const int saved = dup(STDIN_FILENO);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        check_packed(ends[1], k ? TDM_ZST : TDM_GZ);
        dup2(saved, STDIN_FILENO);
        close(saved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_packed_stdin),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
