#include "tools/model_needs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/args.h"

/* Dimensions: E width, F feed-forward width, Q 3E, V vocabulary, P positions, a digit itself;
 * cols 0 is a vector. */
typedef struct {
    const char *name;
    char rows, cols;
} need;

static const need GPT2_ONCE[] = {{"ln_f.weight", 'E', 0}, {"ln_f.bias", 'E', 0}};
static const need GPT2_LAYER[] = {
    {"ln_1.weight", 'E', 0},          {"ln_1.bias", 'E', 0},
    {"attn.c_attn.weight", 'E', 'Q'}, {"attn.c_attn.bias", 'Q', 0},
    {"attn.c_proj.weight", 'E', 'E'}, {"attn.c_proj.bias", 'E', 0},
    {"ln_2.weight", 'E', 0},          {"ln_2.bias", 'E', 0},
    {"mlp.c_fc.weight", 'E', 'F'},    {"mlp.c_fc.bias", 'F', 0},
    {"mlp.c_proj.weight", 'F', 'E'},  {"mlp.c_proj.bias", 'E', 0},
};
static const need ROBERTA_ONCE[] = {
    {"embeddings.position_embeddings.weight", 'P', 'E'},
    {"embeddings.token_type_embeddings.weight", '1', 'E'},
    {"embeddings.LayerNorm.weight", 'E', 0},
    {"embeddings.LayerNorm.bias", 'E', 0},
};
static const need ROBERTA_HEAD[] = {
    {"classifier.dense.weight", 'E', 'E'},
    {"classifier.dense.bias", 'E', 0},
    {"classifier.out_proj.weight", '2', 'E'},
    {"classifier.out_proj.bias", '2', 0},
};
static const need ROBERTA_LAYER[] = {
    {"attention.self.query.weight", 'E', 'E'},
    {"attention.self.query.bias", 'E', 0},
    {"attention.self.key.weight", 'E', 'E'},
    {"attention.self.key.bias", 'E', 0},
    {"attention.self.value.weight", 'E', 'E'},
    {"attention.self.value.bias", 'E', 0},
    {"attention.output.dense.weight", 'E', 'E'},
    {"attention.output.dense.bias", 'E', 0},
    {"attention.output.LayerNorm.weight", 'E', 0},
    {"attention.output.LayerNorm.bias", 'E', 0},
    {"intermediate.dense.weight", 'F', 'E'},
    {"intermediate.dense.bias", 'F', 0},
    {"output.dense.weight", 'E', 'F'},
    {"output.dense.bias", 'E', 0},
    {"output.LayerNorm.weight", 'E', 0},
    {"output.LayerNorm.bias", 'E', 0},
};

typedef struct {
    model_needs *needs;
    const tdm_checkpoint *ck;
    const tdm_config *config;
    tdm_err *err;
} check;

static tdm_status problem(check *c, const char *line)
{
    c->needs->n_problems++;
    return tdm_buf_put(&c->needs->problems, line, strlen(line) + 1, c->err);
}

static int64_t dimension(const tdm_config *config, char letter)
{
    switch (letter) {
    case 'E':
        return config->n_embd;
    case 'Q':
        return 3 * (int64_t)config->n_embd;
    case 'F':
        return config->n_inner;
    case 'V':
        return config->n_vocab;
    case 'P':
        return config->n_position;
    default:
        return letter ? letter - '0' : 0;
    }
}

/* One tensor that must be there: *t receives it, or NULL after a problem was noted. */
static tdm_status want(check *c, const char *name, const need *n, const tdm_tensor **t)
{
    tdm_err why = {0};
    const int64_t rows = dimension(c->config, n->rows), cols = dimension(c->config, n->cols);
    if (tdm_checkpoint_expect(c->ck, name, rows, cols, t, &why) != TDM_OK)
        return problem(c, why.msg);
    c->needs->use[*t - tdm_checkpoint_at(c->ck, 0)] = TENSOR_USED;
    c->needs->parameters += (*t)->bytes / tdm_dtype_size((*t)->dtype);
    return TDM_OK;
}

static uint64_t f32_bytes(const tdm_tensor *t)
{
    return t ? t->bytes / tdm_dtype_size(t->dtype) * sizeof(float) : 0;
}

/* Tensors that become f32. LayerNorms of old files are named gamma and beta. */
static tdm_status want_all(check *c, const char *prefix, const need *needs, size_t n)
{
    tdm_status st = TDM_OK;
    char name[128];
    for (size_t i = 0; i < n && st == TDM_OK; i++) {
        const tdm_tensor *t = NULL;
        snprintf(name, sizeof name, "%s%s", prefix, needs[i].name);
        char *kind = strstr(name, "LayerNorm.");
        if (kind && !tdm_checkpoint_find(c->ck, name)) {
            kind += strlen("LayerNorm.");
            const bool bias = *kind == 'b';
            strcpy(kind, bias ? "beta" : "gamma");
            if (!tdm_checkpoint_find(c->ck, name))
                strcpy(kind, bias ? "bias" : "weight");
        }
        st = want(c, name, &needs[i], &t);
        c->needs->weight_bytes += f32_bytes(t);
    }
    return st;
}

static tdm_status want_layers(check *c, const char *prefix, const need *needs, size_t n)
{
    tdm_status st = TDM_OK;
    char layer[64];
    for (int i = 0; i < c->config->n_layer && st == TDM_OK; i++) {
        snprintf(layer, sizeof layer, "%s%d.", prefix, i);
        st = want_all(c, layer, needs, n);
    }
    return st;
}

