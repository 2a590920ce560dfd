/* tools/supervise_worker.c - a worker's own side of its line. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/supervise_state.h"

static const double NOTE_EVERY = 0.1; /* seconds */

struct worker {
    int fd;
    int32_t number, n_workers;
    int devices[TDM_MOST_RANKS];
    int32_t n_devices;
    bool is_careful;
    line_message answer; /* the last one */
    tdm_job_turns turns;
    pthread_mutex_t lock; /* of the news */
    worker_news news;     /* not yet sent */
    double sent;
    uint64_t records, bad, tokens; /* of the progress, as far as they were noted */
};

/* A process has one at most. */
static struct worker self;

/* Without a first process there is nobody to work for. It takes its workers with it; this is the moment before. */
static void say(worker *w, const line_message *m)
{
    if (!line_send(w->fd, m))
        _exit(TDM_ESTOPPED);
}

static bool ask(worker *w, const line_message *m)
{
    say(w, m);
    if (!line_receive(w->fd, &w->answer))
        _exit(TDM_ESTOPPED);
    return w->answer.answer.yes;
}

static bool grant(void *ctx, size_t file, uint64_t number)
{
    return worker_grant(ctx, file, number);
}

static void committed(void *ctx, const tdm_chunk *chunk, const tdm_counts *counts, uint64_t tokens)
{
    (void)tokens;
    say(ctx, &(line_message){.kind = LINE_COMMITTED,
                             .committed = {.file = chunk->file, .chunk = chunk->number, .counts = *counts}});
}

static void waiting(void *ctx, bool begins)
{
    say(ctx, &(line_message){.kind = LINE_DISK, .waiting = begins});
}

/* With the lock held. */
static void send_news(worker *w, double now)
{
    say(w, &(line_message){.kind = LINE_NOTE, .news = w->news});
    w->news.records = w->news.bad = w->news.tokens = 0;
    w->sent = now;
}

static void send_due(worker *w)
{
    const double now = supervise_clock();
    if (now - w->sent >= NOTE_EVERY)
        send_news(w, now);
}

/* What others did may take minutes to read, in compressed files: a sign is due there too. */
static void passed(void *ctx)
{
    worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    send_due(w);
    pthread_mutex_unlock(&w->lock);
}

worker *worker_become(int fd, int32_t number, int32_t n_workers, const int *devices, int32_t n_devices, bool careful)
{
    self = (struct worker){.fd = fd, .number = number, .n_workers = n_workers, .n_devices = n_devices,
                           .is_careful = careful};
    memcpy(self.devices, devices, (size_t)n_devices * sizeof *devices);
    self.turns = (tdm_job_turns){.ctx = &self, .grant = grant, .committed = committed, .waiting = waiting,
                                 .passed = passed};
    pthread_mutex_init(&self.lock, NULL);
    return &self;
}

tdm_rank worker_rank(const worker *w, tdm_rank of_process)
{
    return (tdm_rank){.index = of_process.index * w->n_workers + w->number,
                      .count = of_process.count * w->n_workers};
}

const int *worker_devices(const worker *w, int32_t *n)
{
    *n = w->n_devices;
    return w->devices;
}

bool worker_grant(worker *w, size_t file, uint64_t number)
{
    return ask(w, &(line_message){.kind = LINE_ASK, .place = {.file = file, .chunk = number}});
}

const tdm_job_turns *worker_turns(worker *w)
{
    return &w->turns;
}

void worker_opened(worker *w, const tdm_backend *be, const tdm_job *job)
{
    line_message m = {.kind = LINE_OPENED, .opened = {.is_complete = tdm_job_is_complete(job)}};
    const char *device = !be ? "" : be->device ? be->device : be->ops->name;
    snprintf(m.opened.device, sizeof m.opened.device, "%s", device);
    tdm_job_totals_get(job, &m.opened.totals);
    say(w, &m);
}

/* ---- notes ---- */

void worker_note(worker *w, const worker_news *news)
{
    pthread_mutex_lock(&w->lock);
    w->news.records += news->records;
    w->news.bad += news->bad;
    w->news.tokens += news->tokens;
    w->news.bytes_done = news->bytes_done;
    w->news.bytes_total = news->bytes_total;
    send_due(w);
    pthread_mutex_unlock(&w->lock);
}

static void say_started(worker *w, const tdm_progress *p)
{
    line_message m = {.kind = LINE_STARTED,
                      .started = {.total = p->set.total, .before = p->set.records_before,
                                  .bad_before = p->set.bad_before}};
    snprintf(m.started.unit, sizeof m.started.unit, "%s", p->set.unit);
    w->records = p->done;
    w->bad = p->bad;
    w->tokens = p->tokens;
    say(w, &m);
}

void worker_watch(void *ctx, const tdm_progress *p, tdm_progress_event event)
{
    worker *w = ctx;
    if (event == TDM_EVENT_START) {
        say_started(w, p);
        return;
    }
    worker_note(w, &(worker_news){.records = p->done - w->records, .bad = p->bad - w->bad,
                                  .tokens = p->tokens - w->tokens, .bytes_done = p->bytes_done,
                                  .bytes_total = p->bytes_total});
    w->records = p->done;
    w->bad = p->bad;
    w->tokens = p->tokens;
}

void worker_worked(worker *w)
{
    say(w, &(line_message){.kind = LINE_WORKED});
}

void worker_ended(worker *w, const run_end *end)
{
    pthread_mutex_lock(&w->lock);
    send_news(w, 0);
    pthread_mutex_unlock(&w->lock);
    say(w, &(line_message){.kind = LINE_END, .end = *end});
}

/* ---- a chunk that workers died with ---- */

bool worker_is_careful(const worker *w)
{
    return w->is_careful;
}

bool worker_begin(worker *w, size_t file, uint64_t chunk, uint64_t place_of_record)
{
    return ask(w, &(line_message){.kind = LINE_BEGIN,
                                  .place = {.file = file, .chunk = chunk, .record = place_of_record}});
}

const char *worker_reason(const worker *w)
{
    return w->answer.answer.reason;
}
