/* What the first process of --devices makes of its workers' words: sums, what ends a run, the end of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tools/supervise_chunks.c"
#include "tools/supervise_line.c"
#include "tools/supervise_news.c"
#include "tools/supervise_sets.c"

/* ---- what it says, kept instead ---- */

static run_end said;
static char said_workers[512], noted[256];

int summary_print(const char *command, const common_args *common, const run_end *end, const char *workers)
{
    (void)command, (void)common;
    said = *end;
    snprintf(said_workers, sizeof said_workers, "%s", workers);
    return (int)end->err.status;
}

void args_note(const char *name, const char *fmt, ...)
{
    va_list values;
    (void)name;
    va_start(values, fmt);
    vsnprintf(noted, sizeof noted, fmt, values);
    va_end(values);
}

void run_say_job(const char *command, const char *out, bool is_complete, bool reads_stream, const tdm_job_totals *t)
{
    (void)command, (void)out, (void)is_complete, (void)reads_stream, (void)t;
}

/* ---- two workers that have begun ---- */

typedef struct {
    supervisor s;
    common_args common;
    place places[2];
    int other_end[2];
} subject;

static void hear(subject *t, int32_t number, line_message m)
{
    supervise_hear(&t->s, number, &m);
}

static void open_subject(subject *t)
{
    static const int DEVICES[] = {4, 7};
    *t = (subject){.common = {.out = "out", .quiet = true, .max_errors = {.limit = 3}}};
    t->s = (supervisor){.command = "detect", .common = &t->common, .rank = {0, 1}, .n = 2, .n_each = 1, .places = t->places};
    assert_int_equal(chunks_open(2, &t->s.board, NULL), TDM_OK);
    for (int32_t w = 0; w < 2; w++) {
        int fd[2];
        assert_int_equal(line_open(fd, NULL), TDM_OK);
        t->places[w] = (place){.pid = 1, .fd = fd[0], .devices = &DEVICES[w]};
        t->other_end[w] = fd[1];
        chunks_started(t->s.board, w, &(chunks_task){.kind = CHUNKS_NORMAL});
        hear(t, w, (line_message){.kind = LINE_OPENED, .opened = {.device = "null", .totals = {.counts = {.ok = 9, .bad = 1},
                                                                                               .chunks_done = 2,
                                                                                               .chunks_total = 10}}});
        hear(t, w, (line_message){.kind = LINE_STARTED, .started = {.unit = "texts", .before = 10, .bad_before = 1}});
    }
    assert_true(t->s.is_open);
}

static void close_subject(subject *t)
{
    for (int w = 0; w < 2; w++) {
        close(t->places[w].fd);
        close(t->other_end[w]);
    }
    chunks_close(t->s.board);
}

static bool ask(subject *t, int32_t number, uint64_t chunk)
{
    line_message m = {.kind = LINE_ASK, .place = {.chunk = chunk}};
    hear(t, number, m);
    assert_true(line_receive(t->other_end[number], &m));
    assert_int_equal(m.kind, LINE_ANSWER);
    return m.answer.yes;
}

static void commit(subject *t, int32_t number, uint64_t chunk, int64_t ok, int64_t bad)
{
    hear(t, number, (line_message){.kind = LINE_COMMITTED,
                                   .committed = {.chunk = chunk, .counts = {.ok = ok, .bad = bad, .by_fault = {bad}}}});
}

static void test_grants(void **state)
{
    (void)state;
    subject t;
    open_subject(&t);
    assert_false(t.places[0].at_work);
    assert_true(ask(&t, 0, 2));
    assert_true(t.places[0].at_work);
    assert_false(ask(&t, 1, 2));
    assert_false(t.places[1].at_work); /* it has nothing that it could be late with */
    hear(&t, 0, (line_message){.kind = LINE_DISK, .waiting = true});
    assert_true(t.places[0].on_disk);
    hear(&t, 0, (line_message){.kind = LINE_WORKED});
    assert_false(t.places[0].at_work);
    close_subject(&t);
}

/* One of them is bad already: two more are allowed, whoever has them. */
static void test_max_errors(void **state)
{
    (void)state;
    subject t;
    open_subject(&t);
    ask(&t, 0, 2), ask(&t, 1, 3), ask(&t, 0, 4);
    commit(&t, 0, 2, 5, 1);
    commit(&t, 1, 3, 5, 1);
    assert_int_equal(t.s.failure.status, TDM_OK);
    supervise_forget(&t.s, &t.places[1]); /* it died: whether that chunk is on the disk shows at its next start */
    commit(&t, 0, 4, 5, 1);
    assert_int_equal(t.s.failure.status, TDM_OK);
    commit(&t, 0, 5, 5, 1);
    assert_int_equal(t.s.failure.status, TDM_EFORMAT);
    assert_string_equal(t.s.failure.msg, "out: 4 bad records so far, --max-errors 3");
    close_subject(&t);
}

