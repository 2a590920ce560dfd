/* tools/records.h - what commands that judge records share: windows of records go through three threads (host/pipeline.h).
 * One reads and prepares, the caller's judges, one writes, in the order of the input and chunk by chunk.
 *
 *   records_set(&job->records, &args.common, &fields, passthrough); // job->records.inputs are listed
 *   TDM_TRY(run_open(&job->records.run, ...));
 *   TDM_TRY(records_open(&job->records, err));
 *   ...the weights...
 *   TDM_TRY(records_run(&job->records, &steps, windows, N, err));
 *
 * A chunk's end is an item of a window like a record: it is written when all before it is. So windows and
 * chunks may begin and end where they like. Thread safety: prepare, judge and put each have a thread of their own. */
#ifndef TOOLS_RECORDS_H
#define TOOLS_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/detect.h"
#include "host/inputs.h"
#include "host/packed.h"
#include "host/pipeline.h"
#include "host/progress.h"
#include "host/record.h"
#include "host/sink.h"
#include "tools/fields.h"
#include "tools/run.h"
#include "tools/summary.h"
#include "tools/supervise.h"

/* A record of a window, or the end of a chunk. The strings lie in the window's arena, at these offsets. */
typedef struct {
    tdm_record record;
    size_t id_at, text_at, source_at, detail_at;
    size_t text; /* of a good record: its number among the good ones */
} records_slot;

/* The first member of a command's window, where that has more. */
typedef struct {
    void *judged; /* borrowed: what the model's tdm_window_line takes */
    tdm_buf arena;
    size_t n_slots, n_texts, cap;
    records_slot *slots; /* [cap] */
    tdm_text *texts;     /* [cap] of the good ones; they live until the window is filled again */
    uint64_t bytes_read, bytes_total; /* of the input, when the window was handed on */
} records_window;

/* What a command does with its records. */
typedef struct {
    const char *command;
    int64_t window_tokens; /* a window of so many is worth handing on */
    int64_t text_tokens;   /* of one text that are judged at most */
    void *ctx;             /* of what follows */
    /* Make w->texts ready to be judged, as w->judged. */
    tdm_status (*prepare)(void *ctx, records_window *w, tdm_err *err);
    tdm_status (*judge)(void *ctx, const tdm_window_line *line, tdm_err *err);
    /* Write the result of text number `text` of a judged window, or turn the record into a bad one (records_bad).
     *   tokens  receives what was judged of it */
    tdm_status (*put)(void *ctx, const records_window *w, tdm_record *record, size_t text, uint64_t *tokens,
                      tdm_err *err);
    /* Something harmless: before a record is blamed for the death of a device. */
    tdm_status (*try_device)(void *ctx, tdm_err *err);
} records_steps;

typedef struct {
    const common_args *common; /* borrowed */
    bool passthrough;          /* results are the source with something appended */
    tdm_inputs inputs;         /* owned, like reader and run */
    tdm_reader_options reading;
    tdm_reader *reader;
    command_run run;
    const records_steps *steps;
    tdm_pipeline *line_of_windows;
    worker *careful;    /* one slot in a window, good records announced; the pipeline has one window then. NULL: not so */
    tdm_stop stop;      /* by a signal, or when what is read could no longer be written */
    tdm_status broken;  /* why there is no more to read, once the records before that are on their way */
    tdm_err broken_err;
    uint64_t chunk_tokens; /* of records behind the last chunk's end */
    tdm_buf line;          /* the result that is being written */
    pthread_mutex_t lock;  /* of the progress */
    tdm_progress progress;
    run_steps cpu;     /* read and tokenise belong to the thread that fills, write to the one that writes */
    run_totals totals; /* tokens: through the model */
} records;

void records_init(records *r);
void records_close(records *r);
void records_window_close(records_window *w); /* {0} is fine; judged is the command's */

/* What is read, and how; enough for a sample of it (tools/sample.h). f: borrowed. */
void records_set(records *r, const common_args *common, const fields *f, bool passthrough);
/* Open the input; the run is open. Errors: those of tdm_reader_open. */
tdm_status records_open(records *r, tdm_err *err);
/* Read, judge and write all of it, with the progress, and finish the run.
 *   windows  [n] borrowed; empty but for judged
 * Errors: the first of the three threads' in the order of the input; those of run_finish. */
tdm_status records_run(records *r, const records_steps *steps, records_window *const *windows, size_t n, tdm_err *err);

/* Begin r->line: the id, or with passthrough the source, up to where the next field goes.
 *   first  receives whether that field is the first of its object */
tdm_status records_begin_line(records *r, const tdm_record *record, bool *first, tdm_err *err);
/* End r->line and hand it to the sink: the record is done. */
tdm_status records_end_line(records *r, tdm_err *err);
/* A record is done, as an error record, which may share the terminal with the progress line. */
tdm_status records_bad(records *r, const tdm_record *bad, tdm_err *err);

/* Fill a window (records_read.c): until it is full, the input ends, or would have to be waited for while there is nothing to
 * judge. An error of the reader is returned once what came before it was handed on; a stop at once.
 *   line  of the windows, which the thread that opens it may not have yet */
tdm_status records_read(records *r, tdm_pipeline *line, records_window *w, bool *at_end, tdm_err *err);

#endif
