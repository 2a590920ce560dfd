/* Several processes on one job: who may, what each does, and that nothing depends on it. */
#include <cjson/cJSON.h>
#include <signal.h>

#include "tests/job_subject.h"

/* ---- which chunks are whose ---- */

static void test_owners(void **state)
{
    (void)state;
    static const int64_t COUNTS[] = {1, 2, 3, 8, 64, 1000};
    static const uint64_t TOTALS[] = {1, 7, 100, 5000, 100000, TDM_CHUNKS_UNKNOWN};
    for (size_t c = 0; c < COUNT(COUNTS); c++)
        for (size_t t = 0; t < COUNT(TOTALS); t++) {
            const uint64_t n = TOTALS[t] < 5000 ? TOTALS[t] : 5000;
            uint64_t least = n, most = 0, sum = 0;
            for (int64_t i = 0; i < COUNTS[c]; i++) {
                uint64_t mine = 0;
                for (uint64_t k = 0; k < n; k++)
                    mine += tdm_rank_owns((tdm_rank){i, COUNTS[c]}, k / 2, k - k / 2, TOTALS[t]);
                least = mine < least ? mine : least;
                most = mine > most ? mine : most;
                sum += mine;
            }
            assert_int_equal(sum, n); /* each has one owner */
            assert_true(most - least <= 64);
            if (TOTALS[t] <= 5000) /* a whole job: nobody waits for long */
                assert_true(most - least <= 1 + n / (uint64_t)COUNTS[c] / 32);
        }
}

/* A file whose chunks are unknown belongs to one rank, unless all read it. */
static void test_owners_of_unknown(void **state)
{
    (void)state;
    uint64_t unknown[SUBJECT_FILES] = {TDM_CHUNKS_UNKNOWN, TDM_CHUNKS_UNKNOWN, TDM_CHUNKS_UNKNOWN};
    for (int all_read = 0; all_read <= 1; all_read++)
        for (int64_t rank = 0; rank < 2; rank++) {
            clear_out(state);
            tdm_job_options o = subject_options(rank, 2);
            o.n_chunks = unknown;
            o.all_read = all_read;
            tdm_job *job = open_job(&o);
            const tdm_chunk_filter filter = tdm_job_filter(job);
            for (size_t f = 0; f < SUBJECT_FILES; f++)
                for (uint64_t k = 0; k < 100; k++)
                    assert_int_equal(filter.is_wanted(filter.ctx, f, k),
                                     (all_read ? k : f) % 2 == (uint64_t)rank);
            tdm_job_close(job);
        }
}

/* ---- who may ---- */

static void check_refused(int64_t index, int64_t count, const char *says)
{
    tdm_err err = {0};
    tdm_job *job = NULL;
    const tdm_job_options o = subject_options(index, count);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_ECANTCREATE);
    assert_null(job);
    if (!strstr(err.msg, says))
        fail_msg("%s", err.msg);
}

static void test_second_process(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1), of_two = subject_options(1, 2);
    tdm_job *job = open_job(&o);
    work(job, 3);
    check_refused(0, 1, "another process is at work as rank 0");
    check_refused(0, 2, "another process is at work as rank 0");
    check_refused(1, 2, "1 processes share it and are at work, this is one of 2");
    work(job, 3); /* nothing was damaged */
    tdm_job_close(job);
    job = open_job(&of_two);
    check_refused(2, 3, "2 processes share it");
    check_refused(0, 1, "2 processes share it");
    check_refused(1, 2, "as rank 1");
    const tdm_job_options other = subject_options(0, 2);
    tdm_job *beside_it = open_job(&other);
    tdm_job_close(beside_it);
    tdm_job_close(job);
    run_job(&o);
    check_complete();
}

/* The same from another process, and what happens to the locks of one that is killed. */
static void test_killed_process(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    int ready[2], status;
    char byte;
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        tdm_job *job = NULL;
        if (tdm_job_open(&o, &job, NULL) == TDM_OK && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    check_refused(0, 1, "as rank 0");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(ready[0]);
    close(ready[1]);
    run_job(&o);
    check_complete();
}

/* ---- in turn and at once ---- */

static void test_in_turn(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 3; i++) {
        const tdm_job_options o = subject_options(i, 3);
        tdm_job *job = open_job(&o);
        work(job, SUBJECT_TOTAL);
        finish(job);
        assert_int_equal(tdm_job_is_waiting(job), i < 2);
        assert_int_equal(tdm_job_is_complete(job), i == 2);
        tdm_job_close(job);
    }
    check_complete();
    const tdm_job_options o = subject_options(1, 3); /* and one more, too late */
    assert_int_equal(run_job(&o), 0);
}

