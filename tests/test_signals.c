/* Signals that stop a run: the first is remembered, the second kills, but not a worker of --devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/signals.c"

/* How a process ends that gets two signals; as a worker, which was forked when the first had come already. */
static int end_of_two(bool is_worker)
{
    int how = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        const tdm_stop *stop = signals_catch();
        raise(SIGTERM);
        if (is_worker)
            signals_only_from(getpid());
        raise(SIGTERM);
        _exit(tdm_stopped(stop) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return how;
}

static void test_two_signals(void **state)
{
    (void)state;
    const int alone = end_of_two(false), worker = end_of_two(true);
    assert_true(WIFSIGNALED(alone) && WTERMSIG(alone) == SIGTERM);
    assert_true(WIFEXITED(worker) && WEXITSTATUS(worker) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_signals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
