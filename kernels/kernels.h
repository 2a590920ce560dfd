/* kernels/kernels.h - the launchers of all CUDA kernels.
 *
 * Each checks shapes and alignment and returns cudaErrorInvalidValue for what it cannot do; no rows are
 * cudaSuccess. None allocates, waits, or reads its arguments after it returned. Matrices are device
 * memory, 16-byte aligned; widths are multiples of 8 unless said otherwise. "act" stands for the dtype
 * of activations: f32, f16 or bf16. Arithmetic is f32. A row's bits depend on that row alone.
 * tdm_mat, tdm_step and the other structs are those of host/backend.h.
 *
 * B texts, T positions, E width, H heads, D = 64 head width, V vocabulary. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- kernels/rows.cu: what is done row by row ---- */

/* y[r] = words[token] + positions[first_position + position]; zeros for an idle row.
 *   y [rows, E] f32; words [V, E], positions [P, E] of any dtype each
 * A token or position outside its table gives a row of NaN. A rank has the words first_word .. and -0 for others; its
 * words may be empty (NULL), and its positions NULL: then -0 is added. Moves 12 bytes an element (f32 y). */
cudaError_t tdmk_embed(tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word, tdm_mat positions,
                       int32_t first_position, bool is_rank, cudaStream_t stream);

/* TDM_PRE_NORM: x += delta; y = norm(x).  TDM_POST_NORM: x = norm(x + delta); y = x, rounded.
 *   x [rows, E] f32; delta [rows, E] act or f32, or NULL; y [rows, E] act (post-norm in f32: may be x)
 *   gamma, beta [1, E] f32; E <= 8192. Two passes over registers: the mean first, then the variance. */
cudaError_t tdmk_add_norm(tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma, tdm_mat beta,
                          float eps, tdm_norm form, cudaStream_t stream);

/* y = f(y + bias) in place.  y [rows, n] act; bias [1, n] act, or NULL; TDM_GELU_ERF or TDM_TANH. */
cudaError_t tdmk_activate(tdm_mat y, const tdm_mat *bias, tdm_epilogue f, cudaStream_t stream);

/* y[i] = x[rows[i]]; any dtype, the same on both sides. A row number out of range gives a row of NaN. */
cudaError_t tdmk_gather(tdm_mat y, tdm_mat x, const int32_t *rows, cudaStream_t stream);

/* y = x @ w^T + bias, for a few labels.  x [rows, E] act; w [labels, E], bias [1, labels], y
 * [rows, labels] f32; labels <= 32. One warp a row and label; lanes take columns l, l + 32, ... */
cudaError_t tdmk_classify(tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias, cudaStream_t stream);

/* ---- kernels/lay_out.cu ---- */

/* Rows first .. first + n - 1 of a weight matrix as it is in the file, into a matrix [out, in] of dst_dtype.
 *   src  [n, out] rows of the matrix [in, out] (TDM_IN_OUT: transposed on the way), or
 *        [n, in] rows of the matrix [out, in] (TDM_OUT_IN); need not be aligned beyond its dtype
 * A finite value that is too large for dst_dtype becomes infinite. */
cudaError_t tdmk_lay_out(void *dst, tdm_dtype dst_dtype, const void *src, tdm_dtype src_dtype,
                         int32_t in, int32_t out, tdm_layout layout, int32_t first, int32_t n,
                         cudaStream_t stream);

/* ---- kernels/decode.cu, kernels/attention.cu ---- */

/* Keys and values of all layers: [page][layer][key, value][head][TDM_PAGE][D]. */
typedef struct {
    void *p;
    tdm_dtype dtype; /* of the cache: f32, f16, bf16; need not be act */
    int32_t layers, heads, pages;
    int32_t text_pages; /* entries of a slot in step->pages */
} tdmk_cache;

/* One new row for each text (the decoding form of tdm_step): append its key and value, then attend
 * positions 0 .. its own.  qkv [rows, 3E] act = q | k | v; y [rows, E] act; the scale is 1/8.
 * Idle rows give zeros. The keys are shared out to the warps in one fixed way, and their parts merged
 * in one fixed order, so the bits depend on the text's keys alone. Reads 2 E elements a key. */
cudaError_t tdmk_attend_decode(tdm_mat y, tdm_mat qkv, tdmk_cache cache, int32_t layer,
                               const tdm_step *step, cudaStream_t stream);

