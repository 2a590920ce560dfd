/* host/gpt2.c - the weights of GPT-2: names, loading, release; see gpt2.h. E width, F width of the feed-forward layer, H heads, V vocabulary.
 *
 * Details that have caused bugs:
 * - GELU is the tanh form, not erf. The norm's epsilon stands inside the root and is 1e-5.
 * - Matrices are [in, out] ("Conv1D"), the transpose of a Linear; wte as output is [out, in].
 * - "h.N.attn.bias" in old files is the causal mask, not a bias; the biases are attn.c_attn.bias.
 * - lm_head.weight has no "transformer." in front, whatever the other names have.
 * - The vocabulary (50257) and the heads of the largest model (25) are odd.
 * - <|endoftext|> (50256) is the start token too, but nothing puts it in front of a prompt.
 * - The last norm belongs behind the last addition: forgetting the delta there leaves every other
 *   test of a single layer green. */
#include "host/gpt2_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/weights.h"

#define LOAD_TABLE(l, name, in, out, field, err) tdm_load_table(l, name, tdm_whole(in), out, field, err)
#define LOAD_VECTOR(l, name, in, out, field, err) tdm_load_vector(l, name, out, field, err)
#define LOAD_BIAS(l, name, in, out, field, err) tdm_load_bias(l, name, tdm_whole(out), field, err)
#define LOAD_MATRIX(l, name, in, out, field, err)                                                  \
    tdm_load_weight(l, name, tdm_whole(in), tdm_whole(out), TDM_IN_OUT, field, err)
#define SEE_TABLE(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_TABLE)
#define SEE_VECTOR(see, ctx, name, in, out) see(ctx, name, out, 0, TDM_AS_F32)
#define SEE_BIAS(see, ctx, name, in, out) see(ctx, name, out, 0, TDM_AS_F32)
#define SEE_MATRIX(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_MATRIX)
#define DROP_TABLE(be, field) tdm_release(be, (field).p)
#define DROP_VECTOR(be, field) tdm_release(be, (field).p)
#define DROP_BIAS(be, field) tdm_release(be, (field).p)
#define DROP_MATRIX(be, field) tdm_weight_close(be, field)

/* ---- loading ---- */

static tdm_status load_block(tdm_loader *l, const tdm_config *config, int layer, gpt2_block *b,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = config->n_embd, F = config->n_inner;
    char name[64];
#define X(field, suffix, kind, in, out)                                                            \
    snprintf(name, sizeof name, "h.%d." suffix, layer);                                            \
    TDM_TRY(LOAD_##kind(l, name, in, out, &b->field, err));
    GPT2_BLOCK_TENSORS(X)
#undef X
done:
    return st;
}

static const char *prefix_of(const tdm_checkpoint *ck)
{
    return tdm_checkpoint_find(ck, "transformer.ln_f.weight") ? "transformer." : "";
}

/* Where the word table and the output matrix are: each a prefix and a name. */
typedef struct {
    const char *table_prefix, *table, *head_prefix, *head;
} word_names;

/* A tied file may hold either name, or both. */
static word_names find_words(const tdm_checkpoint *ck, const tdm_config *config, const char *prefix)
{
    static const char WORDS[] = "wte.weight", HEAD[] = "lm_head.weight";
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, WORDS);
    const bool has_head = tdm_checkpoint_find(ck, HEAD) != NULL;
    const bool head_for_words = config->tied && has_head && !tdm_checkpoint_find(ck, full);
    const bool head_for_head = has_head && (!config->tied || head_for_words);
    return (word_names){head_for_words ? "" : prefix, head_for_words ? HEAD : WORDS,
                        head_for_head ? "" : prefix, head_for_head ? HEAD : WORDS};
}

static tdm_status load_words(tdm_loader *l, gpt2_model *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t V = m->config.n_vocab, E = m->config.n_embd;
    const char *prefix = l->prefix;
    const word_names names = find_words(l->ck, &m->config, prefix);
    l->prefix = names.table_prefix;
    TDM_TRY(tdm_load_table(l, names.table, tdm_whole(V), E, &m->wte, err));
    l->prefix = names.head_prefix;
    TDM_TRY(tdm_load_weight(l, names.head, tdm_whole(E), tdm_whole(V), TDM_OUT_IN, &m->head, err));
done:
    l->prefix = prefix;
    return st;
}

