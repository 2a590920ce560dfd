/* kernels/decode.cu - attention of one new row for each text over its cached keys and values.
 *
 * Bound by memory: 2 x 64 elements a key and head are read once. What counts is how many loads are
 * under way: 8 x 16 bytes a lane, 128 KB an SM at 4 blocks of 256 threads (64 registers each). The
 * arithmetic takes about 25 issue slots for 16 bytes of a lane, a quarter of what an H200 has at full
 * bandwidth, so nothing needs the tensor cores.
 *
 * Tile i of the keys belongs to warp i % 8, which goes through its tiles in rising order; the warps'
 * parts are merged in their order. Both depend on key positions alone. */
#include "kernels/attention.cuh"

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kBlocks = 3; /* an SM */
constexpr int kLoads = 4;           /* of 16 bytes, of a lane and tile: of keys, and again of values */
constexpr unsigned kAll = 0xffffffff;

/* How a warp lies over a tile of keys of type C: a key is shared by kLanes lanes, one load fetches
 * kGroups keys, and lane group g has the keys g, g + kGroups, ... of the tile. */
template <class C> struct shape {
    static constexpr int kVec = 16 / sizeof(C);
    static constexpr int kLanes = TDM_HEAD / kVec;
    static constexpr int kGroups = 32 / kLanes;
    static constexpr int kTile = kLoads * kGroups;
};

/* Softmax of the keys seen so far: largest score (the same in all lanes), and of this lane group's keys
 * the sum of weights and the weighted sum of values. */
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

/* Add a tile: this lane group's keys 0, kGroups, ... below n from its lane's part of the first on. Where
 * there is none, the first is read again and has no weight. All loads are under way before one is used. */
template <class C, int N>
__device__ __forceinline__ void add_tile(partial<N> &part, const float (&query)[N], const C *keys,
                                         int64_t values, int n)
{
    using S = shape<C>;
    uint4 k[kLoads], v[kLoads];
    float s[kLoads], x[N];
#pragma unroll
    for (int i = 0; i < kLoads; i++)
        k[i] = tdm_load_once16(keys + (i * S::kGroups < n ? i * S::kGroups * TDM_HEAD : 0));
#pragma unroll
    for (int i = 0; i < kLoads; i++)
        v[i] = tdm_load_once16(keys + values + (i * S::kGroups < n ? i * S::kGroups * TDM_HEAD : 0));
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

/* The new key and value, of which each lane has its part: rounded to the cache's type, stored, and the
 * first part of warp 0's softmax. */
template <class C, class T, int N>
__device__ __forceinline__ void add_new(partial<N> &part, const float (&query)[N], C *keys,
                                        size_t values, const T *new_key, int width, int group)
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

/* The warps' parts to one row of y: 64 threads, one column each. */
template <class T>
__device__ __forceinline__ void merge(T *y, const float (&sums)[kWarps][TDM_HEAD],
                                      const float (&tops)[kWarps], const float (&totals)[kWarps])
{
    const int d = threadIdx.x;
    float top = -INFINITY, total = 0, sum = 0;
    for (int w = 0; w < kWarps; w++)
        top = fmaxf(top, tops[w]);
    for (int w = 0; w < kWarps; w++) {
        const float weight = tdm_exp2(tops[w] - top);
        total = fmaf(weight, totals[w], total);
        sum = fmaf(weight, sums[w][d], sum);
    }
    y[d] = tdm_round<T>(sum / total);
}

struct decode_args {
    void *y;
    const void *qkv;
    int y_stride, qkv_stride;
    tdm_cache_view cache;
    int heads;
    const int32_t *slots, *positions;
};

/* Grid rows x heads, heads innermost: neighbouring blocks read neighbouring memory. 8 warps; shared: the
 * warps' parts, 2 KB. A lane owns 16 bytes of each of its keys. Cached are the keys before the row's own,
 * which is written and never read back. The next page number is asked for before a tile is waited for. */
template <class T, class C>
__global__ __launch_bounds__(kThreads, kBlocks) void attend_decode(const decode_args a)
{
    using S = shape<C>;
    TDM_SHARED(float, sums, [kWarps][TDM_HEAD]);
    TDM_SHARED(float, tops, [kWarps]);
    TDM_SHARED(float, totals, [kWarps]);
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
    const int32_t *pages = a.cache.pages + (size_t)slot * a.cache.text_pages;
    C *const head_keys = tdm_cache_head<C>(a.cache, head) + column;
    float query[S::kVec];
    partial<S::kVec> part = {-INFINITY, 0, {}};
    tdm_load(query, qkv);
#pragma unroll
    for (int d = 0; d < S::kVec; d++)
        query[d] *= kAttentionScale;
    if (warp == 0)
        add_new(part, query, head_keys + pages[position / TDM_PAGE] * a.cache.page +
                position % TDM_PAGE * TDM_HEAD, a.cache.values, qkv + a.heads * TDM_HEAD,
                a.heads * TDM_HEAD, group);
    const int first = warp * S::kTile;
    const C *const keys = head_keys + first % TDM_PAGE * TDM_HEAD;
    int left = position - first;
    pages += first / TDM_PAGE;
    int page = left > 0 ? *pages : 0;
    while (left > 0) {
        const C *const tile = keys + page * a.cache.page + min(group, left - 1) * TDM_HEAD;
        const int n = left - group;
        left -= kWarps * S::kTile;
        pages += kWarps * S::kTile / TDM_PAGE;
        page = left > 0 ? *pages : 0;
        add_tile(part, query, tile, a.cache.values, n);
    }
#pragma unroll
    for (int other = S::kLanes; other < 32; other *= 2) {
        part.total += __shfl_xor_sync(kAll, part.total, other);
#pragma unroll
        for (int d = 0; d < S::kVec; d++)
            part.sum[d] += __shfl_xor_sync(kAll, part.sum[d], other);
    }
    if (group == 0)
        tdm_store(&sums[warp][column], part.sum);
    if (lane == 0) {
        tops[warp] = part.top;
        totals[warp] = part.total;
    }
    __syncthreads();
    if (threadIdx.x < TDM_HEAD)
        merge(y, sums, tops, totals);
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
    const decode_args args = {y.p, qkv.p, tdm_stride(y), tdm_stride(qkv),
                              tdm_view(cache, layer, step), cache.heads, step->slots,
                              step->positions};
    TDM_DISPATCH(y.dtype, T, {
        TDM_DISPATCH(cache.dtype, C, {
            TDM_LAUNCH((attend_decode<T, C>), (unsigned)blocks, kThreads, 0, stream, args);
        });
    });
    return cudaGetLastError();
}
