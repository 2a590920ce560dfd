/* detector/roberta_open.c - a detector's memory, on each of its ranks. */
#include "detector/roberta_model.h"

#include <stdlib.h>

#include "host/buf.h"

/* SLICE: tokens that go through the inner layer together. On a device GELU is a pass of its own over what the
 * first product wrote: of so many rows, in 16 bits, most is still in a second-level cache of 50 MB, and
 * the products are large enough to be at their best. */
enum { ALIGN = 256, SLICE = 8192 };

/* ---- scratch ---- */

/* Set the views of the scratch from one block of memory, or with NULL only add up its size. False: more than can be
 * counted.
 *   be  of the rank */
static bool carve(scratch *s, const tdm_backend *be, const tdm_config *c, const roberta_limits *l, char *memory,
                  size_t *total)
{
    const tdm_part part = roberta_part_of(c, be->rank, be->n_ranks);
    const size_t R = (size_t)l->rows, B = (size_t)l->texts, E = (size_t)c->n_embd;
    const size_t A = (size_t)part.heads.n * TDM_HEAD, F = (size_t)part.inner.n;
    const size_t S = (size_t)(l->slice < l->rows ? l->slice : l->rows);
    const size_t act = tdm_dtype_size(be->dtype);
    const size_t C = be->dtype == TDM_F32 ? 0 : R, D = C ? B : 0;
    size_t size, at = 0, W = 0, inner = 0;
    bool fits = tdm_mul_size(R, 3 * A, &W) && tdm_mul_size(S, F, &inner);
    W = W > inner ? W : inner;
#define X(field, rows, cols, bytes)                                                                \
    fits = fits && tdm_mul_size(rows, (bytes) * (cols), &size) && tdm_add_size(size, ALIGN - 1, &size); \
    s->field = memory ? memory + at : NULL;                                                        \
    fits = fits && tdm_add_size(at, size / ALIGN * ALIGN, &at);
    SCRATCH(X)
#undef X
    *total = at;
    return fits;
}

static roberta_limits with_slice(const roberta_limits *limits)
{
    roberta_limits l = *limits;
    l.slice = l.slice ? l.slice : SLICE;
    return l;
}

bool roberta_run_bytes(const tdm_backend *be, const tdm_config *config, const roberta_limits *limits, size_t *bytes)
{
    const roberta_limits l = with_slice(limits);
    tdm_backend one = *tdm_rank_backend(be, 0);
    scratch views;
    size_t of_rank = 0;
    *bytes = 0;
    for (one.rank = 0; one.rank == 0 || one.rank < one.n_ranks; one.rank++) {
        if (!carve(&views, &one, config, &l, NULL, &of_rank))
            return false;
        *bytes = of_rank > *bytes ? of_rank : *bytes;
    }
    return true;
}

size_t roberta_row_bytes(const tdm_config *config, tdm_dtype act_type, int32_t n_ranks)
{
    const size_t R = 1, B = 0, E = (size_t)config->n_embd, act = tdm_dtype_size(act_type);
    const size_t C = act_type == TDM_F32 ? 0 : 1, D = 0;
    size_t most = 0;
    for (int32_t rank = 0; rank == 0 || rank < n_ranks; rank++) {
        const tdm_part part = roberta_part_of(config, rank, n_ranks);
        const size_t A = (size_t)part.heads.n * TDM_HEAD, F = (size_t)part.inner.n, W = 3 * A > F ? 3 * A : F;
#define X(field, rows, cols, bytes) +(rows) * (cols) * (bytes)
        const size_t size = 0 SCRATCH(X);
#undef X
        most = size > most ? size : most;
    }
    return most;
}

/* ---- open and close ---- */

typedef struct {
    roberta *model;
    const tdm_checkpoint *ck;
    bool check_finite;
} open_job;

static tdm_status open_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const open_job job = *(const open_job *)ctx;
    roberta *m = job.model;
    roberta_shard *s = &m->shards[rank];
    size_t bytes = 0;
    s->be = be;
    s->config = &m->config;
    s->slice = m->limits.slice;
    s->part = roberta_part_of(&m->config, be->rank, be->n_ranks);
    TDM_TRY(roberta_load(s, job.ck, job.check_finite, tdm_ranks_stop(m->be), err));
    (void)carve(&s->s, be, &m->config, &m->limits, NULL, &bytes); /* fits: roberta_run_bytes has said so */
    TDM_TRY(tdm_alloc(be, bytes, &s->memory, err));
    (void)carve(&s->s, be, &m->config, &m->limits, s->memory, &bytes);
done:
    return st;
}

static tdm_status check_open(const tdm_config *c, const roberta_limits *l, int32_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t units = c->n_inner / 64;
    TDM_REQUIRE(c->arch == TDM_ROBERTA, TDM_EARG, "not the config of a RoBERTa");
    TDM_REQUIRE(n <= c->n_head, TDM_EARG, "%d ranks, the model has %d heads", (int)n, c->n_head);
    TDM_REQUIRE(n <= units || n == 1, TDM_EARG, "%d ranks, the model's inner layer has %d times 64 columns", (int)n,
                (int)units);
    TDM_REQUIRE(l->rows >= c->n_context, TDM_EARG, "%d tokens at once, want at least %d", (int)l->rows, c->n_context);
    TDM_REQUIRE(l->slice > 0, TDM_EARG, "slices of %d tokens", (int)l->slice);
    TDM_REQUIRE(l->texts > 0 && l->texts <= ROBERTA_MOST_TEXTS, TDM_EARG, "%d texts at once, want 1 to %d",
                (int)l->texts, ROBERTA_MOST_TEXTS);
done:
    return st;
}

tdm_status roberta_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                        const roberta_limits *limits, bool check_finite, roberta **out,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n = tdm_rank_count(be);
    *out = NULL;
    roberta *m = calloc(1, sizeof *m);
    TDM_REQUIRE(m, TDM_ENOMEM, "detector handle");
    m->be = be;
    m->config = *config;
    m->limits = with_slice(limits);
    TDM_TRY(check_open(config, &m->limits, n, err));
    TDM_REQUIRE(roberta_run_bytes(be, config, limits, &m->scratch_bytes), TDM_ENOMEM, "scratch for %d rows",
                (int)limits->rows);
    m->shards = calloc((size_t)n, sizeof *m->shards);
    m->host_positions = calloc((size_t)limits->rows, sizeof *m->host_positions);
    TDM_REQUIRE(m->shards && m->host_positions, TDM_ENOMEM, "positions of %d rows", (int)limits->rows);
    TDM_TRY(tdm_each_rank(be, open_rank, &(open_job){m, ck, check_finite}, err));
    *out = m;
    m = NULL;
done:
    roberta_close(m);
    return st;
}

static void close_rank(void *ctx, const tdm_backend *be, int32_t rank)
{
    const roberta *m = ctx;
    roberta_shard *s = &m->shards[rank];
    roberta_unload(s, be);
    tdm_release(be, s->memory);
}

void roberta_close(roberta *m)
{
    if (!m || (m->shards && !tdm_release_ranks(m->be, close_rank, m)))
        return;
    free(m->shards);
    free(m->host_positions);
    free(m);
}

size_t roberta_weight_bytes(const roberta *m)
{
    size_t most = 0;
    for (int32_t i = 0; i < tdm_rank_count(m->be); i++)
        most = m->shards[i].weight_bytes > most ? m->shards[i].weight_bytes : most;
    return most;
}

size_t roberta_scratch_bytes(const roberta *m)
{
    return m->scratch_bytes;
}
