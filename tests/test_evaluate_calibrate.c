/* Calibration: bins, errors, sums that do not drift, what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/evaluate.h"
#include "host/rng.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void near(const char *what, double got, double want)
{
    if (!(fabs(got - want) <= 1e-15) && !(isnan(got) && isnan(want)))
        fail_msg("%s is %.17g, want %.17g", what, got, want);
}

static void test_calibration(void **state)
{
    (void)state;
    const double scores[] = {0, 0.05, 0.1, 0.3, 0.7, 0.75, 1, 0.95, NAN};
    const uint8_t machine[] = {0, 1, 0, 0, 1, 0, 1, 1, 0}, wanted[] = {1, 1, 1, 1, 1, 1, 1, 1, 0};
    static const int64_t N[TDM_CALIBRATION_BINS] = {2, 1, 0, 1, 0, 0, 0, 2, 0, 2};
    const tdm_scored set = {scores, machine, wanted, COUNT(scores)};
    tdm_calibration c;
    assert_int_equal(tdm_calibrate(&set, &c, NULL), TDM_OK);
    for (int b = 0; b < TDM_CALIBRATION_BINS; b++)
        assert_int_equal(c.bins[b].n, N[b]);
    near("bin 0: mean score", c.bins[0].mean_score, 0.025);
    near("bin 0: machines", c.bins[0].machine, 0.5);
    near("bin 2: mean score", c.bins[2].mean_score, NAN);
    near("bin 2: machines", c.bins[2].machine, NAN);
    near("bin 7: mean score", c.bins[7].mean_score, 0.725);
    near("all: ECE", c.ece, (2 * 0.475 + 0.1 + 0.3 + 2 * 0.225 + 2 * 0.025) / 8);
    near("all: MCE", c.mce, 0.475);
    near("all: Brier", c.brier, (0.95 * 0.95 + 0.01 + 0.09 + 0.09 + 0.75 * 0.75 + 0.05 * 0.05) / 8);
}

static void test_order_does_not_matter(void **state)
{
    (void)state;
    enum { N = 1000 };
    double scores[N], turned[N];
    uint8_t machine[N], machine_turned[N];
    tdm_calibration c, d;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t w[4];
        tdm_philox((uint32_t[4]){i, 0, 0, 0}, 1, w);
        scores[i] = turned[N - 1 - i] = pow(tdm_word_uniform(w[0]), 5);
        machine[i] = machine_turned[N - 1 - i] = w[1] & 1;
    }
    assert_int_equal(tdm_calibrate(&(tdm_scored){scores, machine, NULL, N}, &c, NULL), TDM_OK);
    assert_int_equal(tdm_calibrate(&(tdm_scored){turned, machine_turned, NULL, N}, &d, NULL), TDM_OK);
    assert_memory_equal(&c, &d, sizeof c);
}

static void test_calibration_refused(void **state)
{
    (void)state;
    const double bad[] = {-0x1p-1074, 1 + 0x1p-52, NAN, INFINITY};
    const uint8_t machine[] = {0, 1}, none[] = {0, 0};
    tdm_calibration c;
    tdm_err err = {0};
    for (size_t i = 0; i < COUNT(bad); i++) {
        const double scores[] = {0.5, bad[i]};
        assert_int_equal(tdm_calibrate(&(tdm_scored){scores, machine, NULL, 2}, &c, &err), TDM_EFORMAT);
        assert_non_null(strstr(err.msg, "score 1 is "));
        assert_int_equal(tdm_calibrate(&(tdm_scored){scores, machine, none, 2}, &c, &err), TDM_EFORMAT);
        assert_string_equal(err.msg, "no text to calibrate with");
    }
}

/* A million equal scores: a plain sum would be off by 1e-11 of itself. */
static void test_calibration_is_exact(void **state)
{
    (void)state;
    enum { N = 1000000 };
    double *scores = malloc(N * sizeof *scores);
    uint8_t *machine = calloc(N, 1);
    tdm_calibration c;
    assert_true(scores && machine);
    for (size_t i = 0; i < N; i++)
        scores[i] = 0.1;
    assert_int_equal(tdm_calibrate(&(tdm_scored){scores, machine, NULL, N}, &c, NULL), TDM_OK);
    near("equal: mean score", c.bins[1].mean_score, 0.1);
    near("equal: Brier", c.brier, 0.01);
    free(scores);
    free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_calibration_refused),
        cmocka_unit_test(test_calibration_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
