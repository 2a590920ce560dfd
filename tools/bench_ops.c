#include "tools/bench_ops.h"

#include <stdlib.h>

static const size_t CACHE_BYTES = (size_t)256 << 20; /* of all sets: more than any cache */

/* ---- operands ---- */

/* How many sets of this size it takes not to fit a cache. */
static void set_turns(op_set *s, double bytes)
{
    const double sets = (double)CACHE_BYTES / bytes + 1;
    s->turns = sets > OP_TURNS ? OP_TURNS : (size_t)sets;
    if (s->b->options->small)
        s->turns = 2;
}

static tdm_status matrices(op_set *s, tdm_mat *m, int64_t rows, int32_t cols, int32_t stride,
                           tdm_dtype dtype, float scale, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < s->turns; i++)
        TDM_TRY(bench_matrix(s->b, &s->pool, rows, cols, stride, dtype, scale, &m[i], err));
done:
    return st;
}

/* n numbers: first, first + step, ... each modulo `wrap` (0: none). */
static tdm_status numbers(op_set *s, size_t n, int64_t first, int64_t step, int64_t wrap,
                          void **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t *values = malloc(n * sizeof *values);
    TDM_REQUIRE(values, TDM_ENOMEM, "%zu numbers", n);
    for (size_t i = 0; i < n; i++) {
        const int64_t value = first + step * (int64_t)i;
        values[i] = (int32_t)(wrap ? value % wrap : value);
    }
    TDM_TRY(bench_copy(s->b, &s->pool, values, n * sizeof *values, out, err));
done:
    free(values);
    return st;
}

/* Texts of s->length rows each, one behind the other, from position 0; and slots and pages for a
 * cache. */
static tdm_status ragged(op_set *s, int32_t texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t rows = (size_t)texts * (size_t)s->length;
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    void *tokens, *positions, *starts, *slots, *pages;
    TDM_TRY(numbers(s, rows, 1, 7919, s->m->vocab, &tokens, err)); /* a prime: rows far apart */
    TDM_TRY(numbers(s, rows, 0, 1, s->length, &positions, err));
    TDM_TRY(numbers(s, (size_t)texts + 1, 0, s->length, 0, &starts, err));
    TDM_TRY(numbers(s, (size_t)texts, 0, 1, 0, &slots, err));
    TDM_TRY(numbers(s, (size_t)s->texts * (size_t)text_pages, 0, 1, 0, &pages, err));
    s->step = (tdm_step){.n_rows = (int32_t)rows,
                         .n_seqs = texts,
                         .longest = s->length,
                         .tokens = tokens,
                         .positions = positions,
                         .starts = starts,
                         .slots = slots,
                         .pages = pages};
done:
    return st;
}

/* ---- rows ---- */

static tdm_status open_embed(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    set_turns(s, 12.0 * (double)s->rows * s->m->width);
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, TDM_F32, 1, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->m->vocab, s->m->width, 0, act, 1, &s->words, err));
    TDM_TRY(
        bench_matrix(s->b, &s->pool, s->m->positions, s->m->width, 0, act, 1, &s->positions, err));
done:
    return st;
}

static tdm_status call_embed(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_embed(&s->b->backend, s->y[i % s->turns], &s->step, s->words, 0, s->positions,
                     s->m->detector ? 2 : 0, err);
}

static void cost_embed(const op_set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = (double)s->rows * s->m->width * (2 * s->act + 4);
}

static tdm_status open_norm(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    const int32_t E = s->m->width;
    set_turns(s, 8.0 * (double)s->rows * E);
    TDM_TRY(matrices(s, s->x, s->rows, E, 0, TDM_F32, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, E, 0, act, 1, err));
    TDM_TRY(matrices(s, s->delta, s->rows, E, 0, act, 1e-3f, err)); /* x grows with every call */
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, E, 0, TDM_F32, 1, &s->gamma, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, E, 0, TDM_F32, 1, &s->beta, err));
done:
    return st;
}