static void test_percent_is_not_judged(void **state)
{
    (void)state;
    subject t;
    open_subject(&t);
    t.common.max_errors = (tdm_max_errors){.percent = true, .limit = 3};
    commit(&t, 0, 2, 0, 50);
    assert_int_equal(t.s.failure.status, TDM_OK);
    close_subject(&t);
}

static void test_dead_worker(void **state)
{
    (void)state;
    subject t;
    open_subject(&t);
    ask(&t, 0, 2), ask(&t, 1, 3);
    hear(&t, 0, (line_message){.kind = LINE_NOTE, .news = {.records = 100, .bad = 2, .tokens = 7, .bytes_done = 5,
                                                           .bytes_total = 50}});
    hear(&t, 1, (line_message){.kind = LINE_NOTE, .news = {.records = 20, .bytes_done = 3, .bytes_total = 50}});
    commit(&t, 0, 2, 59, 1);
    commit(&t, 1, 3, 20, 0);
    assert_int_equal(t.s.progress.done, 130);
    assert_int_equal(t.s.progress.bytes_done, 5); /* the farthest */
    supervise_forget(&t.s, &t.places[0]);
    assert_int_equal(t.s.progress.done, 90);
    assert_int_equal(t.s.progress.bad, 2);
    assert_int_equal(t.s.sum.counts.ok, 20);
    assert_int_equal(t.s.sum.counts.by_fault[0], 0);
    assert_int_equal(t.s.chunks, 1);
    close_subject(&t);
}

static void test_complete(void **state)
{
    subject t;
    run_end end = {.state = SUMMARY_WAITING, .began = true, .totals = {.tokens = 5, .steps = 2}};
    open_subject(&t);
    ask(&t, 0, 2), ask(&t, 1, 3);
    commit(&t, 0, 2, 5, 0);
    commit(&t, 1, 3, 7, 1);
    end.totals.cpu = &end.cpu;
    end.cpu.judge = 1.5;
    if (*state)
        hear(&t, 0, (line_message){.kind = LINE_END, .end = end});
    assert_false(t.s.is_complete);
    run_end last = end;
    last.state = SUMMARY_COMPLETE;
    last.job = (tdm_job_totals){.counts = {.ok = 21, .bad = 2}, .tokens = 99};
    hear(&t, 1, (line_message){.kind = LINE_END, .end = last});
    if (!*state) /* it was done before, and is heard later */
        hear(&t, 0, (line_message){.kind = LINE_END, .end = end});
    assert_true(t.s.is_complete);
    assert_int_equal(supervise_finish(&t.s), 0);
    assert_int_equal(said.state, SUMMARY_COMPLETE);
    assert_true(said.has_job && said.began && !said.was_complete);
    assert_int_equal(said.counts.ok, 21);
    assert_int_equal(said.before, 10);
    assert_int_equal(said.tokens, 99);
    assert_int_equal(said.totals.tokens, 10);
    assert_int_equal(said.totals.steps, 4);
    assert_true(said.totals.cpu && said.cpu.judge == 3);
    assert_int_equal(t.s.progress.done, 23);
    assert_string_equal(said_workers, "[{\"devices\": [4], \"chunks\": 1, \"records\": 5, \"faults\": 0}, "
                                      "{\"devices\": [7], \"chunks\": 1, \"records\": 8, \"faults\": 0}]");
    close_subject(&t);
}

static void test_stopped(void **state)
{
    (void)state;
    subject t;
    open_subject(&t);
    ask(&t, 0, 2), ask(&t, 1, 3);
    commit(&t, 0, 2, 5, 0);
    commit(&t, 1, 3, 7, 1);
    tdm_fail(&t.s.failure, TDM_ESTOPPED, "stopped by signal 15");
    assert_int_equal(supervise_finish(&t.s), TDM_ESTOPPED);
    assert_int_equal(said.state, SUMMARY_STOPPED);
    assert_int_equal(said.counts.ok, 12);
    assert_int_equal(said.job.chunks_done, 4);
    assert_int_equal(said.job.chunks_total, 10);
    close_subject(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grants),      cmocka_unit_test(test_max_errors),
        cmocka_unit_test(test_percent_is_not_judged), cmocka_unit_test(test_dead_worker),
        cmocka_unit_test(test_complete),    cmocka_unit_test_prestate(test_complete, &said),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
