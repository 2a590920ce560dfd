/* The journals: what is written into them, and all of them as one index.
 *
 * A journal is lines of text. The first names the format, the job (a hash of its manifest) and the
 * rank; each of the others is a chunk: FILE CHUNK LAST HASH  DATA HASH  ERRORS HASH  TOKENS OK BAD
 * SKIPPED FAULT...  SUM with lengths of data and errors in bytes, a count for each of
 * TDM_FAULTS_CAP faults, and, of the bytes before it, a checksum. Where data and errors lie is the
 * sum of the lengths before them. Reading ends at the first line that is not as it was written, be
 * it torn at the end or damaged before it: what is behind counts for nothing and is done again. */
#include "host/job_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUM_TEXT = 16 };
#define MOST_CHUNKS ((uint64_t)1 << 32) /* of one file: 4 PiB */

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
    e->number = next_number(&f, MOST_CHUNKS - 1);
    e->is_last = next_number(&f, 1) == 1;
    e->hash = next_hash(&f, true);
    e->data_len = next_number(&f, INT64_MAX);
    e->data_hash = next_hash128(&f);
    e->errors_len = next_number(&f, INT64_MAX);
    e->errors_hash = next_hash128(&f);
    *tokens = next_number(&f, INT64_MAX);
    counts->ok = (int64_t)next_number(&f, INT64_MAX);
    counts->bad = (int64_t)next_number(&f, INT64_MAX);
    counts->skipped = (int64_t)next_number(&f, INT64_MAX);
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        counts->by_fault[i] = (int64_t)next_number(&f, INT64_MAX);
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

static tdm_status add_entry(job_index *x, const job_entry *e, const tdm_counts *counts,
                            uint64_t tokens, tdm_err *err);

typedef struct {
    scan lines;
    uint32_t rank;
    uint64_t data, errors; /* sizes of the files: what a line promises beyond them is not there */
    job_ends ends;
} journal;

static tdm_status read_chunks(journal *j, job_index *x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *line;
    size_t len;
    for (;;) {
        job_entry e = {.rank = j->rank, .data_at = j->ends.data, .errors_at = j->ends.errors};
        tdm_counts counts;
        uint64_t tokens;
        TDM_TRY(next_line(&j->lines, &line, &len, err));
        if (!line || !read_line(line, len, &e, &counts, &tokens) || e.file >= x->n_files ||
            e.number >= x->n_chunks[e.file] || e.data_len > j->data - e.data_at ||
            e.errors_len > j->errors - e.errors_at)
            break;
        TDM_TRY(add_entry(x, &e, &counts, tokens, err));
        j->ends.journal += len + 1;
        j->ends.data += e.data_len;
        j->ends.errors += e.errors_len;
        j->ends.chunks++;
    }
done:
    return st;
}

/* A process of that rank may be writing: the journal's size is taken first, since what it names by
 * then is in the other two. */
static tdm_status read_journal(job_index *x, const char *folder, uint64_t id, journal *j,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf head = {0};
    const char *line = NULL;
    size_t len = 0;
    TDM_TRY(open_part(folder, j->rank, "journal", &j->lines.fd, &j->lines.left, err));
    TDM_TRY(size_of_part(folder, j->rank, "data", &j->data, err));
    TDM_TRY(size_of_part(folder, j->rank, "errors", &j->errors, err));
    TDM_TRY(job_journal_head(id, j->rank, &head, err));
    TDM_TRY(next_line(&j->lines, &line, &len, err));
    if (!line || len + 1 != head.len || memcmp(line, head.p, head.len) != 0)
        goto done;
    j->ends.journal = head.len;
    TDM_TRY(read_chunks(j, x, err));
done:
    if (st != TDM_OK)
        tdm_context(err, st, "%s/%" PRIu32 ".journal", folder, j->rank);
    if (j->lines.fd >= 0)
        close(j->lines.fd);
    tdm_buf_free(&head);
    return st;
}

/* ---- the index ---- */

tdm_status job_index_open(job_index *x, size_t n_files, const uint64_t *n_chunks, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *x = (job_index){.n_files = n_files};
    x->n_chunks = malloc((n_files ? n_files : 1) * sizeof *x->n_chunks);
    x->done = calloc(n_files ? n_files : 1, sizeof *x->done);
    TDM_REQUIRE(x->n_chunks && x->done, TDM_ENOMEM, "the chunks of %zu files", n_files);
    for (size_t i = 0; i < n_files; i++)
        x->n_chunks[i] = n_chunks[i];
done:
    return st;
}

void job_index_close(job_index *x)
{
    for (size_t i = 0; x->done && i < x->n_files; i++)
        free(x->done[i].words);
    free(x->done);
    free(x->n_chunks);
    free(x->entries);
    *x = (job_index){0};
}

bool job_index_has(const job_index *x, size_t file, uint64_t number)
{
    return file < x->n_files && number / 64 < x->done[file].n &&
           (x->done[file].words[number / 64] >> number % 64 & 1);
}

