/* kernels/sample.cu - drawing tokens from logits, as host/sample.h defines it, without a sort.
 *
 *   greedy    one pass over the row
 *   plain     one pass: the noise of an entry costs two logarithms in double, so a thread first
 * finds its best entry by a cheap upper bound (host/rng.h), and computes noise for that one alone;
 *             an entry that might still beat the best of the block sends its thread over the row
 * again top-k,    a pass for the extremes, and up to three for each threshold: the entries' weights
 * are summed top-p     by the leading bits of their values, the bin where the sum reaches the
 * target is found, and so on within this bin
 *
 * All sums are of integers, so no order of atomics can change a bit. A mass exp(x - largest) is
 * computed in double and rounded to 2^-s, s = 63 - bits of V (47 for 50,257 entries); the sum of n
 * masses is off by less than n 2^-(s+1) of the largest mass, 2e-10, and by some 1e-12 if rounding
 * errors fall evenly. A draw differs from host/sample.c only if p falls so near to a cumulative
 * sum. */
#include "host/rng.h"
#include "kernels/logits.cuh"
#include "kernels/reduce.cuh"

#include <float.h>
#include <limits.h>

namespace
{

using mass = unsigned long long;

constexpr int kDigit = 11, kBins = 1 << kDigit;

/* Shared memory of a block. */
struct workspace {
    unsigned low[kBins], high[kBins]; /* halves of the sums of the bins */
    mass totals[TDM_WARP];
    double values[TDM_WARP];
    float floats[2][TDM_WARP];
    int ids[TDM_WARP];
    int bin; /* where the target is reached; the weight before it, and its own */
    mass above, weight;
};

struct row_view {
    const float *p;
    int n;
    float temperature;
};

/* f(logits / temperature, first id) for each of this thread's packs. */
template <class F> __device__ __forceinline__ void each_four(const row_view &row, F f)
{
    const float temperature = row.temperature;
    tdm_each_four(row.p, row.n, [&](tdm_four v, int first) {
        for (int i = 0; i < 4; i++)
            v.v[i] /= temperature;
        f(v, first);
    });
}

__device__ __forceinline__ bool is_bad(float x, int id, const row_view &row)
{
    return id < row.n && !(fabsf(x) <= FLT_MAX);
}

/* The bits of a float as a number that rises with it; those of 0 for -0. */
__device__ __forceinline__ unsigned key_of(float x)
{
    const unsigned bits = __float_as_uint(x + 0.f);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}
__device__ __forceinline__ float value_of(unsigned key)
{
    return __uint_as_float(key >> 31 ? key & ~(1u << 31) : ~key);
}

/* ---- where a running sum over falling keys reaches a target ---- */

/* Each source says which key an entry has (0: none), what it weighs, and what the target is when
 * all entries together weigh `total`; 1 <= target <= total. */
struct by_rank { /* the k-th largest value */
    unsigned k;
    __device__ __forceinline__ unsigned key(float x, int) const
    {
        return key_of(x);
    }
    __device__ __forceinline__ unsigned weight(float) const
    {
        return 1;
    }
    __device__ __forceinline__ mass target(mass) const
    {
        return k;
    }
};

struct by_mass { /* the value at which the share p of all mass is reached */
    float largest;
    double scale, p;
    __device__ __forceinline__ unsigned key(float x, int) const
    {
        return key_of(x);
    }
    __device__ __forceinline__ mass weight(float x) const
    {
        return (mass)(exp((double)x - (double)largest) * scale + 0.5);
    }
    __device__ __forceinline__ mass target(mass total) const
    {
        return (mass)fmax(1.0, ceil(p * (double)total));
    }
};

struct by_id { /* the id of the ties-th entry that is equal to value */
    float value;
    mass ties;
    __device__ __forceinline__ unsigned key(float x, int id) const
    {
        return x == value ? ~(unsigned)id : 0;
    }
    __device__ __forceinline__ unsigned weight(float) const
    {
        return 1;
    }
    __device__ __forceinline__ mass target(mass) const
    {
        return ties;
    }
};

__device__ __forceinline__ void add(workspace &s, unsigned bin, unsigned count)
{
    atomicAdd(&s.low[bin], count);
}
/* Shared memory adds 32 bits at a time: the half that overflows carries. */
__device__ __forceinline__ void add(workspace &s, unsigned bin, mass m)
{
    const unsigned low = (unsigned)m, before = atomicAdd(&s.low[bin], low);
    const unsigned high = (unsigned)(m >> 32) + (before + low < before);
    if (high)
        atomicAdd(&s.high[bin], high);
}

__device__ __forceinline__ mass sum_of(const workspace &s, int bin)
{
    return (mass)s.high[bin] << 32 | s.low[bin];
}

/* The sum of x over the threads before this one, and over all. One barrier. */
__device__ __forceinline__ mass sum_before(mass x, mass *total, mass *totals)
{
    const int lane = threadIdx.x % TDM_WARP, warp = threadIdx.x / TDM_WARP;
    mass sum = x;
    for (int delta = 1; delta < TDM_WARP; delta *= 2) {
        const mass before = __shfl_up_sync(0xffffffffu, sum, delta);
        sum += lane >= delta ? before : 0;
    }
    if (lane == TDM_WARP - 1)
        totals[warp] = sum;
    __syncthreads();
    mass before = 0, all = 0;
    for (int w = 0; w < (int)blockDim.x / TDM_WARP; w++) {
        before += w < warp ? totals[w] : 0;
        all += totals[w];
    }
    *total = all;
    return before + sum - x;
}

struct crossing {
    unsigned key;       /* the largest key whose entries, with all above it, reach the target */
    mass above, weight; /* of the entries with larger keys; of those with this one */
    mass target, total;
};

/* Sums entries with keys low .. high by kDigit bits of the distance from high, goes to the bin
 * where the target is reached, and repeats until a bin is one key. Entries outside are not counted.
 */
template <class Source>
__device__ __forceinline__ crossing find_crossing(const row_view &row, const Source source,
                                                  unsigned low, unsigned high, workspace &s)
{
    crossing c = {};
    for (;;) {
        const int shift = max(0, 32 - kDigit - __clz((int)(high - low)));
        for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x)
            s.low[bin] = s.high[bin] = 0;
        __syncthreads();
        each_four(row, [&](const tdm_four &v, int first) {
            for (int i = 0; i < 4; i++) {
                const unsigned key = source.key(v.v[i], first + i);
                if (key >= low && key <= high)
                    add(s, (high - key) >> shift, source.weight(v.v[i]));
            }
        });
        __syncthreads();

        const int each = kBins / blockDim.x, mine = threadIdx.x * each;
        mass sum = 0, total;
        for (int bin = mine; bin < mine + each; bin++)
            sum += sum_of(s, bin);
        sum = c.above + sum_before(sum, &total, s.totals);
        if (!c.target) {
            c.total = total;
            c.target = source.target(total);
        }
        for (int bin = mine; bin < mine + each; bin++) {
            const mass weight = sum_of(s, bin);
            if (sum < c.target && sum + weight >= c.target) {
                s.bin = bin;
                s.above = sum;
                s.weight = weight;
            }
            sum += weight;
        }
        __syncthreads();
        c.above = s.above;
        c.weight = s.weight;
        c.key = high -= (unsigned)s.bin << shift;
        if (shift == 0)
            return c;
        if ((high - low) >> shift)
            low = high - ((1u << shift) - 1);
    }
}

