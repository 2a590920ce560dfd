/* host/job.h - a run that may be killed at any moment, by any number of processes, and goes on.
 *
 *   TDM_TRY(tdm_job_open(&options, &job, err));           // makes OUT.job, or goes on with it
 *   if (!tdm_job_is_complete(job)) {
 *       ...for each chunk with tdm_job_wants(job, file, number):
 *           TDM_TRY(tdm_job_commit(job, &result, err));   // durable soon; at once for the next process
 *       TDM_TRY(tdm_job_finish(job, max_errors, err));    // whoever is last joins the parts to OUT
 *   }
 *   tdm_job_close(job);
 *
 * OUT.job/ holds
 *   manifest.json   all that the bytes of OUT depend on; written once, then compared
 *   lock            byte ranges of it are locked by the processes that are at work
 *   RANK.data, RANK.errors, RANK.journal
 *                   of each process: results and error records of its chunks one behind the other, and a line
 *                   for each chunk that says where they are, with counts and hashes
 * A chunk counts once its journal line is on the disk, which is after its data is: append, fdatasync the data,
 * append to the journal, fdatasync the journal. Whatever lies behind the last good journal line is cut off
 * by the next process of that rank. Several chunks that were finished while the disk was busy share one round.
 *
 * At the end the parts are joined in the order of the chunks and checked against their hashes; then
 * OUT.errors.jsonl, OUT.manifest.json and, last, OUT get their names, and OUT.job is removed.
 * Where one process wrote all chunks in order, its data file becomes OUT without a copy.
 *
 * Thread safety: is_wanted and pass from one thread, commit from another, all else from the opener's while
 * neither runs. */
#ifndef HOST_JOB_H
#define HOST_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/chunk.h"
#include "host/codec.h"
#include "host/err.h"
#include "host/inputs.h"
#include "host/record.h"
#include "host/stop.h"

/* --max-errors: a number is judged at once, a percentage at the end. */
typedef struct {
    bool percent;
    double limit;
} tdm_max_errors;

enum { TDM_FAULTS_CAP = 24 };

typedef struct {
    int64_t ok, bad, skipped; /* in = ok + bad + skipped; blank lines are skipped */
    int64_t by_fault[TDM_FAULTS_CAP]; /* indexed by tdm_fault */
} tdm_counts;

/* Several workers do the chunks of one process: each is a rank of its own in all but whose chunks it may do. */
typedef struct {
    void *ctx;
    /* Whether this worker may do a chunk of the process that is not committed. Asking again gives the same answer. */
    bool (*grant)(void *ctx, size_t file, uint64_t number);
    /* A chunk was handed to commit. This and what follows: on the thread that calls it. */
    void (*committed)(void *ctx, const tdm_chunk *chunk, const tdm_counts *counts, uint64_t tokens);
    void (*waiting)(void *ctx, bool begins); /* for the disk: begins, or ends */
    void (*passed)(void *ctx); /* a chunk that is not to be done was read all the same, to come by it */
} tdm_job_turns;

typedef struct {
    const char *out;      /* a name for a regular file, existing or not; a link to one is followed */
    const char *command;  /* "detect" */
    const char *settings; /* JSON object: the options that the bytes of OUT depend on */
    const char *engine;   /* JSON object: device, dtype, ...: what else they depend on */
    const char *model;    /* folder; its config, tokenizer and weight files are known by size, time and SHA-256.
                             NULL: none */
    const char *observer; /* the folder of a second model, known likewise. NULL: none */
    const tdm_inputs *inputs; /* NULL: none */
    const uint64_t *n_chunks; /* [inputs->n, or 1] chunks of each file, or TDM_CHUNKS_UNKNOWN */
    uint64_t chunk_bytes; /* of the chunks of files, for messages; 0: they are of documents */
    bool all_read;        /* every rank reads a file whose chunks are unknown, and takes its share of the chunks
                             (prompts); otherwise such a file belongs to one rank */
    tdm_rank rank;        /* whose files and locks */
    tdm_rank process;     /* with turns: whose chunks; otherwise not used */
    const tdm_job_turns *turns; /* NULL: all chunks of the rank are its own. Borrowed until close */
    bool restart;         /* discard what an earlier run left. Only of one process; no other rank may be at work */
    const tdm_stop *stop; /* NULL allowed */
} tdm_job_options;

typedef struct tdm_job tdm_job;

/* Whether `path` is to become the result of a job: a regular file or nothing yet, not "-", a pipe or a device. */
bool tdm_job_is_for(const char *path);

