/* tools/bench_operands.c - memory of the backend with values that look random: on zeros a machine
 * is faster than on data. */
#include <stdlib.h>

#include "tools/bench_common.h"

enum { PIECE = 4 << 20 }; /* values that are made at once; their pattern repeats */

void bench_random(void *dst, tdm_dtype dtype, size_t n, float scale, uint64_t seed)
{
    enum { AT_ONCE = 1024 };
    float values[AT_ONCE];
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (size_t at = 0; at < n; at += AT_ONCE) {
        const size_t now = n - at < AT_ONCE ? n - at : AT_ONCE;
        for (size_t i = 0; i < now; i++) {
            state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
            state ^= state >> 7;
            state ^= state << 17;
            values[i] = scale * ((float)(state >> 40) * 0x1p-23f - 1);
        }
        tdm_from_f32((char *)dst + at * tdm_dtype_size(dtype), dtype, values, now);
    }
}

void bench_pool_free(const bench *b, bench_pool *pool)
{
    for (size_t i = 0; i < pool->n; i++)
        tdm_release(&b->backend, pool->items[i]);
    pool->n = 0;
}

static tdm_status take(const bench *b, bench_pool *pool, size_t bytes, void **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(pool->n < COUNT(pool->items), TDM_EINTERNAL, "%zu operands", pool->n);
    TDM_TRY(tdm_alloc(&b->backend, bytes, out, err));
    pool->items[pool->n++] = *out;
done:
    return st;
}

tdm_status bench_matrix(const bench *b, bench_pool *pool, int64_t rows, int32_t cols,
                        int32_t stride, tdm_dtype dtype, float scale, tdm_mat *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t size = tdm_dtype_size(dtype);
    const size_t n = (size_t)rows * (size_t)(stride ? stride : cols), piece = n < PIECE ? n : PIECE;
    void *values = malloc(piece * size);
    TDM_REQUIRE(values, TDM_ENOMEM, "%zu values", piece);
    *out = (tdm_mat){.rows = rows, .cols = cols, .dtype = dtype, .stride = stride};
    TDM_TRY(take(b, pool, n * size, &out->p, err));
    bench_random(values, dtype, piece, scale, pool->n);
    for (size_t at = 0; at < n; at += piece)
        TDM_TRY(tdm_upload(&b->backend, (char *)out->p + at * size, values,
                           (n - at < piece ? n - at : piece) * size, err));
done:
    free(values);
    return st;
}

tdm_status bench_copy(const bench *b, bench_pool *pool, const void *src, size_t bytes, void **out,
                      tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(take(b, pool, bytes, out, err));
    TDM_TRY(tdm_upload(&b->backend, *out, src, bytes, err));
done:
    return st;
}
