/* kernels/gemm.h - the one wrapper of cuBLASLt.
 *
 *   y = epilogue(x @ w^T + bias)      w [out, in] as tdmk_lay_out writes it
 *
 * Promise: a row of y has the same bits whatever the number of rows. So no split-K, no reduction
 * between blocks, and for each shape one algorithm, or several that a test has shown to give equal
 * row bits on this architecture and version of cuBLASLt (kernels/gemm_table.inc, written by `tandem
 * bench gemm --tune`). Without an entry: the first algorithm that cuBLASLt's heuristic offers for
 * TDM_GEMM_REFERENCE_ROWS rows and that takes other numbers of rows too. Nothing is timed at run
 * time.
 *
 * Names no type of CUDA's headers. Thread safety: one tdm_gemm, one thread. */
#ifndef KERNELS_GEMM_H
#define KERNELS_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"

enum {
    TDM_GEMM_REFERENCE_ROWS = 512,
    TDM_GEMM_CHOICES = 8, /* algorithms of one shape at most */
};

/* What the table of algorithms is keyed by. */
typedef struct {
    int32_t in, out;       /* multiples of 8 and of 64 */
    tdm_dtype dtype;       /* of x, w and bias */
    tdm_dtype y_dtype;     /* dtype or f32 */
    tdm_epilogue epilogue; /* TDM_LINEAR or TDM_GELU_TANH */
    bool has_bias; /* wants y_dtype == dtype: cuBLASLt takes a bias of the type of y alone */
} tdm_gemm_shape;

/* A configured algorithm of cuBLASLt: may be stored, and used again by the same version on the same
 * architecture. */
typedef struct {
    uint64_t words[8];
} tdm_gemm_algo;

typedef struct tdm_gemm tdm_gemm;
struct CUstream_st; /* cudaStream_t points to it */

/* A handle with its workspace on the current device. All products are enqueued on `stream`.
 * Errors: TDM_ENODEV when cuBLASLt does not start, TDM_ENOMEM. */
tdm_status tdm_gemm_open(struct CUstream_st *stream, tdm_gemm **out, tdm_err *err);
void tdm_gemm_close(tdm_gemm *g); /* NULL is fine */

/* Choose the algorithms of a shape, once: later calls find the plan that is there.
 *   plan  receives its number, >= 0
 * Cost: allocates host memory the first time; enqueues nothing.
 * Errors: TDM_EARG for a shape out of range; TDM_EINTERNAL, with the shape, when cuBLASLt has no
 * algorithm; TDM_ENOMEM. */
tdm_status tdm_gemm_plan(tdm_gemm *g, const tdm_gemm_shape *shape, int *plan, tdm_err *err);

/* Enqueue one product; rows 0 is fine. Allocates nothing.
 *   y [rows, out] of y_dtype, y_stride >= out elements from row to row; x [rows, in]; bias [out] or
 *   NULL; all on the device, 16-byte aligned, rows of y too
 * Errors: TDM_EINTERNAL, TDM_ESTOPPED. */
tdm_status tdm_gemm_run(tdm_gemm *g, int plan, void *y, int32_t y_stride, const void *x,
                        const void *w, const void *bias, int64_t rows, tdm_err *err);

/* ---- for tuning ---- */

/* The algorithms that the heuristic offers for this number of rows, without split-K, the fastest
 * first by its estimate. algos  [cap]; n receives how many */
tdm_status tdm_gemm_candidates(tdm_gemm *g, const tdm_gemm_shape *shape, int64_t rows,
                               tdm_gemm_algo *algos, int cap, int *n, tdm_err *err);

/* A plan, not shared with tdm_gemm_plan, that uses this algorithm for every number of rows. */
tdm_status tdm_gemm_plan_with(tdm_gemm *g, const tdm_gemm_shape *shape, const tdm_gemm_algo *algo,
                              int *plan, tdm_err *err);

/* One line of kernels/gemm_table.inc, newline included: `algo` for up to max_rows rows (0: any
 * number), on the current device and version. Lines of a shape stand together, max_rows rising.
 * Returns: its length, as snprintf does. */
int tdm_gemm_table_line(const tdm_gemm *g, const tdm_gemm_shape *shape, int64_t max_rows,
                        const tdm_gemm_algo *algo, char *text, size_t cap);

/* What the choice of algorithms depends on beside the device: "cuBLASLt 120804, table #6f1c..." with a hash of the
 * table's lines for this architecture and version, or "no table": the heuristic chooses.
 * Returns: the length, as snprintf does. */
int tdm_gemm_identity(const tdm_gemm *g, char *text, size_t cap);

#endif
