#include "tools/summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/json.h"
#include "tools/supervise.h"

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

static run_end end_of(const command_run *run, const run_totals *totals, tdm_status st, const tdm_err *err)
{
    run_end e = {.state = SUMMARY_STREAM, .has_job = run->job, .was_complete = run->is_complete, .began = run->sink,
                 .rank = run->rank, .tokens = totals->tokens, .totals = *totals};
    if (totals->cpu)
        e.cpu = *totals->cpu;
    if (run->sink)
        e.counts = *tdm_sink_counts(run->sink);
    if (run->job)
        tdm_job_totals_get(run->job, &e.job);
    if (st != TDM_OK) {
        e.state = st == TDM_ESTOPPED ? SUMMARY_STOPPED : SUMMARY_FAILED;
        e.pipe_closed = run->sink && tdm_sink_pipe_closed(run->sink);
        e.err = *err;
        e.err.status = st;
    } else if (run->job && tdm_job_is_waiting(run->job)) {
        e.state = SUMMARY_WAITING;
    } else if (run->job) {
        e.state = SUMMARY_COMPLETE;
        e.before = e.job.counts.ok + e.job.counts.bad - e.counts.ok - e.counts.bad;
        e.counts = e.job.counts;
        e.tokens = e.job.tokens;
    }
    return e;
}

static void print_bad(const char *command, const common_args *common, const run_end *end)
{
    const tdm_counts *counts = &end->counts;
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
    if (end->state == SUMMARY_COMPLETE)
        fprintf(stderr, "; see %s.errors.jsonl", common->out);
    fputc('\n', stderr);
}

static void print_waiting(const char *command, const common_args *common, const run_end *end)
{
    const tdm_job_totals *t = &end->job;
    fprintf(stderr, "tandem %s: %s: rank %" PRId64 " of %" PRId64 " is done, the others have ", command,
            common->out, end->rank.index, end->rank.count);
    if (t->chunks_total == TDM_CHUNKS_UNKNOWN)
        fputs("work left\n", stderr);
    else
        fprintf(stderr, "%" PRIu64 " chunks left\n", t->chunks_total - t->chunks_done);
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

static void print_json(FILE *to, const char *command, const run_end *e, const char *workers)
{
    static const char *const STATES[] = {"stream", "complete", "waiting", "stopped", "failed"};
    const char *separator = "";
    const tdm_counts *c = &e->counts;
    const run_totals *totals = &e->totals;
    fprintf(to, "{\"command\": \"%s\", \"state\": \"%s\"", command, STATES[e->state]);
    if (e->err.status != TDM_OK)
        print_error(to, e->err.msg);
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
            e->before, totals->seconds, e->tokens,
            totals->seconds > 0 ? (double)totals->tokens / totals->seconds : 0.0);
    if (totals->steps)
        fprintf(to, ", \"steps\": %" PRIu64, totals->steps);
    if (totals->windows)
        fprintf(to, ", \"windows\": %" PRIu64, totals->windows);
    if (totals->cpu)
        print_steps(to, &e->cpu);
    if (workers)
        fprintf(to, ", \"workers\": %s", workers);
    else if (e->before == 0)
        fprintf(to, ", \"token_hash\": \"%016" PRIx64 "\"", totals->token_hash);
    fputs("}\n", to);
}

/* What a stopped job has done so far, for whoever wonders whether to run it again. */
static void print_stopped(const char *command, const common_args *common, const run_end *end)
{
    const tdm_job_totals *t = &end->job;
    tdm_err said = end->err;
    char of[32] = "";
    if (t->chunks_done == 0) { /* nothing stays (tdm_job_close) */
        args_fail(command, &end->err);
        return;
    }
    if (t->chunks_total != TDM_CHUNKS_UNKNOWN)
        snprintf(of, sizeof of, " of %" PRIu64, t->chunks_total);
    snprintf(said.msg, sizeof said.msg,
             "%.200s; %" PRIu64 "%s chunks are done, the same command again goes on from %.200s.job",
             end->err.msg, t->chunks_done, of, common->out);
    args_fail(command, &said);
}

int summary_print(const char *command, const common_args *common, const run_end *end, const char *workers)
{
    const tdm_status st = end->err.status;
    const bool waits = end->state == SUMMARY_WAITING;
    if (end->state == SUMMARY_STOPPED && end->has_job)
        print_stopped(command, common, end);
    else if (st != TDM_OK && !end->pipe_closed)
        args_fail(command, &end->err);
    else if (st == TDM_OK && end->counts.bad && !common->quiet && !end->was_complete) /* which was said already */
        print_bad(command, common, end);
    if (waits && !common->quiet)
        print_waiting(command, common, end);
    if (common->json && (st == TDM_OK || end->began)) /* a run that did not begin has no summary */
        print_json(end->has_job ? stdout : stderr, command, end, workers);
    if (st != TDM_OK)
        return (int)st;
    return end->counts.bad && !end->was_complete && !waits ? EXIT_SOME_BAD : TDM_OK;
}

int summary_finish(const char *command, const common_args *common, const command_run *run, tdm_status st,
                   const tdm_err *err, const run_totals *totals)
{
    const run_end end = end_of(run, totals, st, err);
    if (!common->worker)
        return summary_print(command, common, &end, NULL);
    worker_ended(common->worker, &end);
    return (int)st;
}
