/* tools/args.h - option tables: one table parses the options and prints --help.
 *
 *   const arg_spec specs[] = {
 *       {.name = "n", .kind = ARG_I64, .out = &n, .value = "N", .min = 1, .max = 1e15,
 *        .help = "documents to write"},
 *       ...
 *       ARGS_MODEL(&common), ARGS_OUT(&common), ARGS_REPORT(&common),
 *   };
 *   int code;
 *   if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
 *       return code;
 *
 * glibc getopt_long underneath: --name VALUE, --name=VALUE, unambiguous prefixes, "--". Numbers are
 * parsed whole and checked against [min, max]; a bad one is one line on stderr and exit code 2. */
#ifndef TOOLS_ARGS_H
#define TOOLS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "host/backend.h"
#include "host/ranks.h"
#include "host/record.h"
#include "host/sink.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef enum {
    ARG_FLAG,   /* bool *: set to true */
    ARG_STR,    /* const char ** */
    ARG_I64,    /* int64_t *, min..max */
    ARG_U64,    /* uint64_t * */
    ARG_F64,    /* double *, min..max (open at min when open_min) */
    ARG_RANGE,  /* double[2]: "P" gives P:P, "A:B" with A <= B; min..max as for ARG_F64 */
    ARG_SIZE,   /* size_t *: 8MiB, 512KiB, 100; at least 1, at most max where that is set */
    ARG_CHOICE, /* int *: index into choices */
    ARG_ERRORS, /* tdm_max_errors *: N or P% */
    ARG_BATCH,  /* int64_t *: N or auto (0); 1..max, or 1..65536 when max is 0 */
    ARG_LIST,   /* arg_list *: each time that it is given appends a value; args_list_free */
} arg_kind;

typedef struct {
    const char **items; /* [n] operands: a part of argv; ARG_LIST: owned. The texts are argv's */
    size_t n;
} arg_list;

typedef struct {
    const char *name; /* without the dashes */
    arg_kind kind;
    void *out; /* holds the default before parsing; --help prints it */
    const char *value; /* "N", "FILE"; NULL for flags */
    const char *help;
    const char *const *choices; /* NULL-terminated, ARG_CHOICE */
    double min, max; /* both 0: no limits */
    bool open_min;   /* min itself is refused */
    const char *default_text; /* printed instead of the value, e.g. "what fits the context" */
    bool required;
} arg_spec;

/* An option that means nothing with, or without, another one. */
typedef struct {
    const char *option, *other;
    bool with; /* it means nothing beside `other`; otherwise, without it */
    const char *unless; /* a third option that makes it mean something; NULL: none does */
} arg_rule;

typedef struct {
    const char *name;     /* "generate" */
    const char *usage;    /* "--model DIR [options] [FILE...]" */
    const char *summary;  /* one paragraph */
    const char *example;  /* lines */
    const char *notes;    /* output format; NULL allowed. --help adds the exit codes by itself */
    const arg_rule *rules; /* [n_rules] options that are refused rather than left without effect */
    size_t n_rules;
} arg_command;

/* What most commands share. */
typedef struct {
    const char *model, *out, *device;
    int dtype, kv_dtype; /* 0 auto, 1 f16, 2 bf16, 3 f32 */
    int64_t batch, threads;
    const char *text_key, *id_key;
    size_t max_line;
    tdm_max_errors max_errors;
    double max_ratio;
    size_t chunk;      /* of files with records, bytes; of documents, how many */
    const char *shard; /* NULL: by the environment (tools/ranks.h) */
    const char *metrics_file;
    int progress; /* tdm_progress_mode */
    int64_t tp;          /* ranks of a model; 0: auto */
    const char *devices; /* "all", or numbers with commas; NULL: this process computes itself */
    struct worker *worker; /* NULL, or what this process is under --devices (tools/supervise.h) */
    bool restart, dry_run, quiet, json, skip_weight_check;
} common_args;
#define COMMON_DEFAULTS                                                                            \
    {                                                                                              \
        .out = "-", .device = "auto", .text_key = "text", .id_key = "id",                          \
        .max_line = (size_t)8 << 20, .max_ratio = 500, .chunk = TDM_CHUNK_BYTES, .tp = 1           \
    }
extern const char *const DTYPE_CHOICES[], *const PROGRESS_CHOICES[];

