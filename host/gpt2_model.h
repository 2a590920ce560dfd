/* host/gpt2_model.h - inside GPT-2: what its files share. gpt2.c loads the model, gpt2_run.c owns the memory
 * of a run, gpt2_forward.c, gpt2_decode.c and gpt2_score.c compute.
 *
 * A model is a shard for each rank of its backend, a run is a work for each (host/ranks.h); alone there is one of each.
 * The public functions check their arguments and call tdm_each_rank; what is called takes a gpt2_work and knows of other
 * ranks only where it adds up or joins. */
#ifndef HOST_GPT2_MODEL_H
#define HOST_GPT2_MODEL_H

#include "host/gpt2.h"
#include "host/ranks.h"

static inline tdm_part gpt2_part_of(const tdm_config *c, int32_t rank, int32_t n_ranks)
{
    return tdm_part_of(c->n_head, c->n_inner, c->n_vocab, rank, n_ranks);
}

/* What a rank has of the dimensions of tensors. */
typedef struct {
    tdm_slice none;    /* the rows of a vector */
    tdm_slice E, A;    /* width: everything, and by heads */
    tdm_slice QKV;     /* three times A */
    tdm_slice F;       /* width of the feed-forward layer */
    tdm_slice words;   /* rows of the table */
    tdm_slice head;    /* the same as outputs, filled up to the block */
    tdm_slice P, once; /* positions, and E, for what rank 0 alone adds */
} gpt2_slices;

/* All tensors but the words. Struct, loader, lists and release expand these: they cannot disagree.
 * A vector or bias has `out` values, in f32 and in act; a matrix or table is [in, out]. s: gpt2_slices.
 *  field    name after the prefix    kind    in  out */
#define GPT2_OTHER_TENSORS(X)                                                                      \
    X(wpe, "wpe.weight", TABLE, s->P, s->E) \
    X(lnf_g, "ln_f.weight", VECTOR, s->none, s->E) \
    X(lnf_b, "ln_f.bias", VECTOR, s->none, s->E)
/*  field    name after "h.N." */
#define GPT2_BLOCK_TENSORS(X) \
    X(ln1_g, "ln_1.weight", VECTOR, s->none, s->E) \
    X(ln1_b, "ln_1.bias", VECTOR, s->none, s->E) \
    X(qkv_w, "attn.c_attn.weight", MATRIX, s->E, s->QKV) \
    X(qkv_b, "attn.c_attn.bias", BIAS, s->none, s->QKV) \
    X(proj_w, "attn.c_proj.weight", MATRIX, s->A, s->E) \
    X(proj_b, "attn.c_proj.bias", BIAS, s->none, s->once) \
    X(ln2_g, "ln_2.weight", VECTOR, s->none, s->E) \
    X(ln2_b, "ln_2.bias", VECTOR, s->none, s->E) \
    X(fc_w, "mlp.c_fc.weight", MATRIX, s->E, s->F) \
    X(fc_b, "mlp.c_fc.bias", BIAS, s->none, s->F) \
    X(out_w, "mlp.c_proj.weight", MATRIX, s->F, s->E) \
    X(out_b, "mlp.c_proj.bias", BIAS, s->none, s->once)

#define FIELD_TABLE(field) tdm_mat field;
#define FIELD_VECTOR(field) tdm_mat field;
#define FIELD_BIAS(field) tdm_mat field;
#define FIELD_MATRIX(field) tdm_weight *field;

typedef struct {
#define X(field, name, kind, in, out) FIELD_##kind(field)
    GPT2_BLOCK_TENSORS(X)
#undef X
} gpt2_block;

/* What one rank has of the weights. */
typedef struct {
    const tdm_backend *be; /* borrowed; of the rank */
    tdm_part part;
    size_t bytes;
    tdm_mat wte;      /* [part.words.n, E] */
    tdm_weight *head; /* in E, out part.block */
#define X(field, name, kind, in, out) FIELD_##kind(field)
    GPT2_OTHER_TENSORS(X)
#undef X
    gpt2_block *blocks; /* [n_layer] */
} gpt2_shard;

