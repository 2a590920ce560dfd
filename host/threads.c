#include "host/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A loop is "open" while threads may join it. `gate` holds, in one word, the number of the loop, the
 * open bit, and how many helpers are inside. A helper joins by compare-and-swap on an open gate; the
 * caller closes the gate when no item is left and waits for the helpers inside, so a helper that
 * the kernel has put aside delays nobody, and fn, ctx and n change only while nobody reads them. */
enum { MAX_THREADS = 1024 };
static const uint64_t INSIDE = ((uint64_t)1 << 31) - 1;
static const uint64_t OPEN = (uint64_t)1 << 31;
static const uint64_t LOOP = (uint64_t)1 << 32; /* one step of the loop number */

struct tdm_threads {
    _Alignas(64) _Atomic uint64_t gate;
    _Alignas(64) _Atomic size_t next; /* first item that nobody has taken */
    _Alignas(64) size_t n;            /* written while the gate is closed and empty */
    void (*fn)(void *ctx, size_t i);
    void *ctx;
    int spins; /* polls before a thread goes to sleep; 0 when threads outnumber cores */
    _Alignas(64) _Atomic int sleepers;
    _Atomic int caller_sleeps, stop;
    pthread_mutex_t mutex;
    pthread_cond_t opened, emptied;
    int n_helpers; /* threads besides the caller's */
    pthread_t *helpers;
};

int tdm_usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

static void take_items(tdm_threads *t)
{
    for (;;) {
        const size_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        if (i >= t->n)
            return;
        t->fn(t->ctx, i);
    }
}

/* Is a loop open that this helper has not been in? */
static int is_open(const tdm_threads *t, uint64_t last)
{
    const uint64_t gate = atomic_load(&t->gate);
    return (gate & OPEN) && gate / LOOP != last;
}

/* Poll for a while, then sleep, until there is something to do. */
static void wait_for_loop(tdm_threads *t, uint64_t last)
{
    for (int i = 0; i < t->spins; i++) {
        if (is_open(t, last) || atomic_load_explicit(&t->stop, memory_order_relaxed))
            return;
        tdm_relax();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleepers, 1); /* before the last look at the gate: see tdm_parallel */
    while (!is_open(t, last) && !atomic_load(&t->stop))
        pthread_cond_wait(&t->opened, &t->mutex);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
}

static void leave(tdm_threads *t)
{
    const uint64_t before = atomic_fetch_sub(&t->gate, 1);
    if ((before & INSIDE) == 1 && atomic_load(&t->caller_sleeps)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_signal(&t->emptied);
        pthread_mutex_unlock(&t->mutex);
    }
}

static void *help(void *arg)
{
    tdm_threads *t = arg;
    uint64_t last = 0;
    for (;;) {
        wait_for_loop(t, last);
        if (atomic_load(&t->stop))
            return NULL;
        uint64_t gate = atomic_load(&t->gate);
        if (!(gate & OPEN) || !atomic_compare_exchange_strong(&t->gate, &gate, gate + 1))
            continue;
        last = gate / LOOP;
        take_items(t);
        leave(t);
    }
}

/* The caller's wait for the helpers that are still inside. */
static void wait_until_empty(tdm_threads *t)
{
    for (int i = 0; i < t->spins; i++) {
        if (!(atomic_load(&t->gate) & INSIDE))
            return;
        tdm_relax();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_store(&t->caller_sleeps, 1); /* before the last look at the gate: see leave */
    while (atomic_load(&t->gate) & INSIDE)
        pthread_cond_wait(&t->emptied, &t->mutex);
    atomic_store(&t->caller_sleeps, 0);
    pthread_mutex_unlock(&t->mutex);
}

void tdm_parallel(tdm_threads *t, size_t n, void (*fn)(void *ctx, size_t i), void *ctx)
{
    if (n <= 1 || !t->n_helpers) {
        for (size_t i = 0; i < n; i++)
            fn(ctx, i);
        return;
    }
    t->fn = fn;
    t->ctx = ctx;
    t->n = n;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    atomic_fetch_add(&t->gate, LOOP | OPEN); /* publishes the fields above; OPEN was clear */
    if (atomic_load(&t->sleepers)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->opened);
        pthread_mutex_unlock(&t->mutex);
    }
    take_items(t);
    atomic_fetch_and(&t->gate, ~OPEN);
    wait_until_empty(t);
}

static tdm_status start_helpers(tdm_threads *t, int n, tdm_err *err)
{
    for (; t->n_helpers < n; t->n_helpers++) {
        const int code = pthread_create(&t->helpers[t->n_helpers], NULL, help, t);
        if (code)
            return tdm_fail(err, TDM_ENOMEM, "thread %d of %d: %s", t->n_helpers + 2, n + 1,
                            strerror(code));
    }
    return TDM_OK;
}

tdm_status tdm_threads_open(int n, tdm_threads **out, tdm_err *err)
{
    enum { SPINS = 1000 }; /* tens of microseconds: longer than the pause between two operations */
    tdm_status st = TDM_OK;
    tdm_threads *t = NULL;
    *out = NULL;
    TDM_REQUIRE(n >= 0 && n <= MAX_THREADS, TDM_EARG, "%d threads, want 0 to %d", n, MAX_THREADS);
    const int cores = tdm_usable_cores();
    if (n == 0)
        n = cores;
    t = aligned_alloc(64, sizeof *t);
    TDM_REQUIRE(t, TDM_ENOMEM, "thread handle");
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->opened, NULL);
    pthread_cond_init(&t->emptied, NULL);
    t->spins = n <= cores ? SPINS : 0;
    t->helpers = calloc((size_t)n, sizeof *t->helpers);
    TDM_REQUIRE(t->helpers, TDM_ENOMEM, "handles of %d threads", n);
    TDM_TRY(start_helpers(t, n - 1, err));
    *out = t;
    t = NULL;
done:
    tdm_threads_close(t);
    return st;
}

void tdm_threads_close(tdm_threads *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->mutex);
    atomic_store(&t->stop, 1);
    pthread_cond_broadcast(&t->opened);
    pthread_mutex_unlock(&t->mutex);
    for (int i = 0; i < t->n_helpers; i++)
        pthread_join(t->helpers[i], NULL);
    pthread_cond_destroy(&t->emptied);
    pthread_cond_destroy(&t->opened);
    pthread_mutex_destroy(&t->mutex);
    free(t->helpers);
    free(t);
}

int tdm_threads_count(const tdm_threads *t)
{
    return t->n_helpers + 1;
}

double tdm_threads_seconds(const tdm_threads *t)
{
    double seconds = 0;
    for (int i = 0; i < t->n_helpers; i++) {
        clockid_t clock;
        struct timespec spent;
        if (!pthread_getcpuclockid(t->helpers[i], &clock) && !clock_gettime(clock, &spent))
            seconds += (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
    }
    return seconds;
}
