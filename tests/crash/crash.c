/* tests/crash/crash.c - kills, fails and interrupts tandem, and looks whether the promise holds:
 * the same bytes.
 *
 *   crash TANDEM_FAULTS SOURCE_FOLDER MODE [N [WORD...]]
 *
 * One line per figure on stdout. All seeds are fixed; with TDM_SEED in the environment they are
 * others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/crash.h"
#include "tests/crash/workload.h"

typedef struct {
    const char *name;
    void (*fn)(const mode_args *args);
    long n; /* unless given */
    const char *what;
} mode;

static const mode MODES[] = {
    {"kill", mode_kill, 10, "SIGKILL at N random instants of each workload"},
    {"points", mode_points, 1,
     "SIGKILL before, behind and inside each call that changes files, N times each"},
    {"sites", mode_sites, 1,
     "each call site fails; N 1: the first call; 3: the first, the middle, the last"},
    {"full", mode_full, 5, "the disk is full at N places"},
    {"damage", mode_damage, 20, "N cuts and N flipped bits of compressed inputs"},
    {"signals", mode_signals, 10, "N signals at random instants"},
    {"elastic", mode_elastic, 3,
     "N sequences of 1 to 8 processes, killed, and gone on with by another number"},
    {"second", mode_second, 1, "a second process at the same output, N times"},
    {"power", mode_power, 500, "N states that a loss of power may leave"},
};

static int usage(void)
{
    fprintf(stderr, "usage: crash TANDEM_FAULTS SOURCE_FOLDER MODE [N [WORD...]]\n");
    for (size_t i = 0; i < COUNT(MODES); i++)
        fprintf(stderr, "  %-8s %s\n", MODES[i].name, MODES[i].what);
    return 2;
}

static void make_scratch(void)
{
    const char *tmp = getenv("TMPDIR");
    if (!tmp) /* memory, where there is some: the more of its time a run is at work, not waiting for
                 a disk */
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch, PATH_CAP, "%s/tandem-crash.XXXXXX", tmp);
    EXPECT(mkdtemp(scratch), "%s: %s", scratch, strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return usage();
    program = argv[1];
    source = argv[2];
    const char *seed = getenv("TDM_SEED");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < COUNT(MODES); i++) {
        const mode *m = &MODES[i];
        if (strcmp(argv[3], m->name) != 0)
            continue;
        const mode_args args = {.n = argc > 4 ? atol(argv[4]) : m->n,
                                .words = (const char *const *)argv + 5,
                                .n_words = argc > 5 ? (size_t)argc - 5 : 0};
        random_state = seed ? strtoull(seed, NULL, 10) : i + 1;
        make_scratch();
        m->fn(&args);
        workloads_free();
        remove_tree(scratch);
        return 0;
    }
    return usage();
}
