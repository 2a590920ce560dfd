/* detector/roberta.c - the forward pass of the RoBERTa detector and its memory.
 *
 * Details that have caused bugs:
 * - Positions start at row 2 of the table (row 1 belongs to <pad>, row 0 to nobody), so 514 rows
 *   are 512 tokens, <s> and </s> among them.
 * - A <pad> inside a text (hf and demo preprocessing read one that someone wrote as the token)
 *   gets row 1 and does not advance the positions of what follows, yet takes part in attention.
 * - Post-norm: x = norm(x + attention(x)), and the sum that follows starts from the norm.
 * - GELU is the erf form (GPT-2 has the tanh form), norm eps is that of config.json.
 * - The head reads the row of <s>, applies dense, tanh, out_proj.
 * - Index 0 is fake, 1 is real, and the labels in config.json cannot be trusted. */
#include "detector/roberta_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "host/stop.h"

/* SLICE: tokens that go through the inner layer together. On a device GELU is a pass of its own over what the
 * first product wrote: of so many rows, in 16 bits, most is still in a second-level cache of 50 MB, and
 * the products are large enough to be at their best. */
enum { PAD_POSITION = 1, ALIGN = 256, SLICE = 8192 };

/* ---- memory ---- */

/* Set the views of the scratch from one block of memory, or with NULL only add up its size. */
static tdm_status carve(roberta *m, char *memory, size_t *total, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t R = (size_t)m->max_rows, B = (size_t)m->max_texts, E = (size_t)m->config.n_embd;
    const size_t F = (size_t)m->config.n_inner, S = (size_t)(m->slice < m->max_rows ? m->slice : m->max_rows);
    const size_t act = tdm_dtype_size(m->be->dtype);
    const size_t C = m->be->dtype == TDM_F32 ? 0 : R, D = C ? B : 0;
    size_t size, at = 0, W = 0, inner = 0;
    TDM_REQUIRE(tdm_mul_size(R, 3 * E, &W) && tdm_mul_size(S, F, &inner), TDM_ENOMEM,
                "scratch for %zu rows", R);
    W = W > inner ? W : inner;
#define X(field, rows, cols, bytes)                                                                \
    TDM_REQUIRE(tdm_mul_size(rows, (bytes) * (cols), &size) &&                                     \
                    tdm_add_size(size, ALIGN - 1, &size),                                          \
                TDM_ENOMEM, "scratch for %zu rows", R);                                            \
    if (memory)                                                                                    \
        m->s.field = memory + at;                                                                  \
    TDM_REQUIRE(tdm_add_size(at, size / ALIGN * ALIGN, &at), TDM_ENOMEM, "scratch for %zu rows",   \
                R);
    SCRATCH(X)
#undef X
    *total = at;
done:
    return st;
}

static tdm_status plan(roberta *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(carve(m, NULL, &m->scratch_bytes, err));
    TDM_TRY(tdm_alloc(m->be, m->scratch_bytes, &m->memory, err));
    TDM_TRY(carve(m, m->memory, &m->scratch_bytes, err));
    m->host_positions = calloc((size_t)m->max_rows, sizeof *m->host_positions);
    TDM_REQUIRE(m->host_positions, TDM_ENOMEM, "positions of %d rows", (int)m->max_rows);
done:
    return st;
}

tdm_status roberta_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                        const roberta_limits *limits, bool check_finite, roberta **out,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    roberta *m = calloc(1, sizeof *m);
    TDM_REQUIRE(m, TDM_ENOMEM, "detector handle");
    m->be = be;
    m->config = *config;
    m->max_rows = limits->rows;
    m->max_texts = limits->texts;
    m->slice = limits->slice ? limits->slice : SLICE;
    TDM_REQUIRE(config->arch == TDM_ROBERTA, TDM_EARG, "not the config of a RoBERTa");
    TDM_REQUIRE(limits->rows >= config->n_context, TDM_EARG, "%d tokens at once, want at least %d",
                (int)limits->rows, config->n_context);
    TDM_REQUIRE(m->slice > 0, TDM_EARG, "slices of %d tokens", (int)limits->slice);
    TDM_REQUIRE(limits->texts > 0 && limits->texts <= ROBERTA_MOST_TEXTS, TDM_EARG,
                "%d texts at once, want 1 to %d", (int)limits->texts, ROBERTA_MOST_TEXTS);
    m->blocks = calloc((size_t)config->n_layer, sizeof *m->blocks);
    TDM_REQUIRE(m->blocks, TDM_ENOMEM, "%d layers", config->n_layer);
    TDM_TRY(roberta_load(m, ck, check_finite, err));
    TDM_TRY(plan(m, err));
    *out = m;
    m = NULL;
