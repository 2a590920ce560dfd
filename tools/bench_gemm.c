/* tools/bench_gemm.c - "tandem bench gemm": the matrix product on the shapes of the models, beside
 * what the machine can do at most, measured just before; and the choice of cuBLASLt's algorithms.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm_tune.h"
#include "tools/bench.h"
#include "tools/bench_common.h"

typedef struct {
    const char *name;
    int32_t in, out;
    tdm_epilogue epilogue;
    bool logits; /* f32 out, no bias; the other products have a bias */
} shape;

/* The base detector has the shapes of 124M but for the GELU. */
static const shape SHAPES[] = {
    {"1558M qkv", 1600, 4800, TDM_LINEAR, false},    {"1558M out", 1600, 1600, TDM_LINEAR, false},
    {"1558M up", 1600, 6400, TDM_GELU_TANH, false},  {"1558M down", 6400, 1600, TDM_LINEAR, false},
    {"1558M logits", 1600, 50257, TDM_LINEAR, true}, {"large qkv", 1024, 3072, TDM_LINEAR, false},
    {"large out", 1024, 1024, TDM_LINEAR, false},    {"large up", 1024, 4096, TDM_GELU_ERF, false},
    {"large down", 4096, 1024, TDM_LINEAR, false},   {"124M qkv", 768, 2304, TDM_LINEAR, false},
    {"124M out", 768, 768, TDM_LINEAR, false},       {"124M up", 768, 3072, TDM_GELU_TANH, false},
    {"124M down", 3072, 768, TDM_LINEAR, false},     {"124M logits", 768, 50257, TDM_LINEAR, true},
    {"base up", 768, 3072, TDM_GELU_ERF, false},
};
static const shape SMALL_SHAPES[] = {
    {"small up", 128, 512, TDM_GELU_TANH, false},
    {"small erf", 128, 512, TDM_GELU_ERF, false},
    {"small logits", 128, 700, TDM_LINEAR, true},
};

typedef struct {
    bench_options bench;
    const char *rows, *only;
    bool tune;
    double tune_seconds;
} gemm_options;

enum { MOST_COPIES = 64 };
static const size_t CACHE_BYTES = (size_t)256
                                  << 20; /* weights of all copies: more than any cache */

/* ---- products ---- */

typedef struct {
    const bench *b;
    const shape *shape;
    tdm_weight *weights[MOST_COPIES];
    size_t n_weights;
    bench_pool pool;
    tdm_mat x, y, bias;
} operands;

typedef struct {
    operands *o;
    int64_t rows;
} product;

static void close_operands(operands *o)
{
    for (size_t i = 0; i < o->n_weights; i++)
        tdm_weight_close(&o->b->backend, o->weights[i]);
    bench_pool_free(o->b, &o->pool);
}

/* As many copies of the weights as do not fit a cache, and room for `rows` rows. */
static tdm_status open_operands(const bench *b, const shape *s, int64_t rows, operands *o,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = b->backend.dtype;
    const size_t n = (size_t)s->in * (size_t)s->out, bytes = n * tdm_dtype_size(act);
    const size_t copies = b->options->small ? 2 : CACHE_BYTES / bytes + 1;
    void *src = malloc(bytes);
    *o = (operands){.b = b, .shape = s};
    TDM_REQUIRE(src, TDM_ENOMEM, "a matrix of %d x %d", (int)s->in, (int)s->out);
    bench_random(src, act, n, 0.05f, 1);
    while (o->n_weights < (copies < MOST_COPIES ? copies : MOST_COPIES)) {
        TDM_TRY(tdm_weight_open(&b->backend, src, act, s->in, s->out, TDM_IN_OUT,
                                &o->weights[o->n_weights], err));
        o->n_weights++;
    }
    TDM_TRY(bench_matrix(b, &o->pool, rows, s->in, 0, act, 1, &o->x, err));
    TDM_TRY(bench_matrix(b, &o->pool, rows, s->out, tdm_padded(s->out), s->logits ? TDM_F32 : act,
                         1, &o->y, err));
    TDM_TRY(bench_matrix(b, &o->pool, 1, s->out, 0, act, 0.05f, &o->bias, err));
done:
    free(src);
    return st;
}