/* A rank that has nothing left to do sees that another one has joined the parts meanwhile. */
static void test_joined_meanwhile(void **state)
{
    (void)state;
    const tdm_job_options a = subject_options(0, 2), b = subject_options(1, 2);
    tdm_job_totals of_first, of_second;
    tdm_job *second = open_job(&b);
    work(second, SUBJECT_TOTAL);
    tdm_job_close(second);
    tdm_job *first = open_job(&a);
    second = open_job(&b);
    work(first, SUBJECT_TOTAL);
    finish(first);
    assert_true(tdm_job_is_complete(first));
    finish(second);
    assert_true(tdm_job_is_complete(second));
    assert_false(tdm_job_is_waiting(second));
    tdm_job_totals_get(first, &of_first);
    tdm_job_totals_get(second, &of_second);
    assert_memory_equal(&of_first.counts, &of_second.counts, sizeof of_first.counts);
    tdm_job_close(first);
    tdm_job_close(second);
    check_complete();
}

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % below;
}

/* One process of many. With `killed` chunks it is no more; without, it does all of its work. Exits
 * with 0 when there was no error. */
static void be_a_rank(int64_t index, int64_t count, int killed)
{
    const tdm_job_options o = subject_options(index, count);
    tdm_err err = {0};
    tdm_job *job = NULL;
    int n = 0;
    if (tdm_job_open(&o, &job, &err) != TDM_OK) {
        fprintf(stderr, "rank %d of %d: %s\n", (int)index, (int)count, err.msg);
        _exit(1);
    }
    const tdm_chunk_filter filter = tdm_job_filter(job);
    for (size_t f = 0; f < SUBJECT_FILES && !tdm_job_is_complete(job); f++)
        for (uint64_t k = 0; k < SUBJECT_CHUNKS[f]; k++) {
            if (killed >= 0 && n++ == killed)
                raise(SIGKILL);
            if (filter.is_wanted(job, f, k) && commit_chunk(job, f, k, &err) != TDM_OK)
                _exit(2);
        }
    if (tdm_job_finish(job, ANY_ERRORS, &err) != TDM_OK) {
        fprintf(stderr, "rank %d of %d: %s\n", (int)index, (int)count, err.msg);
        _exit(3);
    }
    tdm_job_close(job);
    _exit(0);
}

/* All ranks at once. killed: some of them die. Returns how many lived. */
static int run_ranks(int count, bool killed)
{
    pid_t children[8];
    int lived = 0;
    for (int i = 0; i < count; i++) {
        const int when = killed ? (int)draw(SUBJECT_TOTAL + 4) : -1;
        children[i] = fork();
        if (children[i] == 0)
            be_a_rank(i, count, when);
    }
    for (int i = 0; i < count; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            fail_msg("rank %d of %d exits with %d", i, count, WEXITSTATUS(status));
        lived += WIFEXITED(status);
    }
    return lived;
}

static void test_at_once(void **state)
{
    random_state = 1;
    for (int round = 0; round < 60; round++) {
        clear_out(state);
        run_ranks(1 + round % 8, false);
        check_complete();
    }
}

/* Killed and gone on with by another number of processes, as often as it takes. */
static void test_elastic(void **state)
{
    random_state = 2;
    for (int round = 0; round < 60; round++) {
        clear_out(state);
        for (uint64_t restarts = draw(6); restarts > 0; restarts--)
            run_ranks(1 + (int)draw(8), true);
        run_ranks(1 + (int)draw(8), false);
        check_complete();
    }
}

/* ---- the end ---- */

