/* kernels/sample.cu - drawing tokens from logits, as host/sample.h defines it.
 *
 * Greedy and plain sampling are one pass over the row. The noise of an entry costs two logarithms
 * in double, so a thread first finds its best entry by a cheap upper bound (host/rng.h) and
 * computes noise for that one alone; where another entry of the thread might still beat the best of
 * the block, the thread goes over its entries again. Top-k and top-p take a pass for the extremes,
 * and up to three for each threshold (survivors.cuh), before it; words are then made only where
 * something survives. */
#include "host/rng.h"
#include "kernels/survivors.cuh"

namespace
{

/* Shared memory of a block. */
struct workspace {
    tdm_search search;
    double values[TDM_WARP];
    float floats[2][TDM_WARP];
    int ids[TDM_WARP];
};

/* ---- the largest ---- */

struct entry {
    double value;
    int id;
};

__device__ __forceinline__ entry better(entry a, entry b)
{
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

__device__ __forceinline__ entry best_of_warp(entry e)
{
    for (int other = TDM_WARP / 2; other > 0; other /= 2)
        e = better(e, {__shfl_xor_sync(0xffffffffu, e.value, other),
                       __shfl_xor_sync(0xffffffffu, e.id, other)});
    return e;
}

/* The id of the best entry of all threads. */
__device__ __forceinline__ int best_of_block(entry e, workspace &s)
{
    const unsigned lane = threadIdx.x % TDM_WARP, warp = threadIdx.x / TDM_WARP;
    e = best_of_warp(e);
    if (lane == 0) {
        s.values[warp] = e.value;
        s.ids[warp] = e.id;
    }
    __syncthreads();
    e = {-INFINITY, INT_MAX};
    if (lane < blockDim.x / TDM_WARP)
        e = {s.values[lane], s.ids[lane]};
    return best_of_warp(e).id;
}

__device__ __forceinline__ int greedy(const tdm_logit_row &row, workspace &s)
{
    float top = -INFINITY;
    int top_id = INT_MAX;
    bool bad = false;
    tdm_each_scaled(row, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++) {
            bad |= tdm_is_bad(v.v[i], first + i, row);
            if (v.v[i] > top) {
                top = v.v[i];
                top_id = first + i;
            }
        }
    });
    return __syncthreads_or(bad) ? TDM_NOT_FINITE : best_of_block({(double)top, top_id}, s);
}

/* f(id, x, word) for each of this thread's entries that survive. */
template <class F>
__device__ __forceinline__ void each_survivor(const tdm_logit_row &row, const tdm_cut &kept,
                                              const tdm_draw &draw, bool *bad, F f)
{
    tdm_each_scaled(row, [&](const tdm_four &v, int first) {
        bool any = false;
        for (int i = 0; i < 4; i++) {
            *bad |= tdm_is_bad(v.v[i], first + i, row);
            any |= kept.keeps(v.v[i], first + i);
        }
        if (!any)
            return;
        const uint32_t counter[4] = {(uint32_t)first / 4, draw.position, (uint32_t)draw.document,
                                     (uint32_t)(draw.document >> 32)};
        uint32_t words[4];
        tdm_philox(counter, draw.seed, words);
        for (int i = 0; i < 4; i++)
            if (kept.keeps(v.v[i], first + i))
                f(first + i, v.v[i], words[i]);
    });
}

