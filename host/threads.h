/* host/threads.h - a fixed set of threads that share one loop.
 *
 *   TDM_TRY(tdm_threads_open(0, &threads, err));   // 0: one thread per usable core
 *   tdm_parallel(threads, n_tiles, compute_tile, &job);
 *   tdm_threads_close(threads);
 *
 * Who computes which item is not fixed: an item must write only what is its own. The caller's
 * thread takes part. Thread safety: one tdm_parallel at a time per tdm_threads. */
#ifndef HOST_THREADS_H
#define HOST_THREADS_H

#include <stddef.h>

#include "host/err.h"

typedef struct tdm_threads tdm_threads;

/* Between two looks at what another thread is to change. */
static inline void tdm_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Errors: TDM_EARG for n < 0 or n > 1024, TDM_ENOMEM when a thread cannot be started. */
tdm_status tdm_threads_open(int n, tdm_threads **out, tdm_err *err);
void tdm_threads_close(tdm_threads *t); /* NULL is fine */
/* Cores that this process may use; at least 1, at most 1024. */
int tdm_usable_cores(void);
int tdm_threads_count(const tdm_threads *t);
/* CPU seconds so far of these threads, without the callers'. */
double tdm_threads_seconds(const tdm_threads *t);

/* Call fn(ctx, i) once for each i in [0, n), on all threads; returns when all are done. What the
 * items wrote is visible to the caller, and what the caller wrote is visible to the items. */
void tdm_parallel(tdm_threads *t, size_t n, void (*fn)(void *ctx, size_t i), void *ctx);

#endif
