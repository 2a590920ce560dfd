/* tests/test_threads.c - every item exactly once, whatever the numbers; meant to run under
 * ThreadSanitizer too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/threads.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static tdm_threads *open_threads(int n)
{
    tdm_threads *t = NULL;
    tdm_err err = {0};
    if (tdm_threads_open(n, &t, &err))
        fail_msg("%s", err.msg);
    return t;
}

static void count_item(void *ctx, size_t i)
{
    ((int *)ctx)[i]++; /* not atomic: an item belongs to one thread */
}

static void each_item_once(void **state)
{
    (void)state;
    enum { MOST = 1000 };
    int counts[MOST];
    for (int threads = 1; threads <= 9; threads++) {
        tdm_threads *t = open_threads(threads);
        assert_int_equal(tdm_threads_count(t), threads);
        for (size_t n = 0; n <= MOST; n = n < 20 ? n + 1 : n * 7 / 2) {
            memset(counts, 0, sizeof counts);
            tdm_parallel(t, n, count_item, counts);
            for (size_t i = 0; i < MOST; i++)
                assert_int_equal(counts[i], i < n);
        }
        tdm_threads_close(t);
    }
}

/* Each loop reads what the one before wrote, on whichever thread. */
static void add_neighbour(void *ctx, size_t i)
{
    const uint64_t *from = ((uint64_t **)ctx)[0];
    uint64_t *to = ((uint64_t **)ctx)[1];
    to[i] = from[i] + from[i ? i - 1 : 0];
}

static void loops_follow_each_other(void **state)
{
    (void)state;
    enum { N = 16, LOOPS = 20000 };
    uint64_t a[N] = {1}, b[N] = {0}, want[N] = {1}, next[N];
    uint64_t *want_pair[] = {want, next};
    for (int loop = 0; loop < LOOPS; loop++) {
        for (size_t i = 0; i < N; i++)
            add_neighbour(want_pair, i);
        memcpy(want, next, sizeof want);
    }
    tdm_threads *t = open_threads(3);
    uint64_t *pairs[2][2] = {{a, b}, {b, a}};
    for (int loop = 0; loop < LOOPS; loop++)
        tdm_parallel(t, N, add_neighbour, pairs[loop % 2]);
    tdm_threads_close(t);
    assert_memory_equal(a, want, sizeof a);
}

/* Helpers that have gone to sleep are woken; several sets of threads do not disturb each other. */
static void sleepers_are_woken(void **state)
{
    (void)state;
    int counts[50];
    tdm_threads *sets[] = {open_threads(2), open_threads(4)};
    for (int i = 0; i < 20; i++) {
        const struct timespec pause = {0, 2000000};
        nanosleep(&pause, NULL);
        for (int j = 0; j < 2; j++) {
            memset(counts, 0, sizeof counts);
            tdm_parallel(sets[j], 50, count_item, counts);
            for (size_t k = 0; k < 50; k++)
                assert_int_equal(counts[k], 1);
        }
    }
    tdm_threads_close(sets[0]);
    tdm_threads_close(sets[1]);
}

/* Both threads must come for the loop to end, and the loop may not end before both are done. */
typedef struct {
    _Atomic int arrived;
    int done[2];
} meeting;

static void meet(void *ctx, size_t i)
{
    meeting *m = ctx;
    const struct timespec pause = {0, 100000};
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < 2)
        nanosleep(&pause, NULL);
    for (size_t j = 0; j < 10 * i; j++) /* item 1 comes late */
        nanosleep(&pause, NULL);
    m->done[i] = 1;
}

static void helpers_do_take_part(void **state)
{
    (void)state;
    tdm_threads *t = open_threads(2);
    for (int i = 0; i < 20; i++) {
        meeting m = {0};
        tdm_parallel(t, 2, meet, &m);
        assert_true(m.done[0] && m.done[1]);
    }
    tdm_threads_close(t);
}

static void idle_threads_do_not_burn(void **state)
{
    (void)state;
    int counts[8] = {0};
    tdm_threads *t = open_threads(2);
    tdm_parallel(t, 8, count_item, counts);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const struct timespec pause = {0, 300000000};
    nanosleep(&pause, NULL);
    getrusage(RUSAGE_SELF, &after);
    const long used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                      after.ru_utime.tv_usec - before.ru_utime.tv_usec;
    assert_true(used < 100000); /* microseconds of processor time in 300 ms of rest */
    tdm_threads_close(t);
}

static void bad_numbers(void **state)
{
    (void)state;
    tdm_threads *t = NULL;
    tdm_err err = {0};
    assert_int_equal(tdm_threads_open(-1, &t, &err), TDM_EARG);
    assert_null(t);
    assert_int_equal(tdm_threads_open(1025, &t, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "1025"));
    tdm_threads_close(NULL);
    t = open_threads(0);
    assert_true(tdm_threads_count(t) >= 1);
    tdm_threads_close(t);
}

/* No room for the stacks: a status, and the threads that did start are gone. */
static void threads_that_cannot_start(void **state)
{
    (void)state;
    if (SANITIZED)
        skip(); /* a sanitizer's own memory is beyond any limit */
    const pid_t child = fork();
    if (!child) {
        const struct rlimit limit = {256u << 20, 256u << 20};
        tdm_threads *t = NULL;
        tdm_err err = {0};
        if (setrlimit(RLIMIT_AS, &limit))
            _exit(1);
        _exit(tdm_threads_open(1000, &t, &err) == TDM_ENOMEM && !t && strstr(err.msg, "of 1000")
                  ? 0 : 2);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_once),
        cmocka_unit_test(loops_follow_each_other),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(helpers_do_take_part),
        cmocka_unit_test(idle_threads_do_not_burn),
        cmocka_unit_test(bad_numbers),
        cmocka_unit_test(threads_that_cannot_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
