/* kernels/logits.cuh - how one block goes over one row of logits.
 *
 * A row is read in packs of four consecutive entries, the four that share a block of random words.
 * The number of threads depends on the vocabulary alone, and so does the thread that an entry falls
 * to. */
#ifndef KERNELS_LOGITS_CUH
#define KERNELS_LOGITS_CUH

#include "kernels/element.cuh"
#include "kernels/kernels.h"

/* A block per row, and at most one block on a multiprocessor: the rows in work, 132 times 201 KB on
 * an H200, stay in the L2 cache from pass to pass. A power of two. */
constexpr int TDM_ROW_THREADS = 1024;

using tdm_four = tdm_pack<float>;

/* Entries 4i .. 4i + 3; -infinity in place of those beyond n, which are not looked at. */
__device__ __forceinline__ tdm_four tdm_load_four(const float *row, int n, int i)
{
    if (n - 4 * i >= 4)
        return reinterpret_cast<const tdm_four *>(row)[i];
    tdm_four v;
    for (int j = 0; j < 4; j++)
        v.v[j] = 4 * i + j < n ? row[4 * i + j] : -INFINITY;
    return v;
}

/* f(v, 4i) for each of this thread's packs i, in rising order. Two loads are under way at a time.
 */
template <class F> __device__ __forceinline__ void tdm_each_four(const float *row, int n, F f)
{
    const int packs = (n + 3) / 4, threads = blockDim.x;
    for (int i = threadIdx.x; i < packs; i += 2 * threads) {
        const int next = i + threads;
        const tdm_four a = tdm_load_four(row, n, i);
        tdm_four b = {};
        if (next < packs)
            b = tdm_load_four(row, n, next);
        f(a, 4 * i);
        if (next < packs)
            f(b, 4 * next);
    }
}

/* The bits of a float as a number that rises with it; those of 0 for -0. */
__device__ __forceinline__ unsigned tdm_key_of(float x)
{
    const unsigned bits = __float_as_uint(x + 0.f);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}
__device__ __forceinline__ float tdm_value_of(unsigned key)
{
    return __uint_as_float(key >> 31 ? key & ~(1u << 31) : ~key);
}

/* ---- for launchers ---- */

/* Entries from row to row. */
inline int64_t tdm_row_stride(tdm_mat logits)
{
    return logits.stride ? logits.stride : logits.cols;
}

inline bool tdm_is_logits(tdm_mat logits)
{
    const int64_t stride = tdm_row_stride(logits);
    return logits.dtype == TDM_F32 && logits.rows >= 0 && logits.rows <= INT32_MAX &&
           logits.cols > 0 && logits.cols <= INT32_MAX / 2 && stride >= logits.cols &&
           (stride % 4 == 0 || logits.rows <= 1) && (uintptr_t)logits.p % 16 == 0;
}

/* One thread a pack, rounded up to a power of two. */
inline unsigned tdm_row_threads(int n)
{
    unsigned threads = 32;
    while (threads < TDM_ROW_THREADS && threads * 4 < (unsigned)n)
        threads *= 2;
    return threads;
}

#endif