/* Table entries of the shared options; a command lists those that it has. */
#define ARGS_MODEL(c)                                                                              \
    {.name = "model", .kind = ARG_STR, .out = &(c)->model, .value = "DIR", .required = true,       \
     .help = "model folder: config.json, model.safetensors (or its index and shards), merges.txt"}
#define ARGS_OUT(c)                                                                                \
    {.name = "out", .kind = ARG_STR, .out = &(c)->out, .value = "FILE",                            \
     .help = "write results to FILE, whole or not at all, compressed if it ends in .gz or .zst; - is " \
             "stdout. After an interruption the same command goes on where it was"}
#define ARGS_DEVICE(c)                                                                             \
    {.name = "device", .kind = ARG_STR, .out = &(c)->device, .value = "auto|cpu|cuda[:N]|null",    \
     .help = "where to compute; auto takes CUDA where it is usable; null makes results up, to try "  \
             "everything else"},                                                                   \
    {.name = "dtype", .kind = ARG_CHOICE, .out = &(c)->dtype, .value = "auto|f16|bf16|f32",        \
     .help = "of weights and activations; auto is f16 on CUDA; the CPU has f32 alone",             \
     .choices = DTYPE_CHOICES},                                                                    \
    {.name = "threads", .kind = ARG_I64, .out = &(c)->threads, .value = "N", .min = 0,             \
     .max = 1024,                                                                                  \
     .help = "CPU threads; 0 is one per core. While a model loads, four more read its files"}
#define ARGS_DEVICES(c)                                                                            \
    {.name = "devices", .kind = ARG_STR, .out = &(c)->devices, .value = "all|N,N,...",             \
     .help = "work on several GPUs, with a process for each (or for each --tp of them) that takes chunks as it is free. " \
             "Wants --out FILE"}
#define ARGS_TP(c)                                                                                 \
    {.name = "tp", .kind = ARG_BATCH, .out = &(c)->tp, .value = "N|auto", .max = TDM_MOST_RANKS,   \
     .help = "GPUs that hold the weights together, each a share; auto is the fewest with which the model and a " \
             "useful batch fit"}
#define ARGS_KV_DTYPE(c)                                                                           \
    {.name = "kv-dtype", .kind = ARG_CHOICE, .out = &(c)->kv_dtype, .value = "auto|f16|bf16|f32",  \
     .help = "of the keys and values that are kept; auto is that of --dtype",                      \
     .choices = DTYPE_CHOICES}
#define ARGS_WEIGHTS(c)                                                                            \
    {.name = "skip-weight-check", .kind = ARG_FLAG, .out = &(c)->skip_weight_check,                \
     .help = "load weights without looking for NaN and infinity"}
#define ARGS_BATCH(c)                                                                              \
    {.name = "batch", .kind = ARG_BATCH, .out = &(c)->batch, .value = "N|auto",                    \
     .help = "texts at once"}
#define ARGS_RECORDS(c)                                                                            \
    {.name = "text-key", .kind = ARG_STR, .out = &(c)->text_key, .value = "KEY",                   \
     .help = "field that holds the text"},                                                         \
    {.name = "id-key", .kind = ARG_STR, .out = &(c)->id_key, .value = "KEY",                       \
     .help = "field that holds the id"},                                                           \
    ARGS_LIMITS(c),                                                                                \
    ARGS_MAX_ERRORS(c)
#define ARGS_LIMITS(c)                                                                             \
    {.name = "max-line", .kind = ARG_SIZE, .out = &(c)->max_line, .value = "SIZE",                 \
     .help = "longest input line; a longer one is a bad record"},                                  \
    {.name = "max-ratio", .kind = ARG_F64, .out = &(c)->max_ratio, .value = "N", .min = 1,         \
     .max = 1e9,                                                                                   \
     .help = "of a compressed input's text to its bytes, from 16 MiB of text on; more is taken for damage"}
#define ARGS_MAX_ERRORS(c)                                                                         \
    {.name = "max-errors", .kind = ARG_ERRORS, .out = &(c)->max_errors, .value = "N|P%",           \
     .help = "bad records allowed: a number is judged at once, a percentage at the end"}
#define ARGS_CHUNK(c)                                                                              \
    {.name = "chunk", .kind = ARG_SIZE, .out = &(c)->chunk, .value = "SIZE", .max = 1 << 30,       \
     .help = "input that is committed as one: what may have to be done again"}
