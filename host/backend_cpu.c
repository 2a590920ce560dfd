#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/buf.h"
#include "host/cpu.h"
#include "host/memory.h"

/* ---- loops ---- */

typedef struct {
    cpu_backend *be;
    void (*item)(cpu_backend *be, cpu_lane *lane, const void *job, size_t i);
    const void *job;
    size_t n;
    _Atomic size_t next;
} run_state;

static void run_lane(void *ctx, size_t lane)
{
    run_state *run = ctx;
    for (;;) {
        const size_t i = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
        if (i >= run->n)
            return;
        run->item(run->be, &run->be->lanes[lane], run->job, i);
    }
}

void cpu_run(cpu_backend *be, size_t n,
             void (*item)(cpu_backend *be, cpu_lane *lane, const void *job, size_t i),
             const void *job)
{
    run_state run = {.be = be, .item = item, .job = job, .n = n};
    tdm_parallel(be->threads, n < be->n_lanes ? n : be->n_lanes, run_lane, &run);
}

/* ---- memory ---- */

void *cpu_memory(size_t bytes)
{
    const size_t huge = (size_t)2 << 20, align = bytes < 2 * huge ? CPU_ALIGN : huge;
    size_t rounded = 0;
    if (!tdm_add_size(bytes ? bytes : 1, align - 1, &rounded))
        return NULL;
    rounded = rounded / align * align;
    void *p = aligned_alloc(align, rounded);
    if (p && align == huge)
        madvise(p, rounded, MADV_HUGEPAGE); /* advice: where it fails, small pages do */
    return p;
}

static tdm_status cpu_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    (void)self;
    *out = cpu_memory(bytes);
    return *out ? TDM_OK : tdm_fail(err, TDM_ENOMEM, "%zu bytes of memory", bytes);
}

static void cpu_release(void *self, void *p)
{
    (void)self;
    free(p);
}

static tdm_status cpu_copy(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    (void)self;
    (void)err;
    if (bytes)
        memcpy(dst, src, bytes);
    return TDM_OK;
}

static size_t cpu_left(void *self)
{
    const cpu_backend *be = self;
    return tdm_available_memory() / (size_t)cpu_meeting_size(be->meeting);
}

/* Every operation has ended when it returns, so what is fetched is there at once. */
static tdm_status cpu_fetch_begin(void *self, int lane, const void *src, size_t bytes, tdm_err *err)
{
    cpu_backend *be = self;
    if (be->fetching[lane])
        return tdm_fail(err, TDM_EARG, "lane %d is in use", lane);
    be->fetching[lane] = true;
    return cpu_copy(be, be->fetched[lane], src, bytes, err);
}

static tdm_status cpu_fetch_end(void *self, int lane, const void **host, tdm_err *err)
{
    cpu_backend *be = self;
    if (!be->fetching[lane])
        return tdm_fail(err, TDM_EARG, "lane %d has no begin", lane);
    be->fetching[lane] = false;
    *host = be->fetched[lane];
    return TDM_OK;
}

static tdm_status cpu_sync(void *self, tdm_err *err)
{
    (void)self;
    (void)err;
    return TDM_OK; /* every operation has ended when it returns */
}

/* ---- operations on rows ---- */

/* Rows per item so that an item is worth handing to another thread: about 16384 values. */
static size_t rows_per_item(size_t cols)
{
    const size_t rows = 16384 / (cols ? cols : 1);
    return rows ? rows : 1;
}

static size_t n_items(int64_t rows, size_t per_item)
{
    return ((size_t)rows + per_item - 1) / per_item;
}

typedef struct {
    tdm_mat y, words, positions;
    const tdm_step *step;
    int32_t first_word, first_position;
} embed_job;

static const void *table_row(const tdm_mat *m, int64_t row)
{
    return (const char *)m->p + (size_t)row * (size_t)m->cols * tdm_dtype_size(m->dtype);
}

/* Where row r finds its token and position; -1: it is idle. */
static int64_t row_entry(const tdm_step *step, size_t r)
{
    if (step->starts)
        return (int64_t)r;
    const int32_t slot = step->slots[r];
    return slot < 0 || step->positions[slot] < 0 ? -1 : slot;
}

