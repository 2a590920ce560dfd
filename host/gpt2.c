/* host/gpt2.c - the weights of GPT-2: names, shares of ranks, loading, release, planning; see gpt2.h. E width, F width of
 * the feed-forward layer, V vocabulary, P positions.
 *
 * Details that have caused bugs:
 * - GELU is the tanh form, not erf. The norm's epsilon stands inside the root and is 1e-5.
 * - Matrices are [in, out] ("Conv1D"), the transpose of a Linear; wte as output is [out, in].
 * - "h.N.attn.bias" in old files is the causal mask, not a bias; the biases are attn.c_attn.bias.
 * - lm_head.weight has no "transformer." in front, whatever the other names have.
 * - The vocabulary (50257) and the heads of the largest model (25) are odd.
 * - <|endoftext|> (50256) is the start token too, but nothing puts it in front of a prompt.
 * - The last norm belongs behind the last addition: forgetting the delta there leaves every other
 *   test of a single layer green.
 * - A rank's columns of attn.c_attn are three groups, of query, key and value, not one. */
#include "host/gpt2_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/weights.h"

#define LOAD_TABLE(l, name, in, out, field, err) tdm_load_table(l, name, in, (out).size, field, err)
#define LOAD_VECTOR(l, name, in, out, field, err) tdm_load_vector(l, name, (out).size, field, err)
#define LOAD_BIAS(l, name, in, out, field, err) tdm_load_bias(l, name, out, field, err)
#define LOAD_MATRIX(l, name, in, out, field, err) tdm_load_weight(l, name, in, out, TDM_IN_OUT, field, err)
#define SEE_TABLE(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_TABLE)
#define SEE_VECTOR(see, ctx, name, in, out) see(ctx, name, out, in, TDM_AS_F32)
#define SEE_BIAS(see, ctx, name, in, out) see(ctx, name, out, in, TDM_AS_BIAS)
#define SEE_MATRIX(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_MATRIX)
#define DROP_TABLE(be, field) tdm_release(be, (field).p)
#define DROP_VECTOR(be, field) tdm_release(be, (field).p)
#define DROP_BIAS(be, field) tdm_release(be, (field).p)
#define DROP_MATRIX(be, field) tdm_weight_close(be, field)

/* ---- shares ---- */

static gpt2_slices slices_of(const tdm_config *c, int32_t rank, int32_t n_ranks)
{
    const tdm_part part = gpt2_part_of(c, rank, n_ranks);
    const int32_t E = c->n_embd, F = c->n_inner, V = c->n_vocab, P = c->n_position;
    const tdm_share nothing = {0, 0}, columns = {part.heads.first * TDM_HEAD, part.heads.n * TDM_HEAD};
    return (gpt2_slices){.none = tdm_whole(0),
                         .E = tdm_whole(E),
                         .A = tdm_some(E, columns),
                         .QKV = {3 * E, 3, columns, columns.n},
                         .F = tdm_some(F, part.inner),
                         .words = tdm_some(V, part.words),
                         .head = {V, 1, part.words, part.block},
                         .P = rank == 0 ? tdm_whole(P) : tdm_some(P, nothing),
                         .once = rank == 0 ? tdm_whole(E) : tdm_some(E, nothing)};
}

/* ---- loading ---- */

