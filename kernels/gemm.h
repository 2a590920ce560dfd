/* kernels/gemm.h - the one wrapper of cuBLASLt.
 *
 *   y = epilogue(x @ w^T + bias)      w [out, in] as tdmk_lay_out writes it
 *
 * Promise: a row of y has the same bits whatever the number of rows. So no split-K, no reduction
 * between blocks, and for each weight shape one algorithm, or several that a test has shown to give equal
 * row bits on this architecture and version of cuBLASLt (kernels/gemm_table.inc, written by `tandem bench
 * gemm --tune`). Without an entry: the first algorithm that cuBLASLt's heuristic offers for GEMM_REFERENCE_ROWS
 * rows. Nothing is timed at run time. */
#ifndef KERNELS_GEMM_H
#define KERNELS_GEMM_H

#include <cuda_runtime_api.h>

#include "host/backend.h"

typedef struct tdm_gemm tdm_gemm;

/* A handle with its workspace. Errors: TDM_ENOMEM, TDM_ENODEV. */
tdm_status tdm_gemm_open(int device, tdm_gemm **out, tdm_err *err);
void tdm_gemm_close(tdm_gemm *g); /* NULL is fine */

/* Choose the algorithms of a weight before the first product with it (so that nothing is looked up or
 * allocated in a step or a capture).
 *   in, out  out is a multiple of 64 (padded); dtype of x and w; y_dtype: dtype or f32
 *   epilogue TDM_LINEAR or TDM_GELU_TANH; bias or not
 * Errors: TDM_EINTERNAL when cuBLASLt has no algorithm, with the shape. */
tdm_status tdm_gemm_plan(tdm_gemm *g, int32_t in, int32_t out, tdm_dtype dtype, tdm_dtype y_dtype,
                         tdm_epilogue epilogue, bool has_bias, int *plan, tdm_err *err);

/* Enqueue one product.
 *   y [rows, out] of y_dtype with y_stride elements from row to row; bias [out] of dtype, or NULL */
tdm_status tdm_gemm_run(tdm_gemm *g, int plan, void *y, int32_t y_stride, const void *x, const void *w,
                        const void *bias, int64_t rows, cudaStream_t stream, tdm_err *err);

#endif
