/* tools/bench_clock.c - repeated calls, timed between two moments when the backend has nothing to
 * do. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "tools/bench_common.h"

enum { WINDOWS = 12, MOST_CALLS = 1 << 16, MOST_RECORDED = 64 };
const double BENCH_WINDOW = 0.02;

typedef struct {
    bench_run *run;
    tdm_graph *graph; /* of `recorded` calls; NULL: they are enqueued one by one */
    size_t recorded;
    size_t calls; /* of one window; a multiple of recorded */
    double times[WINDOWS];
} timed;

double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tdm_status record(const bench *b, timed *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t turns = t->run->turns ? t->run->turns : 1;
    t->recorded = 1;
    if (!tdm_has_graphs(&b->backend) || turns > MOST_RECORDED)
        return TDM_OK;
    t->recorded = MOST_RECORDED / turns * turns;
    if (b->options->small)
        t->recorded = turns;
    TDM_TRY(tdm_graph_begin(&b->backend, err));
    for (size_t i = 0; i < t->recorded && st == TDM_OK; i++)
        st = t->run->call(t->run->ctx, i, err);
    const tdm_status ended = tdm_graph_end(&b->backend, &t->graph, st == TDM_OK ? err : NULL);
    st = st == TDM_OK ? ended : st;
done:
    return st;
}

static tdm_status window(const bench *b, const timed *t, double *seconds, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double start = bench_seconds();
    for (size_t i = 0; i < t->calls; i += t->recorded)
        TDM_TRY(t->graph ? tdm_graph_run(&b->backend, t->graph, err)
                         : t->run->call(t->run->ctx, i, err));
    TDM_TRY(tdm_sync(&b->backend, err));
    *seconds = (bench_seconds() - start) / (double)t->calls;
done:
    return st;
}

/* Warm up, and find how many calls make a window. */
static tdm_status prepare(const bench *b, timed *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    double seconds = 0;
    TDM_TRY(t->run->call(t->run->ctx, 0, err));
    TDM_TRY(tdm_sync(&b->backend, err));
    TDM_TRY(record(b, t, err));
    const size_t wanted = t->run->calls;
    for (t->calls = wanted > t->recorded ? wanted / t->recorded * t->recorded : t->recorded;; t->calls *= 2) {
        TDM_TRY(window(b, t, &seconds, err));
        if (wanted || b->options->small || seconds * (double)t->calls >= BENCH_WINDOW || t->calls >= MOST_CALLS)
            break;
    }
done:
    return st;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

tdm_status bench_measure(const bench *b, bench_run *runs, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    timed t[BENCH_RUNS] = {0};
    const size_t windows = b->options->small ? 1 : WINDOWS;
    TDM_REQUIRE(n <= BENCH_RUNS, TDM_EINTERNAL, "%zu runs at once", n);
    for (size_t i = 0; i < n; i++) {
        t[i].run = &runs[i];
        TDM_TRY(prepare(b, &t[i], err));
    }
    for (size_t w = 0; w < windows; w++)
        for (size_t k = 0; k < n; k++) { /* there and back: a drift meets all alike */
            const size_t i = w % 2 ? n - 1 - k : k;
            TDM_TRY(window(b, &t[i], &t[i].times[w], err));
        }
    for (size_t i = 0; i < n; i++) {
        qsort(t[i].times, windows, sizeof *t[i].times, by_value);
        runs[i].median = t[i].times[windows / 2];
        runs[i].best = t[i].times[0];
    }
done:
    for (size_t i = 0; i < n && i < BENCH_RUNS; i++)
        tdm_graph_close(&b->backend, t[i].graph);
    return st;
}
