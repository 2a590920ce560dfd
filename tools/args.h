/* tools/args.h - option tables: one table parses the options and prints --help.
 *
 *   static const arg_spec SPECS[] = {
 *       {"n", ARG_I64, &n, "N", "documents to write", .min = 1, .max = 1e15},
 *       ...
 *       ARGS_COMMON(&common)   // --model --out --device ...
 *   };
 *   int code;
 *   if (!args_parse(&COMMAND, SPECS, COUNT(SPECS), argc, argv, &operands, &code)) return code;
 *
 * glibc getopt_long underneath: --name VALUE, --name=VALUE, unambiguous prefixes, "--". Numbers are
 * parsed whole and checked against [min, max]; a bad one is one line on stderr and exit code 2. */
#ifndef TOOLS_ARGS_H
#define TOOLS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/record.h"
#include "host/sink.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef enum {
    ARG_FLAG,   /* bool *: set to true */
    ARG_STR,    /* const char ** */
    ARG_LIST,   /* arg_list *: may be given more than once */
    ARG_I64,    /* int64_t *, min..max */
    ARG_U64,    /* uint64_t * */
    ARG_F64,    /* double *, min..max (open at min when open_min) */
    ARG_RANGE,  /* double[2]: "P" gives P:P, "A:B"; min..max */
    ARG_SIZE,   /* size_t *: 8MiB, 512KiB, 100 */
    ARG_CHOICE, /* int *: index into choices */
    ARG_ERRORS, /* tdm_max_errors *: N or P% */
    ARG_BATCH,  /* int64_t *: N or auto (0) */
} arg_kind;

typedef struct {
    const char **items; /* owned by args.c until exit */
    size_t n;
} arg_list;

typedef struct {
    const char *name; /* without the dashes */
    arg_kind kind;
    void *out; /* holds the default before parsing; --help prints it */
    const char *value; /* "N", "FILE"; NULL for flags */
    const char *help;
    const char *const *choices; /* NULL-terminated, ARG_CHOICE */
    double min, max;
    bool open_min;
    const char *default_text; /* printed instead of the value, e.g. "what fits the context" */
    bool required;
} arg_spec;

typedef struct {
    const char *name;     /* "generate" */
    const char *usage;    /* "--model DIR [options] [FILE...]" */
    const char *summary;  /* one paragraph */
    const char *example;  /* lines */
    const char *notes;    /* output format, exit codes; NULL allowed */
} arg_command;

/* What most commands share. */
typedef struct {
    const char *model, *out, *device;
    int dtype; /* 0 auto, 1 f16, 2 bf16, 3 f32 */
    int64_t batch, threads;
    const char *text_key, *id_key;
    size_t max_line;
    tdm_max_errors max_errors;
    int progress; /* tdm_progress_mode */
    bool quiet, json;
} common_args;
#define COMMON_DEFAULTS                                                                            \
    {                                                                                              \
        .out = "-", .device = "auto", .text_key = "text", .id_key = "id",                          \
        .max_line = (size_t)8 << 20                                                                \
    }
extern const char *const DTYPE_CHOICES[], *const PROGRESS_CHOICES[];

/* Table entries of the shared options; a command lists those that it has. */
#define ARGS_MODEL(c) {"model", ARG_STR, &(c)->model, "DIR", "model folder: config.json, model.safetensors, merges.txt", .required = true}
#define ARGS_OUT(c) {"out", ARG_STR, &(c)->out, "FILE", "write results to FILE; - is stdout"}
#define ARGS_DEVICE(c)                                                                             \
    {"device", ARG_STR, &(c)->device, "auto|cpu|cuda[:N]", "where to compute"},                    \
    {"dtype", ARG_CHOICE, &(c)->dtype, "auto|f16|bf16|f32", "arithmetic; auto is f32 on the CPU", .choices = DTYPE_CHOICES}, \
    {"threads", ARG_I64, &(c)->threads, "N", "CPU threads; 0 is one per core", .min = 0, .max = 1024}
#define ARGS_BATCH(c) {"batch", ARG_BATCH, &(c)->batch, "N|auto", "texts at once"}
#define ARGS_RECORDS(c)                                                                            \
    {"text-key", ARG_STR, &(c)->text_key, "KEY", "field that holds the text"},                     \
    {"id-key", ARG_STR, &(c)->id_key, "KEY", "field that holds the id"},                           \
    {"max-line", ARG_SIZE, &(c)->max_line, "SIZE", "longest input line"},                          \
    {"max-errors", ARG_ERRORS, &(c)->max_errors, "N|P%", "bad records allowed"}
#define ARGS_REPORT(c)                                                                             \
    {"progress", ARG_CHOICE, &(c)->progress, "auto|bar|plain|json|none", "progress on stderr", .choices = PROGRESS_CHOICES}, \
    {"quiet", ARG_FLAG, &(c)->quiet, NULL, "only errors on stderr"},                               \
    {"json", ARG_FLAG, &(c)->json, NULL, "print one summary object at the end"}

/* Parse argv[1..]. Operands (inputs) come back as a list.
 * Returns false when the command is to exit with *code (--help: 0; an error: 2, already printed). */
bool args_parse(const arg_command *command, const arg_spec *specs, size_t n_specs, int argc,
                char **argv, arg_list *operands, int *code);

/* Print "tandem NAME: MESSAGE (STATUS)" on stderr and return the exit code of err->status. */
int args_fail(const char *name, const tdm_err *err);

/* Open the backend that --device and --dtype ask for, and say which it is on stderr unless quiet. */
tdm_status args_open_backend(const common_args *common, tdm_backend *out, tdm_err *err);

#endif
