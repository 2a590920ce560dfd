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

/* What a forward pass overwrites. R rows, B texts, E width. W elements are what the rows of q, k and v
 * take, or the inner activations of one slice, if that is more: these take the place of q, k and v, which
 * are dead by then. The residuals x are f32; what linear
 * reads and writes is act, so x has a copy in act, unless act is f32: then C and D are 0, else R and B. */
#define SCRATCH(X)                                                                                 \
    X(x, R, E, 4)                                                                                  \
    X(x_act, C, E, act)                                                                            \
    X(attended, R, E, act)                                                                         \
    X(delta, R, E, act)                                                                            \
    X(wide, W, 1, act)                                                                             \
    X(first_x, B, E, 4)                                                                            \
    X(first_act, D, E, act)                                                                        \
    X(first_attended, B, E, act)                                                                   \
    X(logits, B, ROBERTA_LABELS, 4)                                                                \
    X(tokens, R, 1, 4)                                                                             \
    X(positions, R, 1, 4)                                                                          \
    X(starts, B + 1, 1, 4)

typedef struct {
#define X(field, rows, cols, bytes) void *field;
    SCRATCH(X)
#undef X
} scratch;

struct roberta {
    const tdm_backend *be; /* borrowed */
    tdm_config config;
    int32_t max_rows, max_texts, slice;
    size_t weight_bytes, scratch_bytes;
    tdm_mat words, positions; /* the token-type row is folded into positions */
    norm embedding_norm;
    block *blocks; /* [n_layer] */
    linear head_dense;
    tdm_mat head_out, head_out_bias; /* f32 */
    void *memory;                    /* of the scratch */
    scratch s;
    int32_t *host_positions;   /* [max_rows] */
    bool in_flight[TDM_LANES]; /* submitted and not yet collected */
};

/* Fill m's weights from ck; what was loaded before an error stays for roberta_close.
 * Errors: as roberta_open. */
tdm_status roberta_load(roberta *m, const tdm_checkpoint *ck, bool check_finite, tdm_err *err);

#endif
