/* host/backend_null.c - see backend_null.h. Activations are never touched: of a forward pass the token ids are
 * kept, one hash for each text, and what comes out at its other end is made from them. */
#include "host/backend_null.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "host/buf.h"
#include "host/memory.h"
#include "host/rng.h"

enum { ALIGN = 256 };

typedef struct {
    uint64_t *texts; /* [cap] hashes of the token ids of the last ragged step's texts */
    int32_t n_texts, cap;
    void *fetched[TDM_LANES]; /* TDM_LANE_BYTES each */
} null_backend;

/* A word as a number from 0 to 1. */
static float unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* ---- memory ---- */

static size_t null_memory(void *self)
{
    (void)self;
    return tdm_available_memory();
}

/* The system gives memory where it is written: to the ids of a step, to tables, to results. */
static tdm_status null_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    (void)self;
    size_t rounded = 0;
    *out = tdm_add_size(bytes ? bytes : 1, ALIGN - 1, &rounded)
               ? aligned_alloc(ALIGN, rounded / ALIGN * ALIGN)
               : NULL;
    return *out ? TDM_OK : tdm_fail(err, TDM_ENOMEM, "%zu bytes of memory", bytes);
}

static void null_release(void *self, void *p)
{
    (void)self;
    free(p);
}

static tdm_status null_copy(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    (void)self;
    (void)err;
    if (bytes)
        memcpy(dst, src, bytes);
    return TDM_OK;
}

static tdm_status null_sync(void *self, tdm_err *err)
{
    (void)self;
    (void)err;
    return TDM_OK;
}

static tdm_status null_fetch_begin(void *self, int lane, const void *src, size_t bytes, tdm_err *err)
{
    const null_backend *be = self;
    return null_copy(self, be->fetched[lane], src, bytes, err);
}

static tdm_status null_fetch_end(void *self, int lane, const void **host, tdm_err *err)
{
    const null_backend *be = self;
    (void)err;
    *host = be->fetched[lane];
    return TDM_OK;
}

static tdm_status null_weight_open(void *self, const void *src, tdm_dtype dtype, int32_t in,
                                   int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    (void)self, (void)src, (void)dtype, (void)layout;
    *w = malloc(sizeof **w);
    if (!*w)
        return tdm_fail(err, TDM_ENOMEM, "a weight");
    **w = (tdm_weight){in, out};
    return TDM_OK;
}

static void null_weight_close(void *self, tdm_weight *w)
{
    (void)self;
    free(w);
}

/* Planning divides by it. */
static size_t null_kv_page_bytes(void *self, int32_t layers, int32_t heads)
{
    (void)self, (void)layers, (void)heads;
    return 1;
}

static tdm_status null_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages,
                               int32_t text_pages, tdm_kv **kv, tdm_err *err)
{
    (void)self;
    *kv = malloc(sizeof **kv);
    if (!*kv)
        return tdm_fail(err, TDM_ENOMEM, "a cache");
    **kv = (tdm_kv){layers, heads, pages, text_pages};
    return TDM_OK;
}

static void null_kv_close(void *self, tdm_kv *kv)
{
    (void)self;
    free(kv);
}

static tdm_status null_kv_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err)
{
    (void)self, (void)kv, (void)to, (void)from, (void)err;
    return TDM_OK;
}

/* ---- a forward pass ---- */

static tdm_status null_embed(void *self, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                             tdm_mat positions, int32_t first_position, tdm_err *err)
{
    null_backend *be = self;
    (void)y, (void)words, (void)first_word, (void)positions, (void)first_position;
    be->n_texts = 0;
    if (!step->starts) /* what is decoded next depends on the draw alone */
        return TDM_OK;
    if (step->n_seqs > be->cap) {
        uint64_t *texts = realloc(be->texts, (size_t)step->n_seqs * sizeof *texts);
        if (!texts)
            return tdm_fail(err, TDM_ENOMEM, "%d texts", (int)step->n_seqs);
        be->texts = texts;
        be->cap = step->n_seqs;
    }
    be->n_texts = step->n_seqs;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const int32_t from = step->starts[i], n = step->starts[i + 1] - from;
        be->texts[i] = XXH3_64bits(step->tokens + from, (size_t)n * sizeof *step->tokens);
    }
    return TDM_OK;
}

