/* tools/supervise.h - --devices: one worker process for each GPU, or for each group of --tp, under a process that uses no
 * GPU itself.
 *
 *   if (!supervise("detect", &args->common, &code)) // in the first process, when all is done: *code is the exit code
 *       return code;
 *   ...the command as ever; in a worker common->worker is set...
 *
 * The first process forks the workers before it has opened anything, tells each which chunk it may do (a chunk belongs to
 * whoever asks first), adds up what they say of themselves, and prints the summary. It holds no locks, no threads
 * and no device. Each worker is a rank of the job (host/job.h): index I x W + w of N x W, for worker w of W in process I of N, and
 * writes files of its own; the last one that is ready joins them. So a worker may be killed at any time, the first process
 * too (its workers end with it), and the job goes on as every job does.
 *
 * A worker that dies, by a signal or because its device was lost or has no memory, is started again, and the chunks that it had
 * been given go to whoever asks next. After three such ends a device is left out. A chunk that two workers died with is
 * done alone, one record at a time, each of them announced: the one at which two such workers die on end is recorded as bad (class
 * device-fault), and the deaths that it explains are no longer held against the devices. Everything else that ends a worker (bad input,
 * a full disk, --max-errors) ends the run, with that exit code.
 *
 * Thread safety: worker_grant on the thread that reads, worker_begin on that too, all else on any. */
#ifndef TOOLS_SUPERVISE_H
#define TOOLS_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/chunk.h"
#include "host/job.h"
#include "host/progress.h"
#include "tools/args.h"
#include "tools/summary.h"

typedef struct worker worker; /* what a worker process knows of itself, and its line to the first process */

/* Does nothing and returns true where --devices is not given. Otherwise returns true in every worker, with common->worker set,
 * common->device that of the worker, and nothing that is printed; and false in the first process at the very end. */
bool supervise(const char *command, common_args *common, int *code);

/* ---- in a worker ---- */

tdm_rank worker_rank(const worker *w, tdm_rank of_process); /* of the job */
/* The devices of this worker, [*n]. */
const int *worker_devices(const worker *w, int32_t *n);
/* Whether this worker is to do a chunk: asks the first process and waits for its word. Asking again gives the same word. */
bool worker_grant(worker *w, size_t file, uint64_t number);
/* For the job: who does which chunk, and what was done. Valid as long as the worker. */
const tdm_job_turns *worker_turns(worker *w);
/* The job is there: the other workers may come.
 *   be  NULL: none */
void worker_opened(worker *w, const tdm_backend *be, const tdm_job *job);
/* What was done since the last note: for the progress, and to show that the worker is alive. A few times a second at most
 * are sent. */
typedef struct {
    uint64_t records, bad, tokens;
    uint64_t bytes_done, bytes_total; /* not since the last note, but in all */
} worker_news;
void worker_note(worker *w, const worker_news *news);
/* A progress that notes instead of printing (tdm_progress_options.watch; ctx is the worker). */
void worker_watch(void *w, const tdm_progress *p, tdm_progress_event event);
/* All records are done; what is left is to bring them to the disk, which may take its time. */
void worker_worked(worker *w);
/* The last word. Prints nothing. */
void worker_ended(worker *w, const run_end *end);

/* ---- a chunk that workers died with ---- */

/* Whether records are to be done one at a time, with nothing else under way, each announced by worker_begin. */
bool worker_is_careful(const worker *w);
/* The record at `place` (the offset of its line; the number of a document) is next.
 * Returns: false when workers died with it: it is to be recorded as bad, class device-fault. */
bool worker_begin(worker *w, size_t file, uint64_t chunk, uint64_t place);
const char *worker_reason(const worker *w); /* of the last worker_begin that was false: "4 workers died with it, the last by signal 9" */

#endif
