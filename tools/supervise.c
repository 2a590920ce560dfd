/* tools/supervise.c - the processes of --devices: started, listened to, ended, buried. */
#include "tools/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/threads.h"
#include "tools/ranks.h"
#include "tools/run.h"
#include "tools/signals.h"
#include "tools/supervise_state.h"

/* Milliseconds between two looks at signals and clocks; at a process whose line is closed. */
enum { LOOK_EVERY = 200, LOOK_AT_DYING = 5 };
enum { MOST_CLEARING = 3 };

/* ---- what there is to supervise ---- */

static void name_place(const supervisor *s, place *p)
{
    size_t used = (size_t)snprintf(p->name, sizeof p->name, s->devices.null ? "null:" : "cuda:");
    for (int32_t i = 0; i < s->n_each && used + 1 < sizeof p->name; i++)
        used += (size_t)snprintf(p->name + used, sizeof p->name - used, "%s%d", i ? "," : "", p->devices[i]);
}

static tdm_status open_supervisor(supervisor *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *source = NULL;
    TDM_TRY(ranks_find(s->common->shard, &s->rank, &source, err));
    TDM_TRY(devices_find(s->common, &s->devices, err));
    s->n_each = (int32_t)s->common->tp;
    s->n = s->devices.n / s->n_each;
    s->places = calloc((size_t)s->n, sizeof *s->places);
    TDM_REQUIRE(s->places, TDM_ENOMEM, "%d workers", (int)s->n);
    for (int32_t i = 0; i < s->n; i++) {
        s->places[i].devices = s->devices.numbers + i * s->n_each;
        s->places[i].fd = -1;
        name_place(s, &s->places[i]);
    }
    TDM_TRY(chunks_open(s->n, &s->board, err));
    if (s->rank.count > 1 && !s->common->quiet)
        run_say_rank(s->command, s->rank, source);
done:
    return st;
}

/* In a worker: what was the first process's. */
static void close_supervisor(supervisor *s)
{
    for (int32_t i = 0; s->places && i < s->n; i++)
        if (s->places[i].fd >= 0)
            close(s->places[i].fd);
    chunks_close(s->board);
    free(s->places);
}

/* Its line is closed, and it is not yet buried. */
static bool is_dying(const place *p)
{
    return p->pid && p->fd < 0;
}

static int32_t count_running(const supervisor *s)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++)
        n += s->places[i].pid != 0;
    return n;
}

/* ---- starting ---- */

/* What a worker prints, its devices, its share of the cores, and what of the job is the first process's. */
static void adjust(supervisor *s, int32_t number, int fd, bool careful)
{
    static char device[32];
    common_args *c = s->common;
    const int cores = tdm_usable_cores() / (int)s->n;
    c->worker = worker_become(fd, number, s->n, s->places[number].devices, s->n_each, careful);
    if (!s->devices.null)
        snprintf(device, sizeof device, s->n_each == 1 ? "cuda:%d" : "cuda", s->places[number].devices[0]);
    if (!s->devices.null)
        c->device = device;
    if (c->threads == 0)
        c->threads = cores > 0 ? cores : 1;
    c->restart = c->restart && !s->is_open;
    c->quiet = true;
    c->json = false;
    c->metrics_file = NULL;
}

/* A worker ends with the first process, also if that ended just now. */
static void stay_with(pid_t first)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != first)
        _exit(TDM_ESTOPPED);
    signals_only_from(first);
}

/* in_worker: this is the new process; the supervisor is closed there. */
static tdm_status start(supervisor *s, int32_t number, const chunks_task *task, bool *in_worker, tdm_err *err)
{
    tdm_status st = TDM_OK;
    place *p = &s->places[number];
    int fd[2] = {-1, -1};
    const pid_t first = getpid();
    TDM_TRY(line_open(fd, err));
    chunks_started(s->board, number, task);
    const pid_t pid = fork();
    TDM_REQUIRE(pid >= 0, TDM_ENOMEM, "a worker process: %s", strerror(errno));
    if (pid == 0) {
        *in_worker = true;
        stay_with(first);
        close(fd[0]);
        adjust(s, number, fd[1], task->kind == CHUNKS_CAREFUL);
        close_supervisor(s);
        return TDM_OK;
    }
    close(fd[1]);
    const place was = *p;
    *p = (place){.pid = pid, .fd = fd[0], .devices = was.devices, .chunks = was.chunks, .records = was.records,
                 .sign = supervise_clock(), .n_died = s->n_died, .is_careful = task->kind == CHUNKS_CAREFUL};
    memcpy(p->name, was.name, sizeof p->name);
    return TDM_OK;
done:
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return st;
}

/* Whoever died last may have died making OUT, when there was nothing else to do, or removing what it was made of. Then
 * one more life has to look, with nobody beside it; where that one dies too, the next. */
