/* kernels/ranks.cu - what the ranks of a model sent each other, put together: parts of a sum added up, columns of the
 * logits side by side. Both move bytes and nothing else counts: 16 at a time where the shapes allow it. */
#include "kernels/element.cuh"
#include "kernels/kernels.h"

namespace
{

constexpr int kThreads = 256;

/* y[i] = the sum of parts[r][i] over the ranks r, from the first on. P is a pack of N elements of T, or a single one.
 * grid covers n packs in blocks of 256; a thread owns one pack of y and reads that of each part. */
template <class T, int N>
__global__ __launch_bounds__(kThreads) void add_ranks(T *y, const T *parts, int ranks, int64_t n)
{
    struct alignas(N * sizeof(T)) pack {
        T v[N];
    };
    const int64_t i = (int64_t)blockIdx.x * kThreads + threadIdx.x;
    if (i >= n)
        return;
    float sum[N];
    pack p = ((const pack *)parts)[i];
    for (int j = 0; j < N; j++)
        sum[j] = tdm_float(p.v[j]);
    for (int r = 1; r < ranks; r++) {
        p = ((const pack *)parts)[r * n + i];
        for (int j = 0; j < N; j++)
            sum[j] += tdm_float(p.v[j]);
    }
    for (int j = 0; j < N; j++)
        p.v[j] = tdm_round<T>(sum[j]);
    ((pack *)y)[i] = p;
}

/* y[row, r * width + j] = parts[r][row, j], as far as y has columns. T is 16 bytes of four columns, or one column; all
 * widths count in T. grid = (columns / 256 rounded up, rows); a thread owns one T of y. */
template <class T>
__global__ __launch_bounds__(kThreads) void join_ranks(T *y, int columns, int64_t stride, const T *parts, int width)
{
    const int column = blockIdx.x * kThreads + threadIdx.x;
    const int64_t row = blockIdx.y, rows = gridDim.y;
    if (column < columns)
        y[row * stride + column] = parts[(column / width * rows + row) * width + column % width];
}

bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <class T> cudaError_t launch_add(T *y, const T *parts, int ranks, int64_t n, cudaStream_t stream)
{
    constexpr int N = 16 / sizeof(T);
    const bool packs = n % N == 0 && is_aligned(y) && is_aligned(parts);
    const int64_t threads = packs ? n / N : n, blocks = (threads + kThreads - 1) / kThreads;
    if (blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    if (packs)
        TDM_LAUNCH((add_ranks<T, N>), (unsigned)blocks, kThreads, 0, stream, y, parts, ranks, threads);
    else
        TDM_LAUNCH((add_ranks<T, 1>), (unsigned)blocks, kThreads, 0, stream, y, parts, ranks, threads);
    return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t tdmk_add_ranks(void *y, const void *parts, tdm_dtype dtype, int32_t ranks, int64_t n,
                                      cudaStream_t stream)
{
    if (ranks < 1 || n < 0)
        return cudaErrorInvalidValue;
    if (n == 0)
        return cudaSuccess;
    TDM_DISPATCH(dtype, T, { return launch_add((T *)y, (const T *)parts, ranks, n, stream); })
}

extern "C" cudaError_t tdmk_join_ranks(tdm_mat y, const float *parts, int32_t width, cudaStream_t stream)
{
    const int32_t stride = y.stride ? y.stride : y.cols;
    if (y.dtype != TDM_F32 || width < 1 || y.cols < 1 || stride < y.cols || y.rows < 0 || y.rows > 65535)
        return cudaErrorInvalidValue;
    if (y.rows == 0)
        return cudaSuccess;
    const bool packs = width % 4 == 0 && stride % 4 == 0 && is_aligned(y.p) && is_aligned(parts);
    const int columns = packs ? (y.cols + 3) / 4 : y.cols; /* the last pack may reach into the gap */
    const dim3 grid((unsigned)(columns + kThreads - 1) / kThreads, (unsigned)y.rows);
    if (packs)
        TDM_LAUNCH(join_ranks<float4>, grid, kThreads, 0, stream, (float4 *)y.p, columns, stride / 4,
                   (const float4 *)parts, width / 4);
    else
        TDM_LAUNCH(join_ranks<float>, grid, kThreads, 0, stream, (float *)y.p, columns, stride, parts, width);
    return cudaGetLastError();
}
