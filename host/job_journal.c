/* A journal is lines of text. The first names the format, the job (a hash of its manifest) and the
 * rank; each of the others is a chunk: FILE CHUNK LAST HASH  DATA HASH  ERRORS HASH  TOKENS OK BAD
 * SKIPPED FAULT...  SUM with lengths of data and errors in bytes, a count for each of
 * TDM_FAULTS_CAP faults (at first there were FIRST_FAULTS; such lines are read too), and, of the bytes
 * before it, a checksum. Where data and errors lie is the sum of the lengths before them. Reading ends at the
 * first line that is not as it was written, be it torn at the end or damaged before it: what is behind
 * counts for nothing and is done again. */
#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUM_TEXT = 16, FIRST_FAULTS = 16 };
#define MOST_COUNT ((uint64_t)1 << 40) /* of a chunk, which has far fewer; 2^22 such lines add up */

/* ---- writing ---- */

/* Append the checksum of what stands behind `from`, and a newline. */
static tdm_status put_sum(tdm_buf *out, size_t from, tdm_err *err)
{
    return tdm_buf_printf(out, err, "%016" PRIx64 "\n",
                          (uint64_t)XXH3_64bits(out->p + from, out->len - from));
}

tdm_status job_journal_head(uint64_t id, uint32_t rank, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t from = out->len;
    TDM_TRY(tdm_buf_printf(out, err, "tandem-journal 1 %016" PRIx64 " %" PRIu32 " ", id, rank));
    TDM_TRY(put_sum(out, from, err));
done:
    return st;
}

tdm_status job_journal_line(const tdm_chunk_result *r, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t from = out->len;
    const XXH128_hash_t data = XXH3_128bits(r->data, r->len);
    const XXH128_hash_t errors = XXH3_128bits(r->errors, r->errors_len);
    TDM_TRY(tdm_buf_printf(out, err, "%zu %" PRIu64 " %d %016" PRIx64, r->chunk.file,
                           r->chunk.number, r->chunk.is_last, r->chunk.hash));
    TDM_TRY(tdm_buf_printf(out, err, " %zu %016" PRIx64 "%016" PRIx64, r->len,
                           (uint64_t)data.high64, (uint64_t)data.low64));
    TDM_TRY(tdm_buf_printf(out, err, " %zu %016" PRIx64 "%016" PRIx64, r->errors_len,
                           (uint64_t)errors.high64, (uint64_t)errors.low64));
    TDM_TRY(tdm_buf_printf(out, err, " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64, r->tokens,
                           r->counts.ok, r->counts.bad, r->counts.skipped));
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        TDM_TRY(tdm_buf_printf(out, err, " %" PRId64, r->counts.by_fault[i]));
    TDM_TRY(tdm_buf_put(out, " ", 1, err));
    TDM_TRY(put_sum(out, from, err));
done:
    return st;
}

/* ---- reading a line ---- */

typedef struct {
    const char *p, *end;
    bool bad; /* something was not as expected */
} fields;

/* A number and the blank behind it. */
static uint64_t next_number(fields *f, uint64_t most)
{
    uint64_t value = 0;
    const char *start = f->p;
    for (; f->p < f->end && *f->p >= '0' && *f->p <= '9'; f->p++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*f->p - '0'), &value))
            f->bad = true;
    f->bad = f->bad || f->p == start || f->p == f->end || *f->p++ != ' ' || value > most;
    return f->bad ? 0 : value;
}

