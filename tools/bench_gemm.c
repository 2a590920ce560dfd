/* tools/bench_gemm.c - "tandem bench gemm": the matrix product on the shapes of the models, beside what
 * the machine can do at most, measured just before. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/cpu.h"
#include "tools/args.h"
#include "tools/bench.h"

static const struct {
    const char *name;
    int in, out;
} SHAPES[] = {
    {"124M qkv", 768, 2304},     {"124M out", 768, 768},       {"124M up", 768, 3072},
    {"124M down", 3072, 768},    {"124M logits", 768, 50257},  {"large qkv", 1024, 3072},
    {"large out", 1024, 1024},   {"large up", 1024, 4096},     {"large down", 4096, 1024},
    {"1558M qkv", 1600, 4800},   {"1558M out", 1600, 1600},    {"1558M up", 1600, 6400},
    {"1558M down", 6400, 1600},  {"1558M logits", 1600, 50257},
};

static const arg_command COMMAND = {
    .name = "bench gemm",
    .usage = "[options]",
    .summary = "Time the CPU's matrix product on the shapes of GPT-2 (124M, 1558M) and of the detectors "
               "(base has the shapes of 124M, large its own). Each shape cycles through copies of its "
               "weights, so that they come from memory as in a model. The share is that of the "
               "nearer ceiling: multiply-adds, or reading the weights once.",
    .example = "tandem bench gemm --rows 1,64 --threads 2\n",
    .notes = "Columns: shape, in, out, rows, median and best microseconds, GFLOP/s, GB/s of weights, "
             "share of the ceiling at the median.\n",
};

enum { MAX_ROWS = 16, MAX_COPIES = 64, REPEATS = 15 };

typedef struct {
    tdm_backend backend;
    const cpu_kernels *kernels;
    tdm_threads *threads;
    int n_threads;
    double peak, bandwidth; /* operations and bytes per second */
    bool csv;
} bench;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- ceilings ---- */

enum { PEAK_ROUNDS = 2000000, READ_FLOATS = 64 << 20 };

typedef struct {
    const cpu_kernels *kernels;
    const float *memory;
    size_t n_parts;
    float sink[1024]; /* keeps the work from being optimised away */
} ceiling_job;

static void peak_item(void *ctx, size_t i)
{
    ceiling_job *job = ctx;
    job->sink[i] = job->kernels->peak(PEAK_ROUNDS);
}

static void read_item(void *ctx, size_t i)
{
    ceiling_job *job = ctx;
    const size_t part = READ_FLOATS / job->n_parts;
    job->sink[i] = job->kernels->read(job->memory + i * part, part);
}

