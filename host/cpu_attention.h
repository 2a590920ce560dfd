/* host/cpu_attention.h - softmax attention of some rows of one text and head; compiled once per
 * instruction set.
 *
 * A row walks the key blocks from the first to its last: scores of 64 keys, running maximum, weights
 * e^(score - maximum), weighted sum of the values in rising order of the keys; the sums of earlier blocks are
 * rescaled when the maximum rises. Blocks are counted from key 0, and keys that a row does not see
 * are never multiplied in, so neither the other rows nor what lies behind the last key matter. */
#ifndef HOST_CPU_ATTENTION_H
#define HOST_CPU_ATTENTION_H

#include "host/cpu.h"
#include "host/cpu_gemm.h"

enum { KEY_VECTORS = CPU_KEYS / LANES, HEAD_VECTORS = TDM_HEAD / LANES };

typedef struct {
    _Alignas(CPU_LINE) float q[CPU_QUERIES][TDM_HEAD]; /* times 1/8: exact */
    float weights[CPU_QUERIES][CPU_KEYS];               /* scores first */
    float sums[CPU_QUERIES][TDM_HEAD];
    float part[CPU_GROUP][TDM_HEAD]; /* weighted values of one block */
    float largest[CPU_QUERIES], total[CPU_QUERIES], rescale[CPU_QUERIES];
} attention_rows;

/* Keys of the block from `first` on that row r sees, 0 to CPU_KEYS. */
INLINE size_t seen(const cpu_attention *a, size_t r, size_t first)
{
    const size_t keys = a->n_keys + r * a->step;
    return keys <= first ? 0 : keys - first < CPU_KEYS ? keys - first : CPU_KEYS;
}

/* Scores of n keys to weights; brings largest, total and rescale of row r up to date. */
static void soften(attention_rows *s, size_t r, size_t n)
{
    const ivec lanes = lane_numbers();
    float *w = s->weights[r];
    vec v[KEY_VECTORS], top = splat(s->largest[r]), sum = {0};
    UNROLL for (int j = 0; j < KEY_VECTORS; j++) {
        const ivec inside = lanes < (int32_t)n - j * LANES;
        v[j] = choose(inside, load(w + j * LANES), splat(-__builtin_inff()));
        top = choose(v[j] > top, v[j], top);
    }
    const float largest = max_lanes(top);
    UNROLL for (int j = 0; j < KEY_VECTORS; j++) {
        const vec e = vec_exp(v[j] - largest);
        store(w + j * LANES, e);
        sum += e;
    }
    vec change = splat(s->largest[r] - largest);
    change = vec_exp(change);
    s->rescale[r] = change[0];
    s->total[r] = s->total[r] * s->rescale[r] + sum_lanes(sum);
    s->largest[r] = largest;
}

/* sums = sums * rescale + weights @ values for the rows r .. r + rows - 1 of one group. */
static void add_values(const cpu_attention *a, attention_rows *s, size_t row, size_t r, size_t rows,
                       const float *values, size_t first)
{
    size_t common = seen(a, row + r, first); /* the first row sees least */
    tile_job job = {.a = s->weights[r], .a_stride = CPU_KEYS, .b_stride = TDM_HEAD,
                    .c_stride = TDM_HEAD, .depth = common};
    for (size_t j = 0; j < TDM_HEAD; j += PANEL) {
        job.b = job.ahead = values + j;
        job.c = s->part[0] + j;
        tile_rows(rows, &job);
    }
    for (size_t i = 0; i < rows; i++) {
        const size_t n = seen(a, row + r + i, first);
        if (!n)
            continue;
        UNROLL for (int j = 0; j < HEAD_VECTORS; j++) {
            vec part = load(s->part[i] + j * LANES);
            for (size_t k = common; k < n; k++)
                part += s->weights[r + i][k] * load(values + k * TDM_HEAD + j * LANES);
            float *sums = s->sums[r + i] + j * LANES;
            store(sums, load(sums) * s->rescale[r + i] + part);
        }
    }
}

/* One key block for the rows [row, row + n) of the text. */
static void attend_block(const cpu_attention *a, attention_rows *s, size_t row, size_t n,
                         size_t first)
{
    const size_t block = first / CPU_KEYS;
    const float *keys = a->blocks + (a->pages ? (size_t)a->pages[block] : block) * a->block_stride;
    for (size_t r = 0; r < n; r += CPU_GROUP) {
        const size_t rows = n - r < CPU_GROUP ? n - r : CPU_GROUP;
        if (!seen(a, row + r + rows - 1, first))
            continue;
        tile_job job = {.a = s->q[r], .a_stride = TDM_HEAD, .b_stride = CPU_KEYS,
                        .c_stride = CPU_KEYS, .depth = TDM_HEAD};
        for (size_t j = 0; j < CPU_KEYS; j += PANEL) {
            job.b = job.ahead = keys + j;
            job.c = s->weights[r] + j;
            tile_rows(rows, &job);
        }
        for (size_t i = r; i < r + rows; i++) {
            const size_t count = seen(a, row + i, first);
            if (count)
                soften(s, i, count);
        }
        add_values(a, s, row, r, rows, keys + CPU_KEYS * TDM_HEAD, first);
    }
}

static void attend(const cpu_attention *a)
{
    attention_rows s;
    for (size_t row = 0; row < a->n_rows; row += CPU_QUERIES) {
        const size_t n = a->n_rows - row < CPU_QUERIES ? a->n_rows - row : CPU_QUERIES;
        for (size_t r = 0; r < n; r++) {
            const float *q = a->q + (row + r) * a->q_stride;
            for (size_t j = 0; j < TDM_HEAD; j += LANES)
                store(s.q[r] + j, load(q + j) * 0.125f);
            s.largest[r] = -__builtin_inff();
            s.total[r] = 0;
        }
        memset(s.sums, 0, n * sizeof s.sums[0]);
        const size_t last = a->n_keys + (row + n - 1) * a->step;
        for (size_t first = 0; first < last; first += CPU_KEYS)
            attend_block(a, &s, row, n, first);
        for (size_t r = 0; r < n; r++)
            for (size_t j = 0; j < TDM_HEAD; j += LANES)
                store(a->y + (row + r) * a->y_stride + j, load(s.sums[r] + j) / s.total[r]);
    }
}

#endif
