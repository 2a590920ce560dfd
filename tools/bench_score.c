/* tools/bench_score.c - "tandem bench score": GPT-2 judges every token of given texts. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "host/hash.h"
#include "host/score.h"
#include "tools/bench.h"
#include "tools/bench_job.h"
#include "tools/tp.h"

typedef struct {
    tdm_backend backend;
    tdm_checkpoint *ck;
    gpt2_model *model;
    tdm_scorer *scorer;
    size_t n, length;
    int32_t *ids;          /* [n, length] */
    tdm_stat *stats;       /* [n, length - 1] */
    tdm_score_text *texts; /* [n] */
} scoring;

static tdm_status open_scoring(const job *j, scoring *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const job_options *o = j->options;
    uint64_t state = 1;
    TDM_TRY(tdm_checkpoint_open(j->dir, &s->ck, err));
    common_args common = o->bench.common;
    common.model = j->dir;
    TDM_TRY(tp_open(&common, &(tp_work){0}, &s->backend, err));
    TDM_TRY(gpt2_open(&s->backend, s->ck, &j->config, false, &s->model, err));
    TDM_TRY(tdm_scorer_open(s->model, &(tdm_score_options){0}, &s->scorer, err));
    s->ids = calloc(s->n * s->length, sizeof *s->ids);
    s->stats = calloc(s->n * s->length, sizeof *s->stats);
    s->texts = calloc(s->n, sizeof *s->texts);
    TDM_REQUIRE(s->ids && s->stats && s->texts, TDM_ENOMEM, "%zu texts of %zu tokens", s->n,
                s->length);
    for (size_t i = 0; i < s->n * s->length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        s->ids[i] = (int32_t)((state >> 33) % (uint64_t)j->config.n_vocab);
    }
    for (size_t i = 0; i < s->n; i++)
        s->texts[i] = (tdm_score_text){.ids = s->ids + i * s->length,
                                       .n = (int32_t)s->length,
                                       .stats = s->stats + i * (s->length - 1)};
done:
    return st;
}

static void close_scoring(scoring *s)
{
    free(s->texts);
    free(s->stats);
    free(s->ids);
    tdm_scorer_close(s->scorer);
    gpt2_close(s->model);
    tdm_backend_close(&s->backend);
    tdm_checkpoint_close(s->ck);
}

static const bench_column COLUMNS[] = {
    {"n", 7, 0},       {"length", 6, 0},        {"tokens", 9, 0},
    {"seconds", 8, 2}, {"tokens_s", 10, 0},     {"floor", 10, 0},
    {"share", 6, 3},   {"mean_logprob", 12, 4}, {"hash", 16, -1},
};

/* The hash is over the ranks: one that changes with the arithmetic's order shows that it did. */
static void print_result(const job *j, const scoring *s, double seconds)
{
    const size_t judged = s->n * (s->length - 1);
    const double tokens = (double)(s->n * s->length);
    const double floor = (double)s->length / job_floor_read(j, (double)s->length);
    uint64_t hash = TDM_HASH_START;
    double sum = 0;
    char text[24];
    for (size_t i = 0; i < judged; i++) {
        sum += s->stats[i].logprob;
        hash = tdm_hash_ids(hash, &s->stats[i].rank, 1);
    }
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    const bench_cell cells[] = {
        BENCH_NUMBER(s->n),
        BENCH_NUMBER(s->length),
        BENCH_NUMBER(tokens),
        BENCH_NUMBER(seconds),
        BENCH_NUMBER(tokens / seconds),
        BENCH_NUMBER(floor),
        BENCH_NUMBER(tokens / seconds / floor),
        BENCH_NUMBER(sum / (double)judged),
        BENCH_TEXT(text),
    };
    bench_print_row(&j->b, COLUMNS, COUNT(COLUMNS), cells);
}

static tdm_status run(const job_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {0};
    scoring s = {.n = (size_t)o->n};
    double best = INFINITY;
    TDM_TRY(job_open(o, "score", TDM_GPT2, &j, err));
    const int64_t most = j.config.n_context;
    s.length = (size_t)(o->length > 0 && o->length < most ? o->length : most);
    TDM_TRY(open_scoring(&j, &s, err));
    bench_print_head(&j.b, COLUMNS, COUNT(COLUMNS));
    const tdm_score_text warm = s.texts[0];
    TDM_TRY(tdm_scorer_run(s.scorer, &warm, 1, err));
    for (int64_t round = 0; round < o->rounds; round++) {
        const double start = bench_seconds();
        TDM_TRY(tdm_scorer_run(s.scorer, s.texts, s.n, err));
        const double spent = bench_seconds() - start;
        best = spent < best ? spent : best;
    }
    print_result(&j, &s, best);
done:
    close_scoring(&s);
    job_close(&j);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench score",
    .usage = "(--model DIR | --size SIZE) [options]",
    .summary =
        "Let GPT-2 judge every token of random texts (log-probability, rank, entropy), packed "
        "without padding, and print tokens per second beside the floor of this machine: the "
        "multiply-adds of the network alone.",
    .example = "tandem bench score --size 1558M --n 64\n",
    .notes =
        "Columns: texts, tokens of one, tokens of all, seconds of the best round, tokens/s, floor\n"
        "in tokens/s, share of it, mean log-probability, hash of all ranks.\n",
};

int bench_score(int argc, char **argv)
{
    job_options o = {.bench = BENCH_OPTIONS_DEFAULTS, .n = 16, .rounds = 2};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        JOB_ARGS_MODEL(&o),
        {.name = "n",
         .kind = ARG_I64,
         .out = &o.n,
         .value = "N",
         .min = 1,
         .max = 1e6,
         .help = "texts"},
        {.name = "length",
         .kind = ARG_I64,
         .out = &o.length,
         .value = "N",
         .min = 2,
         .max = 1e6,
         .default_text = "what fits the context",
         .help = "tokens of one"},
        JOB_ARGS_ROUNDS(&o),
        JOB_ARGS_TP(&o),
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
