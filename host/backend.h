/* host/backend.h - the fused operations of the models, and who carries them out.
 *
 * One backend is one table of functions. The tdm_* functions below check shapes once, for every
 * backend; an implementation may trust them. Work is enqueued in order; only sync, download and
 * sample's caller wait. Pointers inside tdm_mat and tdm_step are memory of the backend (host memory
 * for the CPU). A row's result depends on that row alone: never on the number of rows, their order,
 * or the threads. B texts, T positions, E width, H heads, D = 64 head width, V vocabulary.
 *
 * Thread safety: one backend, one thread. */
#ifndef HOST_BACKEND_H
#define HOST_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/dtype.h"
#include "host/err.h"

enum { TDM_HEAD = 64 };

/* A borrowed view of a row-major, contiguous matrix. Passed by value; owns nothing. */
typedef struct {
    void *p;
    int64_t rows;
    int32_t cols;
    tdm_dtype dtype;
} tdm_mat;

/* A matrix laid out by the backend for its matrix product, and the keys and values of all layers by
 * slot and position. What lies behind the shape is the backend's. */
typedef struct {
    int32_t in, out;
} tdm_weight;
typedef struct {
    int32_t layers, heads, slots, context;
} tdm_kv;

typedef enum { TDM_IN_OUT, TDM_OUT_IN } tdm_layout; /* Conv1D of GPT-2, Linear of RoBERTa */
typedef enum { TDM_LINEAR, TDM_GELU_TANH, TDM_GELU_ERF, TDM_TANH } tdm_epilogue;

/* A ragged batch: n_seqs texts, rows starts[i] .. starts[i + 1] - 1 belong to text i and are its
 * next positions. All arrays are backend memory except where the name says host. */
typedef struct {
    int32_t n_rows, n_seqs;
    const int32_t *tokens;    /* [n_rows] */
    const int32_t *positions; /* [n_rows] position of each row in its text */
    const int32_t *starts;    /* [n_seqs + 1] */
    const int32_t *slots;     /* [n_seqs] KV slot of each text; NULL where no cache is used */
} tdm_step;

typedef enum { TDM_NUCLEUS_OPENAI, TDM_NUCLEUS_HF } tdm_nucleus;

/* How to draw the next token of one text. */
typedef struct {
    uint64_t seed, document;
    uint32_t position; /* number of tokens drawn before this one */
    float temperature; /* 0: the lowest id of the largest logit */
    int32_t top_k;     /* 0: off; ties with the k-th survive */
    float top_p;       /* 1: off */
    tdm_nucleus nucleus;
} tdm_draw;