static tdm_status call_norm(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    const size_t at = i % s->turns;
    return tdm_add_norm(&s->b->backend, s->y[at], s->x[at], &s->delta[at], s->gamma, s->beta, 1e-5f,
                        s->m->detector ? TDM_POST_NORM : TDM_PRE_NORM, err);
}

static void cost_norm(const op_set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = (double)s->rows * s->m->width * (8 + 2 * s->act);
}

static tdm_status open_gather(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    set_turns(s, 4.0 * (double)s->rows * s->m->width);
    TDM_TRY(numbers(s, (size_t)s->texts, 0, s->length, 0, &s->index, err));
    TDM_TRY(matrices(s, s->x, s->rows, s->m->width, 0, TDM_F32, 1, err));
    TDM_TRY(matrices(s, s->y, s->texts, s->m->width, 0, TDM_F32, 1, err));
done:
    return st;
}

static tdm_status call_gather(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_gather(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->index, err);
}

static void cost_gather(const op_set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = 8.0 * s->texts * s->m->width;
}

enum { LABELS = 2 };

static tdm_status open_classify(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = s->m->width;
    set_turns(s, s->act * s->texts * E);
    TDM_TRY(matrices(s, s->x, s->texts, E, 0, s->b->backend.dtype, 1, err));
    TDM_TRY(matrices(s, s->y, s->texts, LABELS, 0, TDM_F32, 1, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, LABELS, E, 0, TDM_F32, 1, &s->words, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, LABELS, 0, TDM_F32, 1, &s->beta, err));
done:
    return st;
}

static tdm_status call_classify(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_classify(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->words, s->beta,
                        err);
}

static void cost_classify(const op_set *s, double *flops, double *bytes)
{
    *flops = 2.0 * LABELS * s->texts * s->m->width;
    *bytes = s->act * s->texts * s->m->width;
}

/* ---- attention ---- */

static tdm_status open_packed(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    set_turns(s, 4 * s->act * (double)s->rows * s->m->width);
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(matrices(s, s->x, s->rows, 3 * s->m->width, 0, act, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, act, 1, err));
done:
    return st;
}

static tdm_status call_packed(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_attend_packed(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], &s->step,
                             !s->m->detector, err);
}

static void cost_packed(const op_set *s, double *flops, double *bytes)
{
    const double n = s->length, pairs = s->m->detector ? n * n : n * (n + 1) / 2;
    *flops = 4.0 * s->m->width * pairs * s->texts;
    *bytes = 4 * s->act * (double)s->rows * s->m->width;
}

static tdm_status open_cache(op_set *s, tdm_err *err)
{
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    return tdm_kv_open(&s->b->backend, (int32_t)s->turns, s->m->width / TDM_HEAD,
                       s->texts * text_pages, text_pages, &s->cache, err);
}

static tdm_status open_prefill(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_packed(s, err));
    TDM_TRY(open_cache(s, err));
done:
    return st;
}

static tdm_status call_cached(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_attend_cached(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->cache,
                             (int32_t)(i % s->turns), &s->step, err);
}

static void cost_prefill(const op_set *s, double *flops, double *bytes)
{
    cost_packed(s, flops, bytes);
    *bytes += 2 * s->kv * (double)s->rows * s->m->width;
}

