/* host/progress.h - one live line on a terminal, plain lines elsewhere, JSON events on request.
 *
 *   tdm_progress p;
 *   TDM_TRY(tdm_progress_start(&p, &options, err));
 *   tdm_progress_add(&p, 1, n_tokens, n_bad);  // cheap: prints at most ten times a second on a terminal
 *   tdm_progress_finish(&p);
 *
 * Shows done / total, records/s, tokens/s, errors and ETA. A bar only where stderr is a terminal
 * and TERM is not dumb; otherwise one plain line every ten seconds, and one at the end. No colours.
 * Printing to `to` is all that this does; it reports no errors: nobody can read them.
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

typedef struct {
    tdm_progress_mode mode; /* resolved: never AUTO */
    FILE *to;               /* borrowed */
    const char *command, *unit; /* borrowed */
    double start, last;     /* monotonic seconds */
    uint64_t done, total, tokens, bad; /* total 0: unknown */
    uint64_t bytes_done, bytes_total;  /* where the record count is unknown, ETA from bytes */
} tdm_progress;

typedef struct {
    tdm_progress_mode mode;
    bool quiet; /* wins over every mode */
    FILE *to;
    const char *command, *unit; /* "detect"; plural: "documents" */
    uint64_t total;             /* records to come, 0 when unknown */
    const char *metrics_file;   /* NULL: none. Prometheus text, replaced as a whole every few seconds and at the end */
    tdm_rank rank;              /* a label of the metrics */
    uint64_t records_before, bad_before; /* done by earlier runs of the job: shown, but not in the rates */
} tdm_progress_options;

/* Begin to count. Strings are borrowed. Errors: TDM_ECANTCREATE when the metrics file cannot be written. */
tdm_status tdm_progress_start(tdm_progress *p, const tdm_progress_options *options, tdm_err *err);
/* Count `records` finished records, `bad` of them bad ones, and print when it is time. */
void tdm_progress_add(tdm_progress *p, uint64_t records, uint64_t tokens, uint64_t bad);
/* Set how much of the input has been read (tdm_reader_progress). Prints nothing. */
void tdm_progress_bytes(tdm_progress *p, uint64_t done, uint64_t total);
/* Wipe a live line, so that what else is printed to the terminal starts at the left. It comes back
 * when it is next due. */
void tdm_progress_clear(const tdm_progress *p);
/* Print the last line; for a bar, in its place. */
void tdm_progress_finish(tdm_progress *p);
/* End a live line without a last line, so that an error message starts at the left. */
void tdm_progress_abandon(tdm_progress *p);
double tdm_progress_seconds(const tdm_progress *p); /* since start */

/* The text of one line, without a newline, as it stands `seconds` after the start.
 *   columns   of the terminal; only a bar is cut to them
 *   finished  the line after the last record
 * Returns: the number of bytes, 0 for TDM_PROGRESS_NONE; at most size - 1. */
size_t tdm_progress_format(const tdm_progress *p, double seconds, int columns, bool finished,
                           char *out, size_t size);

#endif