static void test_max_errors(void **state)
{
    (void)state;
    static const struct {
        tdm_max_errors max;
        const char *says; /* NULL: fine */
    } CASES[] = {
        {{.limit = 0}, "3 of 23 records are bad, --max-errors 0;"},
        {{.limit = 2}, "--max-errors 2;"},
        {{.percent = true, .limit = 13}, "--max-errors 13%; the results stay in "},
        {{.percent = true, .limit = 13.05}, NULL}, /* 3 of 23 is 13.04 % */
    };
    const tdm_job_options o = subject_options(0, 1);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_err err = {0};
        tdm_job *job = open_job(&o);
        work(job, SUBJECT_TOTAL);
        const tdm_status st = tdm_job_finish(job, CASES[i].max, &err);
        assert_int_equal(st, CASES[i].says ? TDM_EFORMAT : TDM_OK);
        if (CASES[i].says && !strstr(err.msg, CASES[i].says))
            fail_msg("%s", err.msg);
        tdm_job_close(job);
    }
    check_complete();
}

/* Joining stops when it is told to, and goes on another time. */
static void test_stopped(void **state)
{
    (void)state;
    tdm_stop stop = {0};
    tdm_err err = {0};
    tdm_job_options o = subject_options(0, 1);
    o.stop = &stop;
    for (int backwards = 0; backwards <= 1; backwards++) {
        tdm_job *job = open_job(&o);
        if (backwards)
            assert_int_equal(commit_chunk(job, 2, 1, NULL), TDM_OK);
        tdm_job_close(job);
        job = open_job(&o);
        work(job, SUBJECT_TOTAL);
        tdm_stop_set(&stop, 15);
        assert_int_equal(tdm_job_finish(job, ANY_ERRORS, &err), TDM_ESTOPPED);
        tdm_job_close(job);
        assert_false(there_is(""));
        assert_int_equal(tdm_job_open(&o, &job, &err),
                         TDM_ESTOPPED); /* while inputs are looked at */
        tdm_stop_set(&stop, 0);
        assert_int_equal(run_job(&o), 0);
        check_complete();
        clear_out(state);
    }
}

static void test_pass(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    tdm_err err = {0};
    tdm_job *job = open_job(&o);
    work(job, 7); /* of the compressed file the first two */
    tdm_job_close(job);
    job = open_job(&o);
    const tdm_chunk_filter filter = tdm_job_filter(job);
    tdm_chunk chunk = {.file = 1, .number = 1, .hash = UINT64_C(101) * 7919};
    assert_int_equal(filter.pass(filter.ctx, &chunk, &err), TDM_OK);
    chunk.is_last = true; /* the file is shorter now */
    assert_int_equal(filter.pass(filter.ctx, &chunk, &err), TDM_EMISMATCH);
    chunk.is_last = false;
    chunk.hash++;
    assert_int_equal(filter.pass(filter.ctx, &chunk, &err), TDM_EMISMATCH);
    assert_non_null(strstr(err.msg, "in1.jsonl.gz: chunk 1 (text bytes 1000 to 2000) is not what"));
    chunk.number = 2; /* not committed: nothing to compare with */
    assert_int_equal(filter.pass(filter.ctx, &chunk, &err), TDM_OK);
    tdm_job_close(job);
}

/* Nothing was written: OUT is empty, or an empty member or frame. */
static void test_empty(void **state)
{
    static const char *const NAMES[] = {"none.jsonl", "none.jsonl.gz", "none.jsonl.zst"};
    const uint64_t no_chunks = 0;
    (void)state;
    for (size_t i = 0; i < COUNT(NAMES); i++) {
        char path[2 * SUBJECT_PATH], name[3 * SUBJECT_PATH];
        tdm_buf want = {0};
        size_t len = 0;
        snprintf(path, sizeof path, "%s/%s", subject_folder, NAMES[i]);
        tdm_job_options o = subject_options(0, 1);
        o.out = path;
        o.inputs = NULL;
        o.n_chunks = &no_chunks;
        snprintf(name, sizeof name, "%s.errors.jsonl", path);
        subject_write(name, "of an earlier job", 17);
        tdm_job *job = open_job(&o);
        finish(job);
        assert_true(tdm_job_is_complete(job));
        assert_int_equal(access(name, F_OK), -1);
        tdm_job_close(job);
        assert_int_equal(tdm_compress(tdm_codec_of_name(path), "", 0, &want, NULL), TDM_OK);
        char *bytes = subject_read(path, &len);
        assert_non_null(bytes);
        assert_int_equal(len, want.len);
        if (len)
            assert_memory_equal(bytes, want.p, len);
        free(bytes);
        tdm_buf_free(&want);
        unlink(path);
        snprintf(name, sizeof name, "%s.manifest.json", path);
        unlink(name);
    }
}