/* Whether OUT.job is there: a job to go on with, or what whoever ended it was killed over. */
bool tdm_job_is_left(const char *path);

/* Make or continue the job of options->out. out, inputs, n_chunks and stop are borrowed until close, the rest
 * until this returns.
 * Errors: TDM_EMISMATCH lists what differs from the manifest (options, inputs, model, engine); TDM_ECANTCREATE
 * when OUT.job cannot be made, or another process has this rank, or ranks of another count (restart: any) are at work, or
 * OUT is a folder, or a link to nothing; TDM_EFORMAT when the manifest is damaged; TDM_EARG for more than 2^32 chunks of
 * a file; TDM_ENOINPUT, TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_job_open(const tdm_job_options *options, tdm_job **out, tdm_err *err);
/* Leaves OUT.job as it is: committed chunks stay; where there are none, one without other processes removes it. Waits
 * until what was handed to commit is on the disk. */
void tdm_job_close(tdm_job *j); /* NULL is fine */

/* OUT is there, made by the same command: there is nothing to do. The engine may be another one then. */
bool tdm_job_is_complete(const tdm_job *j);
/* Whether another rank has work left that only it can do: OUT is not there yet. After tdm_job_finish. */
bool tdm_job_is_waiting(const tdm_job *j);

/* For readers: a chunk is wanted when it belongs to this rank, is not committed, and is granted where that is asked. */
tdm_chunk_filter tdm_job_filter(tdm_job *j);
/* The rule by which chunks belong to ranks, also where there is no job: stripes of consecutive chunks that are
 * short in small inputs. first: chunks of the files before this one; total: of all files. */
bool tdm_rank_owns(tdm_rank rank, uint64_t first, uint64_t number, uint64_t total);

/* One chunk's results. */
typedef struct {
    tdm_chunk chunk;
    tdm_counts counts;
    uint64_t tokens;
    const char *data;   /* [len] as OUT will hold them, compressed where OUT is */
    size_t len;
    const char *errors; /* [errors_len] lines for OUT.errors.jsonl */
    size_t errors_len;
} tdm_chunk_result;

/* Append a chunk. What is handed over is copied; a thread of the job makes it durable. Waits when 8 MiB are not
 * yet on the disk.
 * Errors: TDM_EIO, also for an earlier chunk that could not be made durable: nothing is retried, the
 * next process does such chunks again. TDM_EARG for a number of 2^32 or more; TDM_ENOMEM. */
tdm_status tdm_job_commit(tdm_job *j, const tdm_chunk_result *result, tdm_err *err);

/* What all processes have committed, as far as this one knows. */
typedef struct {
    tdm_counts counts;
    uint64_t tokens, bytes; /* of OUT */
    uint64_t chunks_done, chunks_total; /* total: TDM_CHUNKS_UNKNOWN while a file was not read to its end */
    uint64_t input_done;    /* bytes of seekable inputs in committed chunks, for progress */
} tdm_job_totals;
void tdm_job_totals_get(const tdm_job *j, tdm_job_totals *totals);

/* Wait until all is durable, look at the other ranks' journals, and if no chunk is left, join the parts.
 * Errors: TDM_EFORMAT when bad records are over max_errors (nothing is lost: run again with more), TDM_EIO,
 * also for a part or a journal that is not what was written; TDM_ESTOPPED by options.stop: go on another time. */
tdm_status tdm_job_finish(tdm_job *j, tdm_max_errors max_errors, tdm_err *err);

/* ---- looking at a job from outside ---- */

/* The state of OUT.job as one JSON object, appended to out. Takes no lock and changes nothing.
 *   path  OUT.job, or OUT.manifest.json of a complete job
 * Of both: "command", "complete", "chunks": {"done", "total" (null: not known yet)}, "counts": {"in", "ok", "bad",
 * "skipped", "by_class": {...}}, "tokens", "bytes" (of results). Of a job: "joining", "input": {"done", "total"} in
 * bytes of files that can be read in parts, "ranks": [{"rank", "chunks", "bytes", "at_work"}],
 * and of up to 16 inputs "files": [{"path", "chunks": {...}}]. Of a complete one:
 * "out" and "errors": {"bytes", "sha256"}, "errors" null when there are none.
 * Errors: TDM_ENOINPUT, TDM_EFORMAT, TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_job_describe(const char *path, tdm_buf *out, tdm_err *err);

#endif