static tdm_status load_block(tdm_loader *l, const gpt2_slices *s, int layer, gpt2_block *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
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

static tdm_status load_words(tdm_loader *l, const tdm_config *config, const gpt2_slices *s, gpt2_shard *to,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *prefix = l->prefix;
    const word_names names = find_words(l->ck, config, prefix);
    l->prefix = names.table_prefix;
    TDM_TRY(tdm_load_table(l, names.table, s->words, s->E.size, &to->wte, err));
    l->prefix = names.head_prefix;
    TDM_TRY(tdm_load_weight(l, names.head, s->E, s->head, TDM_OUT_IN, &to->head, err));
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

static tdm_status load(gpt2_shard *to, const tdm_config *config, tdm_loader *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const gpt2_slices slices = slices_of(config, to->be->rank, to->be->n_ranks), *s = &slices;
    to->part = gpt2_part_of(config, to->be->rank, to->be->n_ranks);
    to->blocks = calloc((size_t)config->n_layer, sizeof *to->blocks);
    TDM_REQUIRE(to->blocks, TDM_ENOMEM, "%d layers", config->n_layer);
    TDM_TRY(load_words(l, config, s, to, err));
#define X(field, name, kind, in, out) TDM_TRY(LOAD_##kind(l, name, in, out, &to->field, err));
    GPT2_OTHER_TENSORS(X)
#undef X
    for (int i = 0; i < config->n_layer; i++)
        TDM_TRY(load_block(l, s, i, &to->blocks[i], err));
    TDM_TRY(tdm_loader_check_rest(l, gpt2_ignores, err));
    to->bytes = l->bytes;
done:
    return st;
}

typedef struct {
    gpt2_model *model;
    const tdm_checkpoint *ck;
    bool check_finite;
} load_job;

static tdm_status load_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const load_job *job = ctx;
    gpt2_model *m = job->model;
    tdm_status st = TDM_OK;
    tdm_loader l = {0};
    m->shards[rank].be = be;
    TDM_TRY(tdm_loader_open(&l, be, job->ck, prefix_of(job->ck), job->check_finite, err));
    l.stop = tdm_ranks_stop(m->be);
    TDM_TRY(load(&m->shards[rank], &m->config, &l, err));
done:
    tdm_loader_close(&l);
    return st;
}

static tdm_status check_ranks(const tdm_config *c, int32_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t units = c->n_inner / 64;
    TDM_REQUIRE(c->arch == TDM_GPT2, TDM_EFORMAT, "the model in config.json is not a GPT-2");
    TDM_REQUIRE(n <= c->n_head, TDM_EARG, "%d ranks, the model has %d heads", (int)n, c->n_head);
    TDM_REQUIRE(n <= units || n == 1, TDM_EARG, "%d ranks, the model's feed-forward layer has %d times 64 columns",
                (int)n, (int)units);
done:
    return st;
}

tdm_status gpt2_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config, bool check_finite,
                     gpt2_model **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n = tdm_rank_count(be);
    *out = NULL;
    gpt2_model *m = calloc(1, sizeof *m);
    TDM_REQUIRE(m, TDM_ENOMEM, "gpt2 model");
    m->be = be;
    m->config = *config;
    TDM_TRY(check_ranks(config, n, err));
    m->shards = calloc((size_t)n, sizeof *m->shards);
    TDM_REQUIRE(m->shards, TDM_ENOMEM, "gpt2 model of %d ranks", (int)n);
    TDM_TRY(tdm_each_rank(be, load_rank, &(load_job){m, ck, check_finite}, err));
    *out = m;
    m = NULL;
done:
    gpt2_close(m);
    return st;
}

static void drop_rank(void *ctx, const tdm_backend *be, int32_t rank)
{
    const gpt2_model *m = ctx;
    gpt2_shard *s = &m->shards[rank];
    for (int i = 0; s->blocks && i < m->config.n_layer; i++) {
        gpt2_block *b = &s->blocks[i];
#define X(field, name, kind, in, out) DROP_##kind(be, b->field);
        GPT2_BLOCK_TENSORS(X)
#undef X
    }
    free(s->blocks);
#define X(field, name, kind, in, out) DROP_##kind(be, s->field);
    GPT2_OTHER_TENSORS(X)
#undef X
    tdm_weight_close(be, s->head);
    tdm_release(be, s->wte.p);
}

void gpt2_close(gpt2_model *m)
{
    if (!m || (m->shards && !tdm_release_ranks(m->be, drop_rank, m)))
        return;
    free(m->shards);
    free(m);
}

/* ---- listing ---- */

tdm_status gpt2_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, int32_t rank, int32_t n_ranks,
                            tdm_see_tensor see, void *ctx)
{
    tdm_status st = TDM_OK;
    const gpt2_slices slices = slices_of(config, rank, n_ranks), *s = &slices;
    const char *prefix = prefix_of(ck);
    const word_names words = find_words(ck, config, prefix);
    char full[96];
    snprintf(full, sizeof full, "%s%s", words.table_prefix, words.table);
    TDM_TRY(SEE_TABLE(see, ctx, full, s->words, s->E));
    snprintf(full, sizeof full, "%s%s", words.head_prefix, words.head);
    TDM_TRY(SEE_MATRIX(see, ctx, full, s->head, s->E));
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

/* ---- looking ---- */

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
    size_t most = 0;
    for (int32_t i = 0; i < tdm_rank_count(m->be); i++)
        most = m->shards[i].bytes > most ? m->shards[i].bytes : most;
    return most;
}
