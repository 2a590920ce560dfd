/* host/gpt2_run.c - the memory of a run: cache, page table, scratch. */
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "host/gpt2_model.h"

enum { ALIGN = 256 };

/* Make room for `n` times `size` bytes behind *at, aligned; *from is where it begins. */
static bool place(size_t *at, size_t n, size_t size, size_t *from)
{
    size_t bytes = 0;
    *from = *at;
    return tdm_mul_size(n, size, &bytes) && tdm_add_size(bytes, ALIGN - 1, &bytes) &&
           tdm_add_size(*at, bytes / ALIGN * ALIGN, at);
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Place the views one behind the other from `base`; *bytes is the sum. False on overflow. */
static bool carve(gpt2_work *w, const tdm_backend *be, const tdm_config *c, const gpt2_limits *limits, char *base,
                  size_t *bytes)
{
    const tdm_dtype act = be->dtype;
    const tdm_part part = gpt2_part_of(c, be->rank, be->n_ranks);
    const int32_t E = c->n_embd, A = part.heads.n * TDM_HEAD, F = part.inner.n, S = limits->slots;
    const int32_t D = gpt2_class_rows(be, S), T = gpt2_text_pages(limits->context);
    const int32_t R = larger(limits->rows, D), N = larger(limits->logits, D);
    const int32_t V = c->n_vocab, M = be->n_ranks > 0 ? N : 0, W = part.block;
    bool fits = true;
    size_t at = 0, from = 0;
#define X(field, type, n_rows, n_cols, padded)                                                     \
    fits = fits && place(&at, (size_t)(n_rows), (size_t)(padded) * tdm_dtype_size(type), &from);   \
    w->field = (tdm_mat){.p = base ? base + from : NULL, .rows = n_rows, .cols = n_cols,           \
                         .dtype = type, .stride = padded};
    GPT2_MATRICES(X)
#undef X
#define X(type, field, n)                                                                          \
    fits = fits && place(&at, (size_t)(n), sizeof(type), &from);                                   \
    w->field = base ? (type *)(void *)(base + from) : NULL;
    GPT2_ARRAYS(X)
#undef X
    *bytes = at;
    return fits;
}

size_t gpt2_page_bytes(const tdm_backend *be, const tdm_config *config)
{
    const tdm_backend *one = tdm_rank_backend(be, 0); /* it has most heads */
    return tdm_kv_page_bytes(one, config->n_layer, gpt2_part_of(config, 0, one->n_ranks).heads.n);
}

bool gpt2_run_bytes(const tdm_backend *be, const tdm_config *config, const gpt2_limits *limits,
                    size_t *cache, size_t *scratch)
{
    tdm_backend one = *tdm_rank_backend(be, 0);
    gpt2_work views;
    size_t bytes = 0;
    *scratch = 0;
    for (one.rank = 0; one.rank == 0 || one.rank < one.n_ranks; one.rank++) {
        if (!carve(&views, &one, config, limits, NULL, &bytes))
            return false;
        *scratch = bytes > *scratch ? bytes : *scratch;
    }
    return tdm_mul_size(gpt2_page_bytes(be, config), (size_t)limits->pages, cache);
}

static tdm_status check_limits(const gpt2_limits *l, const tdm_config *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(l->slots >= 0 && l->logits > 0 && l->rows >= l->slots && l->rows >= l->logits,
                TDM_EARG, "gpt2 run: %d slots, %d rows, %d rows of logits", (int)l->slots,
                (int)l->rows, (int)l->logits);
    TDM_REQUIRE(l->context > 0 && l->context <= c->n_context, TDM_EARG,
                "gpt2 run: context %d, the model has %d", (int)l->context, c->n_context);
    TDM_REQUIRE(l->slots > 0 ? l->pages > 0 : l->pages == 0, TDM_EARG,
                "gpt2 run: %d pages for %d slots", (int)l->pages, (int)l->slots);
    TDM_REQUIRE(l->slots <= TDM_LANE_BYTES / (int)sizeof(int32_t), TDM_EARG,
                "gpt2 run: %d slots, want at most %d", (int)l->slots,
                TDM_LANE_BYTES / (int)sizeof(int32_t)); /* their draws are fetched at once */
    TDM_REQUIRE(l->top >= 0 && l->top <= TDM_TOP_MOST && l->top <= c->n_vocab, TDM_EARG,
                "gpt2 run: the %d likeliest tokens of %d, want at most %d", (int)l->top, c->n_vocab,
                TDM_TOP_MOST);
done:
    return st;
}

/* ---- open and close ---- */

/* Every slot is idle; where there are pages for all, each has its own. Nothing has been drawn, on all ranks alike. */
static tdm_status reset_slots(gpt2_work *w, const gpt2_run *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = w->shard->be;
    const size_t slots = (size_t)r->limits.slots, n = slots * (size_t)r->text_pages;
    int32_t *table = malloc((n ? n : 1) * sizeof *table);
    TDM_REQUIRE(table, TDM_ENOMEM, "page table of %zu entries", n);
    for (size_t i = 0; i < slots; i++)
        table[i] = -1;
    TDM_TRY(tdm_upload(be, w->next_positions, table, slots * sizeof *table, err));
    TDM_TRY(tdm_upload(be, w->drawn, table, slots * sizeof *table, err));
    for (size_t i = 0; i < n; i++)
        table[i] = n == (size_t)r->limits.pages ? (int32_t)i : -1;
    TDM_TRY(tdm_upload(be, w->pages, table, n * sizeof *table, err));
done:
    free(table);
    return st;
}

static tdm_status open_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const gpt2_run *r = ctx;
    const tdm_config *c = &r->model->config;
    const gpt2_limits *limits = &r->limits;
    const size_t decoding = (size_t)gpt2_class_rows(be, limits->slots) + 1;
    gpt2_work *w = &r->works[rank];
    size_t scratch = 0;
    w->config = c;
    w->shard = &r->model->shards[rank];
    (void)carve(w, be, c, limits, NULL, &scratch); /* fits: gpt2_run_bytes has said so */
    TDM_TRY(tdm_alloc(be, scratch, &w->memory, err));
    (void)carve(w, be, c, limits, w->memory, &scratch);
    w->listed = malloc(decoding * sizeof *w->listed);
    w->wanted = malloc(decoding * sizeof *w->wanted);
    TDM_REQUIRE(w->listed && w->wanted, TDM_ENOMEM, "lists of %zu rows", decoding);
    if (limits->slots == 0)
        goto done;
    TDM_TRY(tdm_kv_open(be, c->n_layer, w->shard->part.heads.n, limits->pages, r->text_pages, &w->kv, err));
    TDM_TRY(reset_slots(w, r, err));
    if (tdm_has_graphs(be))
        TDM_TRY(gpt2_capture(w, limits->slots, err));
done:
    return st;
}

