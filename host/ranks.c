#include "host/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/ranks_state.h"
#include "host/stop.h"
#include "host/threads.h"

/* ---- failures ---- */

/* A rank that was ended because another one failed says TDM_ESTOPPED, and ranks that failed at different places, with
 * messages to each other under way in between, differ in what they say. */
static bool failed_alike(const tdm_ranks *g, const rank_state *first)
{
    for (int32_t i = 0; i < g->n; i++) {
        const rank_state *r = &g->ranks[i];
        if (r->lost || r->st != first->st || r->st == TDM_ESTOPPED || strcmp(r->err.msg, first->err.msg) != 0)
            return false;
    }
    return true;
}

static tdm_status give_up_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)err;
    rank_state *r = &((tdm_ranks *)ctx)->ranks[rank];
    if (be->ops && be->ops->give_up && !r->gave_up)
        be->ops->give_up(be->self);
    r->gave_up = true;
    return TDM_OK;
}

/* What came of the work, after on_all. */
static tdm_status outcome(tdm_ranks *g, const tdm_stop *stop, tdm_err *err)
{
    const int number = atomic_load(&g->first);
    if (number < 0)
        return TDM_OK;
    const rank_state *first = &g->ranks[number];
    const tdm_status st = first->st;
    tdm_err why = first->err;
    if (failed_alike(g, first)) {
        atomic_store(&g->first, -1);
        tdm_stop_set(&g->failed, 0);
    } else {
        if (g->n > 1 && !(st == TDM_ESTOPPED && tdm_stopped(stop)))
            tdm_context(&why, st, "rank %d", number);
        g->dead = true;
        g->why = why;
        ranks_on_all(g, give_up_rank, g);
    }
    return tdm_fail(err, st, "%s", why.msg);
}

/* ---- for the models ---- */

int32_t tdm_rank_count(const tdm_backend *be)
{
    return be->ranks ? be->ranks->n : 1;
}

const tdm_backend *tdm_rank_backend(const tdm_backend *be, int32_t rank)
{
    return be->ranks ? &be->ranks->ranks[rank].be : be;
}

const tdm_stop *tdm_ranks_stop(const tdm_backend *be)
{
    return be->ranks ? &be->ranks->failed : be->stop;
}

tdm_status tdm_each_rank(const tdm_backend *be, tdm_rank_call call, void *ctx, tdm_err *err)
{
    tdm_ranks *g = be->ranks;
    if (!g)
        return call(ctx, be, be->rank, err);
    if (g->dead)
        return tdm_fail(err, TDM_ESTOPPED, "%s", g->why.msg);
    g->failed.also = be->stop;
    for (int32_t i = 0; i < g->n; i++)
        g->ranks[i].be.stop = be->stop;
    ranks_on_all(g, call, ctx);
    return outcome(g, be->stop, err);
}

typedef struct {
    tdm_rank_release release;
    void *ctx;
} release_job;

static tdm_status release_on_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)err;
    const release_job *job = ctx;
    job->release(job->ctx, be, rank);
    return TDM_OK;
}

bool tdm_release_ranks(const tdm_backend *be, tdm_rank_release release, void *ctx)
{
    release_job job = {release, ctx};
    if (!be->ranks) {
        release(ctx, be, be->rank);
        return true;
    }
    ranks_on_all(be->ranks, release_on_rank, &job);
    return ranks_all_answer(be->ranks);
}

/* ---- operations of the group ---- */

static tdm_status close_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_ranks *g = ctx;
    if (g->dead) /* once more for one that was away at that time */
        give_up_rank(g, be, rank, err);
    tdm_backend_close(&g->ranks[rank].be);
    g->ranks[rank].quits = true;
    return TDM_OK;
}

static void ranks_close(void *self)
{
    tdm_ranks *g = self;
    if (!g)
        return;
    ranks_on_all(g, close_rank, g);
    for (int32_t i = 0; i < g->n; i++) {
        if (g->ranks[i].lost)
            pthread_detach(g->ranks[i].thread);
        else
            pthread_join(g->ranks[i].thread, NULL);
    }
    if (!ranks_all_answer(g))
        return; /* one that is away may come back and look at its flag */
    pthread_cond_destroy(&g->end);
    pthread_cond_destroy(&g->begin);
    pthread_mutex_destroy(&g->mutex);
    free(g->ranks);
    free(g->device);
    free(g->identity);
    free(g);
}

static tdm_status memory_of_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)err;
    ((size_t *)ctx)[rank] = tdm_backend_memory(be);
    return TDM_OK;
}

static size_t ranks_memory(void *self)
{
    const tdm_backend be = {.ranks = self};
    size_t memory[TDM_MOST_RANKS];
    if (tdm_each_rank(&be, memory_of_rank, memory, NULL) != TDM_OK)
        return 0;
    size_t least = memory[0];
    for (int32_t i = 1; i < tdm_rank_count(&be); i++)
        least = memory[i] < least ? memory[i] : least;
    return least;
}

typedef struct {
    void *dst;
    const void *src;
    size_t bytes;
} copy_job;

