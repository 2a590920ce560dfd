/* tests/tiny_gpt2.h - a random GPT-2 of a few thousand weights as a folder, and its forward pass in
 * double, written independently of the engine.
 *
 *   tiny_gpt2 m = {.layers = 2, .heads = 3, .positions = 40, .prefix = "transformer."};
 *   char dir[TINY_PATH];
 *   tiny_gpt2_make(&m, 1);
 *   tiny_gpt2_write(&m, dir, TDM_F32);
 *   tiny_gpt2_logits(&m, tokens, n, logits); // [n, TINY_GPT2_VOCAB]
 *   tiny_roberta_remove(dir);
 *   tiny_gpt2_free(&m);
 *
 * The vocabulary is that of merges alone: 256 bytes, the merges of tiny_roberta.h, <|endoftext|>. */
#ifndef TESTS_TINY_GPT2_H
#define TESTS_TINY_GPT2_H

#include <math.h>
#include <stdbool.h>

#include "tests/tiny_roberta.h"

enum { TINY_GPT2_VOCAB = 256 + TINY_MERGES + 1, TINY_EOS = TINY_GPT2_VOCAB - 1 };

typedef struct {
    int layers, heads, positions;
    int inner;          /* 0: four times the width */
    bool untied, masks; /* an output matrix of its own; the mask buffers of old files */
    const char *prefix; /* "" or "transformer." */
    float words;        /* scale of wte: small is flat logits. 0: 1 */
    float weights;      /* of the other matrices: small for a wide model. 0: 1 */
    tiny_roberta list;  /* of tensors; the rest of it is not used */
} tiny_gpt2;

static inline int tiny_gpt2_inner(const tiny_gpt2 *m)
{
    return m->inner ? m->inner : 4 * 64 * m->heads;
}

static inline void tiny_gpt2_make(tiny_gpt2 *m, uint64_t seed)
{
    const int E = 64 * m->heads, F = tiny_gpt2_inner(m);
    const float words = m->words > 0 ? m->words : 1.f, scale = m->weights > 0 ? m->weights : 1.f;
    tiny_roberta *l = &m->list;
    uint64_t state = seed;
    *l = (tiny_roberta){0};
    tiny_add(l, &state, TINY_GPT2_VOCAB, E, words, 0.f, "wte.weight");
    tiny_add(l, &state, m->positions, E, 0.5f, 0.f, "wpe.weight");
    for (int i = 0; i < m->layers; i++) {
        tiny_add(l, &state, E, 0, 0.25f, 1.f, "h.%d.ln_1.weight", i);
        tiny_add(l, &state, E, 0, 0.25f, 0.f, "h.%d.ln_1.bias", i);
        tiny_add(l, &state, E, 3 * E, 0.25f * scale, 0.f, "h.%d.attn.c_attn.weight", i);
        tiny_add(l, &state, 3 * E, 0, 0.5f, 0.f, "h.%d.attn.c_attn.bias", i);
        tiny_add(l, &state, E, E, 0.125f * scale, 0.f, "h.%d.attn.c_proj.weight", i);
        tiny_add(l, &state, E, 0, 0.5f, 0.f, "h.%d.attn.c_proj.bias", i);
        tiny_add(l, &state, E, 0, 0.25f, 1.f, "h.%d.ln_2.weight", i);
        tiny_add(l, &state, E, 0, 0.25f, 0.f, "h.%d.ln_2.bias", i);
        tiny_add(l, &state, E, F, 0.25f * scale, 0.f, "h.%d.mlp.c_fc.weight", i);
        tiny_add(l, &state, F, 0, 0.5f, 0.f, "h.%d.mlp.c_fc.bias", i);
        tiny_add(l, &state, F, E, 0.0625f * scale, 0.f, "h.%d.mlp.c_proj.weight", i);
        tiny_add(l, &state, E, 0, 0.5f, 0.f, "h.%d.mlp.c_proj.bias", i);
        if (m->masks) {
            tiny_add(l, &state, m->positions, m->positions, 1.f, 0.f, "h.%d.attn.bias", i);
            tiny_add(l, &state, 1, 0, 0.f, -1e4f, "h.%d.attn.masked_bias", i);
        }
    }
    tiny_add(l, &state, E, 0, 0.25f, 1.f, "ln_f.weight");
    tiny_add(l, &state, E, 0, 0.25f, 0.f, "ln_f.bias");
    if (m->untied)
        tiny_add(l, &state, TINY_GPT2_VOCAB, E, words, 0.f, "lm_head.weight");
}

