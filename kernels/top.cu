/* kernels/top.cu - the likeliest tokens of a row of logits.
 *
 * Every thread holds the best of its entries that are not taken yet. The best of these is the next
 * token, and only the thread that had it goes over its entries again, for the best behind that one:
 * a round is one reduction and the reads of one thread, from the cache. */
#include "kernels/logits.cuh"
#include "kernels/reduce.cuh"

#include <float.h>

namespace
{

/* Value and id of an entry as one number: more for the larger value, then for the lower id. */
using place = unsigned long long;

__device__ __forceinline__ place place_of(float x, int id)
{
    return (place)tdm_key_of(x) << 32 | ~(unsigned)id;
}
__device__ __forceinline__ float value_at(place p)
{
    return tdm_value_of((unsigned)(p >> 32));
}

struct workspace {
    place best[2][TDM_WARP]; /* take turns: one round's are read while the next one's are written */
    place taken[TDM_TOP_MOST];
    double sums[TDM_WARP];
};

/* The best of this thread's entries behind `last`; 0: none. What fills up the last pack is -infinity, behind
 * all of the row. */
__device__ __forceinline__ place best_behind(place last, const float *row, int n)
{
    place best = 0;
    tdm_each_four(row, n, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++) {
            const place p = place_of(v.v[i], first + i);
            if (p < last && p > best)
                best = p;
        }
    });
    return best;
}

/* grid = rows; block = a power of two of threads, from the vocabulary alone; a thread owns packs t,
 * t + blockDim, ... of the row. */
__global__ __launch_bounds__(TDM_ROW_THREADS) void top_tokens(tdm_top *top, int k,
                                                              const float *logits, int n,
                                                              int64_t stride,
                                                              const int32_t *targets)
{
    TDM_SHARED(workspace, space, [1]);
    workspace &s = space[0];
    const int target = targets[blockIdx.x];
    const float *row = logits + blockIdx.x * stride;
    top += (int64_t)blockIdx.x * k;
    if (target < 0) {
        for (int j = threadIdx.x; j < k; j += blockDim.x)
            top[j] = {0, 0.f};
        return;
    }
    bool bad = target >= n;
    tdm_each_four(row, n, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++)
            bad |= first + i < n && !(fabsf(v.v[i]) <= FLT_MAX);
    });
    if (__syncthreads_or(bad)) {
        for (int j = threadIdx.x; j < k; j += blockDim.x)
            top[j] = {TDM_NOT_FINITE, nanf("")};
        return;
    }
    place own = best_behind(~0ull, row, n);
    for (int j = 0; j < k; j++) {
        const place best = tdm_block_reduce(own, tdm_larger(), (place)0, s.best[j % 2]);
        if (threadIdx.x == 0)
            s.taken[j] = best;
        if (own == best)
            own = best_behind(best, row, n);
    }
    __syncthreads();
    const float largest = value_at(s.taken[0]);
    double sum = 0;
    tdm_each_four(row, n, [&](const tdm_four &v, int) {
        for (int i = 0; i < 4; i++)
            sum += expf(v.v[i] - largest);
    });
    sum = tdm_block_reduce(sum, tdm_plus(), 0.0, s.sums);
    for (int j = threadIdx.x; j < k; j += blockDim.x)
        top[j] = {(int)~(unsigned)s.taken[j],
                  (float)((double)value_at(s.taken[j]) - (double)largest - log(sum))};
}

} // namespace

extern "C" cudaError_t tdmk_top_tokens(tdm_top *top, int32_t k, tdm_mat logits,
                                       const int32_t *targets, cudaStream_t stream)
{
    if (!tdm_is_logits(logits) || k < 1 || k > TDM_TOP_MOST || k > logits.cols)
        return cudaErrorInvalidValue;
    if (logits.rows == 0)
        return cudaSuccess;
    TDM_LAUNCH(top_tokens, (unsigned)logits.rows, tdm_row_threads(logits.cols), 0, stream, top, k,
               (const float *)logits.p, logits.cols, tdm_row_stride(logits), targets);
    return cudaGetLastError();
}
