#include <errno.h>
#include <time.h>

#include "host/ranks_state.h"
#include "host/threads.h"

/* ---- a rank's thread ---- */

static void wait_for_work(rank_state *r)
{
    tdm_ranks *g = r->group;
    for (int i = 0; i < g->spins; i++) {
        if (atomic_load(&r->given))
            return;
        tdm_relax();
    }
    pthread_mutex_lock(&g->mutex);
    atomic_fetch_add(&g->sleepers, 1); /* before the last look at the flag: see hand_over */
    while (!atomic_load(&r->given))
        pthread_cond_wait(&g->begin, &g->mutex);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mutex);
}

static void come_back(rank_state *r)
{
    tdm_ranks *g = r->group;
    atomic_store(&r->given, 0);
    if (atomic_load(&g->caller_sleeps)) {
        pthread_mutex_lock(&g->mutex);
        pthread_cond_signal(&g->end);
        pthread_mutex_unlock(&g->mutex);
    }
}

void *ranks_thread(void *arg)
{
    rank_state *r = arg;
    while (!r->quits) {
        wait_for_work(r);
        r->err = (tdm_err){0};
        r->st = r->call(r->ctx, &r->be, r->number, &r->err);
        if (r->st != TDM_OK) {
            int none = -1;
            atomic_compare_exchange_strong(&r->group->first, &none, r->number);
            tdm_stop_set(&r->group->failed, TDM_STOP_USELESS);
        }
        come_back(r);
    }
    return NULL;
}

/* ---- work for all ranks ---- */

static void hand_over(tdm_ranks *g, tdm_rank_call call, void *ctx)
{
    for (int32_t i = 0; i < g->n; i++) {
        rank_state *r = &g->ranks[i];
        r->lost = atomic_load(&r->given);
        if (r->lost)
            continue;
        r->call = call;
        r->ctx = ctx;
        atomic_store(&r->given, 1);
    }
    if (atomic_load(&g->sleepers)) {
        pthread_mutex_lock(&g->mutex);
        pthread_cond_broadcast(&g->begin);
        pthread_mutex_unlock(&g->mutex);
    }
}

/* All but those that were away when the work was handed over. */
static bool are_back(const tdm_ranks *g)
{
    for (int32_t i = 0; i < g->n; i++)
        if (!g->ranks[i].lost && atomic_load(&g->ranks[i].given))
            return false;
    return true;
}

static struct timespec time_in(int32_t milliseconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += milliseconds / 1000;
    t.tv_nsec += milliseconds % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

/* Once a rank has failed, the others have the time of g->patience. */
static void sleep_until_back(tdm_ranks *g)
{
    struct timespec limit;
    bool limited = false;
    int code = 0;
    pthread_mutex_lock(&g->mutex);
    atomic_store(&g->caller_sleeps, 1); /* before the last look at the flags: see come_back */
    while (!are_back(g) && code != ETIMEDOUT) {
        if (!limited && atomic_load(&g->failed.why)) {
            limit = time_in(g->patience);
            limited = true;
        }
        code = limited ? pthread_cond_timedwait(&g->end, &g->mutex, &limit) : pthread_cond_wait(&g->end, &g->mutex);
    }
    atomic_store(&g->caller_sleeps, 0);
    pthread_mutex_unlock(&g->mutex);
}

void ranks_on_all(tdm_ranks *g, tdm_rank_call call, void *ctx)
{
    hand_over(g, call, ctx);
    for (int i = 0; i < g->spins; i++) {
        if (are_back(g))
            return;
        tdm_relax();
    }
    sleep_until_back(g);
    for (int32_t i = 0; i < g->n; i++)
        g->ranks[i].lost = atomic_load(&g->ranks[i].given);
}

bool ranks_all_answer(const tdm_ranks *g)
{
    for (int32_t i = 0; i < g->n; i++)
        if (g->ranks[i].lost)
            return false;
    return true;
}