static tdm_status download_of_first(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const copy_job *job = ctx;
    return rank == 0 ? tdm_download(be, job->dst, job->src, job->bytes, err) : TDM_OK;
}

static tdm_status ranks_download(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    copy_job job = {dst, src, bytes};
    return tdm_each_rank(&(tdm_backend){.ranks = self}, download_of_first, &job, err);
}

static tdm_status sync_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)ctx, (void)rank;
    return tdm_sync(be, err);
}

static tdm_status ranks_sync(void *self, tdm_err *err)
{
    return tdm_each_rank(&(tdm_backend){.ranks = self}, sync_rank, NULL, err);
}

/* ---- opening ---- */

typedef struct {
    tdm_ranks *group;
    tdm_rank_open open;
    void *ctx;
} open_job;

static tdm_status open_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)be;
    const open_job *job = ctx;
    tdm_backend *out = &job->group->ranks[rank].be;
    const tdm_status st = job->open(job->ctx, rank, &job->group->failed.why, out, err);
    out->rank = rank;
    out->n_ranks = job->group->n;
    return st;
}

static tdm_status start_threads(tdm_ranks *g, int32_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    g->ranks = aligned_alloc(_Alignof(rank_state), (size_t)n * sizeof *g->ranks);
    TDM_REQUIRE(g->ranks, TDM_ENOMEM, "handles of %d ranks", n);
    memset(g->ranks, 0, (size_t)n * sizeof *g->ranks);
    for (; g->n < n; g->n++) {
        rank_state *r = &g->ranks[g->n];
        r->group = g;
        r->number = g->n;
        const int code = pthread_create(&r->thread, NULL, ranks_thread, r);
        TDM_REQUIRE(code == 0, TDM_ENOMEM, "thread %d of %d: %s", g->n + 1, n, strerror(code));
    }
done:
    return st;
}

static tdm_status check_alike(const tdm_ranks *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *first = &g->ranks[0].be;
    for (int32_t i = 1; i < g->n; i++) {
        const tdm_backend *be = &g->ranks[i].be;
        TDM_REQUIRE(be->dtype == first->dtype && strcmp(be->identity, first->identity) == 0, TDM_EARG,
                    "rank %d is \"%s\" with %s, rank 0 \"%s\" with %s", i, be->identity, tdm_dtype_name(be->dtype),
                    first->identity, tdm_dtype_name(first->dtype));
    }
done:
    return st;
}

static tdm_status describe(tdm_ranks *g, const char *device, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *first = &g->ranks[0].be;
    const size_t room = strlen(first->identity) + sizeof ", 2147483647 ranks";
    g->identity = malloc(room);
    g->device = strdup(device);
    TDM_REQUIRE(g->identity && g->device, TDM_ENOMEM, "the name of a device");
    if (g->n == 1)
        snprintf(g->identity, room, "%s", first->identity);
    else
        snprintf(g->identity, room, "%s, %d ranks", first->identity, g->n);
    g->ops = (tdm_ops){.name = first->ops->name,
                       .close = ranks_close,
                       .memory = ranks_memory,
                       .download = ranks_download,
                       .sync = ranks_sync};
    *out = (tdm_backend){.ops = &g->ops,
                         .self = g,
                         .dtype = first->dtype,
                         .device = g->device,
                         .identity = g->identity,
                         .ranks = g};
done:
    return st;
}

static tdm_status new_group(tdm_ranks **out, tdm_err *err)
{
    enum { PATIENCE = 30000 };
    pthread_condattr_t attr;
    tdm_ranks *g = calloc(1, sizeof *g);
    *out = g;
    if (!g)
        return tdm_fail(err, TDM_ENOMEM, "ranks handle");
    g->patience = PATIENCE;
    atomic_store(&g->first, -1);
    pthread_mutex_init(&g->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* of time_in */
    pthread_cond_init(&g->begin, &attr);
    pthread_cond_init(&g->end, &attr);
    pthread_condattr_destroy(&attr);
    return TDM_OK;
}

tdm_status tdm_ranks_open(int32_t n, tdm_rank_open open, void *ctx, const char *device, tdm_backend *out, tdm_err *err)
{
    enum { SPINS = 1000 }; /* tens of microseconds: longer than the pause between two calls of a decoding loop */
    tdm_status st = TDM_OK;
    tdm_ranks *g = NULL;
    *out = (tdm_backend){0};
    TDM_REQUIRE(n >= 1 && n <= TDM_MOST_RANKS, TDM_EARG, "%d ranks, want 1 to %d", n, TDM_MOST_RANKS);
    TDM_TRY(new_group(&g, err));
    g->spins = n < tdm_usable_cores() ? SPINS : 0; /* the caller has a thread too */
    TDM_TRY(start_threads(g, n, err));
    open_job job = {g, open, ctx};
    ranks_on_all(g, open_rank, &job);
    TDM_TRY(outcome(g, NULL, err));
    TDM_TRY(check_alike(g, err));
    TDM_TRY(describe(g, device, out, err));
    g = NULL;
done:
    ranks_close(g);
    return st;
}