done:
    roberta_close(m);
    return st;
}

static void close_linear(const tdm_backend *be, linear *l)
{
    tdm_weight_close(be, l->w);
    tdm_release(be, l->bias.p);
}

static void close_norm(const tdm_backend *be, norm *n)
{
    tdm_release(be, n->gamma.p);
    tdm_release(be, n->beta.p);
}

void roberta_close(roberta *m)
{
    if (!m)
        return;
    for (int i = 0; m->blocks && i < m->config.n_layer; i++) {
        block *b = &m->blocks[i];
        close_linear(m->be, &b->qkv);
#define X(field, name, in, out) close_linear(m->be, &b->field);
        BLOCK_LINEARS(X)
#undef X
#define X(field, name) close_norm(m->be, &b->field);
        BLOCK_NORMS(X)
#undef X
    }
    free(m->blocks);
    close_linear(m->be, &m->head_dense);
    tdm_release(m->be, m->head_out.p);
    tdm_release(m->be, m->head_out_bias.p);
    close_norm(m->be, &m->embedding_norm);
    tdm_release(m->be, m->words.p);
    tdm_release(m->be, m->positions.p);
    tdm_release(m->be, m->memory);
    free(m->host_positions);
    free(m);
}

size_t roberta_weight_bytes(const roberta *m)
{
    return m->weight_bytes;
}

size_t roberta_scratch_bytes(const roberta *m)
{
    return m->scratch_bytes;
}

size_t roberta_row_bytes(const tdm_config *config, tdm_dtype act_type)
{
    const size_t R = 1, B = 0, E = (size_t)config->n_embd, F = (size_t)config->n_inner;
    const size_t W = 3 * E > F ? 3 * E : F, act = tdm_dtype_size(act_type);
    const size_t C = act_type == TDM_F32 ? 0 : 1, D = 0;
#define X(field, rows, cols, bytes) +(rows) * (cols) * (bytes)
    return 0 SCRATCH(X);
#undef X
}

/* ---- the forward pass ---- */

static tdm_mat view(void *p, int64_t rows, int32_t cols, tdm_dtype dtype)
{
    return (tdm_mat){.p = p, .rows = rows, .cols = cols, .dtype = dtype};
}

/* The residuals of some rows, and what linear reads of them: the same where act is f32. */
typedef struct {
    tdm_mat x, act;
} stream;

static stream view_stream(const roberta *m, void *x, void *act, int64_t rows)
{
    const tdm_dtype dtype = m->be->dtype;
    const int32_t E = m->config.n_embd;
    return (stream){view(x, rows, E, TDM_F32), view(dtype == TDM_F32 ? x : act, rows, E, dtype)};
}

static tdm_status apply(const tdm_backend *be, tdm_mat y, tdm_mat x, const linear *l,
                        tdm_epilogue epilogue, tdm_err *err)
{
    return tdm_linear(be, y, x, l->w, &l->bias, epilogue, err);
}

/* x = norm(x + delta); delta NULL: norm(x). */
static tdm_status normalise(const roberta *m, const stream *s, const tdm_mat *delta, const norm *n,
                            tdm_err *err)
{
    return tdm_add_norm(m->be, s->act, s->x, delta, n->gamma, n->beta, m->config.norm_eps,
                        TDM_POST_NORM, err);
}

static tdm_mat some_rows(tdm_mat m, int64_t from, int64_t n)
{
    const size_t row_bytes = (size_t)m.cols * tdm_dtype_size(m.dtype);
    return view((char *)m.p + (size_t)from * row_bytes, n, m.cols, m.dtype);
}

