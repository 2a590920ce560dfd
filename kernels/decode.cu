/* kernels/decode.cu - attention of one new row for each text over its cached keys and values.
 *
 * Bound by memory: 2 x 64 elements a key and head are read once. What counts is how many loads are
 * under way: 8 x 16 bytes a lane, 96 KB an SM with 3 blocks of 256 threads (up to 80 registers
 * each; for 4 blocks, at 64, the compiler waits for the first load before it issues the last). The
 * arithmetic takes about 31 issue slots for 16 bytes of each lane of a warp, a third of what an
 * H200 has at its full bandwidth, so nothing needs the tensor cores.
 *
 * Tile i of the keys belongs to warp i % 8, which goes through its tiles in rising order; the
 * warps' parts are merged in their order. Both depend on key positions alone. */
#include "kernels/attention.cuh"

namespace
{

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kBlocks = 3; /* an SM */
constexpr int kLoads = 4;  /* of 16 bytes, of a lane and tile: of keys, and again of values */

/* How a warp lies over a tile of keys of type C: a key is shared by kLanes lanes, one load fetches
 * kGroups keys, and lane group g has the keys g, g + kGroups, ... of the tile. */
template <class C> struct shape {
    static constexpr int kVec = 16 / sizeof(C);
    static constexpr int kLanes = TDM_HEAD / kVec;
    static constexpr int kGroups = 32 / kLanes;
    static constexpr int kTile = kLoads * kGroups;
    static constexpr int kRound = kWarps * kTile; /* keys from a warp's tile to its next */
    static_assert(TDM_PAGE % kTile == 0 && kRound % TDM_PAGE == 0, "tiles lie in pages");
};

/* Softmax of the keys seen so far: largest score (the same in all lanes), and of this lane group's
 * keys the sum of weights and the weighted sum of values. */
template <int N> struct partial {
    float top, total, sum[N];
};

template <class C, int N> __device__ __forceinline__ void widen(float (&x)[N], const uint4 &bits)
{
    tdm_load(x, reinterpret_cast<const C *>(&bits));
}

/* The score of a key, in all of its lanes. */
template <int N>
__device__ __forceinline__ float score(const float (&query)[N], const float (&key)[N])
{
    float s = 0;
#pragma unroll
    for (int i = 0; i < N; i++)
        s = fmaf(query[i], key[i], s);
#pragma unroll
    for (int lane = 1; lane < TDM_HEAD / N; lane *= 2)
        s += __shfl_xor_sync(kAll, s, lane);
    return s;
}

/* Add a tile: this lane group's keys 0, kGroups, ... below n from its lane's part of the first on.
 * Where there is none, the first is read again and has no weight. All loads are under way before
 * one is used. */
template <class C, int N>
__device__ __forceinline__ void add_tile(partial<N> &part, const float (&query)[N], const C *keys,
                                         int64_t values, int n)
{
    using S = shape<C>;
    uint4 k[kLoads], v[kLoads];
    float s[kLoads], x[N];
    int at[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
        at[i] = i * S::kGroups < n ? i * S::kGroups * TDM_HEAD : 0;
        k[i] = tdm_load_once16(keys + at[i]);
    }
#pragma unroll
    for (int i = 0; i < kLoads; i++)
        v[i] = tdm_load_once16(keys + values + at[i]);
    float top = part.top;
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
        widen<C>(x, k[i]);
        s[i] = score(query, x);
        s[i] = i * S::kGroups < n ? s[i] : -INFINITY;
        top = fmaxf(top, s[i]);
    }
#pragma unroll
    for (int lane = S::kLanes; lane < 32; lane *= 2)
        top = fmaxf(top, __shfl_xor_sync(kAll, top, lane));
    const float keep = tdm_exp2(part.top - top);
    part.top = top;
    part.total *= keep;
#pragma unroll
    for (int d = 0; d < N; d++)
        part.sum[d] *= keep;
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
        const float weight = tdm_exp2(s[i] - top);
        part.total += weight;
        widen<C>(x, v[i]);
#pragma unroll
        for (int d = 0; d < N; d++)
            part.sum[d] = fmaf(weight, x[d], part.sum[d]);
    }
}

/* The new key and value, of which each lane has its part: rounded to the cache's type, stored, and
 * the first part of warp 0's softmax. */
template <class C, class T, int N>
__device__ __forceinline__ void add_new(partial<N> &part, const float (&query)[N], C *keys,
                                        int64_t values, const T *new_key, int width, int group)
{
    float key[N], value[N];
    tdm_load(key, new_key);
    tdm_load(value, new_key + width);
#pragma unroll
    for (int d = 0; d < N; d++) {
        key[d] = tdm_float(tdm_round<C>(key[d]));
        value[d] = tdm_float(tdm_round<C>(value[d]));
    }
    if (group == 0) {
        tdm_store(keys, key);
        tdm_store(keys + values, value);
        part.total = 1;
#pragma unroll
        for (int d = 0; d < N; d++)
            part.sum[d] = value[d];
    }
    part.top = score(query, key);
}

/* Add the cached keys of this warp, those before `position`. keys: this lane's column of page 0;
 * pages: of the text. The next page number is asked for before a tile is waited for. */