static void embed_rows(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    const embed_job *job = arg;
    const size_t width = (size_t)job->y.cols, per_item = rows_per_item(width);
    const size_t end = (i + 1) * per_item, n = (size_t)job->y.rows;
    for (size_t r = i * per_item; r < (end < n ? end : n); r++) {
        float *y = (float *)job->y.p + r * width;
        const int64_t from = row_entry(job->step, r);
        if (from < 0) {
            memset(y, 0, width * sizeof *y);
            continue;
        }
        const int64_t word = (int64_t)job->step->tokens[from] - job->first_word;
        if (word >= 0 && word < job->words.rows)
            tdm_to_f32(y, table_row(&job->words, word), job->words.dtype, width);
        else /* another rank has it */
            for (size_t j = 0; j < width; j++)
                y[j] = -0.0f; /* what adds nothing to a -0 either */
        if (!job->positions.p)
            continue;
        const void *place =
            table_row(&job->positions, job->first_position + (int64_t)job->step->positions[from]);
        for (size_t j = 0; j < width; j += CPU_COLUMNS) {
            const size_t m = width - j < CPU_COLUMNS ? width - j : CPU_COLUMNS;
            const size_t size = tdm_dtype_size(job->positions.dtype);
            tdm_to_f32(lane->scratch, (const char *)place + j * size, job->positions.dtype, m);
            for (size_t k = 0; k < m; k++)
                y[j + k] += lane->scratch[k];
        }
    }
}

static tdm_status cpu_embed(void *self, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                            tdm_mat positions, int32_t first_position, tdm_err *err)
{
    const embed_job job = {y, words, positions, step, first_word, first_position};
    const cpu_backend *be = self;
    for (int32_t r = 0; r < step->n_rows; r++) {
        const int64_t from = row_entry(step, (size_t)r);
        if (from < 0)
            continue;
        const int64_t token = step->tokens[from];
        const int64_t place = first_position + (int64_t)step->positions[from];
        if (!be->meeting && (token < 0 || token >= words.rows))
            return tdm_fail(err, TDM_EARG, "row %d: token %lld, want 0 to %lld", r,
                            (long long)token, (long long)words.rows - 1);
        if (positions.p && (place < 0 || place >= positions.rows))
            return tdm_fail(err, TDM_EARG, "row %d: position %lld, want 0 to %lld", r,
                            (long long)place, (long long)positions.rows - 1);
    }
    cpu_run(self, n_items(y.rows, rows_per_item((size_t)y.cols)), embed_rows, &job);
    return TDM_OK;
}

typedef struct {
    tdm_mat y, x;
    const float *delta, *gamma, *beta;
    float eps;
    tdm_norm form;
} norm_job;

static void norm_rows(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)lane;
    const norm_job *job = arg;
    const size_t width = (size_t)job->x.cols, per_item = rows_per_item(width);
    const size_t end = (i + 1) * per_item, n = (size_t)job->x.rows;
    for (size_t r = i * per_item; r < (end < n ? end : n); r++) {
        float *x = (float *)job->x.p + r * width, *y = (float *)job->y.p + r * width;
        be->kernels->add_norm(job->form == TDM_POST_NORM ? x : y, x,
                              job->delta ? job->delta + r * width : NULL, job->gamma, job->beta,
                              width, job->eps);
        if (job->form == TDM_POST_NORM && y != x)
            memcpy(y, x, width * sizeof *y);
    }
}

static tdm_status cpu_add_norm(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                               tdm_mat gamma, tdm_mat beta, float eps, tdm_norm form, tdm_err *err)
{
    (void)err;
    const norm_job job = {y, x, delta ? delta->p : NULL, gamma.p, beta.p, eps, form};
    cpu_run(self, n_items(x.rows, rows_per_item((size_t)x.cols)), norm_rows, &job);
    return TDM_OK;
}

static tdm_status cpu_gather(void *self, tdm_mat y, tdm_mat x, const int32_t *rows, tdm_err *err)
{
    (void)self;
    const size_t bytes = (size_t)x.cols * tdm_dtype_size(x.dtype);
    for (int64_t i = 0; i < y.rows; i++) {
        if (rows[i] < 0 || rows[i] >= x.rows)
            return tdm_fail(err, TDM_EARG, "row number %d, want 0 to %lld", rows[i],
                            (long long)x.rows - 1);
        memcpy((char *)y.p + (size_t)i * bytes, (const char *)x.p + (size_t)rows[i] * bytes, bytes);
    }
    return TDM_OK;
}

