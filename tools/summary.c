#include "tools/summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/json.h"

enum { EXIT_SOME_BAD = 3 };

#define X(name, text) +1
enum { N_FAULTS = 0 TDM_FAULT_MAP(X) };
#undef X

/* ---- CPU seconds ---- */

double summary_cpu(clockid_t clock)
{
    struct timespec spent = {0};
    clock_gettime(clock, &spent);
    return (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
}

void summary_steps(run_steps *cpu, const tdm_sink *sink, double all)
{
    double helpers = 0;
    cpu->compress = tdm_sink_compress_seconds(sink, &helpers);
    cpu->write = fmax(0, cpu->write - (cpu->compress - helpers));
    cpu->other = fmax(0, all - cpu->read - cpu->tokenise - cpu->judge - cpu->write - cpu->compress);
}

/* ---- the end ---- */

/* What there is to say at the end. */
typedef struct {
    const char *state;
    tdm_counts counts;
    uint64_t tokens;
    const char *error; /* NULL: none */
    int64_t before;  /* records that this process did not do */
    uint64_t n_left; /* chunks of other ranks, or TDM_CHUNKS_UNKNOWN */
} outcome;

static outcome outcome_of(const command_run *run, const run_totals *totals, tdm_status st,
                          const tdm_err *err)
{
    outcome o = {.state = "stream", .tokens = totals->tokens};
    tdm_job_totals t = {0};
    if (run->sink)
        o.counts = *tdm_sink_counts(run->sink);
    if (st != TDM_OK) {
        o.state = st == TDM_ESTOPPED ? "stopped" : "failed";
        o.error = err->msg;
        return o;
    }
    if (!run->job)
        return o;
    tdm_job_totals_get(run->job, &t);
    if (tdm_job_is_waiting(run->job)) {
        const bool known = t.chunks_total != TDM_CHUNKS_UNKNOWN;
        o.state = "waiting";
        o.n_left = known ? t.chunks_total - t.chunks_done : TDM_CHUNKS_UNKNOWN;
        return o;
    }
    o.state = "complete";
    o.before = t.counts.ok + t.counts.bad - o.counts.ok - o.counts.bad;
    o.counts = t.counts;
    o.tokens = t.tokens;
    return o;
}

static void print_bad(const char *command, const common_args *common, const command_run *run,
                      const tdm_counts *counts)
{
    const char *separator = "";
    fprintf(stderr, "tandem %s: %" PRId64 " of %" PRId64 " records are bad:", command, counts->bad,
            counts->ok + counts->bad);
    for (int i = 0; i < N_FAULTS; i++) {
        if (!counts->by_fault[i])
            continue;
        fprintf(stderr, "%s %" PRId64 " %s", separator, counts->by_fault[i],
                tdm_fault_name((tdm_fault)i));
        separator = ",";
    }
    if (run->job && !tdm_job_is_waiting(run->job))
        fprintf(stderr, "; see %s.errors.jsonl", common->out);
    fputc('\n', stderr);
}

static void print_waiting(const char *command, const common_args *common, const command_run *run,
                          uint64_t n_left)
{
    fprintf(stderr, "tandem %s: %s: rank %" PRId64 " of %" PRId64 " is done, the others have ", command,
            common->out, run->rank.index, run->rank.count);
    if (n_left == TDM_CHUNKS_UNKNOWN)
        fputs("work left\n", stderr);
    else
        fprintf(stderr, "%" PRIu64 " chunks left\n", n_left);
}

static void print_steps(FILE *to, const run_steps *cpu)
{
    const char *separator = "";
    fputs(", \"cpu_seconds\": {", to);
#define X(step)                                                                                    \
    fprintf(to, "%s\"" #step "\": %.6f", separator, cpu->step);                                    \
    separator = ", ";
    SUMMARY_STEPS(X)
#undef X
    fputc('}', to);
}

/* As JSON; without memory for it, nothing. */
static void print_error(FILE *to, const char *message)
{
    tdm_buf text = {0};
    if (tdm_json_put_string(&text, message, strlen(message), NULL) == TDM_OK)
        fprintf(to, ", \"error\": %.*s", (int)text.len, text.p);
    tdm_buf_free(&text);
}

static void print_json(FILE *to, const char *command, const outcome *o, const run_totals *totals)
{
    const char *separator = "";
    const tdm_counts *c = &o->counts;
    fprintf(to, "{\"command\": \"%s\", \"state\": \"%s\"", command, o->state);
    if (o->error)
        print_error(to, o->error);
    fprintf(to,
            ", \"in\": %" PRId64 ", \"ok\": %" PRId64 ", \"bad\": %" PRId64 ", \"skipped\": %" PRId64
            ", \"by_class\": {",
            c->ok + c->bad + c->skipped, c->ok, c->bad, c->skipped);
    for (int i = 0; i < N_FAULTS; i++) {
        if (!c->by_fault[i])
            continue;
        fprintf(to, "%s\"%s\": %" PRId64, separator, tdm_fault_name((tdm_fault)i), c->by_fault[i]);
        separator = ", ";
    }
    fprintf(to, "}, \"before\": %" PRId64 ", \"seconds\": %.6f, \"tokens\": %" PRIu64
                ", \"tokens_per_second\": %.3f",
            o->before, totals->seconds, o->tokens,
            totals->seconds > 0 ? (double)totals->tokens / totals->seconds : 0.0);
    if (totals->steps)
        fprintf(to, ", \"steps\": %" PRIu64, totals->steps);
    if (totals->windows)
        fprintf(to, ", \"windows\": %" PRIu64, totals->windows);
    if (totals->cpu)
        print_steps(to, totals->cpu);
    if (o->before == 0)
        fprintf(to, ", \"token_hash\": \"%016" PRIx64 "\"", totals->token_hash);
    fputs("}\n", to);
}

/* What a stopped job has done so far, for whoever wonders whether to run it again. */
static void print_stopped(const char *command, const common_args *common, const command_run *run,
                          const tdm_err *err)
{
    tdm_job_totals t;
    tdm_err said = *err;
    char of[32] = "";
    tdm_job_totals_get(run->job, &t);
    if (t.chunks_done == 0) { /* nothing stays (tdm_job_close) */
        args_fail(command, err);
        return;
    }
    if (t.chunks_total != TDM_CHUNKS_UNKNOWN)
        snprintf(of, sizeof of, " of %" PRIu64, t.chunks_total);
    snprintf(said.msg, sizeof said.msg,
             "%.200s; %" PRIu64 "%s chunks are done, the same command again goes on from %.200s.job",
             err->msg, t.chunks_done, of, common->out);
    args_fail(command, &said);
}

static void print_failure(const char *command, const common_args *common, const command_run *run,
                          tdm_status st, const tdm_err *err)
{
    if (st == TDM_ESTOPPED && run->job)
        print_stopped(command, common, run, err);
    else if (!run->sink || !tdm_sink_pipe_closed(run->sink))
        args_fail(command, err);
}

int summary_finish(const char *command, const common_args *common, const command_run *run, tdm_status st,
                   const tdm_err *err, const run_totals *totals)
{
    const outcome o = outcome_of(run, totals, st, err);
    const bool made_out = !run->is_complete && !(run->job && tdm_job_is_waiting(run->job));
    if (st != TDM_OK)
        print_failure(command, common, run, st, err);
    else if (o.counts.bad && !common->quiet && !run->is_complete) /* which was said already */
        print_bad(command, common, run, &o.counts);
    if (st == TDM_OK && run->job && tdm_job_is_waiting(run->job) && !common->quiet)
        print_waiting(command, common, run, o.n_left);
    if (common->json && (st == TDM_OK || run->sink)) /* a run that did not begin has no summary */
        print_json(run->job ? stdout : stderr, command, &o, totals);
    if (st != TDM_OK)
        return (int)st;
    return o.counts.bad && made_out ? EXIT_SOME_BAD : TDM_OK;
}
