/* kernels/attention.cuh - what decode.cu and attention.cu share: the scale, vectors, and the cache.
 */
#ifndef KERNELS_ATTENTION_CUH
#define KERNELS_ATTENTION_CUH

#include "kernels/element.cuh"
#include "kernels/kernels.h"

/* 1/8, and log2(e) because the softmax is taken with powers of two. */
constexpr float kAttentionScale = 0.125f * 1.4426950408889634f;

constexpr unsigned kAll = 0xffffffff; /* lanes */

/* N consecutive values, moved in pieces of 8 or 16 bytes. */
template <bool wide> struct tdm_piece {
    using type = uint4;
};
template <> struct tdm_piece<false> {
    using type = uint2;
};
template <int N, class T> __device__ __forceinline__ void tdm_load(float (&x)[N], const T *p)
{
    using piece = typename tdm_piece<N * sizeof(T) % 16 == 0>::type;
    constexpr int kEach = sizeof(piece) / sizeof(T);
    T values[N];
#pragma unroll
    for (int i = 0; i < N; i += kEach) {
        const piece bits = *reinterpret_cast<const piece *>(p + i);
        memcpy(values + i, &bits, sizeof bits);
    }
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = tdm_float(values[i]);
}
template <int N, class T> __device__ __forceinline__ void tdm_store(T *p, const float (&x)[N])
{
    using piece = typename tdm_piece<N * sizeof(T) % 16 == 0>::type;
    constexpr int kEach = sizeof(piece) / sizeof(T);
    T values[N];
#pragma unroll
    for (int i = 0; i < N; i++)
        values[i] = tdm_round<T>(x[i]);
#pragma unroll
    for (int i = 0; i < N; i += kEach) {
        piece bits;
        memcpy(&bits, values + i, sizeof bits);
        *reinterpret_cast<piece *>(p + i) = bits;
    }
}

/* A cache as a kernel sees it: one head of a layer in a page is TDM_PAGE keys, its values lie
 * `values` further on, and the next page `page` further on (in elements). */
struct tdm_cache_view {
    void *p; /* of the layer's first head in page 0 */
    int64_t values, page;
    const int32_t *pages;
    int text_pages;
};
template <class C>
__device__ __forceinline__ C *tdm_cache_head(const tdm_cache_view &cache, int head)
{
    return static_cast<C *>(cache.p) + (size_t)head * TDM_PAGE * TDM_HEAD;
}

/* ---- host ---- */

static inline int32_t tdm_stride(tdm_mat m)
{
    return m.stride ? m.stride : m.cols;
}

/* Are y [rows, E] and qkv [rows, 3E] what the attention kernels can read and write? */
static inline bool tdm_attention_fits(tdm_mat y, tdm_mat qkv, const tdm_step *step)
{
    const int32_t strides = tdm_stride(y) | tdm_stride(qkv);
    const uintptr_t places = (uintptr_t)y.p | (uintptr_t)qkv.p;
    return step->n_rows >= 0 && y.p && qkv.p && places % 16 == 0 && strides % 8 == 0 &&
           strides < 1 << 24 && y.dtype == qkv.dtype && y.cols > 0 && y.cols % TDM_HEAD == 0 &&
           qkv.cols == (int64_t)3 * y.cols && tdm_stride(y) >= y.cols &&
           tdm_stride(qkv) >= qkv.cols && y.rows >= step->n_rows && qkv.rows >= step->n_rows;
}

static inline bool tdm_cache_fits(tdmk_cache cache, int32_t layer, tdm_mat y, const tdm_step *step)
{
    return cache.p && (uintptr_t)cache.p % 16 == 0 && cache.heads == y.cols / TDM_HEAD &&
           layer >= 0 && layer < cache.layers && cache.text_pages > 0 && step->slots &&
           step->positions && step->pages;
}

static inline tdm_cache_view tdm_view(tdmk_cache cache, int32_t layer, const tdm_step *step)
{
    const int64_t values = (int64_t)cache.heads * TDM_PAGE * TDM_HEAD;
    char *const p = static_cast<char *>(cache.p) + layer * 2 * values * tdm_dtype_size(cache.dtype);
    return {p, values, cache.layers * 2 * values, step->pages, cache.text_pages};
}

#endif
