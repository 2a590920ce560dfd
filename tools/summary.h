/* tools/summary.h - the end of a command: what it says, and its exit code.
 *
 *   st = run_it(...);
 *   code = summary_finish("detect", &common, &run, st, &err, &totals);
 *   run_close(&run);
 *   return code; */
#ifndef TOOLS_SUMMARY_H
#define TOOLS_SUMMARY_H

#include <stdint.h>
#include <time.h>

#include "host/err.h"
#include "host/sink.h"
#include "tools/args.h"
#include "tools/run.h"

/* CPU seconds of the steps of a run, each of all its threads. */
#define SUMMARY_STEPS(X) X(read) X(tokenise) X(judge) X(write) X(compress) X(other)
typedef struct {
#define X(step) double step;
    SUMMARY_STEPS(X)
#undef X
} run_steps;

/* Seconds of a clock: CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID. */
double summary_cpu(clockid_t clock);
/* Fill in what is left of `all`, the process's CPU seconds, once the steps' threads have ended: the thread that writes
 * compresses too, but not alone; the rest is that of committing and joining, and of a CPU that computes. */
void summary_steps(run_steps *cpu, const tdm_sink *sink, double all);

/* What this process adds up besides the counts of the sink. */
typedef struct {
    double seconds;
    const run_steps *cpu; /* NULL: not measured */
    uint64_t tokens;
    uint64_t steps;      /* in each of which running texts got a token; 0: nothing is said of them */
    uint64_t windows;    /* that texts were read in; 0: likewise */
    uint64_t token_hash; /* TDM_HASH_START, then tdm_hash_ids over the ids in output order */
} run_totals;

typedef enum { SUMMARY_STREAM, SUMMARY_COMPLETE, SUMMARY_WAITING, SUMMARY_STOPPED, SUMMARY_FAILED } summary_state;

/* How a run ended, as far as it is not in its totals: what a worker of --devices tells the first process. */
typedef struct {
    summary_state state;
    bool has_job;
    bool was_complete;  /* before it began */
    bool began;         /* it got as far as records */
    bool pipe_closed;   /* the reader of the output went away */
    tdm_rank rank;      /* of the processes */
    tdm_counts counts;  /* complete: of OUT; else of this process */
    uint64_t tokens;    /* likewise */
    int64_t before;     /* records that this process did not do */
    tdm_job_totals job; /* of all processes */
    tdm_err err;        /* stopped, failed */
    run_totals totals;
    run_steps cpu;      /* totals.cpu points here, or is NULL */
} run_end;

/* Say the end of a run. workers: appended to the summary object as its last members; NULL: nothing.
 * Returns: the exit code. */
int summary_print(const char *command, const common_args *common, const run_end *end, const char *workers);

/* End a run that reads or writes records. On failure: one line on stderr, none when the reader of
 * the output pipe went away; when a job was stopped, it says what is done. Otherwise, unless --quiet, a line
 * that counts the bad records by class, and one when other ranks still have work. With --json, of a run that
 * got as far as records, the summary object, on stdout when the data went to a file, else on stderr:
 *   state     complete: OUT is there; waiting: for other ranks; stream: there is no OUT; stopped: exit code 75;
 *             failed: another error, which is in "error"
 *   in, ok, bad, skipped, by_class, tokens
 *             complete: of OUT, whoever did it and when; else of this process
 *   before    complete: records that other processes did, or this one's forerunners
 *   seconds, tokens_per_second, steps, windows
 *             of this process
 *   cpu_seconds  of this process, for each step: {"read": 1.5, ...}; where it was measured
 *   token_hash  of the ids that this process put out; not there when others wrote a part of OUT
 *   run     zeroed when it could not be opened (st is an error then)
 * Under --devices a worker tells all that to the first process, which prints it of all workers; with a "workers" list,
 * [{"devices": [0], "chunks": 5, "records": 100, "faults": 0}, ...], of this run.
 * Returns: the exit code: that of st, or 3 when some records of what this run completed were bad. A rank that
 * leaves work to others, and a run that finds the job complete, end with 0: launchers take anything else
 * for a failure, and mpirun kills the other ranks for it. */
int summary_finish(const char *command, const common_args *common, const command_run *run, tdm_status st,
                   const tdm_err *err, const run_totals *totals);

#endif
