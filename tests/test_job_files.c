/* What a killed or failed run may leave behind: torn journals, files that are too short or too
 * long, damage, and a joining that was cut off. Whatever it is, the next run ends with the same
 * bytes or says what is wrong. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/job_subject.h"

enum { DONE = 7 }; /* chunks that the first run of a test commits */

static uint64_t chunks_done(const tdm_job_options *o)
{
    tdm_job_totals t;
    tdm_job *job = open_job(o);
    tdm_job_totals_get(job, &t);
    tdm_job_close(job);
    return t.chunks_done;
}

/* A job that is not complete, with `n` chunks. */
static tdm_job_options leave_job(int n)
{
    const tdm_job_options o = subject_options(0, 1);
    tdm_job *job = open_job(&o);
    assert_int_equal(work(job, n), n);
    tdm_job_close(job);
    return o;
}

/* The whole lines in text [len], without the first. */
static uint64_t lines_in(const char *text, size_t len)
{
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += text[i] == '\n';
    return n ? n - 1 : 0;
}

static void test_torn_journal(void **state)
{
    (void)state;
    const tdm_job_options o = leave_job(DONE);
    size_t len = 0;
    char *journal = subject_read(beside(".job/0.journal"), &len);
    assert_int_equal(lines_in(journal, len), DONE);
    for (size_t cut = 0; cut < len; cut++) {
        if (!there_is(".job")) /* without a chunk it goes */
            leave_job(DONE);
        subject_write(beside(".job/0.journal"), journal, cut);
        assert_int_equal(chunks_done(&o), lines_in(journal, cut));
    }
    for (size_t cut = 0; cut <= len; cut += 97) { /* and to the end */
        clear_out(state);
        leave_job(DONE);
        subject_write(beside(".job/0.journal"), journal, cut);
        assert_int_equal(run_job(&o), SUBJECT_TOTAL - lines_in(journal, cut));
        check_complete();
    }
    free(journal);
}

/* From a changed byte on nothing is believed; the lines before it are. */
static void test_damaged_journal(void **state)
{
    (void)state;
    const tdm_job_options o = leave_job(DONE);
    size_t len = 0;
    char *journal = subject_read(beside(".job/0.journal"), &len);
    for (size_t i = 0; i < len; i++) {
        const char was = journal[i];
        journal[i] ^= (char)(1 << i % 7);
        subject_write(beside(".job/0.journal"), journal, len);
        journal[i] = was;
        assert_int_equal(chunks_done(&o), lines_in(journal, i));
    }
    journal[len / 2] ^= 1;
    subject_write(beside(".job/0.journal"), journal, len);
    free(journal);
    assert_true(run_job(&o) > SUBJECT_TOTAL - DONE);
    check_complete();
}

/* What is behind a damaged line was cut off for good: it does not come back when that line is
 * written again. */
static void test_cut_journal(void **state)
{
    (void)state;
    const tdm_job_options o = leave_job(DONE);
    size_t len = 0, first = 0;
    char *journal = subject_read(beside(".job/0.journal"), &len);
    for (int line = 0; line < 2; first++) /* the first line and the first chunk stay */
        line += journal[first] == '\n';
    journal[first + 9] ^= 1;
    subject_write(beside(".job/0.journal"), journal, len);
    free(journal);
    assert_int_equal(chunks_done(&o), 1);
    leave_job(1);
    assert_int_equal(chunks_done(&o), 2);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL - 2);
    check_complete();
}

/* What a process has committed is taken from under it: it does not end as if others had work left. */
static void test_lost_journal(void **state)
{
    (void)state;
    tdm_err err = {0};
    const tdm_job_options o = subject_options(0, 1);
    tdm_job *job = open_job(&o);
    work(job, SUBJECT_TOTAL);
    tdm_job_close(job);
    job = open_job(&o);
    assert_int_equal(truncate(beside(".job/0.journal"), 0), 0);
    assert_int_equal(tdm_job_finish(job, ANY_ERRORS, &err), TDM_EIO);
    assert_non_null(strstr(err.msg, ".job: chunks that were committed are no longer"));
    tdm_job_close(job);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL);
    check_complete();
}

