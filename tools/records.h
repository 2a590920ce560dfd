/* tools/records.h - what commands that judge records share: from the reader to windows of records, and from judged
 * windows to the sink, in the order of the input and chunk by chunk.
 *
 *   TDM_TRY(records_read(&records, line, &window, &at_end, err)); // the pipeline's fill
 *   ...window.texts [n_texts] are judged...
 *   TDM_TRY(records_write(&records, &window, put, ctx, err));     // its empty; put is called for each text
 *
 * A chunk's end is an item of a window like a record: it is written when all before it is. So windows and
 * chunks may begin and end where they like. Thread safety: records_read on one thread, records_write on
 * another, records_count on any. */
#ifndef TOOLS_RECORDS_H
#define TOOLS_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/detect.h"
#include "host/pipeline.h"
#include "host/progress.h"
#include "host/record.h"
#include "host/sink.h"
#include "tools/supervise.h"

/* A record of a window, or the end of a chunk. The strings lie in the window's arena, at these offsets. */
typedef struct {
    tdm_record record;
    size_t id_at, text_at, source_at, detail_at;
    size_t text; /* of a good record: its number among the good ones */
} records_slot;

typedef struct {
    tdm_buf arena;
    size_t n_slots, n_texts, cap;
    records_slot *slots; /* [cap] */
    tdm_text *texts;     /* [cap] of the good ones; they live until the window is filled again */
    uint64_t bytes_read, bytes_total; /* of the input, when the window was handed on */
} records_window;

typedef struct {
    const tdm_inputs *inputs; /* borrowed, like reader and sink */
    tdm_reader *reader;
    tdm_sink *sink;
    const char *id_key; /* of a record that gets an id */
    bool passthrough;   /* results are the source with something appended */
    int64_t window_tokens; /* a window of so many is worth handing on */
    int64_t text_tokens;   /* of one text that are judged at most */
    worker *careful;    /* one good record in a window, each announced; the pipeline has one window then. NULL: not so */
    uint64_t chunk_bytes; /* of the chunks; only with careful */
    tdm_stop stop;      /* by a signal, or when what is read could no longer be written */
    tdm_status broken;  /* why there is no more to read, once the records before that are on their way */
    tdm_err broken_err;
    uint64_t chunk_tokens; /* of records behind the last chunk's end */
    tdm_buf line;          /* the result that is being written */
    pthread_mutex_t lock;  /* of the progress */
    tdm_progress progress;
} records;

void records_close(records *r); /* what it owns: line and lock */
void records_window_close(records_window *w); /* {0} is fine */

/* How many windows a pipeline has, of n that there are: with careful one, so that a record is read when the one before it
 * was written. Sets r->careful. */
size_t records_windows(records *r, const common_args *common, size_t n);

/* Fill a window: until it is full, the input ends, or would have to be waited for while there is nothing to judge. An
 * error of the reader is returned once what came before it was handed on; a stop at once. */
tdm_status records_read(records *r, tdm_pipeline *line, records_window *w, bool *at_end, tdm_err *err);

/* Write a judged window: errors, ends of chunks, and by `put` the result of each good record.
 *   put  writes r->line, or turns the record into a bad one (records_bad). *tokens: what was judged of it */
typedef tdm_status records_put(void *ctx, tdm_record *record, size_t text, uint64_t *tokens, tdm_err *err);
tdm_status records_write(records *r, records_window *w, records_put *put, void *ctx, tdm_err *err);

/* Begin r->line: the id, or with passthrough the source, up to where the next field goes.
 *   first  receives whether that field is the first of its object */
tdm_status records_begin_line(records *r, const tdm_record *record, bool *first, tdm_err *err);
/* End r->line and hand it to the sink. */
tdm_status records_end_line(records *r, tdm_err *err);
/* An error record, which may share the terminal with the progress line.
 *   is_new  it has not been counted as done */
tdm_status records_bad(records *r, const tdm_record *bad, bool is_new, tdm_err *err);
/* Records that are done. */
void records_count(records *r, uint64_t n, uint64_t tokens);
/* How far the input was read: for the progress. */
void records_note_bytes(records *r, const records_window *w);

#endif
