/* What a worker of --devices says to the first process of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tools/supervise_line.c"
#include "tools/supervise_worker.c"

double supervise_clock(void)
{
    return 1000;
}

/* What it reads that others have done is a sign of life, but not more than a few times a second. */
static void test_passing_is_a_sign(void **state)
{
    (void)state;
    static const int DEVICE = 4;
    line_message m;
    int fd[2];
    assert_int_equal(line_open(fd, NULL), TDM_OK);
    worker *w = worker_become(fd[1], 0, 1, &DEVICE, 1, false);
    const tdm_job_turns *turns = worker_turns(w);
    turns->passed(turns->ctx);
    turns->passed(turns->ctx);
    turns->waiting(turns->ctx, true);
    assert_true(line_receive(fd[0], &m));
    assert_int_equal(m.kind, LINE_NOTE);
    assert_true(line_receive(fd[0], &m));
    assert_int_equal(m.kind, LINE_DISK);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_passing_is_a_sign)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