struct gpt2_model {
    const tdm_backend *be; /* borrowed */
    tdm_config config;
    gpt2_shard *shards; /* [ranks] */
};

/* ---- the memory of a run ---- */

/* All scratch of a rank's run: R rows, N rows of logits, S slots, D rows of a decoding step, T pages of a text; E width,
 * A that of the rank's heads, F its columns of the feed-forward layer, V vocabulary; among ranks M is N and W the
 * block of the vocabulary, alone M is 0. Matrices, then arrays. The plan and the views expand these lists.
 *  field       dtype    rows cols stride */
#define GPT2_MATRICES(X) \
    X(resid, TDM_F32, R, E, E) /* h: the residual stream */ \
    X(norm, act, R, E, E) \
    X(qkv, act, R, 3 * A, 3 * A) \
    X(heads, act, R, A, A) /* what attention gives */ \
    X(proj, act, R, E, E) /* what is to be added to h */ \
    X(hidden, act, R, F, F) \
    X(last_resid, TDM_F32, N, E, E) /* the rows whose logits are wanted */ \
    X(last_proj, act, N, E, E) \
    X(block, TDM_F32, M, W, W) /* the rank's columns of the logits */ \
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

/* The memory of one rank. */
typedef struct {
    const tdm_config *config; /* borrowed */
    const gpt2_shard *shard;  /* borrowed */
    tdm_kv *kv;               /* NULL: no slots */
    void *memory; /* of the backend: one allocation, carved into the views below */
#define X(field, dtype, rows, cols, stride) tdm_mat field;
    GPT2_MATRICES(X)
#undef X
#define X(type, field, n) type *field;
    GPT2_ARRAYS(X)
#undef X
    int32_t *listed; /* [D] what row_slots holds: n_listed rows */
    int32_t *wanted; /* [D] what it shall hold */
    int32_t n_listed;
    tdm_graph **graphs; /* [n_graphs] one decoding step for each class of rows */
    int32_t n_graphs;
    const void *fetched; /* what a lane brought */
} gpt2_work;

struct gpt2_run {
    const gpt2_model *model; /* borrowed */
    gpt2_limits limits;
    int32_t text_pages;
    gpt2_work *works; /* [ranks] */
    int32_t *host_positions; /* [limits.rows] of scoring */
    struct {
        int32_t rows;
        bool cross;
    } scored[TDM_LANES]; /* what is on its way */
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
tdm_status gpt2_upload_ids(gpt2_work *w, int32_t *dst, const int32_t *src, int32_t n, tdm_err *err);
/* Rows of the longest of n texts. */
int32_t gpt2_longest_text(const int32_t *starts, int32_t n);
/* All blocks; leaves resid and proj, whose sum is the last h. */
tdm_status gpt2_layers(gpt2_work *w, const tdm_step *step, tdm_err *err);
/* The last addition, the last norm and the output matrix, of these rows, into w->logits. */
tdm_status gpt2_head(gpt2_work *w, tdm_mat resid, tdm_mat proj, tdm_err *err);

/* Rows that a decoding step of n texts has: a backend with graphs has one graph for each class. */
int32_t gpt2_class_rows(const tdm_backend *be, int32_t n);

/* Record one decoding step of up to `slots` texts for each class of rows. */
tdm_status gpt2_capture(gpt2_work *w, int32_t slots, tdm_err *err);

/* Wait for `lane` on every rank; works[].fetched are what came. */
tdm_status gpt2_fetch(gpt2_run *r, int lane, tdm_err *err);
/* The first of n bytes in which a rank's fetched is not rank 0's; n: they are the same on all ranks.
 *   rank  receives which */
size_t gpt2_first_difference(const gpt2_run *r, size_t n, int32_t *rank);

#endif
