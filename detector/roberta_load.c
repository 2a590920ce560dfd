/* detector/roberta_load.c - from a checkpoint to the weights of a detector, and the list of what that
 * takes.
 *
 * Details that have caused bugs:
 * - The token-type row is added to every token although there is one type only.
 * - Linear weights are [out, in] (GPT-2's are [in, out]).
 * - `pooler` is a layer of the head's shape that old files carry and nothing uses. */
#include "detector/roberta_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/weights.h"

static const char WORDS[] = "embeddings.word_embeddings.weight";
static const char POSITIONS[] = "embeddings.position_embeddings.weight";
static const char TOKEN_TYPE[] = "embeddings.token_type_embeddings.weight";
static const char EMBEDDING_NORM[] = "embeddings.LayerNorm";
static const char HEAD_DENSE[] = "classifier.dense"; /* never with "roberta." */
static const char HEAD_OUT[] = "classifier.out_proj";
static const char *const QKV[] = {"query", "key", "value"};

static tdm_status load_linear(tdm_loader *l, const char *name, int32_t in, int32_t out, linear *to,
                              tdm_err *err)
{
    char full[128];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    TDM_TRY(tdm_load_weight(l, full, tdm_whole(in), tdm_whole(out), TDM_OUT_IN, &to->w, err));
    snprintf(full, sizeof full, "%s.bias", name);
    TDM_TRY(tdm_load_bias(l, full, tdm_whole(out), &to->bias, err));
done:
    return st;
}

/* Files from before 2019 call a norm's weight and bias gamma and beta. */
static bool has_old_names(const tdm_checkpoint *ck, const char *prefix, const char *norm_name)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s.gamma", prefix, norm_name);
    return tdm_checkpoint_find(ck, full) != NULL;
}

static tdm_status load_norm(tdm_loader *l, const char *name, int32_t width, norm *to, tdm_err *err)
{
    char full[128];
    tdm_status st = TDM_OK;
    const bool old = has_old_names(l->ck, l->prefix, name);
    snprintf(full, sizeof full, "%s.%s", name, old ? "gamma" : "weight");
    TDM_TRY(tdm_load_vector(l, full, width, &to->gamma, err));
    snprintf(full, sizeof full, "%s.%s", name, old ? "beta" : "bias");
    TDM_TRY(tdm_load_vector(l, full, width, &to->beta, err));
done:
    return st;
}

static tdm_status load_qkv(tdm_loader *l, int layer, int32_t E, linear *to, tdm_err *err)
{
    enum { N = sizeof QKV / sizeof *QKV };
    char names[2 * N][128];
    const char *weights[N], *biases[N];
    tdm_status st = TDM_OK;
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof *names, "encoder.layer.%d.attention.self.%s.weight", layer,
                 QKV[i]);
        snprintf(names[N + i], sizeof *names, "encoder.layer.%d.attention.self.%s.bias", layer,
                 QKV[i]);
        weights[i] = names[i];
        biases[i] = names[N + i];
    }
    TDM_TRY(tdm_load_weights_joined(l, weights, N, tdm_whole(E), tdm_whole(E), &to->w, err));
    TDM_TRY(tdm_load_biases_joined(l, biases, N, tdm_whole(E), &to->bias, err));
done:
    return st;
}

