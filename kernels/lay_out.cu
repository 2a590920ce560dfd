/* kernels/lay_out.cu - weights on their way from the file to the device: converted, and transposed
 * where the file has them as [in, out]. Runs once per model, behind the bus, so values are moved
 * one by one. */
#include "kernels/element.cuh"
#include "kernels/kernels.h"

namespace
{

constexpr int kTile = 32, kTileRows = 8; /* block of the transposition: 32 x 8 threads */
constexpr int kThreads = 256, kEach = 4; /* of the plain conversion */

/* grid covers n in blocks of 256 * 4; thread t owns values t, t + 256, ... of its block. */
template <class D, class S>
__global__ __launch_bounds__(kThreads) void convert(D *dst, const S *src, int64_t n)
{
    const int64_t first = (int64_t)blockIdx.x * (kThreads * kEach) + threadIdx.x;
    for (int i = 0; i < kEach; i++)
        if (first + i * kThreads < n)
            dst[first + i * kThreads] = tdm_round<D>(tdm_float(src[first + i * kThreads]));
}

/* dst[column, first + row] = src[row, column]. grid = (columns / 32, rows / 32) of src, rounded up;
 * a block moves one tile through shared memory, whose rows are one longer so that a column lies in
 * 32 banks. A thread owns four values on the way in and four others on the way out. */
template <class D, class S>
__global__ __launch_bounds__(kTile *kTileRows) void transpose(D *dst, const S *src, int in, int out,
                                                              int first, int n)
{
    TDM_SHARED(float, tile, [kTile][kTile + 1]);
    const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
    for (int i = threadIdx.y; i < kTile; i += kTileRows) {
        const int row = row0 + i, column = column0 + (int)threadIdx.x;
        if (row < n && column < out)
            tile[i][threadIdx.x] = tdm_float(src[(int64_t)row * out + column]);
    }
    __syncthreads();
    for (int i = threadIdx.y; i < kTile; i += kTileRows) {
        const int row = row0 + (int)threadIdx.x, column = column0 + i;
        if (row < n && column < out)
            dst[(int64_t)column * in + first + row] = tdm_round<D>(tile[threadIdx.x][i]);
    }
}

unsigned blocks_of(int64_t n, int each)
{
    return (unsigned)((n + each - 1) / each);
}

} // namespace

extern "C" cudaError_t tdmk_lay_out(void *dst, tdm_dtype dst_dtype, const void *src,
                                    tdm_dtype src_dtype, int32_t in, int32_t out, tdm_layout layout,
                                    int32_t first, int32_t n, cudaStream_t stream)
{
    const int32_t rows = layout == TDM_IN_OUT ? in : out;
    if (in < 1 || out < 1 || n < 0 || first < 0 || first > rows - n)
        return cudaErrorInvalidValue;
    const int64_t values = (int64_t)n * (layout == TDM_IN_OUT ? out : in);
    if (values == 0)
        return cudaSuccess;
    if (blocks_of(n, kTile) > 65535 || values > (int64_t)INT32_MAX * kThreads)
        return cudaErrorInvalidValue;
    TDM_DISPATCH(
        dst_dtype, D, TDM_DISPATCH(src_dtype, S, {
            if (layout == TDM_IN_OUT)
                TDM_LAUNCH((transpose<D, S>), dim3(blocks_of(out, kTile), blocks_of(n, kTile)),
                           dim3(kTile, kTileRows), 0, stream, (D *)dst, (const S *)src, in, out,
                           first, n);
            else
                TDM_LAUNCH((convert<D, S>), blocks_of(values, kThreads * kEach), kThreads, 0,
                           stream, (D *)dst + (int64_t)first * in, (const S *)src, values);
        }))
    return cudaGetLastError();
}
