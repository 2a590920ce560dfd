/* tools/bench_machine.c - the backend of a bench and the ceilings of its machine; "tandem bench
 * device", which prints them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cpu.h"
#include "kernels/ceilings.h"
#include "tools/bench.h"
#include "tools/bench_common.h"

double bench_bandwidth(const bench_machine *m)
{
    return m->copy > m->read ? m->copy : m->read; /* false for NAN */
}

double bench_floor(const bench_machine *m, double flops, double bytes)
{
    const double computing = flops / m->flops, moving = bytes / bench_bandwidth(m);
    return computing > moving ? computing : moving;
}

/* ---- ceilings of the CPU ---- */

enum { PEAK_ROUNDS = 2000000, READ_FLOATS = 64 << 20, READ_PARTS = 64, TRIES = 7 };

typedef struct {
    const cpu_kernels *kernels;
    const float *memory;
    size_t rounds, part; /* of one item: of peak; floats */
    float sink[1024];    /* keeps the work from being optimised away */
} cpu_job;

static void peak_item(void *ctx, size_t i)
{
    cpu_job *job = ctx;
    job->sink[i] = job->kernels->peak(job->rounds);
}

static void read_item(void *ctx, size_t i)
{
    cpu_job *job = ctx;
    job->sink[i] = job->kernels->read(job->memory + i * job->part, job->part);
}

