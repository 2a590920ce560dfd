/* tools/cmd_detect.c - tandem detect: records in, p(fake) and p(real) of each out. Windows, batches and
 * threads (records.h) change no result. */
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "tools/commands.h"
#include "tools/detect_job.h"
#include "tools/dry_run.h"
#include "tools/signals.h"
#include "tools/tp.h"
#include "tools/supervise.h"

/* So many that the last, which is not full, costs little, and that what comes next is ready by then. */
enum { WINDOW_BATCHES = 16 };

static const char *const FIELDS[] = {"fake", "real", "logit_fake", "logit_real", "all_tokens", "used_tokens"};
/* In the order of tdm_preprocess_mode. */
static const char *const PREPROCESS_CHOICES[] = {"release", "hf", "demo", NULL};

/* ---- judging ---- */

static tdm_status prepare(void *ctx, records_window *w, tdm_err *err)
{
    detect_job *job = ctx;
    const double before = tdm_detector_seconds(job->detector);
    const tdm_status st = tdm_detector_prepare(job->detector, w->judged, w->texts, w->n_texts, err);
    job->records.cpu.tokenise += tdm_detector_seconds(job->detector) - before;
    return st;
}

static tdm_status judge(void *ctx, const tdm_window_line *line, tdm_err *err)
{
    return tdm_detector_judge(((detect_job *)ctx)->detector, line, err);
}

static tdm_status try_device(void *ctx, tdm_err *err)
{
    const tdm_text text = {.p = "a", .len = 1};
    tdm_detection ignored;
    return tdm_detector_run(((detect_job *)ctx)->detector, &text, 1, &ignored, NULL, NULL, err);
}

static tdm_status judge_records(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    records_window *windows[DETECT_WINDOWS];
    TDM_TRY(records_open(&job->records, err));
    TDM_TRY(tdm_detector_load(job->detector, err));
    for (size_t i = 0; i < DETECT_WINDOWS; i++) {
        tdm_detect_window *w = NULL;
        TDM_TRY(tdm_detect_window_open(job->detector, &w, err));
        job->windows[i].judged = w;
        windows[i] = &job->windows[i];
    }
    const records_steps steps = {.command = "detect",
                                 .window_tokens = (int64_t)WINDOW_BATCHES * tdm_detector_rows(job->detector),
                                 .text_tokens = tdm_detector_config(job->detector)->n_context,
                                 .ctx = job,
                                 .prepare = prepare,
                                 .judge = judge,
                                 .put = detect_put,
                                 .try_device = try_device};
    TDM_TRY(records_run(&job->records, &steps, windows, DETECT_WINDOWS, err));
done:
    return st;
}

/* ---- the job ---- */

static tdm_status name_fields(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < COUNT(FIELDS); i++)
        TDM_TRY(fields_add(&job->fields, job->args.key_prefix, FIELDS[i], err));
    TDM_TRY(fields_check(&job->fields, &job->args.common, job->args.passthrough, err));
done:
    return st;
}

/* All that is cheap to check; the weights come last. */
static tdm_status open_model(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    const tdm_detect_options options = {.preprocess = (tdm_preprocess_mode)job->args.preprocess,
                                        .batch = c->batch,
                                        .threads = (int)c->threads,
                                        .skip_weight_check = c->skip_weight_check};
    TDM_TRY(tp_open(c, &(tp_work){0}, &job->backend, err));
    job->backend.stop = job->records.stop.also;
    TDM_TRY(tdm_detector_open(c->model, &job->backend, &options, &job->detector, err));
done:
    return st;
}

/* The options that the bytes of the results depend on, as JSON. */
static tdm_status put_settings(const detect_args *a, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *prefix = a->key_prefix ? a->key_prefix : "";
    TDM_TRY(tdm_buf_printf(out, err, "{\"preprocess\": \"%s\", \"passthrough\": %s, \"key-prefix\": ",
                           PREPROCESS_CHOICES[a->preprocess], a->passthrough ? "true" : "false"));
    TDM_TRY(tdm_json_put_string(out, prefix, strlen(prefix), err));
    TDM_TRY(tdm_buf_put(out, "}", 2, err));
done:
    return st;
}

static tdm_status open_run(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf settings = {0};
    TDM_TRY(put_settings(&job->args, &settings, err));
    const run_options options = {.common = &job->args.common,
                                 .command = "detect",
                                 .settings = settings.p,
                                 .backend = &job->backend,
                                 .inputs = &job->records.inputs,
                                 .stop = job->records.stop.also};
    TDM_TRY(run_open(&job->records.run, &options, err));
done:
    tdm_buf_free(&settings);
    return st;
}

