/* host/cpu_stats.c - what rows of logits say about given tokens, about another model's rows, and which
 * tokens are likeliest; shared by the threads, a row each. The sums are those of host/cpu_stats.h. */
#include <math.h>

#include "host/cpu.h"

typedef struct {
    union {
        tdm_stat *stats;
        tdm_cross *cross;
        tdm_top *top; /* [rows, k] */
    };
    tdm_mat logits, other; /* other: q of cross_stats */
    const int32_t *targets;
    int32_t k;
} stats_job;

static const float *row_of(const tdm_mat *m, size_t i)
{
    return (const float *)m->p + i * cpu_stride(m);
}

/* Do all rows, unless a target is none of the vocabulary. */
static tdm_status run_rows(cpu_backend *be, const stats_job *job,
                           void (*item)(cpu_backend *, cpu_lane *, const void *, size_t),
                           tdm_err *err)
{
    for (int64_t i = 0; i < job->logits.rows; i++)
        if (job->targets[i] >= job->logits.cols)
            return tdm_fail(err, TDM_EARG, "row %lld: token %d, want 0 to %d", (long long)i,
                            (int)job->targets[i], job->logits.cols - 1);
    cpu_run(be, (size_t)job->logits.rows, item, job);
    return TDM_OK;
}

/* ---- of a token ---- */

/* With d = logit - largest and S = sum e^d: ln p = d - ln S, entropy = ln S - mean of d under p; the
 * variance of ln p is that of d. */
static tdm_stat row_stats(const cpu_kernels *kernels, const float *row, size_t n, size_t target)
{
    const float given = row[target];
    const cpu_outline seen = kernels->look_at(row, n, given);
    if (!seen.finite)
        return (tdm_stat){NAN, NAN, NAN, TDM_NOT_FINITE};
    const cpu_moments sums = kernels->sum_up(row, n, seen.largest);
    const double mean = sums.first / sums.total, log_total = log(sums.total);
    return (tdm_stat){.logprob = (float)((double)given - (double)seen.largest - log_total),
                      .entropy = (float)(log_total - mean),
                      .variance = (float)fmax(sums.second / sums.total - mean * mean, 0),
                      .rank = 1 + seen.ahead};
}

static void stats_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)lane;
    const stats_job *job = arg;
    job->stats[i] = job->targets[i] < 0
                        ? (tdm_stat){0}
                        : row_stats(be->kernels, row_of(&job->logits, i), (size_t)job->logits.cols,
                                    (size_t)job->targets[i]);
}

tdm_status cpu_token_stats(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                           tdm_err *err)
{
    const stats_job job = {.stats = stats, .logits = logits, .targets = targets};
    return run_rows(self, &job, stats_item, err);
}

/* ---- of two models ---- */

/* With d = logit - largest and S = sum e^d of each: ln p = dp - ln Sp, so that cross = ln Sp - mean of
 * dp under q, and the variance of ln p is that of dp. */
static tdm_cross row_cross(const cpu_kernels *kernels, const float *p, const float *q, size_t n)
{
    const cpu_outline seen_p = kernels->look_at(p, n, 0), seen_q = kernels->look_at(q, n, 0);
    if (!seen_p.finite || !seen_q.finite)
        return (tdm_cross){NAN, NAN, NAN};
    const cpu_cross_sums sums = kernels->sum_up_two(p, q, n, seen_p.largest, seen_q.largest);
    const double mean = sums.first / sums.total_q;
    return (tdm_cross){.cross = (float)(log(sums.total_p) - mean),
                       .variance = (float)fmax(sums.second / sums.total_q - mean * mean, 0),
                       .back = (float)(log(sums.total_q) - sums.back / sums.total_p)};
}

static void cross_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)lane;
    const stats_job *job = arg;
    job->cross[i] = job->targets[i] < 0
                        ? (tdm_cross){0}
                        : row_cross(be->kernels, row_of(&job->logits, i), row_of(&job->other, i),
                                    (size_t)job->logits.cols);
}

tdm_status cpu_cross_stats(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q,
                           const int32_t *targets, tdm_err *err)
{
    const stats_job job = {.cross = stats, .logits = p, .other = q, .targets = targets};
    return run_rows(self, &job, cross_item, err);
}

/* ---- the likeliest ---- */

/* Put entry i, behind all that were put so far, where it belongs among the `found` largest, k at most; of
 * equal ones the first stay first, since a later one moves up only past what is smaller. */
static int32_t put_entry(tdm_top *top, int32_t found, int32_t k, int32_t i, float x)
{
    if (found == k && !(x > top[k - 1].logprob))
        return found;
    int32_t at = found < k ? found++ : k - 1;
    for (; at > 0 && x > top[at - 1].logprob; at--)
        top[at] = top[at - 1];
    top[at] = (tdm_top){i, x};
    return found;
}

/* The k largest logits, in falling order. Most pieces of a row hold nothing above the least of them. */
static void row_largest(const cpu_kernels *kernels, tdm_top *top, int32_t k, const float *row,
                        int32_t n)
{
    enum { PIECE = 256 };
    int32_t found = 0;
    for (int32_t from = 0; from < n; from += PIECE) {
        const int32_t length = n - from < PIECE ? n - from : PIECE;
        if (found == k && !kernels->look_at(row + from, (size_t)length, top[k - 1].logprob).ahead)
            continue;
        for (int32_t i = from; i < from + length; i++)
            found = put_entry(top, found, k, i, row[i]);
    }
}

static void top_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)lane;
    const stats_job *job = arg;
    const float *row = row_of(&job->logits, i);
    const int32_t n = job->logits.cols, k = job->k;
    tdm_top *top = job->top + i * (size_t)k;
    const bool wanted = job->targets[i] >= 0;
    const cpu_outline seen = wanted ? be->kernels->look_at(row, (size_t)n, 0) : (cpu_outline){0};
    if (!seen.finite) {
        for (int32_t j = 0; j < k; j++)
            top[j] = wanted ? (tdm_top){TDM_NOT_FINITE, NAN} : (tdm_top){0};
        return;
    }
    row_largest(be->kernels, top, k, row, n);
    const cpu_moments sums = be->kernels->sum_up(row, (size_t)n, seen.largest);
    for (int32_t j = 0; j < k; j++)
        top[j].logprob =
            (float)((double)top[j].logprob - (double)seen.largest - log(sums.total));
}

tdm_status cpu_top_tokens(void *self, tdm_top *top, int32_t k, tdm_mat logits,
                          const int32_t *targets, tdm_err *err)
{
    const stats_job job = {.top = top, .logits = logits, .targets = targets, .k = k};
    return run_rows(self, &job, top_item, err);
}
