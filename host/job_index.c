#include "host/job_state.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

tdm_status job_index_add(job_index *x, const job_entry *e, const tdm_counts *counts,
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
    TDM_TRY(list_ranks(folder, &ranks, &n, err));
    for (size_t i = 0; i < n; i++) {
        job_ends ends = {0};
        TDM_TRY(job_journal_read(folder, ranks[i], id, x, &ends, err));
        TDM_TRY(seen(ctx, ranks[i], &ends, err));
    }
    if (x->n)
        qsort(x->entries, x->n, sizeof *x->entries, by_place);
done:
    free(ranks);
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
