/* tools/cmd_detect.c - tandem detect: records in, p(fake) and p(real) of each out.
 *
 * Records are read in windows. The good ones of a window are judged together; then the window is
 * written in input order, bad records to the errors. Nothing of this changes a result. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detector/detect.h"
#include "host/hash.h"
#include "host/json.h"
#include "host/progress.h"
#include "host/record.h"
#include "host/sink.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/signals.h"
#include "tools/summary.h"

/* A window is large enough to fill batches and small enough that results flow. */
enum { WINDOW_RECORDS = 128, WINDOW_BYTES = 4 << 20 };
enum { N_FIELDS = 6 };
static const char *const FIELDS[N_FIELDS] = {"fake",       "real",       "logit_fake",
                                             "logit_real", "all_tokens", "used_tokens"};
/* In the order of tdm_preprocess_mode. */
static const char *const PREPROCESS_CHOICES[] = {"release", "hf", "demo", NULL};

typedef struct {
    common_args common;
    int preprocess;
    bool passthrough;
    const char *key_prefix;
} detect_args;

/* One record of the window. The strings lie in the window's arena, at these offsets. */
typedef struct {
    tdm_record record;
    size_t file_at, id_at, text_at, source_at, detail_at;
    size_t result; /* of a good record: its number among the good ones */
} slot;

typedef struct {
    detect_args args;
    char *keys[N_FIELDS + 1];    /* FIELDS with the prefix; owned; NULL at the end */
    tdm_buf json_keys[N_FIELDS]; /* the same as JSON strings */
    tdm_reader *reader;
    tdm_sink *sink;
    tdm_backend backend;
    tdm_detector *detector;
    tdm_progress progress;
    run_totals totals; /* tokens: through the network, <s> and </s> included */
    tdm_buf arena, line;
    slot slots[WINDOW_RECORDS];
    tdm_text texts[WINDOW_RECORDS];
    tdm_detection results[WINDOW_RECORDS];
    size_t n_slots, n_texts;
    const volatile sig_atomic_t *stop; /* not 0 after a signal */
} detect_job;

static tdm_status check_stop(const detect_job *job, tdm_err *err)
{
    if (!*job->stop)
        return TDM_OK;
    return tdm_fail(err, TDM_ESTOPPED, "%s",
                    *job->stop == SIGINT ? "interrupted" : "asked to terminate");
}

/* ---- reading a window ---- */

static tdm_status keep(detect_job *job, const char *p, size_t len, size_t *at, tdm_err *err)
{
    *at = job->arena.len;
    tdm_status st = tdm_buf_put(&job->arena, p ? p : "", p ? len : 0, err);
    return st == TDM_OK ? tdm_buf_put(&job->arena, "", 1, err) : st;
}

/* The reader's strings live until its next record: copy what will be needed. */
static tdm_status keep_record(detect_job *job, const tdm_record *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    slot *s = &job->slots[job->n_slots];
    *s = (slot){.record = *r};
    const bool good = r->kind == TDM_RECORD_OK;
    TDM_TRY(keep(job, r->file, strlen(r->file), &s->file_at, err));
    TDM_TRY(keep(job, r->id_json, r->id_len, &s->id_at, err));
    if (good)
        TDM_TRY(keep(job, r->text, r->text_len, &s->text_at, err));
    if (good && job->args.passthrough)
        TDM_TRY(keep(job, r->source, r->source_len, &s->source_at, err));
    if (!good)
        TDM_TRY(keep(job, r->detail, strlen(r->detail), &s->detail_at, err));
    if (good)
        s->result = job->n_texts++;
    job->n_slots++;
done:
    return st;
}

/* Once the arena has stopped growing, offsets become addresses. */
static void set_addresses(detect_job *job)
{
    for (size_t i = 0; i < job->n_slots; i++) {
        slot *s = &job->slots[i];
        tdm_record *r = &s->record;
        r->file = job->arena.p + s->file_at;
        r->id_json = job->arena.p + s->id_at;
        r->text = job->arena.p + s->text_at;
        r->source = job->arena.p + s->source_at;
        r->detail = job->arena.p + s->detail_at;
        if (r->kind == TDM_RECORD_OK)
            job->texts[s->result] = (tdm_text){.p = r->text, .len = r->text_len};
    }
}