/* Fill all layers of the cache with random keys and values, a few texts at a time. */
static tdm_status fill_cache(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    enum { ROWS = 8192 };
    const int32_t most = s->length < ROWS ? ROWS / s->length : 1;
    const tdm_dtype act = s->b->backend.dtype;
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    tdm_mat qkv, y;
    for (int32_t at = 0, n; at < s->texts; at += n) {
        n = s->texts - at < most ? s->texts - at : most;
        TDM_TRY(
            ragged(s, n, err)); /* slots 0 .. n - 1, whose pages begin with those of text `at` */
        s->step.pages += (size_t)at * (size_t)text_pages;
        TDM_TRY(
            bench_matrix(s->b, &s->pool, s->step.n_rows, 3 * s->m->width, 0, act, 1, &qkv, err));
        TDM_TRY(bench_matrix(s->b, &s->pool, s->step.n_rows, s->m->width, 0, act, 1, &y, err));
        for (size_t layer = 0; layer < s->turns; layer++)
            TDM_TRY(
                tdm_attend_cached(&s->b->backend, y, qkv, s->cache, (int32_t)layer, &s->step, err));
        TDM_TRY(tdm_sync(&s->b->backend, err));
        bench_pool_free(s->b, &s->pool);
    }
done:
    return st;
}

static tdm_status open_decode(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    void *positions;
    set_turns(s, 2 * s->kv * s->texts * (double)s->length * s->m->width);
    TDM_TRY(open_cache(s, err));
    TDM_TRY(fill_cache(s, err));
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(numbers(s, (size_t)s->texts, s->length - 1, 0, 0, &positions, err));
    s->rows = s->texts;
    s->step.n_rows = s->step.n_seqs = s->texts;
    s->step.longest = 1;
    s->step.starts = NULL;
    s->step.positions = positions;
    TDM_TRY(matrices(s, s->x, s->rows, 3 * s->m->width, 0, act, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, act, 1, err));
done:
    return st;
}

static void cost_decode(const op_set *s, double *flops, double *bytes)
{
    const double keys = (double)s->texts * s->length * s->m->width;
    *flops = 4 * keys;
    *bytes = 2 * s->kv * keys + (4 * s->act + 2 * s->kv) * (double)s->rows * s->m->width;
}

/* ---- logits ---- */

static tdm_status open_logits(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    set_turns(s, 4.0 * s->texts * s->m->vocab);
    TDM_TRY(matrices(s, s->x, s->texts, s->m->vocab, tdm_padded(s->m->vocab), TDM_F32, 8, err));
    TDM_TRY(numbers(s, (size_t)s->texts, 0, 1, 0, &s->index, err));
done:
    return st;
}

static void cost_logits(const op_set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = 4.0 * s->texts * s->m->vocab;
}

/* Texts that have so much left to draw that they do not end while they are timed. */
static tdm_status open_sample(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)s->texts;
    void *tokens, *positions, *left, *drawn, *on_device;
    tdm_draw *draws = malloc(n * sizeof *draws);
    TDM_REQUIRE(draws, TDM_ENOMEM, "%zu draws", n);
    for (size_t i = 0; i < n; i++) {
        draws[i] = s->k->draw;
        draws[i].document = i;
    }
    TDM_TRY(open_logits(s, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &tokens, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &positions, err));
    TDM_TRY(numbers(s, n, INT32_MAX, 0, 0, &left, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &drawn, err));
    TDM_TRY(bench_copy(s->b, &s->pool, draws, n * sizeof *draws, &on_device, err));
    s->state = (tdm_slots){tokens, positions, left, drawn, on_device};
done:
    free(draws);
    return st;
}

static tdm_status call_sample(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_sample(&s->b->backend, &s->state, s->index, s->x[i % s->turns], -1, err);
}

static tdm_status open_stats(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_mat room;
    TDM_TRY(open_logits(s, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->texts, sizeof(tdm_stat) / sizeof(float), 0, TDM_F32, 1,
                         &room, err));
    s->stats = room.p;
done:
    return st;
}

static tdm_status call_stats(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_token_stats(&s->b->backend, s->stats, s->x[i % s->turns], s->index, err);
}

static tdm_status open_cross(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_mat room;
    TDM_TRY(open_logits(s, err));
    TDM_TRY(matrices(s, s->y, s->texts, s->m->vocab, tdm_padded(s->m->vocab), TDM_F32, 8, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->texts, sizeof(tdm_cross) / sizeof(float), 0, TDM_F32, 1,
                         &room, err));
    s->stats = room.p;
done:
    return st;
}

