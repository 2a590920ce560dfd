/* detector/roberta_load.c - from a checkpoint to the weights of a detector, or to a rank's share of them.
 *
 * Details that have caused bugs:
 * - The token-type row is added to every token although there is one type only.
 * - Linear weights are [out, in] (GPT-2's are [in, out]).
 * - `pooler` is a layer of the head's shape that old files carry and nothing uses. */
#include "detector/roberta_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tdm_status load_linear(tdm_loader *l, const char *name, tdm_slice in, tdm_slice out, tdm_slice bias, linear *to,
                              tdm_err *err)
{
    char full[128];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    TDM_TRY(tdm_load_weight(l, full, in, out, TDM_OUT_IN, &to->w, err));
    snprintf(full, sizeof full, "%s.bias", name);
    TDM_TRY(tdm_load_bias(l, full, bias, &to->bias, err));
done:
    return st;
}

static tdm_status load_norm(tdm_loader *l, const char *name, int32_t width, norm *to, tdm_err *err)
{
    char full[128];
    tdm_status st = TDM_OK;
    const bool old = roberta_has_old_names(l->ck, l->prefix, name);
    snprintf(full, sizeof full, "%s.%s", name, old ? "gamma" : "weight");
    TDM_TRY(tdm_load_vector(l, full, width, &to->gamma, err));
    snprintf(full, sizeof full, "%s.%s", name, old ? "beta" : "bias");
    TDM_TRY(tdm_load_vector(l, full, width, &to->beta, err));
done:
    return st;
}

static tdm_status load_qkv(tdm_loader *l, int layer, const roberta_slices *s, linear *to, tdm_err *err)
{
    enum { N = sizeof ROBERTA_QKV / sizeof *ROBERTA_QKV };
    char names[2 * N][128];
    const char *weights[N], *biases[N];
    tdm_status st = TDM_OK;
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof *names, "encoder.layer.%d.attention.self.%s.weight", layer, ROBERTA_QKV[i]);
        snprintf(names[N + i], sizeof *names, "encoder.layer.%d.attention.self.%s.bias", layer, ROBERTA_QKV[i]);
        weights[i] = names[i];
        biases[i] = names[N + i];
    }
    TDM_TRY(tdm_load_weights_joined(l, weights, N, s->E, s->A, &to->w, err));
    TDM_TRY(tdm_load_biases_joined(l, biases, N, s->A, &to->bias, err));
done:
    return st;
}

static tdm_status load_block(tdm_loader *l, int layer, const roberta_slices *s, block *b, tdm_err *err)
{
    char name[96];
    tdm_status st = TDM_OK;
    TDM_TRY(load_qkv(l, layer, s, &b->qkv, err));
#define X(field, suffix, in, out, bias)                                                            \
    snprintf(name, sizeof name, "encoder.layer.%d." suffix, layer);                                \
    TDM_TRY(load_linear(l, name, in, out, bias, &b->field, err));
    BLOCK_LINEARS(X)
#undef X
#define X(field, suffix)                                                                           \
    snprintf(name, sizeof name, "encoder.layer.%d." suffix, layer);                                \
    TDM_TRY(load_norm(l, name, s->E.size, &b->field, err));
    BLOCK_NORMS(X)
#undef X
done:
    return st;
}

/* Copy f32 values [to->rows, to->cols] of the host into memory of the backend. */
static tdm_status put_f32(tdm_loader *l, const float *values, tdm_mat *to, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)to->rows * (size_t)to->cols * sizeof *values;
    TDM_TRY(tdm_alloc(l->be, bytes, &to->p, err));
    TDM_TRY(tdm_upload(l->be, to->p, values, bytes, err));
    l->bytes += bytes;
done:
    return st;
}

/* The head is on every rank. Its output layer is so small that it stays f32. */
static tdm_status load_head(tdm_loader *l, const roberta_slices *s, roberta_shard *to, tdm_err *err)
{
    char name[64];
    tdm_status st = TDM_OK;
    const float *values = NULL;
    const int32_t E = s->E.size;
    TDM_TRY(load_linear(l, ROBERTA_HEAD_DENSE, s->E, s->E, s->E, &to->head_dense, err));
    to->head_out = (tdm_mat){.rows = ROBERTA_LABELS, .cols = E, .dtype = TDM_F32};
    snprintf(name, sizeof name, "%s.weight", ROBERTA_HEAD_OUT);
    TDM_TRY(tdm_load_host(l, name, ROBERTA_LABELS, E, &values, err));
    TDM_TRY(put_f32(l, values, &to->head_out, err));
    snprintf(name, sizeof name, "%s.bias", ROBERTA_HEAD_OUT);
    TDM_TRY(tdm_load_vector(l, name, ROBERTA_LABELS, &to->head_out_bias, err));
done:
    return st;
}