static inline void tiny_gpt2_free(tiny_gpt2 *m)
{
    tiny_roberta_free(&m->list);
}

/* Make a fresh folder and write the model into it. */
static inline void tiny_gpt2_write(const tiny_gpt2 *m, char dir[TINY_PATH], tdm_dtype dtype)
{
    tdm_buf weights = {0}, merges = {0}, vocab = {0}, config = {0};
    snprintf(dir, TINY_PATH, "%s", "/tmp/tandem-tiny-XXXXXX");
    assert_non_null(mkdtemp(dir));
    tiny_safetensors(&weights, m->list.tensors, m->list.n_tensors, m->prefix ? m->prefix : "", dtype);
    tiny_vocabulary(&merges, &vocab);
    assert_int_equal(
        tdm_buf_printf(&config, NULL,
                       "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], "
                       "\"vocab_size\": %d, \"n_positions\": %d, \"n_ctx\": %d, \"n_embd\": %d, "
                       "\"n_layer\": %d, \"n_head\": %d, \"activation_function\": \"gelu_new\", "
                       "\"layer_norm_epsilon\": 1e-05, \"n_inner\": %d, \"bos_token_id\": %d, \"eos_token_id\": %d, "
                       "\"tie_word_embeddings\": %s}",
                       TINY_GPT2_VOCAB, m->positions, m->positions, 64 * m->heads, m->layers,
                       m->heads, tiny_gpt2_inner(m), TINY_EOS, TINY_EOS, m->untied ? "false" : "true"),
        TDM_OK);
    tiny_write_file(dir, "model.safetensors", weights.p, weights.len);
    tiny_write_file(dir, "merges.txt", merges.p, merges.len);
    tiny_write_file(dir, "config.json", config.p, config.len);
    tdm_buf_free(&weights);
    tdm_buf_free(&merges);
    tdm_buf_free(&vocab);
    tdm_buf_free(&config);
}

/* ---- the forward pass in double ---- */

static inline const float *tiny_gpt2_tensor(const tiny_gpt2 *m, int layer, const char *suffix)
{
    char name[64];
    if (layer < 0)
        return tiny_find(&m->list, suffix)->p;
    snprintf(name, sizeof name, "h.%d.%s", layer, suffix);
    return tiny_find(&m->list, name)->p;
}

static inline double *tiny_doubles(size_t n)
{
    double *p = calloc(n, sizeof *p);
    assert_non_null(p);
    return p;
}

static inline void tiny_layer_norm(double *y, const double *x, int n, int E, const float *g,
                                   const float *b)
{
    for (int r = 0; r < n; r++) {
        double mean = 0, var = 0;
        for (int i = 0; i < E; i++)
            mean += x[r * E + i] / E;
        for (int i = 0; i < E; i++)
            var += (x[r * E + i] - mean) * (x[r * E + i] - mean) / E;
        for (int i = 0; i < E; i++)
            y[r * E + i] = (x[r * E + i] - mean) / sqrt(var + 1e-5) * (double)g[i] + (double)b[i];
    }
}

/* y [n, out] = x [n, in] @ w [in, out] + b */
static inline void tiny_conv1d(double *y, const double *x, int n, int in, int out, const float *w,
                               const float *b)
{
    for (int r = 0; r < n; r++)
        for (int o = 0; o < out; o++) {
            double sum = (double)b[o];
            for (int i = 0; i < in; i++)
                sum += x[r * in + i] * (double)w[i * out + o];
            y[r * out + o] = sum;
        }
}

