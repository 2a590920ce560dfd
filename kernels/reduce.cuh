/* kernels/reduce.cuh - reductions over a warp and over a block, in one fixed order.
 *
 * A warp is reduced by a butterfly: every lane ends with the same bits, because each step combines
 * a pair of values and all operations here are commutative. A block reduces its warps, then their
 * results in the same way, so the order depends on blockDim alone. */
#ifndef KERNELS_REDUCE_CUH
#define KERNELS_REDUCE_CUH

#include "kernels/device.cuh"

constexpr int TDM_WARP = 32;

struct tdm_plus {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a + b;
    }
};
struct tdm_larger {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a > b ? a : b;
    }
};

/* f of all lanes' x, in every lane. All 32 lanes take part. */
template <class T, class F> __device__ __forceinline__ T tdm_warp_reduce(T x, F f)
{
    for (int other = TDM_WARP / 2; other > 0; other /= 2)
        x = f(x, __shfl_xor_sync(0xffffffffu, x, other));
    return x;
}

/* f of all threads' x, in every thread.
 *   idle     the value that changes nothing, f(x, idle) == x
 *   results  [32] in shared memory, which no thread may still be reading from
 * blockDim.x is a multiple of 32; one barrier, which also orders what was written before it. */
template <class T, class F>
__device__ __forceinline__ T tdm_block_reduce(T x, F f, T idle, T *results)
{
    const unsigned lane = threadIdx.x % TDM_WARP, warp = threadIdx.x / TDM_WARP;
    x = tdm_warp_reduce(x, f);
    if (lane == 0)
        results[warp] = x;
    __syncthreads();
    return tdm_warp_reduce(lane < blockDim.x / TDM_WARP ? results[lane] : idle, f);
}

#endif
