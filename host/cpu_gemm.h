/* host/cpu_gemm.h - the matrix product; compiled once per instruction set.
 *
 * An element of y is the sum of blocks of CPU_DEPTH products; a block is summed from 0 in rising
 * order of the input index, each step one multiply-add; the blocks are added in rising order; then bias,
 * then the epilogue. The tile below does so whatever its number of rows. */
#ifndef HOST_CPU_GEMM_H
#define HOST_CPU_GEMM_H

#include "host/cpu.h"
#include "host/cpu_vector.h"

enum { PANEL = PANEL_VECTORS * LANES, LINE = CPU_LINE / 4 /* floats of a cache line */ };

/* c[rows, PANEL] = or += a[rows, depth] @ b[depth, PANEL] */
typedef struct {
    const float *a, *b;
    float *c;
    size_t a_stride, b_stride, c_stride; /* floats between rows */
    size_t depth;
    bool add;
    const float *ahead; /* memory that is wanted soon: [depth] cache lines; b where there is none */
} tile_job;

/* For a number of rows known at compile time: the sums stay in registers. */
INLINE void tile(int rows, const tile_job *job)
{
    vec sum[CPU_GROUP][PANEL_VECTORS];
    const float *a = job->a, *b = job->b, *ahead = job->ahead;
    const size_t a_stride = job->a_stride, b_stride = job->b_stride, depth = job->depth;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            sum[r][j] = (vec){0};
    for (size_t k = 0; k < depth; k++, b += b_stride, ahead += LINE) {
        vec row[PANEL_VECTORS];
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            row[j] = load(b + j * LANES);
        __builtin_prefetch(ahead, 0, 2);
        UNROLL for (int r = 0; r < rows; r++) {
            const float x = a[(size_t)r * a_stride + k];
            UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
                sum[r][j] += x * row[j];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++) {
            float *p = job->c + (size_t)r * job->c_stride + j * LANES;
            store(p, job->add ? load(p) + sum[r][j] : sum[r][j]);
        }
}

static void tile_rows(size_t rows, const tile_job *job)
{
    switch (rows) {
    case 1:
        tile(1, job);
        break;
    case 2:
        tile(2, job);
        break;
    case 3:
        tile(3, job);
        break;
    case 4:
        tile(4, job);
        break;
    case 5:
        tile(5, job);
        break;
    default:
        tile(6, job);
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

/* Depth block k of the panels: c = or += x @ panels. While a panel is multiplied, the memory of the
 * next is asked for, spread over the first row groups; asking beyond the last is harmless. x is read where
 * it lies: CPU_GROUP rows at a time fit the cache even when their stride is a multiple of 4096 bytes. */
static void multiply_block(const cpu_product *p, const float *x, size_t n_rows,
                           const float *panels, size_t n_panels, size_t k, float *c)
{
    const size_t left = p->in - k, depth = left < CPU_DEPTH ? left : CPU_DEPTH;
    tile_job job = {.a_stride = p->in, .b_stride = PANEL, .c_stride = n_panels * PANEL,
                    .depth = depth, .add = k > 0};
    for (size_t j = 0; j < n_panels; j++) {
        const bool last = j + 1 == n_panels;
        const float *next = !last ? panels + ((j + 1) * p->in + k) * PANEL
                            : left > CPU_DEPTH ? panels + (k + CPU_DEPTH) * PANEL : NULL;
        job.b = panels + (j * p->in + k) * PANEL;
        for (size_t r = 0; r < n_rows; r += CPU_GROUP) {
            const size_t done = r / CPU_GROUP * depth * LINE;
            job.a = x + r * p->in;
            job.c = c + r * job.c_stride + j * PANEL;
            job.ahead = next && done + depth * LINE <= depth * PANEL ? next + done : job.b;
            tile_rows(n_rows - r < CPU_GROUP ? n_rows - r : CPU_GROUP, &job);
        }
    }
}

/* One rectangle of y: column is a multiple of PANEL. */
static void multiply(const cpu_product *p, size_t row, size_t n_rows, size_t column,
                     size_t n_columns, float *scratch)
{
    const size_t n_panels = (n_columns + PANEL - 1) / PANEL;
    const float *panels = p->panels + column * p->in;
    for (size_t k = 0; k < p->in; k += CPU_DEPTH)
        multiply_block(p, p->x + row * p->in + k, n_rows, panels, n_panels, k, scratch);
    for (size_t r = 0; r < n_rows; r++)
        finish_row(p->y + (row + r) * p->y_stride + column, scratch + r * n_panels * PANEL,
                   p->bias ? p->bias + column : NULL, n_columns, p->epilogue);
}

#endif
