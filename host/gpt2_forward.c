/* host/gpt2_forward.c - the forward pass of GPT-2, for the next tokens of texts; see gpt2.h.
 *
 *   h = wte[token] + wpe[position]
 *   for each layer:  h += proj(attention(qkv(ln_1(h))));  h += out(gelu(fc(ln_2(h))))
 *   logits = lm_head(ln_f(h))
 *
 * The addition of a layer's result to h is done by the norm that follows (add_norm). Among ranks wte, what attention and
 * gelu give, and the logits are parts: tdm_sum_ranks stands behind wte, proj and out, tdm_join_ranks behind lm_head.
 *
 * Details that have caused bugs:
 * - GELU is the tanh form, not erf. The norm's epsilon stands inside the root and is 1e-5.
 * - The last norm belongs behind the last addition: forgetting the delta there leaves every other
 *   test of a single layer green. */
#include "host/gpt2_model.h"
#include "host/stop.h"

/* ---- layers ---- */

/* A bias that another rank adds has no columns here. */
static const tdm_mat *added_here(const tdm_mat *bias)
{
    return bias->cols > 0 ? bias : NULL;
}

/* One block. On entry `delta` is what the block before left to be added to h (NULL for the first);
 * on exit that is proj. */
static tdm_status block_forward(gpt2_work *w, const tdm_step *step, int layer, const tdm_mat *delta, tdm_err *err)
{
    const tdm_backend *be = w->shard->be;
    const gpt2_block *b = &w->shard->blocks[layer];
    const float eps = w->config->norm_eps;
    const int32_t n = step->n_rows;
    const tdm_mat resid = gpt2_first(w->resid, n), norm = gpt2_first(w->norm, n), qkv = gpt2_first(w->qkv, n);
    const tdm_mat heads = gpt2_first(w->heads, n), proj = gpt2_first(w->proj, n);
    const tdm_mat hidden = gpt2_first(w->hidden, n);
    tdm_status st = TDM_OK;

    TDM_TRY(tdm_add_norm(be, norm, resid, delta, b->ln1_g, b->ln1_b, eps, TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(be, qkv, norm, b->qkv_w, &b->qkv_b, TDM_LINEAR, err));
    if (step->slots)
        TDM_TRY(tdm_attend_cached(be, heads, qkv, w->kv, layer, step, err));
    else
        TDM_TRY(tdm_attend_packed(be, heads, qkv, step, true, err));
    TDM_TRY(tdm_linear(be, proj, heads, b->proj_w, added_here(&b->proj_b), TDM_LINEAR, err));
    TDM_TRY(tdm_sum_ranks(be, proj, err));

    TDM_TRY(tdm_add_norm(be, norm, resid, &proj, b->ln2_g, b->ln2_b, eps, TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(be, hidden, norm, b->fc_w, &b->fc_b, TDM_GELU_TANH, err));
    TDM_TRY(tdm_linear(be, proj, hidden, b->out_w, added_here(&b->out_b), TDM_LINEAR, err));
    TDM_TRY(tdm_sum_ranks(be, proj, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gpt2 block %d", layer);
}

tdm_status gpt2_layers(gpt2_work *w, const tdm_step *step, tdm_err *err)
{
    const gpt2_shard *s = w->shard;
    const tdm_mat resid = gpt2_first(w->resid, step->n_rows), proj = gpt2_first(w->proj, step->n_rows);
    const tdm_mat positions = s->wpe.rows > 0 ? s->wpe : (tdm_mat){0}; /* none: another rank adds them */
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_embed(s->be, resid, step, s->wte, s->part.words.first, positions, 0, err));
    TDM_TRY(tdm_sum_ranks(s->be, resid, err));
    for (int i = 0; i < w->config->n_layer; i++) {
        TDM_TRY(tdm_check_stop(s->be->stop, err)); /* on a slow CPU a step takes many seconds */
        TDM_TRY(block_forward(w, step, i, i > 0 ? &proj : NULL, err));
    }
done:
    return st;
}

tdm_status gpt2_head(gpt2_work *w, tdm_mat resid, tdm_mat proj, tdm_err *err)
{
    const gpt2_shard *s = w->shard;
    const int32_t n = (int32_t)resid.rows;
    const tdm_mat norm = gpt2_first(w->norm, n), logits = gpt2_first(w->logits, n);
    const bool alone = s->be->n_ranks == 0;
    const tdm_mat block = alone ? logits : gpt2_first(w->block, n);
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_add_norm(s->be, norm, resid, &proj, s->lnf_g, s->lnf_b, w->config->norm_eps, TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(s->be, block, norm, s->head, NULL, TDM_LINEAR, err));
    if (!alone)
        TDM_TRY(tdm_join_ranks(s->be, logits, block, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gpt2 output");
}

/* ---- some tokens of some texts ---- */

tdm_status gpt2_check_tokens(const gpt2_run *r, const int32_t *tokens, int32_t n, tdm_err *err)
{
    const int32_t V = r->model->config.n_vocab;
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= V)
            return tdm_fail(err, TDM_EARG, "token %d, the vocabulary has %d", (int)tokens[i], (int)V);
    return TDM_OK;
}

static tdm_status check_step(const gpt2_run *r, const gpt2_step *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(s->n_rows > 0 && s->n_rows <= r->limits.rows && s->n_seqs > 0 &&
                    s->n_seqs <= r->limits.slots && s->n_logits >= 0 &&
                    s->n_logits <= r->limits.logits,
                TDM_EARG, "gpt2 step: %d rows of %d, %d texts of %d, %d logits of %d",
                (int)s->n_rows, (int)r->limits.rows, (int)s->n_seqs, (int)r->limits.slots,
                (int)s->n_logits, (int)r->limits.logits);
    TDM_TRY(gpt2_check_tokens(r, s->tokens, s->n_rows, err));
    for (int32_t i = 0; i < s->n_rows; i++)
        TDM_REQUIRE(s->positions[i] >= 0 && s->positions[i] < r->limits.context, TDM_EARG,
                    "position %d, the context has %d", (int)s->positions[i],
                    (int)r->limits.context);
    for (int32_t i = 0; i < s->n_seqs; i++)
        TDM_REQUIRE(s->slots[i] >= 0 && s->slots[i] < r->limits.slots &&
                        s->starts[i] < s->starts[i + 1],
                    TDM_EARG, "text %d: slot %d of %d, rows %d to %d", (int)i, (int)s->slots[i],
                    (int)r->limits.slots, (int)s->starts[i], (int)s->starts[i + 1]);
    TDM_REQUIRE(s->starts[0] == 0 && s->starts[s->n_seqs] == s->n_rows, TDM_EARG,
                "texts have rows %d to %d, the step %d", (int)s->starts[0],
                (int)s->starts[s->n_seqs], (int)s->n_rows);
    for (int32_t i = 0; i < s->n_logits; i++)
        TDM_REQUIRE(s->logit_rows[i] >= 0 && s->logit_rows[i] < s->n_rows, TDM_EARG,
                    "logits of row %d of %d", (int)s->logit_rows[i], (int)s->n_rows);
done:
    return st;
}

tdm_status gpt2_upload_ids(gpt2_work *w, int32_t *dst, const int32_t *src, int32_t n, tdm_err *err)
{
    return n > 0 ? tdm_upload(w->shard->be, dst, src, (size_t)n * sizeof *src, err) : TDM_OK;
}

int32_t gpt2_longest_text(const int32_t *starts, int32_t n)
{
    int32_t longest = 0;
    for (int32_t i = 0; i < n; i++)
        if (starts[i + 1] - starts[i] > longest)
            longest = starts[i + 1] - starts[i];
    return longest;
}

typedef struct {
    gpt2_work *works;
    const gpt2_step *step;
} step_job;

static tdm_status forward_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const step_job *job = ctx;
    const gpt2_step *s = job->step;
    gpt2_work *w = &job->works[rank];
    const int32_t n_rows = s->n_rows, n_logits = s->n_logits;
    const tdm_step step = {.n_rows = n_rows,
                           .n_seqs = s->n_seqs,
                           .longest = gpt2_longest_text(s->starts, s->n_seqs),
                           .tokens = w->tokens,
                           .positions = w->positions,
                           .starts = w->starts,
                           .slots = w->seq_slots,
                           .pages = w->pages};
    TDM_TRY(gpt2_upload_ids(w, w->tokens, s->tokens, n_rows, err));
    TDM_TRY(gpt2_upload_ids(w, w->positions, s->positions, n_rows, err));
    TDM_TRY(gpt2_upload_ids(w, w->starts, s->starts, s->n_seqs + 1, err));
    TDM_TRY(gpt2_upload_ids(w, w->seq_slots, s->slots, s->n_seqs, err));
    TDM_TRY(gpt2_upload_ids(w, w->logit_rows, s->logit_rows, n_logits, err));
    TDM_TRY(gpt2_layers(w, &step, err));
    if (n_logits == 0)
        goto done;
    const tdm_mat resid = gpt2_first(w->last_resid, n_logits), proj = gpt2_first(w->last_proj, n_logits);
    TDM_TRY(tdm_gather(be, resid, gpt2_first(w->resid, n_rows), w->logit_rows, err));
    TDM_TRY(tdm_gather(be, proj, gpt2_first(w->proj, n_rows), w->logit_rows, err));
    TDM_TRY(gpt2_head(w, resid, proj, err));
done:
    return st;
}

tdm_status gpt2_forward(gpt2_run *r, const gpt2_step *s, tdm_mat *logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_step(r, s, err));
    TDM_TRY(tdm_each_rank(r->model->be, forward_rank, &(step_job){r->works, s}, err));
    *logits = gpt2_first(r->works[0].logits, s->n_logits);
done:
    return st;
}
