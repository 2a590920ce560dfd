/* host/gpt2.c - see gpt2.h. E width, F width of the feed-forward layer, H heads, V vocabulary.
 *
 *   h = wte[token] + wpe[position]
 *   for each layer:  h += proj(attention(qkv(ln_1(h))));  h += out(gelu(fc(ln_2(h))))
 *   logits = lm_head(ln_f(h))
 *
 * The addition of a layer's result to h is done by the norm that follows (add_norm).
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
#include "host/gpt2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "host/weights.h"

/* All tensors but the words. Struct, loader, list and release expand these: they cannot disagree.
 * A vector has `out` values; a matrix or table is [in, out].
 *  field    name after the prefix    kind    in  out */
#define GPT2_OTHER_TENSORS(X)                                                                      \
    X(wpe, "wpe.weight", TABLE, P, E)                                                              \
    X(lnf_g, "ln_f.weight", VECTOR, 0, E)                                                          \
    X(lnf_b, "ln_f.bias", VECTOR, 0, E)
/*  field    name after "h.N." */
#define GPT2_BLOCK_TENSORS(X)                                                                      \
    X(ln1_g, "ln_1.weight", VECTOR, 0, E)                                                          \
    X(ln1_b, "ln_1.bias", VECTOR, 0, E)                                                            \
    X(qkv_w, "attn.c_attn.weight", MATRIX, E, 3 * E)                                               \
    X(qkv_b, "attn.c_attn.bias", VECTOR, 0, 3 * E)                                                 \
    X(proj_w, "attn.c_proj.weight", MATRIX, E, E)                                                  \
    X(proj_b, "attn.c_proj.bias", VECTOR, 0, E)                                                    \
    X(ln2_g, "ln_2.weight", VECTOR, 0, E)                                                          \
    X(ln2_b, "ln_2.bias", VECTOR, 0, E)                                                            \
    X(fc_w, "mlp.c_fc.weight", MATRIX, E, F)                                                       \
    X(fc_b, "mlp.c_fc.bias", VECTOR, 0, F)                                                         \
    X(out_w, "mlp.c_proj.weight", MATRIX, F, E)                                                    \
    X(out_b, "mlp.c_proj.bias", VECTOR, 0, E)

#define FIELD_TABLE(field) tdm_mat field;
#define FIELD_VECTOR(field) tdm_mat field;
#define FIELD_MATRIX(field) tdm_weight *field;
#define LOAD_TABLE(l, name, in, out, field, err) tdm_load_table(l, name, in, out, field, err)
#define LOAD_VECTOR(l, name, in, out, field, err) tdm_load_vector(l, name, out, field, err)
#define LOAD_MATRIX(l, name, in, out, field, err)                                                  \
    tdm_load_weight(l, name, in, out, TDM_IN_OUT, field, err)
#define SEE_TABLE(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_TABLE)
#define SEE_VECTOR(see, ctx, name, in, out) see(ctx, name, out, 0, TDM_AS_F32)
#define SEE_MATRIX(see, ctx, name, in, out) see(ctx, name, in, out, TDM_AS_MATRIX)
#define DROP_TABLE(be, field) tdm_release(be, (field).p)
#define DROP_VECTOR(be, field) tdm_release(be, (field).p)
#define DROP_MATRIX(be, field) tdm_weight_close(be, field)

typedef struct {
#define X(field, name, kind, in, out) FIELD_##kind(field)
    GPT2_BLOCK_TENSORS(X)
#undef X
} gpt2_block;

struct gpt2_model {
    const tdm_backend *be; /* borrowed */
    tdm_config config;
    size_t bytes;
    tdm_mat wte;      /* [V, E] */
    tdm_weight *head; /* in E, out V */
#define X(field, name, kind, in, out) FIELD_##kind(field)
    GPT2_OTHER_TENSORS(X)
#undef X
    gpt2_block *blocks; /* [n_layer] */
};

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
    TDM_TRY(tdm_load_table(l, names.table, V, E, &m->wte, err));
    l->prefix = names.head_prefix;
    TDM_TRY(tdm_load_weight(l, names.head, E, V, TDM_OUT_IN, &m->head, err));
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

/* ---- the memory of a run ---- */

/* All scratch of a run: R rows, N rows of logits, S slots. Plan and views expand this list. */
#define GPT2_SCRATCH(X)                                                                            \
    X(resid, R, E)       /* h: the residual stream */                                              \
    X(norm, R, E)                                                                                  \
    X(qkv, R, 3 * E)                                                                               \
    X(heads, R, E)       /* what attention gives */                                                \
    X(proj, R, E)        /* what is to be added to h */                                            \
    X(hidden, R, F)                                                                                \
    X(last_resid, N, E)  /* the rows whose logits are wanted */                                    \
    X(last_proj, N, E)                                                                             \
    X(logits, N, V)                                                                                \
    X(tokens, R, 1)      /* int32 from here on */                                                  \
    X(positions, R, 1)                                                                             \
    X(starts, S + 1, 1)                                                                            \
    X(slots, S, 1)                                                                                 \
    X(logit_rows, N, 1)

