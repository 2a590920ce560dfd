/* tools/bench_generate.c - "tandem bench generate": whole runs of tandem generate, text written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/batch.h"
#include "tools/bench.h"
#include "tools/bench_job.h"

enum { MOST_BATCHES = 12, MOST_MORE = 24 };

typedef struct {
    job_options job;
    const char *batches;
    arg_list more; /* options that go to generate as they are */
} generate_options;

typedef struct {
    char name[16];   /* "64", "auto" */
    job_result best; /* of the rounds: the one that took the least time */
} batch;

static tdm_status read_batches(const char *text, batch *batches, size_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *at = text;
    for (*n = 0;; at++) {
        const size_t len = strcspn(at, ",");
        const long value = strspn(at, "0123456789") == len && len < 8 ? atol(at) : 0;
        TDM_REQUIRE(*n < MOST_BATCHES && ((len == 4 && !memcmp(at, "auto", 4)) ||
                                          (value >= 1 && value <= TDM_MAX_BATCH)),
                    TDM_EARG, "--batch %s: want up to %d of 1 to %d and auto with commas between",
                    text, MOST_BATCHES, TDM_MAX_BATCH);
        batches[*n] = (batch){.best.seconds = INFINITY};
        memcpy(batches[(*n)++].name, at, len);
        at += len;
        if (!*at)
            break;
    }
done:
    return st;
}

static tdm_status run_batch(const job *j, const generate_options *o, batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *args[16 + MOST_MORE];
    char n[24], length[24], out[BENCH_PATH + 16];
    job_result result;
    snprintf(n, sizeof n, "%lld", (long long)o->job.n);
    snprintf(length, sizeof length, "%lld", (long long)o->job.length);
    snprintf(out, sizeof out, "%s/out.jsonl", j->scratch);
    const char *const fixed[] = {"generate",
                                 "--n",
                                 n,
                                 "--length",
                                 length,
                                 "--batch",
                                 b->name,
                                 "--restart",
                                 "--out",
                                 out,
                                 "--kv-dtype",
                                 DTYPE_CHOICES[o->job.bench.common.kv_dtype]};
    memcpy(args, fixed, sizeof fixed);
    memcpy(args + COUNT(fixed), o->more.items, o->more.n * sizeof *args);
    TDM_TRY(job_run(j, args, COUNT(fixed) + o->more.n, &result, err));
    TDM_REQUIRE(isinf(b->best.seconds) || !strcmp(b->best.hash, result.hash), TDM_EINTERNAL,
                "batch %s wrote #%s, then #%s", b->name, b->best.hash, result.hash);
    if (result.seconds < b->best.seconds)
        b->best = result;
done:
    return st;
}

static const bench_column COLUMNS[] = {
    {"batch", 6, -1},  {"n", 7, 0},           {"length", 6, 0},   {"tokens", 9, 0},
    {"start_s", 7, 2}, {"seconds", 8, 2},     {"tokens_s", 9, 1}, {"floor", 9, 1},
    {"share", 6, 3},   {"mean_batch", 10, 1}, {"peak_mib", 8, 0}, {"hash", 16, -1},
};

static void print_batch(const job *j, const generate_options *o, const batch *b)
{
    const double at_once = !strcmp(b->name, "auto") ? b->best.tokens / b->best.steps
                                                     : fmin(atof(b->name), (double)o->job.n);
    const double rate = b->best.tokens / b->best.seconds;
    const double floor = 1 / job_floor_generate(j, at_once, (double)o->job.length);
    const bench_cell cells[] = {
        BENCH_TEXT(b->name),
        BENCH_NUMBER(o->job.n),
        BENCH_NUMBER(o->job.length),
        BENCH_NUMBER(b->best.tokens),
        BENCH_NUMBER(b->best.start),
        BENCH_NUMBER(b->best.seconds),
        BENCH_NUMBER(rate),
        BENCH_NUMBER(floor),
        BENCH_NUMBER(rate / floor),
        BENCH_NUMBER(b->best.tokens / b->best.steps),
        BENCH_NUMBER(b->best.peak / 0x1p20),
        BENCH_TEXT(b->best.hash),
    };
    bench_print_row(&j->b, COLUMNS, COUNT(COLUMNS), cells);
}

static tdm_status run(generate_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {0};
    batch batches[MOST_BATCHES];
    size_t n = 0;
    TDM_REQUIRE(o->more.n <= MOST_MORE, TDM_EARG, "%zu words behind --", o->more.n);
    TDM_TRY(read_batches(o->batches, batches, &n, err));
    TDM_TRY(job_open(&o->job, "generate", TDM_GPT2, &j, err));
    if (o->job.length == 0 || o->job.length > j.config.n_context)
        o->job.length = j.config.n_context;
    bench_print_head(&j.b, COLUMNS, COUNT(COLUMNS));
    for (int64_t round = 0; round < o->job.rounds; round++)
        for (size_t k = 0; k < n; k++)
            TDM_TRY(run_batch(&j, o, &batches[round % 2 ? n - 1 - k : k], err));
    for (size_t k = 0; k < n; k++)
        print_batch(&j, o, &batches[k]);
    for (size_t k = 1; k < n; k++)
        TDM_REQUIRE(!strcmp(batches[0].best.hash, batches[k].best.hash), TDM_EINTERNAL,
                    "batch %s wrote #%s, batch %s #%s", batches[0].name, batches[0].best.hash,
                    batches[k].name, batches[k].best.hash);
done:
    job_close(&j);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench generate",
    .usage = "(--model DIR | --size SIZE) [options] [-- options of generate]",
    .summary =
        "Run tandem generate, whole documents to a file, once for each batch, and print tokens "
        "per second beside the floor of this machine: keys and values read once, weights read or "
        "multiplied with once a step, one after the other. Random weights end a text once in as "
        "many tokens as the vocabulary has. Different hashes are an error.",
    .example = "tandem bench generate --size 1558M --n 64 --batch 1,64 -- --top-k 40\n",
    .notes =
        "Columns: batch, documents, length, tokens written, seconds besides the work (loading),\n"
        "seconds of the best round, tokens/s, floor in tokens/s, share of it, mean number of\n"
        "texts at once, peak host memory, hash of all tokens.\n",
};

int bench_generate(int argc, char **argv)
{
    generate_options o = {.job = {.bench = BENCH_OPTIONS_DEFAULTS, .n = 64, .rounds = 1},
                          .batches = "auto"};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        JOB_ARGS_MODEL(&o.job),
        {.name = "n",
         .kind = ARG_I64,
         .out = &o.job.n,
         .value = "N",
         .min = 1,
         .max = 1e9,
         .help = "documents"},
        {.name = "length",
         .kind = ARG_I64,
         .out = &o.job.length,
         .value = "N",
         .min = 0,
         .max = 1e6,
         .default_text = "what fits the context",
         .help = "tokens of one"},
        {.name = "batch",
         .kind = ARG_STR,
         .out = &o.batches,
         .value = "LIST",
         .help = "texts at once, N or auto, with commas between"},
        JOB_ARGS_ROUNDS(&o.job),
        JOB_ARGS_TP(&o.job),
        ARGS_KV_DTYPE(&o.job.bench.common),
        BENCH_ARGS(&o.job.bench),
    };
    o.job.bench.common.quiet = true;
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &o.more, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