static bool has(const check *c, const char *name)
{
    return tdm_checkpoint_find(c->ck, name) != NULL;
}

/* ---- GPT-2 ---- */

/* The words are there twice: as a table in the type of the file, and as output matrix in f32. */
static tdm_status gpt2_words(check *c, const char *words)
{
    static const need WORDS = {"", 'V', 'E'};
    tdm_status st = TDM_OK;
    const tdm_tensor *table = NULL, *head = NULL;
    const bool own_head = has(c, "lm_head.weight");
    if (own_head && (!c->config->tied || !has(c, words)))
        TDM_TRY(want(c, "lm_head.weight", &WORDS, &head));
    if (has(c, words) || !c->config->tied || !own_head)
        TDM_TRY(want(c, words, &WORDS, &table));
    table = table ? table : head;
    c->needs->weight_bytes += (table ? table->bytes : 0) + f32_bytes(head ? head : table);
done:
    return st;
}

static tdm_status check_gpt2(check *c)
{
    static const need POSITIONS = {"", 'P', 'E'};
    tdm_status st = TDM_OK;
    const tdm_tensor *table = NULL;
    const bool prefixed = has(c, "transformer.ln_f.weight");
    TDM_TRY(gpt2_words(c, prefixed ? "transformer.wte.weight" : "wte.weight"));
    TDM_TRY(want(c, prefixed ? "transformer.wpe.weight" : "wpe.weight", &POSITIONS, &table));
    c->needs->weight_bytes += table ? table->bytes : 0;
    TDM_TRY(want_all(c, prefixed ? "transformer." : "", GPT2_ONCE, COUNT(GPT2_ONCE)));
    TDM_TRY(want_layers(c, prefixed ? "transformer.h." : "h.", GPT2_LAYER, COUNT(GPT2_LAYER)));
    c->needs->token_bytes =
        2 * sizeof(float) * (uint64_t)c->config->n_layer * (uint64_t)c->config->n_embd;
done:
    return st;
}

/* h.N.attn.bias is the causal mask of old files, and masked_bias what it was filled with. */
static bool gpt2_ignores(const char *name)
{
    static const char PREFIX[] = "transformer.";
    if (strcmp(name, "lm_head.weight") == 0)
        return true;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) == 0)
        name += sizeof PREFIX - 1;
    if (strncmp(name, "h.", 2) != 0)
        return false;
    const size_t digits = strspn(name + 2, "0123456789");
    name += 2 + digits;
    return digits && (strcmp(name, ".attn.bias") == 0 || strcmp(name, ".attn.masked_bias") == 0);
}

/* ---- RoBERTa ---- */

static tdm_status check_roberta(check *c)
{
    static const need WORDS = {"", 'V', 'E'};
    tdm_status st = TDM_OK;
    const tdm_tensor *table = NULL;
    const bool bare = has(c, "embeddings.word_embeddings.weight");
    const char *words = "roberta.embeddings.word_embeddings.weight";
    TDM_TRY(want(c, bare ? words + strlen("roberta.") : words, &WORDS, &table));
    c->needs->weight_bytes += table ? table->bytes : 0;
    TDM_TRY(want_all(c, bare ? "" : "roberta.", ROBERTA_ONCE, COUNT(ROBERTA_ONCE)));
    TDM_TRY(want_layers(c, bare ? "encoder.layer." : "roberta.encoder.layer.", ROBERTA_LAYER,
                        COUNT(ROBERTA_LAYER)));
    TDM_TRY(want_all(c, "", ROBERTA_HEAD, COUNT(ROBERTA_HEAD)));
done:
    return st;
}

static bool roberta_ignores(const char *name)
{
    return strstr(name, "pooler.dense.") || strstr(name, "embeddings.position_ids") ||
           strncmp(name, "lm_head.", 8) == 0;
}

/* ---- both ---- */

static tdm_status note_rest(check *c)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < tdm_checkpoint_count(c->ck); i++) {
        const char *name = tdm_checkpoint_at(c->ck, i)->name;
        char line[256];
        if (c->needs->use[i] == TENSOR_USED)
            continue;
        if (c->config->arch == TDM_GPT2 ? gpt2_ignores(name) : roberta_ignores(name)) {
            c->needs->use[i] = TENSOR_IGNORED;
            continue;
        }
        snprintf(line, sizeof line, "tensor %.200s does not belong to this model", name);
        TDM_TRY(problem(c, line));
    }
done:
    return st;
}

tdm_status model_needs_check(model_needs *out, const tdm_checkpoint *ck, const tdm_config *config,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    check c = {out, ck, config, err};
    *out = (model_needs){.use = calloc(tdm_checkpoint_count(ck) + 1, sizeof *out->use)};
    TDM_REQUIRE(out->use, TDM_ENOMEM, "list of tensors");
    TDM_TRY(config->arch == TDM_GPT2 ? check_gpt2(&c) : check_roberta(&c));
    TDM_TRY(note_rest(&c));
done:
    if (st != TDM_OK)
        model_needs_free(out);
    return st;
}

void model_needs_free(model_needs *needs)
{
    free(needs->use);
    tdm_buf_free(&needs->problems);
    *needs = (model_needs){0};
}