static tdm_status multiply(void *ctx, size_t i, tdm_err *err)
{
    const product *p = ctx;
    operands *o = p->o;
    tdm_mat x = o->x, y = o->y;
    x.rows = y.rows = p->rows;
    return tdm_linear(&o->b->backend, y, x, o->weights[i % o->n_weights],
                      o->shape->logits ? NULL : &o->bias, o->shape->epilogue, err);
}

static const bench_column COLUMNS[] = {
    {"shape", 13, -1},  {"in", 6, 0},     {"out", 6, 0},    {"rows", 5, 0},  {"median_us", 10, 1},
    {"best_us", 10, 1}, {"gflops", 9, 1}, {"gbytes", 8, 1}, {"share", 6, 3},
};

static void print_product(const bench *b, const shape *s, int64_t rows, const bench_run *run)
{
    const double in = s->in, out = s->out, size = (double)tdm_dtype_size(b->backend.dtype);
    const double flops = 2 * (double)rows * in * out;
    const double bytes =
        size * in * out + (double)rows * (size * in + (s->logits ? 4 : size) * out);
    const bench_cell cells[] = {
        BENCH_TEXT(s->name),
        BENCH_NUMBER(in),
        BENCH_NUMBER(out),
        BENCH_NUMBER(rows),
        BENCH_NUMBER(1e6 * run->median),
        BENCH_NUMBER(1e6 * run->best),
        BENCH_NUMBER(1e-9 * flops / run->median),
        BENCH_NUMBER(1e-9 * bytes / run->median),
        BENCH_NUMBER(bench_floor(&b->machine, flops, bytes) / run->median),
    };
    bench_print_row(b, COLUMNS, COUNT(COLUMNS), cells);
}

/* One shape: all numbers of rows in turn. */
static tdm_status time_shape(const bench *b, const shape *s, const int64_t *rows, size_t n,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    operands o = {.b = b};
    product products[BENCH_RUNS];
    bench_run runs[BENCH_RUNS] = {0};
    int64_t most = 0;
    for (size_t i = 0; i < n; i++)
        most = rows[i] > most ? rows[i] : most;
    TDM_TRY(open_operands(b, s, most, &o, err));
    for (size_t i = 0; i < n; i++) {
        products[i] = (product){&o, rows[i]};
        runs[i] = (bench_run){.call = multiply, .ctx = &products[i], .turns = o.n_weights};
    }
    TDM_TRY(bench_measure(b, runs, n, err));
    for (size_t i = 0; i < n; i++)
        print_product(b, s, rows[i], &runs[i]);
done:
    close_operands(&o);
    return st;
}

/* ---- tuning ---- */

/* The product of cuBLASLt that linear() makes of a shape: GELU of RoBERTa, and its bias, follow in
 * a kernel. */
static tdm_gemm_shape gemm_shape(const bench *b, const shape *s)
{
    const bool erf = s->epilogue == TDM_GELU_ERF;
    return (tdm_gemm_shape){.in = s->in,
                            .out = tdm_padded(s->out),
                            .dtype = b->backend.dtype,
                            .y_dtype = s->logits ? TDM_F32 : b->backend.dtype,
                            .epilogue = erf ? TDM_LINEAR : s->epilogue,
                            .has_bias = !s->logits && !erf};
}

/* The lines of the table on stdout; what they gain, as comments, on stderr. */
static tdm_status tune_shape(const bench *b, const shape *s, double seconds, const int64_t *rows,
                             size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_gemm_shape key = gemm_shape(b, s);
    tdm_gemm_tuned tuned;
    TDM_TRY(tdm_gemm_tune(&key, rows, n, seconds, &tuned, err));
    for (int i = 0; i < tuned.n; i++)
        fputs(tuned.lines[i].text, stdout);
    fflush(stdout);
    fprintf(stderr, "%s: %d algorithms, %d steady in %d groups, %d to choose from\n", s->name,
            tuned.algorithms, tuned.steady, tuned.groups, tuned.chosen);
    for (size_t i = 0; i < n; i++)
        fprintf(
            stderr, "  %5d rows  %9.1f us, untuned %9.1f, fastest of any group %9.1f, share %.3f\n",
            (int)rows[i], 1e6 * tuned.seconds[i], 1e6 * tuned.untuned[i], 1e6 * tuned.fastest[i],
            bench_floor(&b->machine, 2.0 * (double)rows[i] * key.in * key.out,
                        (double)tdm_dtype_size(key.dtype) * key.in * key.out) /
                tuned.seconds[i]);
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", s->name);
}

