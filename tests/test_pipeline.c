/* The pipeline: order, few windows, no hang and no loss wherever a step fails. */
#include "host/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MOST_WINDOWS = 5, NEVER = -1 };

typedef struct {
    int number;   /* of the window in the stream */
    bool is_full; /* filled and not yet emptied */
    bool is_done; /* worked on */
} window;

/* Threads cannot use cmocka's assertions: what they see is kept here. Each field belongs to one step. */
typedef struct {
    int n_windows, n_items; /* windows that go round; windows of the stream */
    int fill_fails, work_fails, empty_fails; /* number of the window at which */
    bool fill_waits; /* behind the last window the input is silent: only the stop flag ends it */
    int pace;        /* who is slow: 0 nobody, 1 fill, 2 work, 3 empty */
    window windows[MOST_WINDOWS];
    tdm_stop stop;
    int n_filled, n_emptied;
    bool refilled, out_of_order; /* a full window was filled; windows were emptied in another order */
} job;

static void nap(void)
{
    static const struct timespec A_LITTLE = {.tv_nsec = 50000};
    nanosleep(&A_LITTLE, NULL);
}

static void dawdle(const job *j, int who)
{
    if (j->pace == who)
        nap();
}

static tdm_status fill(void *ctx, tdm_pipeline *line, void *place, bool *at_end, tdm_err *err)
{
    job *j = ctx;
    window *w = place;
    (void)line;
    dawdle(j, 1);
    if (j->n_filled == j->fill_fails)
        return tdm_fail(err, TDM_EIO, "window %d cannot be filled", j->n_filled);
    for (; j->fill_waits && j->n_filled == j->n_items - 1; nap())
        if (tdm_stopped(&j->stop))
            return tdm_fail(err, TDM_ESTOPPED, "the input is silent");
    j->refilled = j->refilled || w->is_full;
    *w = (window){.number = j->n_filled++, .is_full = true};
    *at_end = j->n_filled == j->n_items;
    return TDM_OK;
}

static tdm_status empty(void *ctx, void *place, tdm_err *err)
{
    job *j = ctx;
    window *w = place;
    dawdle(j, 3);
    if (w->number == j->empty_fails)
        return tdm_fail(err, TDM_ECANTCREATE, "window %d cannot be emptied", w->number);
    j->out_of_order = j->out_of_order || w->number != j->n_emptied || !w->is_done;
    j->n_emptied++;
    w->is_full = false;
    return TDM_OK;
}

/* Works on two windows at once, like the detector on its two lanes. */
static tdm_status work(job *j, tdm_pipeline *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    window *held[2] = {NULL, NULL};
    for (int n = 0;;) {
        window *w = n < 2 ? tdm_pipeline_take(line, n == 0) : NULL;
        if (w) {
            TDM_REQUIRE(w->number != j->work_fails, TDM_ENODEV, "window %d broke the device",
                        w->number);
            held[n++] = w;
            continue;
        }
        if (n == 0)
            break;
        dawdle(j, 2);
        held[0]->is_done = true;
        tdm_pipeline_give(line);
        held[0] = held[1];
        n--;
    }
done:
    return st;
}

static tdm_status run(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_pipeline *line = NULL;
    void *places[MOST_WINDOWS];
    for (int i = 0; i < j->n_windows; i++)
        places[i] = &j->windows[i];
    const tdm_pipeline_steps steps = {j, places, (size_t)j->n_windows, fill, empty, &j->stop};
    TDM_TRY(tdm_pipeline_open(&steps, &line, err));
    st = work(j, line, err);
    st = tdm_pipeline_close(line, st, err);
done:
    return st;
}

static void test_order(void **state)
{
    (void)state;
    for (int n_windows = 1; n_windows <= MOST_WINDOWS; n_windows++)
        for (int pace = 0; pace <= 3; pace++) {
            job j = {n_windows, 60, NEVER, NEVER, NEVER, .pace = pace};
            tdm_err err = {0};
            if (run(&j, &err) != TDM_OK)
                fail_msg("%s", err.msg);
            assert_int_equal(j.n_filled, 60);
            assert_int_equal(j.n_emptied, 60);
            assert_false(j.out_of_order);
            assert_false(j.refilled);
        }
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        int fill, work, empty;
        bool silent; /* the input, behind the 30th window */
        tdm_status status;
        const char *message;
        int emptied; /* exactly, or -1: at most where the failure is */
    } CASES[] = {
        {"the first window cannot be filled", 0, NEVER, NEVER, false, TDM_EIO, "window 0", 0},
        {"a later window cannot be filled: those before it arrive", 7, NEVER, NEVER, false, TDM_EIO,
         "window 7 cannot be filled", 7},
        {"the first window breaks the device", NEVER, 0, NEVER, false, TDM_ENODEV, "window 0", 0},
        {"a later one does", NEVER, 9, NEVER, false, TDM_ENODEV, "window 9 broke", -1},
        {"the first window cannot be emptied", NEVER, NEVER, 0, false, TDM_ECANTCREATE, "window 0", 0},
        {"a later one cannot", NEVER, NEVER, 11, false, TDM_ECANTCREATE, "window 11", 11},
        {"the device breaks, and the input is silent", NEVER, 28, NEVER, true, TDM_ENODEV, "window 28",
         -1},
        {"emptying fails, and the input is silent", NEVER, NEVER, 27, true, TDM_ECANTCREATE,
         "window 27", 27},
        {"the last window cannot be emptied", NEVER, NEVER, 29, false, TDM_ECANTCREATE, "window 29", 29},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++)
        for (int n_windows = 1; n_windows <= MOST_WINDOWS; n_windows++)
            for (int pace = 0; pace <= 3; pace++) {
                tdm_err err = {0};
                job j = {n_windows, 30, CASES[c].fill, CASES[c].work, CASES[c].empty,
                         CASES[c].silent, .pace = pace};
                const tdm_status st = run(&j, &err);
                if (st != CASES[c].status || !strstr(err.msg, CASES[c].message))
                    fail_msg("%s, %d windows: status %d, %s", CASES[c].why, n_windows, (int)st, err.msg);
                assert_false(j.out_of_order);
                assert_false(j.refilled);
                if (CASES[c].emptied >= 0)
                    assert_int_equal(j.n_emptied, CASES[c].emptied);
                else
                    assert_true(j.n_emptied <= CASES[c].work);
            }
}