/* The best of a few tries: other work on the machine only makes them slower. */
static double best_seconds(tdm_threads *threads, size_t n, void (*item)(void *ctx, size_t i),
                           cpu_job *job)
{
    double best = 1e30;
    for (int i = 0; i < TRIES; i++) {
        const double start = bench_seconds();
        tdm_parallel(threads, n, item, job);
        const double spent = bench_seconds() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

static tdm_status measure_cpu(bench *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cpu_backend *cpu = b->backend.self;
    const size_t lanes = (size_t)tdm_threads_count(cpu->threads),
                 shrink = b->options->small ? 64 : 1;
    const size_t floats = READ_FLOATS / shrink;
    bench_pool pool = {0};
    tdm_mat memory;
    cpu_job *job = calloc(1, sizeof *job);
    TDM_REQUIRE(job, TDM_ENOMEM, "bench");
    TDM_TRY(bench_matrix(b, &pool, 1, (int32_t)floats, 0, TDM_F32, 1, &memory, err));
    job->kernels = cpu->kernels;
    job->memory = memory.p;
    job->rounds = PEAK_ROUNDS / shrink;
    job->part = floats / READ_PARTS;
    b->machine.flops = (double)job->rounds * (double)cpu->kernels->peak_flops * (double)lanes /
                       best_seconds(cpu->threads, lanes, peak_item, job);
    b->machine.read =
        (double)floats * sizeof(float) / best_seconds(cpu->threads, READ_PARTS, read_item, job);
    snprintf(b->machine.name, sizeof b->machine.name, "cpu %s, %zu threads", cpu->kernels->name,
             lanes);
done:
    bench_pool_free(b, &pool);
    free(job);
    return st;
}

/* ---- ceilings of a CUDA device ---- */

typedef struct {
    const bench *b;
    tdm_mat y, x;
    tdm_weight *w;
} square;

static tdm_status multiply(void *ctx, size_t i, tdm_err *err)
{
    const square *s = ctx;
    (void)i;
    return tdm_linear(&s->b->backend, s->y, s->x, s->w, NULL, TDM_LINEAR, err);
}

/* The rate of one large product of square matrices of random values. */
static tdm_status measure_product(bench *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n = b->options->small ? 128 : 8192;
    const size_t count = (size_t)n * (size_t)n;
    const tdm_dtype act = b->backend.dtype;
    square s = {.b = b};
    bench_pool pool = {0};
    void *w = malloc(count * tdm_dtype_size(act));
    TDM_REQUIRE(w, TDM_ENOMEM, "a matrix of %d x %d", (int)n, (int)n);
    bench_random(w, act, count, 1, 1);
    TDM_TRY(bench_matrix(b, &pool, n, n, 0, act, 1, &s.x, err));
    TDM_TRY(bench_matrix(b, &pool, n, n, 0, act, 1, &s.y, err));
    TDM_TRY(tdm_weight_open(&b->backend, w, act, n, n, TDM_OUT_IN, &s.w, err));
    bench_run run = {.call = multiply, .ctx = &s};
    TDM_TRY(bench_measure(b, &run, 1, err));
    b->machine.flops = 2.0 * (double)n * (double)count / run.median;
done:
    tdm_weight_close(&b->backend, s.w);
    bench_pool_free(b, &pool);
    free(w);
    return st;
}

static tdm_status measure_cuda(bench *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ceilings c;
    TDM_TRY(tdm_cuda_ceilings(b->options->small ? (size_t)1 << 18 : (size_t)1 << 31, &c, err));
    b->machine.copy = c.copy;
    b->machine.read = c.read;
    snprintf(b->machine.name, sizeof b->machine.name,
             "%s (%d SMs, %.0f GiB, cache %.0f MiB, CUDA %d.%d on driver %d.%d)", c.name,
             c.multiprocessors, (double)c.memory / 0x1p30, (double)c.cache / 0x1p20,
             c.runtime / 1000, c.runtime % 1000 / 10, c.driver / 1000, c.driver % 1000 / 10);
    TDM_TRY(measure_product(b, err));
done:
    return st;
}

tdm_status bench_open(const bench_options *options, const char *part, bench *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = (bench){.options = options, .part = part};
    out->machine = (bench_machine){.copy = NAN, .read = NAN, .flops = NAN};
    TDM_REQUIRE(!options->csv || !options->common.json, TDM_EARG,
                "--csv and --json: want one of them");
    TDM_TRY(args_open_backend(&options->common, &out->backend, err));
    out->is_cuda = !strcmp(out->backend.ops->name, "cuda");
    TDM_TRY(out->is_cuda ? measure_cuda(out, err) : measure_cpu(out, err));
done:
    return st;
}

void bench_close(bench *b)
{
    tdm_backend_close(&b->backend);
    *b = (bench){0};
}

/* ---- the part ---- */

static const arg_command COMMAND = {
    .name = "bench device",
    .usage = "[options]",
    .summary = "Measure what this machine does at most: reading memory, copying it (CUDA), and "
               "multiply-adds (CPU: in registers; CUDA: a product of two matrices of 8192 x 8192). "
               "Every other part prints its speeds as shares of these ceilings.",
    .example = "tandem bench device --device cuda --dtype bf16\n",
    .notes =
        "Columns: ceiling, value, unit (GB is 10^9 bytes; copy counts bytes read and written).\n",
};

static void print_ceilings(const bench *b)
{
    static const bench_column COLUMNS[] = {{"ceiling", 10, -1}, {"value", 12, 1}, {"unit", 8, -1}};
    const bench_machine *m = &b->machine;
    const bench_cell rows[][3] = {
        {BENCH_TEXT("read"), BENCH_NUMBER(1e-9 * m->read), BENCH_TEXT("GB/s")},
        {BENCH_TEXT("copy"), BENCH_NUMBER(1e-9 * m->copy), BENCH_TEXT("GB/s")},
        {BENCH_TEXT("product"), BENCH_NUMBER(1e-9 * m->flops), BENCH_TEXT("GFLOP/s")},
    };
    bench_print_head(b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < COUNT(rows); i++)
        bench_print_row(b, COLUMNS, COUNT(COLUMNS), rows[i]);
}

int bench_device(int argc, char **argv)
{
    bench_options options = BENCH_OPTIONS_DEFAULTS;
    bench b = {0};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {BENCH_ARGS(&options)};
    options.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    const tdm_status st = bench_open(&options, "device", &b, &err);
    if (st == TDM_OK)
        print_ceilings(&b);
    bench_close(&b);
    return st == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