tdm_status gpt2_run_open(const gpt2_model *m, const gpt2_limits *limits, gpt2_run **out,
                         tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t cache = 0, scratch = 0;
    const tdm_config *c = &m->config;
    *out = NULL;
    gpt2_run *r = calloc(1, sizeof *r);
    TDM_REQUIRE(r, TDM_ENOMEM, "gpt2 run");
    r->model = m;
    r->limits = *limits;
    TDM_TRY(check_limits(limits, c, err));
    r->text_pages = gpt2_text_pages(limits->context);
    TDM_REQUIRE(gpt2_run_bytes(m->be, c, limits, &cache, &scratch), TDM_ENOMEM,
                "%d texts of %d tokens do not fit the address space", (int)limits->slots,
                (int)limits->context);
    r->works = calloc((size_t)tdm_rank_count(m->be), sizeof *r->works);
    r->host_positions = malloc((size_t)limits->rows * sizeof *r->host_positions);
    TDM_REQUIRE(r->works && r->host_positions, TDM_ENOMEM, "positions of %d rows", (int)limits->rows);
    TDM_TRY(tdm_each_rank(m->be, open_rank, r, err));
    *out = r;
    r = NULL;
done:
    gpt2_run_close(r);
    return st != TDM_ENOMEM ? st
                            : tdm_context(err, st, "%.1f MiB of cache and %.1f MiB of scratch",
                                          (double)cache / 0x1p20, (double)scratch / 0x1p20);
}

static void close_rank(void *ctx, const tdm_backend *be, int32_t rank)
{
    const gpt2_run *r = ctx;
    gpt2_work *w = &r->works[rank];
    for (int32_t i = 0; i < w->n_graphs; i++)
        tdm_graph_close(be, w->graphs[i]);
    free(w->graphs);
    tdm_kv_close(be, w->kv);
    tdm_release(be, w->memory);
    free(w->listed);
    free(w->wanted);
}

void gpt2_run_close(gpt2_run *r)
{
    if (!r || (r->works && !tdm_release_ranks(r->model->be, close_rank, r)))
        return;
    free(r->works);
    free(r->host_positions);
    free(r);
}

/* ---- pages ---- */

typedef struct {
    gpt2_work *works;
    const int32_t *table;
    size_t n;
} pages_job;

static tdm_status set_pages(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const pages_job *job = ctx;
    return tdm_upload(be, job->works[rank].pages, job->table, job->n * sizeof *job->table, err);
}

tdm_status gpt2_set_pages(gpt2_run *r, const int32_t *table, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)r->limits.slots * (size_t)r->text_pages;
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(table[i] >= -1 && table[i] < r->limits.pages, TDM_EARG,
                    "page %d, the cache has %d", (int)table[i], (int)r->limits.pages);
    TDM_TRY(tdm_each_rank(r->model->be, set_pages, &(pages_job){r->works, table, n}, err));
done:
    return st;
}

typedef struct {
    gpt2_work *works;
    int32_t to, from;
} copy_job;

static tdm_status copy_page(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const copy_job *job = ctx;
    return tdm_kv_copy(be, job->works[rank].kv, job->to, job->from, err);
}

tdm_status gpt2_copy_page(gpt2_run *r, int32_t to, int32_t from, tdm_err *err)
{
    return tdm_each_rank(r->model->be, copy_page, &(copy_job){r->works, to, from}, err);
}

/* ---- what comes back ---- */

typedef struct {
    gpt2_work *works;
    int lane;
} fetch_job;

static tdm_status fetch_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const fetch_job *job = ctx;
    return tdm_fetch_end(be, job->lane, &job->works[rank].fetched, err);
}

tdm_status gpt2_fetch(gpt2_run *r, int lane, tdm_err *err)
{
    return tdm_each_rank(r->model->be, fetch_rank, &(fetch_job){r->works, lane}, err);
}

size_t gpt2_first_difference(const gpt2_run *r, size_t n, int32_t *rank)
{
    const char *want = r->works[0].fetched;
    for (*rank = 1; *rank < tdm_rank_count(r->model->be); ++*rank) {
        const char *got = r->works[*rank].fetched;
        if (memcmp(got, want, n) == 0)
            continue;
        size_t at = 0;
        while (got[at] == want[at])
            at++;
        return at;
    }
    return n;
}
