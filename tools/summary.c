#include "tools/summary.h"

#include <inttypes.h>
#include <stdio.h>

enum { EXIT_SOME_BAD = 3 };

#define X(name, text) +1
enum { N_FAULTS = 0 TDM_FAULT_MAP(X) };
#undef X

static void print_bad(const char *command, const common_args *common, bool is_direct,
                      const tdm_counts *counts)
{
    fprintf(stderr, "tandem %s: %" PRId64 " of %" PRId64 " records are bad:", command, counts->bad,
            counts->ok + counts->bad);
    const char *separator = "";
    for (int i = 0; i < N_FAULTS; i++) {
        if (!counts->by_fault[i])
            continue;
        fprintf(stderr, "%s %" PRId64 " %s", separator, counts->by_fault[i],
                tdm_fault_name((tdm_fault)i));
        separator = ",";
    }
    if (!is_direct)
        fprintf(stderr, "; see %s.errors.jsonl", common->out);
    fputc('\n', stderr);
}

static void print_json(FILE *to, const char *command, const tdm_counts *counts,
                       const run_totals *totals)
{
    const char *separator = "";
    fprintf(to,
            "{\"command\": \"%s\", \"in\": %" PRId64 ", \"ok\": %" PRId64 ", \"bad\": %" PRId64
            ", \"skipped\": %" PRId64 ", \"by_class\": {",
            command, counts->ok + counts->bad + counts->skipped, counts->ok, counts->bad,
            counts->skipped);
    for (int i = 0; i < N_FAULTS; i++) {
        if (!counts->by_fault[i])
            continue;
        fprintf(to, "%s\"%s\": %" PRId64, separator, tdm_fault_name((tdm_fault)i),
                counts->by_fault[i]);
        separator = ", ";
    }
    fprintf(to, "}, \"seconds\": %.6f, \"tokens\": %" PRIu64 ", \"tokens_per_second\": %.3f",
            totals->seconds, totals->tokens,
            totals->seconds > 0 ? (double)totals->tokens / totals->seconds : 0.0);
    if (totals->steps)
        fprintf(to, ", \"steps\": %" PRIu64, totals->steps);
    fprintf(to, ", \"token_hash\": \"%016" PRIx64 "\"}\n", totals->token_hash);
}

int summary_finish(const char *command, const common_args *common, tdm_sink *sink, tdm_status st,
                   const tdm_err *err, const run_totals *totals)
{
    if (st != TDM_OK) {
        if (!sink || !tdm_sink_pipe_closed(sink))
            args_fail(command, err);
        return (int)st;
    }
    const tdm_counts *counts = tdm_sink_counts(sink);
    const bool is_direct = tdm_sink_is_direct(sink);
    if (counts->bad && !common->quiet)
        print_bad(command, common, is_direct, counts);
    if (common->json)
        print_json(is_direct ? stderr : stdout, command, counts, totals);
    return counts->bad ? EXIT_SOME_BAD : TDM_OK;
}