static tdm_status null_add_norm(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                                tdm_mat gamma, tdm_mat beta, float eps, tdm_norm form, tdm_err *err)
{
    (void)self, (void)y, (void)x, (void)delta, (void)gamma, (void)beta, (void)eps, (void)form;
    (void)err;
    return TDM_OK;
}

static tdm_status null_linear(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w,
                              const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err)
{
    (void)self, (void)y, (void)x, (void)w, (void)bias, (void)epilogue, (void)err;
    return TDM_OK;
}

static tdm_status null_attend_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                                     const tdm_step *step, tdm_err *err)
{
    (void)self, (void)y, (void)qkv, (void)kv, (void)layer, (void)step, (void)err;
    return TDM_OK;
}

static tdm_status null_attend_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                                     bool causal, tdm_err *err)
{
    (void)self, (void)y, (void)qkv, (void)step, (void)causal, (void)err;
    return TDM_OK;
}

static tdm_status null_gather(void *self, tdm_mat y, tdm_mat x, const int32_t *rows, tdm_err *err)
{
    (void)self, (void)y, (void)x, (void)rows, (void)err;
    return TDM_OK;
}

/* Logits from -4 to 4, from the ids of each text. */
static tdm_status null_classify(void *self, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias,
                                tdm_err *err)
{
    const null_backend *be = self;
    tdm_status st = TDM_OK;
    (void)w, (void)bias;
    TDM_REQUIRE(x.rows == be->n_texts, TDM_EARG, "%lld rows, the step has %d texts",
                (long long)x.rows, (int)be->n_texts);
    for (int64_t i = 0; i < y.rows; i++)
        for (int32_t k = 0; k < y.cols; k++) {
            uint32_t words[4];
            tdm_philox((uint32_t[4]){(uint32_t)k / 4}, be->texts[i], words);
            ((float *)y.p)[i * y.cols + k] = 8 * unit(words[k % 4]) - 4;
        }
done:
    return st;
}

/* ---- draws and statistics ---- */

/* Tokens that a document has before it ends: none; fewer than 2, 4, ... 1024; or it never does. */
static uint32_t length_of(const tdm_draw *draw)
{
    enum { LENGTHS = 12 };
    uint32_t words[4];
    const uint32_t low = (uint32_t)draw->document, high = (uint32_t)(draw->document >> 32);
    tdm_philox((uint32_t[4]){1, 0, low, high}, draw->seed, words);
    const uint32_t kind = words[0] % LENGTHS;
    return kind == LENGTHS - 1 ? UINT32_MAX : words[1] & ((UINT32_C(1) << kind) - 1);
}

static int32_t draw_token(const tdm_draw *draw, int32_t n_vocab, int32_t eos)
{
    uint32_t words[4];
    const uint32_t low = (uint32_t)draw->document, high = (uint32_t)(draw->document >> 32);
    if (draw->position >= length_of(draw))
        return eos;
    tdm_philox((uint32_t[4]){0, draw->position, low, high}, draw->seed, words);
    const int32_t id = (int32_t)(words[0] % (uint32_t)n_vocab);
    return id == eos ? (id + 1) % n_vocab : id;
}

static tdm_status null_sample(void *self, const tdm_slots *state, const int32_t *slots,
                              tdm_mat logits, int32_t eos, tdm_err *err)
{
    (void)self;
    (void)err;
    for (int64_t i = 0; i < logits.rows; i++) {
        const int32_t s = slots[i];
        if (s < 0)
            continue;
        if (state->positions[s] < 0) {
            state->drawn[s] = TDM_IDLE;
            continue;
        }
        const int32_t id = draw_token(&state->draws[s], logits.cols, eos);
        state->drawn[s] = id;
        if (id == eos || state->left[s] == 1) {
            state->positions[s] = -1;
            continue;
        }
        state->tokens[s] = id;
        state->positions[s]++;
        state->left[s]--;
        state->draws[s].position++;
    }
    return TDM_OK;
}

