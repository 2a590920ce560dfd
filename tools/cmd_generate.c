/* tools/cmd_generate.c - tandem generate: options in, documents out. The work is host/generate.c. */
#include <stdlib.h>

#include "tools/commands.h"
#include "tools/dry_run.h"
#include "tools/generate_job.h"
#include "tools/summary.h"
#include "tools/supervise.h"

/* ---- running ---- */

static tdm_status deliver(void *ctx, const tdm_document *d, tdm_err *err)
{
    generate_job *job = ctx;
    tdm_status st = TDM_OK;
    tdm_progress_add(&job->progress, 1, 0, d->bad != NULL);
    if (d->bad) {
        if (tdm_sink_is_direct(job->run.sink))
            tdm_progress_clear(&job->progress);
        st = tdm_sink_bad(job->run.sink, d->bad, err);
        goto done;
    }
    job->line.len = 0;
    job->chunk_tokens += (uint64_t)d->length;
    TDM_TRY(tdm_document_put(&job->line, d, err));
    TDM_TRY(tdm_sink_put(job->run.sink, job->line.p, job->line.len, err));
    TDM_TRY(tdm_sink_flush(job->run.sink, err));
done:
    return st;
}

static tdm_status end_chunk(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    generate_job *job = ctx;
    const uint64_t tokens = job->chunk_tokens;
    job->chunk_tokens = 0;
    return tdm_sink_end_chunk(job->run.sink, chunk, tokens, err);
}

/* In a careful worker: the next document has the device to itself, unless workers died with it. */
static bool begin(void *ctx, uint64_t number, const char **reason)
{
    const generate_job *job = ctx;
    worker *w = job->args.common.worker;
    const bool may = worker_begin(w, 0, number / (uint64_t)job->args.chunk, number);
    if (!may)
        *reason = worker_reason(w);
    return may;
}

static tdm_status ignore(void *ctx, const tdm_document *d, tdm_err *err)
{
    (void)ctx;
    (void)d;
    (void)err;
    return TDM_OK;
}

/* In a careful worker, before a document is blamed for the death of its device. */
static tdm_status try_device(generate_job *job, tdm_err *err)
{
    tdm_generate_totals totals;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    o.length = 1;
    o.stop = job->options.stop;
    return tdm_generate(job->model, job->folder.bpe, &o, NULL, &(tdm_generate_to){.deliver = ignore}, &totals, err);
}

static void tick(void *ctx, int32_t n_tokens)
{
    generate_job *job = ctx;
    uint64_t done = 0, total = 0;
    job->steps++;
    if (job->reader) {
        tdm_reader_progress(job->reader, &done, &total);
        tdm_progress_bytes(&job->progress, done, total);
    }
    tdm_progress_add(&job->progress, 0, (uint64_t)n_tokens, 0);
}

/* How many documents there will be is known without prompts; of several ranks, the share of this one. */
static tdm_status start_progress(generate_job *job, tdm_err *err)
{
    const command_run *r = &job->run;
    tdm_progress_options options = run_progress(r, &job->args.common, "generate", "documents");
    options.total = job->reader ? 0 : job->options.n / (uint64_t)r->rank.count;
    return tdm_progress_start(&job->progress, &options, err);
}

static tdm_status write_documents(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool careful = job->args.common.worker && worker_is_careful(job->args.common.worker);
    const tdm_generate_to to = {.deliver = deliver,
                                .tick = tick,
                                .begin = careful ? begin : NULL,
                                .end_chunk = end_chunk,
                                .chunk_documents = (uint64_t)job->args.chunk,
                                .filter = job->run.filter,
                                .ctx = job};
    TDM_TRY(generate_open_work(job, err));
    TDM_TRY(generate_plan_memory(job, err));
    if (careful)
        TDM_TRY(try_device(job, err));
    TDM_TRY(start_progress(job, err));
    st = tdm_generate(job->model, job->folder.bpe, &job->options, job->reader, &to, &job->totals, err);
    st = run_finish(&job->run, &job->progress, &job->seconds, st, err);
done:
    return st;
}

/* --dry-run: what it would be. */
static tdm_status try_out(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool idle = false;
    TDM_TRY(dry_run_is_idle(&job->args.common, &idle, err));
    if (idle)
        goto done;
    TDM_TRY(generate_open_work(job, err));
    TDM_TRY(generate_plan_memory(job, err));
    const dry_run_generator generator = {.common = &job->args.common,
                                         .model = job->model,
                                         .backend = &job->backend,
                                         .config = &job->folder.config,
                                         .bpe = job->folder.bpe,
                                         .options = &job->options,
                                         .prompts = job->reader ? &job->prompts : NULL,
                                         .reading = &job->reader_options,
                                         .chunk = (uint64_t)job->args.chunk};
    TDM_TRY(dry_run_generate(&generator, err));
done:
    return st;
}

static tdm_status run(generate_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job->args.common.chunk = (size_t)job->args.chunk;
    TDM_TRY(generate_open_model(job, err));
    if (job->args.common.dry_run) {
        TDM_TRY(try_out(job, err));
        goto done;
    }
    TDM_TRY(generate_open_run(job, err));
    if (!job->run.is_complete)
        TDM_TRY(write_documents(job, err));
done:
    return st;
}

