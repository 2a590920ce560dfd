/* host/pipeline.h - three steps of a job at the same time: windows of records are filled by one thread,
 * worked on by the caller's, and emptied by a third.
 *
 *   const tdm_pipeline_steps steps = {&job, windows, N, read_window, write_window, &job.reading};
 *   TDM_TRY(tdm_pipeline_open(&steps, &line, err));
 *   while ((w = tdm_pipeline_take(line, true))) {
 *       ...work on w, maybe on several at once...
 *       tdm_pipeline_give(line);
 *   }
 *   st = tdm_pipeline_close(line, st, err);
 *
 * A few windows go round in one order, so results keep the order of the records, and memory is that of the
 * windows. Thread safety: take, give and close belong to the thread that opened. */
#ifndef HOST_PIPELINE_H
#define HOST_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>

#include "host/err.h"
#include "host/stop.h"

typedef struct tdm_pipeline tdm_pipeline;

typedef struct {
    void *ctx;             /* of fill and empty */
    void *const *windows;  /* [n_windows] borrowed; with 4 of them no step waits for another's one */
    size_t n_windows;
    /* On a thread of its own: fill an empty window. It is handed on unless an error is returned. */
    tdm_status (*fill)(void *ctx, tdm_pipeline *line, void *window, bool *at_end, tdm_err *err);
    /* On a thread of its own: write what the window holds. */
    tdm_status (*empty)(void *ctx, void *window, tdm_err *err);
    tdm_stop *stop_fill; /* set to TDM_STOP_USELESS with the first failure or at the end: fill waits for nothing then */
} tdm_pipeline_steps;

/* Start both threads. Errors: TDM_ENOMEM. */
tdm_status tdm_pipeline_open(const tdm_pipeline_steps *steps, tdm_pipeline **out, tdm_err *err);

/* The next window that was filled, in order. NULL: none is ready; or, with wait: none will come, because
 * of the end or of a failure. */
void *tdm_pipeline_take(tdm_pipeline *p, bool wait);
/* The oldest of the windows that were taken is finished: to be emptied. */
void tdm_pipeline_give(tdm_pipeline *p);

/* For fill: whether the work has taken all that there is, so that even a small window is welcome. */
bool tdm_pipeline_is_hungry(tdm_pipeline *p);

/* Let what was given be emptied, end the threads, release p.
 *   st, err  how the work ended; a failure ends the filling. Windows that were taken and not given
 *            are dropped
 * Returns: the first failure in the order of the stream, with its message: that of fill, which comes after
 * all windows before it, only where work and emptying ended well. An error of empty comes at once. */
tdm_status tdm_pipeline_close(tdm_pipeline *p, tdm_status st, tdm_err *err);

#endif
