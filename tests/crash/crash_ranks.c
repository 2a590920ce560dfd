/* signals, elastic, second: an orderly end at any time; any number of processes; nobody else at the
 * same output. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/crash.h"
#include "tests/crash/workload.h"

enum { MOST_RANKS = 8 };

static pid_t start_and_stop(const run *r)
{
    int code = 0;
    const pid_t pid = run_until_stop(r, &code);
    EXPECT(pid > 0, "%s: %s: did not stop, exit %d", r->w->name, r->fault, code);
    return pid;
}

/* ---- signals ---- */

typedef struct {
    double worst; /* seconds from the signal to the end */
    long stopped, finished, early, killed;
} signal_figures;

static const int SIGNALS[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

static void take_down(signal_figures *f, const run *r, int code, int number, double seconds)
{
    char folder[PATH_CAP];
    beside(folder, r->out, ".job");
    f->worst = seconds > f->worst ? seconds : f->worst;
    EXPECT(seconds < 10, "%s: %.1f s from signal %d to the end", r->w->name, seconds, number);
    if (code == 75)
        f->stopped++;
    else if (code == r->w->ref.code)
        f->finished++;
    else if (code == -number && access(folder, F_OK) != 0)
        f->early++; /* it had not begun to listen, nor to work */
    else
        give_up(__FILE__, __LINE__, "%s: signal %d: exit %d", r->w->name, number, code);
}

static void signal_at_random(signal_figures *f, const workload *w)
{
    const run r = {.w = w, .out = try_out(w)};
    const int number = SIGNALS[random_below(COUNT(SIGNALS))];
    const double delay = random_share() * w->ref.seconds;
    const pid_t pid = run_start(&r);
    nap(delay);
    const double start = now();
    kill(pid, number);
    const int code = run_wait(pid);
    take_down(f, &r, code, number, now() - start);
    expect_resume(&r);
}

/* The signal comes while it stands between two calls. */
static void signal_at_call(signal_figures *f, const workload *w)
{
    char fault[64];
    const run r = {.w = w, .out = try_out(w), .fault = fault};
    const int number = SIGNALS[random_below(COUNT(SIGNALS))];
    snprintf(fault, sizeof fault, "pwrite:%d:stop", (int)(1 + random_below(12)));
    int code = 0;
    const pid_t pid = run_until_stop(&r, &code);
    if (pid == 0) { /* more chunks than usual shared a round of writing */
        EXPECT(code == w->ref.code, "%s: %s: exit %d", w->name, fault, code);
        return;
    }
    kill(pid, number);
    const double start = now();
    kill(pid, SIGCONT);
    code = run_wait(pid);
    take_down(f, &r, code, number, now() - start);
    expect_resume(&r);
}

/* The second one does not wait for anything. */
static void signal_twice(signal_figures *f, const workload *w)
{
    const run r = {.w = w, .out = try_out(w), .fault = "pwrite:3:stop"};
    const pid_t pid = start_and_stop(&r);
    const int second = random_below(2) ? SIGTERM : SIGINT;
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    kill(pid, second);
    const int code = run_wait(pid);
    EXPECT(code == -second || code == 75 || is_done(w, code), "%s: two signals: exit %d", w->name,
           code); /* the last chunk may have been on its way already */
    f->killed += code < 0;
    expect_resume(&r);
}

/* Who reads stdout goes away: no complaint. */
static void close_pipe(const workload *w)
{
    int ends[2];
    char path[PATH_CAP], byte;
    tdm_buf text = {0}, said = {0};
    make_records(&text, 1, 3000, 0, false);
    scratch_path(path, "long.jsonl");
    store(path, text.p, text.len);
    EXPECT(pipe2(ends, O_CLOEXEC) == 0, "%s", strerror(errno));
    const run r = {.w = w, .out = "-", .input = path, .stdout_fd = ends[1]};
    const pid_t pid = run_start(&r);
    close(ends[1]);
    EXPECT(read(ends[0], &byte, 1) == 1, "no output");
    close(ends[0]);
    const int code = run_wait(pid);
    load_stderr(&r, &said);
    EXPECT(code >= 0 && said.len == 0, "a closed pipe: exit %d: %.*s", code, (int)said.len, said.p);
    printf("signals: a closed pipe: exit %d, nothing on stderr\n", code);
    tdm_buf_free(&text);
    tdm_buf_free(&said);
}

void mode_signals(const mode_args *args)
{
    signal_figures f = {0};
    for (long i = 0; i < args->n; i++) {
        const workload *w = workload_at((size_t)i % N_WORKLOADS);
        signal_at_random(&f, w);
        if (i % 2 == 0)
            signal_at_call(&f, w);
        if (i % 10 == 0)
            signal_twice(&f, w);
    }
    close_pipe(workload_at(0));
    printf("signals: %ld orderly ends with 75, %ld too late, %ld before it began; worst time to "
           "the end %.3f s; a second signal killed %ld; then identical\n",
           f.stopped, f.finished, f.early, f.worst, f.killed);
}

/* ---- elastic ---- */

static void start_all(const workload *w, const char *out, int n, pid_t pids[MOST_RANKS])
{
    for (int i = 0; i < n; i++) {
        const run r = {.w = w, .out = out, .shard = i, .shards = n};
        pids[i] = run_start(&r);
    }
}

static void kill_all(const workload *w, int n, const pid_t pids[MOST_RANKS])
{
    for (int i = 0; i < n; i++) {
        nap(random_share() * w->ref.seconds * 1.5);
        kill(pids[i], SIGKILL);
        const int code = run_wait(pids[i]);
        EXPECT(code == -9 || is_done(w, code), "%s: rank %d of %d: exit %d", w->name, i, n, code);
    }
}

static void elastic_once(const workload *w)
{
    pid_t pids[MOST_RANKS];
    const char *out = try_out(w);
    for (uint64_t steps = 1 + random_below(4); steps > 0; steps--) {
        const int n = (int)(1 + random_below(MOST_RANKS));
        start_all(w, out, n, pids);
        kill_all(w, n, pids);
    }
    const int n = (int)(1 + random_below(MOST_RANKS));
    start_all(w, out, n, pids);
    for (int i = 0; i < n; i++) {
        const int code = run_wait(pids[i]);
        const run r = {.w = w, .out = out, .shard = i};
        tdm_buf said = {0};
        load_stderr(&r, &said);
        EXPECT(is_done(w, code), "%s: rank %d of %d: exit %d: %.*s", w->name, i, n, code,
               (int)said.len, said.p);
        tdm_buf_free(&said);
    }
    expect_same(w, out);
}

void mode_elastic(const mode_args *args)
{
    for (long i = 0; i < args->n; i++)
        elastic_once(workload_at((size_t)i % N_WORKLOADS));
    printf("elastic: %ld sequences of 1 to %d processes, killed and gone on with by another "
           "number: identical\n",
           args->n, MOST_RANKS);
}

/* ---- second ---- */

static double slowest; /* seconds until one was refused */

static void expect_refused(run r, int shard, int shards, const char *why)
{
    tdm_buf said = {0};
    r.fault = NULL;
    r.shard = shard;
    r.shards = shards;
    const double start = now();
    const int code = run_to_end(&r);
    slowest = now() - start > slowest ? now() - start : slowest;
    load_stderr(&r, &said);
    EXPECT(code == 73 && count_lines(&said) == 1, "%s: %s: exit %d: %.*s", r.w->name, why, code,
           (int)said.len, said.p);
    tdm_buf_free(&said);
}

/* One process stands still at a call; the others must leave its work alone. */
static void refuse_while_one_works(const workload *w, const char *fault)
{
    const run r = {.w = w, .out = try_out(w), .fault = fault};
    const pid_t pid = start_and_stop(&r);
    expect_refused(r, 0, 0, "a second process");
    expect_refused(r, 1, 2, "a process of another number");
    kill(pid, SIGCONT);
    const int code = run_wait(pid);
    EXPECT(code == w->ref.code, "%s: %s: the first process ended with %d", w->name, fault, code);
    expect_same(w, r.out);
}

static void refuse_among_ranks(const workload *w)
{
    const run r = {.w = w, .out = try_out(w), .fault = "pwrite:3:stop", .shards = 2};
    const run other = {.w = w, .out = r.out, .shard = 1, .shards = 2};
    const pid_t pid = start_and_stop(&r);
    expect_refused(r, 0, 2, "the same rank twice");
    expect_refused(r, 2, 3, "a process of another number");
    expect_refused(r, 0, 0, "one process alone");
    const int code = run_to_end(&other);
    EXPECT(is_done(w, code), "%s: the other rank ended with %d", w->name, code);
    kill(pid, SIGCONT);
    const int own = run_wait(pid);
    EXPECT(is_done(w, own), "%s: the stopped rank ended with %d", w->name, own);
    expect_same(w, r.out);
}

/* A rank that has seen no OUT yet stands still while another one gives OUT its name and removes the
 * job. */
static void come_between(const workload *w, const char *fault)
{
    run other = {.w = w, .out = try_out(w), .shard = 1, .shards = 2};
    const run joiner = {.w = w, .out = other.out, .shards = 2, .fault = "rename:3:stop"};
    int code = run_to_end(&other);
    EXPECT(is_done(w, code), "%s: rank 1 of 2: exit %d", w->name, code);
    const pid_t joins = start_and_stop(&joiner);
    other.fault = fault;
    const pid_t comes = start_and_stop(&other);
    kill(joins, SIGCONT);
    code = run_wait(joins);
    EXPECT(code == w->ref.code, "%s: joining ended with %d", w->name, code);
    kill(comes, SIGCONT);
    code = run_wait(comes);
    EXPECT(is_done(w, code), "%s: who came between, at %s, ended with %d", w->name, fault, code);
    expect_same(w, other.out);
}

void mode_second(const mode_args *args)
{
    static const char *const BETWEEN[] = {"mkdir:1:stop", "fcntl:1:stop", "fcntl:3:stop"};
    static const char *const WHERE[] = {"pwrite:1:stop", "fdatasync:3:stop", "rename:2:stop",
                                        "rename:3:stop"};
    for (long i = 0; i < args->n; i++) {
        const workload *w = workload_at((size_t)i % N_WORKLOADS);
        for (size_t k = 0; k < COUNT(WHERE); k++)
            refuse_while_one_works(w, WHERE[k]);
        refuse_among_ranks(w);
        for (size_t k = 0; k < COUNT(BETWEEN); k++)
            come_between(w, BETWEEN[k]);
    }
    printf("second: %ld times refused with 73 at %zu places and among ranks, the slowest after "
           "%.2f s, or behind who joins at %zu: nothing damaged\n",
           args->n, COUNT(WHERE), slowest, COUNT(BETWEEN));
}