static int finish(generate_job *job, tdm_status st, const tdm_err *err)
{
    const common_args *c = &job->args.common;
    const tdm_generate_totals *t = &job->totals;
    const run_totals totals = {
        .seconds = job->seconds, .tokens = t->tokens, .steps = job->steps, .token_hash = t->hash};
    if (c->dry_run)
        return dry_run_finish("generate", st, err);
    return summary_finish("generate", c, &job->run, st, err, &totals);
}

static const arg_rule RULES[] = {{.option = "n", .other = "prompts", .with = true},
                                 {.option = "samples-per-prompt", .other = "prompts"},
                                 {.option = "text-key", .other = "prompts"},
                                 {.option = "id-key", .other = "prompts"},
                                 {.option = "max-line", .other = "prompts"},
                                 {.option = "max-ratio", .other = "prompts"}};

static const arg_command COMMAND = {
    .name = "generate",
    .usage = "--model DIR [options]",
    .summary = "Writes documents with GPT-2: N from nothing, or one or more for each prompt of a file. "
               "The same seed gives the same text, whatever the batch, the threads and the order. "
               "Greedy decoding is --temperature 0.",
    .rules = RULES,
    .n_rules = COUNT(RULES),
    .example = "tandem generate --model gpt2-xl --n 1000 --top-k 40 --out xl-k40.jsonl",
    .notes = "One object a line, in the order of the ids, as in the GPT-2 output dataset:\n"
             "{\"id\": 7, \"ended\": true, \"length\": 312, \"text\": \"...\"}\n"
             "ended: the model ended the text itself; length: its tokens. Then \"p\" with\n"
             "--top-p A:B and \"prompt_id\" with --prompts. Prompts are records, {\"id\": any,\n"
             "\"text\": \"...\"}; text is what was written behind the prompt. The id is first-id +\n"
             "number, where number is prompt number x samples-per-prompt + sample."};

int cmd_generate(int argc, char **argv)
{
    tdm_err err = {0};
    arg_list operands;
    int code = TDM_OK;
    generate_job *job = calloc(1, sizeof *job);
    if (!job) {
        tdm_fail(&err, TDM_ENOMEM, "generate job");
        return args_fail(COMMAND.name, &err);
    }
    generate_args *a = &job->args;
    *a = (generate_args){.common = COMMON_DEFAULTS,
                         .n = 1,
                         .temperature = 1,
                         .top_p = {1, 1},
                         .samples_per_prompt = 1,
                         .chunk = TDM_CHUNK_DOCUMENTS};
    const arg_spec specs[] = {
        ARGS_MODEL(&a->common),
        ARGS_OUT(&a->common),
        {.name = "n", .kind = ARG_I64, .out = &a->n, .value = "N", .min = 1, .max = 1e15,
         .help = "documents to write"},
        {.name = "seed", .kind = ARG_U64, .out = &a->seed, .value = "N",
         .help = "key of all random numbers"},
        {.name = "first-id", .kind = ARG_U64, .out = &a->first_id, .value = "N",
         .help = "id of the first document"},
        {.name = "length", .kind = ARG_I64, .out = &a->length, .value = "N", .min = 1,
         .max = INT32_MAX, .default_text = "what fits the context",
         .help = "new tokens at most; with a prompt of t tokens never more than context + 1 - t"},
        {.name = "temperature", .kind = ARG_F64, .out = &a->temperature, .value = "X", .min = 0,
         .max = 1e6, .help = "divides the logits; 0 is greedy"},
        {.name = "top-k", .kind = ARG_I64, .out = &a->top_k, .value = "N", .min = 0,
         .max = INT32_MAX, .help = "keep the N most probable tokens and ties; 0 is off"},
        {.name = "top-p", .kind = ARG_RANGE, .out = a->top_p, .value = "P|A:B", .min = 0, .max = 1,
         .open_min = true,
         .help = "keep the most probable tokens up to mass P; A:B draws a P for each document; 1 is "
                 "off"},
        {.name = "nucleus", .kind = ARG_CHOICE, .out = &a->nucleus, .value = "openai|hf",
         .choices = GENERATE_NUCLEI,
         .help = "whether the token that crosses P is out (openai) or in (hf)"},
        {.name = "prompts", .kind = ARG_STR, .out = &a->prompts, .value = "FILE",
         .help = "JSON Lines of prompts instead of --n, or a folder of such files, .gz and .zst too; - is "
                 "standard input"},
        {.name = "samples-per-prompt", .kind = ARG_I64, .out = &a->samples_per_prompt, .value = "N",
         .min = 1, .max = INT32_MAX, .help = "documents for each prompt"},
        ARGS_BATCH(&a->common),
        ARGS_DEVICE(&a->common),
        ARGS_TP(&a->common),
        ARGS_DEVICES(&a->common),
        ARGS_KV_DTYPE(&a->common),
        ARGS_WEIGHTS(&a->common),
        ARGS_RECORDS(&a->common),
        {.name = "chunk", .kind = ARG_I64, .out = &a->chunk, .value = "N", .min = 1, .max = 1e9,
         .help = "documents that are committed, and may have to be written again, as one"},
        ARGS_JOB(&a->common),
        ARGS_DRY_RUN(&a->common),
        ARGS_REPORT(&a->common),
    };
    if (args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code) &&
        supervise(COMMAND.name, &a->common, &code)) {
        tdm_status st = TDM_OK;
        if (operands.n > 0)
            st = tdm_fail(&err, TDM_EARG, "%s: generate takes no files; prompts go with --prompts",
                          operands.items[0]);
        else
            st = run(job, &err);
        code = finish(job, st, &err);
    }
    generate_close(job);
    return code;
}
