/* kernels/survivors.cuh - which entries of a row of logits survive top-k and top-p, without a sort.
 *
 * Both need the value at which a running sum over falling values reaches a target: the sum of ones
 * for top-k, of masses for top-p. The entries' weights are summed by the leading bits of their
 * values, the bin where the sum reaches the target is found, and so on within this bin: up to three
 * passes over the row, fewer where the values share their leading bits.
 *
 * All sums are of integers, so no order of atomics can change a bit. A mass exp(x - largest) is
 * computed in double and rounded to 2^-s, s = 63 - bits of V (47 for 50,257 entries); the sum of n
 * masses is off by less than n 2^-(s+1) of the largest mass, 2e-10, and by some 1e-12 if rounding
 * errors fall evenly. A draw differs from host/sample.c only if p falls so near to a cumulative
 * sum. */
#ifndef KERNELS_SURVIVORS_CUH
#define KERNELS_SURVIVORS_CUH

#include <float.h>
#include <limits.h>

#include "kernels/logits.cuh"
#include "kernels/reduce.cuh"

using tdm_mass = unsigned long long;

constexpr int TDM_DIGIT = 11, TDM_BINS = 1 << TDM_DIGIT;

/* Shared memory of a search. */
struct tdm_search {
    unsigned low[TDM_BINS], high[TDM_BINS]; /* halves of the sums of the bins */
    tdm_mass totals[TDM_WARP];
    int bin; /* where the target is reached; the weight before it, and its own */
    tdm_mass above, weight;
};

struct tdm_logit_row {
    const float *p;
    int n;
    float temperature;
};

/* f(logits / temperature, first id) for each of this thread's packs. */
template <class F> __device__ __forceinline__ void tdm_each_scaled(const tdm_logit_row &row, F f)
{
    const float temperature = row.temperature;
    tdm_each_four(row.p, row.n, [&](tdm_four v, int first) {
        for (int i = 0; i < 4; i++)
            v.v[i] /= temperature;
        f(v, first);
    });
}

__device__ __forceinline__ bool tdm_is_bad(float x, int id, const tdm_logit_row &row)
{
    return id < row.n && !(fabsf(x) <= FLT_MAX);
}

/* ---- where a running sum over falling keys reaches a target ---- */

/* Each source says which key an entry has (0: none), what it weighs, and what the target is when
 * all entries together weigh `total`; 1 <= target <= total. */
struct tdm_by_rank { /* the k-th largest value */
    unsigned k;
    __device__ __forceinline__ unsigned key(float x, int) const
    {
        return tdm_key_of(x);
    }
    __device__ __forceinline__ unsigned weight(float) const
    {
        return 1;
    }
    __device__ __forceinline__ tdm_mass target(tdm_mass) const
    {
        return k;
    }
};

struct tdm_by_mass { /* the value at which the share p of all mass is reached */
    float largest;
    double scale, p;
    __device__ __forceinline__ unsigned key(float x, int) const
    {
        return tdm_key_of(x);
    }
    __device__ __forceinline__ tdm_mass weight(float x) const
    {
        return (tdm_mass)(exp((double)x - (double)largest) * scale + 0.5);
    }
    __device__ __forceinline__ tdm_mass target(tdm_mass total) const
    {
        return (tdm_mass)fmax(1.0, ceil(p * (double)total));
    }
};

struct tdm_by_id { /* the id of the ties-th entry that is equal to value */
    float value;
    tdm_mass ties;
    __device__ __forceinline__ unsigned key(float x, int id) const
    {
        return x == value ? ~(unsigned)id : 0;
    }
    __device__ __forceinline__ unsigned weight(float) const
    {
        return 1;
    }
    __device__ __forceinline__ tdm_mass target(tdm_mass) const
    {
        return ties;
    }
};

__device__ __forceinline__ void tdm_add(tdm_search &s, unsigned bin, unsigned count)
{
    atomicAdd(&s.low[bin], count);
}
/* Shared memory adds 32 bits at a time: the half that overflows carries. */
__device__ __forceinline__ void tdm_add(tdm_search &s, unsigned bin, tdm_mass m)
{
    const unsigned low = (unsigned)m, before = atomicAdd(&s.low[bin], low);
    const unsigned high = (unsigned)(m >> 32) + (before + low < before);
    if (high)
        atomicAdd(&s.high[bin], high);
}

__device__ __forceinline__ tdm_mass tdm_sum_of(const tdm_search &s, int bin)
{
    return (tdm_mass)s.high[bin] << 32 | s.low[bin];
}

/* The sum of x over the threads before this one, and over all. One barrier. */
__device__ __forceinline__ tdm_mass tdm_sum_before(tdm_mass x, tdm_mass *total, tdm_mass *totals)
{
    const int lane = threadIdx.x % TDM_WARP, warp = threadIdx.x / TDM_WARP;
    tdm_mass sum = x;
    for (int delta = 1; delta < TDM_WARP; delta *= 2) {
        const tdm_mass before = __shfl_up_sync(0xffffffffu, sum, delta);
        sum += lane >= delta ? before : 0;
    }
    if (lane == TDM_WARP - 1)
        totals[warp] = sum;
    __syncthreads();
    tdm_mass before = 0, all = 0;
    for (int w = 0; w < (int)blockDim.x / TDM_WARP; w++) {
        before += w < warp ? totals[w] : 0;
        all += totals[w];
    }
    *total = all;
    return before + sum - x;
}