struct gpt2_run {
    const gpt2_model *model; /* borrowed */
    gpt2_limits limits;
    tdm_kv *kv;
    void *memory; /* one allocation, carved into the views below */
#define X(field, rows, cols) tdm_mat field;
    GPT2_SCRATCH(X)
#undef X
};

/* Place the views one behind the other from `base`; *bytes is the sum. False on overflow. */
static bool carve(gpt2_run *r, const tdm_config *c, const gpt2_limits *limits, char *base,
                  size_t *bytes)
{
    const int32_t E = c->n_embd, F = c->n_inner, V = c->n_vocab;
    const int32_t R = limits->rows, N = limits->logits, S = limits->slots;
    bool fits = true;
    size_t at = 0, size = 0;
#define X(field, n_rows, n_cols)                                                                   \
    r->field = (tdm_mat){.p = base ? base + at : NULL, .rows = n_rows, .cols = n_cols};            \
    fits = fits && tdm_mul_size((size_t)(n_rows), (size_t)(n_cols) * 4, &size) &&                  \
           tdm_add_size(size, 63, &size) && tdm_add_size(at, size & ~(size_t)63, &at);
    GPT2_SCRATCH(X)
#undef X
    *bytes = at;
    return fits;
}

bool gpt2_run_bytes(const tdm_config *config, const gpt2_limits *limits, size_t *cache,
                    size_t *scratch)
{
    gpt2_run views;
    const size_t per_token = (size_t)config->n_layer * (size_t)config->n_embd * 2 * sizeof(float);
    return tdm_mul_size(per_token, (size_t)limits->context, cache) &&
           tdm_mul_size(*cache, (size_t)limits->slots, cache) &&
           carve(&views, config, limits, NULL, scratch);
}

tdm_status gpt2_run_open(const gpt2_model *m, const gpt2_limits *limits, gpt2_run **out,
                         tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t cache = 0, scratch = 0;
    const tdm_config *c = &m->config;
    *out = NULL;
    gpt2_run *r = calloc(1, sizeof *r);
    TDM_REQUIRE(r, TDM_ENOMEM, "gpt2 run");
    r->model = m;
    r->limits = *limits;
    TDM_REQUIRE(limits->slots > 0 && limits->logits > 0 && limits->rows >= limits->slots, TDM_EARG,
                "gpt2 run: %d slots, %d rows, %d rows of logits", (int)limits->slots,
                (int)limits->rows, (int)limits->logits);
    TDM_REQUIRE(limits->context > 0 && limits->context <= c->n_context, TDM_EARG,
                "gpt2 run: context %d, the model has %d", (int)limits->context, c->n_context);
    TDM_REQUIRE(gpt2_run_bytes(c, limits, &cache, &scratch), TDM_ENOMEM,
                "%d texts of %d tokens do not fit the address space", (int)limits->slots,
                (int)limits->context);
    TDM_TRY(tdm_alloc(m->be, scratch, &r->memory, err));
    (void)carve(r, c, limits, r->memory, &scratch);
    TDM_TRY(tdm_kv_open(m->be, c->n_layer, c->n_head, limits->slots, limits->context, &r->kv, err));
    *out = r;
    r = NULL;
done:
    gpt2_run_close(r);
    return st != TDM_ENOMEM ? st
                            : tdm_context(err, st, "%.1f MiB of cache and %.1f MiB of scratch",
                                          (double)cache / 0x1p20, (double)scratch / 0x1p20);
}

void gpt2_run_close(gpt2_run *r)
{
    if (!r)
        return;
    tdm_kv_close(r->model->be, r->kv);
    tdm_release(r->model->be, r->memory);
    free(r);
}

/* ---- the forward pass ---- */