/* 16 digits and, unless another hash follows at once, the blank behind them. */
static uint64_t next_hash(fields *f, bool blank)
{
    uint64_t value = 0;
    for (int i = 0; i < SUM_TEXT && !f->bad; i++) {
        const char c = f->p < f->end ? *f->p++ : '?';
        const bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
        f->bad = !digit && !letter;
        value = value << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    f->bad = f->bad || (blank && (f->p == f->end || *f->p++ != ' '));
    return value;
}

static XXH128_hash_t next_hash128(fields *f)
{
    XXH128_hash_t hash;
    hash.high64 = next_hash(f, false);
    hash.low64 = next_hash(f, true);
    return hash;
}

/* line [len] without its newline. Returns false when it is not as it was written. */
static bool read_line(const char *line, size_t len, job_entry *e, tdm_counts *counts,
                      uint64_t *tokens)
{
    if (len < SUM_TEXT)
        return false;
    fields sum = {.p = line + len - SUM_TEXT, .end = line + len};
    fields f = {.p = line, .end = line + len - SUM_TEXT};
    if (next_hash(&sum, false) != XXH3_64bits(line, len - SUM_TEXT) || sum.bad)
        return false;
    e->file = (uint32_t)next_number(&f, UINT32_MAX);
    e->number = next_number(&f, JOB_MOST_CHUNKS - 1);
    e->is_last = next_number(&f, 1) == 1;
    e->hash = next_hash(&f, true);
    e->data_len = next_number(&f, INT64_MAX);
    e->data_hash = next_hash128(&f);
    e->errors_len = next_number(&f, INT64_MAX);
    e->errors_hash = next_hash128(&f);
    *tokens = next_number(&f, MOST_COUNT);
    counts->ok = (int64_t)next_number(&f, MOST_COUNT);
    counts->bad = (int64_t)next_number(&f, MOST_COUNT);
    counts->skipped = (int64_t)next_number(&f, MOST_COUNT);
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        counts->by_fault[i] = i < FIRST_FAULTS || f.p < f.end ? (int64_t)next_number(&f, MOST_COUNT) : 0;
    return !f.bad && f.p == f.end;
}

/* ---- reading a journal ---- */

/* A file as lines, of which none may be longer than the buffer. */
typedef struct {
    int fd;
    uint64_t left; /* bytes not yet read */
    size_t at, n;  /* of buf */
    char buf[64 << 10];
} scan;

/* *line is NULL behind the last line that ends in a newline. */
static tdm_status next_line(scan *s, const char **line, size_t *len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *line = NULL;
    for (;;) {
        const char *end = memchr(s->buf + s->at, '\n', s->n - s->at);
        if (end) {
            *line = s->buf + s->at;
            *len = (size_t)(end - *line);
            s->at += *len + 1;
            break;
        }
        s->n -= s->at;
        memmove(s->buf, s->buf + s->at, s->n);
        s->at = 0;
        const size_t room = sizeof s->buf - s->n, want = s->left < room ? (size_t)s->left : room;
        if (want == 0)
            break;
        const ssize_t got = read(s->fd, s->buf + s->n, want);
        if (got < 0 && errno == EINTR)
            continue;
        TDM_REQUIRE(got >= 0, TDM_EIO, "reading: %s", strerror(errno));
        s->n += (size_t)got;
        s->left = got > 0 ? s->left - (uint64_t)got : 0;
    }
done:
    return st;
}

/* Open a file of a rank for its size. *fd is -1 where there is none. */
static tdm_status open_part(const char *folder, uint32_t rank, const char *of, int *fd,
                            uint64_t *size, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info = {0};
    char *path = job_part(folder, rank, of);
    *size = 0;
    TDM_REQUIRE(path, TDM_ENOMEM, "the name of a file of rank %" PRIu32, rank);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd < 0 && errno == ENOENT)
        goto done;
    TDM_REQUIRE(*fd >= 0 && fstat(*fd, &info) == 0, TDM_EIO, "%s: %s", path, strerror(errno));
    *size = (uint64_t)info.st_size;
done:
    free(path);
    return st;
}

static tdm_status size_of_part(const char *folder, uint32_t rank, const char *of, uint64_t *size,
                               tdm_err *err)
{
    int fd = -1;
    const tdm_status st = open_part(folder, rank, of, &fd, size, err);
    if (fd >= 0)
        close(fd);
    return st;
}

typedef struct {
    scan lines;
    uint32_t rank;
    uint64_t data, errors; /* sizes of the files: what a line promises beyond them is not there */
    job_ends ends;
} reader;

static tdm_status read_chunks(reader *r, job_index *x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *line;
    size_t len;
    for (;;) {
        job_entry e = {.rank = r->rank, .data_at = r->ends.data, .errors_at = r->ends.errors};
        tdm_counts counts;
        uint64_t tokens;
        TDM_TRY(next_line(&r->lines, &line, &len, err));
        if (!line || !read_line(line, len, &e, &counts, &tokens) || e.file >= x->n_files ||
            e.number >= x->n_chunks[e.file] || e.data_len > r->data - e.data_at ||
            e.errors_len > r->errors - e.errors_at)
            break;
        TDM_TRY(job_index_add(x, &e, &counts, tokens, err));
        r->ends.journal += len + 1;
        r->ends.data += e.data_len;
        r->ends.errors += e.errors_len;
        r->ends.chunks++;
    }
done:
    return st;
}

/* A process of that rank may be writing: the journal's size is taken first, since what it names by
 * then is in the other two. */
static tdm_status read_all(reader *r, const char *folder, uint64_t id, job_index *x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf head = {0};
    const char *line = NULL;
    size_t len = 0;
    TDM_TRY(open_part(folder, r->rank, "journal", &r->lines.fd, &r->lines.left, err));
    TDM_TRY(size_of_part(folder, r->rank, "data", &r->data, err));
    TDM_TRY(size_of_part(folder, r->rank, "errors", &r->errors, err));
    TDM_TRY(job_journal_head(id, r->rank, &head, err));
    TDM_TRY(next_line(&r->lines, &line, &len, err));
    if (!line || len + 1 != head.len || memcmp(line, head.p, head.len) != 0)
        goto done;
    r->ends.journal = head.len;
    TDM_TRY(read_chunks(r, x, err));
done:
    if (r->lines.fd >= 0)
        close(r->lines.fd);
    tdm_buf_free(&head);
    return st;
}

tdm_status job_journal_read(const char *folder, uint32_t rank, uint64_t id, job_index *x,
                            job_ends *ends, tdm_err *err)
{
    tdm_status st = TDM_OK;
    reader *r = malloc(sizeof *r);
    TDM_REQUIRE(r, TDM_ENOMEM, "a buffer for a journal");
    *r = (reader){.rank = rank, .lines.fd = -1};
    st = read_all(r, folder, id, x, err);
    *ends = r->ends;
done:
    free(r);
    return st == TDM_OK ? st : tdm_context(err, st, "%s/%" PRIu32 ".journal", folder, rank);
}
