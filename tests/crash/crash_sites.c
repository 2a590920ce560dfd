/* sites and full: each call site fails in each way that it can; the disk is full at any byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/crash/crash.h"
#include "tests/crash/situation.h"

/* What can go wrong with a kind of call, and how tandem may end then. */
typedef struct {
    const char *kind, *what;
    int codes[4];     /* 0: no more */
    bool may_succeed; /* the same bytes are right too: nothing that counts depends on the call */
} failure;

static const failure FAILURES[] = {
    {"malloc", "ENOMEM", {71}, true}, /* a look whether there is more to read is taken again */
    {"calloc", "ENOMEM", {71}, true},
    {"realloc", "ENOMEM", {71}, false},
    {"aligned_alloc", "ENOMEM", {71}, false},
    {"strdup", "ENOMEM", {71}, false},
    {"asprintf", "ENOMEM", {71}, false},
    {"json", "ENOMEM", {71}, false},
    {"pthread_create", "EAGAIN", {71}, false},
    {"open", "EIO", {66, 73, 74}, true},
    {"open", "EMFILE", {66, 73, 74}, true},
    {"opendir", "EIO", {66, 73, 74}, false},
    {"close", "EIO", {74}, true},
    {"close", "EINTR", {0}, true},
    {"read", "EIO", {66, 74}, true},
    {"read", "EINTR", {0}, true},
    {"read", "short", {0}, true},
    {"pread", "EIO", {66, 74}, false},
    {"pread", "EINTR", {0}, true},
    {"pread", "short", {0}, true},
    {"mmap", "ENOMEM", {66, 71, 74}, false},
    {"write", "ENOSPC", {74}, false},
    {"write", "EIO", {74}, false},
    {"write", "EINTR", {0}, true},
    {"write", "short", {0}, true},
    {"pwrite", "ENOSPC", {74}, false},
    {"pwrite", "EIO", {74}, false},
    {"pwrite", "EINTR", {0}, true},
    {"pwrite", "short", {0}, true},
    {"ftruncate", "EIO", {74}, false},
    {"fsync", "EIO", {74}, false},
    {"fdatasync", "EIO", {74}, false},
    {"rename", "EIO", {74}, false},
    {"rename", "ENOSPC", {74}, false},
    {"link", "EIO", {74}, true}, /* OUT is copied then */
    {"link", "EPERM", {0}, true}, /* a file system where a file has only one name */
    {"unlink", "EIO", {74}, true},
    {"rmdir", "EIO", {74}, true},
    {"mkdir", "ENOSPC", {73, 74}, false},
    {"mkdir", "EACCES", {73}, false},
    {"fcntl", "EIO", {73, 74}, false},
};

typedef struct {
    long tries, met, survived;
} site_figures;

