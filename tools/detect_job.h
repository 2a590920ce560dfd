/* tools/detect_job.h - inside tandem detect: a job, and the windows of records that go through it. Three threads:
 * one reads and tokenises, cmd_detect.c judges, detect_write.c writes. */
#ifndef TOOLS_DETECT_JOB_H
#define TOOLS_DETECT_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/detect.h"
#include "host/inputs.h"
#include "host/pipeline.h"
#include "tools/args.h"
#include "tools/fields.h"
#include "tools/records.h"
#include "tools/run.h"
#include "tools/summary.h"

enum { DETECT_WINDOWS = 4 };

typedef struct {
    common_args common;
    int preprocess;
    bool passthrough;
    const char *key_prefix;
} detect_args;

typedef struct {
    records_window records;
    tdm_detect_window *judged; /* the good ones */
} detect_window;

typedef struct {
    detect_args args;
    fields fields;
    tdm_inputs inputs;
    tdm_reader_options reading;
    tdm_reader *reader;
    tdm_backend backend;
    tdm_detector *detector;
    command_run run;
    records records;
    detect_window windows[DETECT_WINDOWS];
    tdm_pipeline *line;
    run_steps cpu;     /* read and tokenise belong to the thread that fills, write to the one that writes */
    run_totals totals; /* tokens: through the network, <s> and </s> included */
} detect_job;

/* The last step of the pipeline; ctx is the job. */
tdm_status detect_write(void *ctx, void *window, tdm_err *err);
/* Make job->records.line a result, up to what ends a line. */
tdm_status detect_begin_line(detect_job *job, const tdm_record *r, const tdm_detection *d, tdm_err *err);
/* --dry-run: judge a sample and print what the run would be (tools/dry_run.h). The detector is open, and not
 * loaded; reading is set. Errors: those of sample_take, of the detector and of dry_run_print. */
tdm_status detect_dry_run(detect_job *job, tdm_err *err);

#endif
