/* tests/emu/planted.cu - small kernels, each right without its bug; bugs.sh shows which build finds
 * which. All give out[i] = in[i] with in[i] = i + 1. One block of 128 threads unless said
 * otherwise. */
#include "tests/emu/planted.h"

#include "kernels/device.cuh"

namespace
{

constexpr unsigned kAll = 0xffffffffu;
constexpr int kThreads = TDM_PLANTED_OUT;

__global__ void copy(float *out, const float *in, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        out[i] = in[i];
}

/* Through shared memory, each thread reading what a thread of another warp wrote. */
template <bool kBug> __global__ void missing_barrier(float *out, const float *in)
{
    TDM_SHARED(float, tile, [kThreads]);
    const int other = kThreads - 1 - threadIdx.x;
    tile[threadIdx.x] = in[threadIdx.x];
    if (!kBug)
        __syncthreads();
    out[other] = tile[other];
}

/* The second round may overwrite what another warp has not read yet. */
template <bool kBug> __global__ void missing_barrier_before_reuse(float *out, const float *in)
{
    TDM_SHARED(float, tile, [kThreads]);
    const int other = kThreads - 1 - threadIdx.x;
    float kept = 0;
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = in[threadIdx.x] - round;
        __syncthreads();
        kept += tile[other];
        if (!kBug)
            __syncthreads();
    }
    out[other] = (kept + 1) / 2;
}

template <bool kBug> __global__ void shared_out_of_bounds(float *out, const float *in)
{
    TDM_SHARED(float, tile, [kThreads]);
    tile[threadIdx.x] = in[threadIdx.x];
    if (threadIdx.x == kThreads - 1)
        tile[threadIdx.x + kBug] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

template <bool kBug> __global__ void divergent_barrier(float *out, const float *in)
{
    if (kBug && threadIdx.x < 64)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = in[threadIdx.x];
}

/* Warp 0 waits for the block; the rest for a lane of their warp that waits for the block. */
template <bool kBug> __global__ void deadlock(float *out, const float *in)
{
    if (kBug && threadIdx.x % 32 == 1 && threadIdx.x >= 32)
        __syncwarp();
    else
        __syncthreads();
    if (!kBug)
        __syncwarp();
    out[threadIdx.x] = in[threadIdx.x];
}

/* Two groups of copies; the first is needed, and with the bug still under way. */
template <bool kBug> __global__ void weak_copy_wait(float *out, const float *in)
{
    TDM_SHARED(float, tile, [2][kThreads]);
    const int at = 4 * threadIdx.x;
    for (int stage = 0; stage < 2; stage++) {
        if (at < kThreads)
            tdm_cp_async16(&tile[stage][at], in + at, 16);
        tdm_cp_async_commit();
    }
    tdm_cp_async_wait<kBug ? 2 : 1>();
    __syncthreads();
    out[threadIdx.x] = tile[0][threadIdx.x];
    tdm_cp_async_wait<0>();
}

/* The shuffle lets the lanes meet, but orders no memory. */
template <bool kBug> __global__ void missing_syncwarp(float *out, const float *in)
{
    TDM_SHARED(float, tile, [kThreads]);
    tile[threadIdx.x] = in[threadIdx.x];
    const float zero = __shfl_xor_sync(kAll, 0.0f, 1);
    if (!kBug)
        __syncwarp();
    out[threadIdx.x ^ 7] = tile[threadIdx.x ^ 7] + zero;
}

template <bool kBug> __global__ void lane_gone(float *out, const float *in)
{
    out[threadIdx.x] = in[threadIdx.x];
    if (kBug && threadIdx.x % 32 == 31)
        return;
    out[threadIdx.x] += __shfl_sync(kAll, 0.0f, 0);
}

/* grid: 128, block: 32. The last block copies what all blocks wrote. */
template <bool kBug>
__global__ void missing_fence(float *out, const float *in, float *parts, unsigned *count)
{
    if (threadIdx.x != 0)
        return;
    parts[blockIdx.x] = in[blockIdx.x];
    if (!kBug)
        __threadfence();
    if (atomicInc(count, gridDim.x - 1) != gridDim.x - 1)
        return;
    __threadfence();
    for (int i = 0; i < kThreads; i++)
        out[i] = parts[i];
}

/* grid: 4, block: 32. With the bug all blocks write the first value, the same one. */
template <bool kBug> __global__ void race_between_blocks(float *out, const float *in)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i];
    if (kBug && threadIdx.x == 0)
        out[0] = in[0];
}

template <bool kBug> __global__ void global_out_of_bounds(float *out, const float *in)
{
    out[threadIdx.x] = in[threadIdx.x];
    if (kBug && threadIdx.x == 0)
        out[kThreads + 1] = 0;
}

template <bool kBug> __global__ void misaligned_load(float *out, const float *in)
{
    if (threadIdx.x % 4)
        return;
    const float *from = in + threadIdx.x - (kBug && threadIdx.x == 4 ? 1 : 0);
    float4 v = *reinterpret_cast<const float4 *>(from);
    if (from != in + threadIdx.x)
        v = make_float4(v.y, v.z, v.w, v.w + 1);
    out[threadIdx.x] = v.x;
    out[threadIdx.x + 1] = v.y;
    out[threadIdx.x + 2] = v.z;
    out[threadIdx.x + 3] = v.w;
}

template <bool kBug>
cudaError_t launch(int which, float *out, const float *in, unsigned *count, cudaStream_t stream)
{
    switch (which) {
#define CASE(name, function)                                                                       \
    case TDM_BUG_##name:                                                                           \
        TDM_LAUNCH(function<kBug>, 1, kThreads, 0, stream, out, in);                               \
        break;
        CASE(MISSING_BARRIER, missing_barrier)
        CASE(MISSING_BARRIER_BEFORE_REUSE, missing_barrier_before_reuse)
        CASE(SHARED_OUT_OF_BOUNDS, shared_out_of_bounds)
        CASE(DIVERGENT_BARRIER, divergent_barrier)
        CASE(DEADLOCK, deadlock)
        CASE(WEAK_COPY_WAIT, weak_copy_wait)
        CASE(MISSING_SYNCWARP, missing_syncwarp)
        CASE(LANE_GONE, lane_gone)
        CASE(GLOBAL_OUT_OF_BOUNDS, global_out_of_bounds)
        CASE(MISALIGNED_LOAD, misaligned_load)
#undef CASE
    case TDM_BUG_RACE_BETWEEN_BLOCKS:
        TDM_LAUNCH(race_between_blocks<kBug>, kThreads / 32, 32, 0, stream, out, in);
        break;
    case TDM_BUG_MISSING_FENCE:
        TDM_LAUNCH(missing_fence<kBug>, kThreads, 32, 0, stream, out, in,
                   const_cast<float *>(in) + kThreads, count);
        break;
    default:
        return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t tdmb_copy(float *out, const float *in, int n, int threads,
                                 size_t shared_bytes, cudaStream_t stream)
{
    TDM_LAUNCH(copy, 1, threads, shared_bytes, stream, out, in, n);
    return cudaGetLastError();
}

extern "C" cudaError_t tdmb_planted(int which, int bug, float *out, const float *in,
                                    unsigned *count, cudaStream_t stream)
{
    return which == bug ? launch<true>(which, out, in, count, stream)
                        : launch<false>(which, out, in, count, stream);
}
