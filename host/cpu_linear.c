/* host/cpu_linear.c - weights packed into column panels, and the loop over rectangles of the product. */
#include <stdlib.h>

#include "host/buf.h"
#include "host/cpu.h"

/* Panel p holds the columns p * width .. of W as [in][width] f32, so that a register tile reads it from
 * front to back; columns beyond the last are zero. */
typedef struct {
    tdm_weight shape; /* first: what the front door sees */
    float *panels;
} cpu_weight;

typedef struct {
    const void *src;
    float *panels;
    size_t in, out, width;
    tdm_dtype dtype;
    tdm_layout layout;
} pack_job;

/* Columns first .. first + n of a matrix whose rows are inputs. */
static void pack_in_out(const pack_job *job, float *panel, size_t first, size_t n)
{
    const size_t size = tdm_dtype_size(job->dtype);
    for (size_t k = 0; k < job->in; k++) {
        const char *src = (const char *)job->src + (k * job->out + first) * size;
        tdm_to_f32(panel + k * job->width, src, job->dtype, n);
    }
}

/* The same of a matrix whose rows are outputs. */
static void pack_out_in(const pack_job *job, float *panel, size_t first, size_t n)
{
    enum { STEP = 64 };
    const size_t size = tdm_dtype_size(job->dtype);
    float part[STEP];
    for (size_t k = 0; k < job->in; k += STEP) {
        const size_t depth = job->in - k < STEP ? job->in - k : STEP;
        for (size_t j = 0; j < n; j++) {
            const char *src = (const char *)job->src + ((first + j) * job->in + k) * size;
            tdm_to_f32(part, src, job->dtype, depth);
            for (size_t i = 0; i < depth; i++)
                panel[(k + i) * job->width + j] = part[i];
        }
    }
}

static void pack_panel(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    (void)lane;
    const pack_job *job = arg;
    float *panel = job->panels + i * job->in * job->width;
    const size_t first = i * job->width;
    const size_t n = job->out - first < job->width ? job->out - first : job->width;
    for (size_t k = 0; n < job->width && k < job->in; k++)
        for (size_t j = n; j < job->width; j++)
            panel[k * job->width + j] = 0;
    if (job->layout == TDM_IN_OUT)
        pack_in_out(job, panel, first, n);
    else
        pack_out_in(job, panel, first, n);
}

tdm_status cpu_weight_open(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                           tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    cpu_backend *be = self;
    tdm_status st = TDM_OK;
    const size_t width = be->kernels->width, n_panels = ((size_t)out + width - 1) / width;
    size_t bytes = 0;
    cpu_weight *weight = calloc(1, sizeof *weight);
    TDM_REQUIRE(weight, TDM_ENOMEM, "weight handle");
    weight->shape = (tdm_weight){in, out};
    TDM_REQUIRE(tdm_mul_size((size_t)in * sizeof(float), n_panels * width, &bytes), TDM_ENOMEM,
                "a weight of %d x %d", in, out);
    weight->panels = cpu_memory(bytes);
    TDM_REQUIRE(weight->panels, TDM_ENOMEM, "%zu bytes for a weight of %d x %d", bytes, in, out);
    const pack_job job = {src, weight->panels, (size_t)in, (size_t)out, width, dtype, layout};
    cpu_run(be, n_panels, pack_panel, &job);
    *w = &weight->shape;
    weight = NULL;
done:
    cpu_weight_close(self, weight ? &weight->shape : NULL);
    return st;
}

void cpu_weight_close(void *self, tdm_weight *w)
{
    (void)self;
    cpu_weight *weight = (cpu_weight *)w;
    if (weight)
        free(weight->panels);
    free(weight);
}

enum { COLUMN_STEP = 64 }; /* a multiple of every panel width */

typedef struct {
    cpu_product product;
    size_t n_rows, chunk_rows, n_chunks, columns; /* rectangles of chunk_rows x columns */
} linear_job;

static void linear_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    const linear_job *job = arg;
    const size_t row = i % job->n_chunks * job->chunk_rows;
    const size_t column = i / job->n_chunks * job->columns;
    const size_t rows = job->n_rows - row, columns = job->product.out - column;
    be->kernels->multiply(&job->product, row, rows < job->chunk_rows ? rows : job->chunk_rows,
                          column, columns < job->columns ? columns : job->columns, lane->scratch);
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

tdm_status cpu_linear(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w, const tdm_mat *bias,
                      tdm_epilogue epilogue, tdm_err *err)
{
    (void)err;
    cpu_backend *be = self;
    linear_job job = {
        .product = {y.p, x.p, ((const cpu_weight *)w)->panels, bias ? bias->p : NULL,
                    (size_t)w->in, (size_t)w->out, cpu_stride(&y), epilogue},
        .n_rows = (size_t)x.rows,
    };
    if (!x.rows)
        return TDM_OK;
    /* Chunks of rows as equal as whole register tiles allow; of columns enough for every thread to find
     * several, whole panels each. Neither choice changes a bit of the result. */
    const size_t tiles = ceil_div(job.n_rows, CPU_GROUP), out = (size_t)w->out;
    job.chunk_rows = ceil_div(tiles, ceil_div(job.n_rows, CPU_ROWS)) * CPU_GROUP;
    job.n_chunks = ceil_div(job.n_rows, job.chunk_rows);
    const size_t wanted = ceil_div(be->n_lanes > 1 ? 4 * be->n_lanes : 1, job.n_chunks);
    const size_t columns = ceil_div(ceil_div(out, wanted), COLUMN_STEP) * COLUMN_STEP;
    job.columns = job.n_rows <= CPU_GROUP ? COLUMN_STEP
                  : columns < CPU_COLUMNS ? columns : CPU_COLUMNS;
    cpu_run(be, ceil_div(out, job.columns) * job.n_chunks, linear_item, &job);
    return TDM_OK;
}