typedef struct {
    tdm_mat y, x;
    const float *w, *bias;
} classify_job;

/* One row; summed in double, so that the few labels lose nothing to the order of the sum. */
static void classify_row(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    (void)lane;
    const classify_job *job = arg;
    const size_t width = (size_t)job->x.cols, labels = (size_t)job->y.cols;
    const float *x = (const float *)job->x.p + i * width;
    for (size_t k = 0; k < labels; k++) {
        double sum = 0;
        for (size_t j = 0; j < width; j++)
            sum += (double)x[j] * (double)job->w[k * width + j];
        ((float *)job->y.p)[i * labels + k] = (float)(sum + (double)job->bias[k]);
    }
}

static tdm_status cpu_classify(void *self, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias,
                               tdm_err *err)
{
    (void)err;
    const classify_job job = {y, x, w.p, bias.p};
    cpu_run(self, (size_t)x.rows, classify_row, &job);
    return TDM_OK;
}

/* ---- open and close ---- */

static void cpu_close(void *self)
{
    cpu_backend *be = self;
    if (!be)
        return;
    for (size_t i = 0; be->lanes && i < be->n_lanes; i++) {
        tdm_sampler_close(be->lanes[i].sampler);
        free(be->lanes[i].blocks);
        free(be->lanes[i].scratch);
    }
    free(be->lanes);
    for (int i = 0; i < TDM_LANES; i++)
        free(be->fetched[i]);
    tdm_threads_close(be->threads);
    cpu_leave_meeting(be->meeting);
    free(be);
}

static const tdm_ops CPU_OPS = {
    .name = "cpu",
    .close = cpu_close,
    .memory = cpu_left,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .sync = cpu_sync,
    .fetch_begin = cpu_fetch_begin,
    .fetch_end = cpu_fetch_end,
    .weight_open = cpu_weight_open,
    .weight_close = cpu_weight_close,
    .kv_page_bytes = cpu_kv_page_bytes,
    .kv_open = cpu_kv_open,
    .kv_close = cpu_kv_close,
    .kv_copy = cpu_kv_copy,
    .embed = cpu_embed,
    .add_norm = cpu_add_norm,
    .linear = cpu_linear,
    .attend_cached = cpu_attend_cached,
    .attend_packed = cpu_attend_packed,
    .gather = cpu_gather,
    .classify = cpu_classify,
    .sample = cpu_sample,
    .token_stats = cpu_token_stats,
    .cross_stats = cpu_cross_stats,
    .top_tokens = cpu_top_tokens,
    .sum_ranks = cpu_sum_ranks,
    .join_ranks = cpu_join_ranks,
};

tdm_status cpu_open(const cpu_kernels *kernels, int threads, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cpu_backend *be = calloc(1, sizeof *be);
    *out = (tdm_backend){0};
    TDM_REQUIRE(be, TDM_ENOMEM, "cpu backend");
    be->kernels = kernels;
    TDM_TRY(tdm_threads_open(threads, &be->threads, err));
    be->n_lanes = (size_t)tdm_threads_count(be->threads);
    be->lanes = calloc(be->n_lanes, sizeof *be->lanes);
    TDM_REQUIRE(be->lanes, TDM_ENOMEM, "scratch of %zu threads", be->n_lanes);
    for (size_t i = 0; i < be->n_lanes; i++) {
        void *p = NULL;
        TDM_TRY(cpu_alloc(be, CPU_SCRATCH * sizeof(float), &p, err));
        be->lanes[i].scratch = p;
    }
    for (int i = 0; i < TDM_LANES; i++)
        TDM_TRY(cpu_alloc(be, TDM_LANE_BYTES, &be->fetched[i], err));
    *out = (tdm_backend){.ops = &CPU_OPS, .self = be, .dtype = TDM_F32,
                         .identity = kernels->identity};
    be = NULL;
done:
    cpu_close(be);
    return st;
}

tdm_status tdm_open_cpu(int threads, tdm_backend *out, tdm_err *err)
{
    const cpu_kernels *kernels = cpu_kernels_avx512();
    if (!kernels)
        kernels = cpu_kernels_avx2();
    if (!kernels)
        kernels = cpu_kernels_baseline();
    return cpu_open(kernels, threads, out, err);
}