static tdm_status set_done(struct job_bits *b, uint64_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (number / 64 >= b->n) {
        const uint64_t n = (number / 64 + 1) * 2;
        uint64_t *words = realloc(b->words, n * sizeof *words);
        TDM_REQUIRE(words, TDM_ENOMEM, "a list of %" PRIu64 " chunks", n * 64);
        memset(words + b->n, 0, (n - b->n) * sizeof *words);
        b->words = words;
        b->n = n;
    }
    b->words[number / 64] |= (uint64_t)1 << number % 64;
done:
    return st;
}

void job_counts_add(tdm_counts *to, const tdm_counts *from)
{
    to->ok += from->ok;
    to->bad += from->bad;
    to->skipped += from->skipped;
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        to->by_fault[i] += from->by_fault[i];
}

/* A chunk that another rank has committed too counts once: both are equal. */
static tdm_status add_entry(job_index *x, const job_entry *e, const tdm_counts *counts,
                            uint64_t tokens, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (job_index_has(x, e->file, e->number))
        goto done;
    if (x->n == x->cap) {
        const size_t cap = x->cap ? x->cap * 2 : 64;
        job_entry *entries = realloc(x->entries, cap * sizeof *entries);
        TDM_REQUIRE(entries, TDM_ENOMEM, "an index of %zu chunks", cap);
        x->entries = entries;
        x->cap = cap;
    }
    TDM_TRY(set_done(&x->done[e->file], e->number, err));
    x->entries[x->n++] = *e;
    if (e->is_last && x->n_chunks[e->file] == TDM_CHUNKS_UNKNOWN)
        x->n_chunks[e->file] = e->number + 1;
    job_counts_add(&x->totals.counts, counts);
    x->totals.tokens += tokens;
    x->totals.bytes += e->data_len;
    x->totals.chunks_done++;
done:
    return st;
}

static int by_place(const void *a, const void *b)
{
    const job_entry *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

const job_entry *job_index_find(const job_index *x, size_t file, uint64_t number)
{
    if (!job_index_has(x, file, number))
        return NULL;
    const job_entry key = {.file = (uint32_t)file, .number = number};
    return bsearch(&key, x->entries, x->n, sizeof key, by_place);
}

static int by_rank(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The ranks that have a journal, in order. */
static tdm_status list_ranks(const char *folder, uint32_t **ranks, size_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t cap = 0;
    DIR *dir = opendir(folder);
    if (!dir && errno == ENOENT)
        goto done;
    TDM_REQUIRE(dir, TDM_EIO, "%s: cannot be listed: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(dir));) {
        uint32_t rank;
        if (!job_part_rank(e->d_name, &rank))
            continue;
        if (*n == cap) {
            cap = cap ? cap * 2 : 16;
            uint32_t *more = realloc(*ranks, cap * sizeof *more);
            TDM_REQUIRE(more, TDM_ENOMEM, "a list of %zu ranks", cap);
            *ranks = more;
        }
        (*ranks)[(*n)++] = rank;
    }
    if (*n)
        qsort(*ranks, *n, sizeof **ranks, by_rank);
done:
    if (dir)
        closedir(dir);
    return st;
}

tdm_status job_index_load(job_index *x, const char *folder, uint64_t id, job_seen seen, void *ctx,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint32_t *ranks = NULL;
    size_t n = 0;
    journal *j = malloc(sizeof *j);
    TDM_REQUIRE(j, TDM_ENOMEM, "a buffer for journals");
    TDM_TRY(list_ranks(folder, &ranks, &n, err));
    for (size_t i = 0; i < n; i++) {
        *j = (journal){.rank = ranks[i], .lines.fd = -1};
        TDM_TRY(read_journal(x, folder, id, j, err));
        if (seen)
            TDM_TRY(seen(ctx, ranks[i], &j->ends, err));
    }
    if (x->n)
        qsort(x->entries, x->n, sizeof *x->entries, by_place);
done:
    free(ranks);
    free(j);
    return st;
}

uint64_t job_chunks_total(const uint64_t *n_chunks, size_t n_files)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n_files; i++)
        if (n_chunks[i] == TDM_CHUNKS_UNKNOWN || __builtin_add_overflow(total, n_chunks[i], &total))
            return TDM_CHUNKS_UNKNOWN;
    return total;
}

/* Chunks beyond the last of a file, which no run commits, would be too many. */
bool job_index_is_full(const job_index *x)
{
    size_t at = 0;
    for (size_t f = 0; f < x->n_files; f++) {
        if (x->n_chunks[f] == TDM_CHUNKS_UNKNOWN)
            return false;
        for (uint64_t k = 0; k < x->n_chunks[f]; k++, at++)
            if (at == x->n || x->entries[at].file != f || x->entries[at].number != k)
                return false;
    }
    return at == x->n;
}
