/* detector/roberta.c - the forward pass of the RoBERTa detector.
 *
 * Among ranks (host/ranks.h) the words, what attention gives and the inner layer are shared out: tdm_sum_ranks stands
 * behind the embedding and the two output matrices of a block. The head is on every rank, and what they found is compared.
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
#include <string.h>

enum { PAD_POSITION = 1 };

/* ---- the work of a rank ---- */

static tdm_mat view(void *p, int64_t rows, int32_t cols, tdm_dtype dtype)
{
    return (tdm_mat){.p = p, .rows = rows, .cols = cols, .dtype = dtype};
}

/* The residuals of some rows, and what linear reads of them: the same where act is f32. */
typedef struct {
    tdm_mat x, act;
} stream;

static stream view_stream(const roberta_shard *m, void *x, void *act, int64_t rows)
{
    const tdm_dtype dtype = m->be->dtype;
    const int32_t E = m->config->n_embd;
    return (stream){view(x, rows, E, TDM_F32), view(dtype == TDM_F32 ? x : act, rows, E, dtype)};
}

static tdm_status apply(const tdm_backend *be, tdm_mat y, tdm_mat x, const linear *l,
                        tdm_epilogue epilogue, tdm_err *err)
{
    return tdm_linear(be, y, x, l->w, l->bias.cols > 0 ? &l->bias : NULL, epilogue, err);
}

/* x = norm(x + delta); delta NULL: norm(x). */
static tdm_status normalise(const roberta_shard *m, const stream *s, const tdm_mat *delta, const norm *n,
                            tdm_err *err)
{
    return tdm_add_norm(m->be, s->act, s->x, delta, n->gamma, n->beta, m->config->norm_eps,
                        TDM_POST_NORM, err);
}

static tdm_mat some_rows(tdm_mat m, int64_t from, int64_t n)
{
    const size_t row_bytes = (size_t)m.cols * tdm_dtype_size(m.dtype);
    return view((char *)m.p + (size_t)from * row_bytes, n, m.cols, m.dtype);
}

/* delta = outer(gelu(inner(act))), slice by slice. */
static tdm_status run_inner(const roberta_shard *m, const block *b, tdm_mat delta, tdm_mat act, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int64_t from = 0; from < act.rows; from += m->slice) {
        const int64_t left = act.rows - from, n = left < m->slice ? left : m->slice;
        const tdm_mat hidden = view(m->s.wide, n, m->part.inner.n, m->be->dtype);
        TDM_TRY(apply(m->be, hidden, some_rows(act, from, n), &b->inner, TDM_GELU_ERF, err));
        TDM_TRY(apply(m->be, some_rows(delta, from, n), hidden, &b->outer, TDM_LINEAR, err));
    }
    TDM_TRY(tdm_sum_ranks(m->be, delta, err));
done:
    return st;
}

/* One post-norm block on *s [rows, E].
 *   last  of the result only the row of each <s> is wanted: what follows the attention is computed
 *         for those alone, and *s becomes them [n_texts, E]. */
static tdm_status run_block(const roberta_shard *m, const block *b, const tdm_step *step, bool last,
                            stream *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = m->be;
    const int32_t E = m->config->n_embd, A = m->part.heads.n * TDM_HEAD;
    const tdm_mat qkv = view(m->s.wide, step->n_rows, 3 * A, be->dtype);
    tdm_mat attended = view(m->s.attended, step->n_rows, A, be->dtype);
    TDM_TRY(apply(be, qkv, s->act, &b->qkv, TDM_LINEAR, err));
    TDM_TRY(tdm_attend_packed(be, attended, qkv, step, false, err));
    if (last) {
        const tdm_mat all_x = s->x, all_attended = attended;
        *s = view_stream(m, m->s.first_x, m->s.first_act, step->n_seqs);
        attended = view(m->s.first_attended, step->n_seqs, A, be->dtype);
        TDM_TRY(tdm_gather(be, s->x, all_x, step->starts, err));
        TDM_TRY(tdm_gather(be, attended, all_attended, step->starts, err));
    }
    const tdm_mat delta = view(m->s.delta, s->x.rows, E, be->dtype);
    TDM_TRY(apply(be, delta, attended, &b->attention_out, TDM_LINEAR, err));
    TDM_TRY(tdm_sum_ranks(be, delta, err));
    TDM_TRY(normalise(m, s, &delta, &b->attention_norm, err));
    TDM_TRY(run_inner(m, b, delta, s->act, err));
    TDM_TRY(normalise(m, s, &delta, &b->outer_norm, err));
done:
    return st;
}