static bool is_among(const int codes[4], int code)
{
    for (int i = 0; i < 4 && codes[i]; i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* One line, by the command. AddressSanitizer's report would be many. */
static void expect_one_error_line(const run *r, const char *fault)
{
    tdm_buf said = {0};
    char start[64];
    load_stderr(r, &said);
    snprintf(start, sizeof start, "tandem %s: ", r->w->command);
    EXPECT(count_lines(&said) == 1 && said.len > strlen(start) &&
               !memcmp(said.p, start, strlen(start)),
           "%s: %s: not one line of error: %.*s", r->w->name, fault, (int)said.len, said.p);
    tdm_buf_free(&said);
}

static void fail_once(const situation *s, const call_site *site, const failure *f, long n,
                      site_figures *figures)
{
    char fault[96], list[PATH_CAP];
    run r = situation_try(s);
    snprintf(fault, sizeof fault, "%s:%ld:%s", site->name, n, f->what);
    scratch_path(list, "fired");
    remove_tree(list);
    r.fault = fault;
    r.list = list;
    const int code = run_to_end(&r);
    const bool met = fault_fired(&r) > 0;
    const bool succeeded = code == s->w->ref.code;
    figures->tries++;
    figures->met += met;
    figures->survived += met && succeeded;
    EXPECT(succeeded ? !met || f->may_succeed : is_among(f->codes, code), "%s %s: %s: exit %d",
           s->w->name, SITUATION_NAMES[s->kind], fault, code);
    if (succeeded)
        expect_same(s->w, r.out);
    else
        expect_one_error_line(&r, fault);
    expect_resume(&r);
}

/* The first call alone, or with several the first, the last and those between. */
static void fail_at_site(const situation *s, const call_site *site, const failure *f, long times,
                         site_figures *figures)
{
    if (times > site->calls)
        times = site->calls;
    for (long i = 0; i < times; i++)
        fail_once(s, site, f, 1 + (times > 1 ? i * (site->calls - 1) / (times - 1) : 0), figures);
}

/* Words that are kinds of calls choose among FAILURES; none means all. */
static bool is_wanted(const mode_args *args, const char *word)
{
    bool any = false;
    for (size_t i = 0; i < args->n_words; i++) {
        if (!strcmp(args->words[i], word))
            return true;
        for (size_t k = 0; k < COUNT(FAILURES); k++)
            any = any || !strcmp(args->words[i], FAILURES[k].kind);
    }
    return !any;
}

static void fail_in_situation(const workload *w, situation_kind kind, const mode_args *args)
{
    situation s;
    site_figures figures = {0};
    situation_make(&s, w, kind);
    for (size_t i = 0; i < s.n_sites; i++)
        for (size_t k = 0; k < COUNT(FAILURES); k++)
            if (site_is(&s.sites[i], FAILURES[k].kind) && is_wanted(args, FAILURES[k].kind))
                fail_at_site(&s, &s.sites[i], &FAILURES[k], args->n, &figures);
    printf("sites %s %s: %zu call sites, %ld failures, %ld met, %ld of them without effect: right "
           "code, one line, then identical\n",
           w->name, SITUATION_NAMES[kind], s.n_sites, figures.tries, figures.met, figures.survived);
    situation_free(&s);
}

/* Words that are workloads choose among them; without one, detect from plain files and generate to
 * gzip. */
static bool is_chosen(const mode_args *args, const char *name)
{
    bool any = false;
    for (size_t i = 0; i < args->n_words; i++) {
        if (!strcmp(args->words[i], name))
            return true;
        any = any || strchr(args->words[i], '-');
    }
    return !any && (!strcmp(name, "detect-plain") || !strcmp(name, "generate-gz"));
}

void mode_sites(const mode_args *args)
{
    for (size_t i = 0; i < N_WORKLOADS; i++)
        for (int kind = 0; kind < N_SITUATIONS; kind++)
            if (is_chosen(args, WORKLOADS[i].name))
                fail_in_situation(workload_at(i), (situation_kind)kind, args);
}

/* ---- full ---- */

static double slowest; /* seconds until a full disk ended a run */

static void expect_disk_full(const run *r, const char *where)
{
    tdm_buf said = {0};
    const double start = now();
    const int code = run_to_end(r);
    slowest = now() - start > slowest ? now() - start : slowest;
    load_stderr(r, &said);
    EXPECT(code == 74, "%s: %s: exit %d: %.*s", r->w->name, where, code, (int)said.len, said.p);
    expect_one_error_line(r, where);
    tdm_buf_free(&said);
}

/* The wrapped calls have no room behind a byte: it works everywhere, to the byte. */
static void fill_by_faults(const workload *w, long n)
{
    const size_t all = w->ref.out.len + w->ref.errors.len;
    for (long i = 0; i < n; i++) {
        char fault[64];
        run r = {.w = w, .out = try_out(w), .fault = fault};
        snprintf(fault, sizeof fault, "full:%zu", all * (size_t)i / (size_t)n);
        expect_disk_full(&r, fault);
        expect_resume(&r);
    }
    printf("full %s: disk full at %ld bytes of %zu: exit 74, then identical\n", w->name, n, all);
}

/* A tmpfs of the driver's own that grows from page to page. False: mounting is not allowed here. */
static bool mount_small(const char *folder, size_t bytes, unsigned long flags)
{
    char size[64];
    snprintf(size, sizeof size, "size=%zu", bytes);
    return mount("none", folder, "tmpfs", flags, size) == 0;
}

static void fill_tmpfs(const workload *w, long n)
{
    char folder[PATH_CAP];
    const size_t all = 3 * (w->ref.out.len + w->ref.errors.len);
    long full = 0;
    scratch_path(folder, "try");
    for (long i = 0; i < n; i++) {
        const run r = {.w = w, .out = try_out(w)};
        if (!mount_small(folder, 4096 * (1 + all / 4096 * (size_t)i / (size_t)n), 0)) {
            printf("full %s: no tmpfs of its own: %s\n", w->name, strerror(errno));
            return;
        }
        if (run_to_end(&r) != w->ref.code) {
            full++;
            expect_disk_full(&r, "a small tmpfs");
        }
        EXPECT(mount_small(folder, (size_t)64 << 20, MS_REMOUNT), "%s", strerror(errno));
        expect_resume(&r);
        EXPECT(umount(folder) == 0, "%s", strerror(errno));
    }
    printf("full %s: a tmpfs of %ld sizes, full in %ld: exit 74, then identical\n", w->name, n,
           full);
}

void mode_full(const mode_args *args)
{
    static const char *const NAMES[] = {"detect-plain", "generate-zst"};
    const bool may_mount =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    for (size_t i = 0; i < COUNT(NAMES); i++) {
        workload *w = workload_get(NAMES[i]);
        fill_by_faults(w, args->n);
        if (may_mount)
            fill_tmpfs(w, args->n);
    }
    printf("full: the slowest of these ends took %.2f s\n", slowest);
}
