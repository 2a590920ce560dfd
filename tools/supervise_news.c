/* tools/supervise_news.c - what the first process hears of its workers: answers, sums, and the end. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/buf.h"
#include "tools/run.h"
#include "tools/supervise_state.h"

double supervise_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void supervise_say(supervisor *s, const char *fmt, ...)
{
    char text[1024];
    va_list values;
    if (s->common->quiet)
        return;
    va_start(values, fmt);
    vsnprintf(text, sizeof text, fmt, values);
    va_end(values);
    if (s->has_progress)
        tdm_progress_clear(&s->progress);
    args_note(s->command, "%s", text);
}

/* The first failure ends the run. */
static void end_by(supervisor *s, const tdm_err *err)
{
    if (s->failure.status == TDM_OK)
        s->failure = *err;
}

/* ---- who may do what ---- */

static void reply(supervisor *s, int32_t number, const line_message *m)
{
    line_message said = {.kind = LINE_ANSWER};
    place *p = &s->places[number];
    const char *reason = NULL;
    tdm_err err = {0};
    if (m->kind == LINE_ASK) {
        if (chunks_grant(s->board, number, m->place.file, m->place.chunk, &said.answer.yes, &err) != TDM_OK)
            end_by(s, &err);
        p->at_work = p->at_work || said.answer.yes;
    } else if (chunks_is_bad(s->board, m->place.file, m->place.chunk, m->place.record, &reason)) {
        snprintf(said.answer.reason, sizeof said.answer.reason, "%s", reason);
    } else {
        chunks_announced(s->board, number, m->place.record);
        said.answer.yes = true;
    }
    (void)line_send(p->fd, &said); /* one that is gone is noticed by its end */
}

/* ---- what was done ---- */

static void hear_opened(supervisor *s, int32_t number, const line_message *m)
{
    const place *p = &s->places[number];
    const char *device = m->opened.device;
    if (!s->is_open) {
        s->before = m->opened.totals;
        s->was_complete = m->opened.is_complete;
        if (!s->common->quiet)
            run_say_job(s->command, s->common->out, s->was_complete, false, &s->before);
    }
    s->is_open = true;
    if (!s->was_complete)
        supervise_say(s, "worker %d: %s, process %d%s", (int)number, s->devices.null ? p->name : device, (int)p->pid,
                      p->is_careful ? ", one record at a time" : "");
}

static void hear_started(supervisor *s, const line_message *m)
{
    tdm_err err = {0};
    if (s->has_progress)
        return;
    memcpy(s->unit, m->started.unit, sizeof s->unit);
    const tdm_progress_options options = {.mode = (tdm_progress_mode)s->common->progress,
                                          .quiet = s->common->quiet,
                                          .to = stderr,
                                          .command = s->command,
                                          .unit = s->unit,
                                          .total = m->started.total,
                                          .metrics_file = s->common->metrics_file,
                                          .rank = s->rank,
                                          .records_before = m->started.before,
                                          .bad_before = m->started.bad_before};
    if (tdm_progress_start(&s->progress, &options, &err) != TDM_OK)
        end_by(s, &err);
    s->has_progress = true;
}

/* All workers walk the whole input: the one that is farthest shows how much is done. */
static void hear_news(supervisor *s, place *p, const worker_news *news)
{
    p->noted += news->records;
    p->noted_bad += news->bad;
    if (!s->has_progress)
        return;
    if (news->bytes_done > s->progress.bytes_done)
        tdm_progress_bytes(&s->progress, news->bytes_done, news->bytes_total);
    tdm_progress_add(&s->progress, news->records, news->tokens, news->bad);
}

static void add_counts(tdm_counts *to, const tdm_counts *from, int sign)
{
    to->ok += sign * from->ok;
    to->bad += sign * from->bad;
    to->skipped += sign * from->skipped;
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        to->by_fault[i] += sign * from->by_fault[i];
}

/* An absolute --max-errors is judged at once over all workers; each judges what it did itself. */
static void judge(supervisor *s)
{
    const tdm_max_errors max = s->common->max_errors;
    const int64_t bad = s->before.counts.bad + s->sum.counts.bad;
    tdm_err err = {0};
    if (max.percent || (double)bad <= max.limit)
        return;
    tdm_fail(&err, TDM_EFORMAT, "%s: %" PRId64 " bad records so far, --max-errors %.0f", s->common->out, bad, max.limit);
    end_by(s, &err);
}

static void hear_committed(supervisor *s, int32_t number, const line_message *m)
{
    place *p = &s->places[number];
    const tdm_counts *c = &m->committed.counts;
    chunks_committed(s->board, number, m->committed.file, m->committed.chunk);
    add_counts(&p->committed, c, 1);
    add_counts(&s->sum.counts, c, 1);
    p->chunks++;
    p->life_chunks++;
    p->records += (uint64_t)(c->ok + c->bad);
    s->chunks++;
    judge(s);
}

