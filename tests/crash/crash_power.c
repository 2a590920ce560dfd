/* power: runs are traced, and what a loss of power may leave is made and looked at, behind each of
 * their calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/crash.h"
#include "tests/crash/journal.h"
#include "tests/crash/power_model.h"
#include "tests/crash/situation.h"

/* What is traced: one process; the next one behind a process that was killed; the second of two
 * ranks; the next one behind a loss of power. */
typedef enum { ALONE, RESUMED, SECOND_RANK, BEHIND_A_LOSS, N_STORIES } story;
static const char *const STORIES[] = {"alone", "resumed", "second rank", "behind a loss"};

typedef struct {
    const workload *w;
    char out[PATH_CAP], folder[PATH_CAP], trace[PATH_CAP];
    power_log log;
    power_disk disk; /* before the first event */
    long states, whole, resumed,
        journaled; /* journaled: chunks that had to be there, summed over all states */
} power_run;

/* ---- traces ---- */

static void new_try(power_run *p)
{
    snprintf(p->out, sizeof p->out, "%s", try_out(p->w));
}

/* From what is in the folder now, to the end. */
static void trace_run(power_run *p, run r)
{
    remove_tree(p->trace);
    power_disk_open(&p->disk, p->folder);
    r.trace = p->trace;
    const int code = run_to_end(&r);
    EXPECT(code == p->w->ref.code, "a traced run: exit %d", code);
    expect_same(p->w, p->out);
    power_log_load(&p->log, p->trace);
}

static void close_trace(power_run *p)
{
    power_disk_free(&p->disk);
    power_log_free(&p->log);
}

static power_loss random_loss(void)
{
    static const double SHARES[] = {0, 0.1, 0.5, 0.9, 1};
    static const size_t BLOCKS[] = {512, 4096};
    return (power_loss){.share = SHARES[random_below(COUNT(SHARES))],
                        .block = BLOCKS[random_below(COUNT(BLOCKS))],
                        .garbage = random_below(2)};
}

/* Leave in the folder what a loss of power amid a whole run may leave. */
static void lose_power_once(power_run *p)
{
    const power_loss how = {.share = 0.5, .block = 512};
    trace_run(p, (run){.w = p->w, .out = p->out});
    const size_t at = p->log.n / 3 + random_below(p->log.n / 3);
    for (size_t i = 0; i < at; i++)
        power_disk_do(&p->disk, &p->log.events[i]);
    new_try(p);
    power_disk_lose(&p->disk, &how, p->folder);
    close_trace(p);
}

static void trace_story(power_run *p, story s)
{
    scratch_path(p->trace, "trace");
    scratch_path(p->folder, "try");
    new_try(p);
    run r = {.w = p->w, .out = p->out};
    if (s == RESUMED)
        run_until_torn(&r);
    if (s == SECOND_RANK) {
        r.shards = 2;
        const int code = run_to_end(&r);
        EXPECT(is_done(p->w, code), "rank 0 of 2: exit %d", code);
        r.shard = 1;
    }
    if (s == BEHIND_A_LOSS)
        lose_power_once(p);
    trace_run(p, r);
}

/* ---- states ---- */

/* Chunks whose journal lines had been brought to the disk. A journal that a loss of power left may
 * have lines behind a bad one, which do not count. */
static size_t journaled(const power_run *p, int rank)
{
    char job[64], name[64];
    snprintf(job, sizeof job, "%s.job", strrchr(p->out, '/') + 1);
    snprintf(name, sizeof name, "%d.journal", rank);
    const power_node *n = power_disk_find(&p->disk, job, name);
    return n ? journal_good_lines(&n->kept) : 0;
}

/* OUT has its name: then it is whole, and so is what lies beside it. */
static void expect_whole(const power_run *p)
{
    char path[PATH_CAP];
    tdm_buf got = {0};
    EXPECT(load(p->out, &got) && got.len == p->w->ref.out.len &&
               !memcmp(got.p, p->w->ref.out.p, got.len),
           "OUT has its name and is not whole");
    beside(path, p->out, ".errors.jsonl");
    EXPECT(load(path, &got) && got.len == p->w->ref.errors.len, "OUT is there before its errors");
    beside(path, p->out, ".manifest.json");
    EXPECT(load(path, &got) && got.len == p->w->ref.counts.len - 1,
           "OUT is there before its manifest");
    tdm_buf_free(&got);
}

/* To the end, at times by way of a process of another number that is killed too. */
static void go_on(const power_run *p)
{
    char fault[32];
    snprintf(fault, sizeof fault, "pwrite:%d:torn", (int)(3 + random_below(12)));
    run r = {.w = p->w, .out = p->out, .fault = fault, .shard = (int)random_below(2), .shards = 2};
    if (random_below(2)) {
        const int code = run_to_end(&r);
        EXPECT(code == -9 || is_done(p->w, code), "rank %d of 2: exit %d", r.shard, code);
    }
    r.shard = r.shards = 0;
    expect_resume(&r);
}

static void check_state(power_run *p, bool resume)
{
    p->states++;
    if (access(p->out, F_OK) == 0) {
        expect_whole(p);
        p->whole++;
    } else {
        for (int rank = 0; rank < 2; rank++) {
            const size_t n = journaled(p, rank);
            journal_verify(p->out, rank, n);
            p->journaled += (long)n;
        }
    }
    if (!resume)
        return;
    p->resumed++;
    go_on(p);
}

/* States behind each call, `all` of them in the whole run; of `one_of` one is gone on with. */
static void lose_power(power_run *p, long all, long one_of)
{
    const long n = (long)p->log.n;
    for (long i = 0; i < n; i++) {
        power_disk_do(&p->disk, &p->log.events[i]);
        for (long k = all * i / n; k < all * (i + 1) / n; k++) {
            const power_loss how = random_loss();
            new_try(p);
            power_disk_lose(&p->disk, &how, p->folder);
            check_state(p, k % one_of == 0);
        }
    }
}

/* Several traces for each story: which chunks share a round of writing is another each time. */
static void tell_story(const workload *w, story s, long states, long one_of)
{
    enum { TRACES = 4 };
    power_run p = {.w = w};
    size_t calls = 0;
    for (int i = 0; i < TRACES; i++) {
        trace_story(&p, s);
        calls += p.log.n;
        lose_power(&p, (states + TRACES - 1) / TRACES, one_of);
        close_trace(&p);
    }
    printf("power %s, %s: %zu calls, %ld states: no journaled chunk of %ld lost, OUT whole in the "
           "%ld that have it; %ld gone on with: identical\n",
           w->name, STORIES[s], calls, p.states, p.journaled, p.whole, p.resumed);
}

/* A word that is a number: of so many states one is gone on with to the end. */
void mode_power(const mode_args *args)
{
    static const char *const NAMES[] = {"detect-plain", "generate-gz"};
    const long one_of = args->n_words ? atol(args->words[0]) : 10;
    const long each = args->n / (long)(COUNT(NAMES) * N_STORIES);
    for (size_t i = 0; i < COUNT(NAMES); i++)
        for (int s = 0; s < N_STORIES; s++)
            tell_story(workload_get(NAMES[i]), (story)s, each, one_of);
}
