/* host/progress.h - one live line on a terminal, plain lines elsewhere, JSON events on request, and a file of
 * metrics.
 *
 *   tdm_progress p;
 *   TDM_TRY(tdm_progress_start(&p, &options, err));
 *   tdm_progress_add(&p, 1, n_tokens, n_bad);  // cheap: prints at most ten times a second on a terminal
 *   tdm_progress_finish(&p);
 *
 * Shows done / total, records/s, tokens/s, errors and ETA. A bar only where stderr is a terminal
 * and TERM is not dumb; otherwise one plain line every ten seconds, and one at the end. No colours. JSON is one
 * event a line: start, progress (every second), and finish or stop; a number that is not known is left out.
 * The metrics (host/metrics.h) are written at the start, every five seconds while records come, and at the end.
 * Watching never ends a run: after the start, what cannot be printed or written is not, and nothing says so.
 * Thread safety: one progress, one thread. */
#ifndef HOST_PROGRESS_H
#define HOST_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "host/chunk.h"
#include "host/err.h"

typedef enum {
    TDM_PROGRESS_AUTO,
    TDM_PROGRESS_BAR,
    TDM_PROGRESS_PLAIN,
    TDM_PROGRESS_JSON,
    TDM_PROGRESS_NONE
} tdm_progress_mode;

typedef enum { TDM_EVENT_START, TDM_EVENT_PROGRESS, TDM_EVENT_FINISH, TDM_EVENT_STOP } tdm_progress_event;

typedef struct tdm_progress tdm_progress;

typedef struct {
    tdm_progress_mode mode;
    bool quiet; /* wins over every mode; the metrics are written all the same */
    FILE *to;
    const char *command, *unit; /* "detect"; plural: "documents" */
    uint64_t total;             /* records in all, those before included; 0 when unknown */
    const char *metrics_file;   /* NULL: none */
    tdm_rank rank;              /* a label of the metrics and events */
    uint64_t records_before, bad_before; /* done by earlier runs of the job: shown, but not in the rates. With
                                            several ranks these and total are of the share of this one */
    /* Set: it prints and writes instead, at the start, each time that something was added, and at the end. */
    void (*watch)(void *ctx, const tdm_progress *p, tdm_progress_event event);
    void *watch_ctx;
} tdm_progress_options;

struct tdm_progress {
    tdm_progress_options set; /* mode resolved: never AUTO; NONE when quiet */
    double start, last, last_metrics;    /* monotonic seconds */
    uint64_t done, bad;                  /* those before included */
    uint64_t tokens;                     /* of this run */
    uint64_t bytes_done, bytes_total;    /* where the record count is unknown, ETA from bytes */
    uint64_t bytes_before;               /* passed when the first record of this run was done */
};

/* Begin to count. Strings are borrowed until the end. Errors: TDM_ECANTCREATE when the metrics file cannot be
 * written; TDM_ENOMEM. Nothing is printed or written then, also by what is called after it. */
tdm_status tdm_progress_start(tdm_progress *p, const tdm_progress_options *options, tdm_err *err);
/* Count `records` finished records, `bad` of them bad ones, and print when it is time. */
void tdm_progress_add(tdm_progress *p, uint64_t records, uint64_t tokens, uint64_t bad);
/* Set how much of the input has been read (tdm_reader_progress). Prints nothing. */
void tdm_progress_bytes(tdm_progress *p, uint64_t done, uint64_t total);
/* Wipe a live line, so that what else is printed to the terminal starts at the left. It comes back
 * when it is next due. */
void tdm_progress_clear(const tdm_progress *p);
/* The run has done its work: print the last line; for a bar, in its place. */
void tdm_progress_finish(tdm_progress *p);
/* The run ends early: end a live line, so that an error message starts at the left. A zeroed p is fine. */
void tdm_progress_abandon(tdm_progress *p);
double tdm_progress_seconds(const tdm_progress *p); /* since start */

/* The text of one line, without a newline, as it stands `seconds` after the start.
 *   columns  of the terminal; only a bar is cut to them
 * Returns: the number of bytes; 0 for TDM_PROGRESS_NONE, and for the start and stop of all modes but JSON; at most
 * size - 1. */
size_t tdm_progress_format(const tdm_progress *p, double seconds, int columns, tdm_progress_event event,
                           char *out, size_t size);

#endif
