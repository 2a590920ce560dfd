/* tools/bench_detect.c - "tandem bench detect": whole runs of detect, from JSONL to JSONL. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/bench_job.h"

static const bench_column COLUMNS[] = {
    {"n", 7, 0},       {"length", 6, 0},   {"tokens", 9, 0},    {"start_s", 7, 2},
    {"seconds", 8, 2}, {"texts_s", 8, 1},  {"tokens_s", 10, 0}, {"floor", 8, 1},
    {"share", 6, 3},   {"peak_mib", 8, 0}, {"hash", 16, -1},
};

static void print_result(const job *j, const job_result *r)
{
    const double length = r->tokens / r->records, rate = r->records / r->seconds;
    const double floor = 1 / job_floor_read(j, length);
    const bench_cell cells[] = {
        BENCH_NUMBER(r->records),
        BENCH_NUMBER(length),
        BENCH_NUMBER(r->tokens),
        BENCH_NUMBER(r->start),
        BENCH_NUMBER(r->seconds),
        BENCH_NUMBER(rate),
        BENCH_NUMBER(r->tokens / r->seconds),
        BENCH_NUMBER(floor),
        BENCH_NUMBER(rate / floor),
        BENCH_NUMBER(r->peak / 0x1p20),
        BENCH_TEXT(r->hash),
    };
    bench_print_row(&j->b, COLUMNS, COUNT(COLUMNS), cells);
}

static tdm_status run(const job_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {0};
    char in[BENCH_PATH + 16], out[BENCH_PATH + 16];
    job_result best = {.seconds = INFINITY}, result;
    TDM_TRY(job_open(o, "detect", TDM_ROBERTA, &j, err));
    snprintf(in, sizeof in, "%s/texts.jsonl", j.scratch);
    snprintf(out, sizeof out, "%s/out.jsonl", j.scratch);
    TDM_TRY(job_write_texts(&j, in, o->n, o->length ? o->length : j.config.n_context - 2, err));
    bench_print_head(&j.b, COLUMNS, COUNT(COLUMNS));
    for (int64_t round = 0; round < o->rounds; round++) {
        const char *const args[] = {"detect", in, "--restart", "--out", out};
        TDM_TRY(job_run(&j, args, COUNT(args), &result, err));
        TDM_REQUIRE(isinf(best.seconds) || !strcmp(best.hash, result.hash), TDM_EINTERNAL,
                    "a run read #%s, the next one #%s", best.hash, result.hash);
        best = result.seconds < best.seconds ? result : best;
    }
    print_result(&j, &best);
done:
    job_close(&j);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench detect",
    .usage = "(--model DIR | --size base|large) [options]",
    .summary =
        "Run tandem detect on texts of words of the model's vocabulary, from file to file, and "
        "print texts per second beside the floor of this machine: the multiply-adds of the "
        "network alone.",
    .example = "tandem bench detect --size large --n 4096\n",
    .notes =
        "Columns: texts, tokens of one with the two special ones, tokens of all, seconds besides\n"
        "the work (loading), seconds of the best round, texts/s, tokens/s, floor in texts/s, "
        "share\n"
        "of it, peak host memory, hash of all tokens.\n",
};

int bench_detect(int argc, char **argv)
{
    job_options o = {.bench = BENCH_OPTIONS_DEFAULTS, .n = 256, .rounds = 1};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        JOB_ARGS_MODEL(&o),
        {.name = "n",
         .kind = ARG_I64,
         .out = &o.n,
         .value = "N",
         .min = 1,
         .max = 1e9,
         .help = "texts"},
        {.name = "length",
         .kind = ARG_I64,
         .out = &o.length,
         .value = "N",
         .min = 0,
         .max = 1e6,
         .default_text = "what the model reads",
         .help = "words of one text, a token each"},
        JOB_ARGS_ROUNDS(&o),
        JOB_ARGS_TP(&o),
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
