/* Which call is to fail, and how often each call site was passed. Nothing here allocates: malloc
 * itself is among the calls. */
#include "tests/crash/faults.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const FAULT_NAMES[] = {
#define X(name, sort) #name,
    FAULT_KINDS(X)
#undef X
};

typedef enum { SORT_ALLOC, SORT_THREAD, SORT_FILE } call_sort;
static const call_sort SORTS[] = {
#define X(name, sort) SORT_##sort,
    FAULT_KINDS(X)
#undef X
};

/* The plan of TDM_FAULT. */
static struct {
    bool is_on, on_kind, on_site, onwards;
    fault_kind kind;
    int sort; /* of "alloc" and "file"; -1: not by sort */
    uintptr_t site;
    int64_t n;
    bool kill, torn, stop;
    fault what;
} plan = {.sort = -1};

static atomic_llong n_met, n_fired;
static bool is_filling;
static atomic_llong room; /* bytes until the disk is full */

/* ---- call sites ---- */

enum { SITES = 1 << 13 }; /* an open hash table; a program of this size has less than a thousand */

typedef struct {
    _Atomic uintptr_t key; /* site x N_FAULT_KINDS + kind; 0: free */
    atomic_llong calls;
} call_site;

static call_site sites[SITES];
static atomic_bool is_counting;

extern const char __executable_start;
/* Calls from here are wrapped too, unless they go by these names. */
void *__real_malloc(size_t n);
int __real_open64(const char *path, int flags, ...);

/* The address in the file, whatever the place in memory: what addr2line wants. */
static uintptr_t in_image(const void *site)
{
    return (uintptr_t)site - (uintptr_t)&__executable_start;
}

static void count(fault_kind kind, uintptr_t site)
{
    const uintptr_t key = site * N_FAULT_KINDS + kind;
    for (size_t i = key * 0x9e3779b97f4a7c15u >> 51;; i = (i + 1) % SITES) {
        uintptr_t found = atomic_load(&sites[i].key);
        if (found == 0 && atomic_compare_exchange_strong(&sites[i].key, &found, key))
            found = key;
        if (found == key) {
            atomic_fetch_add(&sites[i].calls, 1);
            return;
        }
    }
}

__attribute__((destructor)) static void list_sites(void)
{
    const char *path = getenv("TDM_FAULT_LIST");
    const int fd = path ? __real_open64(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (fd < 0)
        return;
    for (size_t i = 0; i < SITES; i++) {
        const uintptr_t key = atomic_load(&sites[i].key);
        if (key)
            dprintf(fd, "%s@0x%" PRIxPTR " %lld\n", FAULT_NAMES[key % N_FAULT_KINDS],
                    key / N_FAULT_KINDS, atomic_load(&sites[i].calls));
    }
    dprintf(fd, "fired %lld\n", atomic_load(&n_fired));
}

/* ---- the plan ---- */

static bool is_meant(fault_kind kind, uintptr_t site)
{
    if (plan.sort >= 0)
        return SORTS[kind] == (call_sort)plan.sort;
    return plan.kind == kind && (!plan.on_site || plan.site == site);
}

_Noreturn static void die_now(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Whether the file of TDM_FAULT_WHILE is there, if one is named. */
static bool is_while(void)
{
    const char *path = getenv("TDM_FAULT_WHILE");
    return !path || access(path, F_OK) == 0;
}

fault fault_meet(fault_kind kind, const void *site)
{
    if (atomic_load(&is_counting))
        count(kind, in_image(site));
    if (!plan.is_on || !is_meant(kind, in_image(site)))
        return (fault){0};
    const int64_t n = atomic_fetch_add(&n_met, 1) + 1;
    if (n < plan.n || (n > plan.n && !plan.onwards))
        return (fault){0};
    atomic_fetch_add(&n_fired, 1);
    if (plan.kill)
        die_now();
    if (plan.stop && is_while())
        kill(getpid(), SIGSTOP);
    return plan.what;
}

void fault_behind(fault f)
{
    if (f.kill_after)
        die_now();
}

size_t fault_room(int fd, size_t n)
{
    struct stat info;
    if (!is_filling || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return n;
    const long long left = atomic_fetch_sub(&room, (long long)n);
    if (left >= (long long)n)
        return n;
    atomic_fetch_add(&n_fired, 1);
    return left > 0 ? (size_t)left : 0;
}

bool fault_is_full(void)
{
    return is_filling && atomic_load(&room) <= 0;
}

/* ---- TDM_FAULT ---- */

_Noreturn static void refuse(const char *text)
{
    dprintf(STDERR_FILENO, "TDM_FAULT=%s: want KIND:N:WHAT (tests/crash/faults.h)\n", text);
    _exit(99);
}

static int errno_of(const char *name)
{
    for (int e = 1; e < 134; e++)
        if (strerrorname_np(e) && !strcmp(strerrorname_np(e), name))
            return e;
    return 0;
}

static bool read_kind(char *text)
{
    char *at = strchr(text, '@');
    if (at) {
        *at = '\0';
        plan.on_site = true;
        plan.site = (uintptr_t)strtoull(at + 1, NULL, 16);
    }
    if (!strcmp(text, "alloc") || !strcmp(text, "file")) {
        plan.sort = *text == 'a' ? SORT_ALLOC : SORT_FILE;
        return true;
    }
    for (int i = 0; i < N_FAULT_KINDS; i++)
        if (!strcmp(text, FAULT_NAMES[i])) {
            plan.kind = (fault_kind)i;
            return true;
        }
    return false;
}

static bool read_what(const char *text)
{
    plan.kill = !strcmp(text, "kill");
    plan.torn = !strcmp(text, "torn");
    plan.stop = !strcmp(text, "stop");
    plan.what.kill_after = plan.torn || !strcmp(text, "kill-after");
    plan.what.halve = plan.torn || !strcmp(text, "short");
    plan.what.error = errno_of(text);
    return plan.kill || plan.stop || plan.what.kill_after || plan.what.halve || plan.what.error;
}

/* All of cJSON is one site: it lies in a library whose place changes from run to run. */
static void *json_malloc(size_t n)
{
    const fault f = fault_meet(FAULT_json, &__executable_start);
    return f.error ? NULL : __real_malloc(n);
}

__attribute__((constructor)) static void read_plan(void)
{
    static char copy[256];
    cJSON_InitHooks(&(cJSON_Hooks){json_malloc, free});
    atomic_store(&is_counting, getenv("TDM_FAULT_LIST") != NULL);
    const char *text = getenv("TDM_FAULT");
    if (!text)
        return;
    if (!strncmp(text, "full:", 5)) {
        is_filling = true;
        atomic_store(&room, strtoll(text + 5, NULL, 10));
        return;
    }
    snprintf(copy, sizeof copy, "%s", text);
    char *n = strchr(copy, ':'), *what = n ? strchr(n + 1, ':') : NULL;
    if (!what)
        refuse(text);
    *n++ = '\0';
    *what++ = '\0';
    char *end = NULL;
    plan.n = strtoll(n, &end, 10);
    plan.onwards = *end == '+';
    if (plan.n < 1 || !read_kind(copy) || !read_what(what))
        refuse(text);
    plan.is_on = true;
}
