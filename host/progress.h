/* host/progress.h - one live line on a terminal, plain lines elsewhere, JSON events on request.
 *
 *   tdm_progress p;
 *   tdm_progress_start(&p, TDM_PROGRESS_AUTO, quiet, stderr, "generate", "documents", total);
 *   tdm_progress_add(&p, 1, n_tokens, n_bad);  // cheap: prints at most ten times a second on a terminal
 *   tdm_progress_finish(&p);
 *
 * Shows done / total, records/s, tokens/s, errors and ETA. A bar only where stderr is a terminal
 * and TERM is not dumb; otherwise one plain line every ten seconds; NO_COLOR is respected.
 * Thread safety: one progress, one thread. */
#ifndef HOST_PROGRESS_H
#define HOST_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum {
    TDM_PROGRESS_AUTO,
    TDM_PROGRESS_BAR,
    TDM_PROGRESS_PLAIN,
    TDM_PROGRESS_JSON,
    TDM_PROGRESS_NONE
} tdm_progress_mode;

typedef struct {
    tdm_progress_mode mode; /* resolved: never AUTO */
    FILE *to;
    const char *command, *unit;
    double start, last; /* monotonic seconds */
    uint64_t done, total, tokens, bad; /* total 0: unknown */
    uint64_t bytes_done, bytes_total;  /* where the record count is unknown, ETA from bytes */
} tdm_progress;

void tdm_progress_start(tdm_progress *p, tdm_progress_mode mode, bool quiet, FILE *to,
                        const char *command, const char *unit, uint64_t total);
void tdm_progress_add(tdm_progress *p, uint64_t records, uint64_t tokens, uint64_t bad);
void tdm_progress_bytes(tdm_progress *p, uint64_t done, uint64_t total);
void tdm_progress_finish(tdm_progress *p);
double tdm_progress_seconds(const tdm_progress *p); /* since start */

#endif