static bool has_to_look(const supervisor *s)
{
    if (s->n_died == 0 || count_running(s) > 0)
        return false;
    return s->is_complete ? s->n_clearing < MOST_CLEARING && tdm_job_is_left(s->common->out) : s->n_looked < s->n_died;
}

/* What should run in a place. */
static chunks_task due(const supervisor *s, int32_t number)
{
    chunks_task task = chunks_next(s->board, number);
    if (task.kind == CHUNKS_NOTHING && has_to_look(s))
        task.kind = CHUNKS_NORMAL;
    return task;
}

static bool may_start(const supervisor *s)
{
    return s->failure.status == TDM_OK && !s->was_complete && (!s->is_stopping || (s->is_complete && has_to_look(s)));
}

/* All that should run and does not. The first one opens the job alone: it finds out what the others then know, and discards
 * what --restart discards. */
static tdm_status start_due(supervisor *s, bool *in_worker, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int32_t i = 0; i < s->n && may_start(s) && !*in_worker; i++) {
        const chunks_task task = due(s, i);
        if (s->places[i].pid || (task.kind != CHUNKS_NORMAL && task.kind != CHUNKS_CAREFUL))
            continue;
        if (!s->is_open && count_running(s) > 0)
            break;
        s->n_clearing += s->is_complete;
        TDM_TRY(start(s, i, &task, in_worker, err));
    }
done:
    return st;
}

/* ---- ending ---- */

static void stop_all(supervisor *s)
{
    if (s->is_stopping)
        return;
    s->is_stopping = true;
    s->stopped = supervise_clock();
    for (int32_t i = 0; i < s->n; i++)
        if (s->places[i].pid)
            kill(s->places[i].pid, SIGTERM);
}

/* Whether what ended a worker would end every other one too: it is what it was told to do, and not its device. */
static bool ends_all(tdm_status st)
{
    return st != TDM_OK && st != TDM_ENODEV && st != TDM_EINTERNAL && st != TDM_ENOMEM && st != TDM_ESTOPPED;
}

static void say_death(supervisor *s, int32_t number, const char *how, uint64_t n_bad)
{
    const int faults = (int)chunks_faults(s->board, number);
    const chunks_task task = chunks_next(s->board, number);
    const place *p = &s->places[number];
    if (chunks_n_bad(s->board) > n_bad)
        supervise_say(s, "worker %d (%s) died %s, with one record alone, which is bad now", (int)number, p->name, how);
    else if (task.kind == CHUNKS_LEFT_OUT)
        supervise_say(s, "worker %d (%s) died %s; its chunks go back; with %d faults it is left out", (int)number, p->name,
                      how, faults);
    else
        supervise_say(s, "worker %d (%s) died %s; its chunks go back (fault %d, %d are too many)", (int)number, p->name, how,
                      faults, CHUNKS_MOST_FAULTS);
}

/* how  as waitpid tells it */
static tdm_status bury_dead(supervisor *s, int32_t number, int how, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char text[640];
    place *p = &s->places[number];
    const uint64_t n_bad = chunks_n_bad(s->board);
    if (p->was_hung)
        snprintf(text, sizeof text, "without a sign for %.0f seconds", SUPERVISE_HUNG);
    else if (WIFSIGNALED(how))
        snprintf(text, sizeof text, "by signal %d", WTERMSIG(how));
    else if (p->has_end)
        snprintf(text, sizeof text, "with an error: %s", p->end.err.msg);
    else
        snprintf(text, sizeof text, "by exit code %d", WEXITSTATUS(how));
    s->n_died++;
    tdm_fail(&s->last, TDM_ESTOPPED, "worker %d (%s) died %.400s", (int)number, p->name, text);
    supervise_forget(s, p);
    TDM_TRY(chunks_died(s->board, number, text, err));
    say_death(s, number, text, n_bad);
done:
    return st;
}

/* A worker is gone.
 *   how  as waitpid tells it */
static tdm_status bury(supervisor *s, int32_t number, int how, tdm_err *err)
{
    tdm_status st = TDM_OK;
    place *p = &s->places[number];
    p->pid = 0;
    const tdm_status ended = p->has_end ? p->end.err.status : TDM_ESTOPPED;
    if (ended == TDM_OK && WIFEXITED(how)) {
        chunks_finished(s->board, number);
        s->n_looked = p->n_died > s->n_looked ? p->n_died : s->n_looked;
    } else if (ends_all(ended)) {
        TDM_REQUIRE(s->is_stopping || s->is_complete, ended, "%s", p->end.err.msg);
    } else if (!s->is_stopping) {
        TDM_TRY(bury_dead(s, number, how, err));
    } else if (WIFSIGNALED(how) && s->is_complete) {
        s->n_died++;
    } else if (WIFSIGNALED(how)) {
        supervise_say(s, "worker %d (%s) died by signal %d when it was to stop; what it had not finished is done again",
                      (int)number, p->name, WTERMSIG(how));
    }
done:
    return st;
}

