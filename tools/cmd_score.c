/* tools/cmd_score.c - tandem score: records in, how probable GPT-2 finds each of them out. Windows, batches and threads
 * (records.h) change no result. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "tools/commands.h"
#include "tools/score_job.h"
#include "tools/signals.h"
#include "tools/tp.h"
#include "tools/supervise.h"

/* So many that the last, which is not full, costs little; on a slow CPU each is some seconds. */
enum { WINDOW_BATCHES = 4 };

static const char *const FIELDS[SCORE_N_FIELDS] = {
#define X(name, text) [SCORE_FIELD_##name] = text,
    SCORE_FIELD_MAP(X)
#undef X
};
static const char *const BOS_CHOICES[] = {"yes", "no", NULL};
static const char *const ENTROPY_CHOICES[] = {"scored", "all", NULL};
static const char *const BUCKET_CHOICES[] = {"top10", "top11", NULL};

/* ---- scoring ---- */

static tdm_status judge(void *ctx, const tdm_window_line *line, tdm_err *err)
{
    return tdm_scorer_score(((score_job *)ctx)->scorer, line, err);
}

/* A position that is only read. */
static tdm_status try_device(void *ctx, tdm_err *err)
{
    score_job *job = ctx;
    const int32_t eos = job->folder.config.eos, ids[] = {eos, eos};
    tdm_stat stat;
    tdm_cross cross;
    tdm_top top;
    const tdm_score_text text = {.ids = ids, .n = 2, .stats = &stat, .cross = &cross, .top = &top, .skip = 1};
    return tdm_scorer_run(job->scorer, &text, 1, err);
}

/* ---- the job ---- */

static bool is_shown(const score_args *a, score_field field)
{
    switch (field) {
    case SCORE_FIELD_REQUEST:
    case SCORE_FIELD_RESULT:
        return a->gltr > 0;
    case SCORE_FIELD_BINOCULARS:
    case SCORE_FIELD_BINOCULARS_PAPER:
    case SCORE_FIELD_FAST_DETECT_OBSERVER:
        return a->observer != NULL;
    case SCORE_FIELD_PER_TOKEN:
        return a->per_token;
    default:
        return true;
    }
}

static tdm_status name_fields(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int i = 0; i < SCORE_N_FIELDS; i++) {
        if (!is_shown(&job->args, (score_field)i))
            continue;
        job->shown[job->fields.n] = (score_field)i;
        TDM_TRY(fields_add(&job->fields, job->args.key_prefix, FIELDS[i], err));
    }
    TDM_TRY(fields_check(&job->fields, &job->args.common, job->args.passthrough, err));
done:
    return st;
}

/* What GLTR calls a project: the folder's own name. */
static void name_project(score_job *job)
{
    const char *path = job->args.common.model;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    job->project = path + begin;
    job->project_len = end - begin;
}

static tdm_status open_observer(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *model = job->args.common.model, *observer = job->args.observer;
    TDM_TRY(gpt2_folder_open(&job->observer_folder, observer, "--observer", err));
    st = tdm_bpe_check_same(job->folder.bpe, job->observer_folder.bpe, err);
    if (st != TDM_OK)
        return tdm_context(err, st, "--observer %s: not the vocabulary of %s", observer, model);
    TDM_REQUIRE(job->observer_folder.config.n_context >= job->folder.config.n_context, TDM_EFORMAT,
                "--observer %s: a context of %d tokens, %s has %d", observer, job->observer_folder.config.n_context,
                model, job->folder.config.n_context);
done:
    return st;
}

/* All that is cheap to check; the weights come last. */
static tdm_status open_folders(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const score_args *a = &job->args;
    TDM_TRY(gpt2_folder_open(&job->folder, a->common.model, "score", err));
    if (a->observer)
        TDM_TRY(open_observer(job, err));
    job->context = (size_t)job->folder.config.n_context;
    TDM_REQUIRE(a->stride <= (int64_t)job->context, TDM_EARG, "--stride %" PRId64 ": the context of %s is %zu",
                a->stride, a->common.model, job->context);
    job->stride = a->stride < 0 ? (job->context + 1) / 2 : (size_t)a->stride;
    TDM_REQUIRE(a->gltr <= job->folder.config.n_vocab, TDM_EARG, "--gltr %" PRId64 ": %s has %d tokens", a->gltr,
                a->common.model, job->folder.config.n_vocab);
    name_project(job);
    TDM_TRY(tp_open(&a->common, &(tp_work){.observer = a->observer, .top = (int32_t)a->gltr}, &job->backend, err));
    job->backend.stop = job->records.stop.also;
done:
    return st;
}

