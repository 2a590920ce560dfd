/* kernels/attention.cu - attention of many rows of a text at once: prompts over the cache, and
 * packed batches. Rows go through tiles of 64 keys in rising order of absolute position, with one
 * running softmax (Dao et al. 2022, "FlashAttention"). A tile that a row does not see leaves the
 * row as it is, bit for bit: its weights are 0 and the scale of what was summed is exactly 1. So a
 * row depends neither on its place in a tile of rows nor on where its text was cut.
 *
 * 16 bits: tensor cores, 4 warps of 32 rows. Each fragment of keys and values that is fetched from
 * shared memory serves two groups of 16 rows; with one group the fetches would take longer than the
 * products. f32: a thread owns a row. */
#include "kernels/attention_keys.cuh"

namespace
{

constexpr int kThreads = 128, kRows = 128; /* of a block */
constexpr int kGroups = 2;                 /* of 16 rows, of a warp */
constexpr int kTileSize = kKeys * TDM_HEAD;
constexpr int kChunks = TDM_HEAD / 8; /* of 8 values (16 bytes in 16 bits), of a row */

/* ---- 16 bits: pieces ---- */

/* Rows of 8 chunks of 8 values; chunk c of row r is put at c ^ (r % 8), so that a chunk of 8 rows,
 * as ldmatrix fetches it, comes from all 32 banks. */
__device__ __forceinline__ int place(int row, int chunk)
{
    return row * TDM_HEAD + (chunk ^ (row & 7)) * 8;
}

/* 8 values to shared memory, zeros unless `valid`: begun when the types agree, else done. */
template <class T> __device__ __forceinline__ void copy_chunk(T *to, const T *from, bool valid)
{
    tdm_cp_async16(to, from, valid ? 16 : 0);
}
template <class T, class C>
__device__ __forceinline__ void copy_chunk(T *to, const C *from, bool valid)
{
    float x[8] = {};
    if (valid)
        tdm_load(x, from);
    tdm_store(to, x);
}

/* The first n >= 1 of `rows` rows; the others become zeros. */
template <int rows, class T, class C>
__device__ __forceinline__ void copy_rows(T *to, const C *from, int stride, int n)
{
#pragma unroll
    for (int i = 0; i < rows * kChunks / kThreads; i++) {
        const int row = (threadIdx.x + i * kThreads) / kChunks, chunk = threadIdx.x % kChunks;
        const bool valid = row < n;
        copy_chunk(to + place(row, chunk), from + (valid ? row * stride + chunk * 8 : 0), valid);
    }
}

__device__ __forceinline__ unsigned pack(float low, float high, half)
{
    const half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&pair);
}
__device__ __forceinline__ unsigned pack(float low, float high, __nv_bfloat16)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&pair);
}

/* What a lane has of its warp's rows. With g = lane / 4 and t = lane % 4, entry [i][h] belongs to
 * row 16 i + 8 h + g, and [i][n][2 h + c] to its column (key or value) 8 n + 2 t + c. */
struct warp_rows {
    float sum[kGroups][8][4];
    float top[kGroups][2], total[kGroups][2]; /* total: of this lane's keys */
};
typedef float tile_scores[kGroups][8][4];

/* A warp's 32 rows of queries, as the product wants its left side. */
typedef unsigned query_fragments[4][kGroups][4];
template <class T>
__device__ __forceinline__ void fetch_queries(query_fragments &q, const T *queries)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int i = 0; i < kGroups; i++)
            tdm_ldmatrix_x4(q[k][i], queries + place(16 * i + lane % 16, k * 2 + lane / 16));
}

