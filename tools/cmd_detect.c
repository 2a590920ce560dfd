/* tools/cmd_detect.c - tandem detect: records in, p(fake) and p(real) of each out.
 *
 * Records go in windows through three threads (host/pipeline.h): one reads, parses and tokenises, this one
 * judges, one writes. Nothing of this changes a result. */
#include <stdlib.h>
#include <string.h>

#include "host/hash.h"
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

/* ---- the three steps ---- */

static tdm_status fill_window(void *ctx, tdm_pipeline *line, void *window, bool *at_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    detect_job *job = ctx;
    detect_window *w = window;
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(records_read(&job->records, line, &w->records, at_end, err));
    const double got = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(tdm_detector_prepare(job->detector, w->judged, w->records.texts, w->records.n_texts, err));
    job->cpu.read += got - start;
    job->cpu.tokenise += summary_cpu(CLOCK_THREAD_CPUTIME_ID) - got;
done:
    return st;
}

static tdm_detect_window *take_window(void *ctx, bool wait)
{
    detect_job *job = ctx;
    detect_window *w = tdm_pipeline_take(job->line, wait);
    if (!w)
        return NULL;
    records_note_bytes(&job->records, &w->records);
    return w->judged;
}

static void give_window(void *ctx)
{
    tdm_pipeline_give(((detect_job *)ctx)->line);
}

static bool batch_done(void *ctx, size_t texts, int64_t tokens)
{
    detect_job *job = ctx;
    job->totals.tokens += (uint64_t)tokens;
    records_count(&job->records, texts, (uint64_t)tokens);
    return !tdm_stopped(&job->records.stop);
}

/* In a careful worker, before a record is blamed for the death of its device. */
static tdm_status try_device(detect_job *job, tdm_err *err)
{
    const tdm_text text = {.p = "a", .len = 1};
    tdm_detection ignored;
    return tdm_detector_run(job->detector, &text, 1, &ignored, NULL, NULL, err);
}

static tdm_status run_windows(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    void *windows[DETECT_WINDOWS];
    for (size_t i = 0; i < DETECT_WINDOWS; i++) {
        windows[i] = &job->windows[i];
        TDM_TRY(tdm_detect_window_open(job->detector, &job->windows[i].judged, err));
    }
    const size_t n_windows = records_windows(&job->records, &job->args.common, DETECT_WINDOWS);
    if (job->records.careful)
        TDM_TRY(try_device(job, err));
    const tdm_pipeline_steps steps = {job, windows, n_windows, fill_window, detect_write,
                                      &job->records.stop};
    const tdm_detect_line line = {job, take_window, give_window, batch_done};
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(tdm_pipeline_open(&steps, &job->line, err));
    st = tdm_detector_judge(job->detector, &line, err);
    job->cpu.judge = summary_cpu(CLOCK_THREAD_CPUTIME_ID) - start;
    if (st == TDM_ESTOPPED && tdm_stopped(&job->records.stop)) /* a lost device says so itself */
        st = tdm_check_stop(&job->records.stop, err);
    TDM_TRY(tdm_pipeline_close(job->line, st, err));
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
                                 .inputs = &job->inputs,
                                 .stop = job->records.stop.also};
    TDM_TRY(run_open(&job->run, &options, err));
done:
    tdm_buf_free(&settings);
    return st;
}

static void set_reading(detect_job *job)
{
    const common_args *c = &job->args.common;
    records *r = &job->records;
    job->reading = fields_reading(&job->fields, c, job->args.passthrough);
    job->reading.stop = &r->stop;
    r->id_key = c->id_key;
    r->passthrough = job->args.passthrough;
}

static tdm_status open_reader(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    records *r = &job->records;
    job->reading.filter = job->run.filter;
    TDM_TRY(tdm_reader_open(&job->inputs, &job->reading, &job->reader, err));
    r->inputs = &job->inputs;
    r->reader = job->reader;
    r->sink = job->run.sink;
    r->window_tokens = (int64_t)WINDOW_BATCHES * tdm_detector_rows(job->detector);
    r->text_tokens = tdm_detector_config(job->detector)->n_context;
done:
    return st;
}

static tdm_status judge_records(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_progress *progress = &job->records.progress;
    const tdm_progress_options watching = run_progress(&job->run, &job->args.common, "detect", "texts");
    TDM_TRY(open_reader(job, err));
    TDM_TRY(tdm_detector_load(job->detector, err));
    TDM_TRY(tdm_progress_start(progress, &watching, err));
    const double start = summary_cpu(CLOCK_PROCESS_CPUTIME_ID);
    st = run_windows(job, err);
    st = run_finish(&job->run, progress, &job->totals.seconds, st, err);
    job->cpu.tokenise += tdm_detector_seconds(job->detector);
    summary_steps(&job->cpu, job->run.sink, summary_cpu(CLOCK_PROCESS_CPUTIME_ID) - start);
    job->totals.cpu = &job->cpu;
done:
    return st;
}

static tdm_status run_job(detect_job *job, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(name_fields(job, err));
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, job->args.common.out, &job->inputs, err));
    TDM_TRY(open_model(job, err));
    set_reading(job);
    if (job->args.common.dry_run) {
        TDM_TRY(detect_dry_run(job, err));
        goto done;
    }
    TDM_TRY(open_run(job, err));
    if (!job->run.is_complete)
        TDM_TRY(judge_records(job, err));
done:
    return st;
}

static void close_job(detect_job *job)
{
    tdm_detector_close(job->detector);
    tdm_backend_close(&job->backend);
    tdm_reader_close(job->reader);
    run_close(&job->run);
    for (size_t i = 0; i < DETECT_WINDOWS; i++) {
        records_window_close(&job->windows[i].records);
        tdm_detect_window_close(job->windows[i].judged);
    }
    records_close(&job->records);
    fields_free(&job->fields);
    tdm_inputs_free(&job->inputs);
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
    job->totals.token_hash = TDM_HASH_START;
    pthread_mutex_init(&job->records.lock, NULL);
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
                   : summary_finish(COMMAND.name, &args->common, &job->run, st, &err, &job->totals);
    }
    close_job(job);
    return code;
}
