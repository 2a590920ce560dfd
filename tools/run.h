/* tools/run.h - what the commands over records and documents share: from --out, --shard, --restart and --chunk to
 * a job or a stream, and from its end to an exit code.
 *
 *   TDM_TRY(run_open(&run, &options, &err));
 *   if (!run.is_complete) {
 *       ...read with run.filter, write to run.sink, tdm_sink_end_chunk behind each chunk...
 *       TDM_TRY(run_finish(&run, &progress, &totals.seconds, st, &err));
 *   }
 *   code = summary_finish("detect", &common, &run, st, &err, &totals);
 *   run_close(&run); */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#include "host/backend.h"
#include "host/inputs.h"
#include "host/job.h"
#include "host/progress.h"
#include "host/sink.h"
#include "tools/args.h"

typedef struct {
    const common_args *common;
    const char *command;       /* "detect" */
    const char *settings;      /* JSON object: the command's options that results depend on, by their names. Those
                                  of common_args (text-key, ..., chunk) are added here */
    const char *observer;      /* the folder of a second model; NULL: none */
    const tdm_backend *backend; /* NULL: none */
    const tdm_inputs *inputs;  /* NULL: none */
    uint64_t documents;        /* without inputs: how many; else ignored */
    bool by_documents;         /* common->chunk counts documents, also with inputs (prompts, which every rank
                                  reads) */
    const tdm_stop *stop;
} run_options;

typedef struct {
    tdm_rank rank;      /* of the processes; a worker's own is another one (tools/supervise.h) */
    tdm_job *job;   /* NULL: results go to stdout, a pipe or a device */
    struct worker *worker; /* NULL, or what this process is under --devices. Borrowed */
    tdm_sink *sink; /* NULL when is_complete */
    bool is_complete; /* the job was complete already; said on stderr */
    tdm_chunk_filter filter; /* the chunks of this process that are left; without a job and with one rank: all.
                                Its ctx may be this struct: leave it where it is */
    uint64_t *n_chunks; /* owned [n_files] chunks of each file, or TDM_CHUNKS_UNKNOWN */
    uint64_t *first;    /* owned [n_files] chunks of the files before it; of an unknown one, such files before it */
    size_t n_files;     /* at least 1 */
    uint64_t total;     /* chunks of the files where that is known */
    bool all_read;      /* every rank reads everything */
} command_run;

/* Say on stderr, unless quiet: which rank of how many and by what; what is there already of a job that goes on.
 * Errors: those of ranks_find, tdm_job_open and tdm_sink_open; TDM_EARG for --restart without a job or with
 * several ranks, and stdin as an input of several ranks or of a worker. */
tdm_status run_open(command_run *run, const run_options *options, tdm_err *err);
void run_close(command_run *run); /* a zeroed one is fine */
/* What run_open says. source: of ranks_find; t: of the job when it was opened. */
void run_say_rank(const char *command, tdm_rank rank, const char *source);
void run_say_job(const char *command, const char *out, bool is_complete, bool reads_stream, const tdm_job_totals *t);
/* What the progress of every command begins with. Of several ranks, what is done before is taken to be shared
 * equally.
 *   unit  plural: "texts" */
tdm_progress_options run_progress(const command_run *run, const common_args *common, const char *command,
                                  const char *unit);
/* The end of the work: after success the sink is finished, and the progress says which it was.
 *   st       of the work
 *   seconds  receives what all of it took
 * Returns: st, or that of tdm_sink_finish. */
tdm_status run_finish(command_run *run, tdm_progress *progress, double *seconds, tdm_status st, tdm_err *err);

#endif
