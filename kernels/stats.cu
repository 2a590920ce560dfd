/* kernels/stats.cu - what a row of logits says about a given token.
 *
 * With d = logit - largest and S = sum e^d:  logprob = d - ln S,  entropy = ln S - sum d e^d / S,
 * variance = sum d^2 e^d / S - (sum d e^d / S)^2. The exponentials are f32; the sums are double,
 * because the variance is a small difference of large ones, and cost little there: three additions
 * an entry beside a read from memory. */
#include "kernels/logits.cuh"
#include "kernels/reduce.cuh"

#include <float.h>

namespace
{

struct workspace {
    float largest[TDM_WARP];
    int ahead[TDM_WARP];
    double sums[3][TDM_WARP];
};

/* What a thread sees of a row in the first pass. */
struct outline {
    float largest;
    int ahead; /* entries above the given one */
    bool bad;  /* one is not finite */
};

__device__ __forceinline__ outline look_at(const float *row, int n, float given)
{
    outline seen = {-INFINITY, 0, false};
    tdm_each_four(row, n, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++) {
            seen.bad |= first + i < n && !(fabsf(v.v[i]) <= FLT_MAX);
            seen.largest = fmaxf(seen.largest, v.v[i]);
            seen.ahead += v.v[i] > given;
        }
    });
    return seen;
}

/* grid = rows; block = a power of two of threads, from the vocabulary alone; a thread owns packs t,
 * t + blockDim, ... of the row. Two passes, the second out of the L2 cache. */
__global__ __launch_bounds__(TDM_ROW_THREADS) void token_stats(tdm_stat *stats, const float *logits,
                                                               int n, int64_t stride,
                                                               const int32_t *targets)
{
    TDM_SHARED(workspace, space, [1]);
    workspace &s = space[0];
    const int target = targets[blockIdx.x];
    const float *row = logits + blockIdx.x * stride;
    if (target < 0) {
        if (threadIdx.x == 0)
            stats[blockIdx.x] = {0.f, 0.f, 0.f, 0};
        return;
    }
    const float given = target < n ? row[target] : nanf("");
    const outline seen = look_at(row, n, given);
    if (__syncthreads_or(seen.bad || target >= n)) {
        if (threadIdx.x == 0)
            stats[blockIdx.x] = {nanf(""), nanf(""), nanf(""), TDM_NOT_FINITE};
        return;
    }
    const float largest = tdm_block_reduce(seen.largest, tdm_larger(), -INFINITY, s.largest);
    const int ahead = tdm_block_reduce(seen.ahead, tdm_plus(), 0, s.ahead);

    double sums[3] = {};
    tdm_each_four(row, n, [&](const tdm_four &v, int) {
        for (int i = 0; i < 4; i++) {
            const float below = v.v[i] - largest;
            const double d = fmaxf(below, -200.f), e = expf(below); /* 0 from -104 on */
            sums[0] += e;
            sums[1] += d * e;
            sums[2] += d * d * e;
        }
    });
    for (int i = 0; i < 3; i++)
        sums[i] = tdm_block_reduce(sums[i], tdm_plus(), 0.0, s.sums[i]);
    if (threadIdx.x == 0) {
        const double mean = sums[1] / sums[0], variance = sums[2] / sums[0] - mean * mean;
        stats[blockIdx.x] = {(float)((double)given - (double)largest - log(sums[0])),
                             (float)(log(sums[0]) - mean), (float)fmax(variance, 0.0), 1 + ahead};
    }
}

} // namespace

extern "C" cudaError_t tdmk_token_stats(tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                                        cudaStream_t stream)
{
    if (!tdm_is_logits(logits))
        return cudaErrorInvalidValue;
    if (logits.rows == 0)
        return cudaSuccess;
    TDM_LAUNCH(token_stats, (unsigned)logits.rows, tdm_row_threads(logits.cols), 0, stream, stats,
               (const float *)logits.p, logits.cols, logits.stride ? logits.stride : logits.cols,
               targets);
    return cudaGetLastError();
}
