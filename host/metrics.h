/* host/metrics.h - the state of a run as a file in Prometheus' text format, for whoever watches many runs.
 *
 *   const tdm_metrics m = {.command = "detect", .unit = "texts", .rank = {0, 1}, .is_up = true, .records = 5,
 *                          .eta = -1};
 *   TDM_TRY(tdm_metrics_write("/var/lib/node_exporter/tandem.prom", &m, err));
 *
 * Counters count from the start of the process; what earlier processes of the same job did is a gauge of
 * its own. A process that was killed leaves tandem_up 1 behind: tandem_updated_timestamp_seconds tells.
 * Thread safety: no state. */
#ifndef HOST_METRICS_H
#define HOST_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/chunk.h"
#include "host/err.h"

typedef struct {
    const char *command, *unit; /* without quotes, backslashes and newlines */
    tdm_rank rank;
    bool is_up, is_finished;         /* at work; ended with all of its work done */
    uint64_t records, bad, tokens;   /* of this process */
    uint64_t records_before;         /* of earlier ones */
    uint64_t records_total;          /* with those before; 0: unknown */
    uint64_t bytes_read, bytes_total; /* of the input; 0: unknown */
    double started, updated;         /* seconds since 1970 */
    double eta;                      /* seconds; below 0: unknown */
} tdm_metrics;

/* Append the text of the file. Errors: TDM_ENOMEM. */
tdm_status tdm_metrics_format(tdm_buf *out, const tdm_metrics *m, tdm_err *err);

/* Replace the file as a whole: write NAME.tmp beside it, rename. Nothing is synced: after a loss of power it
 * may be empty. What is there and neither that nor an earlier such file is not replaced.
 *   path  a regular file, existing or not. With several ranks each has its own: 3 of run.prom is run.3.prom
 * Errors: TDM_ECANTCREATE, also for what is there and is something else; TDM_ENOMEM. The file is as it was. */
tdm_status tdm_metrics_write(const char *path, const tdm_metrics *m, tdm_err *err);

#endif
