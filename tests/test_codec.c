/* gzip and zstd, in and out: members and frames of every kind, what may follow them, pipes, places, and the limit of
 * the ratio. Cut and flipped data: test_damage. */
#include "tests/record_files.h"

#include <zlib.h>
#include <zstd.h>

#include "host/codec.h"
#include "host/source.h"

/* A skippable zstd frame. */
static void put_skippable(tdm_buf *b, const char *data, unsigned char len)
{
    const unsigned char head[] = {0x5a, 0x2a, 0x4d, 0x18, len, 0, 0, 0};
    tdm_buf_put(b, head, sizeof head, NULL);
    tdm_buf_put(b, data, len, NULL);
}

/* All that a file gives, read in pieces of `step` bytes. */
static tdm_status read_all(const char *path, size_t step, double max_ratio, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_source *source = NULL;
    const tdm_source_options options = {.max_ratio = max_ratio};
    char piece[4096];
    size_t n = 1;
    bool starved = false;
    out->len = 0;
    assert_true(step <= sizeof piece);
    assert_int_equal(tdm_source_open(path, &options, &source, err), TDM_OK);
    while (st == TDM_OK && n > 0) {
        st = tdm_source_read(source, piece, step, false, &n, &starved, err);
        assert_false(starved);
        assert_true(st == TDM_OK || n == 0);
        tdm_buf_put(out, piece, n, NULL);
    }
    if (st != TDM_OK)
        assert_int_equal(tdm_source_read(source, piece, step, false, &n, &starved, err), st); /* again */
    assert_int_equal(n, 0);
    tdm_source_close(source);
    return st;
}

/* ---- what is which ---- */

static void test_names_and_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        tdm_codec codec;
        bool is_open;
    } CASES[] = {
        {BYTES(""), TDM_PLAIN, true},
        {BYTES("\x1f"), TDM_PLAIN, true},
        {BYTES("\x1f\x8b"), TDM_GZ, false},
        {BYTES("\x1f\x8c"), TDM_PLAIN, false},
        {BYTES("\x28"), TDM_PLAIN, true},
        {BYTES("\x28\xb5\x2f"), TDM_PLAIN, true},
        {BYTES("\x28\xb5\x2f\xfd"), TDM_ZST, false},
        {BYTES("\x28\xb5\x2f\xfc"), TDM_PLAIN, false},
        {BYTES("\x50\x2a\x4d\x18"), TDM_ZST, false},
        {BYTES("\x5f\x2a\x4d\x18"), TDM_ZST, false},
        {BYTES("\x60\x2a\x4d\x18"), TDM_PLAIN, false},
        {BYTES("["), TDM_PLAIN, true}, /* 0x5b, as a skippable frame */
        {BYTES("[]"), TDM_PLAIN, false},
        {BYTES("{"), TDM_PLAIN, false},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        assert_int_equal(tdm_codec_of_bytes(CASES[i].bytes, CASES[i].len), CASES[i].codec);
        assert_int_equal(tdm_codec_is_open(CASES[i].bytes, CASES[i].len), CASES[i].is_open);
    }
    assert_int_equal(tdm_codec_of_name("a/b.jsonl.gz"), TDM_GZ);
    assert_int_equal(tdm_codec_of_name("b.zst"), TDM_ZST);
    assert_int_equal(tdm_codec_of_name("b.gz.jsonl"), TDM_PLAIN);
    assert_int_equal(tdm_codec_of_name("-"), TDM_PLAIN);
    assert_memory_equal(tdm_codec_library(TDM_GZ), "zlib 1", 6);
    assert_memory_equal(tdm_codec_library(TDM_ZST), "zstd 1", 6);
    assert_string_equal(tdm_codec_library(TDM_PLAIN), "");
}

/* There and back, of every size around the buffers' and of data that does not shrink; appended, and the same each
 * time. */