/* ---- from outside ---- */

static cJSON *describe(const char *path)
{
    tdm_err err = {0};
    tdm_buf text = {0};
    if (tdm_job_describe(path, &text, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    cJSON *root = cJSON_ParseWithLength(text.p, text.len);
    assert_non_null(root);
    tdm_buf_free(&text);
    return root;
}

static const cJSON *at(const cJSON *root, const char *a, const char *b)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, a);
    return b ? cJSON_GetObjectItemCaseSensitive(item, b) : item;
}

static void test_describe_at_work(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(1, 3);
    tdm_job *job = open_job(&o);
    work(job, 2);
    tdm_job_close(job);
    const tdm_job_options other = subject_options(2, 3);
    job = open_job(&other);
    cJSON *root = describe(beside(".job"));
    assert_string_equal(at(root, "command", NULL)->valuestring, "detect");
    assert_true(cJSON_IsFalse(at(root, "complete", NULL)));
    assert_true(cJSON_IsFalse(at(root, "joining", NULL)));
    assert_int_equal(at(root, "chunks", "done")->valueint, 2);
    assert_true(cJSON_IsNull(at(root, "chunks", "total")));
    assert_int_equal(at(root, "counts", "ok")->valueint, 4);
    assert_int_equal(at(root, "input", "done")->valueint,
                     4); /* two of five chunks of eleven bytes */
    const cJSON *ranks = at(root, "ranks", NULL);
    assert_int_equal(cJSON_GetArraySize(ranks), 2);
    assert_int_equal(at(cJSON_GetArrayItem(ranks, 0), "rank", NULL)->valueint, 1);
    assert_int_equal(at(cJSON_GetArrayItem(ranks, 0), "chunks", NULL)->valueint, 2);
    assert_true(cJSON_IsFalse(at(cJSON_GetArrayItem(ranks, 0), "at_work", NULL)));
    assert_int_equal(at(cJSON_GetArrayItem(ranks, 1), "rank", NULL)->valueint, 2);
    assert_true(cJSON_IsTrue(at(cJSON_GetArrayItem(ranks, 1), "at_work", NULL)));
    cJSON_Delete(root);
    tdm_job_close(job);
}

static void test_describe_complete(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_buf text = {0};
    const tdm_job_options o = subject_options(0, 1);
    run_job(&o);
    cJSON *root = describe(beside(".manifest.json"));
    assert_true(cJSON_IsTrue(at(root, "complete", NULL)));
    assert_int_equal(at(root, "chunks", "total")->valueint, SUBJECT_TOTAL);
    assert_int_equal(at(root, "counts", "bad")->valueint, 3);
    assert_int_equal(at(at(root, "counts", "by_class"), "empty", NULL)->valueint, 3);
    assert_int_equal(strlen(at(root, "out", "sha256")->valuestring), 64);
    cJSON_Delete(root);
    assert_int_equal(tdm_job_describe(subject_folder, &text, &err), TDM_ENOINPUT);
    assert_int_equal(tdm_job_describe(beside(".job"), &text, &err), TDM_ENOINPUT);
    assert_int_equal(tdm_job_describe(subject_out, &text, &err), TDM_EFORMAT);
    tdm_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners),
        cmocka_unit_test_setup(test_owners_of_unknown, clear_out),
        cmocka_unit_test_setup(test_second_process, clear_out),
        cmocka_unit_test_setup(test_killed_process, clear_out),
        cmocka_unit_test_setup(test_in_turn, clear_out),
        cmocka_unit_test_setup(test_joined_meanwhile, clear_out),
        cmocka_unit_test_setup(test_at_once, clear_out),
        cmocka_unit_test_setup(test_elastic, clear_out),
        cmocka_unit_test_setup(test_max_errors, clear_out),
        cmocka_unit_test_setup(test_stopped, clear_out),
        cmocka_unit_test_setup(test_pass, clear_out),
        cmocka_unit_test_setup(test_empty, clear_out),
        cmocka_unit_test_setup(test_describe_at_work, clear_out),
        cmocka_unit_test_setup(test_describe_complete, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
