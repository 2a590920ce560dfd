/* detector/roberta.c - loading and the forward pass of the RoBERTa detector.
 *
 * Details that have caused bugs:
 * - Positions start at row 2 of the table (row 1 belongs to <pad>, row 0 to nobody), so 514 rows
 *   are 512 tokens, <s> and </s> among them.
 * - A <pad> inside a text (hf and demo preprocessing read one that someone wrote as the token)
 *   gets row 1 and does not advance the positions of what follows, yet takes part in attention.
 * - The token-type row is added to every token although there is one type only.
 * - Post-norm: x = norm(x + attention(x)), and the sum that follows starts from the norm.
 * - GELU is the erf form (GPT-2 has the tanh form), norm eps is that of config.json.
 * - Linear weights are [out, in] (GPT-2's are [in, out]).
 * - The head reads the row of <s>, applies dense, tanh, out_proj. `pooler` is another layer of the
 *   same shape that old files carry and nothing uses.
 * - Index 0 is fake, 1 is real, and the labels in config.json cannot be trusted. */
#include "detector/roberta.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "host/weights.h"

enum { PAD_POSITION = 1, ALIGN = 64 };

typedef struct {
    tdm_weight *w;
    tdm_mat bias;
} linear;

typedef struct {
    tdm_mat gamma, beta;
} norm;

static const char WORDS[] = "embeddings.word_embeddings.weight";
static const char POSITIONS[] = "embeddings.position_embeddings.weight";
static const char TOKEN_TYPE[] = "embeddings.token_type_embeddings.weight";
static const char EMBEDDING_NORM[] = "embeddings.LayerNorm";
static const char HEAD_DENSE[] = "classifier.dense"; /* never with "roberta." */
static const char HEAD_OUT[] = "classifier.out_proj";
static const char *const QKV[] = {"query", "key", "value"};

/* Names follow "encoder.layer.<i>."; E is the width, F that of the inner layer. */
#define BLOCK_LINEARS(X)                                                                           \
    /* field          name                      in out */                                          \
    X(attention_out, "attention.output.dense", E, E)                                               \
    X(inner, "intermediate.dense", E, F)                                                           \
    X(outer, "output.dense", F, E)
#define BLOCK_NORMS(X)                                                                             \
    X(attention_norm, "attention.output.LayerNorm")                                                \
    X(outer_norm, "output.LayerNorm")

typedef struct {
    linear qkv; /* query, key and value side by side */
#define X(field, name, in, out) linear field;
    BLOCK_LINEARS(X)
#undef X
#define X(field, name) norm field;
    BLOCK_NORMS(X)
#undef X
} block;

/* What a forward pass overwrites. R rows, B texts, E width, W the larger of 3E and F: the inner
 * activations take the place of q, k and v, which are dead by then. */
#define SCRATCH(X)                                                                                 \
    X(x, R, E)                                                                                     \
    X(attended, R, E)                                                                              \
    X(delta, R, E)                                                                                 \
    X(wide, R, W)                                                                                  \
    X(first_x, B, E)                                                                               \
    X(first_attended, B, E)                                                                        \
    X(logits, B, ROBERTA_LABELS)                                                                   \
    X(tokens, R, 1)                                                                                \
    X(positions, R, 1)                                                                             \
    X(starts, B + 1, 1)

typedef struct {
#define X(field, rows, cols) void *field;
    SCRATCH(X)
#undef X
} scratch;

struct roberta {
    const tdm_backend *be; /* borrowed */
    tdm_config config;
    int32_t max_rows, max_texts;
    size_t weight_bytes, scratch_bytes;
    tdm_mat words, positions; /* the token-type row is folded into positions */
    norm embedding_norm;
    block *blocks; /* [n_layer] */
    linear head_dense, head_out;
    void *memory; /* of the scratch */
    scratch s;
    int32_t *host_positions; /* [max_rows] */
};

/* ---- loading ---- */

