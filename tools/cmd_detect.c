/* tools/cmd_detect.c - tandem detect: records in, p(fake) and p(real) of each out.
 *
 * Records go in windows through three threads (host/pipeline.h): one reads, parses and tokenises, this one
 * judges, one writes. Nothing of this changes a result. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/hash.h"
#include "host/json.h"
#include "tools/commands.h"
#include "tools/detect_job.h"
#include "tools/signals.h"

static const char *const FIELDS[DETECT_FIELDS] = {"fake",       "real",       "logit_fake",
                                                  "logit_real", "all_tokens", "used_tokens"};
/* In the order of tdm_preprocess_mode. */
static const char *const PREPROCESS_CHOICES[] = {"release", "hf", "demo", NULL};

/* ---- judging ---- */

static tdm_detect_window *take_window(void *ctx, bool wait)
{
    detect_job *job = ctx;
    detect_window *w = tdm_pipeline_take(job->line, wait);
    if (!w)
        return NULL;
    pthread_mutex_lock(&job->progress_lock);
    tdm_progress_bytes(&job->progress, w->bytes_read, w->bytes_total);
    pthread_mutex_unlock(&job->progress_lock);
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
    pthread_mutex_lock(&job->progress_lock);
    tdm_progress_add(&job->progress, texts, (uint64_t)tokens, 0);
    pthread_mutex_unlock(&job->progress_lock);
    return !tdm_stopped(&job->reading);
}

static tdm_status run_windows(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    void *windows[DETECT_WINDOWS];
    for (size_t i = 0; i < DETECT_WINDOWS; i++) {
        windows[i] = &job->windows[i];
        TDM_TRY(tdm_detect_window_open(job->detector, &job->windows[i].judged, err));
    }
    const tdm_pipeline_steps steps = {job, windows, DETECT_WINDOWS, detect_read, detect_write,
                                      &job->reading};
    const tdm_detect_line line = {job, take_window, give_window, batch_done};
    TDM_TRY(tdm_pipeline_open(&steps, &job->line, err));
    st = tdm_detector_judge(job->detector, &line, err);
    if (st == TDM_ESTOPPED && tdm_stopped(&job->reading)) /* a lost device says so itself */
        st = tdm_check_stop(&job->reading, err);
    TDM_TRY(tdm_pipeline_close(job->line, st, err));
    tdm_sink_counts(job->sink)->skipped = tdm_reader_blank_lines(job->reader);
    TDM_TRY(tdm_sink_commit(job->sink, err));
done:
    return st;
}

/* ---- the job ---- */

/* The names of the new fields, as text to look for in records and as JSON to write. */
static tdm_status make_keys(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *prefix = job->args.key_prefix ? job->args.key_prefix : "";
    for (size_t i = 0; i < DETECT_FIELDS; i++) {
        const size_t size = strlen(prefix) + strlen(FIELDS[i]) + 1;
        job->keys[i] = malloc(size);
        TDM_REQUIRE(job->keys[i], TDM_ENOMEM, "--key-prefix of %zu bytes", strlen(prefix));
        snprintf(job->keys[i], size, "%s%s", prefix, FIELDS[i]);
        TDM_TRY(tdm_json_put_string(&job->json_keys[i], job->keys[i], size - 1, err));
        TDM_REQUIRE(!job->args.passthrough || strcmp(job->keys[i], job->args.common.id_key) != 0,
                    TDM_EARG, "--id-key %s: --passthrough appends a field of this name",
                    job->keys[i]);
    }
done:
    return st;
}

static tdm_status open_job(detect_job *job, const arg_list *inputs, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    TDM_TRY(make_keys(job, err));
    const tdm_reader_options reading = {.text_key = c->text_key,
                                        .id_key = c->id_key,
                                        .max_line = c->max_line,
                                        .stop = &job->reading,
                                        .collide = job->args.passthrough,
                                        .collide_keys = (const char *const *)job->keys};
    tdm_detect_options detecting = TDM_DETECT_DEFAULTS;
    detecting.preprocess = (tdm_preprocess_mode)job->args.preprocess;
    detecting.batch = c->batch;
    detecting.threads = (int)c->threads;
    detecting.skip_weight_check = c->skip_weight_check;
    TDM_TRY(tdm_reader_open(inputs->items, inputs->n, &reading, &job->reader, err));
    TDM_TRY(tdm_sink_open(c->out, c->max_errors, &job->sink, err));
    tdm_sink_stop_by(job->sink, job->reading.also);
    TDM_TRY(args_open_backend(c, &job->backend, err));
    TDM_TRY(tdm_detector_open(c->model, &job->backend, &detecting, &job->detector, err));
done:
    return st;
}

static void close_window(detect_window *w)
{
    tdm_buf_free(&w->arena);
    free(w->slots);
    free(w->texts);
    tdm_detect_window_close(w->judged);
}

static void close_job(detect_job *job)
{
    tdm_detector_close(job->detector);
    tdm_backend_close(&job->backend);
    tdm_sink_close(job->sink);
    tdm_reader_close(job->reader);
    for (size_t i = 0; i < DETECT_WINDOWS; i++)
        close_window(&job->windows[i]);
    tdm_buf_free(&job->result);
    pthread_mutex_destroy(&job->progress_lock);
    for (size_t i = 0; i < DETECT_FIELDS; i++) {
        free(job->keys[i]);
        tdm_buf_free(&job->json_keys[i]);
    }
    free(job);
}

static tdm_status run_job(detect_job *job, const arg_list *inputs, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_job(job, inputs, err));
    const common_args *c = &job->args.common;
    tdm_progress_start(&job->progress, (tdm_progress_mode)c->progress, c->quiet, stderr, "detect",
                       "texts", 0);
    st = run_windows(job, err);
    job->totals.seconds = tdm_progress_seconds(&job->progress);
    if (st == TDM_OK)
        tdm_progress_finish(&job->progress);
    else
        tdm_progress_abandon(&job->progress);
done:
    return st;
}

static const arg_command COMMAND = {
    .name = "detect",
    .usage = "--model DIR [options] [FILE...]",
    .summary =
        "Judges each text with the RoBERTa detector of GPT-2 output: how probable it is that a "
        "machine wrote it. Input is JSON Lines, {\"id\": any, \"text\": \"...\"}; - or no FILE "
        "is standard input. Results come in the order of the input. Only the first 510 tokens "
        "of a text are read. The published detectors know GPT-2's English and nothing newer.",
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
    arg_list inputs;
    int code = TDM_OK;
    detect_job *job = calloc(1, sizeof *job);
    if (!job) {
        tdm_fail(&err, TDM_ENOMEM, "detect job");
        return args_fail(COMMAND.name, &err);
    }
    detect_args *args = &job->args;
    args->common = (common_args)COMMON_DEFAULTS;
    job->totals.token_hash = TDM_HASH_START;
    pthread_mutex_init(&job->progress_lock, NULL);
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
        ARGS_WEIGHTS(&args->common),
        ARGS_RECORDS(&args->common),
        ARGS_REPORT(&args->common),
    };
    if (args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &inputs, &code)) {
        job->reading.also = signals_catch();
        const tdm_status st = run_job(job, &inputs, &err);
        code = summary_finish(COMMAND.name, &args->common, job->sink, st, &err, &job->totals);
    }
    close_job(job);
    return code;
}