static tdm_status run_job(detect_job *job, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(name_fields(job, err));
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, job->args.common.out, &job->records.inputs, err));
    TDM_TRY(open_model(job, err));
    records_set(&job->records, &job->args.common, &job->fields, job->args.passthrough);
    if (job->args.common.dry_run) {
        TDM_TRY(detect_dry_run(job, err));
        goto done;
    }
    TDM_TRY(open_run(job, err));
    if (!job->records.run.is_complete)
        TDM_TRY(judge_records(job, err));
done:
    return st;
}

static void close_job(detect_job *job)
{
    tdm_detector_close(job->detector);
    tdm_backend_close(&job->backend);
    for (size_t i = 0; i < DETECT_WINDOWS; i++) {
        tdm_detect_window_close(job->windows[i].judged);
        records_window_close(&job->windows[i]);
    }
    records_close(&job->records);
    fields_free(&job->fields);
    free(job);
}

static const arg_command COMMAND = {
    .name = "detect",
    .usage = "--model DIR [options] [FILE...]",
    .summary =
        "Judges each text with the RoBERTa detector of GPT-2 output: how probable it is that a "
        "machine wrote it. Input is JSON Lines, {\"id\": any, \"text\": \"...\"}, also as .gz and "
        ".zst; a folder stands for such files in it; - or no FILE is standard input. Results come "
        "in the order of the input. Only the first 510 tokens of a text are read. The published "
        "detectors know GPT-2's English and nothing newer.",
    .notes = "One object a line:\n"
             "{\"id\": ..., \"fake\": p, \"real\": p, \"logit_fake\": x, \"logit_real\": x,\n"
             " \"all_tokens\": n, \"used_tokens\": n}\n"
             "With --passthrough the input record itself with these fields appended, and an id if\n"
             "it has none.\n"
             "A record that cannot be judged has no result; it is listed with its place and\n"
             "class in OUT.errors.jsonl, or on stderr when OUT is stdout.\n"
             "--preprocess release strips white space and takes special tokens for text, as\n"
             "the first release did; hf is what the pipeline of transformers does; demo is\n"
             "the original web demo, which doubles <s> and </s> and counts them as tokens.",
    .example = "tandem detect --model roberta-base-openai-detector texts.jsonl --out judged.jsonl"};

int cmd_detect(int argc, char **argv)
{
    tdm_err err = {0};
    arg_list operands;
    int code = TDM_OK;
    detect_job *job = calloc(1, sizeof *job);
    if (!job) {
        tdm_fail(&err, TDM_ENOMEM, "detect job");
        return args_fail(COMMAND.name, &err);
    }
    detect_args *args = &job->args;
    args->common = (common_args)COMMON_DEFAULTS;
    records_init(&job->records);
    const arg_spec specs[] = {
        ARGS_MODEL(&args->common),
        ARGS_OUT(&args->common),
        {.name = "preprocess",
         .kind = ARG_CHOICE,
         .out = &args->preprocess,
         .value = "release|hf|demo",
         .choices = PREPROCESS_CHOICES,
         .help = "how a text becomes tokens; see below"},
        {.name = "passthrough",
         .kind = ARG_FLAG,
         .out = &args->passthrough,
         .help = "write the whole input record with the new fields appended"},
        {.name = "key-prefix",
         .kind = ARG_STR,
         .out = &args->key_prefix,
         .value = "TEXT",
         .help = "put TEXT before the names of the new fields"},
        ARGS_BATCH(&args->common),
        ARGS_DEVICE(&args->common),
        ARGS_TP(&args->common),
        ARGS_DEVICES(&args->common),
        ARGS_WEIGHTS(&args->common),
        ARGS_RECORDS(&args->common),
        ARGS_CHUNK(&args->common),
        ARGS_JOB(&args->common),
        ARGS_DRY_RUN(&args->common),
        ARGS_REPORT(&args->common),
    };
    if (args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code) &&
        supervise(COMMAND.name, &args->common, &code)) {
        job->records.stop.also = signals_catch();
        const tdm_status st = run_job(job, &operands, &err);
        code = args->common.dry_run
                   ? dry_run_finish(COMMAND.name, st, &err)
                   : summary_finish(COMMAND.name, &args->common, &job->records.run, st, &err, &job->records.totals);
    }
    close_job(job);
    return code;
}