/* The best of a few runs: other work on the machine only makes them slower. */
static double best_seconds(const bench *b, size_t n, void (*fn)(void *ctx, size_t i),
                           ceiling_job *job)
{
    double best = 1e30;
    for (int i = 0; i < 7; i++) {
        const double start = seconds();
        tdm_parallel(b->threads, n, fn, job);
        const double spent = seconds() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

static tdm_status measure_ceilings(bench *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    void *memory = NULL;
    ceiling_job *job = calloc(1, sizeof *job);
    TDM_REQUIRE(job, TDM_ENOMEM, "bench");
    TDM_TRY(tdm_alloc(&b->backend, READ_FLOATS * sizeof(float), &memory, err));
    memset(memory, 0, READ_FLOATS * sizeof(float));
    job->kernels = b->kernels;
    job->memory = memory;
    job->n_parts = (size_t)b->n_threads;
    b->peak = (double)PEAK_ROUNDS * (double)b->kernels->peak_flops * b->n_threads /
              best_seconds(b, job->n_parts, peak_item, job);
    job->n_parts = 64;
    b->bandwidth = READ_FLOATS * sizeof(float) / best_seconds(b, job->n_parts, read_item, job);
done:
    tdm_release(&b->backend, memory);
    free(job);
    return st;
}

/* ---- products ---- */

typedef struct {
    tdm_weight *weights[MAX_COPIES];
    size_t n_weights;
    tdm_mat x, y;
} operands;

static void close_operands(const bench *b, operands *o)
{
    for (size_t i = 0; i < o->n_weights; i++)
        tdm_weight_close(&b->backend, o->weights[i]);
    tdm_release(&b->backend, o->x.p);
    tdm_release(&b->backend, o->y.p);
}

/* Weights of one shape, as many copies as make 256 MiB, and room for `rows` rows. */
static tdm_status open_operands(const bench *b, int in, int out, int64_t rows, operands *o,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)in * (size_t)out, copies = ((size_t)256 << 20) / (n * sizeof(float)) + 1;
    float *src = malloc(n * sizeof *src);
    TDM_REQUIRE(src, TDM_ENOMEM, "a matrix of %d x %d", in, out);
    for (size_t i = 0; i < n; i++)
        src[i] = (float)(i * 2654435761u % 2048) / 1024 - 1;
    while (o->n_weights < (copies < MAX_COPIES ? copies : MAX_COPIES)) {
        TDM_TRY(tdm_weight_open(&b->backend, src, TDM_F32, in, out, TDM_IN_OUT,
                                &o->weights[o->n_weights], err));
        o->n_weights++;
    }
    o->x = (tdm_mat){NULL, rows, in, TDM_F32};
    o->y = (tdm_mat){NULL, rows, out, TDM_F32};
    TDM_TRY(tdm_alloc(&b->backend, (size_t)rows * (size_t)in * sizeof(float), &o->x.p, err));
    TDM_TRY(tdm_alloc(&b->backend, (size_t)rows * (size_t)out * sizeof(float), &o->y.p, err));
    for (size_t i = 0; i < (size_t)rows * (size_t)in; i++)
        ((float *)o->x.p)[i] = src[i % n];
done:
    free(src);
    return st;
}

static tdm_status time_rows(const bench *b, const operands *o, const char *name, int64_t rows,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    double times[REPEATS];
    tdm_mat x = o->x, y = o->y;
    x.rows = y.rows = rows;
    for (int i = -2; i < REPEATS; i++) { /* two to warm up */
        const tdm_weight *w = o->weights[(size_t)(i + 2) % o->n_weights];
        const double start = seconds();
        TDM_TRY(tdm_linear(&b->backend, y, x, w, NULL, TDM_LINEAR, err));
        if (i >= 0)
            times[i] = seconds() - start;
    }
    qsort(times, REPEATS, sizeof *times, by_value);
    const double flops = 2.0 * (double)rows * x.cols * y.cols, bytes = 4.0 * x.cols * y.cols;
    const double median = times[REPEATS / 2], by_flops = flops / b->peak;
    const double floor = bytes / b->bandwidth > by_flops ? bytes / b->bandwidth : by_flops;
    printf(b->csv ? "%s,%d,%d,%" PRId64 ",%.1f,%.1f,%.1f,%.2f,%.3f\n"
                  : "%-13s %5d %6d %5" PRId64 " %11.1f %11.1f %9.1f %7.2f %7.3f\n",
           name, x.cols, y.cols, rows, 1e6 * median, 1e6 * times[0], 1e-9 * flops / median,
           1e-9 * bytes / median, floor / median);
    fflush(stdout);
done:
    return st;
}

static tdm_status time_shapes(const bench *b, const int64_t *rows, size_t n_rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int64_t most = 0;
    operands o = {0};
    for (size_t i = 0; i < n_rows; i++)
        most = rows[i] > most ? rows[i] : most;
    printf(b->csv ? "shape,in,out,rows,median_us,best_us,gflops,gbytes,share\n"
                  : "shape            in    out  rows   median us     best us   GFLOP/s    GB/s   share\n");
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        TDM_TRY(open_operands(b, SHAPES[i].in, SHAPES[i].out, most, &o, err));
        for (size_t j = 0; j < n_rows; j++)
            TDM_TRY(time_rows(b, &o, SHAPES[i].name, rows[j], err));
        close_operands(b, &o);
        o = (operands){0};
    }
done:
    close_operands(b, &o);
    return st;
}

/* ---- command ---- */

static tdm_status parse_rows(const char *text, int64_t *rows, size_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *n = 0;
    for (const char *p = text;; p++) {
        char *end = NULL;
        const long value = strtol(p, &end, 10);
        TDM_REQUIRE(end != p && (*end == ',' || !*end) && value >= 1 && value <= 1 << 20 &&
                        *n < MAX_ROWS,
                    TDM_EARG, "--rows %s: want up to %d numbers from 1 to %d with commas between",
                    text, MAX_ROWS, 1 << 20);
        rows[(*n)++] = value;
        p = end;
        if (!*p)
            break;
    }
done:
    return st;
}

static tdm_status run(const char *rows_text, int threads, bool csv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int64_t rows[MAX_ROWS];
    size_t n_rows = 0;
    bench b = {.csv = csv};
    TDM_TRY(parse_rows(rows_text, rows, &n_rows, err));
    TDM_TRY(tdm_open_cpu(threads, &b.backend, err));
    const cpu_backend *cpu = b.backend.self;
    b.kernels = cpu->kernels;
    b.threads = cpu->threads;
    b.n_threads = tdm_threads_count(cpu->threads);
    TDM_TRY(measure_ceilings(&b, err));
    printf(csv ? "# %s, %d threads, peak %.1f GFLOP/s, read %.2f GB/s\n"
               : "%s, %d threads; ceilings: %.1f GFLOP/s, reads %.2f GB/s\n\n",
           b.kernels->name, b.n_threads, 1e-9 * b.peak, 1e-9 * b.bandwidth);
    TDM_TRY(time_shapes(&b, rows, n_rows, err));
done:
    tdm_backend_close(&b.backend);
    return st;
}

int bench_gemm(int argc, char **argv)
{
    const char *rows = "1,8,64,512";
    int64_t threads = 0;
    bool csv = false;
    const arg_spec specs[] = {
        {"rows", ARG_STR, &rows, "LIST", .help = "numbers of rows, with commas between"},
        {"threads", ARG_I64, &threads, "N", "CPU threads; 0 is one per core", .min = 0, .max = 1024},
        {"csv", ARG_FLAG, &csv, NULL, .help = "comma-separated, for a file"},
    };
    arg_list operands_given = {0};
    tdm_err err = {0};
    int code = 0;
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands_given, &code))
        return code;
    if (operands_given.n) {
        tdm_fail(&err, TDM_EARG, "unexpected operand %s", operands_given.items[0]);
        return args_fail(COMMAND.name, &err);
    }
    return run(rows, (int)threads, csv, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
