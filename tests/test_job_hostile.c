/* What lies on the disk as a job is bytes from anywhere: a checksum that fits says that a line was not
 * torn, not that its numbers are possible. None of it is believed beyond what can be. */
#include <xxhash.h>

#include "tests/job_subject.h"

/* Append a journal line with its checksum. */
static void put_line(const char *text)
{
    FILE *f = fopen(beside(".job/0.journal"), "ab");
    assert_non_null(f);
    fprintf(f, "%s%016" PRIx64 "\n", text, (uint64_t)XXH3_64bits(text, strlen(text)));
    assert_int_equal(fclose(f), 0);
}

#define HASH "0123456789abcdef"
#define HASHES HASH HASH
#define NO_FAULTS " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 " /* as many as a journal had at first */
#define NO_MORE_FAULTS "0 0 0 0 0 0 0 0 "

/* FILE CHUNK LAST HASH  DATA HASH  ERRORS HASH  TOKENS OK BAD SKIPPED FAULT... */
static const struct {
    const char *line;
    int believed;
} LINES[] = {
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 1},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 9223372036854775807 0 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 9223372036854775807 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1099511627777" NO_FAULTS, 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 18446744073709551615 2 0 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 18446744073709551617 0 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 1 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0}, /* the data is not there */
    {"1 0 0 " HASH " 0 " HASHES " 1 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 18446744073709551615 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"1 4294967296 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"0 5 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0}, /* it has five */
    {"3 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0}, /* there are three files */
    {"4294967297 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"1 0 2 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"1 -1 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS, 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS NO_MORE_FAULTS, 1},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1" NO_FAULTS NO_MORE_FAULTS "0 ", 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 ", 0},
    {"1 0 0 " HASH " 0 " HASHES " 0 " HASHES " 7 2 0 1 0 ", 0},
    {"", 0},
};

static void test_journal(void **state)
{
    for (size_t i = 0; i < COUNT(LINES); i++) {
        clear_out(state);
        const tdm_job_options o = subject_options(0, 1);
        tdm_job_totals t;
        tdm_job *job = open_job(&o);
        work(job, 1);
        tdm_job_close(job);
        put_line(LINES[i].line);
        put_line(LINES[0].line); /* behind a line that is not believed nothing is */
        job = open_job(&o);
        tdm_job_totals_get(job, &t);
        tdm_job_close(job);
        if ((int)t.chunks_done != 1 + LINES[i].believed)
            fail_msg("%s: %d chunks", LINES[i].line, (int)t.chunks_done);
        assert_int_equal(t.counts.ok, LINES[i].believed ? 4 : 2);
        if (LINES[i].believed)
            continue;
        assert_int_equal(run_job(&o), SUBJECT_TOTAL - 1);
        check_complete();
    }
}

/* A journal, a manifest and OUT.manifest.json with any byte changed: fine, or one error. */
static void check_bytes(const char *ending)
{
    const tdm_job_options o = subject_options(0, 1);
    size_t len = 0;
    char *bytes = subject_read(beside(ending), &len);
    assert_non_null(bytes);
    for (size_t i = 0; i < 4 * len; i++) {
        static const char PUT[] = {'9', '"', '{', 0};
        tdm_err err = {0};
        tdm_job *job = NULL;
        tdm_buf text = {0};
        const char was = bytes[i / 4];
        bytes[i / 4] = PUT[i % 4];
        subject_write(beside(ending), bytes, len);
        bytes[i / 4] = was;
        if (tdm_job_open(&o, &job, &err) != TDM_OK && !*err.msg)
            fail_msg("%s: byte %zu: no message", ending, i / 4);
        tdm_job_close(job);
        if (tdm_job_describe(beside(there_is(".job") ? ".job" : ".manifest.json"), &text, &err) != TDM_OK)
            assert_true(*err.msg);
        tdm_buf_free(&text);
    }
    subject_write(beside(ending), bytes, len);
    free(bytes);
}

static void test_any_byte(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    tdm_job *job = open_job(&o);
    work(job, 3);
    tdm_job_close(job);
    check_bytes(".job/0.journal");
    check_bytes(".job/manifest.json");
    assert_int_equal(run_job(&o), SUBJECT_TOTAL - 3);
    check_bytes(".manifest.json");
    assert_int_equal(run_job(&o), 0);
    check_complete();
}

/* Links that lie where the job writes lead it nowhere. */
static void test_planted_links(void **state)
{
    static const char *const NAMES[] = {".job/manifest.json.0", ".job/joined", ".job/joined.errors",
                                        ".job/joined.manifest"};
    const tdm_job_options o = subject_options(0, 1);
    char target[2 * SUBJECT_PATH];
    snprintf(target, sizeof target, "%s/target", subject_folder);
    for (size_t i = 0; i < COUNT(NAMES); i++) {
        clear_out(state);
        subject_write(target, "mine", 4);
        assert_int_equal(mkdir(beside(".job"), 0777), 0);
        assert_int_equal(symlink(target, beside(NAMES[i])), 0);
        run_job(&o);
        check_complete();
        check_file(target, "mine");
    }
    for (int i = 0; i < 3; i++) { /* where it goes on, a link is no part */
        static const char *const PARTS[] = {".job/0.data", ".job/0.errors", ".job/0.journal"};
        clear_out(state);
        subject_write(target, "mine", 4);
        assert_int_equal(mkdir(beside(".job"), 0777), 0);
        assert_int_equal(symlink(target, beside(PARTS[i])), 0);
        tdm_err err = {0};
        tdm_job *job = NULL;
        if (tdm_job_open(&o, &job, &err) == TDM_OK)
            assert_int_not_equal(commit_chunk(job, 0, 0, &err), TDM_OK);
        assert_non_null(strstr(err.msg, PARTS[i] + 1));
        tdm_job_close(job);
        check_file(target, "mine");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_journal, clear_out),
        cmocka_unit_test_setup(test_any_byte, clear_out),
        cmocka_unit_test_setup(test_planted_links, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
