#include "tests/crash/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What a line says of the bytes of its chunk. */
typedef struct {
    uint64_t data_len, errors_len;
    XXH128_hash_t data, errors;
} chunk_line;

/* FILE CHUNK LAST HASH  LENGTH HASH  LENGTH HASH ... */
static bool read_chunk_line(const char *line, chunk_line *c)
{
    return sscanf(line,
                  "%*u %*u %*d %*16s %" SCNu64 " %16" SCNx64 "%16" SCNx64 " %" SCNu64 " %16" SCNx64
                  "%16" SCNx64 " ",
                  &c->data_len, &c->data.high64, &c->data.low64, &c->errors_len, &c->errors.high64,
                  &c->errors.low64) == 6;
}

/* The journal as text that ends in NUL. */
static void load_part(const char *out, int rank, const char *of, tdm_buf *text)
{
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s.job/%d.%s", out, rank, of);
    load(path, text);
    EXPECT(tdm_buf_put(text, "", 1, NULL) == TDM_OK, "no memory");
    text->len--;
}

/* The line behind *at without its newline, made a string; NULL when none ends any more. */
static char *next_line(tdm_buf *text, size_t *at)
{
    char *line = text->p + *at, *end = memchr(line, '\n', text->len - *at);
    if (!end)
        return NULL;
    *end = '\0';
    *at = (size_t)(end - text->p) + 1;
    return line;
}

void journal_read(journal_chunks *c, const char *out, int rank)
{
    tdm_buf text = {0};
    size_t at = 0;
    *c = (journal_chunks){0};
    load_part(out, rank, "journal", &text);
    next_line(&text, &at); /* what it is the journal of */
    for (const char *line; (line = next_line(&text, &at)); c->n++) {
        chunk_line chunk;
        EXPECT(read_chunk_line(line, &chunk), "a journal's line: %s", line);
        c->lens = realloc(c->lens, (c->n + 1) * sizeof *c->lens);
        EXPECT(c->lens, "no memory");
        c->lens[c->n] = chunk.data_len;
        c->bytes += chunk.data_len;
    }
    tdm_buf_free(&text);
}

void journal_free(journal_chunks *c)
{
    free(c->lens);
}

/* Where the last rename is about to give OUT its name, all chunks are in the journal. */
void journal_of_reference(journal_chunks *c, const workload *w)
{
    journal_chunks before = {0};
    for (int n = 1;; n++) {
        char fault[32];
        const run r = {.w = w, .out = try_out(w), .fault = fault};
        snprintf(fault, sizeof fault, "rename:%d:kill", n);
        if (run_to_end(&r) != -9)
            break;
        journal_free(&before);
        journal_read(&before, r.out, 0);
    }
    EXPECT(before.n > 0 && before.bytes == w->ref.out.len,
           "%s: a journal of %" PRIu64 " bytes for %zu", w->name, before.bytes, w->ref.out.len);
    *c = before;
}

static bool is_hash_of(XXH128_hash_t hash, const tdm_buf *text, uint64_t at, uint64_t len)
{
    return at + len <= text->len && XXH128_isEqual(hash, XXH3_128bits(text->p + at, len));
}

/* A line ends with the hash of what is before that. */
static bool is_as_written(const char *line, size_t len)
{
    const size_t sum = 16;
    return len > sum && strtoull(line + len - sum, NULL, 16) == XXH3_64bits(line, len - sum);
}

size_t journal_good_lines(const tdm_buf *journal)
{
    size_t n = 0;
    const char *p = journal->p, *end = journal->p + journal->len;
    for (const char *stop; p < end && (stop = memchr(p, '\n', (size_t)(end - p)));
         p = stop + 1, n++)
        if (!is_as_written(p, (size_t)(stop - p)))
            break;
    return n ? n - 1 : 0; /* the first is about the journal itself */
}

void journal_verify(const char *out, int rank, size_t n_want)
{
    tdm_buf text = {0}, data = {0}, errors = {0};
    size_t at = 0, n = 0;
    uint64_t data_at = 0, errors_at = 0;
    load_part(out, rank, "journal", &text);
    load_part(out, rank, "data", &data);
    load_part(out, rank, "errors", &errors);
    next_line(&text, &at);
    for (const char *line; n < n_want; n++) {
        chunk_line c;
        line = next_line(&text, &at);
        EXPECT(line && read_chunk_line(line, &c),
               "chunk %zu of %zu is not in the journal of rank %d", n, n_want, rank);
        EXPECT(is_hash_of(c.data, &data, data_at, c.data_len), "the data of chunk %zu is lost", n);
        EXPECT(is_hash_of(c.errors, &errors, errors_at, c.errors_len),
               "the errors of chunk %zu are lost", n);
        data_at += c.data_len;
        errors_at += c.errors_len;
    }
    tdm_buf_free(&text);
    tdm_buf_free(&data);
    tdm_buf_free(&errors);
}

size_t journal_lines(const char *out)
{
    journal_chunks c = {0};
    journal_read(&c, out, 0);
    journal_free(&c);
    return c.n;
}
