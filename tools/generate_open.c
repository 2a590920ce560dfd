#include "tools/generate_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/signals.h"
#include "tools/tp.h"

#define MOST_CHUNKS ((uint64_t)1 << 32) /* what a journal can number */

const char *const GENERATE_NUCLEI[] = {"openai", "hf", NULL};

static tdm_status set_options(generate_job *job, tdm_err *err)
{
    const generate_args *a = &job->args;
    job->options = (tdm_generate_options){
        .n = (uint64_t)a->n,
        .seed = a->seed,
        .first_id = a->first_id,
        .length = (int32_t)a->length,
        .temperature = (float)a->temperature,
        .top_k = (int32_t)a->top_k,
        .top_p = {(float)a->top_p[0], (float)a->top_p[1]},
        .nucleus = (tdm_nucleus)a->nucleus,
        .samples_per_prompt = (int32_t)a->samples_per_prompt,
        .batch = (int32_t)a->common.batch,
        .stop = signals_catch(),
    };
    return tdm_generate_check(&job->options, &job->folder.config, err);
}

tdm_status generate_open_model(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    TDM_TRY(gpt2_folder_open(&job->folder, c->model, "generate", err));
    TDM_TRY(set_options(job, err));
    if (job->args.prompts)
        TDM_TRY(tdm_inputs_list(&job->args.prompts, 1, c->out, &job->prompts, err));
    const tp_work work = {.generate = &job->options, .has_prompts = job->args.prompts != NULL};
    TDM_TRY(tp_open(c, &work, &job->backend, err));
    job->backend.stop = job->options.stop;
done:
    return st;
}

/* In as few digits as give the same number back: 0.8, not 0.80000000000000004. */
static tdm_status put_number(tdm_buf *out, const char *before, double x, tdm_err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", x);
    if (strtod(text, NULL) != x)
        snprintf(text, sizeof text, "%.17g", x);
    return tdm_buf_printf(out, err, "%s%s", before, text);
}

/* The options that the bytes of the documents depend on, as JSON that ends in NUL. */
static tdm_status put_settings(const generate_args *a, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "{\"%s\": %" PRId64, a->prompts ? "samples-per-prompt" : "n",
                           a->prompts ? a->samples_per_prompt : a->n));
    TDM_TRY(tdm_buf_printf(out, err, ", \"seed\": %" PRIu64 ", \"first-id\": %" PRIu64, a->seed,
                           a->first_id));
    TDM_TRY(tdm_buf_printf(out, err, ", \"length\": %" PRId64, a->length));
    TDM_TRY(put_number(out, ", \"temperature\": ", a->temperature, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"top-k\": %" PRId64, a->top_k));
    TDM_TRY(put_number(out, ", \"top-p\": [", a->top_p[0], err));
    TDM_TRY(put_number(out, ", ", a->top_p[1], err));
    TDM_TRY(tdm_buf_printf(out, err, "], \"nucleus\": \"%s\"}", GENERATE_NUCLEI[a->nucleus]));
    TDM_TRY(tdm_buf_put(out, "", 1, err));
done:
    return st;
}

tdm_status generate_open_run(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    tdm_buf settings = {0};
    const uint64_t chunks = ((uint64_t)job->args.n - 1) / (uint64_t)job->args.chunk + 1;
    TDM_REQUIRE(job->args.prompts || chunks <= MOST_CHUNKS || !tdm_job_is_for(c->out), TDM_EARG,
                "--n %" PRId64 ": %" PRIu64 " chunks, want at most %" PRIu64
                " in a job; more documents in a --chunk, or several jobs by --first-id",
                job->args.n, chunks, MOST_CHUNKS);
    TDM_TRY(put_settings(&job->args, &settings, err));
    const run_options options = {.common = c,
                                 .command = "generate",
                                 .settings = settings.p,
                                 .backend = &job->backend,
                                 .inputs = job->args.prompts ? &job->prompts : NULL,
                                 .documents = (uint64_t)job->args.n,
                                 .by_documents = true,
                                 .stop = job->options.stop};
    TDM_TRY(run_open(&job->run, &options, err));
done:
    tdm_buf_free(&settings);
    return st;
}

tdm_status generate_open_work(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    if (job->args.prompts) {
        job->reader_options = (tdm_reader_options){.text_key = c->text_key,
                                                   .id_key = c->id_key,
                                                   .max_line = c->max_line,
                                                   .max_ratio = c->max_ratio,
                                                   .stop = job->options.stop};
        TDM_TRY(tdm_reader_open(&job->prompts, &job->reader_options, &job->reader, err));
    }
    TDM_TRY(gpt2_open(&job->backend, job->folder.checkpoint, &job->folder.config, !c->skip_weight_check,
                      &job->model, err));
done:
    return st;
}

void generate_close(generate_job *job)
{
    tdm_buf_free(&job->line);
    gpt2_close(job->model);
    tdm_backend_close(&job->backend);
    gpt2_folder_close(&job->folder);
    run_close(&job->run);
    tdm_reader_close(job->reader);
    tdm_inputs_free(&job->prompts);
    free(job);
}

tdm_status generate_plan_memory(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_generate_memory plan;
    tdm_generate_options *o = &job->options;
    const bool automatic = o->batch == 0;
    TDM_TRY(tdm_generate_plan(&job->backend, &job->folder.config, o, job->reader != NULL,
                              tdm_backend_memory(&job->backend), &plan, err));
    o->batch = plan.batch;
    o->pages = plan.pages;
    const bool large = plan.cache_bytes >= (size_t)1 << 30;
    if (!job->args.common.quiet)
        fprintf(stderr, "batch: %d%s, %d pages of %d tokens (%.1f %s)\n", (int)plan.batch,
                automatic ? " (auto)" : "", (int)plan.pages, TDM_PAGE,
                (double)plan.cache_bytes / (large ? 0x1p30 : 0x1p20), large ? "GiB" : "MiB");
done:
    return st;
}