/* ---- the life of the first process ---- */

static void listen_to(supervisor *s, const struct pollfd *lines)
{
    line_message m;
    for (int32_t i = 0; i < s->n; i++) {
        if (!lines[i].revents || s->places[i].fd != lines[i].fd)
            continue;
        if (line_receive(s->places[i].fd, &m)) {
            supervise_hear(s, i, &m);
            continue;
        }
        close(s->places[i].fd);
        s->places[i].fd = -1;
    }
}

static bool any_is_dying(const supervisor *s)
{
    for (int32_t i = 0; i < s->n; i++)
        if (is_dying(&s->places[i]))
            return true;
    return false;
}

/* Those that have said all. A driver may take seconds to give back what a process had: the others go on meanwhile. */
static tdm_status bury_all(supervisor *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int how = 0;
    for (int32_t i = 0; i < s->n; i++)
        if (is_dying(&s->places[i]) && waitpid(s->places[i].pid, &how, WNOHANG) == s->places[i].pid)
            TDM_TRY(bury(s, i, how, err));
done:
    return st;
}

/* A kernel that does not come back; and whoever does not stop when told to. While this process was stopped itself, or
 * could not write to a terminal, it heard no signs: that says nothing of the workers. */
static void kill_hung(supervisor *s)
{
    const double now = supervise_clock();
    const bool was_away = now - s->looked > SUPERVISE_HUNG / 2;
    s->looked = now;
    for (int32_t i = 0; i < s->n; i++) {
        place *p = &s->places[i];
        p->sign = was_away ? now : p->sign;
        const bool has_work = (p->at_work && !p->on_disk) || is_dying(p) || (s->is_stopping && !s->n_clearing);
        const double since = s->is_stopping && s->stopped > p->sign ? s->stopped : p->sign;
        if (!p->pid || p->was_hung || !has_work || now - since < SUPERVISE_HUNG)
            continue;
        p->was_hung = true;
        kill(p->pid, SIGKILL);
    }
}

static void take_failure(supervisor *s, tdm_status st, const tdm_err *err)
{
    if (st != TDM_OK && s->failure.status == TDM_OK)
        s->failure = *err;
    if (s->failure.status != TDM_OK || (s->is_complete && !s->n_clearing))
        stop_all(s);
}

/* true: this is a worker. */
static bool run_workers(supervisor *s, const tdm_stop *stop, struct pollfd *lines)
{
    bool in_worker = false;
    for (;;) {
        tdm_err err = {0};
        tdm_status st = start_due(s, &in_worker, &err);
        if (in_worker)
            return true;
        take_failure(s, st, &err);
        if (count_running(s) == 0)
            return false;
        for (int32_t i = 0; i < s->n; i++)
            lines[i] = (struct pollfd){.fd = s->places[i].fd, .events = POLLIN};
        if (poll(lines, (nfds_t)s->n, any_is_dying(s) ? LOOK_AT_DYING : LOOK_EVERY) > 0)
            listen_to(s, lines);
        st = bury_all(s, &err);
        if (st == TDM_OK && !s->is_complete)
            st = tdm_check_stop(stop, &err);
        take_failure(s, st, &err);
        kill_hung(s);
    }
}

/* Nothing runs any more. Whoever was making OUT when a signal came may have finished it. */
static void judge_end(supervisor *s)
{
    if (s->is_complete && s->failure.status == TDM_ESTOPPED)
        s->failure = (tdm_err){0};
    if (s->is_complete || s->failure.status != TDM_OK)
        return;
    if (!chunks_is_done(s->board) || s->n_looked < s->n_died)
        tdm_fail(&s->failure, TDM_ESTOPPED, "no device is left, each had %d faults or more; %.300s", CHUNKS_MOST_FAULTS,
                 s->last.msg);
    else if (s->rank.count == 1)
        tdm_fail(&s->failure, TDM_EIO, "%s.job: chunks that were committed are no longer in its journals; run again",
                 s->common->out);
}

bool supervise(const char *command, common_args *common, int *code)
{
    supervisor s = {.command = command, .common = common};
    struct pollfd lines[SUPERVISE_MOST_DEVICES];
    if (!common->devices)
        return true;
    signal(SIGCHLD, SIG_DFL); /* where it is ignored, nobody learns how a worker ended */
    if (open_supervisor(&s, &s.failure) == TDM_OK && run_workers(&s, signals_catch(), lines))
        return true;
    judge_end(&s);
    *code = supervise_finish(&s);
    close_supervisor(&s);
    return false;
}