/* Statistics come from the targets alone. */
static tdm_status null_token_stats(void *self, tdm_stat *stats, tdm_mat logits,
                                   const int32_t *targets, tdm_err *err)
{
    (void)self;
    (void)err;
    for (int64_t i = 0; i < logits.rows; i++) {
        uint32_t words[4];
        tdm_philox((uint32_t[4]){(uint32_t)targets[i]}, 0, words);
        stats[i] = targets[i] < 0 ? (tdm_stat){0}
                                  : (tdm_stat){.logprob = -10 * unit(words[0]),
                                               .entropy = 10 * unit(words[1]),
                                               .variance = 10 * unit(words[2]),
                                               .rank = 1 + (int32_t)(words[3] % (uint32_t)logits.cols)};
    }
    return TDM_OK;
}

static tdm_status null_cross_stats(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q,
                                   const int32_t *targets, tdm_err *err)
{
    (void)self, (void)q, (void)err;
    for (int64_t i = 0; i < p.rows; i++) {
        uint32_t words[4];
        tdm_philox((uint32_t[4]){(uint32_t)targets[i], 1}, 0, words);
        stats[i] = targets[i] < 0 ? (tdm_cross){0}
                                  : (tdm_cross){.cross = 10 * unit(words[0]),
                                                .variance = 10 * unit(words[1]),
                                                .back = 10 * unit(words[2])};
    }
    return TDM_OK;
}

/* Neighbouring ids, each half as likely as the one before. */
static tdm_status null_top_tokens(void *self, tdm_top *top, int32_t k, tdm_mat logits,
                                  const int32_t *targets, tdm_err *err)
{
    (void)self, (void)err;
    for (int64_t i = 0; i < logits.rows; i++) {
        uint32_t words[4];
        tdm_philox((uint32_t[4]){(uint32_t)targets[i], 2}, 0, words);
        const int64_t first = words[0] % (uint32_t)logits.cols;
        for (int32_t j = 0; j < k; j++)
            top[i * k + j] = targets[i] < 0
                                 ? (tdm_top){0}
                                 : (tdm_top){.id = (int32_t)((first + j) % logits.cols),
                                             .logprob = -0.693147181f * (float)(j + 1)};
    }
    return TDM_OK;
}

/* ---- open and close ---- */

static void null_close(void *self)
{
    null_backend *be = self;
    if (!be)
        return;
    for (int i = 0; i < TDM_LANES; i++)
        free(be->fetched[i]);
    free(be->texts);
    free(be);
}

static const tdm_ops NULL_OPS = {
    .name = "null",
    .close = null_close,
    .memory = null_memory,
    .alloc = null_alloc,
    .release = null_release,
    .upload = null_copy,
    .download = null_copy,
    .sync = null_sync,
    .fetch_begin = null_fetch_begin,
    .fetch_end = null_fetch_end,
    .weight_open = null_weight_open,
    .weight_close = null_weight_close,
    .kv_page_bytes = null_kv_page_bytes,
    .kv_open = null_kv_open,
    .kv_close = null_kv_close,
    .kv_copy = null_kv_copy,
    .embed = null_embed,
    .add_norm = null_add_norm,
    .linear = null_linear,
    .attend_cached = null_attend_cached,
    .attend_packed = null_attend_packed,
    .gather = null_gather,
    .classify = null_classify,
    .sample = null_sample,
    .token_stats = null_token_stats,
    .cross_stats = null_cross_stats,
    .top_tokens = null_top_tokens,
};

tdm_status tdm_open_null(tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = (tdm_backend){0};
    null_backend *be = calloc(1, sizeof *be);
    TDM_REQUIRE(be, TDM_ENOMEM, "null backend");
    for (int i = 0; i < TDM_LANES; i++)
        TDM_TRY(null_alloc(be, TDM_LANE_BYTES, &be->fetched[i], err));
    *out = (tdm_backend){.ops = &NULL_OPS, .self = be, .dtype = TDM_F32, .identity = "null",
                         .device = "null: computes nothing, results are made up"};
    be = NULL;
done:
    null_close(be);
    return st;
}
