/* host/gpt2_forward.c - the forward pass of GPT-2, for the next tokens of texts and for decoding; see gpt2.h.
 *
 *   h = wte[token] + wpe[position]
 *   for each layer:  h += proj(attention(qkv(ln_1(h))));  h += out(gelu(fc(ln_2(h))))
 *   logits = lm_head(ln_f(h))
 *
 * The addition of a layer's result to h is done by the norm that follows (add_norm).
 *
 * Details that have caused bugs:
 * - GELU is the tanh form, not erf. The norm's epsilon stands inside the root and is 1e-5.
 * - The last norm belongs behind the last addition: forgetting the delta there leaves every other
 *   test of a single layer green.
 * - Idle rows of a decoding step are zeros in the residual, but not behind a norm or a bias: what they
 *   compute is never looked at. */
#include <stdlib.h>
#include <string.h>

#include "host/gpt2_model.h"
#include "host/stop.h"

/* ---- layers ---- */

/* One block. On entry `delta` is what the block before left to be added to h (NULL for the first);
 * on exit that is proj. */
static tdm_status block_forward(gpt2_run *r, const tdm_step *step, int layer, const tdm_mat *delta,
                                tdm_err *err)
{
    const tdm_backend *be = r->model->be;
    const gpt2_block *w = &r->model->blocks[layer];
    const float eps = r->model->config.norm_eps;
    const int32_t n = step->n_rows;
    const tdm_mat resid = gpt2_first(r->resid, n), norm = gpt2_first(r->norm, n), qkv = gpt2_first(r->qkv, n);
    const tdm_mat heads = gpt2_first(r->heads, n), proj = gpt2_first(r->proj, n);
    const tdm_mat hidden = gpt2_first(r->hidden, n);
    tdm_status st = TDM_OK;

    TDM_TRY(tdm_add_norm(be, norm, resid, delta, w->ln1_g, w->ln1_b, eps, TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(be, qkv, norm, w->qkv_w, &w->qkv_b, TDM_LINEAR, err));
    if (step->slots)
        TDM_TRY(tdm_attend_cached(be, heads, qkv, r->kv, layer, step, err));
    else
        TDM_TRY(tdm_attend_packed(be, heads, qkv, step, true, err));
    TDM_TRY(tdm_linear(be, proj, heads, w->proj_w, &w->proj_b, TDM_LINEAR, err));

    TDM_TRY(tdm_add_norm(be, norm, resid, &proj, w->ln2_g, w->ln2_b, eps, TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(be, hidden, norm, w->fc_w, &w->fc_b, TDM_GELU_TANH, err));
    TDM_TRY(tdm_linear(be, proj, hidden, w->out_w, &w->out_b, TDM_LINEAR, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gpt2 block %d", layer);
}

tdm_status gpt2_layers(gpt2_run *r, const tdm_step *step, tdm_err *err)
{
    const gpt2_model *m = r->model;
    const tdm_mat proj = gpt2_first(r->proj, step->n_rows);
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_embed(m->be, gpt2_first(r->resid, step->n_rows), step, m->wte, 0, m->wpe, 0, err));
    for (int i = 0; i < m->config.n_layer; i++) {
        TDM_TRY(tdm_check_stop(m->be->stop, err)); /* on a slow CPU a step takes many seconds */
        TDM_TRY(block_forward(r, step, i, i > 0 ? &proj : NULL, err));
    }
done:
    return st;
}

tdm_status gpt2_head(gpt2_run *r, tdm_mat resid, tdm_mat proj, tdm_err *err)
{
    const gpt2_model *m = r->model;
    const int32_t n = (int32_t)resid.rows;
    const tdm_mat norm = gpt2_first(r->norm, n);
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_add_norm(m->be, norm, resid, &proj, m->lnf_g, m->lnf_b, m->config.norm_eps,
                         TDM_PRE_NORM, err));
    TDM_TRY(tdm_linear(m->be, gpt2_first(r->logits, n), norm, m->head, NULL, TDM_LINEAR, err));
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

tdm_status gpt2_upload_ids(gpt2_run *r, int32_t *dst, const int32_t *src, int32_t n, tdm_err *err)
{
    return n > 0 ? tdm_upload(r->model->be, dst, src, (size_t)n * sizeof *src, err) : TDM_OK;
}

int32_t gpt2_longest_text(const int32_t *starts, int32_t n)
{
    int32_t longest = 0;
    for (int32_t i = 0; i < n; i++)
        if (starts[i + 1] - starts[i] > longest)
            longest = starts[i + 1] - starts[i];
    return longest;
}

tdm_status gpt2_forward(gpt2_run *r, const gpt2_step *s, tdm_mat *logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_step(r, s, err));
    TDM_TRY(gpt2_upload_ids(r, r->tokens, s->tokens, s->n_rows, err));
    TDM_TRY(gpt2_upload_ids(r, r->positions, s->positions, s->n_rows, err));
    TDM_TRY(gpt2_upload_ids(r, r->starts, s->starts, s->n_seqs + 1, err));
    TDM_TRY(gpt2_upload_ids(r, r->seq_slots, s->slots, s->n_seqs, err));
    TDM_TRY(gpt2_upload_ids(r, r->logit_rows, s->logit_rows, s->n_logits, err));
    const tdm_step step = {.n_rows = s->n_rows,
                           .n_seqs = s->n_seqs,
                           .longest = gpt2_longest_text(s->starts, s->n_seqs),
                           .tokens = r->tokens,
                           .positions = r->positions,
                           .starts = r->starts,
                           .slots = r->seq_slots,
                           .pages = r->pages};
    TDM_TRY(gpt2_layers(r, &step, err));
    *logits = gpt2_first(r->logits, s->n_logits);
    if (s->n_logits == 0)
        goto done;
    const tdm_mat resid = gpt2_first(r->last_resid, s->n_logits), proj = gpt2_first(r->last_proj, s->n_logits);
    TDM_TRY(tdm_gather(r->model->be, resid, gpt2_first(r->resid, s->n_rows), r->logit_rows, err));
    TDM_TRY(tdm_gather(r->model->be, proj, gpt2_first(r->proj, s->n_rows), r->logit_rows, err));
    TDM_TRY(gpt2_head(r, resid, proj, err));
done:
    return st;
}

/* ---- decoding ---- */

static const int32_t CLASSES[] = {1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES, CLASS_STEP = 512 };

/* Rows of class i; beyond the table they rise by CLASS_STEP. */
static int32_t class_rows(int32_t i)
{
    return i < N_CLASSES ? CLASSES[i] : CLASSES[N_CLASSES - 1] + (i - N_CLASSES + 1) * CLASS_STEP;
}

/* The smallest class of at least n rows. */
static int32_t class_of(int32_t n)
{
    int32_t i = 0;
    while (class_rows(i) < n)
        i++;
    return i;
}

int32_t gpt2_class_rows(const tdm_backend *be, int32_t n)
{
    return n > 0 && tdm_has_graphs(be) ? class_rows(class_of(n)) : n;
}

/* The operations of one decoding step over the first `rows` of row_slots. */
static tdm_status decode_rows(gpt2_run *r, int32_t rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_step step = {.n_rows = rows,
                           .n_seqs = rows,
                           .longest = 1,
                           .tokens = r->next_tokens,
                           .positions = r->next_positions,
                           .slots = r->row_slots,
                           .pages = r->pages};
    const tdm_slots state = {.tokens = r->next_tokens,
                             .positions = r->next_positions,
                             .left = r->left,
                             .drawn = r->drawn,
                             .draws = r->draws};
    TDM_TRY(gpt2_layers(r, &step, err));
    TDM_TRY(gpt2_head(r, gpt2_first(r->resid, rows), gpt2_first(r->proj, rows), err));
    TDM_TRY(tdm_sample(r->model->be, &state, r->row_slots, gpt2_first(r->logits, rows),
                       r->model->config.eos, err));
done:
    return st;
}

/* Bring row_slots up to date: the slots, then rows of nobody. */
static tdm_status list_slots(gpt2_run *r, const int32_t *slots, int32_t n, int32_t rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)rows * sizeof *r->wanted;
    TDM_REQUIRE(n > 0 && n <= r->limits.slots, TDM_EARG, "%d texts of %d", (int)n,
                (int)r->limits.slots);
    for (int32_t i = 0; i < rows; i++) {
        r->wanted[i] = i < n ? slots[i] : -1;
        TDM_REQUIRE(i >= n || (slots[i] >= 0 && slots[i] < r->limits.slots), TDM_EARG,
                    "slot %d of %d", (int)slots[i], (int)r->limits.slots);
    }
    if (rows == r->n_listed && !memcmp(r->listed, r->wanted, bytes))
        goto done;
    r->n_listed = 0; /* should the upload fail */
    TDM_TRY(tdm_upload(r->model->be, r->row_slots, r->wanted, bytes, err));
    memcpy(r->listed, r->wanted, bytes);
    r->n_listed = rows;
done:
    return st;
}

static tdm_status capture_class(gpt2_run *r, int32_t rows, tdm_graph **graph, tdm_err *err)
{
    const tdm_backend *be = r->model->be;
    tdm_status st = tdm_graph_begin(be, err);
    if (st != TDM_OK)
        return st;
    st = decode_rows(r, rows, err);
    const tdm_status ended = tdm_graph_end(be, graph, st == TDM_OK ? err : NULL);
    return st == TDM_OK ? ended : st;
}

tdm_status gpt2_capture(gpt2_run *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n = class_of(r->limits.slots) + 1, idle = 0;
    r->graphs = calloc((size_t)n, sizeof *r->graphs);
    TDM_REQUIRE(r->graphs, TDM_ENOMEM, "%d graphs", (int)n);
    for (; r->n_graphs < n; r->n_graphs++) {
        const int32_t rows = class_rows(r->n_graphs);
        /* CUDA loads a kernel when it is first used, which a capture may forbid, and products of other
         * numbers of rows may use others: idle rows go ahead */
        TDM_TRY(list_slots(r, &idle, 1, rows, err));
        TDM_TRY(decode_rows(r, rows, err));
        TDM_TRY(capture_class(r, rows, &r->graphs[r->n_graphs], err));
    }
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "a step of %d texts", class_rows(r->n_graphs));
}

