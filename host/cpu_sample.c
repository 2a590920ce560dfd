/* host/cpu_sample.c - one draw per row, rows shared by the threads; host/sample.h defines the draw. */
#include "host/cpu.h"

typedef struct {
    int32_t *ids;
    const float *logits;
    size_t n_vocab;
    const tdm_draw *draws;
} sample_job;

static void sample_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    (void)be;
    const sample_job *job = arg;
    job->ids[i] = tdm_sample_row(lane->sampler, job->logits + i * job->n_vocab, &job->draws[i]);
}

tdm_status cpu_sample(void *self, int32_t *ids, tdm_mat logits, const tdm_draw *draws, tdm_err *err)
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
    const sample_job job = {ids, logits.p, (size_t)logits.cols, draws};
    cpu_run(be, (size_t)logits.rows, sample_item, &job);
done:
    return st;
}
