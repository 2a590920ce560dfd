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
static bool carve(gpt2_run *r, const tdm_backend *be, const tdm_config *c, const gpt2_limits *limits,
                  char *base, size_t *bytes)
{
    const tdm_dtype act = be->dtype;
    const int32_t E = c->n_embd, F = c->n_inner, V = c->n_vocab, S = limits->slots;
    const int32_t D = gpt2_class_rows(be, S), T = gpt2_text_pages(limits->context);
    const int32_t R = larger(limits->rows, D), N = larger(limits->logits, D);
    bool fits = true;
    size_t at = 0, from = 0;
#define X(field, type, n_rows, n_cols, padded)                                                     \
    fits = fits && place(&at, (size_t)(n_rows), (size_t)(padded) * tdm_dtype_size(type), &from);   \
    r->field = (tdm_mat){.p = base ? base + from : NULL, .rows = n_rows, .cols = n_cols,           \
                         .dtype = type, .stride = padded};
    GPT2_MATRICES(X)
#undef X
#define X(type, field, n)                                                                          \
    fits = fits && place(&at, (size_t)(n), sizeof(type), &from);                                   \
    r->field = base ? (type *)(void *)(base + from) : NULL;
    GPT2_ARRAYS(X)
#undef X
    *bytes = at;
    return fits;
}

bool gpt2_run_bytes(const tdm_backend *be, const tdm_config *config, const gpt2_limits *limits,
                    size_t *cache, size_t *scratch)
{
    gpt2_run views;
    return tdm_mul_size(tdm_kv_page_bytes(be, config->n_layer, config->n_head),
                        (size_t)limits->pages, cache) &&
           carve(&views, be, config, limits, NULL, scratch);
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

/* Every slot is idle; where there are pages for all, each has its own. */
static tdm_status reset_slots(gpt2_run *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = r->model->be;
    const size_t slots = (size_t)r->limits.slots, n = slots * (size_t)r->text_pages;
    int32_t *table = malloc((n ? n : 1) * sizeof *table);
    TDM_REQUIRE(table, TDM_ENOMEM, "page table of %zu entries", n);
    for (size_t i = 0; i < slots; i++)
        table[i] = -1;
    TDM_TRY(tdm_upload(be, r->next_positions, table, slots * sizeof *table, err));
    for (size_t i = 0; i < n; i++)
        table[i] = n == (size_t)r->limits.pages ? (int32_t)i : -1;
    TDM_TRY(gpt2_set_pages(r, table, err));
done:
    free(table);
    return st;
}

static tdm_status open_host(gpt2_run *r, tdm_err *err)
{
    const size_t rows = (size_t)r->resid.rows;
    const size_t decoding = (size_t)gpt2_class_rows(r->model->be, r->limits.slots) + 1;
    r->host_positions = malloc(rows * sizeof *r->host_positions);
    r->listed = malloc(decoding * sizeof *r->listed);
    r->wanted = malloc(decoding * sizeof *r->wanted);
    if (!r->host_positions || !r->listed || !r->wanted)
        return tdm_fail(err, TDM_ENOMEM, "lists of %zu rows", rows);
    return TDM_OK;
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
    TDM_TRY(tdm_alloc(m->be, scratch, &r->memory, err));
    (void)carve(r, m->be, c, limits, r->memory, &scratch);
    TDM_TRY(open_host(r, err));
    if (limits->slots > 0) {
        TDM_TRY(tdm_kv_open(m->be, c->n_layer, c->n_head, limits->pages, r->text_pages, &r->kv, err));
        TDM_TRY(reset_slots(r, err));
        if (tdm_has_graphs(m->be))
            TDM_TRY(gpt2_capture(r, err));
    }
    *out = r;
    r = NULL;
done:
    gpt2_run_close(r);
    return st != TDM_ENOMEM ? st
                            : tdm_context(err, st, "%.1f MiB of cache and %.1f MiB of scratch",
                                          (double)cache / 0x1p20, (double)scratch / 0x1p20);
}

void gpt2_run_close(gpt2_run *r)
{
    if (!r)
        return;
    for (int32_t i = 0; i < r->n_graphs; i++)
        tdm_graph_close(r->model->be, r->graphs[i]);
    free(r->graphs);
    tdm_kv_close(r->model->be, r->kv);
    tdm_release(r->model->be, r->memory);
    free(r->host_positions);
    free(r->listed);
    free(r->wanted);
    free(r);
}

tdm_status gpt2_set_pages(gpt2_run *r, const int32_t *table, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)r->limits.slots * (size_t)r->text_pages;
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(table[i] >= -1 && table[i] < r->limits.pages, TDM_EARG,
                    "page %d, the cache has %d", (int)table[i], (int)r->limits.pages);
    TDM_TRY(tdm_upload(r->model->be, r->pages, table, n * sizeof *table, err));
done:
    return st;
}

tdm_status gpt2_copy_page(gpt2_run *r, int32_t to, int32_t from, tdm_err *err)
{
    return tdm_kv_copy(r->model->be, r->kv, to, from, err);
}
