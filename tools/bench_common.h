/* tools/bench_common.h - what the parts of "tandem bench" share: the options, the clock, the
 * ceilings of the machine, operands with random values, and the table.
 *
 *   TDM_TRY(bench_open(&options, &b, err));           // backend, ceilings
 *   bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
 *   bench_run runs[] = {{.call = multiply, .ctx = &operands, .turns = 8}, ...};
 *   TDM_TRY(bench_measure(&b, runs, COUNT(runs), err)); // in turn: all see the same machine
 *   bench_print_row(&b, COLUMNS, COUNT(COLUMNS), cells);
 *   bench_close(&b);
 *
 * Thread safety: one bench, one thread. */
#ifndef TOOLS_BENCH_COMMON_H
#define TOOLS_BENCH_COMMON_H

#include "host/backend.h"
#include "tools/args.h"

/* ---- options ---- */

typedef struct {
    common_args common;
    bool small, csv;
} bench_options;
#define BENCH_OPTIONS_DEFAULTS                                                                     \
    {                                                                                              \
        .common = COMMON_DEFAULTS                                                                  \
    }
#define BENCH_ARGS_FORMAT(o)                                                                       \
    {.name = "csv", .kind = ARG_FLAG, .out = &(o)->csv, .help = "comma-separated, for a file"},    \
    {                                                                                              \
        .name = "json", .kind = ARG_FLAG, .out = &(o)->common.json,                                \
        .help = "JSON Lines: the machine, then one object a row"                                   \
    }
#define BENCH_ARGS(o)                                                                              \
    ARGS_DEVICE(&(o)->common), BENCH_ARGS_FORMAT(o),                                               \
    {                                                                                              \
        .name = "small", .kind = ARG_FLAG, .out = &(o)->small,                                     \
        .help = "tiny shapes and one short window: shows that it works, not how fast it is"        \
    }

/* Parse the options of a part without operands. Returns false when it is to exit with *code. */
bool bench_parse(const arg_command *command, const arg_spec *specs, size_t n, int argc, char **argv,
                 int *code);
/* "1,8,64" to up to `cap` numbers from 1 to 2^20. Errors: TDM_EARG names the option. */
tdm_status bench_parse_list(const char *option, const char *text, int64_t *numbers, size_t cap,
                            size_t *n, tdm_err *err);

/* ---- the machine ---- */

/* NAN where a figure is not known. */
typedef struct {
    char name[256];
    double copy, read; /* bytes a second; copy counts those read and those written */
    double flops;      /* operations a second of a large matrix product, in the backend's dtype */
} bench_machine;

typedef struct {
    const bench_options *options; /* borrowed */
    const char *part;
    tdm_backend backend;
    bench_machine machine;
    bool is_cuda;
} bench;

/* Open the backend that the options name and measure its ceilings.
 *   part  "gemm": the name in the output */
tdm_status bench_open(const bench_options *options, const char *part, bench *out, tdm_err *err);
void bench_close(bench *b); /* {0} is fine */

/* The faster of copying and reading: what the fewest bytes of a job are divided by. */
double bench_bandwidth(const bench_machine *m);
/* Seconds that so many operations and bytes take at least on this machine. */
double bench_floor(const bench_machine *m, double flops, double bytes);

/* ---- time ---- */

double bench_seconds(void); /* a clock that only goes forward */

/* Enqueue one call; i counts them, so that operands can take turns. */
typedef tdm_status (*bench_call)(void *ctx, size_t i, tdm_err *err);

typedef struct {
    bench_call call;
    void *ctx;
    size_t turns;        /* calls before the operands repeat; 0 is 1 */
    size_t calls;        /* of a window, about; 0: as many as last long enough. Ranks have to make equally many */
    double median, best; /* receives seconds of one call */
} bench_run;

/* Time runs [n <= BENCH_RUNS], window about window: each is repeated until a window lasts 20 ms or
 * more (one call where that is longer), as one recorded graph of its turns where the backend has
 * graphs. */
enum { BENCH_RUNS = 16 };
extern const double BENCH_WINDOW; /* seconds */
tdm_status bench_measure(const bench *b, bench_run *runs, size_t n, tdm_err *err);

/* ---- operands ---- */

/* Memory of the backend that goes in one piece. {0} is empty. */
typedef struct {
    void *items[256];
    size_t n;
} bench_pool;

void bench_pool_free(const bench *b, bench_pool *pool);
/* A matrix of values that look random, uniform in (-scale, scale).
 *   stride  0: cols */
tdm_status bench_matrix(const bench *b, bench_pool *pool, int64_t rows, int32_t cols,
                        int32_t stride, tdm_dtype dtype, float scale, tdm_mat *out, tdm_err *err);
/* A copy of src in the backend's memory. */
tdm_status bench_copy(const bench *b, bench_pool *pool, const void *src, size_t bytes, void **out,
                      tdm_err *err);
/* n values of `dtype` that look random, uniform in (-scale, scale), in host memory. */
void bench_random(void *dst, tdm_dtype dtype, size_t n, float scale, uint64_t seed);

/* ---- output ---- */

typedef struct {
    const char *name;
    int width;    /* of the table */
    int decimals; /* -1: text */
} bench_column;
typedef struct {
    const char *text;
    double number; /* NAN: not known */
} bench_cell;
#define BENCH_TEXT(t)                                                                              \
    {                                                                                              \
        .text = (t)                                                                                \
    }
#define BENCH_NUMBER(x)                                                                            \
    {                                                                                              \
        .number = (double)(x)                                                                      \
    }

/* One line about the machine, and the names of the columns; then rows as they come. */
void bench_print_head(const bench *b, const bench_column *columns, size_t n);
void bench_print_row(const bench *b, const bench_column *columns, size_t n,
                     const bench_cell *cells);

#endif
