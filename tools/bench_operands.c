/* tools/bench_operands.c - memory of the backend with values that look random: on zeros a machine is faster
 * than on data. */
#include <stdlib.h>
#include <string.h>

#include "tools/bench_common.h"

enum { PIECE = 4 << 20 }; /* values that are made at once; their pattern repeats */

/* The two 16-bit types, for values whose exponent they hold: |x| is 0 or from 2^-14 to 2. */
static uint16_t to_half(float x, tdm_dtype dtype)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int drop = dtype == TDM_F16 ? 13 : 16;
    const uint32_t sign = bits >> 16 & 0x8000;
    uint32_t rest = bits & 0x7fffffff;
    if (dtype == TDM_F16) {
        if (rest < 0x38800000) /* 2^-14 */
            return (uint16_t)sign;
        rest -= 112u << 23; /* the two biases differ */
    }
    return (uint16_t)(sign | (rest + (1u << (drop - 1)) - 1 + (rest >> drop & 1)) >> drop);
}

void bench_narrow(void *dst, tdm_dtype dtype, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (dtype == TDM_F32)
            ((float *)dst)[i] = values[i];
        else
            ((uint16_t *)dst)[i] = to_half(values[i], dtype);
}

void bench_random(void *dst, tdm_dtype dtype, size_t n, float scale, uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
        state ^= state >> 7;
        state ^= state << 17;
        const float x = scale * ((float)(state >> 40) * 0x1p-23f - 1);
        if (dtype == TDM_F32)
            ((float *)dst)[i] = x;
        else
            ((uint16_t *)dst)[i] = to_half(x, dtype);
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

tdm_status bench_matrix(const bench *b, bench_pool *pool, int64_t rows, int32_t cols, int32_t stride,
                        tdm_dtype dtype, float scale, tdm_mat *out, tdm_err *err)
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
