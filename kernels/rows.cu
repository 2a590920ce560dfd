/* kernels/rows.cu - what is done row by row besides matrix products: embedding, residual sum and
 * layer normalisation, activation, gathering, the classifier's last layer. All of it is bound by
 * memory: loads and stores are 16 bytes, and a thread asks for all it needs before it computes. */
#include "kernels/element.cuh"
#include "kernels/kernels.h"
#include "kernels/reduce.cuh"

namespace
{

/* Columns of a row that a thread owns: 16 bytes of 16-bit values, twice 16 of f32. */
constexpr int kColumns = 8;
constexpr int kMostThreads = 1024;

/* kColumns values from T to f32 and back; p is 16-byte aligned. */
template <class T> __device__ __forceinline__ void load(float (&v)[kColumns], const T *p)
{
    constexpr int N = tdm_pack<T>::N;
    tdm_pack<T> packs[kColumns / N];
    for (int i = 0; i < kColumns / N; i++)
        packs[i] = reinterpret_cast<const tdm_pack<T> *>(p)[i];
    for (int i = 0; i < kColumns; i++)
        v[i] = tdm_float(packs[i / N].v[i % N]);
}
template <class T> __device__ __forceinline__ void store(T *p, const float (&v)[kColumns])
{
    constexpr int N = tdm_pack<T>::N;
    for (int i = 0; i < kColumns / N; i++) {
        tdm_pack<T> pack;
        for (int j = 0; j < N; j++)
            pack.v[j] = tdm_round<T>(v[i * N + j]);
        reinterpret_cast<tdm_pack<T> *>(p)[i] = pack;
    }
}

/* ---- embed ---- */

/* Where row r reads its token and position: the row itself, or its slot. Negative: an idle row. */
__device__ __forceinline__ int place_of(const tdm_step &step, int r)
{
    if (step.starts)
        return r;
    const int slot = step.slots[r];
    return slot >= 0 && step.positions[slot] >= 0 ? slot : -1;
}

/* grid = rows; block = a warp or more; a thread owns 8 columns in every 8 * blockDim. */
template <class W, class P>
__global__ __launch_bounds__(kMostThreads) void embed(float *y, tdm_step step, const W *words,
                                                      int64_t n_words, int first_word, const P *positions,
                                                      int64_t n_positions, int first_position,
                                                      bool is_rank, int width)
{
    float *row = y + (int64_t)blockIdx.x * width;
    const int place = place_of(step, (int)blockIdx.x);
    const int64_t token = place < 0 ? 0 : (int64_t)step.tokens[place] - first_word;
    const int64_t position = place < 0 ? 0 : (int64_t)first_position + step.positions[place];
    const bool has_word = token >= 0 && token < n_words; /* else, among ranks, another one has it */
    const bool inside = (has_word || is_rank) && (!positions || (position >= 0 && position < n_positions));
    for (int column = threadIdx.x * kColumns; column < width; column += blockDim.x * kColumns) {
        float a[kColumns], b[kColumns];
        for (int i = 0; i < kColumns; i++)
            a[i] = b[i] = place < 0 ? 0.f : -0.f; /* what changes no sum: 0 would make 0 of -0 */
        if (place >= 0 && inside) {
            if (has_word)
                load(a, words + token * width + column);
            if (positions)
                load(b, positions + position * width + column);
            for (int i = 0; i < kColumns; i++)
                a[i] += b[i];
        } else if (place >= 0) {
            for (int i = 0; i < kColumns; i++)
                a[i] = nanf("");
        }
        store(row + column, a);
    }
}

/* ---- add_norm ---- */

/* grid = rows; block = width / 8 threads, rounded up to warps, so that the tree of the sums depends
 * on the width alone; a thread keeps its 8 columns in registers from the first load to the last
 * store. The mean is corrected by the mean of the differences from it: they are exact where the sum
 * that gave the mean was not, and a row whose mean is many times its spread keeps its digits. */
template <class Y, class D>
__global__ __launch_bounds__(kMostThreads) void add_norm(Y *y, float *x, const D *delta,
                                                         const float *gamma, const float *beta,
                                                         int width, float eps, bool post)
{
    TDM_SHARED(float, sums, [3][TDM_WARP]);
    const int column = threadIdx.x * kColumns;
    const bool live = column < width;
    const int64_t at = (int64_t)blockIdx.x * width + column;
    float v[kColumns] = {}, add[kColumns] = {}, scale[kColumns] = {}, shift[kColumns] = {};
    if (live) {
        load(v, x + at);
        if (delta)
            load(add, delta + at);
        load(scale, gamma + column);
        load(shift, beta + column);
    }
    float sum = 0.f;
    for (int i = 0; i < kColumns; i++)
        sum += v[i] += add[i];
    if (live && delta && !post)
        store(x + at, v);
    const float mean = tdm_block_reduce(sum, tdm_plus(), 0.f, sums[0]) / (float)width;

    float rest = 0.f, squares = 0.f;
    for (int i = 0; i < kColumns; i++) {
        v[i] = live ? v[i] - mean : 0.f;
        rest += v[i];
        squares += v[i] * v[i];
    }
    rest = tdm_block_reduce(rest, tdm_plus(), 0.f, sums[1]) / (float)width;
    squares = tdm_block_reduce(squares, tdm_plus(), 0.f, sums[2]) / (float)width;
    const float factor = 1.f / sqrtf(squares - rest * rest + eps);
    if (!live)
        return;
    for (int i = 0; i < kColumns; i++)
        v[i] = scale[i] * ((v[i] - rest) * factor) + shift[i];
    if (post)
        store(x + at, v);
    if ((void *)y != (void *)x)
        store(y + at, v);
}

/* ---- activate ---- */

struct gelu_erf {
    __device__ __forceinline__ float operator()(float x) const
    {
        return 0.5f * x * (1.f + erff(x * 0.70710678118654752f));
    }
};
struct hyperbolic_tangent {
    __device__ __forceinline__ float operator()(float x) const
    {
        return tanhf(x);
    }
};

constexpr int kActivateThreads = 128, kActivateRows = 4;

/* grid = (rows / 4, columns / (8 * 128)), rounded up; a thread owns the same 8 columns of 4 rows,
 * so the bias is read once for four. */
template <class T, class F>
__global__ __launch_bounds__(kActivateThreads) void activate(T *y, const T *bias, int64_t rows,
                                                             int width, F f)
{
    const int column = (blockIdx.y * kActivateThreads + threadIdx.x) * kColumns;
    const int64_t first = (int64_t)blockIdx.x * kActivateRows;
    if (column >= width)
        return;
    float add[kColumns] = {}, v[kActivateRows][kColumns];
    if (bias)
        load(add, bias + column);
#pragma unroll
    for (int r = 0; r < kActivateRows; r++)
        if (first + r < rows)
            load(v[r], y + (first + r) * width + column);
#pragma unroll
    for (int r = 0; r < kActivateRows; r++)
        if (first + r < rows) {
            for (int i = 0; i < kColumns; i++)
                v[r][i] = f(v[r][i] + add[i]);
            store(y + (first + r) * width + column, v[r]);
        }
}

/* ---- gather ---- */

/* grid = rows of y; a thread owns 16 bytes in every 16 * blockDim. All bits set are a NaN in f32,
 * f16 and bf16. */
__global__ __launch_bounds__(kMostThreads) void gather(uint4 *y, const uint4 *x,
                                                       const int32_t *rows, int64_t n_rows,
                                                       int packs)
{
    const int64_t row = rows[blockIdx.x];
    const bool inside = row >= 0 && row < n_rows;
    for (int i = threadIdx.x; i < packs; i += blockDim.x)
        y[(int64_t)blockIdx.x * packs + i] =
            inside ? x[row * packs + i] : make_uint4(~0u, ~0u, ~0u, ~0u);
}

/* ---- classify ---- */

/* grid = rows; block = a warp for each label; a lane owns columns l, l + 32, ... */
template <class T>
__global__ __launch_bounds__(kMostThreads) void classify(float *y, const T *x, const float *w,
                                                         const float *bias, int width)
{
    const int lane = threadIdx.x % TDM_WARP, label = threadIdx.x / TDM_WARP;
    const int labels = blockDim.x / TDM_WARP;
    const T *row = x + (int64_t)blockIdx.x * width;
    float sum = 0.f;
    for (int column = lane; column < width; column += TDM_WARP)
        sum += tdm_float(row[column]) * w[label * width + column];
    sum = tdm_warp_reduce(sum, tdm_plus());
    if (lane == 0)
        y[(int64_t)blockIdx.x * labels + label] = sum + bias[label];
}

/* ---- what launchers check ---- */

/* A matrix without gaps of 16-byte aligned rows of whole 8 columns. */
bool is_dense(tdm_mat m)
{
    return m.rows >= 0 && m.rows <= INT32_MAX && m.cols > 0 && m.cols % kColumns == 0 &&
           (m.stride == 0 || m.stride == m.cols) && (uintptr_t)m.p % 16 == 0;
}

bool is_f32(tdm_mat m, int64_t rows, int32_t cols)
{
    return is_dense(m) && m.dtype == TDM_F32 && m.rows == rows && m.cols == cols;
}

/* Threads of a block in which each takes `each` of n, as whole warps. */
unsigned threads_for(int n, int each)
{
    const int warps = (n + each * TDM_WARP - 1) / (each * TDM_WARP);
    return (unsigned)(warps < kMostThreads / TDM_WARP ? warps : kMostThreads / TDM_WARP) * TDM_WARP;
}

template <class T>
void launch_activate(tdm_mat y, const tdm_mat *bias, tdm_epilogue f, cudaStream_t stream)
{
    const dim3 grid(
        (unsigned)((y.rows + kActivateRows - 1) / kActivateRows),
        (unsigned)((y.cols + kActivateThreads * kColumns - 1) / (kActivateThreads * kColumns)));
    const T *add = bias ? (const T *)bias->p : nullptr;
    if (f == TDM_TANH)
        TDM_LAUNCH((activate<T, hyperbolic_tangent>), grid, kActivateThreads, 0, stream, (T *)y.p,
                   add, y.rows, y.cols, hyperbolic_tangent());
    else
        TDM_LAUNCH((activate<T, gelu_erf>), grid, kActivateThreads, 0, stream, (T *)y.p, add,
                   y.rows, y.cols, gelu_erf());
}

template <class Y, class D>
void launch_add_norm(tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma, tdm_mat beta,
                     float eps, tdm_norm form, cudaStream_t stream)
{
    TDM_LAUNCH((add_norm<Y, D>), (unsigned)x.rows, threads_for(x.cols, kColumns), 0, stream,
               (Y *)y.p, (float *)x.p, delta ? (const D *)delta->p : nullptr,
               (const float *)gamma.p, (const float *)beta.p, x.cols, eps, form == TDM_POST_NORM);
}

} // namespace