/* The position table with the only token-type row added to each of its rows, as f32; no rows where another rank adds
 * them. */
static tdm_status load_positions(tdm_loader *l, const tdm_config *c, tdm_slice rows, tdm_mat *to, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t E = (size_t)c->n_embd, n = (size_t)c->n_position * E;
    const float *values = NULL;
    float *sum = NULL;
    if (rows.share.n == 0) {
        TDM_TRY(tdm_load_table(l, ROBERTA_POSITIONS, rows, c->n_embd, to, err));
        TDM_TRY(tdm_load_host(l, ROBERTA_TOKEN_TYPE, 1, c->n_embd, &values, err)); /* to check it */
        goto done;
    }
    TDM_TRY(tdm_load_host(l, ROBERTA_POSITIONS, c->n_position, c->n_embd, &values, err));
    sum = malloc(n * sizeof *sum); /* the table was just read: n floats fit */
    TDM_REQUIRE(sum, TDM_ENOMEM, "position table of %zu values", n);
    memcpy(sum, values, n * sizeof *sum);
    TDM_TRY(tdm_load_host(l, ROBERTA_TOKEN_TYPE, 1, c->n_embd, &values, err));
    for (size_t i = 0; i < n; i++)
        sum[i] += values[i % E];
    *to = (tdm_mat){.rows = c->n_position, .cols = c->n_embd, .dtype = TDM_F32};
    TDM_TRY(put_f32(l, sum, to, err));
done:
    free(sum);
    return st;
}

static tdm_status require_classifier(const tdm_checkpoint *ck, tdm_err *err)
{
    if (tdm_checkpoint_find(ck, "classifier.dense.weight"))
        return TDM_OK;
    for (size_t i = 0; i < tdm_checkpoint_count(ck); i++) {
        const char *name = tdm_checkpoint_at(ck, i)->name;
        if (!strncmp(name, "lm_head.", 8))
            return tdm_fail(err, TDM_EFORMAT,
                            "%s but no classifier.dense.weight: a language model, not a detector",
                            name);
    }
    return tdm_fail(err, TDM_EFORMAT, "no classifier.dense.weight: not a detector");
}

tdm_status roberta_load(roberta_shard *to, const tdm_checkpoint *ck, bool check_finite, const tdm_stop *stop,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_loader l = {0};
    const tdm_config *c = to->config;
    const roberta_slices s = roberta_slices_of(c, to->be->rank, to->be->n_ranks);
    TDM_TRY(require_classifier(ck, err));
    to->blocks = calloc((size_t)c->n_layer, sizeof *to->blocks);
    TDM_REQUIRE(to->blocks, TDM_ENOMEM, "%d layers", c->n_layer);
    TDM_TRY(tdm_loader_open(&l, to->be, ck, "", check_finite, err));
    l.stop = stop;
    TDM_TRY(load_head(&l, &s, to, err));
    l.prefix = roberta_prefix_of(ck);
    TDM_TRY(tdm_load_table(&l, ROBERTA_WORDS, s.words, c->n_embd, &to->words, err));
    TDM_TRY(load_positions(&l, c, s.positions, &to->positions, err));
    TDM_TRY(load_norm(&l, ROBERTA_EMBEDDING_NORM, c->n_embd, &to->embedding_norm, err));
    for (int i = 0; i < c->n_layer; i++)
        TDM_TRY(load_block(&l, i, &s, &to->blocks[i], err));
    TDM_TRY(tdm_loader_check_rest(&l, roberta_ignores, err));
    to->weight_bytes = l.bytes;
done:
    tdm_loader_close(&l);
    return st;
}

/* ---- release ---- */

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

void roberta_unload(roberta_shard *s, const tdm_backend *be)
{
    for (int i = 0; s->blocks && i < s->config->n_layer; i++) {
        block *b = &s->blocks[i];
        close_linear(be, &b->qkv);
#define X(field, name, in, out, bias) close_linear(be, &b->field);
        BLOCK_LINEARS(X)
#undef X
#define X(field, name) close_norm(be, &b->field);
        BLOCK_NORMS(X)
#undef X
    }
    free(s->blocks);
    close_linear(be, &s->head_dense);
    tdm_release(be, s->head_out.p);
    tdm_release(be, s->head_out_bias.p);
    close_norm(be, &s->embedding_norm);
    tdm_release(be, s->words.p);
    tdm_release(be, s->positions.p);
}