#define ARGS_JOB(c)                                                                                \
    {.name = "shard", .kind = ARG_STR, .out = &(c)->shard, .value = "I/N",                         \
     .help = "be process I (from 0) of N that share the work and the folder of --out; under torchrun, " \
             "mpirun and srun that is known"},                                                     \
    {.name = "restart", .kind = ARG_FLAG, .out = &(c)->restart,                                    \
     .help = "discard what an earlier run left at --out"},                                         \
    {.name = "metrics-file", .kind = ARG_STR, .out = &(c)->metrics_file, .value = "FILE",          \
     .help = "keep the state of the run in FILE, as text for Prometheus; of rank 3 of several, run.prom is " \
             "run.3.prom"}
#define ARGS_DRY_RUN(c)                                                                            \
    {.name = "dry-run", .kind = ARG_FLAG, .out = &(c)->dry_run,                                    \
     .help = "say how much work it is, and what it will take, and end"}
#define ARGS_REPORT(c)                                                                             \
    {.name = "progress", .kind = ARG_CHOICE, .out = &(c)->progress,                                \
     .value = "auto|bar|plain|json|none", .choices = PROGRESS_CHOICES,                             \
     .help = "progress on stderr; auto is a bar on a terminal, plain lines elsewhere"},            \
    {.name = "quiet", .kind = ARG_FLAG, .out = &(c)->quiet, .help = "only errors on stderr"},      \
    {.name = "json", .kind = ARG_FLAG, .out = &(c)->json,                                          \
     .help = "print one summary object at the end: on stdout when --out is a file, else on stderr"}

/* Parse argv[1..]. Operands (inputs) come back as a list that points into argv.
 * Returns: false when the command is to exit with *code (--help: 0; an error: 2, already printed); lists are empty
 * then. */
bool args_parse(const arg_command *command, const arg_spec *specs, size_t n_specs, int argc,
                char **argv, arg_list *operands, int *code);

/* Read one option's value into spec->out. Errors: TDM_EARG names the option, the value and what is
 * wanted; spec->out is unchanged then; TDM_ENOMEM for a list. */
tdm_status args_read_value(const arg_spec *spec, const char *text, tdm_err *err);
/* Read "A,B,C" into out [*n <= most].
 *   spec  ARG_F64: name and limits; its out is not used
 * Errors: as above, of a piece; TDM_EARG for more than `most`. out [most] and *n are not to be used then. */
tdm_status args_read_numbers(const arg_spec *spec, const char *text, double *out, int most, int *n, tdm_err *err);
/* Free the values of an ARG_LIST; {0} again. Not for operands. */
void args_list_free(arg_list *list);
/* The name in names [n] that is most like `word`; NULL when none is close. */
const char *args_suggest(const char *word, const char *const *names, size_t n);
/* Print the whole help text of a command. Defaults are read from the specs' outputs. */
void args_print_help(FILE *to, const arg_command *command, const arg_spec *specs, size_t n_specs);
/* Print the list of exit codes: the last part of every help text. */
void args_print_exit_codes(FILE *to);

/* Print "tandem NAME: MESSAGE (STATUS)" on stderr, control characters as ?, and return the exit code of err->status.
 * A closed pipe (see tdm_sink_pipe_closed) is the caller's to keep quiet about. */
int args_fail(const char *name, const tdm_err *err);
/* Print "tandem NAME: ..." on stderr, control characters as ?: what is no error. */
void args_note(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Open the backend that --device, --dtype and --kv-dtype ask for, and say which it is on stderr unless
 * quiet. auto takes CUDA, and where there is no device that it can use (TDM_ENODEV) the CPU, with the
 * reason.
 * Errors: TDM_EARG (unknown device; f16 or bf16 on the CPU); what tdm_open_cuda says: TDM_ENODEV when
 * CUDA was asked for by name, TDM_ENOMEM. */
tdm_status args_open_backend(const common_args *common, tdm_backend *out, tdm_err *err);
/* Print on stderr which device it is, unless quiet. why_not: why no other one, or "". */
void args_say_device(const common_args *common, const tdm_backend *be, const char *why_not);
/* As args_open_backend, n ranks (host/ranks.h) of one backend: tools/tp.h knows which.
 *   devices  [n] CUDA devices; NULL: on the CPU */
tdm_status args_open_ranks(const common_args *common, const int *devices, int32_t n, tdm_backend *out, tdm_err *err);

#endif
