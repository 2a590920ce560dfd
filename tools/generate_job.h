/* tools/generate_job.h - inside tandem generate: what is opened for a run (generate_open.c), in this order, and how it
 * runs (cmd_generate.c). */
#ifndef TOOLS_GENERATE_JOB_H
#define TOOLS_GENERATE_JOB_H

#include "host/generate.h"
#include "host/inputs.h"
#include "host/progress.h"
#include "host/record.h"
#include "tools/args.h"
#include "tools/gpt2_folder.h"
#include "tools/run.h"

typedef struct {
    common_args common;
    int64_t n, length, top_k, samples_per_prompt, chunk;
    uint64_t seed, first_id;
    double temperature, top_p[2];
    int nucleus;
    const char *prompts;
} generate_args;

typedef struct {
    generate_args args;
    gpt2_folder folder;
    tdm_generate_options options;
    tdm_inputs prompts;
    tdm_reader_options reader_options;
    tdm_reader *reader;
    command_run run;
    tdm_backend backend;
    gpt2_model *model;
    tdm_progress progress;
    tdm_buf line;
    tdm_generate_totals totals;
    uint64_t steps, chunk_tokens;
    double seconds;
} generate_job;

extern const char *const GENERATE_NUCLEI[]; /* the order of tdm_nucleus */

/* Everything of the model but its weights, the list of prompts and the backend: what is cheap to check. */
tdm_status generate_open_model(generate_job *job, tdm_err *err);
/* The job or the stream; it may be complete already. */
tdm_status generate_open_run(generate_job *job, tdm_err *err);
/* The prompts and the weights. */
tdm_status generate_open_work(generate_job *job, tdm_err *err);
/* Texts at once and pages of the cache: what was asked for if there is memory for it, or what there is
 * memory for. The weights are loaded already. */
tdm_status generate_plan_memory(generate_job *job, tdm_err *err);
void generate_close(generate_job *job); /* and free it */

#endif
