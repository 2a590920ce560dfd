/* tools/summary.h - the end of a command: what it says, and its exit code.
 *
 *   st = run_it(...);
 *   code = summary_finish("detect", &common, sink, st, &err, &totals);
 *   tdm_sink_close(sink);
 *   return code; */
#ifndef TOOLS_SUMMARY_H
#define TOOLS_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/sink.h"
#include "tools/args.h"

/* What a run adds up besides the counts of the sink. */
typedef struct {
    double seconds;
    uint64_t tokens;
    uint64_t steps;      /* in each of which running texts got a token; 0: nothing is said of them */
    uint64_t token_hash; /* TDM_HASH_START, then tdm_hash_ids over the ids in output order */
} run_totals;

/* End a run that reads or writes records. On failure: one line on stderr, none when the reader of
 * the output pipe went away. Otherwise, unless --quiet, a line that counts the bad records by class;
 * with --json the summary object, on stdout when the data went to a file, else on stderr.
 *   sink  NULL when it could not be opened (st is an error then)
 * Returns: the exit code: that of st, or 3 when some records were bad. */
int summary_finish(const char *command, const common_args *common, tdm_sink *sink, tdm_status st,
                   const tdm_err *err, const run_totals *totals);

#endif
