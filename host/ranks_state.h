/* host/ranks_state.h - inside ranks*.c and for their tests: a group of ranks, and how it gets its work. */
#ifndef HOST_RANKS_STATE_H
#define HOST_RANKS_STATE_H

#include <pthread.h>
#include <stdbool.h>

#include "host/ranks.h"
#include "host/stop.h"

/* Work is handed over by a flag of each rank: the caller sets it beside what is to be done, the rank clears it beside
 * what came of it. So a rank that never comes back holds up nobody's count, and one that comes back late finds nothing to do. */
typedef struct {
    tdm_ranks *group;
    int32_t number;
    pthread_t thread;
    bool lost; /* the caller's: did not come back in time */
    bool gave_up, quits; /* the thread's */
    tdm_backend be;
    tdm_rank_call call; /* what to do; the caller's while `given` is not set */
    void *ctx;
    tdm_status st; /* what came of it */
    tdm_err err;
    _Alignas(64) atomic_int given;
} rank_state;

struct tdm_ranks {
    int32_t n;
    rank_state *ranks;
    int spins;        /* polls before a thread goes to sleep; 0 where threads outnumber cores */
    int32_t patience; /* milliseconds for the other ranks once one has failed; 30 s at first */
    atomic_int first;  /* the rank that failed first; -1: none has */
    tdm_stop failed;   /* set from then on; also the stop of whoever gave the work */
    bool dead;         /* no rank can be used any more */
    tdm_err why;
    pthread_mutex_t mutex;
    pthread_cond_t begin, end;
    atomic_int sleepers, caller_sleeps;
    tdm_ops ops;
    char *device, *identity;
};

/* What a rank's thread does; arg is a rank_state. It ends behind work that sets `quits`. */
void *ranks_thread(void *arg);
/* call(ctx, ...) on all ranks that are not away; returns when they are back, or g->patience after one has failed. Then `lost`
 * says who is away. */
void ranks_on_all(tdm_ranks *g, tdm_rank_call call, void *ctx);
bool ranks_all_answer(const tdm_ranks *g);

#endif