/* A journal of another job, as after a removed manifest. */
static void test_foreign_journal(void **state)
{
    (void)state;
    tdm_job_options o = leave_job(DONE);
    unlink(beside(".job/manifest.json"));
    o.settings = "{}";
    assert_int_equal(chunks_done(&o), 0);
    unlink(beside(".job/manifest.json"));
    o = subject_options(0, 1);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL - DONE);
    check_complete();
}

/* What the journal names and the file does not have is done again. */
static void check_short(const char *ending)
{
    void *none = NULL;
    const tdm_job_options o = leave_job(DONE);
    size_t len = 0;
    uint64_t least = DONE;
    free(subject_read(beside(ending), &len));
    assert_true(len > 30);
    for (size_t cut = len; cut-- > 0;) {
        assert_int_equal(truncate(beside(ending), (off_t)cut), 0);
        const uint64_t done = chunks_done(&o);
        assert_true(done < DONE && done <= least);
        least = done;
    }
    assert_true(least < 2);
    for (size_t cut = 0; cut < len; cut += 23) {
        clear_out(&none);
        leave_job(DONE);
        assert_int_equal(truncate(beside(ending), (off_t)cut), 0);
        run_job(&o);
        check_complete();
    }
}

static void test_short_data(void **state)
{
    (void)state;
    check_short(".job/0.data");
}

static void test_short_errors(void **state)
{
    (void)state;
    check_short(".job/0.errors");
}