/* ---- top-k and top-p ---- */

/* What survives: entries above `value`, and those equal to it up to the id `last`. */
struct cut {
    float value;
    int last;
    __device__ __forceinline__ bool keeps(float x, int id) const
    {
        return x > value || (x == value && id <= last);
    }
};

/* The part of top_p that depends on the convention (host/sample.h). */
__device__ __forceinline__ cut cut_at(const row_view &row, const by_mass &source, const crossing &c,
                                      tdm_nucleus nucleus, workspace &s)
{
    const float value = value_of(c.key);
    const mass equal = source.weight(value);
    if (nucleus == TDM_NUCLEUS_OPENAI) {
        /* the first entry beyond the target is out, and its ties with it, unless nothing else is
         * left */
        const bool out = c.above + equal > (mass)(source.p * (double)c.total);
        return {value, out && value < source.largest ? -1 : INT_MAX};
    }
    const mass ties = (c.target - c.above + equal - 1) / equal;
    if (ties >= c.weight / equal)
        return {value, INT_MAX};
    const crossing last = find_crossing(row, by_id{value, ties}, ~(unsigned)(row.n - 1), ~0u, s);
    return {value, (int)~last.key};
}

/* largest, smallest: of the row. */
__device__ __forceinline__ cut find_cut(const row_view &row, const tdm_draw &draw, float largest,
                                        float smallest, workspace &s)
{
    cut kept = {-INFINITY, -1};
    unsigned low = key_of(smallest);
    const unsigned high = key_of(largest);
    if (draw.top_k > 0 && draw.top_k < row.n) {
        low = find_crossing(row, by_rank{(unsigned)draw.top_k}, low, high, s).key;
        kept = {value_of(low), INT_MAX};
    }
    if (draw.top_p < 1.f) {
        const int bits = 32 - __clz(row.n);
        const by_mass source = {largest, (double)(1ull << (63 - bits)), (double)draw.top_p};
        /* 45 below the largest, masses round to 0 whatever the scale */
        low = max(low, key_of(largest - 45.f));
        kept = cut_at(row, source, find_crossing(row, source, low, high, s), draw.nucleus, s);
    }
    return kept;
}

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

