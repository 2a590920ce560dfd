/* tests/crash/crash.h - what the modes of the driver share: workloads, processes that run them, and
 * the comparison with a run that nobody disturbed.
 *
 *   const run r = {.w = w, .out = try_folder(), .fault = "fsync:3:EIO"};
 *   const int code = run_to_end(&r);
 *   EXPECT(code == 74, "exit %d", code);
 *   ...again, without the fault...
 *   expect_same(w, r.out);
 *
 * One process, one thread. A failed expectation ends the driver and keeps its folder. */
#ifndef TESTS_CRASH_CRASH_H
#define TESTS_CRASH_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/buf.h"
#include "host/codec.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define EXPECT(cond, ...)                                                                          \
    do {                                                                                           \
        if (!(cond))                                                                               \
            give_up(__FILE__, __LINE__, __VA_ARGS__);                                              \
    } while (0)

enum { PATH_CAP = 512 };

/* What a run that nobody disturbed leaves behind. */
typedef struct {
    tdm_buf out, errors, counts; /* counts: of OUT.manifest.json */
    int code;
    double seconds;
} reference;

typedef struct {
    const char *name;    /* "detect-gz" */
    const char *command; /* "detect" */
    tdm_codec codec;     /* of inputs and output */
    reference ref;
} workload;

extern workload WORKLOADS[];
extern size_t workload_scale; /* times as many records; to be set before the first is made ready */
extern const size_t N_WORKLOADS;
/* The workload of this name; made ready: its inputs are there and its reference was run. */
workload *workload_get(const char *name);
workload *workload_at(size_t i);
void workloads_free(void);

/* ---- files ---- */

extern char scratch[];       /* a folder of the driver's own */
extern char last_fault[128]; /* TDM_FAULT of the last run that had one, for messages */
/* PATH = scratch/FORMAT */
void scratch_path(char path[PATH_CAP], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* path = OUT + ENDING */
void beside(char path[PATH_CAP], const char *out, const char *ending);
void store(const char *path, const void *data, size_t len);
bool load(const char *path, tdm_buf *out); /* replaces out; false: not there */
void remove_tree(const char *path);
void copy_tree(const char *from, const char *to);
/* Lines in text, and the first of them. */
size_t count_lines(const tdm_buf *text);

/* ---- processes ---- */

typedef struct {
    const workload *w;
    const char *out;
    const char *fault, *list, *trace; /* TDM_FAULT...; NULL: unset */
    int shard, shards;                /* --shard; shards 0: none */
    const char *input;                /* instead of the workload's; NULL: those */
    const char *max_errors;           /* NULL: as many as there may be */
    int stdout_fd;                    /* instead of nothing; 0: none */
} run;

/* Start tandem_faults. Its stderr goes to scratch/stderr.SHARD. */
pid_t run_start(const run *r);
/* How a process ended: its exit code, or minus the signal. */
int run_wait(pid_t pid);
int run_to_end(const run *r);
/* Start a process whose fault is to stop and wait until it does: SIGCONT lets it go on. 0: it ended
 * with *code. */
pid_t run_until_stop(const run *r, int *code);
/* The same, but SIGKILL after so many seconds, unless it ended before. */
int run_killed_after(const run *r, double seconds);
/* What it said. */
void load_stderr(const run *r, tdm_buf *text);
double now(void);
void nap(double seconds);

/* ---- outcomes ---- */

/* scratch/try/out.jsonl[.gz|.zst] in an empty folder. */
const char *try_out(const workload *w);
/* The exit code of a run that went well: that of the reference, or 0 where others have work left or
 * there was nothing to do. */
bool is_done(const workload *w, int code);
/* OUT, its errors and counts are those of the reference, and nothing else lies beside them. */
void expect_same(const workload *w, const char *out);
/* Run to the end without a fault, and expect_same. */
void expect_resume(const run *r);
/* Chunks in the journals of OUT.job. */
size_t journal_lines(const char *out);
_Noreturn void give_up(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- numbers ---- */

extern uint64_t random_state; /* set by main from the mode's fixed seed */
uint64_t random_below(uint64_t n);
double random_share(void); /* [0, 1) */

/* ---- modes: n is how many of whatever they do ---- */

typedef struct {
    long n;
    const char *const *words; /* [n_words] what else stood on the command line */
    size_t n_words;
} mode_args;

void mode_kill(const mode_args *args);
void mode_points(const mode_args *args);
void mode_sites(const mode_args *args);
void mode_full(const mode_args *args);
void mode_damage(const mode_args *args);
void mode_signals(const mode_args *args);
void mode_elastic(const mode_args *args);
void mode_second(const mode_args *args);
void mode_power(const mode_args *args);

#endif
