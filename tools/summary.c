#include "tools/summary.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_SOME_BAD = 3 };

uint64_t summary_hash(uint64_t hash, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            hash = (hash ^ ((uint32_t)ids[i] >> shift & 0xff)) * UINT64_C(0x100000001b3);
    return hash;
}

#define X(name, text) +1
enum { N_FAULTS = 0 TDM_FAULT_MAP(X) };
#undef X

static void print_bad(const char *command, const common_args *common, const tdm_counts *counts)
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
    if (strcmp(common->out, "-") != 0)
        fprintf(stderr, "; see %s.errors.jsonl", common->out);
    fputc('\n', stderr);
}

static void print_json(FILE *to, const char *command, const tdm_counts *counts,
                       const run_totals *totals)
{
    const char *separator = "";
    fprintf(to,
            "{\"command\": \"%s\", \"in\": %" PRId64 ", \"ok\": %" PRId64 ", \"bad\": %" PRId64
            ", \"blank\": %" PRId64 ", \"by_class\": {",
            command, counts->ok + counts->bad, counts->ok, counts->bad, counts->blank);
    for (int i = 0; i < N_FAULTS; i++) {
        if (!counts->by_fault[i])
            continue;
        fprintf(to, "%s\"%s\": %" PRId64, separator, tdm_fault_name((tdm_fault)i),
                counts->by_fault[i]);
        separator = ", ";
    }
    fprintf(to,
            "}, \"seconds\": %.6f, \"tokens\": %" PRIu64
            ", \"tokens_per_second\": %.3f, \"token_hash\": \"%016" PRIx64 "\"}\n",
            totals->seconds, totals->tokens,
            totals->seconds > 0 ? (double)totals->tokens / totals->seconds : 0.0,
            totals->token_hash);
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
    if (counts->bad && !common->quiet)
        print_bad(command, common, counts);
    if (common->json)
        print_json(strcmp(common->out, "-") ? stdout : stderr, command, counts, totals);
    return counts->bad ? EXIT_SOME_BAD : TDM_OK;
}