static inline void tiny_attention(double *y, const double *qkv, int n, int heads)
{
    const int E = 64 * heads;
    double *score = tiny_doubles((size_t)n);
    for (int h = 0; h < heads; h++)
        for (int r = 0; r < n; r++) {
            const double *q = qkv + r * 3 * E + h * 64;
            double sum = 0;
            for (int c = 0; c <= r; c++) {
                const double *k = qkv + c * 3 * E + E + h * 64;
                double dot = 0;
                for (int i = 0; i < 64; i++)
                    dot += q[i] * k[i];
                score[c] = exp(dot / 8);
                sum += score[c];
            }
            for (int i = 0; i < 64; i++) {
                double value = 0;
                for (int c = 0; c <= r; c++)
                    value += score[c] / sum * qkv[c * 3 * E + 2 * E + h * 64 + i];
                y[r * E + h * 64 + i] = value;
            }
        }
    free(score);
}

static inline void tiny_gpt2_block(const tiny_gpt2 *m, int l, double *x, int n)
{
    const int E = 64 * m->heads, F = tiny_gpt2_inner(m);
    const size_t rows = (size_t)n;
    double *norm = tiny_doubles(rows * (size_t)E), *qkv = tiny_doubles(rows * 3 * (size_t)E);
    double *more = tiny_doubles(rows * (size_t)E), *hidden = tiny_doubles(rows * (size_t)F);
#define T(suffix) tiny_gpt2_tensor(m, l, suffix)
    tiny_layer_norm(norm, x, n, E, T("ln_1.weight"), T("ln_1.bias"));
    tiny_conv1d(qkv, norm, n, E, 3 * E, T("attn.c_attn.weight"), T("attn.c_attn.bias"));
    tiny_attention(norm, qkv, n, m->heads);
    tiny_conv1d(more, norm, n, E, E, T("attn.c_proj.weight"), T("attn.c_proj.bias"));
    for (int i = 0; i < n * E; i++)
        x[i] += more[i];
    tiny_layer_norm(norm, x, n, E, T("ln_2.weight"), T("ln_2.bias"));
    tiny_conv1d(hidden, norm, n, E, F, T("mlp.c_fc.weight"), T("mlp.c_fc.bias"));
    for (int i = 0; i < n * F; i++) {
        const double v = hidden[i];
        hidden[i] = 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    }
    tiny_conv1d(more, hidden, n, F, E, T("mlp.c_proj.weight"), T("mlp.c_proj.bias"));
#undef T
    for (int i = 0; i < n * E; i++)
        x[i] += more[i];
    free(norm);
    free(qkv);
    free(more);
    free(hidden);
}

/* logits [n, V] of all positions of one text */
static inline void tiny_gpt2_logits(const tiny_gpt2 *m, const int32_t *tokens, int n, double *logits)
{
    const int E = 64 * m->heads;
    const float *wte = tiny_gpt2_tensor(m, -1, "wte.weight");
    const float *wpe = tiny_gpt2_tensor(m, -1, "wpe.weight");
    const float *head = m->untied ? tiny_gpt2_tensor(m, -1, "lm_head.weight") : wte;
    double *x = tiny_doubles((size_t)(n * E));
    for (int r = 0; r < n; r++)
        for (int i = 0; i < E; i++)
            x[r * E + i] = (double)wte[tokens[r] * E + i] + (double)wpe[r * E + i];
    for (int l = 0; l < m->layers; l++)
        tiny_gpt2_block(m, l, x, n);
    tiny_layer_norm(x, x, n, E, tiny_gpt2_tensor(m, -1, "ln_f.weight"),
                    tiny_gpt2_tensor(m, -1, "ln_f.bias"));
    for (int r = 0; r < n; r++)
        for (int v = 0; v < TINY_GPT2_VOCAB; v++) {
            double sum = 0;
            for (int i = 0; i < E; i++)
                sum += x[r * E + i] * (double)head[v * E + i];
            logits[r * TINY_GPT2_VOCAB + v] = sum;
        }
    free(x);
}

#endif
