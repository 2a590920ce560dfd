/* tests/roberta_reference.h - the detector's forward pass in double, written from the formulas and
 * independently of the engine, and the usual mistakes as variants of it.
 *
 *   double logits[2];
 *   reference_logits(&tiny, ids, n, RIGHT, logits); */
#ifndef TESTS_ROBERTA_REFERENCE_H
#define TESTS_ROBERTA_REFERENCE_H

#include <math.h>

#include "tests/tiny_roberta.h"

enum { MOST_TOKENS = 48 }; /* of one text */

/* What a wrong implementation would do: each must be seen. */
typedef enum {
    RIGHT,
    TANH_GELU,
    POSITIONS_FROM_0,
    PAD_ADVANCES,
    NO_TYPE_ROW,
    CAUSAL,
    LARGE_EPS,
    LAST_TOKEN,
    SWAPPED_LABELS,
    N_VARIANTS
} variant;

static const char *const VARIANT_NAMES[] = {"right",          "tanh GELU",   "positions from 0",
                                            "<pad> advances", "no type row", "causal",
                                            "large eps",      "last token",  "swapped labels"};

static inline void reference_linear(const tiny_roberta *m, const char *name, const double *x, int n,
                             int in, int out, double *y)
{
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    const float *w = tiny_find(m, full)->p;
    snprintf(full, sizeof full, "%s.bias", name);
    const float *b = tiny_find(m, full)->p;
    for (int r = 0; r < n; r++)
        for (int o = 0; o < out; o++) {
            double sum = b[o];
            for (int i = 0; i < in; i++)
                sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
}

static inline void reference_norm(const tiny_roberta *m, const char *name, double *x, int n, double eps)
{
    char full[128];
    const int E = m->width;
    snprintf(full, sizeof full, "%s.weight", name);
    const float *gamma = tiny_find(m, full)->p;
    snprintf(full, sizeof full, "%s.bias", name);
    const float *beta = tiny_find(m, full)->p;
    for (int r = 0; r < n; r++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < E; i++)
            mean += x[r * E + i] / E;
        for (int i = 0; i < E; i++)
            variance += (x[r * E + i] - mean) * (x[r * E + i] - mean) / E;
        for (int i = 0; i < E; i++)
            x[r * E + i] = gamma[i] * (x[r * E + i] - mean) / sqrt(variance + eps) + beta[i];
    }
}

static inline void reference_attention(int n, int heads, const double *q, const double *k, const double *v,
                                bool causal, double *y)
{
    const int E = 64 * heads;
    for (int h = 0; h < heads; h++)
        for (int r = 0; r < n; r++) {
            double weights[MOST_TOKENS], total = 0;
            for (int c = 0; c < n; c++) {
                double dot = 0;
                for (int i = 0; i < 64; i++)
                    dot += q[r * E + h * 64 + i] * k[c * E + h * 64 + i];
                weights[c] = causal && c > r ? 0 : exp(dot / 8);
                total += weights[c];
            }
            for (int i = 0; i < 64; i++) {
                double sum = 0;
                for (int c = 0; c < n; c++)
                    sum += weights[c] / total * v[c * E + h * 64 + i];
                y[r * E + h * 64 + i] = sum;
            }
        }
}

static inline double gelu(double x, bool tanh_form)
{
    if (tanh_form)
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

static inline double *numbers(int n, int width)
{
    double *p = calloc((size_t)n * (size_t)width, sizeof *p);
    assert_non_null(p);
    return p;
}

static inline void reference_layer(const tiny_roberta *m, int layer, double *x, int n, double eps,
                            variant v)
{
    char name[96];
    const int E = m->width, F = m->inner;
    double *q = numbers(n, E), *k = numbers(n, E), *values = numbers(n, E), *y = numbers(n, E);
    double *hidden = numbers(n, F);
    double *const qkv[] = {q, k, values};
    static const char *const PARTS[] = {"query", "key", "value"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "encoder.layer.%d.attention.self.%s", layer, PARTS[i]);
        reference_linear(m, name, x, n, E, E, qkv[i]);
    }
    reference_attention(n, m->heads, q, k, values, v == CAUSAL, y);
    snprintf(name, sizeof name, "encoder.layer.%d.attention.output.dense", layer);
    reference_linear(m, name, y, n, E, E, q);
    for (int i = 0; i < n * E; i++)
        x[i] += q[i];
    snprintf(name, sizeof name, "encoder.layer.%d.attention.output.LayerNorm", layer);
    reference_norm(m, name, x, n, eps);
    snprintf(name, sizeof name, "encoder.layer.%d.intermediate.dense", layer);
    reference_linear(m, name, x, n, E, F, hidden);
    for (int i = 0; i < n * F; i++)
        hidden[i] = gelu(hidden[i], v == TANH_GELU);
    snprintf(name, sizeof name, "encoder.layer.%d.output.dense", layer);
    reference_linear(m, name, hidden, n, F, E, q);
    for (int i = 0; i < n * E; i++)
        x[i] += q[i];
    snprintf(name, sizeof name, "encoder.layer.%d.output.LayerNorm", layer);
    reference_norm(m, name, x, n, eps);
    free(q);
    free(k);
    free(values);
    free(y);
    free(hidden);
}

static inline void reference_logits(const tiny_roberta *m, const int32_t *ids, int n, variant v,
                             double logits[2])
{
    const int E = m->width;
    int position = v == POSITIONS_FROM_0 ? 0 : 2; /* of the next token; <pad> has row 1 */
    const double eps = v == LARGE_EPS ? 1e-2 : 1e-5;
    const float *words = tiny_find(m, "embeddings.word_embeddings.weight")->p;
    const float *positions = tiny_find(m, "embeddings.position_embeddings.weight")->p;
    const float *type = tiny_find(m, "embeddings.token_type_embeddings.weight")->p;
    double *x = numbers(n, E), *dense = numbers(1, E);
    for (int r = 0; r < n; r++) {
        const int row = ids[r] == 1 ? 1 : position;
        position += ids[r] != 1 || v == PAD_ADVANCES;
        for (int i = 0; i < E; i++)
            x[r * E + i] = (double)words[ids[r] * E + i] + (double)positions[row * E + i] +
                           (v == NO_TYPE_ROW ? 0 : (double)type[i]);
    }
    reference_norm(m, "embeddings.LayerNorm", x, n, eps);
    for (int l = 0; l < m->layers; l++)
        reference_layer(m, l, x, n, eps, v);
    const double *row = x + (v == LAST_TOKEN ? (n - 1) * E : 0);
    reference_linear(m, "classifier.dense", row, 1, E, E, dense);
    for (int i = 0; i < E; i++)
        dense[i] = tanh(dense[i]);
    reference_linear(m, "classifier.out_proj", dense, 1, E, 2, logits);
    if (v == SWAPPED_LABELS) {
        const double fake = logits[0];
        logits[0] = logits[1];
        logits[1] = fake;
    }
    free(x);
    free(dense);
}

#endif
