/* tools/tp_plan.h - what a model takes on each of several devices, and how large a batch is worth while; no weights are read.
 *
 *   const tp_job job = {.model = {ck, &config}, .generate = &options};
 *   TDM_TRY(tp_useful(&job, &be, &useful, err));
 *   TDM_TRY(tp_plan(&job, &rank, 0, memory, &share, err)); // share.batch >= useful: so many ranks suffice
 *
 * A batch is counted in texts of full length where texts are written, and in tokens of a forward pass where they are read.
 * Thread safety: none needed. */
#ifndef TOOLS_TP_PLAN_H
#define TOOLS_TP_PLAN_H

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/config.h"
#include "host/err.h"
#include "host/generate.h"

typedef struct {
    const tdm_checkpoint *ck; /* NULL: there is no such model */
    const tdm_config *config;
} tp_model;

/* A model, and what will be done with it. */
typedef struct {
    tp_model model, observer;             /* observer: of tandem score */
    const tdm_generate_options *generate; /* NULL: texts are read */
    bool has_prompts;
    int64_t batch; /* --batch: texts; 0: auto */
    int32_t top;   /* of tdm_score_options */
} tp_job;

typedef struct {
    size_t weights;        /* bytes, of the rank that has most */
    size_t cache, scratch; /* bytes beside them, for the batch */
    int64_t batch;         /* 0: there is no room for one */
} tp_share;

/* The batch from which on a larger one gains little: texts whose caches, half full as they are on average, take as long
 * to read as the weights; tokens at which matrix products are at their best. --batch where it is given; no more than the
 * job has.
 *   be  a backend that stands alone; of it as much counts as for gpt2_run_bytes
 * Errors: those of tdm_plan_tensor. */
tdm_status tp_useful(const tp_job *job, const tdm_backend *be, int64_t *batch, tdm_err *err);

/* What a rank takes, and the largest batch that it has room for.
 *   be      as above, or one of be->n_ranks ranks
 *   most    of the batch, where texts are written; 0: no limit
 *   memory  bytes of each rank; SIZE_MAX: no limit
 * Errors: as above. That memory does not suffice is none: out->batch is 0 then. */
tdm_status tp_plan(const tp_job *job, const tdm_backend *be, int64_t most, size_t memory, tp_share *out, tdm_err *err);

/* A CUDA device with f16 that is only planned for; nothing to close. */
tdm_backend tp_imagined_device(void);

#endif
