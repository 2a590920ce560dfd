/* tools/detect_job.h - inside tandem detect: a job. cmd_detect.c judges, detect_write.c writes, dry_run_detect.c tries out. */
#ifndef TOOLS_DETECT_JOB_H
#define TOOLS_DETECT_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/detect.h"
#include "tools/args.h"
#include "tools/records.h"

enum { DETECT_WINDOWS = 4 };

typedef struct {
    common_args common;
    int preprocess;
    bool passthrough;
    const char *key_prefix;
} detect_args;

typedef struct {
    detect_args args;
    fields fields;
    tdm_backend backend;
    tdm_detector *detector;
    records records;                        /* its tokens: <s> and </s> included */
    records_window windows[DETECT_WINDOWS]; /* judged: a tdm_detect_window of its own */
} detect_job;

/* records_steps.put; ctx is the job. */
tdm_status detect_put(void *ctx, const records_window *w, tdm_record *r, size_t text, uint64_t *tokens, tdm_err *err);
/* Make job->records.line a result, up to what ends a line. */
tdm_status detect_begin_line(detect_job *job, const tdm_record *r, const tdm_detection *d, tdm_err *err);
/* --dry-run: judge a sample and print what the run would be (tools/dry_run.h). The detector is open, and not
 * loaded; reading is set. Errors: those of sample_take, of the detector and of dry_run_print. */
tdm_status detect_dry_run(detect_job *job, tdm_err *err);

#endif
