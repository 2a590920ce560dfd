/* host/cpu_gemm.h - the matrix product; compiled once per instruction set.
 *
 * An element of y is the sum of blocks of CPU_DEPTH products; a block is summed from 0 in rising
 * order of the input index, each step one multiply-add; the blocks are added in rising order; then bias,
 * then the epilogue. The tile below does so whatever its number of rows. */
#ifndef HOST_CPU_GEMM_H
#define HOST_CPU_GEMM_H

#include "host/cpu.h"
#include "host/cpu_vector.h"

enum { PANEL = PANEL_VECTORS * LANES };

/* c[rows, PANEL] = or += a[rows, depth] @ b[depth, PANEL], for rows known at compile time: the sums
 * stay in registers. */
INLINE void tile(int rows, const float *a, size_t a_stride, const float *b, size_t b_stride,
                 float *c, size_t c_stride, size_t depth, int add)
{
    vec sum[CPU_GROUP][PANEL_VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            sum[r][j] = (vec){0};
    for (size_t k = 0; k < depth; k++, b += b_stride) {
        vec row[PANEL_VECTORS];
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            row[j] = load(b + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            const float x = a[(size_t)r * a_stride + k];
            UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
                sum[r][j] += x * row[j];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++) {
            float *p = c + (size_t)r * c_stride + j * LANES;
            store(p, add ? load(p) + sum[r][j] : sum[r][j]);
        }
}

static void tile_rows(size_t rows, const float *a, size_t a_stride, const float *b, size_t b_stride,
                      float *c, size_t c_stride, size_t depth, int add)
{
    switch (rows) {
    case 1:
        tile(1, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    case 2:
        tile(2, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    case 3:
        tile(3, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    case 4:
        tile(4, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    case 5:
        tile(5, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    default:
        tile(6, a, a_stride, b, b_stride, c, c_stride, depth, add);
        break;
    }
}

INLINE vec apply(vec v, tdm_epilogue epilogue)
{
    switch (epilogue) {
    case TDM_GELU_TANH:
        return gelu_tanh(v);
    case TDM_GELU_ERF:
        return gelu_erf(v);
    case TDM_TANH:
        return vec_tanh(v);
    default:
        return v;
    }
}

static void apply_all(float *y, size_t n, tdm_epilogue epilogue)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, apply(load(y + i), epilogue));
    if (i < n)
        store_some(y + i, apply(load_some(y + i, n - i), epilogue), n - i);
}

/* y = epilogue(sum + bias), n columns of one row. */
static void finish_row(float *y, const float *sum, const float *bias, size_t n,
                       tdm_epilogue epilogue)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = bias ? load(sum + i) + load(bias + i) : load(sum + i);
        store(y + i, apply(v, epilogue));
    }
    if (i < n) {
        const vec v = load_some(sum + i, n - i);
        const vec b = bias ? load_some(bias + i, n - i) : (vec){0};
        store_some(y + i, apply(bias ? v + b : v, epilogue), n - i);
    }
}

/* One rectangle of y: column is a multiple of PANEL. The rows of x are copied block by block, so that
 * their stride in memory (often a multiple of 4096 bytes) cannot make them evict each other. */
static void multiply(const cpu_product *p, size_t row, size_t n_rows, size_t column,
                     size_t n_columns, float *scratch)
{
    float *a = scratch, *c = scratch + CPU_ROWS * CPU_DEPTH;
    const size_t n_panels = (n_columns + PANEL - 1) / PANEL, c_stride = n_panels * PANEL;
    for (size_t k = 0; k < p->in; k += CPU_DEPTH) {
        const size_t depth = p->in - k < CPU_DEPTH ? p->in - k : CPU_DEPTH;
        for (size_t r = 0; r < n_rows; r++)
            memcpy(a + r * CPU_DEPTH, p->x + (row + r) * p->in + k, depth * sizeof *a);
        for (size_t j = 0; j < n_panels; j++) {
            const float *b = p->panels + ((column / PANEL + j) * p->in + k) * PANEL;
            for (size_t r = 0; r < n_rows; r += CPU_GROUP) {
                const size_t rows = n_rows - r < CPU_GROUP ? n_rows - r : CPU_GROUP;
                tile_rows(rows, a + r * CPU_DEPTH, CPU_DEPTH, b, PANEL,
                          c + r * c_stride + j * PANEL, c_stride, depth, k > 0);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        finish_row(p->y + (row + r) * p->out + column, c + r * c_stride,
                   p->bias ? p->bias + column : NULL, n_columns, p->epilogue);
}

#endif