static void append(const char *path, const char *text)
{
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* Killed between the data and the journal. */
static void test_long_files(void **state)
{
    (void)state;
    static const char *const ENDINGS[] = {".job/0.data", ".job/0.errors", ".job/0.journal"};
    for (int done = 1; done <= SUBJECT_TOTAL; done += 3)
        for (size_t i = 0; i < COUNT(ENDINGS); i++) {
            clear_out(state);
            const tdm_job_options o = leave_job(done);
            append(beside(ENDINGS[i]), "half a ch\nunk");
            assert_int_equal(run_job(&o), SUBJECT_TOTAL - done);
            check_complete();
        }
}

/* Bytes that are not what was written never become OUT. */
static void check_damage(const char *ending, int n, bool other_order)
{
    void *none = NULL;
    tdm_err err = {0};
    clear_out(&none);
    const tdm_job_options o = subject_options(0, 1);
    tdm_job *job = open_job(&o);
    if (other_order)
        commit_chunk(job, 2, 1, NULL);
    tdm_job_close(job);
    job = open_job(&o);
    work(job, SUBJECT_TOTAL);
    tdm_job_close(job);
    size_t len = 0;
    char *bytes = subject_read(beside(ending), &len);
    bytes[(size_t)n % len] ^= 4;
    subject_write(beside(ending), bytes, len);
    free(bytes);
    job = open_job(&o);
    assert_int_equal(tdm_job_finish(job, ANY_ERRORS, &err), TDM_EIO);
    assert_non_null(strstr(err.msg, ending + 5));
    assert_non_null(strstr(err.msg, "remove 0.journal"));
    tdm_job_close(job);
    assert_false(there_is(""));
    unlink(beside(".job/0.journal")); /* as the message says */
    assert_int_equal(run_job(&o), SUBJECT_TOTAL);
    check_complete();
}

static void test_damaged_parts(void **state)
{
    (void)state;
    for (int n = 0; n < 200; n += 29) {
        check_damage(".job/0.data", n, false);
        check_damage(".job/0.data", n, true);
        check_damage(".job/0.errors", n, false);
    }
}

/* ---- joining that was cut off ---- */

static void copy_tree(const char *from, const char *to)
{
    char command[8 * SUBJECT_PATH];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

enum {
    HAS_MANIFEST = 1,
    HAS_OUT = 2,
    HAS_ERRORS = 4,
    OLD_OUT = 8,
    NO_JOB_MANIFEST = 16,
    JOINED = 32
};

static const int CUT_OFF[] = {
    JOINED,
    HAS_ERRORS,
    HAS_ERRORS | HAS_MANIFEST,
    HAS_ERRORS | HAS_MANIFEST | OLD_OUT | JOINED,
    HAS_ERRORS | HAS_MANIFEST | HAS_OUT,
    HAS_ERRORS | HAS_MANIFEST | HAS_OUT | NO_JOB_MANIFEST,
    HAS_ERRORS | HAS_OUT, /* no crash: somebody removed the manifest */
};

static void test_cut_off_joining(void **state)
{
    (void)state;
    char saved[2 * SUBJECT_PATH];
    snprintf(saved, sizeof saved, "%s/saved", subject_folder);
    for (size_t i = 0; i < COUNT(CUT_OFF); i++) {
        const int what = CUT_OFF[i];
        clear_out(state);
        const tdm_job_options o = leave_job(SUBJECT_TOTAL);
        copy_tree(beside(".job"), saved);
        assert_int_equal(run_job(&o), 0);
        check_complete();
        copy_tree(saved, beside(".job"));
        if (!(what & HAS_ERRORS))
            unlink(beside(".errors.jsonl"));
        if (!(what & HAS_MANIFEST))
            unlink(beside(".manifest.json"));
        if (what & OLD_OUT) { /* of the same size */
            FILE *f = fopen(subject_out, "r+b");
            assert_non_null(f);
            fputs("old", f);
            fclose(f);
        } else if (!(what & HAS_OUT)) {
            unlink(subject_out);
        }
        if (what & NO_JOB_MANIFEST)
            unlink(beside(".job/manifest.json"));
        if (what & JOINED)
            assert_int_equal(link(beside(".job/0.data"), beside(".job/joined")), 0);
        assert_int_equal(run_job(&o), 0);
        check_complete();
    }
    remove_folder(saved);
}

/* ---- writes that fail ---- */

/* Commit until a file would be longer than `limit` bytes. Exits with 0 when the failure came, was
 * told each time and is told at the end. */
static int run_limited(rlim_t limit)
{
    const tdm_job_options o = subject_options(0, 1);
    const struct rlimit bytes = {limit, limit};
    tdm_err err = {0}, again = {0}, last = {0};
    tdm_job *job = NULL;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &bytes);
    if (tdm_job_open(&o, &job, &err) != TDM_OK)
        return err.status == TDM_EIO ? 0 : 1;
    for (size_t f = 0; f < SUBJECT_FILES; f++)
        for (uint64_t k = 0; k < SUBJECT_CHUNKS[f]; k++)
            if (tdm_job_filter(job).is_wanted(job, f, k) &&
                commit_chunk(job, f, k, &err) != TDM_OK &&
                (err.status != TDM_EIO || commit_chunk(job, f, k, &again) != TDM_EIO ||
                 strcmp(err.msg, again.msg)))
                return 2;
    const tdm_status st = tdm_job_finish(job, ANY_ERRORS, &last);
    tdm_job_close(job);
    if (st == TDM_OK)
        return 3; /* the limit was too high to mean anything */
    return last.status == TDM_EIO && (!*err.msg || !strcmp(err.msg, last.msg)) ? 0 : 4;
}

static int run_in_child(rlim_t limit)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0)
        _exit(run_limited(limit));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_failing_writes(void **state)
{
    const tdm_job_options o = subject_options(0, 1);
    int failed = 0;
    for (rlim_t limit = 1; limit < 4000; limit += 53) {
        clear_out(state);
        const int code = run_in_child(limit);
        if (code != 0 && code != 3)
            fail_msg("limit %d: %d", (int)limit, code);
        failed += code == 0;
        if (code == 0)
            run_in_child(limit + 200); /* and once more */
        run_job(&o);
        check_complete();
    }
    assert_true(failed > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_torn_journal, clear_out),
        cmocka_unit_test_setup(test_damaged_journal, clear_out),
        cmocka_unit_test_setup(test_cut_journal, clear_out),
        cmocka_unit_test_setup(test_lost_journal, clear_out),
        cmocka_unit_test_setup(test_foreign_journal, clear_out),
        cmocka_unit_test_setup(test_short_data, clear_out),
        cmocka_unit_test_setup(test_short_errors, clear_out),
        cmocka_unit_test_setup(test_long_files, clear_out),
        cmocka_unit_test_setup(test_damaged_parts, clear_out),
        cmocka_unit_test_setup(test_cut_off_joining, clear_out),
        cmocka_unit_test_setup(test_failing_writes, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
