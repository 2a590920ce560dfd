/* tools/supervise_state.h - what the files of the supervisor share: which devices (supervise_devices.c), the processes
 * (supervise.c), what they say (supervise_news.c), and the worker's own side (supervise_worker.c). Who may do which chunk is
 * decided in supervise_chunks.c. */
#ifndef TOOLS_SUPERVISE_STATE_H
#define TOOLS_SUPERVISE_STATE_H

#include <sys/types.h>

#include "host/progress.h"
#include "host/ranks.h"
#include "tools/supervise_chunks.h"
#include "tools/supervise_line.h"

/* ---- which devices (supervise_devices.c) ---- */

enum { SUPERVISE_MOST_DEVICES = 256 };

typedef struct {
    int numbers[SUPERVISE_MOST_DEVICES];
    int32_t n;
    bool null; /* the numbers mean nothing */
} device_list;

/* The devices of --devices, in its order. Asks in a process of its own what there is, since CUDA may not be called before
 * a fork.
 * Errors: TDM_EARG for what the options do not allow together, no list of numbers, and a number that comes twice;
 * TDM_ENODEV for a device that is not there; TDM_EARG for devices of different kinds, on which bits could differ. */
tdm_status devices_find(const common_args *common, device_list *out, tdm_err *err);

/* ---- the worker's own side (supervise_worker.c) ---- */

/* Become a worker: the one of this process. */
worker *worker_become(int fd, int32_t number, int32_t n_workers, const int *devices, int32_t n_devices, bool careful);

/* ---- the first process ---- */

/* A place for a worker, with its devices. What runs there between start and end is a life. */
typedef struct {
    pid_t pid; /* 0: nothing runs here */
    int fd;
    const int *devices; /* borrowed */
    char name[64];      /* "cuda:2", "cuda:0-3" */
    double sign;        /* when it was last heard of, monotonic seconds */
    bool is_careful;    /* of a chunk that workers died with */
    bool at_work;       /* it was granted a chunk, and has not said that all is done */
    bool on_disk;       /* it waits for the disk */
    bool was_hung;      /* and was killed for it */
    uint64_t n_died;    /* of all workers, when this life began */
    bool has_end;
    run_end end;        /* its last word */
    uint64_t noted, noted_bad; /* records of this life */
    tdm_counts committed;      /* of this life: of the chunks that were handed to the job */
    uint64_t life_chunks;      /* of this life */
    uint64_t chunks, records;  /* of all lives, handed to the job */
} place;

typedef struct {
    const char *command;
    common_args *common;
    device_list devices;
    tdm_rank rank; /* of the first process among others */
    int32_t n, n_each; /* workers; devices of each */
    place *places;     /* owned [n] */
    chunk_board *board;
    bool is_open;  /* a worker has opened the job */
    bool is_stopping, is_complete, was_complete;
    int32_t n_clearing; /* lives that were to remove what was left of the job */
    double stopped; /* when the workers were told to */
    double looked;  /* when the workers' signs were last looked at */
    tdm_err failure; /* what ends the run; status TDM_OK: nothing */
    tdm_err last;    /* of a worker that ended with an error */
    bool has_progress;
    tdm_progress progress;
    char unit[16];
    tdm_job_totals before; /* when the job was first opened */
    run_end sum;           /* of all workers: counts, chunks that were handed over, totals, cpu; of the job when complete */
    uint64_t chunks;       /* handed over */
    uint64_t n_died;       /* lives */
    uint64_t n_looked;     /* n_died when the last life began that ended well */
    bool began;
} supervisor;

/* Seconds without a sign after which a worker that has work is taken for hung. A step of a model takes fractions of one. */
extern const double SUPERVISE_HUNG;

double supervise_clock(void); /* monotonic seconds */
/* What a worker said. What ends the run is in s->failure then. */
void supervise_hear(supervisor *s, int32_t number, const line_message *m);
/* A life has ended: its records that were not handed over do not count. */
void supervise_forget(supervisor *s, place *p);
/* A line on stderr, unless quiet. */
void supervise_say(supervisor *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print how it ended. Returns: the exit code. */
int supervise_finish(supervisor *s);

#endif
