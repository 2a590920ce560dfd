/* detector/roberta_model.h - inside the detector: the parts of a model, shared by the file that loads
 * them (roberta_load.c) and the one that computes with them (roberta.c). */
#ifndef DETECTOR_ROBERTA_MODEL_H
#define DETECTOR_ROBERTA_MODEL_H

#include "detector/roberta.h"

typedef struct {
    tdm_weight *w;
    tdm_mat bias;
} linear;

typedef struct {
    tdm_mat gamma, beta;
} norm;

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

/* Fill m's weights from ck; what was loaded before an error stays for roberta_close.
 * Errors: as roberta_open. */
tdm_status roberta_load(roberta *m, const tdm_checkpoint *ck, bool check_finite, tdm_err *err);

#endif