/* scores = queries @ keys^T */
template <class T>
__device__ __forceinline__ void score_tile(tile_scores &scores, const query_fragments &queries,
                                           const T *keys)
{
    const int lane = threadIdx.x % 32;
    for (auto &group : scores)
        for (auto &entries : group)
            for (float &s : entries)
                s = 0;
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            unsigned b[4];
            tdm_ldmatrix_x4(b,
                            keys + place(n * 8 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
            const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
            for (int i = 0; i < kGroups; i++) {
                tdm_mma_m16n8k16(scores[i][n], queries[k][i], low, T());
                tdm_mma_m16n8k16(scores[i][n + 1], queries[k][i], high, T());
            }
        }
}

/* Take away the keys that a row does not see. `last`: the last key that the warp's first row sees,
 * counted from the tile's first; causal: each further row sees one more. */
template <bool causal> __device__ __forceinline__ void mask_tile(tile_scores &scores, int last)
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kGroups; i++)
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (n * 8 + t * 2 + e % 2 > last + (causal ? 16 * i + e / 2 * 8 + g : 0))
                    scores[i][n][e] = -INFINITY;
}

/* Scores become weights relative to the largest score so far; sums are brought to the same scale.
 */
__device__ __forceinline__ void weigh_tile(warp_rows &rows, tile_scores &scores)
{
#pragma unroll
    for (int i = 0; i < kGroups; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = rows.top[i][h], total = 0;
#pragma unroll
            for (int n = 0; n < 8; n++)
                top = fmaxf(top, fmaxf(scores[i][n][2 * h], scores[i][n][2 * h + 1]));
            top = fmaxf(top, __shfl_xor_sync(kAll, top, 1));
            top = fmaxf(top, __shfl_xor_sync(kAll, top, 2));
            const float keep = tdm_exp2((rows.top[i][h] - top) * kAttentionScale);
            const float zero = -top * kAttentionScale;
            rows.top[i][h] = top;
#pragma unroll
            for (int n = 0; n < 8; n++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    scores[i][n][e] = tdm_exp2(fmaf(scores[i][n][e], kAttentionScale, zero));
                    total += scores[i][n][e];
                    rows.sum[i][n][e] *= keep;
                }
            rows.total[i][h] = fmaf(rows.total[i][h], keep, total);
        }
}

/* sum += weights @ values. The weights are where the product wants its left side. */
template <class T>
__device__ __forceinline__ void add_values(warp_rows &rows, const tile_scores &weights,
                                           const T *values)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        unsigned a[kGroups][4];
#pragma unroll
        for (int i = 0; i < kGroups; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                a[i][e] = pack(weights[i][2 * k + e / 2][e % 2 * 2],
                               weights[i][2 * k + e / 2][e % 2 * 2 + 1], T());
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            unsigned b[4];
            tdm_ldmatrix_x4_transposed(
                b, values + place(k * 16 + lane / 8 % 2 * 8 + lane % 8, n + lane / 16));
            const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
            for (int i = 0; i < kGroups; i++) {
                tdm_mma_m16n8k16(rows.sum[i][n], a[i], low, T());
                tdm_mma_m16n8k16(rows.sum[i][n + 1], a[i], high, T());
            }
        }
    }
}

/* A warp's rows, of which the text has n, to y, by way of 32 rows of shared memory. */
template <class T>
__device__ __forceinline__ void store_rows(T *y, int stride, int n, warp_rows &rows, T *shared)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kGroups; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float total = rows.total[i][h];
            total += __shfl_xor_sync(kAll, total, 1);
            total += __shfl_xor_sync(kAll, total, 2);
            const float scale = 1 / total;
#pragma unroll
            for (int d = 0; d < 8; d++)
                *reinterpret_cast<unsigned *>(shared + place(16 * i + 8 * h + g, d) + 2 * t) =
                    pack(rows.sum[i][d][2 * h] * scale, rows.sum[i][d][2 * h + 1] * scale, T());
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kChunks; i++) {
        const int row = (lane + 32 * i) / kChunks, chunk = lane % kChunks;
        if (row < n)
            *reinterpret_cast<uint4 *>(y + row * stride + chunk * 8) =
                *reinterpret_cast<const uint4 *>(shared + place(row, chunk));
    }
}

/* ---- 16 bits: the kernel ---- */