__device__ __forceinline__ int greedy(const row_view &row, workspace &s)
{
    entry best = {-INFINITY, INT_MAX};
    bool bad = false;
    each_four(row, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++) {
            bad |= is_bad(v.v[i], first + i, row);
            if ((double)v.v[i] > best.value)
                best = {(double)v.v[i], first + i};
        }
    });
    return __syncthreads_or(bad) ? TDM_NOT_FINITE : best_of_block(best, s);
}

/* f(id, x, word) for each of this thread's entries that survive. */
template <class F>
__device__ __forceinline__ void each_survivor(const row_view &row, const cut &kept,
                                              const tdm_draw &draw, bool *bad, F f)
{
    each_four(row, [&](const tdm_four &v, int first) {
        bool any = false;
        for (int i = 0; i < 4; i++) {
            *bad |= is_bad(v.v[i], first + i, row);
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

__device__ __forceinline__ int gumbel_max(const row_view &row, const cut &kept,
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

__device__ __forceinline__ int draw_from(const row_view &row, const tdm_draw &draw, workspace &s)
{
    if (!(draw.temperature > 0.f))
        return greedy(row, s);
    cut kept = {-INFINITY, -1};
    if ((draw.top_k > 0 && draw.top_k < row.n) || draw.top_p < 1.f) {
        float largest = -INFINITY, smallest = INFINITY;
        bool bad = false;
        each_four(row, [&](const tdm_four &v, int first) {
            for (int i = 0; i < 4; i++) {
                bad |= is_bad(v.v[i], first + i, row);
                largest = fmaxf(largest, v.v[i]);
                smallest = first + i < row.n ? fminf(smallest, v.v[i]) : smallest;
            }
        });
        if (__syncthreads_or(bad))
            return TDM_NOT_FINITE;
        largest = tdm_block_reduce(largest, tdm_larger(), -INFINITY, s.floats[0]);
        smallest = -tdm_block_reduce(-smallest, tdm_larger(), -INFINITY, s.floats[1]);
        kept = find_cut(row, draw, largest, smallest, s);
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
    const row_view row = {logits + blockIdx.x * stride, n,
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
               slots, (const float *)logits.p, logits.cols,
               logits.stride ? logits.stride : logits.cols, eos);
    return cudaGetLastError();
}