static tdm_status check_step(const gpt2_run *r, const gpt2_step *s, tdm_err *err)
{
    const int32_t V = r->model->config.n_vocab;
    tdm_status st = TDM_OK;
    TDM_REQUIRE(s->n_rows > 0 && s->n_rows <= r->limits.rows && s->n_seqs > 0 &&
                    s->n_seqs <= r->limits.slots && s->n_logits >= 0 &&
                    s->n_logits <= r->limits.logits,
                TDM_EARG, "gpt2 step: %d rows of %d, %d texts of %d, %d logits of %d",
                (int)s->n_rows, (int)r->limits.rows, (int)s->n_seqs, (int)r->limits.slots,
                (int)s->n_logits, (int)r->limits.logits);
    for (int32_t i = 0; i < s->n_rows; i++) {
        TDM_REQUIRE(s->tokens[i] >= 0 && s->tokens[i] < V, TDM_EARG,
                    "token %d, the vocabulary has %d", (int)s->tokens[i], (int)V);
        TDM_REQUIRE(s->positions[i] >= 0 && s->positions[i] < r->limits.context, TDM_EARG,
                    "position %d, the context has %d", (int)s->positions[i],
                    (int)r->limits.context);
    }
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

static tdm_status upload_step(gpt2_run *r, const gpt2_step *s, tdm_step *step, tdm_err *err)
{
    const tdm_backend *be = r->model->be;
    const size_t rows = (size_t)s->n_rows * sizeof(int32_t);
    const size_t seqs = (size_t)s->n_seqs * sizeof(int32_t);
    const size_t wanted = (size_t)s->n_logits * sizeof(int32_t);
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_upload(be, r->tokens.p, s->tokens, rows, err));
    TDM_TRY(tdm_upload(be, r->positions.p, s->positions, rows, err));
    TDM_TRY(tdm_upload(be, r->starts.p, s->starts, seqs + sizeof(int32_t), err));
    TDM_TRY(tdm_upload(be, r->slots.p, s->slots, seqs, err));
    if (s->n_logits > 0)
        TDM_TRY(tdm_upload(be, r->logit_rows.p, s->logit_rows, wanted, err));
    *step = (tdm_step){.n_rows = s->n_rows,
                       .n_seqs = s->n_seqs,
                       .tokens = r->tokens.p,
                       .positions = r->positions.p,
                       .starts = r->starts.p,
                       .slots = r->slots.p};
done:
    return st;
}

/* The first `rows` rows of a scratch matrix. */
static tdm_mat first(tdm_mat m, int32_t rows)
{
    m.rows = rows;
    return m;
}

/* One block. On entry `delta` is what the block before left to be added to h (NULL for the first);
 * on exit that is proj. */
static tdm_status block_forward(gpt2_run *r, const gpt2_block *w, const tdm_step *step, int layer,
                                const tdm_mat *delta, tdm_err *err)
{
    const tdm_backend *be = r->model->be;
    const float eps = r->model->config.norm_eps;
    const int32_t n = step->n_rows;
    const tdm_mat resid = first(r->resid, n), norm = first(r->norm, n), qkv = first(r->qkv, n);
    const tdm_mat heads = first(r->heads, n), proj = first(r->proj, n);
    const tdm_mat hidden = first(r->hidden, n);
    tdm_status st = TDM_OK;

    TDM_TRY(tdm_add_norm(be, norm, resid, delta, w->ln1_g, w->ln1_b, eps, err));
    TDM_TRY(tdm_linear(be, qkv, norm, w->qkv_w, &w->qkv_b, TDM_LINEAR, err));
    TDM_TRY(tdm_attend_cached(be, heads, qkv, r->kv, layer, step, err));
    TDM_TRY(tdm_linear(be, proj, heads, w->proj_w, &w->proj_b, TDM_LINEAR, err));

    TDM_TRY(tdm_add_norm(be, norm, resid, &proj, w->ln2_g, w->ln2_b, eps, err));
    TDM_TRY(tdm_linear(be, hidden, norm, w->fc_w, &w->fc_b, TDM_GELU_TANH, err));
    TDM_TRY(tdm_linear(be, proj, hidden, w->out_w, &w->out_b, TDM_LINEAR, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gpt2 block %d", layer);
}

/* The last addition, the last norm and the output matrix, for the wanted rows alone. */
static tdm_status head_forward(gpt2_run *r, int32_t n_rows, int32_t n, tdm_mat *logits,
                               tdm_err *err)
{
    const gpt2_model *m = r->model;
    const tdm_mat resid = first(r->last_resid, n), proj = first(r->last_proj, n);
    const int32_t *rows = r->logit_rows.p;
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_gather(m->be, resid, first(r->resid, n_rows), rows, err));
    TDM_TRY(tdm_gather(m->be, proj, first(r->proj, n_rows), rows, err));
    TDM_TRY(tdm_add_norm(m->be, resid, resid, &proj, m->lnf_g, m->lnf_b, m->config.norm_eps, err));
    TDM_TRY(tdm_linear(m->be, *logits, resid, m->head, NULL, TDM_LINEAR, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gpt2 output");
}

tdm_status gpt2_forward(gpt2_run *r, const gpt2_step *s, tdm_mat *logits, tdm_err *err)
{
    const gpt2_model *m = r->model;
    tdm_status st = TDM_OK;
    tdm_step step;
    TDM_TRY(check_step(r, s, err));
    TDM_TRY(upload_step(r, s, &step, err));

    const tdm_mat proj = first(r->proj, s->n_rows);
    TDM_TRY(tdm_embed(m->be, first(r->resid, s->n_rows), &step, m->wte, m->wpe, 0, err));
    for (int i = 0; i < m->config.n_layer; i++)
        TDM_TRY(block_forward(r, &m->blocks[i], &step, i, i > 0 ? &proj : NULL, err));

    *logits = first(r->logits, s->n_logits);
    if (s->n_logits > 0)
        TDM_TRY(head_forward(r, s->n_rows, s->n_logits, logits, err));
done:
    return st;
}
