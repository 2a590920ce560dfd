/* host/pipeline.c - see pipeline.h. All steps walk the windows in the same order, so that a window is
 * known by its number, and the state is how far each step has come:
 *   emptied <= given <= taken <= filled <= emptied + n_windows */
#include "host/pipeline.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    tdm_status status;
    tdm_err err;
} failure;

struct tdm_pipeline {
    tdm_pipeline_steps steps;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t moved;  /* something below has changed */
    uint64_t filled, taken, given, emptied;
    bool fill_ended, work_ended, empty_failed;
    failure of_filling, of_others; /* the first of the work and the emptying */
    int n_threads;
    pthread_t threads[2];
};

static void *window(const tdm_pipeline *p, uint64_t number)
{
    return p->steps.windows[number % p->steps.n_windows];
}

/* With the mutex held. */
static void note(failure *f, tdm_status st, const tdm_err *err)
{
    if (st != TDM_OK && f->status == TDM_OK)
        *f = (failure){st, *err};
}

/* Nothing that is filled from now on would be used. With the mutex held. */
static void end_filling(tdm_pipeline *p)
{
    tdm_stop_set(p->steps.stop_fill, TDM_STOP_USELESS);
    pthread_cond_broadcast(&p->moved);
}

/* ---- the threads ---- */

/* Wait for a window to fill; false when filling is over. */
static bool wait_for_empty(tdm_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    while (p->filled - p->emptied == p->steps.n_windows && !p->work_ended && !p->empty_failed)
        pthread_cond_wait(&p->moved, &p->mutex);
    const bool go_on = !p->work_ended && !p->empty_failed;
    pthread_mutex_unlock(&p->mutex);
    return go_on;
}

static void *fill_windows(void *arg)
{
    tdm_pipeline *p = arg;
    bool at_end = false;
    while (!at_end && wait_for_empty(p)) {
        tdm_err err = {0};
        const tdm_status st =
            p->steps.fill(p->steps.ctx, p, window(p, p->filled), &at_end, &err);
        at_end = at_end || st != TDM_OK;
        pthread_mutex_lock(&p->mutex);
        note(&p->of_filling, st, &err);
        p->filled += st == TDM_OK;
        p->fill_ended = at_end;
        pthread_cond_broadcast(&p->moved);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

/* Wait for a window to empty; false when there are no more. */
static bool wait_for_given(tdm_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    while (p->emptied == p->given && !p->work_ended)
        pthread_cond_wait(&p->moved, &p->mutex);
    const bool go_on = p->emptied < p->given;
    pthread_mutex_unlock(&p->mutex);
    return go_on;
}

static void *empty_windows(void *arg)
{
    tdm_pipeline *p = arg;
    tdm_status st = TDM_OK;
    while (st == TDM_OK && wait_for_given(p)) {
        tdm_err err = {0};
        st = p->steps.empty(p->steps.ctx, window(p, p->emptied), &err);
        pthread_mutex_lock(&p->mutex);
        note(&p->of_others, st, &err);
        p->emptied += st == TDM_OK;
        p->empty_failed = st != TDM_OK;
        if (p->empty_failed)
            end_filling(p);
        pthread_cond_broadcast(&p->moved);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

/* ---- the caller's side ---- */

tdm_status tdm_pipeline_open(const tdm_pipeline_steps *steps, tdm_pipeline **out, tdm_err *err)
{
    static void *(*const RUN[])(void *) = {fill_windows, empty_windows};
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_pipeline *p = calloc(1, sizeof *p);
    TDM_REQUIRE(p, TDM_ENOMEM, "pipeline handle");
    p->steps = *steps;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->moved, NULL);
    for (; p->n_threads < 2; p->n_threads++) {
        const int code = pthread_create(&p->threads[p->n_threads], NULL, RUN[p->n_threads], p);
        TDM_REQUIRE(code == 0, TDM_ENOMEM, "thread of a pipeline: %s", strerror(code));
    }
    *out = p;
    p = NULL;
done:
    return p ? tdm_pipeline_close(p, st, err) : st;
}

void *tdm_pipeline_take(tdm_pipeline *p, bool wait)
{
    void *taken = NULL;
    pthread_mutex_lock(&p->mutex);
    while (wait && p->taken == p->filled && !p->fill_ended && !p->empty_failed)
        pthread_cond_wait(&p->moved, &p->mutex);
    if (p->taken < p->filled && !p->empty_failed)
        taken = window(p, p->taken++);
    pthread_mutex_unlock(&p->mutex);
    return taken;
}

void tdm_pipeline_give(tdm_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->given++;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->mutex);
}

bool tdm_pipeline_is_hungry(tdm_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    const bool hungry = p->taken == p->filled;
    pthread_mutex_unlock(&p->mutex);
    return hungry;
}

tdm_status tdm_pipeline_close(tdm_pipeline *p, tdm_status st, tdm_err *err)
{
    tdm_err said = {0};
    if (st != TDM_OK && err)
        said = *err;
    pthread_mutex_lock(&p->mutex);
    note(&p->of_others, st, &said);
    p->work_ended = true;
    end_filling(p);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    /* All that was filled before filling failed comes first in the stream. */
    const failure *first = p->of_others.status != TDM_OK ? &p->of_others : &p->of_filling;
    st = first->status;
    if (st != TDM_OK && err)
        *err = first->err;
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->mutex);
    free(p);
    return st;
}
