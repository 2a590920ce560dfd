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
    uint64_t token_hash; /* SUMMARY_HASH_START, then summary_hash over the ids in output order */
} run_totals;

#define SUMMARY_HASH_START UINT64_C(0xcbf29ce484222325)

/* Go on with the 64-bit FNV-1a hash over the bytes of ids [n], little-endian. */
uint64_t summary_hash(uint64_t hash, const int32_t *ids, size_t n);

/* End a run that reads or writes records. On failure: one line on stderr, none when the reader of
 * the output pipe went away. Otherwise, unless --quiet, a line that counts the bad records by class;
 * with --json the summary object, on stdout when --out is a file, else on stderr.
 *   sink  NULL when it could not be opened (st is an error then)
 * Returns: the exit code: that of st, or 3 when some records were bad. */
int summary_finish(const char *command, const common_args *common, tdm_sink *sink, tdm_status st,
                   const tdm_err *err, const run_totals *totals);

#endif
