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

#include <stdint.h>

#include "host/record.h"

/* --max-errors: a number is judged at once, a percentage at the end. */
typedef struct {
    bool percent;
    double limit;
} tdm_max_errors;

typedef struct {
    int64_t ok, bad, blank; /* records read = ok + bad; blank lines are skipped */
    int64_t by_fault[16];   /* indexed by tdm_fault */
} tdm_counts;

typedef struct tdm_sink tdm_sink;

/* Errors: TDM_ECANTCREATE when path cannot be written (tried at once, before any work). */
tdm_status tdm_sink_open(const char *path, tdm_max_errors max_errors, tdm_sink **out, tdm_err *err);
/* Errors: TDM_EIO (disk full, ...). A closed pipe is TDM_EIO too; see tdm_sink_pipe_closed. */
tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err);
/* Record a bad record (file, line, offset, id, class, detail).
 * Errors: TDM_EFORMAT at once when an absolute --max-errors is passed; TDM_EIO. */
tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err);
/* Flush what has been written so far to a pipe or terminal, so that a reader sees it. */
tdm_status tdm_sink_flush(tdm_sink *s, tdm_err *err);
/* Errors: TDM_EFORMAT when a percentage of --max-errors is passed; TDM_EIO. */
tdm_status tdm_sink_commit(tdm_sink *s, tdm_err *err);
void tdm_sink_close(tdm_sink *s); /* NULL is fine */
bool tdm_sink_pipe_closed(const tdm_sink *s);
tdm_counts *tdm_sink_counts(tdm_sink *s);

#endif