extern "C" cudaError_t tdmk_embed(tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                                  tdm_mat positions, int32_t first_position, bool is_rank,
                                  cudaStream_t stream)
{
    if (!positions.p && is_rank)
        positions.dtype = TDM_F32;
    else if (!is_dense(positions) || positions.cols != words.cols)
        return cudaErrorInvalidValue;
    if (!is_f32(y, step->n_rows, words.cols) || !is_dense(words))
        return cudaErrorInvalidValue;
    if (y.rows == 0)
        return cudaSuccess;
    TDM_DISPATCH(words.dtype, W, TDM_DISPATCH(positions.dtype, P, {
                     TDM_LAUNCH((embed<W, P>), (unsigned)y.rows, threads_for(y.cols, kColumns), 0,
                                stream, (float *)y.p, *step, (const W *)words.p, words.rows,
                                first_word, (const P *)positions.p, positions.rows, first_position,
                                is_rank, y.cols);
                 }))
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_add_norm(tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma,
                                     tdm_mat beta, float eps, tdm_norm form, cudaStream_t stream)
{
    if (!is_f32(x, x.rows, x.cols) || x.cols > kMostThreads * kColumns || !is_dense(y) ||
        y.rows != x.rows || y.cols != x.cols || !is_f32(gamma, 1, x.cols) ||
        !is_f32(beta, 1, x.cols) || (y.p == x.p && (y.dtype != TDM_F32 || form != TDM_POST_NORM)))
        return cudaErrorInvalidValue;
    if (delta && (!is_dense(*delta) || delta->rows != x.rows || delta->cols != x.cols ||
                  (delta->dtype != TDM_F32 && delta->dtype != y.dtype)))
        return cudaErrorInvalidValue;
    if (x.rows == 0)
        return cudaSuccess;
    TDM_DISPATCH(y.dtype, Y, {
        if (delta && delta->dtype == y.dtype)
            launch_add_norm<Y, Y>(y, x, delta, gamma, beta, eps, form, stream);
        else
            launch_add_norm<Y, float>(y, x, delta, gamma, beta, eps, form, stream);
    })
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_activate(tdm_mat y, const tdm_mat *bias, tdm_epilogue f,
                                     cudaStream_t stream)
{
    if (!is_dense(y) || (f != TDM_GELU_ERF && f != TDM_TANH))
        return cudaErrorInvalidValue;
    if (bias &&
        (!is_dense(*bias) || bias->rows != 1 || bias->cols != y.cols || bias->dtype != y.dtype))
        return cudaErrorInvalidValue;
    if (y.rows == 0)
        return cudaSuccess;
    TDM_DISPATCH(y.dtype, T, { launch_activate<T>(y, bias, f, stream); })
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_gather(tdm_mat y, tdm_mat x, const int32_t *rows, cudaStream_t stream)
{
    if (!is_dense(y) || !is_dense(x) || x.cols != y.cols || x.dtype != y.dtype)
        return cudaErrorInvalidValue;
    if (y.rows == 0)
        return cudaSuccess;
    TDM_DISPATCH(y.dtype, T, {
        const int packs = y.cols / tdm_pack<T>::N;
        TDM_LAUNCH(gather, (unsigned)y.rows, threads_for(packs, 1), 0, stream, (uint4 *)y.p,
                   (const uint4 *)x.p, rows, x.rows, packs);
    })
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_classify(tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias,
                                     cudaStream_t stream)
{
    const int32_t labels = w.rows > 0 && w.rows <= 32 ? (int32_t)w.rows : 0;
    if (!labels || !is_dense(x) || !is_f32(w, labels, x.cols) || bias.dtype != TDM_F32 ||
        bias.rows != 1 || bias.cols != labels || y.dtype != TDM_F32 || y.rows != x.rows ||
        y.cols != labels || (y.stride != 0 && y.stride != labels))
        return cudaErrorInvalidValue;
    if (y.rows == 0)
        return cudaSuccess;
    TDM_DISPATCH(x.dtype, T, {
        TDM_LAUNCH(classify<T>, (unsigned)y.rows, (unsigned)labels * TDM_WARP, 0, stream,
                   (float *)y.p, (const T *)x.p, (const float *)w.p, (const float *)bias.p, x.cols);
    })
    return cudaGetLastError();
}