/* The same for ragged rows (prompts): append all rows, then each attends positions 0 .. its own, over
 * tiles of TDM_PAGE keys in rising order, on the tensor cores (act f32: in f32). How a text was cut into
 * steps does not change a row's bits. A key or value that is not finite makes the rows after it NaN; on
 * the tensor cores perhaps also rows of its text before it, down to the start of its page. */
cudaError_t tdmk_attend_prefill(tdm_mat y, tdm_mat qkv, tdmk_cache cache, int32_t layer,
                                const tdm_step *step, cudaStream_t stream);

/* Attention inside each text of a packed batch (ragged, no cache): each row sees all rows of its text,
 * or those up to its own.  Tensor cores; act f32: in f32. What is not finite acts as in the prefill. */
cudaError_t tdmk_attend_packed(tdm_mat y, tdm_mat qkv, const tdm_step *step, bool causal,
                               cudaStream_t stream);

/* ---- kernels/sample.cu, stats.cu, top.cu: rows of logits are 16-byte aligned (stride % 4 == 0) ---- */

/* Draw a token for each row r from logits [rows, V] f32 as host/sample.h defines, and move its slot on:
 *   s = slots[r]; nothing happens if s < 0; an idle slot gets drawn[s] = TDM_IDLE; else drawn[s] = id.
 *   id < 0 (not finite), id == eos, or the last of left[s]: the slot becomes idle (positions[s] = -1);
 *   else tokens[s] = id, positions[s]++, left[s]--, draws[s].position++.
 * No sort, no prefix sum, no float atomics. Columns V .. stride - 1 are not looked at. */
cudaError_t tdmk_sample(const tdm_slots *state, const int32_t *slots, tdm_mat logits, int32_t eos,
                        cudaStream_t stream);

/* stats[r] of targets[r] under logits [rows, V] f32; a negative target gives zeros. The statistics of a
 * row are summed in one fixed order. A logit that is not finite, or a target >= V: rank TDM_NOT_FINITE, the
 * rest NaN. Reads 4 V bytes, twice. */
cudaError_t tdmk_token_stats(tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                             cudaStream_t stream);

/* stats[r] of rows r of p and q [rows, V] f32; a negative target gives zeros; a logit that is not finite, or a
 * target >= V: all NaN. Strides may differ. Reads 8 V bytes, twice. */
cudaError_t tdmk_cross_stats(tdm_cross *stats, tdm_mat p, tdm_mat q, const int32_t *targets,
                             cudaStream_t stream);

/* top[r * k ..]: the k likeliest tokens of row r of logits [rows, V] f32, of equal ones the lowest id
 * first; a negative target gives zeros; a logit that is not finite, or a target >= V: k times
 * TDM_NOT_FINITE beside NaN.  1 <= k <= TDM_TOP_MOST, k <= V. Reads 4 V bytes, twice, and a thread's
 * share of them for each token. */
cudaError_t tdmk_top_tokens(tdm_top *top, int32_t k, tdm_mat logits, const int32_t *targets,
                            cudaStream_t stream);

/* ---- kernels/ranks.cu: what ranks sent each other ---- */

/* y[i] = the sum of parts[r][i] over the ranks r, in f32, from the first rank on, rounded once.
 *   y [n]; parts [ranks][n]; both of dtype. 16 bytes at a time where n elements are a multiple of 16 bytes and both
 * are aligned; one element at a time otherwise, with the same bits. Reads ranks n elements. */
cudaError_t tdmk_add_ranks(void *y, const void *parts, tdm_dtype dtype, int32_t ranks, int64_t n,
                           cudaStream_t stream);

/* y[row, r * width + j] = parts[r][row, j], as far as y has columns. y.cols need not be a multiple of anything: of a
 * gap behind them, up to three values are overwritten. 16 bytes at a time where width and the stride allow it.
 *   y [rows, V] f32, rows <= 65535; parts [ranks][rows][width], ranks * width >= V */
cudaError_t tdmk_join_ranks(tdm_mat y, const float *parts, int32_t width, cudaStream_t stream);

/* ---- kernels/ceilings.cu: the memory of this device, for the bench ---- */

/* Fill dst with words that look random; copy src to dst; or add up the words of each tile of src.
 *   bytes  a multiple of the tile;  sums [bytes / TDMK_STREAM_TILE] */
enum { TDMK_STREAM_TILE = 32768 };
cudaError_t tdmk_stream_fill(void *dst, size_t bytes, cudaStream_t stream);
cudaError_t tdmk_stream_copy(void *dst, const void *src, size_t bytes, cudaStream_t stream);
cudaError_t tdmk_stream_read(uint32_t *sums, const void *src, size_t bytes, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
