/* host/weights.h - from named tensors of a checkpoint to weights and tables of a backend.
 *
 *   tdm_loader load;
 *   TDM_TRY(tdm_loader_open(&load, be, ck, "transformer.", true, err));
 *   const tdm_slice E = tdm_whole(768), qkv = tdm_whole(2304); // a rank: tdm_some, or groups of its own
 *   TDM_TRY(tdm_load_weight(&load, "h.0.attn.c_attn.weight", E, qkv, TDM_IN_OUT, &w, err));
 *   TDM_TRY(tdm_load_bias(&load, "h.0.attn.c_attn.bias", qkv, &bias, err));
 *   TDM_TRY(tdm_load_vector(&load, "h.0.ln_1.weight", 768, &gamma, err));
 *   TDM_TRY(tdm_load_table(&load, "wte.weight", tdm_whole(50257), 768, &words, err));
 *   TDM_TRY(tdm_loader_check_rest(&load, is_known_leftover, err));
 *   tdm_loader_close(&load);
 *
 * Of several ranks (host/ranks.h) each reads its slice of a tensor and no more. Host memory holds one tensor, or slice,
 * at a time. What is returned belongs to the caller: tdm_weight_close,
 * tdm_release(be, mat.p). Every error names the tensor.
 * Thread safety: one loader, one thread. */
#ifndef HOST_WEIGHTS_H
#define HOST_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/err.h"
#include "host/ranks.h"
#include "host/threads.h"

/* What a rank has of one dimension of a tensor. In the file that is `groups` equal parts side by side (query, key and
 * value as one matrix: 3); of each the share is read, and filled up with zeros to `width` in the backend. */
typedef struct {
    int32_t size; /* in the file, of all groups */
    int32_t groups;
    tdm_share share; /* of one group; n may be 0 */
    int32_t width;   /* of one group in the backend, >= share.n */
} tdm_slice;

static inline tdm_slice tdm_some(int32_t size, tdm_share share)
{
    return (tdm_slice){size, 1, share, share.n};
}
static inline tdm_slice tdm_whole(int32_t size)
{
    return tdm_some(size, (tdm_share){0, size});
}
/* Of all groups, in the backend. */
static inline int32_t tdm_slice_width(tdm_slice s)
{
    return s.groups * s.width;
}

typedef struct {
    const tdm_backend *be;    /* borrowed */
    const tdm_checkpoint *ck; /* borrowed */
    const char *prefix;       /* borrowed; put in front of every name below */
    bool check_finite;        /* refuse NaN and infinity in what is read of weights */
    const struct tdm_stop *stop; /* borrowed; looked at while reading: at first the backend's */
    size_t bytes;     /* loaded so far, in the backend's memory: matrices and biases in act */
    bool *used;       /* [tdm_checkpoint_count] which tensors have been asked for */
    void *staging[2]; /* host memory: tensors as in the file; in another type */
    size_t staging_bytes[2];
    tdm_threads *readers; /* large tensors are read in pieces */
} tdm_loader;

/* Errors: TDM_ENOMEM. */
tdm_status tdm_loader_open(tdm_loader *l, const tdm_backend *be, const tdm_checkpoint *ck,
                           const char *prefix, bool check_finite, tdm_err *err);
void tdm_loader_close(tdm_loader *l); /* {0} is fine */

/* A matrix for linear(), handed to the backend in the type that it has in the file.
 *   in, out  widths of input and output, neither empty in the backend; the tensor is [in, out] or [out, in] as layout
 *            says
 * Errors: TDM_EFORMAT (missing, other shape or type, not finite), TDM_EIO, TDM_ENOMEM; TDM_EARG for a slice that is not
 * inside its tensor. */
tdm_status tdm_load_weight(tdm_loader *l, const char *name, tdm_slice in, tdm_slice out, tdm_layout layout,
                           tdm_weight **w, tdm_err *err);
/* n matrices of [out, in], of each the same slice, side by side as one (query, key and value): in the type that they
 * share in the file, else widened to f32. */
tdm_status tdm_load_weights_joined(tdm_loader *l, const char *const *names, int n, tdm_slice in, tdm_slice out,
                                   tdm_weight **w, tdm_err *err);

/* A vector as f32: [1, cols]. */
tdm_status tdm_load_vector(tdm_loader *l, const char *name, int32_t cols, tdm_mat *m, tdm_err *err);

/* A bias for linear(), in act: [1, cols]. Wider values are rounded; one too large for act is infinite. An empty slice
 * gives no columns: a bias that another rank adds. */
tdm_status tdm_load_bias(tdm_loader *l, const char *name, tdm_slice cols, tdm_mat *m, tdm_err *err);
/* n biases, of each the same slice, one behind the other. */
tdm_status tdm_load_biases_joined(tdm_loader *l, const char *const *names, int n, tdm_slice cols, tdm_mat *m,
                                  tdm_err *err);

/* A table of rows to look up, in the type that it has in the file: [rows, cols]. An empty slice has memory too. */
tdm_status tdm_load_table(tdm_loader *l, const char *name, tdm_slice rows, int32_t cols, tdm_mat *m, tdm_err *err);

/* The bytes of a tensor widened to f32 in host memory, for callers that combine tensors before they
 * upload them. Valid until the next call on the loader.
 *   cols  0: rank 1 */
tdm_status tdm_load_host(tdm_loader *l, const char *name, int32_t rows, int32_t cols,
                         const float **values, tdm_err *err);

/* What a model makes of a tensor, and who is told: the models list their tensors with this, for
 * callers that look at a checkpoint without loading it (gpt2_each_tensor, roberta_each_tensor).
 *   name        as it is in the file, prefix included; valid during the call
 *   rows, cols  the sizes that it must have, and what a rank has of them; cols.size 0: rank 1 */
typedef enum {
    TDM_AS_TABLE,  /* rows to look up, in the type of the file */
    TDM_AS_MATRIX, /* a weight of the backend */
    TDM_AS_BIAS,   /* values that are kept in act */
    TDM_AS_F32,    /* values that are kept as f32 */
} tdm_tensor_role;
typedef tdm_status (*tdm_see_tensor)(void *ctx, const char *name, tdm_slice rows, tdm_slice cols,
                                     tdm_tensor_role role);

/* Adds up what tdm_loader's `bytes` will be: a tdm_see_tensor.
 *   plan  a tdm_weight_plan
 * Errors: TDM_EFORMAT names a tensor that the file lacks, or that has another shape. */
typedef struct {
    const tdm_checkpoint *ck;
    tdm_dtype act;
    size_t bytes;
    tdm_err *err;
} tdm_weight_plan;
tdm_status tdm_plan_tensor(void *plan, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role);

/* Refuse the first tensor that no call above asked for, unless ignore(name) says that it may be
 * there. The name is the one in the file, prefix included. */
tdm_status tdm_loader_check_rest(const tdm_loader *l, bool (*ignore)(const char *name),
                                 tdm_err *err);

#endif