static tdm_status forward(const roberta_shard *m, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = m->config->n_embd;
    const tdm_mat positions = m->positions.rows > 0 ? m->positions : (tdm_mat){0}; /* none: another rank adds them */
    stream s = view_stream(m, m->s.x, m->s.x_act, step->n_rows);
    TDM_TRY(tdm_embed(m->be, s.x, step, m->words, m->part.words.first, positions, PAD_POSITION, err));
    TDM_TRY(tdm_sum_ranks(m->be, s.x, err));
    TDM_TRY(normalise(m, &s, NULL, &m->embedding_norm, err));
    for (int i = 0; i < m->config->n_layer; i++) {
        TDM_TRY(tdm_check_stop(m->be->stop, err)); /* on a slow CPU a pass takes many seconds */
        TDM_TRY(run_block(m, &m->blocks[i], step, i + 1 == m->config->n_layer, &s, err));
    }
    const tdm_mat dense = view(m->s.delta, step->n_seqs, E, m->be->dtype);
    const tdm_mat logits = view(m->s.logits, step->n_seqs, ROBERTA_LABELS, TDM_F32);
    TDM_TRY(apply(m->be, dense, s.act, &m->head_dense, TDM_TANH, err));
    TDM_TRY(tdm_classify(m->be, logits, dense, m->head_out, m->head_out_bias, err));
done:
    return st;
}

static int32_t longest_of(const int32_t *starts, int32_t n_texts)
{
    int32_t longest = 0;
    for (int32_t i = 0; i < n_texts; i++)
        if (starts[i + 1] - starts[i] > longest)
            longest = starts[i + 1] - starts[i];
    return longest;
}

typedef struct {
    roberta *model;
    const int32_t *ids, *starts;
    int32_t n_texts;
    int lane;
} submit_job;

static tdm_status submit_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const submit_job job = *(const submit_job *)ctx;
    const roberta_shard *m = &job.model->shards[rank];
    const int32_t n_rows = job.starts[job.n_texts];
    const size_t row_bytes = (size_t)n_rows * sizeof *job.ids;
    const tdm_step step = {.n_rows = n_rows,
                           .n_seqs = job.n_texts,
                           .longest = longest_of(job.starts, job.n_texts),
                           .tokens = m->s.tokens,
                           .positions = m->s.positions,
                           .starts = m->s.starts};
    TDM_TRY(tdm_upload(be, m->s.tokens, job.ids, row_bytes, err));
    TDM_TRY(tdm_upload(be, m->s.positions, job.model->host_positions, row_bytes, err));
    TDM_TRY(tdm_upload(be, m->s.starts, job.starts, ((size_t)job.n_texts + 1) * sizeof *job.starts, err));
    TDM_TRY(forward(m, &step, err));
    TDM_TRY(tdm_fetch_begin(be, job.lane, m->s.logits, (size_t)job.n_texts * ROBERTA_LABELS * sizeof(float), err));
done:
    return st;
}

typedef struct {
    roberta *model;
    int lane;
} fetch_job;

static tdm_status fetch_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const fetch_job *job = ctx;
    return tdm_fetch_end(be, job->lane, &job->model->shards[rank].fetched, err);
}

/* ---- for all ranks ---- */

/* The ids and lengths come from a caller's tokenizer: check them before they become addresses. */
static tdm_status check(const roberta *m, const int32_t *ids, const int32_t *starts,
                        int32_t n_texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(n_texts > 0 && n_texts <= m->limits.texts, TDM_EARG, "%d texts at once, want 1 to %d",
                (int)n_texts, (int)m->limits.texts);
    TDM_REQUIRE(starts[0] == 0, TDM_EARG, "first start %d, want 0", (int)starts[0]);
    for (int32_t i = 0; i < n_texts; i++) {
        const int64_t n = (int64_t)starts[i + 1] - starts[i];
        TDM_REQUIRE(n > 0 && n <= m->config.n_context, TDM_EARG,
                    "text of %lld tokens, want 1 to %d", (long long)n, m->config.n_context);
        TDM_REQUIRE(starts[i + 1] <= m->limits.rows, TDM_EARG, "%d tokens at once, want at most %d",
                    (int)starts[i + 1], (int)m->limits.rows);
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

tdm_status roberta_submit(roberta *m, int lane, const int32_t *ids, const int32_t *starts,
                          int32_t n_texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_REQUIRE(!m->in_flight[lane], TDM_EARG, "lane %d: its texts have not been collected", lane);
    TDM_TRY(check(m, ids, starts, n_texts, err));
    number_tokens(m, ids, starts, n_texts);
    TDM_TRY(tdm_each_rank(m->be, submit_rank, &(submit_job){m, ids, starts, n_texts, lane}, err));
    m->in_flight[lane] = n_texts;
done:
    return st;
}

tdm_status roberta_collect(roberta *m, int lane, const float **logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n_ranks = tdm_rank_count(m->be);
    *logits = NULL;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_REQUIRE(m->in_flight[lane], TDM_EARG, "lane %d: nothing was submitted", lane);
    const size_t bytes = (size_t)m->in_flight[lane] * ROBERTA_LABELS * sizeof **logits;
    m->in_flight[lane] = 0;
    TDM_TRY(tdm_each_rank(m->be, fetch_rank, &(fetch_job){m, lane}, err));
    for (int32_t i = 1; i < n_ranks; i++)
        TDM_REQUIRE(!memcmp(m->shards[i].fetched, m->shards[0].fetched, bytes), TDM_EINTERNAL,
                    "rank %d judged otherwise than rank 0", (int)i);
    *logits = m->shards[0].fetched;
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
