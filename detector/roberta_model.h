/* detector/roberta_model.h - inside the detector: the parts of a model, shared by the files that list
 * them (roberta_list.c), load them (roberta_load.c), give them memory (roberta_open.c) and compute with them (roberta.c).
 *
 * A model is a shard for each rank of its backend (host/ranks.h); alone there is one. The public functions check their
 * arguments and call tdm_each_rank; what is called takes a shard and knows of other ranks only where it adds up. */
#ifndef DETECTOR_ROBERTA_MODEL_H
#define DETECTOR_ROBERTA_MODEL_H

#include "detector/roberta.h"
#include "host/ranks.h"
#include "host/stop.h"
#include "host/weights.h"

/* ---- tensors ---- */

static inline tdm_part roberta_part_of(const tdm_config *c, int32_t rank, int32_t n_ranks)
{
    return tdm_part_of(c->n_head, c->n_inner, c->n_vocab, rank, n_ranks);
}

/* What a rank has of the dimensions of tensors. */
typedef struct {
    tdm_slice E;       /* width: everything */
    tdm_slice A;       /* width, by heads */
    tdm_slice F;       /* width of the inner layer */
    tdm_slice words, positions; /* rows of the tables; positions: on the rank that adds them */
    tdm_slice once;    /* width, on the rank that adds it */
} roberta_slices;

roberta_slices roberta_slices_of(const tdm_config *c, int32_t rank, int32_t n_ranks);

typedef struct {
    tdm_weight *w;
    tdm_mat bias; /* no columns: another rank adds it */
} linear;

typedef struct {
    tdm_mat gamma, beta;
} norm;

/* Names follow "encoder.layer.<i>."; s: roberta_slices. */
#define BLOCK_LINEARS(X)                                                                           \
    /* field          name                      in    out   bias */                                \
    X(attention_out, "attention.output.dense", s->A, s->E, s->once)                                \
    X(inner, "intermediate.dense", s->E, s->F, s->F)                                               \
    X(outer, "output.dense", s->F, s->E, s->once)
#define BLOCK_NORMS(X)                                                                             \
    X(attention_norm, "attention.output.LayerNorm")                                                \
    X(outer_norm, "output.LayerNorm")

typedef struct {
    linear qkv; /* query, key and value side by side */
#define X(field, name, in, out, bias) linear field;
    BLOCK_LINEARS(X)
#undef X
#define X(field, name) norm field;
    BLOCK_NORMS(X)
#undef X
} block;

extern const char ROBERTA_WORDS[], ROBERTA_POSITIONS[], ROBERTA_TOKEN_TYPE[], ROBERTA_EMBEDDING_NORM[];
extern const char ROBERTA_HEAD_DENSE[], ROBERTA_HEAD_OUT[]; /* never with "roberta." */
extern const char *const ROBERTA_QKV[3];

/* What stands in front of all names but those of the head. */
const char *roberta_prefix_of(const tdm_checkpoint *ck);
/* Files from before 2019 call a norm's weight and bias gamma and beta. */
bool roberta_has_old_names(const tdm_checkpoint *ck, const char *prefix, const char *norm_name);

/* ---- a model ---- */

/* What a forward pass overwrites. R rows, B texts, E width, A that of the rank's heads. W elements are what the rows of q, k
 * and v take, or the inner activations of one slice, if that is more: these take the place of q, k and v, which
 * are dead by then. The residuals x are f32; what linear
 * reads and writes is act, so x has a copy in act, unless act is f32: then C and D are 0, else R and B. */
#define SCRATCH(X)                                                                                 \
    X(x, R, E, 4)                                                                                  \
    X(x_act, C, E, act)                                                                            \
    X(attended, R, A, act)                                                                         \
    X(delta, R, E, act)                                                                            \
    X(wide, W, 1, act)                                                                             \
    X(first_x, B, E, 4)                                                                            \
    X(first_act, D, E, act)                                                                        \
    X(first_attended, B, A, act)                                                                   \
    X(logits, B, ROBERTA_LABELS, 4)                                                                \
    X(tokens, R, 1, 4)                                                                             \
    X(positions, R, 1, 4)                                                                          \
    X(starts, B + 1, 1, 4)

typedef struct {
#define X(field, rows, cols, bytes) void *field;
    SCRATCH(X)
#undef X
} scratch;

/* What one rank has of a model. */
typedef struct {
    const tdm_backend *be;    /* borrowed; of the rank */
    const tdm_config *config; /* borrowed */
    tdm_part part;
    size_t weight_bytes;
    tdm_mat words, positions; /* the token-type row is folded into positions, which rank 0 has */
    norm embedding_norm;
    block *blocks; /* [n_layer] */
    linear head_dense;
    tdm_mat head_out, head_out_bias; /* f32 */
    void *memory;                    /* of the scratch */
    scratch s;
    int32_t slice;                  /* tokens that go through the inner layer together */
    const void *fetched;            /* what a lane brought */
} roberta_shard;

struct roberta {
    const tdm_backend *be; /* borrowed */
    tdm_config config;
    roberta_limits limits; /* slice set */
    size_t scratch_bytes;  /* of the rank that has most */
    roberta_shard *shards;     /* [ranks] */
    int32_t *host_positions;   /* [limits.rows] */
    int32_t in_flight[TDM_LANES]; /* texts that were submitted and not yet collected */
};

/* Fill the weights of a shard, whose be and config are set, from ck; what was loaded before an error stays.
 *   stop  ends the reading
 * Errors: as roberta_open. */
tdm_status roberta_load(roberta_shard *to, const tdm_checkpoint *ck, bool check_finite, const tdm_stop *stop,
                        tdm_err *err);
void roberta_unload(roberta_shard *s, const tdm_backend *be);

#endif