/* ---- the part ---- */

static tdm_status run(const gemm_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int64_t rows[BENCH_RUNS];
    size_t n_rows = 0, done_shapes = 0, n_failed = 0;
    bench b = {0};
    const shape *shapes = o->bench.small ? SMALL_SHAPES : SHAPES;
    const size_t n_shapes = o->bench.small ? COUNT(SMALL_SHAPES) : COUNT(SHAPES);
    TDM_TRY(bench_open(&o->bench, "gemm", &b, err));
    TDM_REQUIRE(!o->tune || b.is_cuda, TDM_EARG,
                "--tune: the product of the CPU has nothing to choose");
    const char *usual = o->bench.small ? "1,17"
                        : b.is_cuda    ? "1,2,4,8,16,32,64,96,128,256,512,768,1024,1536,2048"
                                       : "1,8,64,512";
    TDM_TRY(bench_parse_list("rows", o->rows ? o->rows : usual, rows, COUNT(rows), &n_rows, err));
    if (!o->tune)
        bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < n_shapes; i++) {
        if (o->only && strncmp(shapes[i].name, o->only, strlen(o->only)) != 0)
            continue;
        done_shapes++;
        if (!o->tune) {
            TDM_TRY(time_shape(&b, &shapes[i], rows, n_rows, err));
            continue;
        }
        st = tune_shape(&b, &shapes[i], o->tune_seconds, rows, n_rows, err);
        if (st == TDM_EINTERNAL) { /* no algorithm will do: the others may have one */
            fprintf(stderr, "%s\n", err->msg);
            n_failed++;
            continue;
        }
        TDM_TRY(st);
    }
    TDM_REQUIRE(done_shapes > 0, TDM_EARG, "--only %s: no shape begins like this", o->only);
    TDM_REQUIRE(n_failed == 0, TDM_EINTERNAL, "%zu of %zu shapes have no algorithm", n_failed,
                done_shapes);
done:
    bench_close(&b);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench gemm",
    .usage = "[options]",
    .summary =
        "Time the matrix product on the shapes of GPT-2 (124M, 1558M) and of the detectors "
        "(base has the shapes of 124M, large its own), bias and GELU included. Each shape "
        "cycles through copies of its weights, so that they come from memory as in a model. The "
        "share is that of the nearer ceiling: multiply-adds, or moving weights, input and output "
        "once.",
    .example = "tandem bench gemm --rows 1,64 --threads 2\n"
               "tandem bench gemm --device cuda --tune > kernels/gemm_table.inc\n",
    .notes =
        "Columns: shape, in, out, rows, median and best microseconds, GFLOP/s, GB/s, share of\n"
        "the ceiling at the median.\n"
        "--tune times nothing else: it tries the algorithms of cuBLASLt, keeps those that give a\n"
        "row the same bits for every number of rows, and prints the lines of the table that the\n"
        "engine chooses from; what they gain is on stderr.\n",
};

int bench_gemm(int argc, char **argv)
{
    gemm_options o = {.bench = BENCH_OPTIONS_DEFAULTS, .tune_seconds = 2};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        {.name = "rows",
         .kind = ARG_STR,
         .out = &o.rows,
         .value = "LIST",
         .default_text = "1,8,64,512; CUDA: 1 to 2048",
         .help = "numbers of rows, with commas between"},
        {.name = "only",
         .kind = ARG_STR,
         .out = &o.only,
         .value = "NAME",
         .help = "shapes whose name begins like this"},
        {.name = "tune",
         .kind = ARG_FLAG,
         .out = &o.tune,
         .help = "choose the algorithms of cuBLASLt; prints lines of kernels/gemm_table.inc"},
        {.name = "tune-seconds",
         .kind = ARG_F64,
         .out = &o.tune_seconds,
         .value = "X",
         .min = 0.01,
         .max = 600,
         .help = "time to spend on each shape"},
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