typedef struct {
    const char *name; /* "cpu", "cuda" */
    void (*close)(void *self);
    tdm_status (*alloc)(void *self, size_t bytes, void **out, tdm_err *err); /* 64-byte aligned */
    void (*release)(void *self, void *p);                                    /* NULL is fine */
    tdm_status (*upload)(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
    tdm_status (*download)(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
    tdm_status (*sync)(void *self, tdm_err *err);
    tdm_status (*weight_open)(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                              tdm_layout layout, tdm_weight **w, tdm_err *err);
    void (*weight_close)(void *self, tdm_weight *w);
    tdm_status (*kv_open)(void *self, int32_t layers, int32_t heads, int32_t slots, int32_t context,
                          tdm_kv **kv, tdm_err *err);
    void (*kv_close)(void *self, tdm_kv *kv);
    tdm_status (*embed)(void *self, tdm_mat y, const tdm_step *step, tdm_mat words,
                        tdm_mat positions, int32_t first_position, tdm_err *err);
    tdm_status (*add_norm)(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma,
                           tdm_mat beta, float eps, tdm_err *err);
    tdm_status (*linear)(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w, const tdm_mat *bias,
                         tdm_epilogue epilogue, tdm_err *err);
    tdm_status (*attend_cached)(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                                const tdm_step *step, tdm_err *err);
    tdm_status (*attend_packed)(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                                tdm_err *err);
    tdm_status (*gather)(void *self, tdm_mat y, tdm_mat x, const int32_t *rows, tdm_err *err);
    tdm_status (*sample)(void *self, int32_t *ids, tdm_mat logits, const tdm_draw *draws,
                         tdm_err *err);
} tdm_ops;

typedef struct {
    const tdm_ops *ops;
    void *self; /* owned; tdm_backend_close frees it */
} tdm_backend;

/* The backend that computes in f32 on the CPU.
 *   threads  0: one per usable core */
tdm_status tdm_open_cpu(int threads, tdm_backend *out, tdm_err *err);
/* The backend on CUDA device `device`. Errors: TDM_ENODEV where there is none or CUDA is not built in. */
tdm_status tdm_open_cuda(int device, tdm_backend *out, tdm_err *err);
void tdm_backend_close(tdm_backend *be); /* {0} is fine */

tdm_status tdm_alloc(const tdm_backend *be, size_t bytes, void **out, tdm_err *err);
void tdm_release(const tdm_backend *be, void *p);
tdm_status tdm_upload(const tdm_backend *be, void *dst, const void *src, size_t bytes, tdm_err *err);
tdm_status tdm_download(const tdm_backend *be, void *dst, const void *src, size_t bytes,
                        tdm_err *err);
tdm_status tdm_sync(const tdm_backend *be, tdm_err *err);

/* Lay out a weight matrix for linear().
 *   src  host memory, [in, out] or [out, in] of dtype as `layout` says; not kept */
tdm_status tdm_weight_open(const tdm_backend *be, const void *src, tdm_dtype dtype, int32_t in,
                           int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err);
void tdm_weight_close(const tdm_backend *be, tdm_weight *w); /* NULL is fine */

/* Room for the keys and values of `slots` texts of at most `context` tokens. */
tdm_status tdm_kv_open(const tdm_backend *be, int32_t layers, int32_t heads, int32_t slots,
                       int32_t context, tdm_kv **kv, tdm_err *err);
void tdm_kv_close(const tdm_backend *be, tdm_kv *kv); /* NULL is fine */

/* y[r] = words[tokens[r]] + positions[first_position + step->positions[r]]
 *   y [n_rows, E] f32; words [V, E], positions [P, E] of any dtype */
tdm_status tdm_embed(const tdm_backend *be, tdm_mat y, const tdm_step *step, tdm_mat words,
                     tdm_mat positions, int32_t first_position, tdm_err *err);

/* x += delta (NULL: nothing), then y = gamma * (x - mean) / sqrt(var + eps) + beta, row by row.
 *   x, y [rows, E] f32; y may equal x (RoBERTa's post-norm; x then holds the norm)
 *   delta [rows, E]; gamma, beta [1, E] f32.  var is biased (divided by E). */
tdm_status tdm_add_norm(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                        tdm_mat gamma, tdm_mat beta, float eps, tdm_err *err);

/* y = epilogue(x @ W + bias).  x [rows, in], y [rows, out]; bias [1, out] f32 or NULL.
 * The sum over `in` has one fixed order whatever the number of rows. y may not overlap x. */
tdm_status tdm_linear(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_weight *w,
                      const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err);

/* Causal attention with a cache: append this step's keys and values, then let each row see
 * positions 0 .. its own.  qkv [n_rows, 3E] = q | k | v, heads are consecutive slices of 64;
 * y [n_rows, E].  The scale is 1/8. A row's bits do not depend on how its text was cut into steps. */
tdm_status tdm_attend_cached(const tdm_backend *be, tdm_mat y, tdm_mat qkv, tdm_kv *kv,
                             int32_t layer, const tdm_step *step, tdm_err *err);

/* Bidirectional attention inside each text of a packed batch, no padding, no cache. */
tdm_status tdm_attend_packed(const tdm_backend *be, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                             tdm_err *err);

/* y[i] = x[rows[i]]; rows [y.rows] backend memory. */
tdm_status tdm_gather(const tdm_backend *be, tdm_mat y, tdm_mat x, const int32_t *rows,
                      tdm_err *err);

/* Draw one token per row of logits [B, V] f32 into ids [B]; -1 where a logit is not finite.
 *   draws  [B] host memory
 * The definition (order of temperature, top-k, top-p; Gumbel-max on Philox) is in host/sample.h. */
tdm_status tdm_sample(const tdm_backend *be, int32_t *ids, tdm_mat logits, const tdm_draw *draws,
                      tdm_err *err);

#endif
