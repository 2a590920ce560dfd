/* host/sink.h - where results and error records go, with the accounting in = ok + bad + skipped.
 *
 *   TDM_TRY(tdm_sink_open(&options, &sink, err));
 *   TDM_TRY(tdm_sink_put(sink, line, len, err));        // one result, newline included
 *   TDM_TRY(tdm_sink_bad(sink, &fault_record, err));    // one error record
 *   TDM_TRY(tdm_sink_end_chunk(sink, &chunk, tokens, err)); // hand them on: to the job or to stdout
 *   TDM_TRY(tdm_sink_finish(sink, err));                // the end of the records
 *   tdm_sink_close(sink);
 *
 * With a job, results and errors of a chunk are committed together (host/job.h). Without one they go straight
 * to stdout, a pipe or a device as they come, and error records, one line each, to stderr.
 * Thread safety: one sink, one thread. */
#ifndef HOST_SINK_H
#define HOST_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "host/codec.h"
#include "host/job.h"
#include "host/record.h"
#include "host/stop.h"

typedef struct {
    const char *path;     /* "-" is stdout; a pipe or device where there is no job. Borrowed */
    tdm_job *job;         /* NULL: none. Borrowed */
    tdm_codec codec;      /* of the results */
    tdm_max_errors max_errors; /* with a job, of all processes, as far as known */
    int threads;          /* that compress; 0: one per usable core */
    const tdm_stop *stop; /* set: wait no longer for a pipe that takes nothing. NULL allowed */
} tdm_sink_options;

typedef struct tdm_sink tdm_sink;

/* A named pipe is waited for until somebody reads it.
 * Errors: TDM_ECANTCREATE when path cannot be written; TDM_EFORMAT when the job has more bad records than an
 * absolute --max-errors already; TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status tdm_sink_open(const tdm_sink_options *options, tdm_sink **out, tdm_err *err);
/* Whether results go straight to stdout, a pipe or a device, and error records to stderr. */
bool tdm_sink_is_direct(const tdm_sink *s);
/* Append one result and count it as ok. Errors: TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. A closed pipe is
 * TDM_EIO too; see tdm_sink_pipe_closed. */
tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err);
/* Record a bad record (file, line, offset, id, class, detail) and count it. A line that is 0 is counted in the
 * file up to offset.
 *   bad  fault and detail must be set, as the reader or the caller found them; file NULL when it
 *        came from none
 * Errors: TDM_EFORMAT at once when an absolute --max-errors is passed; TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM;
 * TDM_ENOINPUT when the file is gone. */
tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err);
/* All records of this chunk have come. With a job, what was put since the last chunk is compressed and
 * committed; without, chunk->skipped is counted, and compressed output becomes one member or frame. Compressed chunks
 * may wait for others, to be compressed side by side: 16, or 16 MiB, or until flush, finish or close.
 *   tokens  of these records, for the totals
 * Errors: TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status tdm_sink_end_chunk(tdm_sink *s, const tdm_chunk *chunk, uint64_t tokens, tdm_err *err);
/* Write what has come so far to a pipe or terminal, so that a reader sees it. With a job or compressed, the chunks
 * that have ended. */
tdm_status tdm_sink_flush(tdm_sink *s, tdm_err *err);
/* The end: with a job, tdm_job_finish. Errors: TDM_EFORMAT when a percentage of --max-errors is passed;
 * TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status tdm_sink_finish(tdm_sink *s, tdm_err *err);
/* What stdout was given stays with its reader; with a job or compressed, a chunk that has not ended is dropped. */
void tdm_sink_close(tdm_sink *s); /* NULL is fine */
/* Whether a write failed because the reader of a pipe went away: no reason to complain. */
bool tdm_sink_pipe_closed(const tdm_sink *s);
/* The counts of this process so far, chunks that have not ended included. */
const tdm_counts *tdm_sink_counts(const tdm_sink *s);
/* CPU seconds that compressing has taken, of all threads.
 *   helpers  receives those of other threads than the caller's */
double tdm_sink_compress_seconds(const tdm_sink *s, double *helpers);

#endif