static void hear_end(supervisor *s, place *p, const run_end *end)
{
    p->has_end = true;
    p->end = *end;
    s->began = s->began || end->began;
    if (end->err.status != TDM_OK)
        return;
    if (end->state == SUMMARY_COMPLETE || !s->is_complete) /* one that only waits may be heard later */
        s->sum.job = end->job;
    s->is_complete = s->is_complete || end->state == SUMMARY_COMPLETE;
    s->sum.totals.tokens += end->totals.tokens;
    s->sum.totals.steps += end->totals.steps;
    s->sum.totals.windows += end->totals.windows;
    if (end->totals.cpu) {
        s->sum.totals.cpu = &s->sum.cpu;
#define X(step) s->sum.cpu.step += end->cpu.step;
        SUMMARY_STEPS(X)
#undef X
    }
}

void supervise_hear(supervisor *s, int32_t number, const line_message *m)
{
    place *p = &s->places[number];
    p->sign = supervise_clock();
    switch (m->kind) {
    case LINE_OPENED:
        hear_opened(s, number, m);
        break;
    case LINE_STARTED:
        hear_started(s, m);
        break;
    case LINE_ASK:
    case LINE_BEGIN:
        reply(s, number, m);
        break;
    case LINE_NOTE:
        hear_news(s, p, &m->news);
        break;
    case LINE_COMMITTED:
        hear_committed(s, number, m);
        break;
    case LINE_DISK:
        p->on_disk = m->waiting;
        break;
    case LINE_WORKED:
        p->at_work = false;
        break;
    case LINE_END:
        hear_end(s, p, &m->end);
        break;
    case LINE_ANSWER: /* nobody asked a worker anything */
        break;
    }
}

void supervise_forget(supervisor *s, place *p)
{
    const uint64_t kept = (uint64_t)(p->committed.ok + p->committed.bad), bad = (uint64_t)p->committed.bad;
    add_counts(&s->sum.counts, &p->committed, -1);
    s->chunks -= p->life_chunks;
    if (!s->has_progress)
        return;
    s->progress.done -= p->noted > kept ? p->noted - kept : 0;
    s->progress.bad -= p->noted_bad > bad ? p->noted_bad - bad : 0;
}

/* ---- the end ---- */

/* As JSON; without memory for it, an empty list. */
static void put_workers(const supervisor *s, tdm_buf *out)
{
    tdm_status st = tdm_buf_printf(out, NULL, "[");
    for (int32_t i = 0; i < s->n && st == TDM_OK; i++) {
        const place *p = &s->places[i];
        st = tdm_buf_printf(out, NULL, "%s{\"devices\": [", i ? ", " : "");
        for (int32_t k = 0; k < s->n_each && st == TDM_OK; k++)
            st = tdm_buf_printf(out, NULL, "%s%d", k ? ", " : "", p->devices[k]);
        if (st == TDM_OK)
            st = tdm_buf_printf(out, NULL, "], \"chunks\": %" PRIu64 ", \"records\": %" PRIu64 ", \"faults\": %d}",
                                p->chunks, p->records, (int)chunks_faults(s->board, i));
    }
    if (st != TDM_OK)
        out->len = 0;
    if (tdm_buf_put(out, "]", 2, NULL) != TDM_OK)
        out->len = 0;
}

static void end_progress(supervisor *s)
{
    const bool finished = s->failure.status == TDM_OK;
    if (!s->has_progress)
        return;
    s->sum.totals.seconds = tdm_progress_seconds(&s->progress);
    if (finished && s->is_complete && s->rank.count == 1) { /* what died with a worker may have been counted twice */
        s->progress.done = (uint64_t)(s->sum.job.counts.ok + s->sum.job.counts.bad);
        s->progress.bad = (uint64_t)s->sum.job.counts.bad;
    }
    if (finished)
        tdm_progress_finish(&s->progress);
    else
        tdm_progress_abandon(&s->progress);
}

/* Of a job that nobody ended: what was there and what was handed over since. */
static void count_done(supervisor *s)
{
    tdm_job_totals *t = &s->sum.job;
    *t = s->before;
    t->chunks_done += s->chunks;
    if (t->chunks_done > t->chunks_total)
        t->chunks_done = t->chunks_total;
}

int supervise_finish(supervisor *s)
{
    run_end *e = &s->sum;
    tdm_buf workers = {0};
    const tdm_counts own = e->counts;
    e->rank = s->rank;
    e->has_job = s->is_open;
    e->was_complete = s->was_complete;
    e->began = s->began;
    e->err = s->failure;
    e->tokens = e->totals.tokens;
    end_progress(s);
    if (e->err.status != TDM_OK) {
        e->state = e->err.status == TDM_ESTOPPED ? SUMMARY_STOPPED : SUMMARY_FAILED;
        count_done(s);
    } else if (s->is_complete) {
        e->state = SUMMARY_COMPLETE;
        e->counts = e->job.counts;
        e->tokens = e->job.tokens;
        e->before = s->rank.count == 1 ? s->before.counts.ok + s->before.counts.bad
                                       : e->counts.ok + e->counts.bad - own.ok - own.bad;
    } else {
        e->state = SUMMARY_WAITING;
    }
    put_workers(s, &workers);
    const int code = summary_print(s->command, s->common, e, workers.len ? workers.p : "[]");
    tdm_buf_free(&workers);
    return code;
}