/* delta = outer(gelu(inner(act))), slice by slice. */
static tdm_status run_inner(const roberta *m, const block *b, tdm_mat delta, tdm_mat act, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int64_t from = 0; from < act.rows; from += m->slice) {
        const int64_t left = act.rows - from, n = left < m->slice ? left : m->slice;
        const tdm_mat hidden = view(m->s.wide, n, m->config.n_inner, m->be->dtype);
        TDM_TRY(apply(m->be, hidden, some_rows(act, from, n), &b->inner, TDM_GELU_ERF, err));
        TDM_TRY(apply(m->be, some_rows(delta, from, n), hidden, &b->outer, TDM_LINEAR, err));
    }
done:
    return st;
}

/* One post-norm block on *s [rows, E].
 *   last  of the result only the row of each <s> is wanted: what follows the attention is computed
 *         for those alone, and *s becomes them [n_texts, E]. */
static tdm_status run_block(const roberta *m, const block *b, const tdm_step *step, bool last,
                            stream *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = m->be;
    const int32_t E = m->config.n_embd;
    const tdm_mat qkv = view(m->s.wide, step->n_rows, 3 * E, be->dtype);
    tdm_mat attended = view(m->s.attended, step->n_rows, E, be->dtype);
    TDM_TRY(apply(be, qkv, s->act, &b->qkv, TDM_LINEAR, err));
    TDM_TRY(tdm_attend_packed(be, attended, qkv, step, false, err));
    if (last) {
        const tdm_mat all_x = s->x, all_attended = attended;
        *s = view_stream(m, m->s.first_x, m->s.first_act, step->n_seqs);
        attended = view(m->s.first_attended, step->n_seqs, E, be->dtype);
        TDM_TRY(tdm_gather(be, s->x, all_x, step->starts, err));
        TDM_TRY(tdm_gather(be, attended, all_attended, step->starts, err));
    }
    const tdm_mat delta = view(m->s.delta, s->x.rows, E, be->dtype);
    TDM_TRY(apply(be, delta, attended, &b->attention_out, TDM_LINEAR, err));
    TDM_TRY(normalise(m, s, &delta, &b->attention_norm, err));
    TDM_TRY(run_inner(m, b, delta, s->act, err));
    TDM_TRY(normalise(m, s, &delta, &b->outer_norm, err));
done:
    return st;
}

static tdm_status forward(const roberta *m, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = m->config.n_embd;
    stream s = view_stream(m, m->s.x, m->s.x_act, step->n_rows);
    TDM_TRY(tdm_embed(m->be, s.x, step, m->words, 0, m->positions, PAD_POSITION, err));
    TDM_TRY(normalise(m, &s, NULL, &m->embedding_norm, err));
    for (int i = 0; i < m->config.n_layer; i++) {
        TDM_TRY(tdm_check_stop(m->be->stop, err)); /* on a slow CPU a pass takes many seconds */
        TDM_TRY(run_block(m, &m->blocks[i], step, i + 1 == m->config.n_layer, &s, err));
    }
    const tdm_mat dense = view(m->s.delta, step->n_seqs, E, m->be->dtype);
    const tdm_mat logits = view(m->s.logits, step->n_seqs, ROBERTA_LABELS, TDM_F32);
    TDM_TRY(apply(m->be, dense, s.act, &m->head_dense, TDM_TANH, err));
    TDM_TRY(tdm_classify(m->be, logits, dense, m->head_out, m->head_out_bias, err));
done:
    return st;
}