static tdm_status load_block(tdm_loader *l, int layer, const tdm_config *c, block *b, tdm_err *err)
{
    char name[96];
    tdm_status st = TDM_OK;
    const int32_t E = c->n_embd, F = c->n_inner;
    TDM_TRY(load_qkv(l, layer, E, &b->qkv, err));
#define X(field, suffix, in, out)                                                                  \
    snprintf(name, sizeof name, "encoder.layer.%d." suffix, layer);                                \
    TDM_TRY(load_linear(l, name, in, out, &b->field, err));
    BLOCK_LINEARS(X)
#undef X
#define X(field, suffix)                                                                           \
    snprintf(name, sizeof name, "encoder.layer.%d." suffix, layer);                                \
    TDM_TRY(load_norm(l, name, E, &b->field, err));
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

/* The output layer is so small that it stays f32. */
static tdm_status load_head_out(tdm_loader *l, roberta *m, tdm_err *err)
{
    char name[64];
    tdm_status st = TDM_OK;
    const float *values = NULL;
    m->head_out =
        (tdm_mat){.rows = ROBERTA_LABELS, .cols = m->config.n_embd, .dtype = TDM_F32};
    snprintf(name, sizeof name, "%s.weight", HEAD_OUT);
    TDM_TRY(tdm_load_host(l, name, ROBERTA_LABELS, m->config.n_embd, &values, err));
    TDM_TRY(put_f32(l, values, &m->head_out, err));
    snprintf(name, sizeof name, "%s.bias", HEAD_OUT);
    TDM_TRY(tdm_load_vector(l, name, ROBERTA_LABELS, &m->head_out_bias, err));
done:
    return st;
}

/* The position table with the only token-type row added to each of its rows, as f32. */
static tdm_status load_positions(tdm_loader *l, const tdm_config *c, tdm_mat *to, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t E = (size_t)c->n_embd, n = (size_t)c->n_position * E;
    const float *values = NULL;
    float *sum = NULL;
    TDM_TRY(tdm_load_host(l, POSITIONS, c->n_position, c->n_embd, &values, err));
    sum = malloc(n * sizeof *sum); /* the table was just read: n floats fit */
    TDM_REQUIRE(sum, TDM_ENOMEM, "position table of %zu values", n);
    memcpy(sum, values, n * sizeof *sum);
    TDM_TRY(tdm_load_host(l, TOKEN_TYPE, 1, c->n_embd, &values, err));
    for (size_t i = 0; i < n; i++)
        sum[i] += values[i % E];
    *to = (tdm_mat){.rows = c->n_position, .cols = c->n_embd, .dtype = TDM_F32};
    TDM_TRY(put_f32(l, sum, to, err));
done:
    free(sum);
    return st;
}

bool roberta_ignores(const char *name)
{
    static const char PREFIX[] = "roberta.";
    static const char *const NAMES[] = {"pooler.dense.weight", "pooler.dense.bias",
                                        "embeddings.position_ids"};
    if (!strncmp(name, "lm_head.", 8))
        return true;
    if (!strncmp(name, PREFIX, sizeof PREFIX - 1))
        name += sizeof PREFIX - 1;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(name, NAMES[i]))
            return true;
    return false;
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

static const char *prefix_of(const tdm_checkpoint *ck)
{
    return tdm_checkpoint_find(ck, WORDS) ? "" : "roberta.";
}

tdm_status roberta_load(roberta *m, const tdm_checkpoint *ck, bool check_finite, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_loader l = {0};
    const int32_t E = m->config.n_embd;
    TDM_TRY(require_classifier(ck, err));
    TDM_TRY(tdm_loader_open(&l, m->be, ck, "", check_finite, err));
    TDM_TRY(load_linear(&l, HEAD_DENSE, E, E, &m->head_dense, err));
    TDM_TRY(load_head_out(&l, m, err));

    l.prefix = prefix_of(ck);
    TDM_TRY(tdm_load_table(&l, WORDS, tdm_whole(m->config.n_vocab), E, &m->words, err));
    TDM_TRY(load_positions(&l, &m->config, &m->positions, err));
    TDM_TRY(load_norm(&l, EMBEDDING_NORM, E, &m->embedding_norm, err));
    for (int i = 0; i < m->config.n_layer; i++)
        TDM_TRY(load_block(&l, i, &m->config, &m->blocks[i], err));
    TDM_TRY(tdm_loader_check_rest(&l, roberta_ignores, err));
    m->weight_bytes = l.bytes;
done:
    tdm_loader_close(&l);
    return st;
}

/* ---- listing ---- */

typedef struct {
    const tdm_checkpoint *ck;
    tdm_see_tensor see;
    void *ctx;
} listing;

static tdm_status see_linear(const listing *l, const char *name, int32_t in, int32_t out)
{
    char full[128];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    TDM_TRY(l->see(l->ctx, full, out, in, TDM_AS_MATRIX));
    snprintf(full, sizeof full, "%s.bias", name);
    TDM_TRY(l->see(l->ctx, full, out, 0, TDM_AS_F32));
done:
    return st;
}

static tdm_status see_head_out(const listing *l, int32_t width)
{
    char full[64];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", HEAD_OUT);
    TDM_TRY(l->see(l->ctx, full, ROBERTA_LABELS, width, TDM_AS_F32));
    snprintf(full, sizeof full, "%s.bias", HEAD_OUT);
    TDM_TRY(l->see(l->ctx, full, ROBERTA_LABELS, 0, TDM_AS_F32));
done:
    return st;
}

static tdm_status see_norm(const listing *l, const char *name, int32_t width)
{
    char full[128];
    tdm_status st = TDM_OK;
    const bool old = has_old_names(l->ck, "", name);
    snprintf(full, sizeof full, "%s.%s", name, old ? "gamma" : "weight");
    TDM_TRY(l->see(l->ctx, full, width, 0, TDM_AS_F32));
    snprintf(full, sizeof full, "%s.%s", name, old ? "beta" : "bias");
    TDM_TRY(l->see(l->ctx, full, width, 0, TDM_AS_F32));
done:
    return st;
}

static tdm_status see_block(const listing *l, const char *prefix, int layer, const tdm_config *c)
{
    char name[128];
    tdm_status st = TDM_OK;
    const int32_t E = c->n_embd, F = c->n_inner;
    for (size_t i = 0; i < sizeof QKV / sizeof *QKV; i++) {
        snprintf(name, sizeof name, "%sencoder.layer.%d.attention.self.%s", prefix, layer, QKV[i]);
        TDM_TRY(see_linear(l, name, E, E));
    }
#define X(field, suffix, in, out)                                                                  \
    snprintf(name, sizeof name, "%sencoder.layer.%d." suffix, prefix, layer);                      \
    TDM_TRY(see_linear(l, name, in, out));
    BLOCK_LINEARS(X)
#undef X
#define X(field, suffix)                                                                           \
    snprintf(name, sizeof name, "%sencoder.layer.%d." suffix, prefix, layer);                      \
    TDM_TRY(see_norm(l, name, E));
    BLOCK_NORMS(X)
#undef X
done:
    return st;
}

/* Positions and token type are tables, but kept as f32: the one is added to the other. */
static tdm_status see_embeddings(const listing *l, const char *prefix, const tdm_config *c)
{
    char name[128];
    tdm_status st = TDM_OK;
    const int32_t E = c->n_embd;
    snprintf(name, sizeof name, "%s%s", prefix, WORDS);
    TDM_TRY(l->see(l->ctx, name, c->n_vocab, E, TDM_AS_TABLE));
    snprintf(name, sizeof name, "%s%s", prefix, POSITIONS);
    TDM_TRY(l->see(l->ctx, name, c->n_position, E, TDM_AS_F32));
    snprintf(name, sizeof name, "%s%s", prefix, TOKEN_TYPE);
    TDM_TRY(l->see(l->ctx, name, 1, E, TDM_AS_F32));
    snprintf(name, sizeof name, "%s%s", prefix, EMBEDDING_NORM);
    TDM_TRY(see_norm(l, name, E));
done:
    return st;
}

tdm_status roberta_each_tensor(const tdm_checkpoint *ck, const tdm_config *config,
                               tdm_see_tensor see, void *ctx)
{
    tdm_status st = TDM_OK;
    const listing l = {ck, see, ctx};
    const char *prefix = prefix_of(ck);
    TDM_TRY(see_linear(&l, HEAD_DENSE, config->n_embd, config->n_embd));
    TDM_TRY(see_head_out(&l, config->n_embd));
    TDM_TRY(see_embeddings(&l, prefix, config));
    for (int i = 0; i < config->n_layer; i++)
        TDM_TRY(see_block(&l, prefix, i, config));
done:
    return st;
}