tdm_status gpt2_start(gpt2_run *r, int32_t slot, const gpt2_next *next, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = r->model->be;
    TDM_REQUIRE(slot >= 0 && slot < r->limits.slots, TDM_EARG, "slot %d of %d", (int)slot,
                (int)r->limits.slots);
    TDM_REQUIRE(next->position >= 0 && next->left >= 1 && next->position < r->limits.context &&
                    next->left <= r->limits.context - next->position,
                TDM_EARG, "%d tokens from position %d, the context has %d", (int)next->left,
                (int)next->position, (int)r->limits.context);
    TDM_TRY(gpt2_check_tokens(r, &next->token, 1, err));
    TDM_TRY(tdm_upload(be, r->next_tokens + slot, &next->token, sizeof next->token, err));
    TDM_TRY(tdm_upload(be, r->next_positions + slot, &next->position, sizeof next->position, err));
    TDM_TRY(tdm_upload(be, r->left + slot, &next->left, sizeof next->left, err));
    TDM_TRY(tdm_upload(be, r->draws + slot, &next->draw, sizeof next->draw, err));
done:
    return st;
}

tdm_status gpt2_decode(gpt2_run *r, const int32_t *slots, int32_t n, int lane, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = r->model->be;
    const int32_t rows = gpt2_class_rows(be, n);
    TDM_TRY(list_slots(r, slots, n, rows, err));
    if (r->graphs)
        TDM_TRY(tdm_graph_run(be, r->graphs[class_of(n)], err));
    else
        TDM_TRY(decode_rows(r, rows, err));
    TDM_TRY(tdm_fetch_begin(be, lane, r->drawn, (size_t)r->limits.slots * sizeof *r->drawn, err));
done:
    return st;
}

tdm_status gpt2_drawn(gpt2_run *r, int lane, const int32_t **drawn, tdm_err *err)
{
    const void *host = NULL;
    const tdm_status st = tdm_fetch_end(r->model->be, lane, &host, err);
    *drawn = host;
    return st;
}