struct tdm_crossing {
    unsigned key;           /* the largest key whose entries, with all above it, reach the target */
    tdm_mass above, weight; /* of the entries with larger keys; of those with this one */
    tdm_mass target, total;
};

/* Adds up the weights of entries with keys low .. high, by their distance from high >> shift. */
template <class Source>
__device__ __forceinline__ void tdm_fill_bins(const tdm_logit_row &row, const Source &source,
                                              unsigned low, unsigned high, int shift, tdm_search &s)
{
    for (int bin = threadIdx.x; bin < TDM_BINS; bin += blockDim.x)
        s.low[bin] = s.high[bin] = 0;
    __syncthreads();
    tdm_each_scaled(row, [&](const tdm_four &v, int first) {
        for (int i = 0; i < 4; i++) {
            const unsigned key = source.key(v.v[i], first + i);
            if (key >= low && key <= high)
                tdm_add(s, (high - key) >> shift, source.weight(v.v[i]));
        }
    });
    __syncthreads();
}

/* Sets s.bin, s.above and s.weight: the bin where c.above and the bins up to it reach the target,
 * which the first call sets. */
template <class Source>
__device__ __forceinline__ void tdm_find_bin(tdm_crossing &c, const Source &source, tdm_search &s)
{
    const int each = TDM_BINS / blockDim.x, mine = threadIdx.x * each;
    tdm_mass sum = 0, total;
    for (int bin = mine; bin < mine + each; bin++)
        sum += tdm_sum_of(s, bin);
    sum = c.above + tdm_sum_before(sum, &total, s.totals);
    if (!c.target) {
        c.total = total;
        c.target = source.target(total);
    }
    for (int bin = mine; bin < mine + each; bin++) {
        const tdm_mass weight = tdm_sum_of(s, bin);
        if (sum < c.target && sum + weight >= c.target) {
            s.bin = bin;
            s.above = sum;
            s.weight = weight;
        }
        sum += weight;
    }
    __syncthreads();
}

/* The crossing among entries with keys low .. high; others are not counted. A pass takes TDM_DIGIT
 * bits of the distance from high, and the next one looks into the bin that was found, until a bin
 * is one key. */
template <class Source>
__device__ __forceinline__ tdm_crossing tdm_find_crossing(const tdm_logit_row &row,
                                                          const Source &source, unsigned low,
                                                          unsigned high, tdm_search &s)
{
    tdm_crossing c = {};
    for (;;) {
        const int shift = max(0, 32 - TDM_DIGIT - __clz((int)(high - low)));
        tdm_fill_bins(row, source, low, high, shift, s);
        tdm_find_bin(c, source, s);
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
struct tdm_cut {
    float value;
    int last;
    __device__ __forceinline__ bool keeps(float x, int id) const
    {
        return x > value || (x == value && id <= last);
    }
};

/* The part of top_p that depends on the convention (host/sample.h). */
__device__ __forceinline__ tdm_cut tdm_cut_at(const tdm_logit_row &row, const tdm_by_mass &source,
                                              const tdm_crossing &c, tdm_nucleus nucleus,
                                              tdm_search &s)
{
    const float value = tdm_value_of(c.key);
    const tdm_mass equal = source.weight(value);
    if (nucleus == TDM_NUCLEUS_OPENAI) {
        /* the first entry beyond the target is out, and its ties, unless nothing else is left */
        const bool out = c.above + equal > (tdm_mass)(source.p * (double)c.total);
        return {value, out && value < source.largest ? -1 : INT_MAX};
    }
    const tdm_mass ties = (c.target - c.above + equal - 1) / equal;
    if (ties >= c.weight / equal)
        return {value, INT_MAX};
    const tdm_crossing last =
        tdm_find_crossing(row, tdm_by_id{value, ties}, ~(unsigned)(row.n - 1), ~0u, s);
    return {value, (int)~last.key};
}

/* largest, smallest: of the row. */
__device__ __forceinline__ tdm_cut tdm_find_cut(const tdm_logit_row &row, const tdm_draw &draw,
                                                float largest, float smallest, tdm_search &s)
{
    tdm_cut kept = {-INFINITY, -1};
    unsigned low = tdm_key_of(smallest);
    const unsigned high = tdm_key_of(largest);
    if (draw.top_k > 0 && draw.top_k < row.n) {
        low = tdm_find_crossing(row, tdm_by_rank{(unsigned)draw.top_k}, low, high, s).key;
        kept = {tdm_value_of(low), INT_MAX};
    }
    if (draw.top_p < 1.f) {
        const int bits = 32 - __clz(row.n);
        const tdm_by_mass source = {largest, (double)(1ull << (63 - bits)), (double)draw.top_p};
        /* 45 below the largest, masses round to 0 whatever the scale */
        low = max(low, tdm_key_of(largest - 45.f));
        kept =
            tdm_cut_at(row, source, tdm_find_crossing(row, source, low, high, s), draw.nucleus, s);
    }
    return kept;
}

#endif
