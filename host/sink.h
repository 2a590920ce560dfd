/* host/sink.h - where results and error records go, with the accounting in = ok + bad + skipped.
 *
 *   TDM_TRY(tdm_sink_open("out.jsonl", max_errors, &sink, err));
 *   TDM_TRY(tdm_sink_put(sink, line, len, err));        // one result, newline included
 *   TDM_TRY(tdm_sink_bad(sink, &fault_record, err));    // one line of OUT.errors.jsonl
 *   TDM_TRY(tdm_sink_commit(sink, err));                // fsync, rename: OUT appears whole or not at all
 *   tdm_sink_close(sink);                               // without commit: nothing is left behind
 *
 * With "-" results go to stdout and error records, one line each, to stderr.
 * Thread safety: one sink, one thread. */
#ifndef HOST_SINK_H
#define HOST_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "host/record.h"
#include "host/stop.h"

/* --max-errors: a number is judged at once, a percentage at the end. */
typedef struct {
    bool percent;
    double limit;
} tdm_max_errors;

typedef struct {
    int64_t ok, bad, skipped; /* in = ok + bad + skipped; blank lines are skipped */
    int64_t by_fault[16];     /* indexed by tdm_fault */
} tdm_counts;

typedef struct tdm_sink tdm_sink;

/* Open a temporary file, .NAME.tandem-part in the folder of PATH, for writing.
 *   path  "-" is stdout. A device or a named pipe is written directly, with the errors on stderr
 * Errors: TDM_ECANTCREATE when path cannot be written, its folder cannot be read, or another process
 * is writing it (tried at once, before any work); TDM_EARG for a compressed name; TDM_ENOMEM. */
tdm_status tdm_sink_open(const char *path, tdm_max_errors max_errors, tdm_sink **out, tdm_err *err);
/* Once stop is set, wait no longer for a pipe or terminal that takes nothing: TDM_ESTOPPED from
 * the calls below. stop must outlive the sink. */
void tdm_sink_stop_by(tdm_sink *s, const tdm_stop *stop);
/* Whether results go straight to stdout, a pipe or a device, and error records to stderr: there is no
 * file that appears at the commit, and no OUT.errors.jsonl. */
bool tdm_sink_is_direct(const tdm_sink *s);
/* Append one result and count it as ok.
 * Errors: TDM_EIO (disk full, ...). A closed pipe is TDM_EIO too; see tdm_sink_pipe_closed. */
tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err);
/* Record a bad record (file, line, offset, id, class, detail) and count it.
 *   bad  fault and detail must be set, as the reader or the caller found them; file NULL when it
 *        came from none
 * Errors: TDM_EFORMAT at once when an absolute --max-errors is passed; TDM_EIO. */
tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err);
/* Flush what has been written so far to a pipe or terminal, so that a reader sees it. */
tdm_status tdm_sink_flush(tdm_sink *s, tdm_err *err);
/* Make the results durable and visible: OUT.errors.jsonl first (removed when it is stale and there
 * are no bad records), then OUT.
 * Errors: TDM_EFORMAT when a percentage of --max-errors is passed; TDM_EIO. */
tdm_status tdm_sink_commit(tdm_sink *s, tdm_err *err);
/* Without a commit: remove what was made. What stdout was given stays with its reader. */
void tdm_sink_close(tdm_sink *s); /* NULL is fine */
/* Whether a write failed because the reader of a pipe went away: no reason to complain. */
bool tdm_sink_pipe_closed(const tdm_sink *s);
/* The counts so far; the caller fills in skipped. */
tdm_counts *tdm_sink_counts(tdm_sink *s);

#endif
