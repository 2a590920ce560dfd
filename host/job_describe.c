#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FEW_FILES = 16 };

/* ---- what a manifest says of the inputs ---- */

typedef struct {
    size_t n;
    uint64_t *n_chunks, *sizes; /* [n] owned; a size is 0 where it is unknown */
} inputs;

static void inputs_free(inputs *in)
{
    free(in->n_chunks);
    free(in->sizes);
}

static tdm_status read_inputs(const cJSON *job, inputs *in, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(job, "inputs"), *item = NULL;
    const int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 1;
    in->n_chunks = calloc((size_t)n + 1, sizeof *in->n_chunks);
    in->sizes = calloc((size_t)n + 1, sizeof *in->sizes);
    TDM_REQUIRE(in->n_chunks && in->sizes, TDM_ENOMEM, "a list of %d inputs", n);
    if (!cJSON_IsArray(list))
        in->n_chunks[in->n++] = job_number(job, "chunks", TDM_CHUNKS_UNKNOWN);
    else
        cJSON_ArrayForEach(item, list)
        {
            in->n_chunks[in->n] = job_number(item, "chunks", TDM_CHUNKS_UNKNOWN);
            in->sizes[in->n++] = job_number(item, "size", 0);
        }
done:
    return st;
}

/* ---- who is at work ---- */

typedef struct {
    uint32_t rank;
    job_ends ends;
} part;

typedef struct {
    part *items; /* [n] owned */
    size_t n, cap;
} parts;

static tdm_status add_part(void *ctx, uint32_t rank, const job_ends *ends, tdm_err *err)
{
    tdm_status st = TDM_OK;
    parts *p = ctx;
    if (p->n == p->cap) {
        const size_t cap = p->cap ? p->cap * 2 : 16;
        part *items = realloc(p->items, cap * sizeof *items);
        TDM_REQUIRE(items, TDM_ENOMEM, "a list of %zu ranks", cap);
        p->items = items;
        p->cap = cap;
    }
    p->items[p->n++] = (part){.rank = rank, .ends = *ends};
done:
    return st;
}

static int by_rank(const void *a, const void *b)
{
    const part *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Ranks at work that have committed nothing yet have no journal. */
static tdm_status add_idle(parts *p, int lock, int64_t count, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = p->n; /* by rank */
    size_t at = 0;
    for (uint32_t rank = 0; rank < count; rank++) {
        while (at < n && p->items[at].rank < rank)
            at++;
        if ((at == n || p->items[at].rank != rank) && job_lock_held(lock, rank))
            TDM_TRY(add_part(p, rank, &(job_ends){0}, err));
    }
    if (p->n)
        qsort(p->items, p->n, sizeof *p->items, by_rank);
done:
    return st;
}

/* ---- the object ---- */

static tdm_status put_chunks(tdm_buf *out, uint64_t done, uint64_t total, tdm_err *err)
{
    if (total == TDM_CHUNKS_UNKNOWN)
        return tdm_buf_printf(out, err, ", \"chunks\": {\"done\": %" PRIu64 ", \"total\": null}",
                              done);
    return tdm_buf_printf(out, err, ", \"chunks\": {\"done\": %" PRIu64 ", \"total\": %" PRIu64 "}",
                          done, total);
}

static tdm_status put_command(tdm_buf *out, const cJSON *job, tdm_err *err)
{
    const cJSON *command = cJSON_GetObjectItemCaseSensitive(job, "command");
    const char *text = cJSON_IsString(command) ? command->valuestring : "";
    return tdm_json_put_string(out, text, strlen(text), err);
}

static tdm_status put_ranks(tdm_buf *out, const parts *p, int lock, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < p->n; i++) {
        const part *r = &p->items[i];
        TDM_TRY(tdm_buf_printf(out, err,
                               "%s{\"rank\": %" PRIu32 ", \"chunks\": %" PRIu64
                               ", \"bytes\": %" PRIu64 ", \"at_work\": %s}",
                               i ? ", " : "", r->rank, r->ends.chunks, r->ends.data,
                               lock >= 0 && job_lock_held(lock, r->rank) ? "true" : "false"));
    }
done:
    return st;
}

static uint64_t bytes_done(const job_index *x, const inputs *in)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < x->n; i++) {
        const uint64_t n = in->n_chunks[x->entries[i].file], size = in->sizes[x->entries[i].file];
        if (n != TDM_CHUNKS_UNKNOWN && n > 0)
            sum += size / n + (x->entries[i].number < size % n);
    }
    return sum;
}

/* Of few inputs, what is done of each. */
static tdm_status put_files(tdm_buf *out, const cJSON *job, const job_index *x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(job, "inputs"), *item = NULL;
    uint64_t done[FEW_FILES] = {0};
    size_t file = 0;
    if (!cJSON_IsArray(list) || x->n_files > FEW_FILES)
        goto done;
    for (size_t i = 0; i < x->n; i++)
        done[x->entries[i].file]++;
    TDM_TRY(tdm_buf_printf(out, err, ", \"files\": ["));
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *path = cJSON_GetObjectItemCaseSensitive(item, "path");
        const char *name = cJSON_IsString(path) ? path->valuestring : "";
        TDM_TRY(tdm_buf_printf(out, err, "%s{\"path\": ", file ? ", " : ""));
        TDM_TRY(tdm_json_put_string(out, name, strlen(name), err));
        TDM_TRY(put_chunks(out, done[file], x->n_chunks[file], err));
        TDM_TRY(tdm_buf_printf(out, err, "}"));
        file++;
    }
    TDM_TRY(tdm_buf_printf(out, err, "]"));