template <class C, int N>
__device__ __forceinline__ void add_cached(partial<N> &part, const float (&query)[N], const C *keys,
                                           const tdm_cache_view &cache, const int32_t *pages,
                                           int position, int warp, int group)
{
    using S = shape<C>;
    const int first = warp * S::kTile;
    int left = position - first;
    keys += first % TDM_PAGE * TDM_HEAD;
    pages += first / TDM_PAGE;
    int page = left > 0 ? *pages : 0;
    while (left > 0) {
        const C *const tile = keys + page * cache.page + min(group, left - 1) * TDM_HEAD;
        const int n = left - group;
        left -= S::kRound;
        pages += S::kRound / TDM_PAGE;
        page = left > 0 ? *pages : 0;
        add_tile(part, query, tile, cache.values, n);
    }
}

/* What the warps found, for merge(). */
struct warp_parts {
    float sums[kWarps][TDM_HEAD], tops[kWarps], totals[kWarps];
};

template <class C, int N>
__device__ __forceinline__ void leave(warp_parts &parts, partial<N> &part, int warp, int lane)
{
    using S = shape<C>;
#pragma unroll
    for (int other = S::kLanes; other < 32; other *= 2) {
        part.total += __shfl_xor_sync(kAll, part.total, other);
#pragma unroll
        for (int d = 0; d < N; d++)
            part.sum[d] += __shfl_xor_sync(kAll, part.sum[d], other);
    }
    if (lane < S::kLanes)
        tdm_store(&parts.sums[warp][lane * N], part.sum);
    if (lane == 0) {
        parts.tops[warp] = part.top;
        parts.totals[warp] = part.total;
    }
}

/* Column d of the row. */
template <class T> __device__ __forceinline__ T merge(const warp_parts &parts, int d)
{
    float top = -INFINITY, total = 0, sum = 0;
    for (int w = 0; w < kWarps; w++)
        top = fmaxf(top, parts.tops[w]);
    for (int w = 0; w < kWarps; w++) {
        const float weight = tdm_exp2(parts.tops[w] - top);
        total = fmaf(weight, parts.totals[w], total);
        sum = fmaf(weight, parts.sums[w][d], sum);
    }
    return tdm_round<T>(sum / total);
}

struct decode_args {
    void *y;
    const void *qkv;
    int y_stride, qkv_stride;
    tdm_cache_view cache;
    int heads;
    const int32_t *slots, *positions;
};

/* Grid rows x heads, heads innermost: neighbouring blocks read neighbouring memory. 8 warps;
 * shared: the warps' parts, 2 KB. A lane owns 16 bytes of each of its keys. Cached are the keys
 * before the row's own, which is written and never read back. */
template <class T, class C>
__global__ __launch_bounds__(kThreads, kBlocks) void attend_decode(const decode_args a)
{
    using S = shape<C>;
    TDM_SHARED(warp_parts, parts, [1]);
    const int row = blockIdx.x / a.heads, head = blockIdx.x % a.heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / S::kLanes;
    const int column = lane % S::kLanes * S::kVec;
    T *const y = static_cast<T *>(a.y) + (int64_t)row * a.y_stride + head * TDM_HEAD;
    const T *const qkv =
        static_cast<const T *>(a.qkv) + (int64_t)row * a.qkv_stride + head * TDM_HEAD + column;
    const int slot = a.slots[row], position = slot < 0 ? -1 : a.positions[slot];
    if (position < 0) {
        if (threadIdx.x < TDM_HEAD)
            y[threadIdx.x] = tdm_round<T>(0);
        return;
    }
    const int32_t *const pages = a.cache.pages + (int64_t)slot * a.cache.text_pages;
    C *const keys = tdm_cache_head<C>(a.cache, head) + column;
    float query[S::kVec];
    partial<S::kVec> part = {-INFINITY, 0, {}};
    tdm_load(query, qkv);
#pragma unroll
    for (int d = 0; d < S::kVec; d++)
        query[d] *= kAttentionScale;
    if (warp == 0) {
        const int64_t page = pages[position / TDM_PAGE] * a.cache.page;
        add_new(part, query, keys + page + position % TDM_PAGE * TDM_HEAD, a.cache.values,
                qkv + a.heads * TDM_HEAD, a.heads * TDM_HEAD, group);
    }
    add_cached(part, query, keys, a.cache, pages, position, warp, group);
    leave<C>(parts[0], part, warp, lane);
    __syncthreads();
    if (threadIdx.x < TDM_HEAD)
        y[threadIdx.x] = merge<T>(parts[0], threadIdx.x);
}

} // namespace

/* ---- launcher ---- */

extern "C" cudaError_t tdmk_attend_decode(tdm_mat y, tdm_mat qkv, tdmk_cache cache, int32_t layer,
                                          const tdm_step *step, cudaStream_t stream)
{
    const int64_t blocks = (int64_t)step->n_rows * cache.heads;
    if (step->n_rows == 0)
        return cudaSuccess;
    if (!tdm_attention_fits(y, qkv, step) || !tdm_cache_fits(cache, layer, y, step) ||
        step->starts || blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    const decode_args args = {
        y.p,         qkv.p,       tdm_stride(y),  tdm_stride(qkv), tdm_view(cache, layer, step),
        cache.heads, step->slots, step->positions};
    TDM_DISPATCH(y.dtype, T, {
        TDM_DISPATCH(cache.dtype, C, {
            TDM_LAUNCH((attend_decode<T, C>), (unsigned)blocks, kThreads, 0, stream, args);
        });
    });
    return cudaGetLastError();
}
