/* host/cpu_sample.c - draws from rows of logits, as host/sample.h defines them, shared by the threads. */
#include "host/cpu.h"

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
