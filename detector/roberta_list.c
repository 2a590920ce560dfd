/* detector/roberta_list.c - the tensors of a detector: their names, their shapes, and what a rank has of each. */
#include "detector/roberta_model.h"

#include <stdio.h>
#include <string.h>

const char ROBERTA_WORDS[] = "embeddings.word_embeddings.weight";
const char ROBERTA_POSITIONS[] = "embeddings.position_embeddings.weight";
const char ROBERTA_TOKEN_TYPE[] = "embeddings.token_type_embeddings.weight";
const char ROBERTA_EMBEDDING_NORM[] = "embeddings.LayerNorm";
const char ROBERTA_HEAD_DENSE[] = "classifier.dense";
const char ROBERTA_HEAD_OUT[] = "classifier.out_proj";
const char *const ROBERTA_QKV[3] = {"query", "key", "value"};

const char *roberta_prefix_of(const tdm_checkpoint *ck)
{
    return tdm_checkpoint_find(ck, ROBERTA_WORDS) ? "" : "roberta.";
}

bool roberta_has_old_names(const tdm_checkpoint *ck, const char *prefix, const char *norm_name)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s.gamma", prefix, norm_name);
    return tdm_checkpoint_find(ck, full) != NULL;
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

roberta_slices roberta_slices_of(const tdm_config *c, int32_t rank, int32_t n_ranks)
{
    const tdm_part part = roberta_part_of(c, rank, n_ranks);
    const int32_t E = c->n_embd, P = c->n_position;
    const tdm_share nothing = {0, 0}, columns = {part.heads.first * TDM_HEAD, part.heads.n * TDM_HEAD};
    return (roberta_slices){.E = tdm_whole(E),
                            .A = tdm_some(E, columns),
                            .F = tdm_some(c->n_inner, part.inner),
                            .words = tdm_some(c->n_vocab, part.words),
                            .positions = rank == 0 ? tdm_whole(P) : tdm_some(P, nothing),
                            .once = rank == 0 ? tdm_whole(E) : tdm_some(E, nothing)};
}

/* ---- all tensors, in the order in which they are loaded ---- */

typedef struct {
    const tdm_checkpoint *ck;
    const char *prefix;
    const roberta_slices *s;
    tdm_see_tensor see;
    void *ctx;
} listing;

static tdm_status see_vector(const listing *l, const char *name, tdm_slice values, tdm_tensor_role role)
{
    return l->see(l->ctx, name, values, tdm_whole(0), role);
}

static tdm_status see_linear(const listing *l, const char *name, tdm_slice in, tdm_slice out, tdm_slice bias)
{
    char full[128];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    TDM_TRY(l->see(l->ctx, full, out, in, TDM_AS_MATRIX));
    snprintf(full, sizeof full, "%s.bias", name);
    TDM_TRY(see_vector(l, full, bias, TDM_AS_BIAS));
done:
    return st;
}

static tdm_status see_head(const listing *l)
{
    char full[64];
    tdm_status st = TDM_OK;
    const tdm_slice E = l->s->E, labels = tdm_whole(ROBERTA_LABELS);
    TDM_TRY(see_linear(l, ROBERTA_HEAD_DENSE, E, E, E));
    snprintf(full, sizeof full, "%s.weight", ROBERTA_HEAD_OUT);
    TDM_TRY(l->see(l->ctx, full, labels, E, TDM_AS_F32));
    snprintf(full, sizeof full, "%s.bias", ROBERTA_HEAD_OUT);
    TDM_TRY(see_vector(l, full, labels, TDM_AS_F32));
done:
    return st;
}

static tdm_status see_norm(const listing *l, const char *name)
{
    char full[128];
    tdm_status st = TDM_OK;
    const bool old = roberta_has_old_names(l->ck, "", name);
    snprintf(full, sizeof full, "%s.%s", name, old ? "gamma" : "weight");
    TDM_TRY(see_vector(l, full, l->s->E, TDM_AS_F32));
    snprintf(full, sizeof full, "%s.%s", name, old ? "beta" : "bias");
    TDM_TRY(see_vector(l, full, l->s->E, TDM_AS_F32));
done:
    return st;
}

static tdm_status see_block(const listing *l, int layer)
{
    char name[128];
    tdm_status st = TDM_OK;
    const roberta_slices *s = l->s;
    for (size_t i = 0; i < sizeof ROBERTA_QKV / sizeof *ROBERTA_QKV; i++) {
        snprintf(name, sizeof name, "%sencoder.layer.%d.attention.self.%s", l->prefix, layer, ROBERTA_QKV[i]);
        TDM_TRY(see_linear(l, name, s->E, s->A, s->A));
    }
#define X(field, suffix, in, out, bias)                                                            \
    snprintf(name, sizeof name, "%sencoder.layer.%d." suffix, l->prefix, layer);                   \
    TDM_TRY(see_linear(l, name, in, out, bias));
    BLOCK_LINEARS(X)
#undef X
#define X(field, suffix)                                                                           \
    snprintf(name, sizeof name, "%sencoder.layer.%d." suffix, l->prefix, layer);                   \
    TDM_TRY(see_norm(l, name));
    BLOCK_NORMS(X)
#undef X
done:
    return st;
}

/* Positions and token type are tables, but kept as f32: the one is added to the other, and is no memory of its own. */
static tdm_status see_embeddings(const listing *l)
{
    char name[128];
    tdm_status st = TDM_OK;
    const roberta_slices *s = l->s;
    snprintf(name, sizeof name, "%s%s", l->prefix, ROBERTA_WORDS);
    TDM_TRY(l->see(l->ctx, name, s->words, s->E, TDM_AS_TABLE));
    snprintf(name, sizeof name, "%s%s", l->prefix, ROBERTA_POSITIONS);
    TDM_TRY(l->see(l->ctx, name, s->positions, s->E, TDM_AS_F32));
    snprintf(name, sizeof name, "%s%s", l->prefix, ROBERTA_TOKEN_TYPE);
    TDM_TRY(l->see(l->ctx, name, tdm_some(1, (tdm_share){0, 0}), s->E, TDM_AS_F32));
    snprintf(name, sizeof name, "%s%s", l->prefix, ROBERTA_EMBEDDING_NORM);
    TDM_TRY(see_norm(l, name));
done:
    return st;
}

tdm_status roberta_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, int32_t rank, int32_t n_ranks,
                               tdm_see_tensor see, void *ctx)
{
    tdm_status st = TDM_OK;
    const roberta_slices s = roberta_slices_of(config, rank, n_ranks);
    const listing l = {ck, roberta_prefix_of(ck), &s, see, ctx};
    TDM_TRY(see_head(&l));
    TDM_TRY(see_embeddings(&l));
    for (int i = 0; i < config->n_layer; i++)
        TDM_TRY(see_block(&l, i));
done:
    return st;
}