done:
    return st;
}

static tdm_status put_state(tdm_buf *out, const cJSON *job, const inputs *in, const job_index *x,
                            const parts *p, int lock, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t size = 0;
    for (size_t i = 0; i < in->n; i++)
        size += in->sizes[i];
    TDM_TRY(tdm_buf_printf(out, err, "{\"command\": "));
    TDM_TRY(put_command(out, job, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"complete\": false, \"joining\": %s",
                           lock >= 0 && job_lock_joining(lock) ? "true" : "false"));
    TDM_TRY(put_chunks(out, x->totals.chunks_done, job_chunks_total(x->n_chunks, x->n_files), err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"counts\": "));
    TDM_TRY(job_counts_put(out, &x->totals.counts, err));
    TDM_TRY(tdm_buf_printf(out, err,
                           ", \"tokens\": %" PRIu64 ", \"bytes\": %" PRIu64
                           ", \"input\": {\"done\": %" PRIu64 ", \"total\": %" PRIu64
                           "}, \"ranks\": [",
                           x->totals.tokens, x->totals.bytes, bytes_done(x, in), size));
    TDM_TRY(put_ranks(out, p, lock, err));
    TDM_TRY(tdm_buf_printf(out, err, "]"));
    TDM_TRY(put_files(out, job, x, err));
    TDM_TRY(tdm_buf_printf(out, err, "}"));
done:
    return st;
}

/* ---- a folder, or the manifest that stays ---- */

static tdm_status describe_folder(const char *folder, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    tdm_json *doc = NULL;
    inputs in = {0};
    job_index x = {0};
    parts p = {0};
    int lock = -1;
    char *manifest = job_path(folder, "manifest.json"), *lock_path = job_path(folder, "lock");
    TDM_REQUIRE(manifest && lock_path, TDM_ENOMEM, "the names in %s", folder);
    TDM_REQUIRE(access(manifest, F_OK) == 0, TDM_ENOINPUT, "%s: no job: it has no manifest.json",
                folder);
    TDM_TRY(job_manifest_load(manifest, &text, &doc, err));
    TDM_TRY(read_inputs(tdm_json_root(doc), &in, err));
    TDM_TRY(job_index_open(&x, in.n, in.n_chunks, err));
    TDM_TRY(job_index_load(&x, folder, XXH3_64bits(text.p, text.len), add_part, &p, err));
    lock = open(lock_path, O_RDONLY | O_CLOEXEC);
    TDM_TRY(add_idle(&p, lock, lock >= 0 ? job_lock_count(lock) : 0, err));
    TDM_TRY(put_state(out, tdm_json_root(doc), &in, &x, &p, lock, err));
done:
    if (lock >= 0)
        close(lock);
    free(p.items);
    job_index_close(&x);
    inputs_free(&in);
    tdm_json_close(doc);
    tdm_buf_free(&text);
    free(manifest);
    free(lock_path);
    return st;
}

/* Append a member's source bytes, or null. */
static tdm_status put_member(tdm_buf *out, const tdm_json *doc, const char *text, const char *key,
                             tdm_err *err)
{
    size_t n = 0;
    const tdm_json_member *m = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(m[i].key, key))
            return tdm_buf_put(out, text + m[i].value_at, m[i].value_len, err);
    return tdm_buf_put(out, "null", 4, err);
}

static tdm_status describe_manifest(const char *path, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    tdm_json *doc = NULL;
    TDM_TRY(job_manifest_load(path, &text, &doc, err));
    const cJSON *root = tdm_json_root(doc);
    const cJSON *job = cJSON_GetObjectItemCaseSensitive(root, "job");
    const cJSON *made = cJSON_GetObjectItemCaseSensitive(root, "out");
    const uint64_t chunks = job_number(root, "chunks", 0);
    TDM_REQUIRE(job && made, TDM_EFORMAT, "%s: not the manifest of a finished job", path);
    TDM_TRY(tdm_buf_printf(out, err, "{\"command\": "));
    TDM_TRY(put_command(out, job, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"complete\": true"));
    TDM_TRY(put_chunks(out, chunks, chunks, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"counts\": "));
    TDM_TRY(put_member(out, doc, text.p, "counts", err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"tokens\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"out\": ",
                           job_number(root, "tokens", 0), job_number(made, "bytes", 0)));
    TDM_TRY(put_member(out, doc, text.p, "out", err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"errors\": "));
    TDM_TRY(put_member(out, doc, text.p, "errors", err));
    TDM_TRY(tdm_buf_printf(out, err, "}"));
done:
    tdm_json_close(doc);
    tdm_buf_free(&text);
    return st;
}

tdm_status tdm_job_describe(const char *path, tdm_buf *out, tdm_err *err)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return tdm_fail(err, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    return S_ISDIR(info.st_mode) ? describe_folder(path, out, err)
                                 : describe_manifest(path, out, err);
}
