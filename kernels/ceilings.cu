/* kernels/ceilings.cu - what the memory of this device does at most: a copy, a read-only stream. */
#include "kernels/device.cuh"
#include "kernels/kernels.h"

namespace
{

constexpr int kThreads = 256;
constexpr int kLoads = 8; /* 16-byte loads of one thread, which wait for nothing in between */
constexpr size_t kTile = (size_t)kThreads * kLoads * 16;
static_assert(kTile == TDMK_STREAM_TILE, "the contract names the tile");

/* A word that looks random: the splitmix64 finaliser (Steele, Lea, Flood 2014), upper half. */
__device__ __forceinline__ unsigned random_word(unsigned long long i)
{
    i *= 0x9e3779b97f4a7c15ull;
    i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9ull;
    i = (i ^ (i >> 27)) * 0x94d049bb133111ebull;
    return (unsigned)(i >> 32);
}

/* grid = tiles, block = kThreads. A thread owns the vectors threadIdx.x, + kThreads, ... of its
 * tile. */
__global__ __launch_bounds__(kThreads) void fill(uint4 *dst)
{
    const size_t first = (size_t)blockIdx.x * kThreads * kLoads + threadIdx.x;
    for (int k = 0; k < kLoads; k++) {
        const unsigned long long word = 4ull * (first + (size_t)k * kThreads) + 1;
        dst[first + (size_t)k * kThreads] = make_uint4(
            random_word(word), random_word(word + 1), random_word(word + 2), random_word(word + 3));
    }
}

/* grid = tiles, block = kThreads; as fill. */
__global__ __launch_bounds__(kThreads) void copy(uint4 *dst, const uint4 *src)
{
    const size_t first = (size_t)blockIdx.x * kThreads * kLoads + threadIdx.x;
    uint4 v[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; k++)
        v[k] = tdm_load_once16(src + first + (size_t)k * kThreads);
#pragma unroll
    for (int k = 0; k < kLoads; k++)
        dst[first + (size_t)k * kThreads] = v[k];
}

/* grid = tiles, block = kThreads, shared = one word a warp. One sum of all words of the tile: 4
 * bytes are written for 32 KiB that are read. Sums of whole numbers do not depend on their order.
 */
__global__ __launch_bounds__(kThreads) void read(unsigned *sums, const uint4 *src)
{
    TDM_SHARED(unsigned, of_warp, [kThreads / 32]);
    const size_t first = (size_t)blockIdx.x * kThreads * kLoads + threadIdx.x;
    uint4 v[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; k++)
        v[k] = tdm_load_once16(src + first + (size_t)k * kThreads);
    unsigned sum = 0;
#pragma unroll
    for (int k = 0; k < kLoads; k++)
        sum += v[k].x + v[k].y + v[k].z + v[k].w;
    for (int lanes = 16; lanes > 0; lanes /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < kThreads / 32; w++)
            sum += of_warp[w];
        sums[blockIdx.x] = sum;
    }
}

bool is_stream(const void *a, const void *b, size_t bytes)
{
    return bytes % kTile == 0 && bytes / kTile <= INT32_MAX &&
           ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

} // namespace

/* ---- launchers ---- */

extern "C" cudaError_t tdmk_stream_fill(void *dst, size_t bytes, cudaStream_t stream)
{
    if (!is_stream(dst, dst, bytes))
        return cudaErrorInvalidValue;
    if (bytes == 0)
        return cudaSuccess;
    TDM_LAUNCH(fill, (unsigned)(bytes / kTile), kThreads, 0, stream, (uint4 *)dst);
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_stream_copy(void *dst, const void *src, size_t bytes,
                                        cudaStream_t stream)
{
    if (!is_stream(dst, src, bytes))
        return cudaErrorInvalidValue;
    if (bytes == 0)
        return cudaSuccess;
    TDM_LAUNCH(copy, (unsigned)(bytes / kTile), kThreads, 0, stream, (uint4 *)dst,
               (const uint4 *)src);
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_stream_read(uint32_t *sums, const void *src, size_t bytes,
                                        cudaStream_t stream)
{
    if (!is_stream(src, src, bytes))
        return cudaErrorInvalidValue;
    if (bytes == 0)
        return cudaSuccess;
    TDM_LAUNCH(read, (unsigned)(bytes / kTile), kThreads, 0, stream, sums, (const uint4 *)src);
    return cudaGetLastError();
}
