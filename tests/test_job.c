/* A job is made, goes on, is complete, and refuses what is not it. */
#include "tests/job_subject.h"

static void test_at_once(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL);
    check_complete();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_at_once, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
