/* Lines chunk by chunk: whatever a file holds and whoever reads which chunks, every line comes once, in the chunk
 * that it begins in, and a chunk tells the same of itself each time. */
#include "tests/record_files.h"

#include "host/codec.h"
#include "host/lines.h"

enum { CAP = 4096, MAX_LINE = 60 };

typedef struct {
    tdm_line_kind kind;
    int64_t line;
    uint64_t offset, hash;
    size_t len;
} seen_line;

/* What one pass over one file gave. */
typedef struct {
    seen_line lines[CAP];
    size_t n_lines;
    tdm_chunk chunks[CAP]; /* by number; with is_last and hash as the event had them */
    bool has_chunk[CAP];
    size_t chunk_of[CAP]; /* of each line */
    size_t n_chunks;
    int64_t skipped;
} pass;

static uint32_t draw(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

/* Lines of any length and ending, blank ones, a mark, perhaps no last newline. */
static void make_text(uint32_t seed, tdm_buf *text)
{
    static const char *const ENDINGS[] = {"\n", "\n", "\r\n", "\n\n", "\n \t\r\n"};
    uint32_t state = seed * 2654435761u + 1;
    const uint32_t n = seed ? draw(&state, 40) : 0, longest = 1 + draw(&state, 3) * 45;
    text->len = 0;
    if (seed && draw(&state, 4) == 0)
        tdm_buf_put(text, "\xef\xbb\xbf", 3, NULL);
    for (uint32_t i = 0; i < n; i++) {
        const char *ending = ENDINGS[draw(&state, COUNT(ENDINGS))];
        for (uint32_t k = draw(&state, longest + 1); k > 0; k--)
            tdm_buf_put(text, &"abc\r \t"[draw(&state, 6)], 1, NULL);
        if (i + 1 < n || draw(&state, 2))
            tdm_buf_put(text, ending, strlen(ending), NULL);
    }
}

/* ---- which chunks ---- */

typedef struct {
    uint32_t rank, n_ranks; /* chunk k belongs to rank hash(k) % n_ranks */
    const pass *whole;      /* what a chunk that is passed over must be; NULL allowed */
    size_t n_passed;
    size_t n_asked;
} share;

static bool is_mine(const share *s, uint64_t number)
{
    return (uint32_t)(number * 2654435761u >> 7) % s->n_ranks == s->rank;
}

static bool is_wanted(void *ctx, size_t file, uint64_t number)
{
    share *s = ctx;
    assert_int_equal(file, 0);
    s->n_asked++;
    return is_mine(s, number);
}

static void check_chunk(const tdm_chunk *got, const tdm_chunk *want)
{
    assert_int_equal(got->file, want->file);
    assert_int_equal(got->number, want->number);
    assert_int_equal(got->skipped, want->skipped);
    assert_int_equal(got->hash, want->hash);
    assert_int_equal(got->is_last, want->is_last);
}

static tdm_status pass_chunk(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    share *s = ctx;
    (void)err;
    assert_false(is_mine(s, chunk->number));
    check_chunk(chunk, &s->whole->chunks[chunk->number]);
    s->n_passed++;
    return TDM_OK;
}

/* ---- one pass ---- */

static void note_chunk(pass *p, const tdm_line *line, uint64_t size, size_t *first)
{
    const size_t number = (size_t)line->chunk.number;
    assert_true(number < CAP && !p->has_chunk[number]);
    p->has_chunk[number] = true;
    p->chunks[number] = line->chunk;
    p->n_chunks++;
    p->skipped += line->chunk.skipped;
    for (; *first < p->n_lines; ++*first) { /* each line since the last event began in this chunk */
        assert_int_equal(p->lines[*first].offset / size, number);
        p->chunk_of[*first] = number;
    }
}

/* Read a file whole, size 0 for no chunks, or what `mine` wants. */
static void read_pass(const char *path, uint64_t size, share *mine, pass *p)
{
    tdm_err err = {0};
    tdm_lines *lines = NULL;
    tdm_inputs inputs;
    tdm_line line;
    size_t first = 0;
    tdm_lines_options options = {.max_line = MAX_LINE, .chunk_bytes = size};
    if (mine)
        options.filter = (tdm_chunk_filter){mine, is_wanted, pass_chunk};
    memset(p, 0, sizeof *p);
    assert_int_equal(tdm_inputs_list(&path, 1, NULL, &inputs, &err), TDM_OK);
    assert_int_equal(tdm_lines_open(&inputs, &options, &lines, &err), TDM_OK);
    for (;;) {
        if (tdm_lines_next(lines, &line, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        if (line.kind == TDM_LINES_END)
            break;
        assert_string_equal(line.file, path);
        assert_int_equal(line.number, 0);
        if (line.kind == TDM_LINES_CHUNK)
            note_chunk(p, &line, size, &first);
        else
            p->lines[p->n_lines++] = (seen_line){line.kind, line.line, line.offset, line.hash, line.len};
    }
    assert_true(size == 0 || first == p->n_lines);
    assert_int_equal(tdm_lines_blank(lines), size ? p->skipped : tdm_lines_blank(lines));
    if (!size)
        p->skipped = tdm_lines_blank(lines);
    uint64_t done = 0, total = 0;
    tdm_lines_progress(lines, &done, &total);
    assert_int_equal(done, total);
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
}

static void check_line(const seen_line *got, const seen_line *want)
{
    assert_int_equal(got->kind, want->kind);
    assert_int_equal(got->offset, want->offset);
    assert_int_equal(got->hash, want->hash);
    assert_int_equal(got->len, want->len);
}

/* The lines of `part` are those of `whole` that begin in chunks of its share. */
static void check_part(const pass *part, const pass *whole, const share *mine, bool lines_are_known)
{
    size_t k = 0;
    for (size_t i = 0; i < whole->n_lines; i++) {
        if (!is_mine(mine, whole->chunk_of[i]))
            continue;
        assert_true(k < part->n_lines);
        const seen_line *got = &part->lines[k++], *want = &whole->lines[i];
        check_line(got, want);
        assert_true(got->line == want->line || (got->line == 0 && !lines_are_known));
    }
    assert_int_equal(k, part->n_lines);
    for (size_t c = 0; c < CAP; c++) {
        assert_int_equal(part->has_chunk[c], whole->has_chunk[c] && is_mine(mine, c));
        if (part->has_chunk[c])
            check_chunk(&part->chunks[c], &whole->chunks[c]);
    }
}

static void check_whole(const pass *whole, const pass *plain, uint64_t size, uint64_t bytes, bool is_seekable)
{
    const size_t n = (size_t)((bytes + size - 1) / size);
    assert_int_equal(whole->n_lines, plain->n_lines);
    for (size_t i = 0; i < plain->n_lines; i++) {
        assert_int_equal(whole->lines[i].line, plain->lines[i].line);
        check_line(&whole->lines[i], &plain->lines[i]);
    }
    assert_int_equal(whole->skipped, plain->skipped);
    assert_int_equal(whole->n_chunks, n > 0 || is_seekable ? n : 1);
    for (size_t c = 0; c < whole->n_chunks; c++) {
        assert_true(whole->has_chunk[c]);
        assert_int_equal(whole->chunks[c].is_last, c + 1 == whole->n_chunks);
    }
}

/* Any number of ranks, none of which knows of the others: all that the whole pass gave, once. */
static void check_shares(const char *path, uint64_t size, const pass *whole, bool is_seekable)
{
    static pass part;
    for (uint32_t n_ranks = 1; n_ranks <= 4; n_ranks += 1 + (n_ranks == 2)) {
        size_t n_lines = 0, n_chunks = 0;
        for (uint32_t rank = 0; rank < n_ranks; rank++) {
            share mine = {.rank = rank, .n_ranks = n_ranks, .whole = whole};
            read_pass(path, size, &mine, &part);
            check_part(&part, whole, &mine, !is_seekable);
            assert_int_equal(mine.n_asked, whole->n_chunks);
            assert_int_equal(mine.n_passed, is_seekable ? 0 : whole->n_chunks - part.n_chunks);
            n_lines += part.n_lines;
            n_chunks += part.n_chunks;
        }
        assert_int_equal(n_lines, whole->n_lines);
        assert_int_equal(n_chunks, whole->n_chunks);
    }
}

static const uint64_t SIZES[] = {1, 2, 3, 7, 16, 50, 64, 333, 1 << 20};

static void check_file(const char *path, uint64_t bytes, const pass *plain, bool is_seekable)
{
    static pass whole;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        if (bytes / SIZES[i] >= CAP)
            continue;
        read_pass(path, SIZES[i], NULL, &whole);
        check_whole(&whole, plain, SIZES[i], bytes, is_seekable);
        check_shares(path, SIZES[i], &whole, is_seekable);
    }
}

/* ---- tests ---- */

static void test_any_partition(void **state)
{
    (void)state;
    static pass plain, packed;
    tdm_buf text = {0}, gz = {0}, zst = {0};
    for (uint32_t seed = 0; seed < 50; seed++) {
        gz.len = zst.len = 0;
        make_text(seed, &text);
        const size_t cut = text.len / 3; /* two members, two frames */
        assert_int_equal(tdm_compress(TDM_GZ, text.p, cut, &gz, NULL), TDM_OK);
        assert_int_equal(tdm_compress(TDM_GZ, text.p + cut, text.len - cut, &gz, NULL), TDM_OK);
        assert_int_equal(tdm_compress(TDM_ZST, text.p, cut, &zst, NULL), TDM_OK);
        assert_int_equal(tdm_compress(TDM_ZST, text.p + cut, text.len - cut, &zst, NULL), TDM_OK);
        char *paths[] = {write_file("a.jsonl", text.p, text.len), write_file("a.jsonl.gz", gz.p, gz.len),
                         write_file("a.jsonl.zst", zst.p, zst.len)};
        read_pass(paths[0], 0, NULL, &plain);
        for (size_t i = 0; i < COUNT(paths); i++) {
            read_pass(paths[i], 0, NULL, &packed);
            assert_int_equal(packed.n_lines, plain.n_lines);
            check_file(paths[i], text.len, &plain, i == 0);
        }
        for (size_t i = 0; i < COUNT(paths); i++)
            remove_file(paths[i]);
    }
    tdm_buf_free(&text);
    tdm_buf_free(&gz);
    tdm_buf_free(&zst);
}

/* A compressed file that breaks off: the complete lines before, then the damage in the place of the next line, in
 * the chunk that this would be in, which is the last. */
static void test_damaged(void **state)
{
    (void)state;
    static pass plain, whole;
    tdm_buf text = {0}, packed = {0};
    for (uint32_t seed = 200; seed < 230; seed++) {
        const tdm_codec codec = seed % 2 ? TDM_GZ : TDM_ZST;
        const char *name = seed % 2 ? "cut.gz" : "cut.zst";
        packed.len = 0;
        make_text(seed, &text);
        char *path = write_file("whole", text.p, text.len);
        read_pass(path, 0, NULL, &plain);
        remove_file(path);
        size_t cut = 0; /* in the last quarter's first member or frame */
        for (size_t at = 0; at < text.len; at += 20) {
            const size_t begin = packed.len, len = text.len - at < 20 ? text.len - at : 20;
            assert_int_equal(tdm_compress(codec, text.p + at, len, &packed, NULL), TDM_OK);
            if (at <= text.len * 3 / 4)
                cut = begin + 1 + seed * 2654435761u % (packed.len - begin - 1);
        }
        if (text.len == 0)
            continue;
        path = write_file(name, packed.p, cut);
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            read_pass(path, SIZES[i], NULL, &whole);
            assert_int_equal(whole.lines[whole.n_lines - 1].kind, TDM_LINES_DAMAGED);
            for (size_t k = 0; k + 1 < whole.n_lines; k++)
                check_line(&whole.lines[k], &plain.lines[k]);
            assert_int_equal(whole.chunk_of[whole.n_lines - 1] + 1, whole.n_chunks);
            for (size_t c = 0; c < whole.n_chunks; c++)
                assert_int_equal(whole.chunks[c].is_last, c + 1 == whole.n_chunks);
            check_shares(path, SIZES[i], &whole, false);
        }
        remove_file(path);
    }
    tdm_buf_free(&text);
    tdm_buf_free(&packed);
}

/* Chunks larger than any buffer, so that reads straddle them, and lines longer than a chunk. */
static void test_large_chunks(void **state)
{
    (void)state;
    static pass plain, whole, part;
    enum { LINES = 1500, SIZE = 100000 };
    tdm_buf text = {0};
    uint32_t random = 5;
    for (int i = 0; i < LINES; i++) {
        const uint32_t n = i % 100 == 50 ? 250000 : draw(&random, 2000);
        for (uint32_t k = 0; k < n; k++)
            tdm_buf_put(&text, &"0123456789"[draw(&random, 10)], 1, NULL);
        tdm_buf_put(&text, "\n", 1, NULL);
    }
    char *path = write_file("large.jsonl", text.p, text.len);
    read_pass(path, 0, NULL, &plain);
    read_pass(path, SIZE, NULL, &whole);
    check_whole(&whole, &plain, SIZE, text.len, true);
    for (uint32_t rank = 0; rank < 3; rank++) {
        share mine = {.rank = rank, .n_ranks = 3, .whole = &whole};
        read_pass(path, SIZE, &mine, &part);
        check_part(&part, &whole, &mine, false);
    }
    remove_file(path);
    tdm_buf_free(&text);
}

/* The number of a line, asked for forwards, backwards and in another file. */
static void test_line_number(void **state)
{
    (void)state;
    static pass plain;
    tdm_line_counter counter = TDM_LINE_COUNTER_NONE;
    tdm_err err = {0};
    tdm_buf text = {0};
    int64_t line = 0;
    for (uint32_t seed = 0; seed < 10; seed++) {
        make_text(seed, &text);
        char *path = write_file("number.jsonl", text.p, text.len);
        read_pass(path, 0, NULL, &plain);
        for (size_t i = 0; i < plain.n_lines; i++) {
            const seen_line *want = &plain.lines[seed % 2 ? i : plain.n_lines - 1 - i];
            assert_int_equal(tdm_line_number(&counter, path, seed, want->offset, NULL, &line, &err), TDM_OK);
            assert_int_equal(line, want->line);
        }
        assert_int_equal(tdm_line_number(&counter, path, seed, text.len + 1, NULL, &line, &err), TDM_EIO);
        assert_non_null(strstr(err.msg, path));
        remove_file(path);
    }
    assert_int_equal(tdm_line_number(&counter, "/nowhere/a", 99, 5, NULL, &line, &err), TDM_ENOINPUT);
    tdm_line_counter_close(&counter);
    tdm_line_counter_close(&counter);
    tdm_buf_free(&text);
}

/* The hash of a chunk knows each byte of its lines, where they begin, and how many are blank. */
static void test_chunk_hash(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"abc\ndef\n",   "abd\ndef\n",   "abc\ndeg\n", "abc\n\ndef\n",
                                        "abc\r\ndef\n", "abc\ndef\n\n", "abcdef\n",   "",
                                        "\n",           "\n\n"};
    static pass passes[COUNT(TEXTS)];
    for (size_t i = 0; i < COUNT(TEXTS); i++) {
        tdm_buf zst = {0};
        assert_int_equal(tdm_compress(TDM_ZST, TEXTS[i], strlen(TEXTS[i]), &zst, NULL), TDM_OK);
        char *path = write_file("hash.zst", zst.p, zst.len);
        read_pass(path, 1 << 20, NULL, &passes[i]);
        assert_int_equal(passes[i].n_chunks, 1);
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(passes[k].chunks[0].hash, passes[i].chunks[0].hash);
        remove_file(path);
        tdm_buf_free(&zst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_partition), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_large_chunks),  cmocka_unit_test(test_line_number),
        cmocka_unit_test(test_chunk_hash),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