__device__ __forceinline__ int gumbel_max(const tdm_logit_row &row, const tdm_cut &kept,
                                          const tdm_draw &draw, workspace &s)
{
    float top = -INFINITY, second = -INFINITY, top_x = -INFINITY; /* the two largest bounds */
    uint32_t top_word = 0;
    int top_id = INT_MAX;
    bool bad = false;
    each_survivor(row, kept, draw, &bad, [&](int id, float x, uint32_t word) {
        const float bound = x + tdm_word_gumbel_bound(word);
        second = fmaxf(second, fminf(bound, top));
        if (bound > top) {
            top = bound;
            top_x = x;
            top_word = word;
            top_id = id;
        }
    });
    if (__syncthreads_or(bad))
        return TDM_NOT_FINITE;
    entry best = {(double)top_x + tdm_word_gumbel(top_word), top_id};
    /* Rounding is monotone: what exceeds a value in double cannot fall below it in f32. */
    const float floor = tdm_block_reduce((float)best.value, tdm_larger(), -INFINITY, s.floats[0]);
    if (second >= floor)
        each_survivor(row, kept, draw, &bad, [&](int id, float x, uint32_t word) {
            if (x + tdm_word_gumbel_bound(word) >= floor)
                best = better(best, {(double)x + tdm_word_gumbel(word), id});
        });
    return best_of_block(best, s);
}

/* ---- the draw ---- */

__device__ __forceinline__ int draw_from(const tdm_logit_row &row, const tdm_draw &draw,
                                         workspace &s)
{
    if (!(draw.temperature > 0.f))
        return greedy(row, s);
    tdm_cut kept = {-INFINITY, -1};
    if ((draw.top_k > 0 && draw.top_k < row.n) || draw.top_p < 1.f) {
        float largest = -INFINITY, smallest = INFINITY;
        bool bad = false;
        tdm_each_scaled(row, [&](const tdm_four &v, int first) {
            for (int i = 0; i < 4; i++) {
                bad |= tdm_is_bad(v.v[i], first + i, row);
                largest = fmaxf(largest, v.v[i]);
                smallest = first + i < row.n ? fminf(smallest, v.v[i]) : smallest;
            }
        });
        if (__syncthreads_or(bad))
            return TDM_NOT_FINITE;
        largest = tdm_block_reduce(largest, tdm_larger(), -INFINITY, s.floats[0]);
        smallest = -tdm_block_reduce(-smallest, tdm_larger(), -INFINITY, s.floats[1]);
        kept = tdm_find_cut(row, draw, largest, smallest, s.search);
    }
    return gumbel_max(row, kept, draw, s);
}

/* Every thread of the block has read what it needs of the slot. */
__device__ __forceinline__ void move_on(const tdm_slots &state, int slot, int id, int eos)
{
    state.drawn[slot] = id;
    if (id < 0 || id == eos || state.left[slot] <= 1) {
        state.positions[slot] = -1;
        return;
    }
    state.tokens[slot] = id;
    state.positions[slot]++;
    state.left[slot]--;
    state.draws[slot].position++;
}

/* grid = rows; block = a power of two of threads, from the vocabulary alone; a thread owns packs t,
 * t + blockDim, ... of the row, and keeps them in no memory of its own: later passes read the L2
 * cache. */
__global__ __launch_bounds__(TDM_ROW_THREADS) void sample(tdm_slots state, const int32_t *slots,
                                                          const float *logits, int n,
                                                          int64_t stride, int eos)
{
    TDM_SHARED(workspace, space, [1]);
    const int slot = slots[blockIdx.x];
    if (slot < 0)
        return;
    if (state.positions[slot] < 0) {
        if (threadIdx.x == 0)
            state.drawn[slot] = TDM_IDLE;
        return;
    }
    const tdm_draw draw = state.draws[slot];
    const tdm_logit_row row = {logits + blockIdx.x * stride, n,
                               draw.temperature > 0.f ? draw.temperature : 1.f};
    const int id = draw_from(row, draw, space[0]);
    if (threadIdx.x == 0)
        move_on(state, slot, id, eos);
}

} // namespace

extern "C" cudaError_t tdmk_sample(const tdm_slots *state, const int32_t *slots, tdm_mat logits,
                                   int32_t eos, cudaStream_t stream)
{
    if (!tdm_is_logits(logits))
        return cudaErrorInvalidValue;
    if (logits.rows == 0)
        return cudaSuccess;
    TDM_LAUNCH(sample, (unsigned)logits.rows, tdm_row_threads(logits.cols), 0, stream, *state,
               slots, (const float *)logits.p, logits.cols, tdm_row_stride(logits), eos);
    return cudaGetLastError();
}