static void test_round_trip(void **state)
{
    (void)state;
    static const size_t SIZES[] = {0, 1, 4095, 65535, 65536, 131072, 131073, 1 << 20, 3000000};
    tdm_buf data = {0}, packed = {0}, twice = {0}, back = {0};
    uint32_t random = 1;
    for (size_t i = 0; i < 3000000; i++)
        tdm_buf_put(&data, &(char){(char)((random = random * 1664525u + 1013904223u) >> 24)}, 1, NULL);
    for (size_t i = 0; i < COUNT(SIZES) * 3; i++) {
        const tdm_codec codec = (tdm_codec)(i % 3);
        tdm_err err = {0};
        packed.len = 0;
        tdm_buf_put(&packed, "ab", 2, NULL);
        assert_int_equal(tdm_compress(codec, data.p, SIZES[i / 3], &packed, &err), TDM_OK);
        assert_memory_equal(packed.p, "ab", 2);
        twice.len = 0;
        assert_int_equal(tdm_compress(codec, data.p, SIZES[i / 3], &twice, &err), TDM_OK);
        assert_int_equal(twice.len + 2, packed.len);
        assert_memory_equal(twice.p, packed.p + 2, twice.len);
        assert_int_equal(tdm_codec_of_bytes(twice.p, twice.len), codec);
        char *path = write_file("round", twice.p, twice.len);
        if (read_all(path, 4096, 500, &back, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(back.len, SIZES[i / 3]);
        assert_memory_equal(back.p, data.p, back.len);
        remove_file(path);
    }
    tdm_buf_free(&data);
    tdm_buf_free(&packed);
    tdm_buf_free(&twice);
    tdm_buf_free(&back);
}

/* ---- whole files ---- */

typedef struct {
    const char *name;    /* of the file */
    const char *parts;   /* see put_part */
    const char *text;    /* all that comes out */
    const char *refusal; /* a part of the message; NULL: none */
} shape;

static const shape SHAPES[] = {
    {"a.gz", "g", "one\n", NULL},
    {"a.gz", "gGg", "one\ntwo\none\n", NULL},
    {"a.gz", "eegeGe", "one\ntwo\n", NULL},
    {"a.gz", "e", "", NULL},
    {"a.gz", "g0000", "one\n", NULL},
    {"a.gz", "n", "one\n", NULL}, /* with a name, a comment and a checksum of the header */
    {"a.gz", "gn", "one\none\n", NULL},
    {"a.gz", "g0g", "one\n", "behind zero bytes"},
    {"a.gz", "gx", "one\n", "something else follows"},
    {"a.gz", "gz", "one\n", "something else follows"},
    {"a.gz", "g1", "one\n", "ends in the middle"}, /* half a magic number */
    {"a.gz", "", "", "no gzip data"},
    {"a.gz", "p", "", "no gzip data"},
    {"a.gz", "z", "", "no gzip data"},
    {"a.zst", "z", "one\n", NULL},
    {"a.zst", "zZz", "one\ntwo\none\n", NULL},
    {"a.zst", "sEzsssZEs", "one\ntwo\n", NULL},
    {"a.zst", "s", "", NULL},
    {"a.zst", "c", "one\n", NULL}, /* without a checksum */
    {"a.zst", "z0", "one\n", "something else follows"},
    {"a.zst", "zx", "one\n", "something else follows"},
    {"a.zst", "zg", "one\n", "something else follows"},
    {"a.zst", "z(", "one\n", "ends in the middle"},
    {"a.zst", "w", "", "too much memory"}, /* a window of more than 128 MiB */
    {"a.zst", "", "", "no zstd data"},
    {"a.zst", "p", "", "no zstd data"},
    {"a.zst", "g", "", "no zstd data"},
    {"a", "gG", "one\ntwo\n", NULL}, /* by its bytes, whatever the name */
    {"a", "zZ", "one\ntwo\n", NULL},
    {"a", "gx", "one\n", "gzip data"},
    {"a", "p", "plain", NULL},
    {"a", "pz", NULL, NULL}, /* plain is plain to its end */
    {"a", "1", "\x1f", NULL},
    {"a", "(", "(", NULL},
    {"a", "", "", NULL},
};

static void put_gz_with_header(tdm_buf *b)
{
    z_stream z = {0};
    gz_header head = {.name = (Bytef *)"name", .comment = (Bytef *)"comment", .hcrc = 1, .time = 77,
                      .extra = (Bytef *)"abcd", .extra_len = 4};
    unsigned char out[200];
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflateSetHeader(&z, &head), Z_OK);
    z.next_in = (Bytef *)"one\n";
    z.avail_in = 4;
    z.next_out = out;
    z.avail_out = sizeof out;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    tdm_buf_put(b, out, sizeof out - z.avail_out, NULL);
    deflateEnd(&z);
}

static void put_part(tdm_buf *b, char part)
{
    static const unsigned char WIDE[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90, 0x01, 0x00, 0x00}; /* 2^28 */
    char frame[100];
    size_t n = 0;
    switch (part) {
    case 'g': case 'G': case 'e':
        tdm_compress(TDM_GZ, part == 'g' ? "one\n" : "two\n", part == 'e' ? 0 : 4, b, NULL);
        break;
    case 'z': case 'Z': case 'E':
        tdm_compress(TDM_ZST, part == 'z' ? "one\n" : "two\n", part == 'E' ? 0 : 4, b, NULL);
        break;
    case 'n':
        put_gz_with_header(b);
        break;
    case 'c':
        n = ZSTD_compress(frame, sizeof frame, "one\n", 4, 1);
        tdm_buf_put(b, frame, n, NULL);
        break;
    case 's':
        put_skippable(b, "skipped", 7);
        break;
    case 'w':
        tdm_buf_put(b, WIDE, sizeof WIDE, NULL);
        break;
    case '0': case '1': case '(': case 'x':
        tdm_buf_put(b, part == '0' ? "" : part == '1' ? "\x1f" : part == '(' ? "(" : "x", 1, NULL);
        break;
    default:
        tdm_buf_put(b, "plain", 5, NULL);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    static const size_t STEPS[] = {1, 2, 3, 4, 5, 4096};
    tdm_buf file = {0}, out = {0};
    for (size_t i = 0; i < COUNT(SHAPES) * COUNT(STEPS); i++) {
        const shape *s = &SHAPES[i / COUNT(STEPS)];
        tdm_err err = {0};
        file.len = 0;
        for (const char *part = s->parts; *part; part++)
            put_part(&file, *part);
        char *path = write_file(s->name, file.p, file.len);
        const tdm_status st = read_all(path, STEPS[i % COUNT(STEPS)], 500, &out, &err);
        const char *want = s->text ? s->text : file.p;
        const size_t len = s->text ? strlen(s->text) : file.len;
        if (st != (s->refusal ? TDM_EFORMAT : TDM_OK) || out.len != len || memcmp(out.p, want, len) != 0)
            fail_msg("%s \"%s\": %d, %zu bytes, %s", s->name, s->parts, st, out.len, err.msg);
        if (s->refusal && !strstr(err.msg, s->refusal))
            fail_msg("%s \"%s\": %s", s->name, s->parts, err.msg);
        remove_file(path);
    }
    tdm_buf_free(&file);
    tdm_buf_free(&out);
}

/* A message tells the places, in the file and in the text. */
static void test_message(void **state)
{
    (void)state;
    tdm_buf packed = {0}, text = {0};
    tdm_err err = {0};
    char want[256];
    assert_int_equal(tdm_compress(TDM_GZ, BYTES("abc\n"), &packed, NULL), TDM_OK);
    const size_t first = packed.len;
    assert_int_equal(tdm_compress(TDM_GZ, BYTES("defghi\n"), &packed, NULL), TDM_OK);
    packed.p[packed.len - 8] ^= 1; /* of the checksum */
    char *path = write_file("message.gz", packed.p, packed.len);
    assert_int_equal(read_all(path, 4096, 0, &text, &err), TDM_EFORMAT);
    snprintf(want, sizeof want,
             "gzip data is damaged behind byte %zu (byte 11 of the text): incorrect data check; whole members up to "
             "byte %zu (byte 4)",
             packed.len - 4, first);
    assert_string_equal(err.msg, want);
    remove_file(path);
    tdm_buf_free(&packed);
    tdm_buf_free(&text);
}

/* ---- size ---- */

/* 32 MiB of one byte: more than max_ratio times as much as went in is refused, but only once 16 MiB are out. */
static void test_ratio(void **state)
{
    (void)state;
    enum { BYTES_OUT = 32 << 20 };
    char *zeros = calloc(1, BYTES_OUT);
    tdm_buf packed = {0};
    for (int k = 0; k < 2; k++) {
        const tdm_source_options limits[] = {{.max_ratio = 500}, {.max_ratio = 0}, {.max_ratio = 1e6}};
        packed.len = 0;
        assert_int_equal(tdm_compress(k ? TDM_ZST : TDM_GZ, zeros, BYTES_OUT, &packed, NULL), TDM_OK);
        char *path = write_file("ratio", packed.p, packed.len);
        for (size_t i = 0; i < COUNT(limits); i++) {
            tdm_source *source = NULL;
            tdm_err err = {0};
            tdm_status st = TDM_OK;
            uint64_t total = 0;
            bool starved = false;
            assert_int_equal(tdm_source_open(path, &limits[i], &source, &err), TDM_OK);
            for (size_t n = 1; st == TDM_OK && n > 0; total += n)
                st = tdm_source_read(source, zeros, 1 << 20, false, &n, &starved, &err);
            assert_int_equal(st, i == 0 ? TDM_EFORMAT : TDM_OK);
            assert_true(i == 0 ? total >= 16 << 20 && total < 18 << 20 : total == BYTES_OUT);
            assert_true(i != 0 || strstr(err.msg, "more than 500 times"));
            tdm_source_close(source);
        }
        remove_file(path);
    }
    free(zeros);
    tdm_buf_free(&packed);
}

/* A compressed pipe that is filled bit by bit: at any time all that can be had from what has come is handed out, as
 * from a file that ends there, however little is asked for at once; then the rest would have to be waited for. */
static void check_pipe(const tdm_buf *packed, const char *text, size_t len)
{
    const tdm_source_options options = {0};
    tdm_source *source = NULL;
    tdm_err err = {0};
    tdm_buf want = {0};
    int ends[2];
    char name[64], out[2000];
    size_t got = 0, n = 0;
    bool starved = false;
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(tdm_source_open(name, &options, &source, &err), TDM_OK);
    for (size_t i = 0; i < packed->len; i++) {
        for (int vain = 0; vain < 20; vain += starved) { /* asking in vain, often, harms nothing */
            assert_int_equal(tdm_source_read(source, out + got, 5, true, &n, &starved, &err), TDM_OK);
            assert_int_equal(starved, n == 0);
            got += n;
        }
        char *path = write_file("so far", packed->p, i);
        if (i >= 4)
            read_all(path, 4096, 0, &want, &err);
        assert_int_equal(got, want.len);
        remove_file(path);
        assert_int_equal(write(ends[1], packed->p + i, 1), 1);
    }
    close(ends[1]);
    do {
        assert_int_equal(tdm_source_read(source, out + got, 5, true, &n, &starved, &err), TDM_OK);
        got += n;
    } while (n > 0);
    assert_false(starved);
    assert_int_equal(got, len);
    assert_memory_equal(out, text, got);
    tdm_source_close(source);
    close(ends[0]);
    tdm_buf_free(&want);
}

static void test_pipe(void **state)
{
    (void)state;
    char run[500];
    memset(run, 'a', sizeof run);
    for (int k = 0; k < 2; k++) {
        const tdm_codec codec = k ? TDM_ZST : TDM_GZ;
        tdm_buf packed = {0};
        assert_int_equal(tdm_compress(codec, run, sizeof run, &packed, NULL), TDM_OK);
        check_pipe(&packed, run, sizeof run);
        packed.len = 0;
        assert_int_equal(tdm_compress(codec, "two parts, ", 11, &packed, NULL), TDM_OK);
        assert_int_equal(tdm_compress(codec, "of one text", 11, &packed, NULL), TDM_OK);
        check_pipe(&packed, "two parts, of one text", 22);
        tdm_buf_free(&packed);
    }
}

static void test_seek(void **state)
{
    (void)state;
    const tdm_source_options options = {0};
    tdm_source *source = NULL;
    tdm_err err = {0};
    char out[8];
    size_t n = 0;
    bool starved = false;
    char *path = write_file("seek", BYTES("0123456789"));
    assert_int_equal(tdm_source_open(path, &options, &source, &err), TDM_OK);
    for (uint64_t at = 11; at-- > 0;) {
        assert_int_equal(tdm_source_seek(source, at, &err), TDM_OK);
        assert_int_equal(tdm_source_read(source, out, 3, false, &n, &starved, &err), TDM_OK);
        assert_int_equal(n, at > 7 ? 10 - at : 3);
        assert_memory_equal(out, &"0123456789"[at], n);
        assert_int_equal(tdm_source_consumed(source), at + n);
    }
    tdm_source_close(source);
    free(path);
    tdm_buf packed = {0};
    assert_int_equal(tdm_compress(TDM_GZ, "abc", 3, &packed, NULL), TDM_OK);
    path = write_file("seek", packed.p, packed.len);
    assert_int_equal(tdm_source_open(path, &options, &source, &err), TDM_OK);
    assert_int_equal(tdm_source_seek(source, 1, &err), TDM_EARG);
    tdm_source_close(source);
    assert_int_equal(tdm_source_open("/dev/null", &options, &source, &err), TDM_OK);
    assert_int_equal(tdm_source_seek(source, 1, &err), TDM_EARG);
    tdm_source_close(source);
    remove_file(path);
    tdm_buf_free(&packed);
}

static void test_open_refuses(void **state)
{
    (void)state;
    const tdm_source_options options = {0};
    static const char *const PATHS[] = {"/nowhere/at all", "/tmp"};
    for (size_t i = 0; i < COUNT(PATHS); i++) {
        tdm_source *source = NULL;
        tdm_err err = {0};
        assert_int_equal(tdm_source_open(PATHS[i], &options, &source, &err), TDM_ENOINPUT);
        assert_null(source);
        assert_non_null(strstr(err.msg, PATHS[i]));
    }
    tdm_source_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_bytes), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_shapes),          cmocka_unit_test(test_message),
        cmocka_unit_test(test_ratio),           cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_seek),            cmocka_unit_test(test_open_refuses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
