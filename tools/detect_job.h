/* tools/detect_job.h - inside tandem detect: a job, and the windows of records that go through it. Three threads:
 * detect_read.c fills windows, cmd_detect.c judges them, detect_write.c empties them. */
#ifndef TOOLS_DETECT_JOB_H
#define TOOLS_DETECT_JOB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/detect.h"
#include "host/pipeline.h"
#include "host/progress.h"
#include "host/record.h"
#include "host/sink.h"
#include "tools/args.h"
#include "tools/summary.h"

enum { DETECT_FIELDS = 6, DETECT_WINDOWS = 4 };

typedef struct {
    common_args common;
    int preprocess;
    bool passthrough;
    const char *key_prefix;
} detect_args;

/* One record of a window. The strings lie in the window's arena, at these offsets. */
typedef struct {
    tdm_record record;
    size_t file_at, id_at, text_at, source_at, detail_at;
    size_t result; /* of a good record: its number among the good ones */
} detect_slot;

typedef struct {
    tdm_buf arena;
    size_t n_slots, n_texts, cap;
    detect_slot *slots; /* [cap] all records */
    tdm_text *texts;    /* [cap] of the good ones */
    uint64_t bytes_read, bytes_total; /* of the input, when the window was handed on */
    tdm_detect_window *judged;        /* the good ones */
} detect_window;

typedef struct {
    detect_args args;
    char *keys[DETECT_FIELDS + 1];    /* names of the new fields; owned; NULL at the end */
    tdm_buf json_keys[DETECT_FIELDS]; /* the same as JSON strings */
    tdm_reader *reader;
    tdm_sink *sink;
    tdm_backend backend;
    tdm_detector *detector;
    detect_window windows[DETECT_WINDOWS];
    tdm_pipeline *line;
    tdm_stop reading;   /* by a signal, or when what is read could no longer be written */
    tdm_status broken;  /* why there is no more to read, once the records before that are on their way */
    tdm_err broken_err;
    pthread_mutex_t progress_lock;
    tdm_progress progress;
    run_totals totals; /* tokens: through the network, <s> and </s> included */
    tdm_buf result;    /* one line */
} detect_job;

/* The steps of the pipeline; ctx is the job. Reading hands on a window when it is full, when the input ends,
 * or when it would have to wait while there is nothing to judge. */
tdm_status detect_read(void *ctx, tdm_pipeline *line, void *window, bool *at_end, tdm_err *err);
tdm_status detect_write(void *ctx, void *window, tdm_err *err);

#endif
