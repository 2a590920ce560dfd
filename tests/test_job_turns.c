/* Several workers of one process on one job: each is a rank, and asks which of the chunks of the process it may do. */
#include "tests/job_subject.h"

/* Who may do what is fixed here: worker w the chunks whose number leaves w when divided by two. */
typedef struct {
    uint64_t worker;
    int asked, committed, waited, passed;
    uint64_t tokens;
} turns_seen;

static bool grant_by_number(void *ctx, size_t file, uint64_t number)
{
    turns_seen *seen = ctx;
    (void)file;
    seen->asked++;
    return number % 2 == seen->worker;
}

static void note_committed(void *ctx, const tdm_chunk *chunk, const tdm_counts *counts, uint64_t tokens)
{
    turns_seen *seen = ctx;
    assert_int_equal(chunk->number % 2, seen->worker);
    assert_int_equal(counts->ok, 2);
    seen->committed++;
    seen->tokens += tokens;
}

static void note_waiting(void *ctx, bool begins)
{
    (void)begins;
    ((turns_seen *)ctx)->waited++;
}

static void note_passed(void *ctx)
{
    ((turns_seen *)ctx)->passed++;
}

static tdm_job *open_worker(turns_seen *seen, tdm_job_turns *turns, uint64_t worker, bool restart)
{
    *seen = (turns_seen){.worker = worker};
    *turns = (tdm_job_turns){seen, grant_by_number, note_committed, note_waiting, note_passed};
    tdm_job_options o = subject_options((int64_t)worker, 2);
    o.process = (tdm_rank){0, 1};
    o.turns = turns;
    o.restart = restart;
    return open_job(&o);
}

/* Both workers look at all chunks of the process, also of the file that one rank would have to itself. */
static void test_turns(void **state)
{
    (void)state;
    tdm_job *jobs[2];
    turns_seen seen[2];
    tdm_job_turns turns[2];
    for (uint64_t w = 0; w < 2; w++)
        jobs[w] = open_worker(&seen[w], &turns[w], w, false);
    for (size_t w = 0; w < 2; w++) {
        assert_int_equal(work(jobs[w], SUBJECT_TOTAL), w == 0 ? 6 : 4);
        assert_int_equal(seen[w].asked, SUBJECT_TOTAL);
        assert_int_equal(seen[w].committed, w == 0 ? 6 : 4);
        assert_int_equal(seen[w].waited, 0);
    }
    finish(jobs[0]);
    assert_true(tdm_job_is_waiting(jobs[0]) || tdm_job_is_complete(jobs[0]));
    finish(jobs[1]);
    assert_true(tdm_job_is_complete(jobs[0]) || tdm_job_is_complete(jobs[1]));
    for (size_t w = 0; w < 2; w++)
        tdm_job_close(jobs[w]);
    assert_false(tdm_job_is_left(subject_out));
    check_complete();
}

/* What is committed nobody is asked about; --restart is open to a worker that is alone, and to no other. */
static void test_turns_restart(void **state)
{
    (void)state;
    turns_seen seen[2];
    tdm_job_turns turns[2];
    tdm_err err = {0};
    tdm_job *job = open_worker(&seen[0], &turns[0], 0, false), *second = NULL;
    work(job, 3);
    tdm_job_close(job);
    assert_true(tdm_job_is_left(subject_out));
    job = open_worker(&seen[1], &turns[1], 1, false);
    work(job, 1);
    assert_true(seen[1].asked <= SUBJECT_TOTAL - 3);
    tdm_job_options o = subject_options(0, 2);
    o.process = (tdm_rank){0, 1};
    o.turns = &turns[0];
    o.restart = true;
    assert_int_equal(tdm_job_open(&o, &second, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "--restart would discard"));
    o.process = (tdm_rank){0, 2};
    assert_int_equal(tdm_job_open(&o, &second, &err), TDM_EARG);
    tdm_job_close(job);
    job = open_worker(&seen[0], &turns[0], 0, true);
    second = open_worker(&seen[1], &turns[1], 1, false); /* all locks but its own are free again */
    assert_int_equal(work(second, SUBJECT_TOTAL), 4);
    assert_int_equal(work(job, SUBJECT_TOTAL), 6);
    tdm_job_close(second);
    tdm_job_close(job);
}

/* A worker that reads what is not its own, for minutes maybe, can show that it is alive. */
static void test_turns_passed(void **state)
{
    (void)state;
    turns_seen seen;
    tdm_job_turns turns;
    tdm_job *job = open_worker(&seen, &turns, 0, false);
    const tdm_chunk_filter filter = tdm_job_filter(job);
    for (uint64_t k = 0; k < 3; k++)
        assert_int_equal(filter.pass(filter.ctx, &(tdm_chunk){.number = k}, NULL), TDM_OK);
    assert_int_equal(seen.passed, 3);
    tdm_job_close(job);
}

/* Where nothing is committed, whoever closes last leaves nothing behind. */
static void test_turns_empty(void **state)
{
    (void)state;
    turns_seen seen[2];
    tdm_job_turns turns[2];
    tdm_job *first = open_worker(&seen[0], &turns[0], 0, false), *second = open_worker(&seen[1], &turns[1], 1, false);
    tdm_job_close(first);
    assert_true(tdm_job_is_left(subject_out));
    tdm_job_close(second);
    assert_false(tdm_job_is_left(subject_out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_turns, clear_out),
        cmocka_unit_test_setup(test_turns_restart, clear_out),
        cmocka_unit_test_setup(test_turns_passed, clear_out),
        cmocka_unit_test_setup(test_turns_empty, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