/* Grid texts x tiles of 128 rows of the longest text x heads. 4 warps; a warp owns 32 rows, its
 * queries and sums in registers. Shared: 128 queries (then the result), and two tiles of keys and
 * of values: while one is used the next is on its way, so that one barrier a tile says both that it
 * has arrived everywhere and that the one before is no longer in use. One function although it is
 * long: its parts would hand each other a dozen values, and the order of copies, barriers and uses
 * is what there is to read. */
template <class T, class Keys, bool causal>
__global__ __launch_bounds__(kThreads, 2) void attend_tiles(const attend_args a)
{
    TDM_SHARED(T, queries, [kRows * TDM_HEAD]);
    TDM_SHARED(T, keys, [2][kTileSize]);
    TDM_SHARED(T, values, [2][kTileSize]);
    const int head = blockIdx.z, warp = threadIdx.x / 32;
    const block_rows block = rows_of<Keys>(a, kRows);
    if (block.n == 0)
        return;
    const Keys source(a, blockIdx.x, head);
    const int n_rows = min(block.n - block.row0, kRows);
    const int end = causal ? block.first + block.row0 + n_rows : block.n; /* of the keys */
    const int n_tiles = (end + kKeys - 1) / kKeys;
    const int64_t row0 = block.start + block.row0; /* of the batch */
    auto copy_tile = [&](int tile, int page) {
        const auto from = source.tile(page);
        copy_rows<kKeys>(keys[tile % 2], from.keys, from.stride, end - tile * kKeys);
        copy_rows<kKeys>(values[tile % 2], from.values, from.stride, end - tile * kKeys);
        tdm_cp_async_commit();
    };
    copy_rows<kRows>(queries, static_cast<const T *>(a.qkv) + row0 * a.qkv_stride + head * TDM_HEAD,
                     a.qkv_stride, n_rows);
    copy_tile(0, source.page(0));

    /* Keys 0 .. `fewest` are seen by all of this warp's rows, none after `most` by any. */
    const int own = warp * 32, position = block.first + block.row0 + own;
    const int fewest = causal ? position : end - 1;
    const int most = own >= n_rows ? -1 : causal ? position + 31 : end - 1;
    int page = n_tiles > 1 ? source.page(1) : 0;
    query_fragments q;
    warp_rows rows = {};
    for (auto &top : rows.top)
        top[0] = top[1] = -INFINITY;
    for (int tile = 0; tile < n_tiles; tile++) {
        tdm_cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < n_tiles) {
            copy_tile(tile + 1, page);
            page = tile + 2 < n_tiles ? source.page(tile + 2) : 0;
        }
        if (tile == 0)
            fetch_queries(q, queries + own * TDM_HEAD);
        if (tile * kKeys > most)
            continue;
        tile_scores scores;
        score_tile(scores, q, keys[tile % 2]);
        if (tile * kKeys + kKeys - 1 > fewest)
            mask_tile<causal>(scores, fewest - tile * kKeys);
        weigh_tile(rows, scores);
        add_values(rows, scores, values[tile % 2]);
    }
    if (own < n_rows)
        store_rows(static_cast<T *>(a.y) + (row0 + own) * a.y_stride + head * TDM_HEAD, a.y_stride,
                   n_rows - own, rows, queries + own * TDM_HEAD);
}

/* ---- f32 ---- */

constexpr int kStep = 8; /* keys whose scores a thread has at once */

