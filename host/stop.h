/* host/stop.h - a flag that ends waiting and work early, set by a signal handler or by another thread.
 *
 *   tdm_stop reading = {.also = signals}; // the signal, or whoever calls
 *   tdm_stop_set(&reading, TDM_STOP_USELESS);
 *   if (tdm_stopped(&reading)) ...
 *   TDM_TRY(tdm_check_stop(&reading, err));
 *
 * Thread safety: any thread and any signal handler, at any time. */
#ifndef HOST_STOP_H
#define HOST_STOP_H

#include <stdatomic.h>
#include <stddef.h>

#include "host/err.h"

enum { TDM_STOP_USELESS = -1 }; /* no signal: what is being done has become useless */

typedef struct tdm_stop {
    atomic_int why;              /* 0: go on; the number of a signal, or TDM_STOP_USELESS */
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

/* TDM_ESTOPPED where s is set, in the same words wherever that is noticed. */
static inline tdm_status tdm_check_stop(const tdm_stop *s, tdm_err *err)
{
    const int why = tdm_stopped(s);
    if (why == 0)
        return TDM_OK;
    return why > 0 ? tdm_fail(err, TDM_ESTOPPED, "stopped by signal %d", why)
                   : tdm_fail(err, TDM_ESTOPPED, "stopped");
}

#endif
