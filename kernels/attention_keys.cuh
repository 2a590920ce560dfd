/* kernels/attention_keys.cuh - what a block of attention.cu works on: its rows, and where its keys
 * come from. A source of keys has their type, `element`; first_position(args, row), the position of
 * a text's first row of this step; and page(tile), then tile(page), the place of 64 keys, in two
 * calls so that the first can be made early. */
#ifndef KERNELS_ATTENTION_KEYS_CUH
#define KERNELS_ATTENTION_KEYS_CUH

#include "kernels/attention.cuh"

namespace
{

constexpr int kKeys = TDM_PAGE; /* of a tile: a tile is a page */

struct attend_args {
    void *y;
    const void *qkv;
    int y_stride, qkv_stride; /* elements; 128 rows are less than 2^31 */
    int heads;
    tdm_cache_view cache; /* of a prefill */
    const int32_t *starts, *slots, *positions;
};

template <class C> struct key_tile {
    const C *keys, *values;
    int stride;
};

/* The columns of qkv: tile i is rows 64 i .. 64 i + 63 of the text. */
template <class T> struct packed_keys {
    using element = T;
    const T *keys;
    int width, stride;
    __device__ packed_keys(const attend_args &a, int text, int head)
        : width(a.heads * TDM_HEAD), stride(a.qkv_stride)
    {
        keys = static_cast<const T *>(a.qkv) + (int64_t)a.starts[text] * stride + width +
               head * TDM_HEAD;
    }
    static __device__ int first_position(const attend_args &, int)
    {
        return 0;
    }
    __device__ int page(int tile) const
    {
        return tile;
    }
    __device__ key_tile<T> tile(int page) const
    {
        const T *const first = keys + (int64_t)page * kKeys * stride;
        return {first, first + width, stride};
    }
};

/* The pages of a slot: tile i is page i. */
template <class C> struct cached_keys {
    using element = C;
    const C *keys;
    const int32_t *pages;
    int64_t values, page_size;
    __device__ cached_keys(const attend_args &a, int text, int head)
        : keys(tdm_cache_head<C>(a.cache, head)),
          pages(a.cache.pages + (int64_t)a.slots[text] * a.cache.text_pages),
          values(a.cache.values), page_size(a.cache.page)
    {
    }
    static __device__ int first_position(const attend_args &a, int start)
    {
        return a.positions[start];
    }
    __device__ int page(int tile) const
    {
        return pages[tile];
    }
    __device__ key_tile<C> tile(int page) const
    {
        return {keys + page * page_size, keys + page * page_size + values, TDM_HEAD};
    }
};

/* The rows of a block: row0 .. of the text, whose first row is row `start` of the batch and has
 * position `first`. The last tiles of a text come first: causal, they take longest. n is 0 beyond
 * the text. */
struct block_rows {
    int start, n, row0, first;
};
template <class Keys> __device__ __forceinline__ block_rows rows_of(const attend_args &a, int rows)
{
    const int start = a.starts[blockIdx.x], n = a.starts[blockIdx.x + 1] - start;
    const int tile = (n + rows - 1) / rows - 1 - (int)blockIdx.y;
    if (tile < 0)
        return {};
    return {start, n, tile * rows, Keys::first_position(a, start)};
}

} // namespace

#endif