/* Keys k .. k + 7 of a tile, of which the row sees those below n. */
__device__ __forceinline__ void add_keys(float (&sum)[TDM_HEAD], float &top, float &total,
                                         const float (&query)[TDM_HEAD], const float *keys,
                                         const float *values, int n)
{
    float s[kStep] = {}, best = top;
#pragma unroll
    for (int d = 0; d < TDM_HEAD; d += 4)
#pragma unroll
        for (int i = 0; i < kStep; i++) {
            float key[4];
            tdm_load(key, keys + i * TDM_HEAD + d);
#pragma unroll
            for (int c = 0; c < 4; c++)
                s[i] = fmaf(query[d + c], key[c], s[i]);
        }
#pragma unroll
    for (int i = 0; i < kStep; i++) {
        s[i] = i < n ? s[i] : -INFINITY;
        best = fmaxf(best, s[i]);
    }
    const float keep = tdm_exp2(top - best);
    top = best;
    total *= keep;
#pragma unroll
    for (int d = 0; d < TDM_HEAD; d++)
        sum[d] *= keep;
#pragma unroll
    for (int i = 0; i < kStep; i++) {
        if (i >= n)
            break;
        const float weight = tdm_exp2(s[i] - best);
        total += weight;
#pragma unroll
        for (int d = 0; d < TDM_HEAD; d += 4) {
            float value[4];
            tdm_load(value, values + i * TDM_HEAD + d);
#pragma unroll
            for (int c = 0; c < 4; c++)
                sum[d + c] = fmaf(weight, value[c], sum[d + c]);
        }
    }
}

/* The first n >= 1 rows of a tile, as f32; the others become zeros. */
template <class C>
__device__ __forceinline__ void widen_tile(float *to, const C *from, int stride, int n)
{
    for (int i = threadIdx.x; i < kKeys * TDM_HEAD / 4; i += kThreads) {
        const int row = i * 4 / TDM_HEAD, column = i * 4 % TDM_HEAD;
        float x[4] = {};
        if (row < n)
            tdm_load(x, from + row * stride + column);
        tdm_store(to + i * 4, x);
    }
}

/* Grid as attend_tiles. A thread owns a row, its query and its sum; all threads read the same key
 * at the same time, a broadcast. Shared: a tile of keys and of values. */
template <class Keys, bool causal>
__global__ __launch_bounds__(kThreads, 2) void attend_rows(const attend_args a)
{
    TDM_SHARED(float, keys, [kTileSize]);
    TDM_SHARED(float, values, [kTileSize]);
    const int head = blockIdx.z;
    const block_rows block = rows_of<Keys>(a, kRows);
    if (block.n == 0)
        return;
    const Keys source(a, blockIdx.x, head);
    const int own = block.row0 + threadIdx.x, n_rows = min(block.n - block.row0, kRows);
    const int end = causal ? block.first + block.row0 + n_rows : block.n;
    const int last = own >= block.n ? -1 : causal ? block.first + own : end - 1;
    const int64_t row = block.start + min(own, block.n - 1);
    float query[TDM_HEAD], sum[TDM_HEAD] = {}, top = -INFINITY, total = 0;
    tdm_load(query, static_cast<const float *>(a.qkv) + row * a.qkv_stride + head * TDM_HEAD);
#pragma unroll
    for (int d = 0; d < TDM_HEAD; d++)
        query[d] *= kAttentionScale;
    for (int first = 0; first < end; first += kKeys) {
        const auto from = source.tile(source.page(first / kKeys));
        __syncthreads();
        widen_tile(keys, from.keys, from.stride, end - first);
        widen_tile(values, from.values, from.stride, end - first);
        __syncthreads();
        for (int k = 0; k < kKeys && first + k <= last; k += kStep)
            add_keys(sum, top, total, query, keys + k * TDM_HEAD, values + k * TDM_HEAD,
                     last + 1 - first - k);
    }
    if (own >= block.n)
        return;
    const float scale = 1 / total;
#pragma unroll
    for (int d = 0; d < TDM_HEAD; d++)
        sum[d] *= scale;
    tdm_store(static_cast<float *>(a.y) + row * a.y_stride + head * TDM_HEAD, sum);
}

/* ---- the cache ---- */

constexpr int kAppendRows = 4; /* of a block: one of a warp */

/* Grid texts x fours of rows of the longest text. A warp copies one row: its k and v are 2 x heads
 * slices of 64, in the order of the cache. */
