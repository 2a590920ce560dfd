/* tools/bench_evaluate.c - "tandem bench evaluate": sorting scores, their values, the bootstrap. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "host/evaluate.h"
#include "host/rng.h"
#include "tools/bench.h"
#include "tools/bench_common.h"

typedef struct {
    bench_options bench;
    int64_t n, replicates; /* 0: by default */
} evaluate_options;

static const bench_column COLUMNS[] = {
    {"n", 9, 0},           {"scores", 7, -1},     {"sort_s", 8, 4},     {"values_s", 8, 4}, {"replicates", 10, 0},
    {"bootstrap_s", 11, 2}, {"core_ns", 8, 2},    {"peak_mib", 8, 1},   {"auroc", 8, 6},    {"low", 8, 6},
    {"high", 8, 6},
};

/* Let the peak of memory begin here; false where the system cannot. */
static bool forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    const bool good = f && fputs("5", f) >= 0;
    return f && fclose(f) == 0 && good;
}

static struct rusage usage_so_far(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage;
}

static double cpu_seconds(void)
{
    const struct rusage u = usage_so_far();
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Half are machines', and somewhat higher. Rounded: to three digits, as a detector's that is sure. */
static void make_scores(size_t n, bool is_rounded, double *scores, uint8_t *machine)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4];
        tdm_philox((uint32_t[4]){(uint32_t)i, 0, 0, 0}, 1, w);
        machine[i] = (w[0] & 1 && i) || i == 1; /* at least one of each */
        scores[i] = 0.8 * tdm_word_uniform(w[1]) + 0.2 * tdm_word_uniform(w[2]) * machine[i];
        scores[i] = is_rounded ? round(1000 * scores[i]) / 1000 : scores[i];
    }
}

static tdm_status measure(const bench *b, size_t n, bool is_rounded, int64_t replicates, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_evaluate_options options = {.threshold = 0.5, .fprs = {0.05, 0.01, 0.001}, .n_fprs = 3};
    const tdm_bootstrap_options boot = {.replicates = replicates,
                                        .seed = 1,
                                        .confidence = 0.95,
                                        .threads = (int)b->options->common.threads};
    double *scores = malloc(n * sizeof *scores), at[4], cpu = 0;
    uint8_t *machine = malloc(n);
    tdm_ranking *r = NULL;
    tdm_values values;
    tdm_intervals intervals;
    TDM_REQUIRE(scores && machine, TDM_ENOMEM, "%zu scores", n);
    make_scores(n, is_rounded, scores, machine);
    const bool has_peak = forget_peak();
    at[0] = bench_seconds();
    TDM_TRY(tdm_ranking_open(&(tdm_scored){scores, machine, NULL, n}, &r, err));
    at[1] = bench_seconds();
    tdm_evaluate(r, &options, &values);
    at[2] = bench_seconds();
    cpu = cpu_seconds();
    TDM_TRY(tdm_bootstrap(r, &options, &boot, &intervals, err));
    cpu = cpu_seconds() - cpu;
    at[3] = bench_seconds();
    const bench_cell cells[] = {
        BENCH_NUMBER(n), BENCH_TEXT(is_rounded ? "rounded" : "as drawn"), BENCH_NUMBER(at[1] - at[0]),
        BENCH_NUMBER(at[2] - at[1]), BENCH_NUMBER(replicates), BENCH_NUMBER(at[3] - at[2]),
        BENCH_NUMBER(1e9 * cpu / (double)replicates / (double)n),
        BENCH_NUMBER(has_peak ? (double)usage_so_far().ru_maxrss / 1024 : NAN), BENCH_NUMBER(values.auroc),
        BENCH_NUMBER(intervals.auroc.low), BENCH_NUMBER(intervals.auroc.high)};
    bench_print_row(b, COLUMNS, COUNT(COLUMNS), cells);
done:
    tdm_ranking_close(r);
    free(machine);
    free(scores);
    return st;
}

static tdm_status run(const evaluate_options *o, tdm_err *err)
{
    static const size_t SIZES[] = {10000, 1000000, 10000000}, SMALL[] = {1000};
    tdm_status st = TDM_OK;
    bench b = {0};
    const size_t one = (size_t)o->n, *sizes = o->n ? &one : o->bench.small ? SMALL : SIZES;
    const size_t n_sizes = o->n || o->bench.small ? 1 : COUNT(SIZES);
    const int64_t replicates = o->replicates ? o->replicates : o->bench.small ? 10 : 1000;
    TDM_TRY(bench_open(&o->bench, "evaluate", &b, err));
    bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < n_sizes; i++)
        for (int is_rounded = 0; is_rounded < 2; is_rounded++)
            TDM_TRY(measure(&b, sizes[i], is_rounded, replicates, err));
done:
    bench_close(&b);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench evaluate",
    .usage = "[options]",
    .summary = "Sort scores that are made up, take all values that tandem eval takes, and bootstrap "
               "their intervals.",
    .example = "tandem bench evaluate --n 10000000 --replicates 100\n",
    .notes =
        "Columns: texts; scores as drawn (hardly two are equal) or rounded to three digits; seconds of\n"
        "sorting, of all values, replicates, seconds of them; nanoseconds that one core takes for a text\n"
        "of a replicate; peak memory, with 9 bytes a text for the scores and the program's own; AUROC and\n"
        "its interval, which depend on nothing but texts and replicates.\n",
};

int bench_evaluate(int argc, char **argv)
{
    evaluate_options o = {.bench = BENCH_OPTIONS_DEFAULTS};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        {.name = "n",
         .kind = ARG_I64,
         .out = &o.n,
         .value = "N",
         .min = 2,
         .max = 1e9,
         .default_text = "10000, 1000000 and 10000000; with --small 1000",
         .help = "texts"},
        {.name = "replicates",
         .kind = ARG_I64,
         .out = &o.replicates,
         .value = "N",
         .min = 1,
         .max = 1e6,
         .default_text = "1000, with --small 10",
         .help = "of the bootstrap"},
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    const tdm_status st = run(&o, &err);
    return st == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