static tdm_status read_window(detect_job *job, bool *at_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    job->arena.len = 0;
    job->n_slots = job->n_texts = 0;
    *at_end = false;
    while (job->n_slots < WINDOW_RECORDS && job->arena.len < WINDOW_BYTES) {
        if (job->n_slots > 0 && tdm_reader_would_block(job->reader))
            break; /* whoever sends slowly gets what there is */
        TDM_TRY(tdm_reader_next(job->reader, &record, err));
        TDM_TRY(check_stop(job, err));
        *at_end = record.kind == TDM_RECORD_END;
        if (*at_end)
            break;
        TDM_TRY(keep_record(job, &record, err));
    }
    set_addresses(job);
done:
    return st;
}

/* ---- writing a window ---- */

/* 9 significant digits, and a number that every reader takes for a float: 1 becomes 1.0. */
static tdm_status put_float(tdm_buf *line, double value, tdm_err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", value);
    return tdm_buf_printf(line, err, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* The six fields, each behind a comma unless it is the first of its object. */
static tdm_status put_fields(detect_job *job, const tdm_detection *d, bool first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &job->line;
    const double floats[] = {d->fake, d->real, (double)d->logit_fake, (double)d->logit_real};
    const int64_t counts[] = {d->counts.all_tokens, d->counts.used_tokens};
    for (size_t i = 0; i < N_FIELDS; i++) {
        TDM_TRY(tdm_buf_printf(line, err, "%s%.*s: ", first && i == 0 ? "" : ", ",
                               (int)job->json_keys[i].len, job->json_keys[i].p));
        if (i < COUNT(floats))
            TDM_TRY(put_float(line, floats[i], err));
        else
            TDM_TRY(tdm_buf_printf(line, err, "%" PRId64, counts[i - COUNT(floats)]));
    }
done:
    return st;
}

/* The bytes of a JSON object up to the end of its last member. */
static size_t open_object_len(const char *source, size_t len)
{
    static const char SPACE[] = " \t\r\n";
    while (len && source[len - 1] != '}')
        len--;
    len -= len > 0;
    while (len && memchr(SPACE, source[len - 1], sizeof SPACE - 1))
        len--;
    return len;
}

/* A record without an id gets one, under the name that ids have in this input. */
static tdm_status put_own_id(detect_job *job, const tdm_record *r, bool *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *key = job->args.common.id_key;
    TDM_TRY(tdm_buf_put(&job->line, ", ", *first ? 0 : 2, err));
    TDM_TRY(tdm_json_put_string(&job->line, key, strlen(key), err));
    TDM_TRY(tdm_buf_put(&job->line, ": ", 2, err));
    TDM_TRY(tdm_buf_put(&job->line, r->id_json, r->id_len, err));
    *first = false;
done:
    return st;
}

static tdm_status put_result(detect_job *job, const tdm_record *r, const tdm_detection *d,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &job->line;
    bool first = false;
    line->len = 0;
    if (job->args.passthrough) {
        const size_t n = open_object_len(r->source, r->source_len);
        TDM_TRY(tdm_buf_put(line, r->source, n, err));
        first = n && r->source[n - 1] == '{';
        if (r->has_no_id)
            TDM_TRY(put_own_id(job, r, &first, err));
    } else {
        TDM_TRY(tdm_buf_put(line, "{\"id\": ", 7, err));
        TDM_TRY(tdm_buf_put(line, r->id_json, r->id_len, err));
    }
    TDM_TRY(put_fields(job, d, first, err));
    TDM_TRY(tdm_buf_put(line, "}\n", 2, err));
    TDM_TRY(tdm_sink_put(job->sink, line->p, line->len, err));
done:
    return st;
}

/* A record that could be read but not judged. */
static void refuse(tdm_record *r, const tdm_detection *d)
{
    r->kind = TDM_RECORD_BAD;
    r->fault = d->outcome == TDM_DETECT_EMPTY ? TDM_FAULT_EMPTY : TDM_FAULT_NON_FINITE;
    r->detail = d->outcome == TDM_DETECT_EMPTY ? "the text holds nothing but white space"
                                               : "a logit is not a finite number";
}

static tdm_status write_window(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n_ids = 0;
    for (size_t i = 0; i < job->n_slots; i++) {
        tdm_record *r = &job->slots[i].record;
        const size_t result = job->slots[i].result;
        const tdm_detection *d = &job->results[result];
        if (r->kind == TDM_RECORD_OK && d->outcome != TDM_DETECTED)
            refuse(r, d);
        if (r->kind == TDM_RECORD_OK) {
            TDM_TRY(put_result(job, r, d, err));
            const int32_t *ids = tdm_detector_ids(job->detector, result, &n_ids);
            job->totals.token_hash = tdm_hash_ids(job->totals.token_hash, ids, n_ids);
        } else {
            if (tdm_sink_is_direct(job->sink))
                tdm_progress_clear(&job->progress);
            TDM_TRY(tdm_sink_bad(job->sink, r, err));
            tdm_progress_add(&job->progress, r->fault != TDM_FAULT_NON_FINITE, 0, 1);
        }
    }
    TDM_TRY(tdm_sink_flush(job->sink, err));
done:
    return st;
}

/* ---- the job ---- */

static bool batch_done(void *ctx, size_t texts, int64_t tokens)
{
    detect_job *job = ctx;
    uint64_t done, total;
    job->totals.tokens += (uint64_t)tokens;
    tdm_reader_progress(job->reader, &done, &total);
    tdm_progress_bytes(&job->progress, done, total);
    tdm_progress_add(&job->progress, texts, (uint64_t)tokens, 0);
    return !*job->stop;
}

static tdm_status run_windows(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool at_end = false;
    while (!at_end) {
        TDM_TRY(read_window(job, &at_end, err));
        st = tdm_detector_run(job->detector, job->texts, job->n_texts, job->results, batch_done,
                              job, err);
        if (st == TDM_ESTOPPED)
            st = check_stop(job, err);
        TDM_TRY(st);
        TDM_TRY(write_window(job, err));
    }
    tdm_sink_counts(job->sink)->skipped = tdm_reader_blank_lines(job->reader);
    TDM_TRY(tdm_sink_commit(job->sink, err));
done:
    return st;
}

/* The names of the new fields, as text to look for in records and as JSON to write. */
static tdm_status make_keys(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *prefix = job->args.key_prefix ? job->args.key_prefix : "";
    for (size_t i = 0; i < N_FIELDS; i++) {
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
                                        .stop = job->stop,
                                        .collide = job->args.passthrough,
                                        .collide_keys = (const char *const *)job->keys};
    tdm_detect_options detecting = TDM_DETECT_DEFAULTS;
    detecting.preprocess = (tdm_preprocess_mode)job->args.preprocess;
    detecting.batch = c->batch;
    detecting.threads = (int)c->threads;
    detecting.skip_weight_check = c->skip_weight_check;
    TDM_TRY(tdm_reader_open(inputs->items, inputs->n, &reading, &job->reader, err));
    TDM_TRY(tdm_sink_open(c->out, c->max_errors, &job->sink, err));
    tdm_sink_stop_by(job->sink, job->stop);
    TDM_TRY(args_open_backend(c, &job->backend, err));
    TDM_TRY(tdm_detector_open(c->model, &job->backend, &detecting, &job->detector, err));
done:
    return st;
}

static void close_job(detect_job *job)
{
    tdm_detector_close(job->detector);
    tdm_backend_close(&job->backend);
    tdm_sink_close(job->sink);
    tdm_reader_close(job->reader);
    tdm_buf_free(&job->arena);
    tdm_buf_free(&job->line);
    for (size_t i = 0; i < N_FIELDS; i++) {
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
        job->stop = signals_catch();
        const tdm_status st = run_job(job, &inputs, &err);
        code = summary_finish(COMMAND.name, &args->common, job->sink, st, &err, &job->totals);
    }
    close_job(job);
    return code;
}
