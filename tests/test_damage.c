/* gzip and zstd that is cut behind any byte, or has any bit flipped: it must never pass in silence and never cost a
 * line before it. */
#include "tests/record_files.h"

#include "host/codec.h"
#include "host/lines.h"
#include "host/source.h"

static const char TEXT[] = "{\"id\": 1, \"text\": \"first\"}\n"
                           "{\"id\": 2, \"text\": \"second second second\"}\n"
                           "{\"id\": 3, \"text\": \"third\"}\n"
                           "{\"id\": 4, \"text\": \"the fourth line, and the longest of all of these\"}\n";

enum { FIRST = 27 + 42 }; /* bytes of TEXT in the first part: two lines */

/* TEXT in two parts, members or frames. Returns the bytes of the first. */
static size_t pack_two(tdm_codec codec, tdm_buf *out)
{
    out->len = 0;
    assert_int_equal(TEXT[FIRST - 1], '\n');
    assert_int_equal(tdm_compress(codec, TEXT, FIRST, out, NULL), TDM_OK);
    const size_t first = out->len;
    assert_int_equal(tdm_compress(codec, TEXT + FIRST, sizeof TEXT - 1 - FIRST, out, NULL), TDM_OK);
    return first;
}

/* Lines of a file; at the end *damaged tells whether it was, and `text` holds what they were. */
static void read_lines(const char *path, tdm_buf *text, bool *damaged, char *detail)
{
    tdm_err err = {0};
    tdm_line line = {0};
    tdm_lines *lines = NULL;
    const tdm_input input = {.path = (char *)path, .is_regular = true, .codec = tdm_codec_of_name(path)};
    const tdm_inputs inputs = {.items = (tdm_input *)&input, .n = 1};
    const tdm_lines_options options = {.max_line = 1 << 20, .max_ratio = 500};
    text->len = 0;
    *damaged = false;
    assert_int_equal(tdm_lines_open(&inputs, &options, &lines, &err), TDM_OK);
    for (;;) {
        if (tdm_lines_next(lines, &line, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        if (line.kind == TDM_LINES_END)
            break;
        assert_false(*damaged); /* nothing comes behind it */
        *damaged = line.kind == TDM_LINES_DAMAGED;
        if (*damaged)
            strcpy(detail, line.detail);
        tdm_buf_put(text, line.text, line.len, NULL);
        tdm_buf_put(text, "\n", !*damaged, NULL);
    }
    tdm_lines_close(lines);
}

/* Complete lines in the first n bytes of TEXT. */
static size_t whole_lines(size_t n)
{
    while (n > 0 && TEXT[n - 1] != '\n')
        n--;
    return n;
}

/* Cut behind each byte: every line that the bytes hold comes, then the damage. */
static void test_every_cut(void **state)
{
    (void)state;
    tdm_buf packed = {0}, text = {0};
    char detail[512] = "";
    bool damaged = false;
    for (int k = 0; k < 2; k++) {
        size_t most = 0;
        const size_t first = pack_two(k ? TDM_ZST : TDM_GZ, &packed);
        for (size_t cut = 0; cut <= packed.len; cut++) {
            char *path = write_file(k ? "cut.zst" : "cut.gz", packed.p, cut);
            read_lines(path, &text, &damaged, detail);
            assert_int_equal(damaged, cut != packed.len && cut != first); /* whole parts are a whole file */
            assert_true(text.len >= most); /* never less than of fewer bytes */
            most = text.len;
            assert_true(cut < first || text.len >= FIRST);
            assert_int_equal(text.len, whole_lines(text.len));
            assert_true(text.len == 0 || memcmp(text.p, TEXT, text.len) == 0);
            remove_file(path);
        }
        assert_int_equal(most, sizeof TEXT - 1);
    }
    tdm_buf_free(&packed);
    tdm_buf_free(&text);
}

/* Each bit flipped: the whole text (in gzip headers and zstd window sizes there are bits that change nothing), or
 * damage, and then right lines as far as the message says that whole members or frames go. */
static void test_every_flip(void **state)
{
    (void)state;
    tdm_buf packed = {0}, text = {0};
    char detail[512] = "";
    bool damaged = false;
    for (int k = 0; k < 2; k++) {
        size_t n_harmless = 0;
        const size_t first = pack_two(k ? TDM_ZST : TDM_GZ, &packed);
        for (size_t bit = 0; bit < packed.len * 8; bit++) {
            packed.p[bit / 8] ^= (char)(1 << bit % 8);
            char *path = write_file(k ? "flip.zst" : "flip.gz", packed.p, packed.len);
            read_lines(path, &text, &damaged, detail);
            if (damaged) {
                const char *whole = strstr(detail, "up to byte ");
                const size_t sure = whole ? (size_t)atoi(strchr(whole, '(') + 6) : 0;
                assert_true(sure >= (bit / 8 < first ? 0 : FIRST));
                assert_true(text.len >= sure && (sure == 0 || memcmp(text.p, TEXT, sure) == 0));
            } else {
                n_harmless++;
                assert_int_equal(text.len, sizeof TEXT - 1);
                assert_memory_equal(text.p, TEXT, text.len);
            }
            packed.p[bit / 8] ^= (char)(1 << bit % 8);
            remove_file(path);
        }
        assert_true(n_harmless < 2 * 60); /* gzip: time, extra flags, system, and the flag of text */
    }
    tdm_buf_free(&packed);
    tdm_buf_free(&text);
}

/* ---- damage inside a frame ---- */

enum { BLOCK = 128 << 10, N_BLOCKS = 5 };

/* The headers of the blocks of a zstd frame, which are three bytes each. */
static void find_blocks(const tdm_buf *frame, size_t at[N_BLOCKS])
{
    static const size_t OF_SIZE[] = {0, 2, 4, 8};
    const unsigned char *p = (const unsigned char *)frame->p, descriptor = p[4];
    const bool has_window = !(descriptor >> 5 & 1);
    size_t next = 5 + (has_window ? 1 : descriptor >> 6 ? 0 : 1) + OF_SIZE[descriptor >> 6];
    for (size_t i = 0; i < N_BLOCKS; i++) {
        at[i] = next;
        next += 3 + (size_t)((p[next] | p[next + 1] << 8 | p[next + 2] << 16) >> 3);
    }
    assert_int_equal(next + 4, frame->len); /* a checksum */
}

/* How many bytes come before the damage, in reads of `cap` bytes, and where it is said to be. */
static size_t bytes_before(const char *path, size_t cap, char *message)
{
    const tdm_source_options options = {0};
    tdm_err err = {0};
    tdm_source *source = NULL;
    char *p = malloc(cap);
    size_t n = 1, sum = 0;
    bool starved = false;
    assert_int_equal(tdm_source_open(path, &options, &source, &err), TDM_OK);
    while (tdm_source_read(source, p, cap, false, &n, &starved, &err) == TDM_OK) {
        assert_true(n > 0);
        sum += n;
    }
    assert_int_equal(err.status, TDM_EFORMAT);
    strcpy(message, err.msg);
    tdm_source_close(source);
    free(p);
    return sum;
}

/* All blocks before one that is damaged come whole, in its header or in its body, however much is read at once. */
static void test_damaged_block(void **state)
{
    (void)state;
    static const size_t CAPS[] = {1000, BLOCK, BLOCK + 1, 1 << 20};
    size_t at[N_BLOCKS];
    tdm_buf text = {0}, frame = {0};
    uint64_t draw = 1;
    while (text.len < (size_t)N_BLOCKS * BLOCK) {
        draw = draw * UINT64_C(6364136223846793005) + 1;
        assert_int_equal(tdm_buf_printf(&text, NULL, "%d\n", (int)(draw >> 40)), TDM_OK);
    }
    text.len = (size_t)N_BLOCKS * BLOCK;
    assert_int_equal(tdm_compress(TDM_ZST, text.p, text.len, &frame, NULL), TDM_OK);
    find_blocks(&frame, at);
    for (size_t i = 0; i < 2 * N_BLOCKS; i++) {
        const size_t block = i / 2, from = i % 2 ? at[block] + 3 : at[block], n = i % 2 ? 16 : 1;
        char was[16], first[512] = "", message[512];
        memcpy(was, frame.p + from, n);
        memset(frame.p + from, 0xff, n);
        char *path = write_file("block.zst", frame.p, frame.len);
        for (size_t k = 0; k < sizeof CAPS / sizeof *CAPS; k++) {
            assert_int_equal(bytes_before(path, CAPS[k], message), block * BLOCK);
            assert_string_equal(k ? first : message, message);
            strcpy(first, message);
        }
        remove_file(path);
        memcpy(frame.p + from, was, n);
    }
    tdm_buf_free(&text);
    tdm_buf_free(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_flip),
        cmocka_unit_test(test_damaged_block),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
