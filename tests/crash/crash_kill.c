/* kill and points: SIGKILL at random instants, and at each call that changes files. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/crash/crash.h"
#include "tests/crash/journal.h"
#include "tests/crash/situation.h"

/* Words on the command line choose workloads; none means all. */
static bool is_chosen(const mode_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_words; i++)
        if (!strcmp(args->words[i], name))
            return true;
    return args->n_words == 0;
}

/* ---- kill ---- */

typedef struct {
    long kills, again,
        amid; /* again: of them, of a run that went on; amid: with some chunks committed, not all */
    size_t lost_most; /* chunks that were written and must be done again */
    double lost;
} kill_figures;

/* Chunks in a killed run's data that no journal line speaks for: the last may be a part of one. */
static size_t unjournaled(const journal_chunks *all, const char *out)
{
    journal_chunks done = {0};
    char path[PATH_CAP];
    struct stat info;
    beside(path, out, ".job/0.data");
    if (stat(path, &info) != 0)
        return 0;
    journal_read(&done, out, 0);
    size_t n = 0;
    uint64_t end = done.bytes;
    EXPECT((uint64_t)info.st_size >= end, "%s is shorter than its journal says", path);
    for (size_t i = done.n; i < all->n && end < (uint64_t)info.st_size; i++, n++)
        end += all->lens[i];
    journal_free(&done);
    return n;
}

/* Go on to the end. Where OUT is about to get its name, the third to do so, the journal has each
 * chunk once: what was committed has not been done again. */
static void go_on(const run *killed, const journal_chunks *all)
{
    run r = *killed;
    int code = 0;
    journal_chunks done = {0};
    r.fault = "rename:3:stop";
    const pid_t pid = run_until_stop(&r, &code);
    if (pid > 0) {
        journal_read(&done, r.out, 0);
        EXPECT(done.n == all->n && done.bytes == all->bytes,
               "%s: %zu chunks in the journal, want %zu", r.w->name, done.n, all->n);
        journal_free(&done);
        kill(pid, SIGCONT);
        code = run_wait(pid);
    }
    EXPECT(is_done(r.w, code), "%s: going on ended with %d", r.w->name, code);
    expect_same(r.w, r.out);
}

static void kill_once(const workload *w, const journal_chunks *all, kill_figures *f)
{
    const run r = {.w = w, .out = try_out(w)};
    for (int i = 0; i < 4 && (i == 0 || random_below(3) == 0); i++) {
        const int code = run_killed_after(&r, random_share() * w->ref.seconds * 1.1);
        EXPECT(code == -9 || is_done(w, code), "%s: exit %d", w->name, code);
        if (code != -9)
            break;
        const size_t lost = unjournaled(all, r.out), done = journal_lines(r.out);
        f->kills++;
        f->amid += done > 0 && done < all->n;
        f->again += i > 0;
        f->lost += (double)lost;
        f->lost_most = lost > f->lost_most ? lost : f->lost_most;
    }
    go_on(&r, all);
}

void mode_kill(const mode_args *args)
{
    workload_scale = 8; /* more of the time is work, less is its beginning */
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        if (!is_chosen(args, WORKLOADS[i].name))
            continue;
        const workload *w = workload_at(i);
        journal_chunks all = {0};
        journal_of_reference(&all, w);
        kill_figures f = {0};
        while (f.kills < args->n)
            kill_once(w, &all, &f);
        printf("kill %s: %ld kills at random instants, %ld amid commits, %ld of runs that went on: "
               "identical; no journaled chunk done again; of %zu chunks written but not journaled: "
               "%.2f in the mean, at most %zu\n",
               w->name, f.kills, f.amid, f.again, all.n, f.lost / (double)f.kills, f.lost_most);
        journal_free(&all);
    }
}

/* ---- points ---- */

static bool changes_files(const call_site *site)
{
    static const char *const KINDS[] = {"open",  "pwrite", "write",     "fsync", "fdatasync",
                                        "mkdir", "rename", "ftruncate", "link",  "unlink",
                                        "rmdir", "writev", "fcntl"};
    for (size_t i = 0; i < COUNT(KINDS); i++)
        if (site_is(site, KINDS[i]))
            return true;
    return false;
}

/* Kill at `times` of a site's calls, evenly over all of them, or over and over where it has fewer.
 */
static long kill_at_site(const situation *s, const call_site *site, const char *how, long times)
{
    long kills = 0;
    for (long i = 0; i < times; i++) {
        char fault[96];
        run r = situation_try(s);
        snprintf(fault, sizeof fault, "%s:%ld:%s", site->name,
                 1 + (times <= site->calls ? i * site->calls / times : i % site->calls), how);
        r.fault = fault;
        const int code = run_to_end(&r);
        /* how chunks are grouped depends on time: the last call may not come this time */
        EXPECT(code == -9 || code == s->w->ref.code, "%s %s: %s: exit %d", s->w->name,
               SITUATION_NAMES[s->kind], fault, code);
        kills += code == -9;
        expect_resume(&r);
    }
    return kills;
}

static void kill_in_situation(const workload *w, situation_kind kind, long times)
{
    static const char *const HOW[] = {"kill", "kill-after", "torn"};
    situation s;
    long kills = 0;
    size_t points = 0;
    situation_make(&s, w, kind);
    for (size_t i = 0; i < s.n_sites; i++) {
        if (!changes_files(&s.sites[i]))
            continue;
        points++;
        for (size_t h = 0; h < COUNT(HOW); h++)
            if (h < 2 || site_is(&s.sites[i], "pwrite") || site_is(&s.sites[i], "write"))
                kills += kill_at_site(&s, &s.sites[i], HOW[h], times);
    }
    printf("points %s %s: %ld kills at %zu calls, before, behind and amid: identical\n", w->name,
           SITUATION_NAMES[kind], kills, points);
    situation_free(&s);
}

void mode_points(const mode_args *args)
{
    for (size_t i = 0; i < N_WORKLOADS; i++)
        for (int kind = 0; kind < N_SITUATIONS; kind++)
            if (is_chosen(args, WORKLOADS[i].name))
                kill_in_situation(workload_at(i), (situation_kind)kind, args->n);
}
