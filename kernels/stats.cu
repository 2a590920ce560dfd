/* kernels/stats.cu - what a row of logits says about a given token, and what two models' rows say about
 * each other.
 *
 * With d = logit - largest and S = sum e^d:  logprob = d - ln S,  entropy = ln S - sum d e^d / S,
 * variance = sum d^2 e^d / S - (sum d e^d / S)^2.  Of two models p and q:  cross = ln Sp - sum dp e^dq / Sq,
 * variance = sum dp^2 e^dq / Sq - (sum dp e^dq / Sq)^2,  back = ln Sq - sum dq e^dp / Sp.
 * The exponentials are f32; the sums are double, because the variance is a small difference of large
 * ones, and cost little there: three or five additions an entry beside its reads from memory. */
#include "kernels/logits.cuh"
#include "kernels/reduce.cuh"

#include <float.h>

namespace
{

struct workspace {
    float largest[2][TDM_WARP];
    int ahead[TDM_WARP];
    double sums[5][TDM_WARP];
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
    const float largest = tdm_block_reduce(seen.largest, tdm_larger(), -INFINITY, s.largest[0]);
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

/* The same of two rows; a thread owns the same packs of both. */
__global__ __launch_bounds__(TDM_ROW_THREADS) void cross_stats(tdm_cross *stats, const float *p,
                                                               int64_t p_stride, const float *q,
                                                               int64_t q_stride, int n,
                                                               const int32_t *targets)
{
    TDM_SHARED(workspace, space, [1]);
    workspace &s = space[0];
    const int target = targets[blockIdx.x];
    p += blockIdx.x * p_stride;
    q += blockIdx.x * q_stride;
    if (target < 0) {
        if (threadIdx.x == 0)
            stats[blockIdx.x] = {0.f, 0.f, 0.f};
        return;
    }
    const outline seen_p = look_at(p, n, 0.f), seen_q = look_at(q, n, 0.f);
    if (__syncthreads_or(seen_p.bad || seen_q.bad || target >= n)) {
        if (threadIdx.x == 0)
            stats[blockIdx.x] = {nanf(""), nanf(""), nanf("")};
        return;
    }
    const float top_p = tdm_block_reduce(seen_p.largest, tdm_larger(), -INFINITY, s.largest[0]);
    const float top_q = tdm_block_reduce(seen_q.largest, tdm_larger(), -INFINITY, s.largest[1]);

    double sums[5] = {}; /* e^dp, e^dq, dp e^dq, dp^2 e^dq, dq e^dp */
    tdm_each_four(p, n, [&](const tdm_four &vp, int first) {
        const tdm_four vq = tdm_load_four(q, n, first / 4);
        for (int i = 0; i < 4; i++) {
            if (first + i >= n)
                continue; /* p weighs nothing there, and its logarithm is infinite */
            const double dp = (double)vp.v[i] - (double)top_p, ep = expf(vp.v[i] - top_p);
            const double dq = (double)vq.v[i] - (double)top_q, eq = expf(vq.v[i] - top_q);
            sums[0] += ep;
            sums[1] += eq;
            sums[2] += dp * eq;
            sums[3] += dp * dp * eq;
            sums[4] += dq * ep;
        }
    });
    for (int i = 0; i < 5; i++)
        sums[i] = tdm_block_reduce(sums[i], tdm_plus(), 0.0, s.sums[i]);
    if (threadIdx.x == 0) {
        const double mean = sums[2] / sums[1], variance = sums[3] / sums[1] - mean * mean;
        stats[blockIdx.x] = {(float)(log(sums[0]) - mean), (float)fmax(variance, 0.0),
                             (float)(log(sums[1]) - sums[4] / sums[0])};
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
               (const float *)logits.p, logits.cols, tdm_row_stride(logits), targets);
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_cross_stats(tdm_cross *stats, tdm_mat p, tdm_mat q,
                                        const int32_t *targets, cudaStream_t stream)
{
    if (!tdm_is_logits(p) || !tdm_is_logits(q) || p.rows != q.rows || p.cols != q.cols)
        return cudaErrorInvalidValue;
    if (p.rows == 0)
        return cudaSuccess;
    TDM_LAUNCH(cross_stats, (unsigned)p.rows, tdm_row_threads(p.cols), 0, stream, stats,
               (const float *)p.p, tdm_row_stride(p), (const float *)q.p, tdm_row_stride(q), p.cols,
               targets);
    return cudaGetLastError();
}
