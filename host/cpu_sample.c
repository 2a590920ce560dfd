/* host/cpu_sample.c - what is done with rows of logits, shared by the threads: draws, as host/sample.h
 * defines them, and statistics of given tokens. */
#include <math.h>

#include "host/cpu.h"

/* ---- draws ---- */

typedef struct {
    const tdm_slots *state;
    const int32_t *slots;
    tdm_mat logits;
    int32_t eos;
} sample_job;

/* Draw for the slot of one row and move it on. */
static void sample_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    const sample_job *job = arg;
    const tdm_slots *state = job->state;
    const int32_t s = job->slots[i];
    if (s < 0)
        return;
    if (state->positions[s] < 0) {
        state->drawn[s] = TDM_IDLE;
        return;
    }
    const float *logits = (const float *)job->logits.p + i * cpu_stride(&job->logits);
    const int32_t id = tdm_sample_row(lane->sampler, logits, &state->draws[s]);
    state->drawn[s] = id;
    if (id < 0 || id == job->eos || state->left[s] == 1) {
        state->positions[s] = -1;
        return;
    }
    state->tokens[s] = id;
    state->positions[s]++;
    state->left[s]--;
    state->draws[s].position++;
}

tdm_status cpu_sample(void *self, const tdm_slots *state, const int32_t *slots, tdm_mat logits,
                      int32_t eos, tdm_err *err)
{
    cpu_backend *be = self;
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < be->n_lanes; i++) {
        cpu_lane *lane = &be->lanes[i];
        if (lane->sampler && lane->n_vocab == logits.cols)
            continue;
        tdm_sampler_close(lane->sampler);
        lane->sampler = NULL;
        TDM_TRY(tdm_sampler_open(logits.cols, &lane->sampler, err));
        lane->n_vocab = logits.cols;
    }
    const sample_job job = {state, slots, logits, eos};
    cpu_run(be, (size_t)logits.rows, sample_item, &job);
done:
    return st;
}

/* ---- statistics ---- */

typedef struct {
    tdm_stat *stats;
    tdm_mat logits;
    const int32_t *targets;
} stats_job;

/* In double. With d = logit - largest and Z = sum e^d: ln p = d - ln Z, entropy = ln Z - mean of d
 * under p; the variance of ln p is that of d, from the differences to their mean. */
static tdm_stat row_stats(const float *logits, size_t n, size_t target)
{
    const float wanted = logits[target];
    double largest = -INFINITY, total = 0, sum = 0, squares = 0;
    int32_t larger = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(logits[i]))
            return (tdm_stat){NAN, NAN, NAN, TDM_NOT_FINITE};
        largest = fmax(largest, (double)logits[i]);
        larger += logits[i] > wanted;
    }
    for (size_t i = 0; i < n; i++) {
        const double d = (double)logits[i] - largest, e = exp(d);
        total += e;
        sum += e * d;
    }
    const double mean = sum / total;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)logits[i] - largest;
        squares += exp(d) * (d - mean) * (d - mean);
    }
    return (tdm_stat){.logprob = (float)((double)wanted - largest - log(total)),
                      .entropy = (float)(log(total) - mean),
                      .variance = (float)(squares / total),
                      .rank = 1 + larger};
}

static void stats_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    (void)lane;
    const stats_job *job = arg;
    const float *logits = (const float *)job->logits.p + i * cpu_stride(&job->logits);
    job->stats[i] = job->targets[i] < 0
                        ? (tdm_stat){0}
                        : row_stats(logits, (size_t)job->logits.cols, (size_t)job->targets[i]);
}

tdm_status cpu_token_stats(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                           tdm_err *err)
{
    for (int64_t i = 0; i < logits.rows; i++)
        if (targets[i] >= logits.cols)
            return tdm_fail(err, TDM_EARG, "row %lld: token %d, want 0 to %d", (long long)i,
                            (int)targets[i], logits.cols - 1);
    const stats_job job = {stats, logits, targets};
    cpu_run(self, (size_t)logits.rows, stats_item, &job);
    return TDM_OK;
}