/* The options that the bytes of the results depend on, and what else there is to know of them, as JSON. */
static tdm_status put_settings(const score_job *job, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const score_args *a = &job->args;
    const char *prefix = a->key_prefix ? a->key_prefix : "";
    TDM_TRY(tdm_buf_printf(out, err, "{\"bos\": \"%s\", \"stride\": %zu, \"entropy\": \"%s\", \"gltr-buckets\": \"%s\"",
                           BOS_CHOICES[a->bos], job->stride, ENTROPY_CHOICES[a->entropy],
                           BUCKET_CHOICES[a->buckets]));
    TDM_TRY(tdm_buf_printf(out, err, ", \"per-token\": %s, \"gltr\": ", a->per_token ? "true" : "false"));
    TDM_TRY(a->gltr ? tdm_buf_printf(out, err, "%" PRId64, a->gltr) : tdm_buf_put(out, "null", 4, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"passthrough\": %s, \"key-prefix\": ", a->passthrough ? "true" : "false"));
    TDM_TRY(tdm_json_put_string(out, prefix, strlen(prefix), err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"conventions\": {\"rank-base\": 1, \"logarithm\": \"natural\""));
    TDM_TRY(tdm_buf_printf(out, err, ", \"observer\": %s", a->observer ? "true" : "false"));
    if (a->gltr) {
        TDM_TRY(tdm_buf_printf(out, err, ", \"project\": "));
        TDM_TRY(tdm_json_put_string(out, job->project, job->project_len, err));
    }
    TDM_TRY(tdm_buf_put(out, "}}", 3, err));
done:
    return st;
}

static tdm_status open_run(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf settings = {0};
    TDM_TRY(put_settings(job, &settings, err));
    const run_options options = {.common = &job->args.common,
                                 .command = "score",
                                 .settings = settings.p,
                                 .observer = job->args.observer,
                                 .backend = &job->backend,
                                 .inputs = &job->records.inputs,
                                 .stop = job->records.stop.also};
    TDM_TRY(run_open(&job->records.run, &options, err));
done:
    tdm_buf_free(&settings);
    return st;
}

/* --batch is in texts that fill the context. */
static tdm_status open_scorer(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = &job->args.common;
    const int64_t rows = c->batch * (int64_t)job->context;
    TDM_REQUIRE(rows <= INT32_MAX, TDM_EARG, "--batch %" PRId64 ": texts of %zu tokens", c->batch, job->context);
    TDM_TRY(gpt2_open(&job->backend, job->folder.checkpoint, &job->folder.config, !c->skip_weight_check, &job->model,
                      err));
    if (job->args.observer)
        TDM_TRY(gpt2_open(&job->backend, job->observer_folder.checkpoint, &job->observer_folder.config,
                          !c->skip_weight_check, &job->observer, err));
    const tdm_score_options options = {
        .rows = (int32_t)rows, .observer = job->observer, .top = (int32_t)job->args.gltr};
    st = tdm_scorer_open(job->model, &options, &job->scorer, err);
    if (st == TDM_EARG && rows)
        return tdm_context(err, st, "--batch %" PRId64, c->batch);
done:
    return st;
}

static tdm_status score_records(score_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    records_window *windows[SCORE_WINDOWS];
    TDM_TRY(records_open(&job->records, err));
    TDM_TRY(open_scorer(job, err));
    for (size_t i = 0; i < SCORE_WINDOWS; i++) {
        tdm_score_window *w = NULL;
        TDM_TRY(tdm_score_window_open(&w, err));
        windows[i] = &job->windows[i].records;
        windows[i]->judged = w;
    }
    const records_steps steps = {.command = "score",
                                 .window_tokens = (int64_t)WINDOW_BATCHES * tdm_scorer_rows(job->scorer),
                                 .text_tokens = job->stride == 0 ? (int64_t)job->context : INT64_MAX,
                                 .ctx = job,
                                 .prepare = score_prepare,
                                 .judge = judge,
                                 .put = score_put,
                                 .try_device = try_device};
    TDM_TRY(records_run(&job->records, &steps, windows, SCORE_WINDOWS, err));
done:
    return st;
}

static tdm_status run_job(score_job *job, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(name_fields(job, err));
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, job->args.common.out, &job->records.inputs, err));
    TDM_TRY(open_folders(job, err));
    records_set(&job->records, &job->args.common, &job->fields, job->args.passthrough);
    TDM_TRY(open_run(job, err));
    if (!job->records.run.is_complete)
        TDM_TRY(score_records(job, err));
done:
    return st;
}

static void close_job(score_job *job)
{
    tdm_scorer_close(job->scorer);
    gpt2_close(job->observer);
    gpt2_close(job->model);
    tdm_backend_close(&job->backend);
    gpt2_folder_close(&job->observer_folder);
    gpt2_folder_close(&job->folder);
    for (size_t i = 0; i < SCORE_WINDOWS; i++)
        score_window_close(&job->windows[i]);
    records_close(&job->records);
    fields_free(&job->fields);
    free(job);
}

