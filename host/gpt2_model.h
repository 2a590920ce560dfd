/* host/gpt2_model.h - inside GPT-2: what its files share. gpt2.c loads the model, gpt2_run.c owns the memory
 * of a run, gpt2_forward.c and gpt2_score.c compute. E width, F width of the feed-forward layer, V vocabulary, P
 * positions. */
#ifndef HOST_GPT2_MODEL_H
#define HOST_GPT2_MODEL_H

#include "host/gpt2.h"

/* All tensors but the words. Struct, loader, list and release expand these: they cannot disagree.
 * A vector or bias has `out` values, in f32 and in act; a matrix or table is [in, out].
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
    X(qkv_b, "attn.c_attn.bias", BIAS, 0, 3 * E)                                                   \
    X(proj_w, "attn.c_proj.weight", MATRIX, E, E)                                                  \
    X(proj_b, "attn.c_proj.bias", BIAS, 0, E)                                                      \
    X(ln2_g, "ln_2.weight", VECTOR, 0, E)                                                          \
    X(ln2_b, "ln_2.bias", VECTOR, 0, E)                                                            \
    X(fc_w, "mlp.c_fc.weight", MATRIX, E, F)                                                       \
    X(fc_b, "mlp.c_fc.bias", BIAS, 0, F)                                                           \
    X(out_w, "mlp.c_proj.weight", MATRIX, F, E)                                                    \
    X(out_b, "mlp.c_proj.bias", BIAS, 0, E)

#define FIELD_TABLE(field) tdm_mat field;
#define FIELD_VECTOR(field) tdm_mat field;
#define FIELD_BIAS(field) tdm_mat field;
#define FIELD_MATRIX(field) tdm_weight *field;

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

/* ---- the memory of a run ---- */

/* All scratch of a run: R rows, N rows of logits, S slots, D rows of a decoding step, T pages of a text;
 * matrices, then arrays. The plan and the views expand these lists.
 *  field       dtype    rows cols stride */
#define GPT2_MATRICES(X)                                                                           \
    X(resid, TDM_F32, R, E, E)      /* h: the residual stream */                                   \
    X(norm, act, R, E, E)                                                                          \
    X(qkv, act, R, 3 * E, 3 * E)                                                                   \
    X(heads, act, R, E, E)          /* what attention gives */                                     \
    X(proj, act, R, E, E)           /* what is to be added to h */                                 \
    X(hidden, act, R, F, F)                                                                        \
    X(last_resid, TDM_F32, N, E, E) /* the rows whose logits are wanted */                         \
    X(last_proj, act, N, E, E)                                                                     \
    X(logits, TDM_F32, N, V, tdm_padded(V))
/*  type     field       number */
#define GPT2_ARRAYS(X)                                                                             \
    X(int32_t, tokens, R)     /* of ragged rows */                                                 \
    X(int32_t, positions, R)                                                                       \
    X(int32_t, starts, R + 1)                                                                      \
    X(int32_t, seq_slots, R)                                                                       \
    X(int32_t, logit_rows, N)                                                                      \
    X(int32_t, targets, R)    /* of scoring */                                                     \
    X(char, scores, (size_t)R * gpt2_score_bytes(limits))                                          \
    X(int32_t, pages, (size_t)S * (size_t)T) /* the page table */                                  \
    X(int32_t, row_slots, D)  /* of a decoding step */                                             \
    X(int32_t, next_tokens, S)                                                                     \
    X(int32_t, next_positions, S)                                                                  \
    X(int32_t, left, S)                                                                            \
    X(int32_t, drawn, S)                                                                           \
    X(tdm_draw, draws, S)

struct gpt2_run {
    const gpt2_model *model; /* borrowed */
    gpt2_limits limits;
    int32_t text_pages;
    tdm_kv *kv;   /* NULL: no slots */
    void *memory; /* of the backend: one allocation, carved into the views below */
#define X(field, dtype, rows, cols, stride) tdm_mat field;
    GPT2_MATRICES(X)
#undef X
#define X(type, field, n) type *field;
    GPT2_ARRAYS(X)
#undef X
    int32_t *host_positions; /* [R] of scoring */
    struct {
        int32_t rows;
        bool cross;
    } scored[TDM_LANES]; /* what is on its way */
    int32_t *listed;         /* [D] what row_slots holds: n_listed rows */
    int32_t *wanted;         /* [D] what it shall hold */
    int32_t n_listed;
    tdm_graph **graphs; /* [n_graphs] one decoding step for each class of rows */
    int32_t n_graphs;
};

/* ---- what the ways to use a run share ---- */

static inline tdm_mat gpt2_first(tdm_mat m, int32_t rows)
{
    m.rows = rows;
    return m;
}

/* Rows [from, from + rows) of a scratch matrix without padding. */
static inline tdm_mat gpt2_part(tdm_mat m, int32_t from, int32_t rows)
{
    m.p = (char *)m.p + (size_t)from * (size_t)m.cols * tdm_dtype_size(m.dtype);
    m.rows = rows;
    return m;
}

/* TDM_EARG for an id that the vocabulary has not. */
tdm_status gpt2_check_tokens(const gpt2_run *r, const int32_t *tokens, int32_t n, tdm_err *err);
tdm_status gpt2_upload_ids(gpt2_run *r, int32_t *dst, const int32_t *src, int32_t n, tdm_err *err);
/* Rows of the longest of n texts. */
int32_t gpt2_longest_text(const int32_t *starts, int32_t n);
/* All blocks; leaves resid and proj, whose sum is the last h. */
tdm_status gpt2_layers(gpt2_run *r, const tdm_step *step, tdm_err *err);
/* The last addition, the last norm and the output matrix, of these rows, into r->logits. */
tdm_status gpt2_head(gpt2_run *r, tdm_mat resid, tdm_mat proj, tdm_err *err);

/* Rows that a decoding step of n texts has: a backend with graphs has one graph for each class. */
int32_t gpt2_class_rows(const tdm_backend *be, int32_t n);

/* Record one decoding step for each class of rows. */
tdm_status gpt2_capture(gpt2_run *r, tdm_err *err);

#endif