bool gpt2_ignores(const char *name)
{
    static const char PREFIX[] = "transformer.";
    if (!strcmp(name, "lm_head.weight"))
        return true;
    if (!strncmp(name, PREFIX, sizeof PREFIX - 1))
        name += sizeof PREFIX - 1;
    if (strncmp(name, "h.", 2))
        return false;
    const size_t digits = strspn(name + 2, "0123456789");
    name += 2 + digits;
    return digits > 0 && (!strcmp(name, ".attn.bias") || !strcmp(name, ".attn.masked_bias"));
}

static tdm_status load(gpt2_model *m, tdm_loader *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_config *c = &m->config;
    const int32_t P = c->n_position, E = c->n_embd;
    TDM_TRY(load_words(l, m, err));
#define X(field, name, kind, in, out) TDM_TRY(LOAD_##kind(l, name, in, out, &m->field, err));
    GPT2_OTHER_TENSORS(X)
#undef X
    for (int i = 0; i < c->n_layer; i++)
        TDM_TRY(load_block(l, c, i, &m->blocks[i], err));
    TDM_TRY(tdm_loader_check_rest(l, gpt2_ignores, err));
    m->bytes = l->bytes;
done:
    return st;
}

tdm_status gpt2_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, tdm_see_tensor see,
                            void *ctx)
{
    tdm_status st = TDM_OK;
    const int32_t V = config->n_vocab, P = config->n_position;
    const int32_t E = config->n_embd, F = config->n_inner;
    const char *prefix = prefix_of(ck);
    const word_names words = find_words(ck, config, prefix);
    char full[96];
    snprintf(full, sizeof full, "%s%s", words.table_prefix, words.table);
    TDM_TRY(see(ctx, full, V, E, TDM_AS_TABLE));
    snprintf(full, sizeof full, "%s%s", words.head_prefix, words.head);
    TDM_TRY(see(ctx, full, V, E, TDM_AS_MATRIX));
#define X(field, name, kind, in, out)                                                              \
    snprintf(full, sizeof full, "%s" name, prefix);                                                \
    TDM_TRY(SEE_##kind(see, ctx, full, in, out));
    GPT2_OTHER_TENSORS(X)
#undef X
    for (int i = 0; i < config->n_layer; i++) {
#define X(field, suffix, kind, in, out)                                                            \
    snprintf(full, sizeof full, "%sh.%d." suffix, prefix, i);                                      \
    TDM_TRY(SEE_##kind(see, ctx, full, in, out));
        GPT2_BLOCK_TENSORS(X)
#undef X
    }
done:
    return st;
}

tdm_status gpt2_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                     bool check_finite, gpt2_model **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_loader l = {0};
    *out = NULL;
    gpt2_model *m = calloc(1, sizeof *m);
    TDM_REQUIRE(m, TDM_ENOMEM, "gpt2 model");
    TDM_REQUIRE(config->arch == TDM_GPT2, TDM_EFORMAT, "the model in config.json is not a GPT-2");
    m->be = be;
    m->config = *config;
    m->blocks = calloc((size_t)config->n_layer, sizeof *m->blocks);
    TDM_REQUIRE(m->blocks, TDM_ENOMEM, "%d layers", config->n_layer);
    TDM_TRY(tdm_loader_open(&l, be, ck, prefix_of(ck), check_finite, err));
    TDM_TRY(load(m, &l, err));
    *out = m;
    m = NULL;
done:
    tdm_loader_close(&l);
    gpt2_close(m);
    return st;
}

void gpt2_close(gpt2_model *m)
{
    if (!m)
        return;
    for (int i = 0; m->blocks && i < m->config.n_layer; i++) {
        gpt2_block *b = &m->blocks[i];
#define X(field, name, kind, in, out) DROP_##kind(m->be, b->field);
        GPT2_BLOCK_TENSORS(X)
#undef X
    }
    free(m->blocks);
    if (m->be) {
#define X(field, name, kind, in, out) DROP_##kind(m->be, m->field);
        GPT2_OTHER_TENSORS(X)
#undef X
        tdm_weight_close(m->be, m->head);
        tdm_release(m->be, m->wte.p);
    }
    free(m);
}

const tdm_backend *gpt2_backend(const gpt2_model *m)
{
    return m->be;
}

const tdm_config *gpt2_config(const gpt2_model *m)
{
    return &m->config;
}

size_t gpt2_weight_bytes(const gpt2_model *m)
{
    return m->bytes;
}