static tdm_status call_cross(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    const size_t turn = i % s->turns;
    return tdm_cross_stats(&s->b->backend, s->stats, s->x[turn], s->y[turn], s->index, err);
}

static void cost_cross(const op_set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = 8.0 * s->texts * s->m->vocab;
}

static tdm_status open_top(op_set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t floats = sizeof(tdm_top) / sizeof(float) * (size_t)s->k->draw.top_k;
    tdm_mat room;
    TDM_TRY(open_logits(s, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->texts, (int32_t)floats, 0, TDM_F32, 1, &room, err));
    s->stats = room.p;
done:
    return st;
}

static tdm_status call_top(void *ctx, size_t i, tdm_err *err)
{
    op_set *s = ctx;
    return tdm_top_tokens(&s->b->backend, s->stats, s->k->draw.top_k, s->x[i % s->turns], s->index,
                          err);
}

/* ---- the table ---- */

#define DRAW(t, k, p)                                                                              \
    {                                                                                              \
        .seed = 1, .temperature = (t), .top_k = (k), .top_p = (p)                                  \
    }

const op_case OP_CASES[N_OP_CASES] = {
    {"embed", "one row a text", true, false, 512, 1, open_embed, call_embed, cost_embed, {0}},
    {"embed", "packed", true, true, 16, 512, open_embed, call_embed, cost_embed, {0}},
    {"add_norm", "one row a text", true, false, 512, 1, open_norm, call_norm, cost_norm, {0}},
    {"add_norm", "packed", true, true, 16, 512, open_norm, call_norm, cost_norm, {0}},
    {"attend decode", "1 text", true, false, 1, 1024, open_decode, call_cached, cost_decode, {0}},
    {"attend decode",
     "many short",
     true,
     false,
     512,
     128,
     open_decode,
     call_cached,
     cost_decode,
     {0}},
    {"attend decode", "many", true, false, 512, 512, open_decode, call_cached, cost_decode, {0}},
    {"attend prefill", "", true, false, 8, 1024, open_prefill, call_cached, cost_prefill, {0}},
    {"attend packed", "", true, true, 16, 512, open_packed, call_packed, cost_packed, {0}},
    {"attend packed", "long", true, false, 8, 1024, open_packed, call_packed, cost_packed, {0}},
    {"attend packed", "short", false, true, 128, 64, open_packed, call_packed, cost_packed, {0}},
    {"sample", "greedy", true, false, 512, 1, open_sample, call_sample, cost_logits, DRAW(0, 0, 1)},
    {"sample", "plain", true, false, 512, 1, open_sample, call_sample, cost_logits, DRAW(1, 0, 1)},
    {"sample", "top-k 40", true, false, 512, 1, open_sample, call_sample, cost_logits,
     DRAW(1, 40, 1)},
    {"sample", "top-p 0.95", true, false, 512, 1, open_sample, call_sample, cost_logits,
     DRAW(1, 0, 0.95f)},
    {"token_stats", "", true, false, 512, 1, open_stats, call_stats, cost_logits, {0}},
    {"cross_stats", "", true, false, 512, 1, open_cross, call_cross, cost_cross, {0}},
    {"top_tokens", "10", true, false, 512, 1, open_top, call_top, cost_logits, {.top_k = 10}},
    {"top_tokens", "64", true, false, 512, 1, open_top, call_top, cost_logits, {.top_k = 64}},
    {"gather", "", false, true, 64, 128, open_gather, call_gather, cost_gather, {0}},
    {"classify", "", false, true, 64, 1, open_classify, call_classify, cost_classify, {0}},
};

void op_close(op_set *s)
{
    tdm_kv_close(&s->b->backend, s->cache);
    bench_pool_free(s->b, &s->pool);
}
