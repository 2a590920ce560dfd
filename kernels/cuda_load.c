/* kernels/cuda_load.c - weights and the cache of keys and values, in the memory of the device. */
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "kernels/cuda.h"

/* ---- weights ---- */

/* The rows of the file pass through the ring and the landing area in pieces of whole rows; the
 * device lays them out while the host copies the next piece. */
static tdm_status stream_rows(cuda_backend *c, void *dst, const void *src, tdm_dtype dtype,
                              int32_t in, int32_t out, tdm_layout layout, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t rows = layout == TDM_IN_OUT ? in : out;
    const size_t row_bytes =
        (size_t)(layout == TDM_IN_OUT ? out : in) * tdm_dtype_size(dtype); /* <= 2^33 */
    TDM_REQUIRE(row_bytes <= CUDA_SEGMENT_BYTES, TDM_EARG,
                "a matrix with rows of %zu bytes, at most %d", row_bytes, CUDA_SEGMENT_BYTES);
    for (int32_t first = 0; first < rows;) {
        void *staged = NULL;
        size_t room = 0;
        TDM_TRY(cuda_ring_room(c, row_bytes, &staged, &room, err));
        const size_t fits = room / row_bytes;
        const int32_t n = fits < (size_t)(rows - first) ? (int32_t)fits : rows - first;
        const size_t bytes = (size_t)n * row_bytes;
        memcpy(staged, (const char *)src + (size_t)first * row_bytes, bytes);
        cuda_ring_filled(c, bytes);
        TDM_TRY(cuda_check(
            cudaMemcpyAsync(c->landing, staged, bytes, cudaMemcpyHostToDevice, c->stream), "upload",
            err));
        TDM_TRY(cuda_enqueued(
            c, tdmk_lay_out(dst, c->dtype, c->landing, dtype, in, out, layout, first, n, c->stream),
            "laying out a weight", err));
        first += n;
    }
done:
    return st;
}

static const char *weight_hint(const cuda_backend *c)
{
    return c->dtype == TDM_F32 ? "--dtype f16 takes half"
                               : "the model is too large for this device";
}

tdm_status cuda_weight_open(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                            tdm_layout layout, tdm_weight **weight, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    const size_t item = tdm_dtype_size(c->dtype);
    size_t bytes = 0;
    *weight = NULL;
    cuda_weight *w = calloc(1, sizeof *w);
    TDM_REQUIRE(w, TDM_ENOMEM, "weight");
    w->shape = (tdm_weight){in, out};
    memset(w->plans, -1, sizeof w->plans);
    TDM_REQUIRE(in % 8 == 0 && out <= INT32_MAX - 64, TDM_EARG,
                "a weight of %d inputs, CUDA wants a multiple of 8", in);
    TDM_REQUIRE(tdm_mul_size((size_t)tdm_padded(out), (size_t)in * item, &bytes), TDM_ENOMEM,
                "a weight of %d x %d", in, out);
    TDM_TRY(cuda_take(bytes, "a weight", weight_hint(c), &w->p, err));
    const size_t used = (size_t)out * (size_t)in * item;
    if (used < bytes) /* the outputs that fill up the last 64 are zeros */
        TDM_TRY(cuda_check(cudaMemsetAsync((char *)w->p + used, 0, bytes - used, c->stream),
                           "weight", err));
    TDM_TRY(stream_rows(c, w->p, src, dtype, in, out, layout, err));
    *weight = &w->shape;
    w = NULL;
done:
    if (w)
        cuda_weight_close(c, &w->shape);
    return st;
}

void cuda_weight_close(void *self, tdm_weight *weight)
{
    cuda_weight *w = (cuda_weight *)weight;
    cuda_release(self, w->p);
    free(w);
}

/* ---- keys and values ---- */

size_t cuda_kv_page_bytes(void *self, int32_t layers, int32_t heads)
{
    const cuda_backend *c = self;
    const size_t head_bytes = (size_t)2 * TDM_PAGE * TDM_HEAD * tdm_dtype_size(c->kv_dtype);
    size_t bytes = 0;
    if (!tdm_mul_size((size_t)layers * (size_t)heads, head_bytes, &bytes)) /* 2^31 x 2^31 fits */
        return SIZE_MAX;
    return bytes;
}

tdm_status cuda_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages,
                        int32_t text_pages, tdm_kv **kv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    size_t bytes = 0;
    const char *hint = c->kv_dtype == TDM_F32 ? "--batch N with a smaller N, or --kv-dtype f16"
                                              : "--batch N with a smaller N takes less";
    *kv = NULL;
    cuda_kv *k = calloc(1, sizeof *k);
    TDM_REQUIRE(k, TDM_ENOMEM, "cache");
    k->page_bytes = cuda_kv_page_bytes(c, layers, heads);
    TDM_REQUIRE(tdm_mul_size(k->page_bytes, (size_t)pages, &bytes), TDM_ENOMEM,
                "a cache of %d layers x %d heads x %d pages", layers, heads, pages);
    k->shape = (tdm_kv){layers, heads, pages, text_pages};
    k->cache = (tdmk_cache){.dtype = c->kv_dtype,
                            .layers = layers,
                            .heads = heads,
                            .pages = pages,
                            .text_pages = text_pages};
    TDM_TRY(cuda_take(bytes, "a cache of keys and values", hint, &k->cache.p, err));
    *kv = &k->shape;
    k = NULL;
done:
    free(k);
    return st;
}

void cuda_kv_close(void *self, tdm_kv *kv)
{
    cuda_kv *k = (cuda_kv *)kv;
    cuda_release(self, k->cache.p);
    free(k);
}

tdm_status cuda_kv_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err)
{
    const cuda_backend *c = self;
    const cuda_kv *k = (const cuda_kv *)kv;
    char *p = k->cache.p;
    return cuda_enqueued(c,
                         cudaMemcpyAsync(p + (size_t)to * k->page_bytes,
                                         p + (size_t)from * k->page_bytes, k->page_bytes,
                                         cudaMemcpyDeviceToDevice, c->stream),
                         "copy of a page", err);
}
