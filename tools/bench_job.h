/* tools/bench_job.h - whole jobs for "tandem bench": the model they run with, the command that is
 * run, and the seconds that it takes at least.
 *
 * A job is the command of the user itself, `tandem generate ... --json`, in a process of its own:
 * nothing is left out of what is timed, and nothing of the bench is in the way. Thread safety: none
 * needed. */
#ifndef TOOLS_BENCH_JOB_H
#define TOOLS_BENCH_JOB_H

#include "host/config.h"
#include "host/stop.h"
#include "tools/bench_common.h"
#include "tools/bench_model.h"
#include "tools/summary.h"

typedef struct {
    bench_options bench;
    const char *model, *size; /* a folder, or a shape to be made in a folder that goes away */
    int64_t n, length, rounds;
} job_options;

#define JOB_ARGS_MODEL(o)                                                                          \
    {.name = "model",                                                                              \
     .kind = ARG_STR,                                                                              \
     .out = &(o)->model,                                                                           \
     .value = "DIR",                                                                               \
     .help = "model folder"},                                                                      \
    {                                                                                              \
        .name = "size", .kind = ARG_STR, .out = &(o)->size, .value = BENCH_SHAPE_NAMES,            \
        .help = "random weights of this shape (f16) instead of --model"                            \
    }
#define JOB_ARGS_ROUNDS(o)                                                                         \
    {                                                                                              \
        .name = "rounds", .kind = ARG_I64, .out = &(o)->rounds, .value = "N", .min = 1,            \
        .max = 1000, .help = "times to run each row of the table, in turn"                         \
    }

#define JOB_ARGS_TP(o)                                                                             \
    {                                                                                              \
        .name = "tp", .kind = ARG_I64, .out = &(o)->bench.common.tp, .value = "N", .min = 1,       \
        .max = TDM_MOST_RANKS, .help = "GPUs that hold the weights together; the floor is that of N of them" \
    }

typedef struct {
    const job_options *options; /* borrowed */
    char dir[BENCH_PATH];       /* the model */
    const tdm_stop *stop;       /* set by a signal */
    char scratch[BENCH_PATH];   /* a folder for what the job writes, and for a model of --size */
    tdm_config config;
    bench b; /* measured, of one device, times --tp GPUs, and its backend closed again */
    tdm_dtype kv_dtype;
} job;

/* Make or find the model, and measure the machine; the backend is closed then, so that its memory
 * is the job's.  Errors: TDM_EARG unless one of --model and --size is given, or for another
 * architecture. */
tdm_status job_open(const job_options *options, const char *part, tdm_arch arch, job *out,
                    tdm_err *err);
void job_close(job *j); /* {0} is fine */

/* What a command said of itself with --json, and what the system says of it. */
typedef struct {
    double seconds; /* of the work, as the command counts them */
    double start;   /* of the process besides: loading, for the most part */
    double tokens, records;
    double steps;  /* of generate; NAN: the command does not count them */
    double cpu;    /* seconds of all cores, loading included */
    run_steps cpu_steps; /* of the work's steps; NAN: the command does not measure them */
    double peak;   /* bytes of host memory; NAN: no more than those of this process */
    char hash[24]; /* of all tokens */
} job_result;

/* Run this program with args [n], "generate" first; --json, --quiet and the options of the device
 * are added. Errors: TDM_EINTERNAL with the exit code when it failed (it said why on stderr). */
tdm_status job_run(const job *j, const char *const *args, size_t n, job_result *out, tdm_err *err);

/* Seconds of one token of `texts` texts written side by side up to `length` tokens each, at least:
 * keys and values read once, and the weights read or multiplied with once a step, one after the
 * other. */
double job_floor_generate(const job *j, double texts, double length);
/* Seconds of one text of `length` tokens that is read at once: multiply-adds alone. */
double job_floor_read(const job *j, double length);

/* Write n records to path, each of `length` words of the model's vocabulary that are one token
 * each. Errors: TDM_EARG when the vocabulary has no such words; TDM_ECANTCREATE, TDM_EIO. */
tdm_status job_write_texts(const job *j, const char *path, int64_t n, int64_t length, tdm_err *err);

#endif
