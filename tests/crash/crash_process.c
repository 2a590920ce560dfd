/* Processes of tandem_faults: started, killed, waited for, and what they leave. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash/crash.h"
#include "tests/crash/workload.h"

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void nap(double seconds)
{
    const struct timespec t = {.tv_sec = (time_t)seconds,
                               .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static void stderr_path(const run *r, char path[PATH_CAP])
{
    scratch_path(path, "stderr.%d", r->shard);
}

void load_stderr(const run *r, tdm_buf *text)
{
    char path[PATH_CAP];
    stderr_path(r, path);
    load(path, text);
}

static void set(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

_Noreturn static void become(const run *r)
{
    char path[PATH_CAP];
    arguments a = {0};
    stderr_path(r, path);
    const int log = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, STDIN_FILENO);
    dup2(r->stdout_fd ? r->stdout_fd : nothing, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    set("TDM_FAULT", r->fault);
    set("TDM_FAULT_LIST", r->list);
    set("TDM_FAULT_TRACE", r->trace);
    workload_arguments(r, &a);
    execv(a.items[0], (char **)(uintptr_t)a.items);
    _exit(127);
}

pid_t run_start(const run *r)
{
    if (r->fault)
        snprintf(last_fault, sizeof last_fault, "%s", r->fault);
    const pid_t pid = fork();
    EXPECT(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0)
        become(r);
    return pid;
}

static int ended_with(int status)
{
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int run_wait(pid_t pid)
{
    int status = 0;
    EXPECT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    return ended_with(status);
}

pid_t run_until_stop(const run *r, int *code)
{
    int status = 0;
    const pid_t pid = run_start(r);
    EXPECT(waitpid(pid, &status, WUNTRACED) == pid, "waitpid: %s", strerror(errno));
    if (WIFSTOPPED(status))
        return pid;
    *code = ended_with(status);
    return 0;
}

int run_to_end(const run *r)
{
    return run_wait(run_start(r));
}

int run_killed_after(const run *r, double seconds)
{
    const pid_t pid = run_start(r);
    nap(seconds);
    kill(pid, SIGKILL);
    return run_wait(pid);
}

/* ---- what is left ---- */

const char *try_out(const workload *w)
{
    static const char *const ENDINGS[] = {"", ".gz", ".zst"};
    static char out[PATH_CAP];
    char folder[PATH_CAP];
    scratch_path(folder, "try");
    remove_tree(folder);
    EXPECT(mkdir(folder, 0777) == 0, "%s: %s", folder, strerror(errno));
    scratch_path(out, "try/out.jsonl%s", ENDINGS[w->codec]);
    return out;
}

static void expect_file(const char *out, const char *ending, const tdm_buf *want)
{
    char path[PATH_CAP];
    tdm_buf got = {0};
    beside(path, out, ending);
    EXPECT(load(path, &got), "%s is not there", path);
    size_t same = 0;
    while (same < got.len && same < want->len && got.p[same] == want->p[same])
        same++;
    EXPECT(same == want->len && same == got.len,
           "%s: %zu bytes, want %zu; the first that differs is %zu", path, got.len, want->len,
           same);
    tdm_buf_free(&got);
}

static void expect_gone(const char *out, const char *ending)
{
    char path[PATH_CAP];
    beside(path, out, ending);
    EXPECT(access(path, F_OK) != 0, "%s is still there", path);
}

void expect_same(const workload *w, const char *out)
{
    tdm_buf counts = {0};
    expect_file(out, "", &w->ref.out);
    expect_file(out, ".errors.jsonl", &w->ref.errors);
    load_counts(out, &counts);
    EXPECT(counts.len == w->ref.counts.len && !memcmp(counts.p, w->ref.counts.p, counts.len),
           "%s.manifest.json: other counts: %s, want %s", out, counts.p, w->ref.counts.p);
    expect_gone(out, ".job");
    expect_alone(out);
    tdm_buf_free(&counts);
}

bool is_done(const workload *w, int code)
{
    return code == 0 || code == w->ref.code;
}

void expect_resume(const run *r)
{
    run again = *r;
    again.fault = again.list = again.trace = NULL;
    const int code = run_to_end(&again);
    tdm_buf said = {0};
    load_stderr(&again, &said);
    EXPECT(is_done(r->w, code), "%s: going on ended with %d, want %d: %.*s", r->w->name, code,
           r->w->ref.code, (int)said.len, said.p);
    expect_same(r->w, r->out);
    tdm_buf_free(&said);
}
