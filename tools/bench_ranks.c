/* tools/bench_ranks.c - "tandem bench ranks": what the ranks of --tp do together, the sums and the joining of logits, at
 * the shapes of GPT-2. One rank goes the same way as several: its time is what the way itself costs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/ranks.h"
#include "tools/bench.h"
#include "tools/bench_common.h"

typedef enum { SUM, SUM_F32, JOIN } operation; /* of output products, of embeddings, of logits */
static const char *const OPERATIONS[] = {"sum", "sum f32", "join"};

typedef struct {
    const char *name;
    int32_t heads, vocab;
} shape;
static const shape SHAPES[] = {{"1558M", 25, 50257}, {"124M", 12, 50257}};
static const shape SMALL_SHAPE = {"small", 2, 700};
static const int32_t ROWS[] = {1, 64, 512, 8192}; /* logits of the last are never together */
static const int32_t SMALL_ROWS[] = {1, 17};

/* One operation in one size: what all ranks know, and what the first has found out. */
typedef struct {
    const bench *b;
    const shape *s;
    operation kind;
    int32_t rows, n;
    size_t calls; /* of a window */
    double median, best;
} sent;

/* What one rank brings. */
typedef struct {
    const sent *what;
    const tdm_backend *be;
    tdm_mat y, x;
} operands;

static int32_t columns(const sent *w)
{
    return w->kind == JOIN ? w->s->vocab : TDM_HEAD * w->s->heads;
}

static double bytes_of(const sent *w)
{
    const size_t size = w->kind == SUM ? tdm_dtype_size(w->b->backend.dtype) : sizeof(float);
    return (double)size * w->rows * columns(w);
}

/* Sums grow until they are infinite, which takes as long. */
static tdm_status call(void *ctx, size_t i, tdm_err *err)
{
    const operands *o = ctx;
    (void)i;
    return o->what->kind == JOIN ? tdm_join_ranks(o->be, o->y, o->x, err) : tdm_sum_ranks(o->be, o->y, err);
}

static tdm_status measure_on_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    sent *w = ctx;
    bench mine = *w->b;
    bench_pool pool = {0};
    operands o = {.what = w, .be = be};
    bench_run run = {.call = call, .ctx = &o, .calls = w->calls};
    const int32_t cols = columns(w), block = tdm_part_of(w->s->heads, TDM_HEAD, cols, rank, w->n).block;
    mine.backend = *be;
    TDM_TRY(bench_matrix(&mine, &pool, w->rows, cols, w->kind == JOIN ? tdm_padded(cols) : 0,
                         w->kind == SUM ? be->dtype : TDM_F32, 1, &o.y, err));
    if (w->kind == JOIN)
        TDM_TRY(bench_matrix(&mine, &pool, w->rows, block, 0, TDM_F32, 1, &o.x, err));
    TDM_TRY(bench_measure(&mine, &run, 1, err));
    if (rank == 0) {
        w->median = run.median;
        w->best = run.best;
    }
done:
    bench_pool_free(&mine, &pool);
    return st;
}

static const bench_column COLUMNS[] = {
    {"ranks", 5, 0},      {"op", 8, -1},      {"shape", 6, -1},  {"rows", 6, 0},    {"cols", 6, 0},
    {"median_us", 10, 2}, {"best_us", 10, 2}, {"received", 9, 3}, {"gb_s", 8, 1},
};

static void print_sent(const sent *w)
{
    const double bytes = bytes_of(w), n = w->n;
    const double others = w->kind == JOIN ? bytes * (n - 1) / n : bytes * fmin(n - 1, 2 * (n - 1) / n);
    const bench_cell cells[] = {
        BENCH_NUMBER(n),
        BENCH_TEXT(OPERATIONS[w->kind]),
        BENCH_TEXT(w->s->name),
        BENCH_NUMBER(w->rows),
        BENCH_NUMBER(columns(w)),
        BENCH_NUMBER(1e6 * w->median),
        BENCH_NUMBER(1e6 * w->best),
        BENCH_NUMBER(1e-6 * others),
        BENCH_NUMBER(1e-9 * others / w->median),
    };
    bench_print_row(w->b, COLUMNS, COUNT(COLUMNS), cells);
}

/* Once to see how long it takes, then for good: the ranks must agree on how often. */
static tdm_status measure(const bench *b, const shape *s, operation kind, int32_t rows, int32_t n, tdm_err *err)
{
    enum { FIRST = 16, MOST = 1 << 16 };
    tdm_status st = TDM_OK;
    sent w = {.b = b, .s = s, .kind = kind, .rows = rows, .n = n, .calls = b->options->small ? 1 : FIRST};
    TDM_TRY(tdm_each_rank(&b->backend, measure_on_rank, &w, err));
    if (!b->options->small) {
        w.calls = (size_t)fmin(fmax(BENCH_WINDOW / w.median, 1), MOST);
        TDM_TRY(tdm_each_rank(&b->backend, measure_on_rank, &w, err));
    }
    print_sent(&w);
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s of %d x %s", OPERATIONS[kind], (int)rows, s->name);
}

static tdm_status measure_shape(const bench *b, const shape *s, int32_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool small = b->options->small;
    const int32_t *rows = small ? SMALL_ROWS : ROWS;
    const size_t n_rows = small ? COUNT(SMALL_ROWS) : COUNT(ROWS);
    for (operation kind = SUM; kind <= JOIN; kind++)
        for (size_t i = 0; i < n_rows - (kind == JOIN && !small); i++)
            TDM_TRY(measure(b, s, kind, rows[i], n, err));
done:
    return st;
}

static tdm_status run(const bench_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bench b = {0};
    int devices[TDM_MOST_RANKS];
    const int32_t n = (int32_t)o->common.tp;
    TDM_TRY(bench_open(o, "ranks", &b, err));
    tdm_backend_close(&b.backend); /* the ranks', from here on */
    for (int32_t i = 0; i < n; i++)
        devices[i] = i;
    TDM_TRY(args_open_ranks(&o->common, b.is_cuda ? devices : NULL, n, &b.backend, err));
    bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < (o->small ? 1 : COUNT(SHAPES)); i++)
        TDM_TRY(measure_shape(&b, o->small ? &SMALL_SHAPE : &SHAPES[i], n, err));
done:
    bench_close(&b);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench ranks",
    .usage = "[options]",
    .summary = "Time what the GPUs of --tp do together: the sums of output products (in the dtype) and of embeddings, and the "
               "joining of logits, at the shapes of GPT-2 (1558M, 124M). One rank sends nothing, and goes the same way.",
    .example = "tandem bench ranks --device cuda --tp 2\n",
    .notes = "Columns: ranks, operation, shape, rows, columns, median and best microseconds, megabytes that a rank\n"
             "receives from the others at least, and GB/s of those: what can be had is what the links between the GPUs are\n"
             "sold with. tools/ranks_arithmetic.sh takes the microseconds of one row and the GB/s of many.\n",
};

int bench_ranks(int argc, char **argv)
{
    bench_options o = BENCH_OPTIONS_DEFAULTS;
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        {.name = "tp", .kind = ARG_I64, .out = &o.common.tp, .value = "N", .min = 1, .max = TDM_MOST_RANKS,
         .help = "ranks: devices 0 to N - 1, or threads of the CPU"},
        BENCH_ARGS(&o),
    };
    o.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
