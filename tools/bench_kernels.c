/* tools/bench_kernels.c - "tandem bench kernels": the operations of the models besides the matrix
 * product, at the shapes of the published models, beside what the machine can do at most. Cases of
 * one operation take turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/bench_ops.h"

static const op_model MODELS[] = {
    {"1558M", false, 1600, 50257, 1024},
    {"124M", false, 768, 50257, 1024},
    {"large", true, 1024, 50265, 514},
    {"base", true, 768, 50265, 514},
};
static const op_model SMALL_MODELS[] = {{"small", false, 128, 700, 128},
                                        {"small", true, 128, 700, 130}};

static const bench_column COLUMNS[] = {
    {"op", 14, -1},       {"variant", 14, -1}, {"shape", 6, -1}, {"texts", 5, 0},  {"length", 6, 0},
    {"median_us", 10, 2}, {"best_us", 10, 2},  {"gflops", 9, 1}, {"gbytes", 8, 1}, {"share", 6, 3},
};

static void print_set(const op_set *s, const bench_run *run)
{
    double flops = 0, bytes = 0;
    s->k->cost(s, &flops, &bytes);
    const bench_cell cells[] = {
        BENCH_TEXT(s->k->op),
        BENCH_TEXT(s->k->variant),
        BENCH_TEXT(s->m->name),
        BENCH_NUMBER(s->texts),
        BENCH_NUMBER(s->length),
        BENCH_NUMBER(1e6 * run->median),
        BENCH_NUMBER(1e6 * run->best),
        BENCH_NUMBER(1e-9 * flops / run->median),
        BENCH_NUMBER(1e-9 * bytes / run->median),
        BENCH_NUMBER(bench_floor(&s->b->machine, flops, bytes) / run->median),
    };
    bench_print_row(s->b, COLUMNS, COUNT(COLUMNS), cells);
}

/* The CPU gets fewer texts, --small few and short ones. */
static tdm_status open_set(const bench *b, const op_case *k, const op_model *m, op_set *s,
                           tdm_err *err)
{
    const int32_t fewer = b->is_cuda ? 1 : 16;
    s->b = b;
    s->k = k;
    s->m = m;
    s->texts = k->texts > fewer ? k->texts / fewer : 1;
    s->length = k->length;
    if (b->options->small) {
        s->texts = k->texts < 3 ? k->texts : 3;
        s->length = k->length < 70 ? k->length : 70;
    }
    s->rows = (int64_t)s->texts * s->length;
    s->act = (double)tdm_dtype_size(b->backend.dtype);
    s->kv = s->act;
    return k->open(s, err);
}

/* The cases of one operation, n of them from `first` on, that this model has: in turn. */
static tdm_status time_operation(const bench *b, const op_model *m, size_t first, size_t n,
                                 tdm_err *err)
{
    tdm_status st = TDM_OK;
    bench_run runs[BENCH_RUNS] = {0};
    size_t n_sets = 0;
    op_set *sets = calloc(n, sizeof *sets);
    TDM_REQUIRE(sets, TDM_ENOMEM, "operands");
    for (size_t i = first; i < first + n; i++) {
        if (!(m->detector ? OP_CASES[i].detector : OP_CASES[i].gpt2))
            continue;
        op_set *s = &sets[n_sets++];
        TDM_TRY(open_set(b, &OP_CASES[i], m, s, err));
        runs[n_sets - 1] = (bench_run){.call = OP_CASES[i].call, .ctx = s, .turns = s->turns};
    }
    TDM_TRY(bench_measure(b, runs, n_sets, err));
    for (size_t i = 0; i < n_sets; i++)
        print_set(&sets[i], &runs[i]);
done:
    for (size_t i = 0; i < n_sets; i++)
        op_close(&sets[i]);
    free(sets);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s %s", m->name, OP_CASES[first].op);
}

typedef struct {
    bench_options bench;
    const char *only;
} kernels_options;

static tdm_status run(const kernels_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bench b = {0};
    size_t done_operations = 0;
    const op_model *models = o->bench.small ? SMALL_MODELS : MODELS;
    const size_t n_models = o->bench.small ? COUNT(SMALL_MODELS) : COUNT(MODELS);
    TDM_TRY(bench_open(&o->bench, "kernels", &b, err));
    bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < n_models; i++)
        for (size_t first = 0, end; first < N_OP_CASES; first = end) {
            for (end = first; end < N_OP_CASES && !strcmp(OP_CASES[end].op, OP_CASES[first].op);
                 end++)
                ;
            if (o->only && strncmp(OP_CASES[first].op, o->only, strlen(o->only)) != 0)
                continue;
            TDM_TRY(time_operation(&b, &models[i], first, end - first, err));
            done_operations++;
        }
    TDM_REQUIRE(done_operations > 0, TDM_EARG, "--only %s: no operation begins like this", o->only);
done:
    bench_close(&b);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench kernels",
    .usage = "[options]",
    .summary =
        "Time the operations of the models besides the matrix product, at the shapes of GPT-2 "
        "(1558M, 124M) and of the detectors (large, base). Operands come from memory, not from a "
        "cache. The share is that of the nearer ceiling: multiply-adds, or moving what the "
        "operation must read and write once.",
    .example = "tandem bench kernels --device cuda --only attend\n",
    .notes =
        "Columns: op, variant, shape, texts, length (of each; decoding: keys), median and best\n"
        "microseconds, GFLOP/s, GB/s, share of the ceiling at the median. The CPU gets a\n"
        "sixteenth of the texts.\n",
};

int bench_kernels(int argc, char **argv)
{
    kernels_options o = {.bench = BENCH_OPTIONS_DEFAULTS};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        {.name = "only",
         .kind = ARG_STR,
         .out = &o.only,
         .value = "NAME",
         .help = "operations whose name begins like this"},
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
