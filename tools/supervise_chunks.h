/* tools/supervise_chunks.h - which worker may do which chunk, and what the death of a worker means.
 *
 *   TDM_TRY(chunks_open(n_workers, &board, err));
 *   // at the start, and after each end of a worker, for every worker w that is not running:
 *   task = chunks_next(board, w);                     // NORMAL or CAREFUL: start it
 *   chunks_started(board, w, &task);
 *   ...chunks_grant, chunks_committed, chunks_is_bad, chunks_announced: as its messages come...
 *   chunks_finished(board, w);                        // its whole command ended well
 *   TDM_TRY(chunks_died(board, w, "by signal 9", err)); // or it did not
 *   // none is running, and none is to be started: the end. Are devices left out where chunks_is_done is false?
 *
 * A state machine: no processes, no input or output, no clock. Here a worker is a place for one, with its device (or its --tp
 * devices); what runs there between started and finished or died is a life. Every life opens the job anew, and so knows
 * which chunks were on the disk by then; it walks all of the input and asks for each chunk that was not.
 *
 *   A chunk belongs to whoever asks first. What a life was granted is on the disk for certain once that life has
 * finished. When it dies, its chunks go to whoever asks next: also those that it had reported as committed, since they may not
 * have reached the disk (where they have, whoever is started from then on does not ask).
 *   The chunks that were open at a death (granted, and not reported) come under suspicion, and the device has a fault, which
 * remembers them. A chunk with two deaths is careful: only a careful worker gets it, which does nothing else, one
 * record after the other, and announces each. If two of these die one after the other with the same record, it is bad, and
 * faults that remember this chunk are forgotten, also for the chunks that were open with it; the next careful worker leaves
 * bad records out. (One alone may have been killed by anybody.) If it finishes, the chunk is free of suspicion, and faults remain. A careful worker that dies with no
 * record announced is a fault that nothing can explain.
 *   A device with three faults is left out, unless careful work may explain one of them. A device that is broken must not
 * have good records declared bad, one after the other: careful work goes to a device that did not die with the chunk, where
 * there is one, and a careful worker tries its device with something harmless before it announces anything.
 *
 * Memory: three bits for each chunk and running worker at most, and what is under suspicion.
 * Thread safety: one board, one thread. */
#ifndef TOOLS_SUPERVISE_CHUNKS_H
#define TOOLS_SUPERVISE_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"

enum { CHUNKS_MOST_FAULTS = 3 };

typedef struct chunk_board chunk_board;

typedef enum {
    CHUNKS_NOTHING,  /* at present; ask again after the next end of a worker */
    CHUNKS_NORMAL,   /* a worker as ever */
    CHUNKS_CAREFUL,  /* a worker for this chunk alone */
    CHUNKS_LEFT_OUT, /* three faults; others' careful work may yet explain them, so ask again likewise */
} chunks_kind;

typedef struct {
    chunks_kind kind;
    size_t file;     /* CAREFUL only */
    uint64_t number;
} chunks_task;

/* Workers are 0 .. n_workers - 1. Errors: TDM_ENOMEM. */
tdm_status chunks_open(int32_t n_workers, chunk_board **out, tdm_err *err);
void chunks_close(chunk_board *b); /* NULL is fine */

/* What a worker that is not running should do. Changes nothing. */
chunks_task chunks_next(const chunk_board *b, int32_t worker);
/* A life begins; before the worker opens the job. task: NORMAL or CAREFUL. */
void chunks_started(chunk_board *b, int32_t worker, const chunks_task *task);

/* Whether a running worker may do a chunk. Asking again in the same life gives the same answer, in any order.
 * Errors: TDM_ENOMEM; TDM_EINTERNAL for 2^32 chunks or more of a file (the job engine's limit). */
tdm_status chunks_grant(chunk_board *b, int32_t worker, size_t file, uint64_t number, bool *granted, tdm_err *err);
/* It handed a granted chunk to its job. One that it was not granted, and saying so again, change nothing. */
void chunks_committed(chunk_board *b, int32_t worker, size_t file, uint64_t number);

/* Of a careful worker: the record at `place` of its chunk is next, and what was announced before is done. Only where
 * chunks_is_bad says no. */
void chunks_announced(chunk_board *b, int32_t worker, uint64_t place);
/* Whether workers died with a record.
 *   reason  receives the sentence for its error record, "4 workers died with it, the last by signal 9"; valid until the
 *           next end of a worker. NULL allowed */
bool chunks_is_bad(const chunk_board *b, size_t file, uint64_t number, uint64_t place, const char **reason);

/* The worker ended as it should: it has seen all of the input, and all that it was granted is on the disk. */
void chunks_finished(chunk_board *b, int32_t worker);
/* The worker ended otherwise, and the run goes on without it.
 *   how  behind "the last": "by signal 9", "because its device was lost"; copied, 120 bytes of it
 * Errors: TDM_ENOMEM. */
tdm_status chunks_died(chunk_board *b, int32_t worker, const char *how, tdm_err *err);

/* No worker is running, and all of the input is on the disk. */
bool chunks_is_done(const chunk_board *b);
/* Faults of a worker's device that are held against it. */
int32_t chunks_faults(const chunk_board *b, int32_t worker);
/* Records that were found to be bad, of all chunks. */
uint64_t chunks_n_bad(const chunk_board *b);

#endif
