/* host/backend.h - the fused operations of the models, and who carries them out.
 *
 * One backend is one table of functions. The tdm_* functions below check shapes once, for every
 * backend; an implementation may trust them. Work is enqueued in order and may be done later: only
 * sync, download and fetch_end wait, and an error may come out of any later call. Pointers inside tdm_mat,
 * tdm_step and tdm_slots are memory of the backend (host memory for the CPU). A row's result depends
 * on that row alone: never on the number of rows, their order, their slot, or the threads.
 *
 * "act" is the backend's dtype: that of activations, of biases, and of what linear reads. Residuals,
 * statistics and logits are f32. B texts, T positions, E width, H heads, D = 64 head width, V vocabulary.
 *
 * Thread safety: one backend, one thread. */
#ifndef HOST_BACKEND_H
#define HOST_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/dtype.h"
#include "host/err.h"

enum {
    TDM_HEAD = 64, /* width of an attention head */
    TDM_PAGE = 64, /* tokens of one page of the cache */
};

/* A borrowed view of a row-major matrix. Passed by value; owns nothing. */
typedef struct {
    void *p;
    int64_t rows;
    int32_t cols;
    tdm_dtype dtype;
    int32_t stride; /* elements from row to row; 0: cols. Only logits have gaps between rows */
} tdm_mat;

/* A matrix laid out by the backend for its matrix product, and the keys and values of all layers in
 * pages of TDM_PAGE tokens. What lies behind the shape is the backend's. */
typedef struct {
    int32_t in, out;
} tdm_weight;
typedef struct {
    int32_t layers, heads;
    int32_t pages;      /* of TDM_PAGE tokens of all layers */
    int32_t text_pages; /* pages of the longest text: the width of step->pages */
} tdm_kv;

/* Work that was recorded once and can be enqueued again as one. */
typedef struct tdm_graph tdm_graph;

typedef enum { TDM_IN_OUT, TDM_OUT_IN } tdm_layout; /* Conv1D of GPT-2, Linear of RoBERTa */
typedef enum { TDM_LINEAR, TDM_GELU_TANH, TDM_GELU_ERF, TDM_TANH } tdm_epilogue;
typedef enum { TDM_PRE_NORM, TDM_POST_NORM } tdm_norm; /* GPT-2, RoBERTa */

/* The rows of a forward pass, in one of two forms. All arrays are memory of the backend.
 * Ragged (starts set): rows starts[i] .. starts[i + 1] - 1 are the next tokens of text i; tokens and
 * positions have one entry per row, slots one per text.
 * Decoding (starts NULL): row r is the next token of the text in slots[r]; tokens and positions have
 * one entry per slot, and the row takes those of its slot. A row whose slot or position is negative is
 * idle: it is computed from zeros and writes nothing to the cache. */