static const arg_command COMMAND = {
    .name = "score",
    .usage = "--model DIR [options] [FILE...]",
    .summary =
        "Finds out how probable GPT-2 finds each text, token by token, and from that every measure that "
        "zero-shot detectors use. Input is JSON Lines, {\"id\": any, \"text\": \"...\"}, also as .gz and "
        ".zst; a folder stands for such files in it; - or no FILE is standard input. Results come in the order "
        "of the input. The text is tokenised as it is, white space and all; what looks like a special token is "
        "plain text.",
    .notes = "One object a line; natural logarithms, the likeliest token has rank 1:\n"
             "{\"id\": ..., \"tokens\": n scored, \"logprob\": sum, \"mean_logprob\": x, \"ppl\": x,\n"
             " \"mean_rank\": x, \"mean_logrank\": x, \"entropy\": mean, \"lrr\": x,\n"
             " \"fast_detect\": x, \"gltr\": [n, n, n, n], \"all_tokens\": n, \"windows\": n}\n"
             "with --observer also \"binoculars\", \"binoculars_paper\", \"fast_detect_observer\".\n"
             "What is no finite number, a quotient by 0, is null. The README has the formulas.\n"
             "A text that does not fit the context is read in windows of its length, each\n"
             "--stride tokens further (half the context unless given). Each token is scored\n"
             "once, in the first window that has it: from the second window on with at least\n"
             "context - stride tokens before it. Only the first window begins with\n"
             "<|endoftext|>. --stride 0 looks at the first window alone, of context tokens,\n"
             "<|endoftext|> included. \"windows\" says how many there were.\n"
             "A record that cannot be scored has no result; it is listed with its place and\n"
             "class in OUT.errors.jsonl, or on stderr when OUT is stdout. With --bos no a text\n"
             "of one token is such a record (too-short).\n"
             "--per-token adds {\"ids\": [...], \"logprob\": [...], \"rank\": [...], \"entropy\": [...]}\n"
             "of the scored tokens, with --observer \"cross\" too. --gltr K puts GLTR's \"request\"\n"
             "and \"result\" in front of the measures; its page asks for K = 20.",
    .example = "tandem score --model gpt2-xl --observer gpt2-large texts.jsonl --out scored.jsonl"};

int cmd_score(int argc, char **argv)
{
    tdm_err err = {0};
    arg_list operands;
    int code = TDM_OK;
    score_job *job = calloc(1, sizeof *job);
    if (!job) {
        tdm_fail(&err, TDM_ENOMEM, "score job");
        return args_fail(COMMAND.name, &err);
    }
    score_args *a = &job->args;
    *a = (score_args){.common = COMMON_DEFAULTS, .stride = -1};
    records_init(&job->records);
    const arg_spec specs[] = {
        ARGS_MODEL(&a->common),
        {.name = "observer", .kind = ARG_STR, .out = &a->observer, .value = "DIR",
         .help = "a second GPT-2 with the same vocabulary, which says what was to be expected: Binoculars and "
                 "Fast-DetectGPT with two models"},
        ARGS_OUT(&a->common),
        {.name = "bos", .kind = ARG_CHOICE, .out = &a->bos, .value = "yes|no", .choices = BOS_CHOICES,
         .help = "whether <|endoftext|> stands in front, so that the first token is scored too"},
        {.name = "stride", .kind = ARG_I64, .out = &a->stride, .value = "N", .min = 0, .max = INT32_MAX,
         .default_text = "half the context",
         .help = "tokens from one window to the next where a text does not fit the context; 0: the first alone"},
        {.name = "entropy", .kind = ARG_CHOICE, .out = &a->entropy, .value = "scored|all", .choices = ENTROPY_CHOICES,
         .help = "whose entropies, and cross entropies, the means are of: in the place of each scored token, or also "
                 "behind the last, as in Binoculars' code"},
        {.name = "gltr-buckets", .kind = ARG_CHOICE, .out = &a->buckets, .value = "top10|top11",
         .choices = BUCKET_CHOICES,
         .help = "ranks up to 10, 100 and 1000 from 1, as GLTR's page and MGTBench count, or from 0, as RAID does"},
        {.name = "per-token", .kind = ARG_FLAG, .out = &a->per_token, .help = "write what each token got"},
        {.name = "gltr", .kind = ARG_I64, .out = &a->gltr, .value = "K", .min = 1, .max = TDM_TOP_MOST,
         .default_text = "off", .help = "write what GLTR's page reads, with the K likeliest tokens of each place"},
        {.name = "passthrough", .kind = ARG_FLAG, .out = &a->passthrough,
         .help = "write the whole input record with the new fields appended"},
        {.name = "key-prefix", .kind = ARG_STR, .out = &a->key_prefix, .value = "TEXT",
         .help = "put TEXT before the names of the new fields"},
        {.name = "batch", .kind = ARG_BATCH, .out = &a->common.batch, .value = "N|auto",
         .help = "texts as long as the context that one pass takes; short ones share the room"},
        ARGS_DEVICE(&a->common),
        ARGS_TP(&a->common),
        ARGS_DEVICES(&a->common),
        ARGS_WEIGHTS(&a->common),
        ARGS_RECORDS(&a->common),
        ARGS_CHUNK(&a->common),
        ARGS_JOB(&a->common),
        ARGS_REPORT(&a->common),
    };
    if (args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code) &&
        supervise(COMMAND.name, &a->common, &code)) {
        job->records.stop.also = signals_catch();
        const tdm_status st = run_job(job, &operands, &err);
        code = summary_finish(COMMAND.name, &a->common, &job->records.run, st, &err, &job->records.totals);
    }
    close_job(job);
    return code;
}