static tdm_status load_linear(tdm_loader *l, const char *name, int32_t in, int32_t out, linear *to,
                              tdm_err *err)
{
    char full[128];
    tdm_status st = TDM_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    TDM_TRY(tdm_load_weight(l, full, in, out, TDM_OUT_IN, &to->w, err));
    snprintf(full, sizeof full, "%s.bias", name);
    TDM_TRY(tdm_load_vector(l, full, out, &to->bias, err));
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
    TDM_TRY(tdm_load_weights_joined(l, weights, N, E, E, &to->w, err));
    TDM_TRY(tdm_load_vectors_joined(l, biases, N, E, &to->bias, err));
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

/* The position table with the only token-type row added to each of its rows, as f32. */
static tdm_status load_positions(tdm_loader *l, const tdm_config *c, tdm_mat *to, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t E = (size_t)c->n_embd, n = (size_t)c->n_position * E;
    const float *values = NULL;
    float *sum = NULL;
    TDM_TRY(tdm_load_host(l, POSITIONS, c->n_position, c->n_embd,
                          &values, err));
    sum = malloc(n * sizeof *sum); /* the table was just read: n floats fit */
    TDM_REQUIRE(sum, TDM_ENOMEM, "position table of %zu values", n);
    memcpy(sum, values, n * sizeof *sum);
    TDM_TRY(tdm_load_host(l, TOKEN_TYPE, 1, c->n_embd, &values, err));
    for (size_t i = 0; i < n; i++)
        sum[i] += values[i % E];
    *to = (tdm_mat){.rows = c->n_position, .cols = c->n_embd, .dtype = TDM_F32};
    TDM_TRY(tdm_alloc(l->be, n * sizeof *sum, &to->p, err));
    TDM_TRY(tdm_upload(l->be, to->p, sum, n * sizeof *sum, err));
    TDM_TRY(tdm_sync(l->be, err)); /* sum is about to go */
    l->bytes += n * sizeof *sum;
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

static tdm_status load(roberta *m, const tdm_checkpoint *ck, bool check_finite, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_loader l = {0};
    const int32_t E = m->config.n_embd;
    TDM_TRY(require_classifier(ck, err));
    TDM_TRY(tdm_loader_open(&l, m->be, ck, "", check_finite, err));
    TDM_TRY(load_linear(&l, HEAD_DENSE, E, E, &m->head_dense, err));
    TDM_TRY(load_linear(&l, HEAD_OUT, E, ROBERTA_LABELS, &m->head_out, err));

    l.prefix = prefix_of(ck);
    TDM_TRY(tdm_load_table(&l, WORDS, m->config.n_vocab, E, &m->words, err));
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
    TDM_TRY(see_linear(&l, HEAD_OUT, config->n_embd, ROBERTA_LABELS));
    TDM_TRY(see_embeddings(&l, prefix, config));
    for (int i = 0; i < config->n_layer; i++)
        TDM_TRY(see_block(&l, prefix, i, config));
done:
    return st;
}

/* ---- memory ---- */

/* Set the views of the scratch from one block of memory, or with NULL only add up its size. */
static tdm_status carve(roberta *m, char *memory, size_t *total, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t R = (size_t)m->max_rows, B = (size_t)m->max_texts, E = (size_t)m->config.n_embd;
    const size_t F = (size_t)m->config.n_inner, W = 3 * E > F ? 3 * E : F;
    size_t bytes, at = 0;
#define X(field, rows, cols)                                                                       \
    TDM_REQUIRE(tdm_mul_size(rows, sizeof(float) * (cols), &bytes) &&                              \
                    tdm_add_size(bytes, ALIGN - 1, &bytes),                                        \
                TDM_ENOMEM, "scratch for %zu rows", R);                                            \
    if (memory)                                                                                    \
        m->s.field = memory + at;                                                                  \
    TDM_REQUIRE(tdm_add_size(at, bytes / ALIGN * ALIGN, &at), TDM_ENOMEM, "scratch for %zu rows",  \
                R);
    SCRATCH(X)
#undef X
    *total = at;
done:
    return st;
}

static tdm_status plan(roberta *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(carve(m, NULL, &m->scratch_bytes, err));
    TDM_TRY(tdm_alloc(m->be, m->scratch_bytes, &m->memory, err));
    TDM_TRY(carve(m, m->memory, &m->scratch_bytes, err));
    m->host_positions = calloc((size_t)m->max_rows, sizeof *m->host_positions);
    TDM_REQUIRE(m->host_positions, TDM_ENOMEM, "positions of %d rows", (int)m->max_rows);
done:
    return st;
}

tdm_status roberta_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                        const roberta_limits *limits, bool check_finite, roberta **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    roberta *m = calloc(1, sizeof *m);
    TDM_REQUIRE(m, TDM_ENOMEM, "detector handle");
    m->be = be;
    m->config = *config;
    m->max_rows = limits->rows;
    m->max_texts = limits->texts;
    TDM_REQUIRE(config->arch == TDM_ROBERTA, TDM_EARG, "not the config of a RoBERTa");
    TDM_REQUIRE(limits->rows >= config->n_context && limits->texts > 0, TDM_EARG,
                "%d tokens and %d texts at once, want at least %d and 1", (int)limits->rows,
                (int)limits->texts, config->n_context);
    m->blocks = calloc((size_t)config->n_layer, sizeof *m->blocks);
    TDM_REQUIRE(m->blocks, TDM_ENOMEM, "%d layers", config->n_layer);
    TDM_TRY(load(m, ck, check_finite, err));
    TDM_TRY(plan(m, err));
    *out = m;
    m = NULL;
done:
    roberta_close(m);
    return st;
}

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

void roberta_close(roberta *m)
{
    if (!m)
        return;
    for (int i = 0; m->blocks && i < m->config.n_layer; i++) {
        block *b = &m->blocks[i];
        close_linear(m->be, &b->qkv);
#define X(field, name, in, out) close_linear(m->be, &b->field);
        BLOCK_LINEARS(X)
#undef X
#define X(field, name) close_norm(m->be, &b->field);
        BLOCK_NORMS(X)
#undef X
    }
    free(m->blocks);
    close_linear(m->be, &m->head_dense);
    close_linear(m->be, &m->head_out);
    close_norm(m->be, &m->embedding_norm);
    tdm_release(m->be, m->words.p);
    tdm_release(m->be, m->positions.p);
    tdm_release(m->be, m->memory);
    free(m->host_positions);
    free(m);
}

size_t roberta_weight_bytes(const roberta *m)
{
    return m->weight_bytes;
}

size_t roberta_scratch_bytes(const roberta *m)
{
    return m->scratch_bytes;
}

/* ---- the forward pass ---- */

static tdm_mat view(void *p, int32_t rows, int32_t cols)
{
    return (tdm_mat){.p = p, .rows = rows, .cols = cols, .dtype = TDM_F32};
}

static tdm_status apply(const tdm_backend *be, tdm_mat y, tdm_mat x, const linear *l,
                        tdm_epilogue epilogue, tdm_err *err)
{
    return tdm_linear(be, y, x, l->w, &l->bias, epilogue, err);
}

/* x = norm(x + delta); delta NULL: norm(x). */
static tdm_status normalise(const roberta *m, tdm_mat x, const tdm_mat *delta, const norm *n,
                            tdm_err *err)
{
    return tdm_add_norm(m->be, x, x, delta, n->gamma, n->beta, m->config.norm_eps, err);
}

/* One post-norm block on *x [rows, E].
 *   last  of the result only the row of each <s> is wanted: what follows the attention is computed
 *         for those alone, and *x becomes them [n_texts, E]. */
static tdm_status run_block(const roberta *m, const block *b, const tdm_step *step, bool last,
                            tdm_mat *x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = m->be;
    const int32_t E = m->config.n_embd;
    const tdm_mat qkv = view(m->s.wide, step->n_rows, 3 * E);
    tdm_mat attended = view(m->s.attended, step->n_rows, E);
    TDM_TRY(apply(be, qkv, *x, &b->qkv, TDM_LINEAR, err));
    TDM_TRY(tdm_attend_packed(be, attended, qkv, step, err));
    if (last) {
        const tdm_mat all_x = *x, all_attended = attended;
        *x = view(m->s.first_x, step->n_seqs, E);
        attended = view(m->s.first_attended, step->n_seqs, E);
        TDM_TRY(tdm_gather(be, *x, all_x, step->starts, err));
        TDM_TRY(tdm_gather(be, attended, all_attended, step->starts, err));
    }
    const int32_t rows = (int32_t)x->rows;
    const tdm_mat delta = view(m->s.delta, rows, E);
    const tdm_mat hidden = view(m->s.wide, rows, m->config.n_inner);
    TDM_TRY(apply(be, delta, attended, &b->attention_out, TDM_LINEAR, err));
    TDM_TRY(normalise(m, *x, &delta, &b->attention_norm, err));
    TDM_TRY(apply(be, hidden, *x, &b->inner, TDM_GELU_ERF, err));
    TDM_TRY(apply(be, delta, hidden, &b->outer, TDM_LINEAR, err));
    TDM_TRY(normalise(m, *x, &delta, &b->outer_norm, err));
done:
    return st;
}

static tdm_status forward(const roberta *m, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = m->config.n_embd;
    tdm_mat x = view(m->s.x, step->n_rows, E);
    TDM_TRY(tdm_embed(m->be, x, step, m->words, m->positions, PAD_POSITION, err));
    TDM_TRY(normalise(m, x, NULL, &m->embedding_norm, err));
    for (int i = 0; i < m->config.n_layer; i++)
        TDM_TRY(run_block(m, &m->blocks[i], step, i + 1 == m->config.n_layer, &x, err));
    const tdm_mat dense = view(m->s.delta, step->n_seqs, E);
    const tdm_mat logits = view(m->s.logits, step->n_seqs, ROBERTA_LABELS);
    TDM_TRY(apply(m->be, dense, x, &m->head_dense, TDM_TANH, err));
    TDM_TRY(apply(m->be, logits, dense, &m->head_out, TDM_LINEAR, err));
done:
    return st;
}

/* The ids and lengths come from a caller's tokenizer: check them before they become addresses. */
static tdm_status check(const roberta *m, const int32_t *ids, const int32_t *starts,
                        int32_t n_texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(n_texts > 0 && n_texts <= m->max_texts, TDM_EARG, "%d texts at once, want 1 to %d",
                (int)n_texts, (int)m->max_texts);
    TDM_REQUIRE(starts[0] == 0, TDM_EARG, "first start %d, want 0", (int)starts[0]);
    for (int32_t i = 0; i < n_texts; i++) {
        const int64_t n = (int64_t)starts[i + 1] - starts[i];
        TDM_REQUIRE(n > 0 && n <= m->config.n_context, TDM_EARG,
                    "text of %lld tokens, want 1 to %d", (long long)n, m->config.n_context);
        TDM_REQUIRE(starts[i + 1] <= m->max_rows, TDM_EARG, "%d tokens at once, want at most %d",
                    (int)starts[i + 1], (int)m->max_rows);
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

tdm_status roberta_classify(roberta *m, const int32_t *ids, const int32_t *starts, int32_t n_texts,
                            float *logits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check(m, ids, starts, n_texts, err));
    const int32_t n_rows = starts[n_texts];
    number_tokens(m, ids, starts, n_texts);
    const size_t row_bytes = (size_t)n_rows * sizeof *ids;
    const size_t start_bytes = ((size_t)n_texts + 1) * sizeof *starts;
    const size_t logit_bytes = (size_t)n_texts * ROBERTA_LABELS * sizeof *logits;
    TDM_TRY(tdm_upload(m->be, m->s.tokens, ids, row_bytes, err));
    TDM_TRY(tdm_upload(m->be, m->s.positions, m->host_positions, row_bytes, err));
    TDM_TRY(tdm_upload(m->be, m->s.starts, starts, start_bytes, err));
    const tdm_step step = {.n_rows = n_rows,
                           .n_seqs = n_texts,
                           .tokens = m->s.tokens,
                           .positions = m->s.positions,
                           .starts = m->s.starts};
    TDM_TRY(forward(m, &step, err));
    TDM_TRY(tdm_download(m->be, logits, m->s.logits, logit_bytes, err));
done:
    return st;
}

void roberta_softmax(const float logits[ROBERTA_LABELS], double p[ROBERTA_LABELS])
{
    const double gap = (double)logits[ROBERTA_REAL] - (double)logits[ROBERTA_FAKE];
    p[ROBERTA_FAKE] = 1.0 / (1.0 + exp(gap));
    p[ROBERTA_REAL] = 1.0 / (1.0 + exp(-gap));
}