template <class T, class C> __global__ __launch_bounds__(kThreads) void append(const attend_args a)
{
    const int start = a.starts[blockIdx.x];
    const int row = start + blockIdx.y * kAppendRows + threadIdx.x / 32;
    if (row >= a.starts[blockIdx.x + 1])
        return;
    const int position = a.positions[row];
    const int page =
        a.cache.pages[(int64_t)a.slots[blockIdx.x] * a.cache.text_pages + position / TDM_PAGE];
    const T *const from =
        static_cast<const T *>(a.qkv) + (int64_t)row * a.qkv_stride + a.heads * TDM_HEAD;
    for (int chunk = threadIdx.x % 32; chunk < 2 * a.heads * kChunks; chunk += 32) {
        float x[8];
        tdm_load(x, from + chunk * 8);
        tdm_store(tdm_cache_head<C>(a.cache, chunk / kChunks) + page * a.cache.page +
                      position % TDM_PAGE * TDM_HEAD + chunk % kChunks * 8,
                  x);
    }
}

/* ---- launchers ---- */

bool ragged_fits(const tdm_step *step, int32_t width)
{
    return step->starts && step->n_seqs > 0 && step->longest > 0 && step->longest <= step->n_rows &&
           width / TDM_HEAD <= 65535 && (step->longest + kAppendRows - 1) / kAppendRows <= 65535;
}

template <class T, template <class> class Keys, class C, bool causal>
void launch(const attend_args &args, const tdm_step *step, cudaStream_t stream)
{
    const dim3 grid(step->n_seqs, (step->longest + kRows - 1) / kRows, args.heads);
    if constexpr (sizeof(T) == sizeof(float))
        TDM_LAUNCH((attend_rows<Keys<C>, causal>), grid, kThreads, 0, stream, args);
    else
        TDM_LAUNCH((attend_tiles<T, Keys<C>, causal>), grid, kThreads, 0, stream, args);
}

} // namespace

extern "C" cudaError_t tdmk_attend_prefill(tdm_mat y, tdm_mat qkv, tdmk_cache cache, int32_t layer,
                                           const tdm_step *step, cudaStream_t stream)
{
    if (step->n_rows == 0)
        return cudaSuccess;
    if (!tdm_attention_fits(y, qkv, step) || !tdm_cache_fits(cache, layer, y, step) ||
        !ragged_fits(step, y.cols))
        return cudaErrorInvalidValue;
    const attend_args args = {y.p,
                              qkv.p,
                              tdm_stride(y),
                              tdm_stride(qkv),
                              cache.heads,
                              tdm_view(cache, layer, step),
                              step->starts,
                              step->slots,
                              step->positions};
    const dim3 grid(step->n_seqs, (step->longest + kAppendRows - 1) / kAppendRows);
    TDM_DISPATCH(y.dtype, T, {
        TDM_DISPATCH(cache.dtype, C, {
            TDM_LAUNCH((append<T, C>), grid, kThreads, 0, stream, args);
            const cudaError_t e = cudaGetLastError();
            if (e != cudaSuccess)
                return e;
            launch<T, cached_keys, C, true>(args, step, stream);
        });
    });
    return cudaGetLastError();
}

extern "C" cudaError_t tdmk_attend_packed(tdm_mat y, tdm_mat qkv, const tdm_step *step, bool causal,
                                          cudaStream_t stream)
{
    if (step->n_rows == 0)
        return cudaSuccess;
    if (!tdm_attention_fits(y, qkv, step) || !ragged_fits(step, y.cols))
        return cudaErrorInvalidValue;
    const attend_args args = {y.p, qkv.p,        tdm_stride(y), tdm_stride(qkv), y.cols / TDM_HEAD,
                              {},  step->starts, nullptr,       nullptr};
    TDM_DISPATCH(y.dtype, T, {
        if (causal)
            launch<T, packed_keys, T, true>(args, step, stream);
        else
            launch<T, packed_keys, T, false>(args, step, stream);
    });
    return cudaGetLastError();
}