/* Filling has failed already when a window before that does: the earlier window counts, not the earlier time. */
static void test_two_failures(void **state)
{
    (void)state;
    static const struct {
        bool work_fails;
        int empty_fails;
        tdm_status status;
        const char *message;
    } CASES[] = {
        {false, NEVER, TDM_EIO, "window 3 cannot be filled"},
        {true, NEVER, TDM_ENODEV, "the device was lost"},
        {false, 1, TDM_ECANTCREATE, "window 1 cannot be emptied"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        job j = {5, 60, 3, NEVER, CASES[c].empty_fails, .pace = 0};
        tdm_err err = {0};
        tdm_pipeline *line = NULL;
        void *places[MOST_WINDOWS];
        for (int i = 0; i < MOST_WINDOWS; i++)
            places[i] = &j.windows[i];
        const tdm_pipeline_steps steps = {&j, places, MOST_WINDOWS, fill, empty, &j.stop};
        assert_int_equal(tdm_pipeline_open(&steps, &line, &err), TDM_OK);
        for (window *w; (w = tdm_pipeline_take(line, true)) != NULL;) /* until filling has failed */
            w->is_done = true;
        for (int i = 0; i < 3 && !CASES[c].work_fails; i++)
            tdm_pipeline_give(line);
        tdm_status st =
            CASES[c].work_fails ? tdm_fail(&err, TDM_ENODEV, "the device was lost") : TDM_OK;
        st = tdm_pipeline_close(line, st, &err);
        if (st != CASES[c].status || !strstr(err.msg, CASES[c].message))
            fail_msg("status %d, %s", (int)st, err.msg);
    }
}

/* Whoever fills may ask whether a small window is welcome: yes when all that there is has been taken. */
static tdm_status fill_when_hungry(void *ctx, tdm_pipeline *line, void *place, bool *at_end,
                                   tdm_err *err)
{
    job *j = ctx;
    while (!tdm_pipeline_is_hungry(line))
        nap();
    return fill(j, line, place, at_end, err);
}

static void test_hungry(void **state)
{
    (void)state;
    job j = {3, 40, NEVER, NEVER, NEVER, .pace = 2};
    tdm_err err = {0};
    tdm_pipeline *line = NULL;
    void *places[] = {&j.windows[0], &j.windows[1], &j.windows[2]};
    const tdm_pipeline_steps steps = {&j, places, 3, fill_when_hungry, empty, &j.stop};
    assert_int_equal(tdm_pipeline_open(&steps, &line, &err), TDM_OK);
    const tdm_status st = work(&j, line, &err);
    assert_int_equal(tdm_pipeline_close(line, st, &err), TDM_OK);
    assert_int_equal(j.n_emptied, 40);
}

static void test_stop(void **state)
{
    (void)state;
    tdm_stop outer = {0}, inner = {.also = &outer};
    assert_int_equal(tdm_stopped(NULL), 0);
    assert_int_equal(tdm_stopped(&inner), 0);
    tdm_stop_set(&outer, 15);
    assert_int_equal(tdm_stopped(&inner), 15);
    tdm_stop_set(&inner, 2);
    assert_int_equal(tdm_stopped(&inner), 2);
    assert_int_equal(tdm_stopped(&outer), 15);
    static const struct {
        int why;
        tdm_status status;
        const char *message;
    } CASES[] = {
        {0, TDM_OK, ""},
        {15, TDM_ESTOPPED, "stopped by signal 15"},
        {1, TDM_ESTOPPED, "stopped by signal 1"}, /* SIGHUP */
        {TDM_STOP_USELESS, TDM_ESTOPPED, "stopped"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_err err = {0};
        outer.why = CASES[c].why;
        assert_int_equal(tdm_check_stop(&outer, &err), CASES[c].status);
        assert_string_equal(err.msg, CASES[c].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_two_failures),
        cmocka_unit_test(test_hungry),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