typedef struct {
    int32_t n_rows, n_seqs;   /* decoding: equal */
    int32_t longest;          /* rows of the longest text; decoding: 1 */
    const int32_t *tokens;
    const int32_t *positions;
    const int32_t *starts;    /* [n_seqs + 1] */
    const int32_t *slots;     /* [n_seqs]; NULL where no cache is used */
    const int32_t *pages;     /* [slots, kv->text_pages] pages of each slot's text, in its order */
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

/* The texts that are being written, by slot. All arrays are memory of the backend; sample() moves each
 * text on, so that the next step can follow without the host. */
typedef struct {
    int32_t *tokens;    /* the token to feed next */
    int32_t *positions; /* its position; < 0: no text, or an ended one */
    int32_t *left;      /* tokens that may still be drawn, >= 1 while the text runs */
    int32_t *drawn;     /* what the last step drew: an id, TDM_NOT_FINITE, or TDM_IDLE */
    tdm_draw *draws;    /* position counts up with every draw */
} tdm_slots;
enum { TDM_NOT_FINITE = -1, TDM_IDLE = -2 };

/* What the logits of one row say about a given token; natural logarithms. */
typedef struct {
    float logprob;  /* of the token */
    float entropy;  /* -sum p ln p */
    float variance; /* of ln p under p: sum p (ln p)^2 - entropy^2 */
    int32_t rank;   /* 1 + number of tokens with a larger logit; TDM_NOT_FINITE: a logit is not finite */
} tdm_stat;

/* What two models, p and q, expect of one another in one row: logits over the same vocabulary. */
typedef struct {
    float cross;    /* -sum q ln p: what p's surprise would be on q's text */
    float variance; /* of ln p under q: sum q (ln p)^2 - cross^2; all NaN: a logit is not finite */
    float back;     /* -sum p ln q */
} tdm_cross;

/* One of the likeliest tokens of a row. */
typedef struct {
    int32_t id;    /* TDM_NOT_FINITE: a logit of the row is not finite */
    float logprob; /* natural logarithm */
} tdm_top;
enum { TDM_TOP_MOST = 64 };

typedef struct {
    const char *name; /* "cpu", "cuda", "null" */
    void (*close)(void *self);
    size_t (*memory)(void *self);
    tdm_status (*alloc)(void *self, size_t bytes, void **out, tdm_err *err);
    void (*release)(void *self, void *p); /* NULL is fine */
    tdm_status (*upload)(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
    tdm_status (*download)(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
    tdm_status (*sync)(void *self, tdm_err *err);
    tdm_status (*fetch_begin)(void *self, int lane, const void *src, size_t bytes, tdm_err *err);
    tdm_status (*fetch_end)(void *self, int lane, const void **host, tdm_err *err);
    tdm_status (*graph_begin)(void *self, tdm_err *err); /* NULL: this backend has no graphs */
    tdm_status (*graph_end)(void *self, tdm_graph **graph, tdm_err *err);
    tdm_status (*graph_run)(void *self, const tdm_graph *graph, tdm_err *err);
    void (*graph_close)(void *self, tdm_graph *graph);
    tdm_status (*weight_open)(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                              tdm_layout layout, tdm_weight **w, tdm_err *err);
    void (*weight_close)(void *self, tdm_weight *w);
    size_t (*kv_page_bytes)(void *self, int32_t layers, int32_t heads);
    tdm_status (*kv_open)(void *self, int32_t layers, int32_t heads, int32_t pages,
                          int32_t text_pages, tdm_kv **kv, tdm_err *err);
    void (*kv_close)(void *self, tdm_kv *kv);
    tdm_status (*kv_copy)(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err);
    tdm_status (*embed)(void *self, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                        tdm_mat positions, int32_t first_position, tdm_err *err);
    tdm_status (*add_norm)(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma,
                           tdm_mat beta, float eps, tdm_norm form, tdm_err *err);
    tdm_status (*linear)(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w, const tdm_mat *bias,
                         tdm_epilogue epilogue, tdm_err *err);
    tdm_status (*attend_cached)(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                                const tdm_step *step, tdm_err *err);
    tdm_status (*attend_packed)(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                                bool causal, tdm_err *err);
    tdm_status (*gather)(void *self, tdm_mat y, tdm_mat x, const int32_t *rows, tdm_err *err);
    tdm_status (*classify)(void *self, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias, tdm_err *err);
    tdm_status (*sample)(void *self, const tdm_slots *state, const int32_t *slots, tdm_mat logits,
                         int32_t eos, tdm_err *err);
    tdm_status (*token_stats)(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                              tdm_err *err);
    tdm_status (*cross_stats)(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q, const int32_t *targets,
                              tdm_err *err);
    tdm_status (*top_tokens)(void *self, tdm_top *top, int32_t k, tdm_mat logits,
                             const int32_t *targets, tdm_err *err);
    /* of a rank; NULL: this backend is never one */
    tdm_status (*sum_ranks)(void *self, tdm_mat y, tdm_err *err);
    tdm_status (*join_ranks)(void *self, tdm_mat y, tdm_mat x, tdm_err *err);
    void (*give_up)(void *self);
} tdm_ops;

typedef struct {
    const tdm_ops *ops;
    void *self;      /* owned; tdm_backend_close frees it */
    tdm_dtype dtype; /* act */
    const char *device; /* for people: "cuda:0 NVIDIA H200, sm_90, 139.8 GiB, f16"; NULL: ops->name */
    const char *identity; /* what the bits of results depend on beside dtypes and the version of tandem:
                             "cpu, avx512, gcc 12.2.0"; "cuda, sm_90, ..."; "null" */
    const struct tdm_stop *stop; /* host/stop.h. Set: models stop loading, and a forward pass after its
                                    layer, with TDM_ESTOPPED. Borrowed; the opener's to set, NULL at first */
    int32_t rank, n_ranks;   /* which of how many backends that share the weights of models; 0 of 0: alone */
    struct tdm_ranks *ranks; /* host/ranks.h: the backends that this one stands for; NULL: it computes itself */
} tdm_backend;

/* The backend that computes in f32 on the CPU.
 *   threads  0: one per usable core */
tdm_status tdm_open_cpu(int threads, tdm_backend *out, tdm_err *err);

typedef struct {
    int device;        /* 0 is the first */
    tdm_dtype dtype;   /* of weights and activations */
    tdm_dtype kv_dtype;
    bool no_graphs;    /* enqueue every operation by itself; the results are the same */
} tdm_cuda_options;

/* The backend on one CUDA device. Errors: TDM_ENODEV where there is none, the driver is older than the
 * toolkit, the device too old for these kernels, or CUDA is not built in; TDM_ENOMEM. Any later call
 * can fail with TDM_ESTOPPED: the device was lost, and with it all of its memory. */
tdm_status tdm_open_cuda(const tdm_cuda_options *options, tdm_backend *out, tdm_err *err);

/* n CUDA devices of one kind as the ranks of one backend (host/ranks.h), with NCCL between them.
 *   devices  [n] numbers, each once; options->device is not used
 * Errors: as above; TDM_EARG for a device that is listed twice and for devices of different kinds; TDM_ENODEV for one
 * that is not there or that another program has to itself, and where NCCL is not built in. */
tdm_status tdm_open_cuda_ranks(const int *devices, int32_t n, const tdm_cuda_options *options, tdm_backend *out,
                               tdm_err *err);

/* A CUDA device as it can be seen without using it. */
typedef struct {
    int number;
    char name[64];
    char bus[16]; /* "0000:1b:00.0" */
    int major, minor, multiprocessors;
    size_t memory;  /* bytes in all */
} tdm_cuda_device;
/* All CUDA devices. Calls CUDA, which a process must not do before it forks.
 *   out  receives [*n], to be freed
 * Errors: TDM_ENODEV where there is none, or CUDA is not built in; TDM_ENOMEM. */
tdm_status tdm_list_cuda(tdm_cuda_device **out, int32_t *n, tdm_err *err);
void tdm_backend_close(tdm_backend *be); /* {0} is fine */

/* Bytes that alloc and kv_open may still take; 0: unknown. */
size_t tdm_backend_memory(const tdm_backend *be);
tdm_status tdm_alloc(const tdm_backend *be, size_t bytes, void **out, tdm_err *err); /* 256-byte aligned */
void tdm_release(const tdm_backend *be, void *p);
/* src may be used again when upload returns; dst is complete when download returns. */
tdm_status tdm_upload(const tdm_backend *be, void *dst, const void *src, size_t bytes, tdm_err *err);
tdm_status tdm_download(const tdm_backend *be, void *dst, const void *src, size_t bytes,
                        tdm_err *err);
tdm_status tdm_sync(const tdm_backend *be, tdm_err *err);

/* A download in two halves, so that work can be enqueued in between. There are TDM_LANES of them, each of
 * at most TDM_LANE_BYTES; a lane is free again after its end.
 *   host  receives the data, valid until the next begin on this lane */
enum { TDM_LANES = 2, TDM_LANE_BYTES = 1 << 20 };
tdm_status tdm_fetch_begin(const tdm_backend *be, int lane, const void *src, size_t bytes,
                           tdm_err *err);
tdm_status tdm_fetch_end(const tdm_backend *be, int lane, const void **host, tdm_err *err);

/* Record the operations between begin and end instead of doing them; run enqueues them all, with the
 * arguments that they had. In between only operations on rows and attention, no memory, no copies. If one
 * of them fails, end must follow all the same (graph NULL). */
bool tdm_has_graphs(const tdm_backend *be);
tdm_status tdm_graph_begin(const tdm_backend *be, tdm_err *err);
tdm_status tdm_graph_end(const tdm_backend *be, tdm_graph **graph, tdm_err *err);
tdm_status tdm_graph_run(const tdm_backend *be, const tdm_graph *graph, tdm_err *err);
void tdm_graph_close(const tdm_backend *be, tdm_graph *graph); /* NULL is fine */

/* Lay out a weight matrix for linear(), in act.
 *   src  host memory, [in, out] or [out, in] of dtype as `layout` says; not kept */
tdm_status tdm_weight_open(const tdm_backend *be, const void *src, tdm_dtype dtype, int32_t in,
                           int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err);
void tdm_weight_close(const tdm_backend *be, tdm_weight *w); /* NULL is fine */

/* Room for keys and values: `pages` pages of TDM_PAGE tokens, of which a text may have text_pages. */
size_t tdm_kv_page_bytes(const tdm_backend *be, int32_t layers, int32_t heads);
tdm_status tdm_kv_open(const tdm_backend *be, int32_t layers, int32_t heads, int32_t pages,
                       int32_t text_pages, tdm_kv **kv, tdm_err *err);
void tdm_kv_close(const tdm_backend *be, tdm_kv *kv); /* NULL is fine */
/* Page `to` becomes a copy of page `from`. */
tdm_status tdm_kv_copy(const tdm_backend *be, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err);

/* y[r] = words[token - first_word] + positions[first_position + position of the row]; zeros for an idle row
 *   y [n_rows, E] f32; words [V, E], positions [P, E] of any dtype
 * One of several ranks has a part of the words, perhaps none, and -0 for a token that is not in it; positions are NULL
 * there (and nothing is added) on all ranks but one. The sum of all ranks' y is what one alone computes, bit for bit. */
tdm_status tdm_embed(const tdm_backend *be, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                     tdm_mat positions, int32_t first_position, tdm_err *err);

/* norm(v) = gamma * (v - mean) / sqrt(var + eps) + beta, row by row; var is biased (divided by E).
 *   TDM_PRE_NORM   x += delta, y = norm(x)
 *   TDM_POST_NORM  x = norm(x + delta), and y is x in act; y may be x where act is f32
 *   x [rows, E] f32; y [rows, E] act; delta [rows, E] act, NULL: zeros; gamma, beta [1, E] f32 */
tdm_status tdm_add_norm(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                        tdm_mat gamma, tdm_mat beta, float eps, tdm_norm form, tdm_err *err);

/* Columns that a matrix of `cols` columns must have room for in y of linear(): y.stride is this, unless
 * it is cols. The values in the gap are the backend's. */
static inline int32_t tdm_padded(int32_t cols)
{
    return (cols + 63) / 64 * 64;
}

/* y = epilogue(x @ W + bias).  x [rows, in] act; y [rows, out] act or f32, stride tdm_padded(out);
 * bias [1, out] act or NULL. The sum over `in` has one fixed order whatever the number of rows. y may not
 * overlap x. */
tdm_status tdm_linear(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_weight *w,
                      const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err);

/* Causal attention with a cache: append this step's keys and values, then let each row see
 * positions 0 .. its own.  qkv [n_rows, 3E] = q | k | v, heads are consecutive slices of 64;
 * y [n_rows, E]; both act. The scale is 1/8. The pages of step->pages that the positions 0 .. last of a
 * text fall into must be its own or shared, the ones that are written its own. A row's bits do not
 * depend on how its text was cut into ragged steps; whether a row was computed in a ragged or in a decoding
 * step may matter. */
tdm_status tdm_attend_cached(const tdm_backend *be, tdm_mat y, tdm_mat qkv, tdm_kv *kv,
                             int32_t layer, const tdm_step *step, tdm_err *err);

/* Attention inside each text of a packed batch (ragged), no padding, no cache: a row sees all rows of its
 * text, or (causal) those up to its own. */
tdm_status tdm_attend_packed(const tdm_backend *be, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                             bool causal, tdm_err *err);

/* y[i] = x[rows[i]], same dtype; rows [y.rows] backend memory. */
tdm_status tdm_gather(const tdm_backend *be, tdm_mat y, tdm_mat x, const int32_t *rows,
                      tdm_err *err);

/* y = x @ w^T + bias for a few labels: x [rows, E] act; w [labels, E], bias [1, labels], y [rows, labels]
 * f32; labels <= 32. */
tdm_status tdm_classify(const tdm_backend *be, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias,
                        tdm_err *err);

/* Draw one token for each row of logits [rows, V] f32 from its slot's draw, and move the slot on:
 * s = slots[r] (negative: nothing happens). An idle slot: drawn[s] = TDM_IDLE. Otherwise drawn[s] is the id,
 * or TDM_NOT_FINITE; after an id < 0, after eos, and when left[s] was 1 the slot becomes idle
 * (positions[s] = -1); else tokens[s] = id, positions[s]++, left[s]--, draws[s].position++.
 *   slots  [rows] backend memory
 * The definition (order of temperature, top-k, top-p; Gumbel-max on Philox) is in host/sample.h. */
tdm_status tdm_sample(const tdm_backend *be, const tdm_slots *state, const int32_t *slots,
                      tdm_mat logits, int32_t eos, tdm_err *err);

/* stats[r] of targets[r] under logits [rows, V] f32; a negative target gives zeros, a logit that is not
 * finite NaN beside the rank TDM_NOT_FINITE. So does a target >= V on a device, which cannot refuse it; the
 * CPU does, with TDM_EARG.
 *   stats, targets  [rows] backend memory */
tdm_status tdm_token_stats(const tdm_backend *be, tdm_stat *stats, tdm_mat logits,
                           const int32_t *targets, tdm_err *err);

/* stats[r] of two rows of logits [rows, V] f32 of two models; zeros where targets[r] is negative: a row that
 * nobody asks about. A target >= V as in token_stats. Strides may differ.
 *   stats, targets  [rows] backend memory */
tdm_status tdm_cross_stats(const tdm_backend *be, tdm_cross *stats, tdm_mat p, tdm_mat q,
                           const int32_t *targets, tdm_err *err);

/* top[r * k ..] are the k likeliest tokens of logits [rows, V] f32, the likeliest first, of equal ones the
 * lowest id; zeros where targets[r] is negative. A target >= V as in token_stats: k times TDM_NOT_FINITE beside
 * NaN, as where a logit is not finite.
 *   k    1 <= k <= TDM_TOP_MOST, k <= V
 *   top  [rows, k], targets [rows] backend memory */
tdm_status tdm_top_tokens(const tdm_backend *be, tdm_top *top, int32_t k, tdm_mat logits,
                          const int32_t *targets, tdm_err *err);

/* ---- among ranks (host/ranks.h): every rank calls these in the same order, with the same shapes ---- */

/* y becomes the sum of all ranks' y, the same bits on every rank: added in f32 in the order of the ranks, and rounded
 * once, so that a row's bits depend on that row and the number of ranks alone. Nothing happens where n_ranks is 0.
 *   y  [rows, cols] act or f32 */
tdm_status tdm_sum_ranks(const tdm_backend *be, tdm_mat y, tdm_err *err);

/* y = the x of all ranks side by side, in the order of the ranks, on every rank: columns r * x.cols .. are rank r's.
 *   x  [rows, cols] f32, the same cols on every rank, without gaps
 *   y  [rows, V] f32, V <= n_ranks * x.cols; stride V or tdm_padded(V). What of x lies beyond V is dropped; of a gap
 *      in y: anything. May not overlap x */
tdm_status tdm_join_ranks(const tdm_backend *be, tdm_mat y, tdm_mat x, tdm_err *err);

#endif
