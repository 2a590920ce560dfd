/* power: runs are traced, and what a loss of power may leave is made and looked at, behind each of their calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/crash/crash.h"
#include "tests/crash/journal.h"
#include "tests/crash/power_model.h"
#include "tests/crash/situation.h"

/* How a traced run goes: one process; a killed one and the next; two ranks one behind the other. */
typedef enum { ALONE, RESUMED, TWO_RANKS, N_STORIES } story;
static const char *const STORIES[] = {"alone", "resumed", "two ranks"};

typedef struct {
    const workload *w;
    story story;
    char out[PATH_CAP], folder[PATH_CAP];
    power_log log;
    uint64_t root; /* inode of OUT's folder */
    long states, whole, resumed, journaled; /* journaled: chunks that had to be there, summed over all states */
} power_run;

static void trace_story(power_run *p)
{
    char trace[PATH_CAP];
    struct stat info;
    scratch_path(trace, "trace");
    scratch_path(p->folder, "try");
    snprintf(p->out, sizeof p->out, "%s", try_out(p->w));
    remove_tree(trace);
    run r = {.w = p->w, .out = p->out, .trace = trace};
    if (p->story == RESUMED) {
        run_until_torn(&r);
    } else if (p->story == TWO_RANKS) {
        r.shards = 2;
        const int code = run_to_end(&r);
        EXPECT(code == 0 || code == 3, "rank 0 of 2: exit %d", code);
        r.shard = 1;
    }
    const int code = run_to_end(&r);
    EXPECT(code == p->w->ref.code, "a traced run: exit %d", code);
    expect_same(p->w, p->out);
    EXPECT(stat(p->folder, &info) == 0, "%s is not there", p->folder);
    p->root = (uint64_t)info.st_ino;
    power_log_load(&p->log, trace);
}

/* Chunks whose journal lines had been brought to the disk. */
static size_t journaled(const power_run *p, const power_disk *d, int rank)
{
    char job[64], name[64];
    snprintf(job, sizeof job, "%s.job", strrchr(p->out, '/') + 1);
    snprintf(name, sizeof name, "%d.journal", rank);
    const power_node *n = power_disk_find(d, job, name);
    const size_t lines = n ? count_lines(&n->kept) : 0;
    return lines ? lines - 1 : 0; /* the first line is about the journal */
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
    EXPECT(load(path, &got) && got.len == p->w->ref.counts.len - 1, "OUT is there before its manifest");
    tdm_buf_free(&got);
}

static void check_state(power_run *p, const power_disk *d, bool resume)
{
    p->states++;
    if (access(p->out, F_OK) == 0) {
        expect_whole(p);
        p->whole++;
    } else {
        for (int rank = 0; rank < 2; rank++) {
            const size_t n = journaled(p, d, rank);
            journal_verify(p->out, rank, n);
            p->journaled += (long)n;
        }
    }
    if (!resume)
        return;
    const run r = {.w = p->w, .out = p->out};
    p->resumed++;
    expect_resume(&r);
}

static power_loss random_loss(void)
{
    static const double SHARES[] = {0, 0.1, 0.5, 0.9, 1};
    static const size_t BLOCKS[] = {512, 4096};
    return (power_loss){.share = SHARES[random_below(COUNT(SHARES))],
                        .block = BLOCKS[random_below(COUNT(BLOCKS))],
                        .garbage = random_below(2)};
}

/* States behind each call, `all` of them in the whole run; of `one_of` one is gone on with. */
static void lose_power(power_run *p, long all, long one_of)
{
    power_disk d;
    const long n = (long)p->log.n;
    power_disk_open(&d, p->root);
    for (long i = 0; i < n; i++) {
        power_disk_do(&d, &p->log.events[i]);
        for (long k = all * i / n; k < all * (i + 1) / n; k++) {
            const power_loss how = random_loss();
            try_out(p->w); /* an empty folder */
            power_disk_lose(&d, &how, p->folder);
            check_state(p, &d, k % one_of == 0);
        }
    }
    power_disk_free(&d);
}

/* A word that is a number: of so many states one is gone on with to the end. */
void mode_power(const mode_args *args)
{
    static const char *const NAMES[] = {"detect-plain", "generate-gz"};
    const long one_of = args->n_words ? atol(args->words[0]) : 10;
    const long each = args->n / (long)(COUNT(NAMES) * N_STORIES);
    for (size_t i = 0; i < COUNT(NAMES); i++)
        for (int s = 0; s < N_STORIES; s++) {
            power_run p = {.w = workload_get(NAMES[i]), .story = (story)s};
            trace_story(&p);
            lose_power(&p, each, one_of);
            printf("power %s, %s: %zu calls, %ld states: no journaled chunk of %ld lost, OUT whole in the %ld "
                   "that have it; %ld gone on with: identical\n",
                   p.w->name, STORIES[s], p.log.n, p.states, p.journaled, p.whole, p.resumed);
            power_log_free(&p.log);
        }
}
