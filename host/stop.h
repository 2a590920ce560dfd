/* host/stop.h - a flag that ends waiting and work early, set by a signal handler or by another thread.
 *
 *   tdm_stop reading = {.also = signals}; // the signal, or whoever calls
 *   tdm_stop_set(&reading, 1);
 *   if (tdm_stopped(&reading)) ...
 *
 * Thread safety: any thread and any signal handler, at any time. */
#ifndef HOST_STOP_H
#define HOST_STOP_H

#include <stdatomic.h>
#include <stddef.h>

typedef struct tdm_stop {
    atomic_int why;              /* 0: go on; the number of a signal, or any other number */
    const struct tdm_stop *also; /* borrowed; stops this one too. NULL allowed */
} tdm_stop;

static inline void tdm_stop_set(tdm_stop *s, int why)
{
    atomic_store(&s->why, why);
}

/* Why to stop, 0: go on. NULL never stops. */
static inline int tdm_stopped(const tdm_stop *s)
{
    for (; s; s = s->also) {
        const int why = atomic_load(&s->why);
        if (why)
            return why;
    }
    return 0;
}

#endif