/* The ids and lengths come from a caller's tokenizer: check them before they become addresses. */
static tdm_status check(const roberta *m, const int32_t *ids, const int32_t *starts,
                        int32_t n_texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(n_texts > 0 && n_texts <= m->max_texts, TDM_EARG, "%d texts at once, want 1 to %d",
                (int)n_texts, (int)m->max_texts);
    TDM_REQUIRE(starts[0] == 0, TDM_EARG, "first start %d, want 0", (int)starts[0]);
    for (int32_t i = 0; i < n_texts; i++) {
        const int64_t n = (int64_t)starts[i + 1] - starts[i];
        TDM_REQUIRE(n > 0 && n <= m->config.n_context, TDM_EARG,
                    "text of %lld tokens, want 1 to %d", (long long)n, m->config.n_context);
        TDM_REQUIRE(starts[i + 1] <= m->max_rows, TDM_EARG, "%d tokens at once, want at most %d",
                    (int)starts[i + 1], (int)m->max_rows);
    }
    for (int32_t r = 0; r < starts[n_texts]; r++)
        TDM_REQUIRE(ids[r] >= 0 && ids[r] < m->config.n_vocab, TDM_EARG,
                    "token id %d, want 0 to %d", (int)ids[r], m->config.n_vocab - 1);
done:
    return st;
}

/* Positions counted from that of <pad>: 0 for <pad>; 1, 2, ... for the other tokens of a text. */
static void number_tokens(roberta *m, const int32_t *ids, const int32_t *starts, int32_t n_texts)
{
    for (int32_t i = 0; i < n_texts; i++) {
        int32_t n = 0;
        for (int32_t r = starts[i]; r < starts[i + 1]; r++)
            m->host_positions[r] = ids[r] == m->config.pad ? 0 : ++n;
    }
}

static int32_t longest_of(const int32_t *starts, int32_t n_texts)
{
    int32_t longest = 0;
    for (int32_t i = 0; i < n_texts; i++)
        if (starts[i + 1] - starts[i] > longest)
            longest = starts[i + 1] - starts[i];
    return longest;
}

tdm_status roberta_submit(roberta *m, int lane, const int32_t *ids, const int32_t *starts,
                          int32_t n_texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_REQUIRE(!m->in_flight[lane], TDM_EARG, "lane %d: its texts have not been collected", lane);
    TDM_TRY(check(m, ids, starts, n_texts, err));
    number_tokens(m, ids, starts, n_texts);
    const int32_t n_rows = starts[n_texts];
    const size_t row_bytes = (size_t)n_rows * sizeof *ids;
    TDM_TRY(tdm_upload(m->be, m->s.tokens, ids, row_bytes, err));
    TDM_TRY(tdm_upload(m->be, m->s.positions, m->host_positions, row_bytes, err));
    TDM_TRY(tdm_upload(m->be, m->s.starts, starts, ((size_t)n_texts + 1) * sizeof *starts, err));
    const tdm_step step = {.n_rows = n_rows,
                           .n_seqs = n_texts,
                           .longest = longest_of(starts, n_texts),
                           .tokens = m->s.tokens,
                           .positions = m->s.positions,
                           .starts = m->s.starts};
    TDM_TRY(forward(m, &step, err));
    TDM_TRY(tdm_fetch_begin(m->be, lane, m->s.logits,
                            (size_t)n_texts * ROBERTA_LABELS * sizeof(float), err));
    m->in_flight[lane] = true;
done:
    return st;
}

tdm_status roberta_collect(roberta *m, int lane, const float **logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const void *fetched = NULL;
    *logits = NULL;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_REQUIRE(m->in_flight[lane], TDM_EARG, "lane %d: nothing was submitted", lane);
    m->in_flight[lane] = false;
    TDM_TRY(tdm_fetch_end(m->be, lane, &fetched, err));
    *logits = fetched;
done:
    return st;
}

tdm_status roberta_classify(roberta *m, const int32_t *ids, const int32_t *starts, int32_t n_texts,
                            float *logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const float *fetched = NULL;
    TDM_TRY(roberta_submit(m, 0, ids, starts, n_texts, err));
    TDM_TRY(roberta_collect(m, 0, &fetched, err));
    memcpy(logits, fetched, (size_t)n_texts * ROBERTA_LABELS * sizeof *logits);
done:
    return st;
}

void roberta_softmax(const float logits[ROBERTA_LABELS], double p[ROBERTA_LABELS])
{
    const double gap = (double)logits[ROBERTA_REAL] - (double)logits[ROBERTA_FAKE];
    p[ROBERTA_FAKE] = 1.0 / (1.0 + exp(gap));
    p[ROBERTA_REAL] = 1.0 / (1.0 + exp(-gap));
}
