/* Results and error records reach the job chunk by chunk, with the right counts; limits hold. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>

#include "tests/sink_subject.h"

static char zst[64], errors[96], in[64]; /* OUT by another ending, OUT.errors.jsonl, an input */

static int make_names(void **state)
{
    const int failed = make_folder(state);
    snprintf(zst, sizeof zst, "%s/out.jsonl.zst", folder);
    snprintf(errors, sizeof errors, "%s.errors.jsonl", out);
    snprintf(in, sizeof in, "%s/in.jsonl", folder);
    return failed;
}

static tdm_buf contents(const char *path)
{
    tdm_buf text = {0};
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: %s", path, strerror(errno));
    do {
        assert_int_equal(tdm_buf_reserve(&text, 4096, NULL), TDM_OK);
        text.len += fread(text.p + text.len, 1, 4095, f);
    } while (!feof(f));
    text.p[text.len] = '\0';
    fclose(f);
    return text;
}

static void check_file(const char *path, const char *want)
{
    tdm_buf text = contents(path);
    assert_string_equal(text.p, want);
    tdm_buf_free(&text);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static const uint64_t TWO_CHUNKS[] = {2};

static tdm_job *open_job(const char *path)
{
    tdm_err err = {0};
    tdm_job *job = NULL;
    const tdm_job_options options = {.out = path,
                                     .command = "test",
                                     .settings = "{}",
                                     .engine = "{}",
                                     .n_chunks = TWO_CHUNKS,
                                     .rank = {0, 1}};
    if (tdm_job_open(&options, &job, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return job;
}

static const tdm_record BAD = {.kind = TDM_RECORD_BAD,
                               .file = "a \"b\".jsonl",
                               .line = 12,
                               .offset = 345,
                               .id_json = "{\"x\": 1}",
                               .id_len = 8,
                               .fault = TDM_FAULT_EMPTY,
                               .detail = "field \"text\" is empty"};
#define BAD_LINE                                                                                   \
    "{\"file\": \"a \\\"b\\\".jsonl\", \"line\": 12, \"offset\": 345, \"id\": {\"x\": 1}, "        \
    "\"class\": \"empty\", \"detail\": \"field \\\"text\\\" is empty\"}\n"

/* ---- with a job ---- */

static void test_job(void **state)
{
    (void)state;
    tdm_job_totals totals;
    tdm_record unknown = BAD;
    unknown.id_len = 0;
    unknown.fault = TDM_FAULT_JSON;
    unknown.detail = "at byte 3: \xc3\xa9";
    tdm_job *job = open_job(out);
    tdm_sink *sink = open_sink(out, job, (tdm_max_errors){.limit = 2});
    assert_false(tdm_sink_is_direct(sink));
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    end_chunk(sink, 0, 3);
    assert_int_equal(tdm_sink_flush(sink, NULL), TDM_OK);
    assert_int_equal(access(out, F_OK), -1); /* until the end */
    assert_int_equal(tdm_sink_put(sink, "two\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &unknown, NULL), TDM_OK);
    end_chunk(sink, 1, 1);
    finish(sink);
    check_file(out, "one\ntwo\n");
    check_file(errors, BAD_LINE
               "{\"file\": \"a \\\"b\\\".jsonl\", \"line\": 12, \"offset\": 345, \"id\": null, "
               "\"class\": \"json\", \"detail\": \"at byte 3: \\u00e9\"}\n");
    tdm_job_totals_get(job, &totals);
    const tdm_counts *mine = tdm_sink_counts(sink), *all = &totals.counts;
    assert_memory_equal(mine, all, sizeof *all);
    assert_int_equal(all->ok, 2);
    assert_int_equal(all->bad, 2);
    assert_int_equal(all->skipped, 4);
    assert_int_equal(all->by_fault[TDM_FAULT_EMPTY], 1);
    assert_int_equal(all->by_fault[TDM_FAULT_JSON], 1);
    assert_int_equal(totals.tokens, 20);
    tdm_sink_close(sink);
    tdm_job_close(job);
    clear_folder();
}

/* What was put since the last chunk is nobody's; what was committed stays, and is not counted as this run's. */
static void test_goes_on(void **state)
{
    (void)state;
    tdm_job_totals totals;
    tdm_job *job = open_job(out);
    tdm_sink *sink = open_sink(out, job, (tdm_max_errors){.limit = 5});
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    end_chunk(sink, 0, 0);
    assert_int_equal(tdm_sink_put(sink, "lost\n", 5, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    tdm_sink_close(sink);
    tdm_job_close(job);

    job = open_job(out);
    tdm_job_totals_get(job, &totals);
    assert_int_equal(totals.chunks_done, 1);
    assert_int_equal(totals.counts.ok, 1);
    assert_int_equal(totals.counts.bad, 0);
    sink = open_sink(out, job, NONE);
    assert_int_equal(tdm_sink_put(sink, "two\n", 4, NULL), TDM_OK);
    end_chunk(sink, 1, 0);
    finish(sink);
    check_file(out, "one\ntwo\n");
    assert_int_equal(tdm_sink_counts(sink)->ok, 1);
    assert_int_equal(access(errors, F_OK), -1);
    tdm_sink_close(sink);
    tdm_job_close(job);
    clear_folder();
}

/* A document that was written from nothing stands in no file; a line of a file that is read in parts is counted. */
static void test_places(void **state)
{
    (void)state;
    char want[512];
    tdm_record nowhere = BAD, uncounted = BAD;
    nowhere.file = NULL;
    nowhere.id_json = "255000, and more";
    nowhere.id_len = 6;
    uncounted.file = in;
    uncounted.line = 0;
    uncounted.offset = 6; /* behind two lines, of which one is blank */
    write_file(in, "1234\n\nbad\n");
    tdm_job *job = open_job(out);
    tdm_sink *sink = open_sink(out, job, (tdm_max_errors){.limit = 2});
    assert_int_equal(tdm_sink_bad(sink, &nowhere, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &uncounted, NULL), TDM_OK);
    end_chunk(sink, 0, 0);
    end_chunk(sink, 1, 0);
    finish(sink);
    tdm_sink_close(sink);
    tdm_job_close(job);
    snprintf(want, sizeof want,
             "{\"file\": null, \"line\": null, \"offset\": null, \"id\": 255000, \"class\": \"empty\", "
             "\"detail\": \"field \\\"text\\\" is empty\"}\n"
             "{\"file\": \"%s\", \"line\": 3, \"offset\": 6, \"id\": {\"x\": 1}, \"class\": \"empty\", "
             "\"detail\": \"field \\\"text\\\" is empty\"}\n",
             in);
    check_file(errors, want);
    clear_folder();
}

/* One member or frame for each chunk, also for one without a result. */
static void test_compressed(void **state)
{
    (void)state;
    const char *const paths[] = {gz, zst};
    for (size_t i = 0; i < COUNT(paths); i++) {
        tdm_buf want = {0};
        const tdm_codec codec = tdm_codec_of_name(paths[i]);
        tdm_job *job = open_job(paths[i]);
        tdm_sink *sink = open_sink(paths[i], job, NONE);
        assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
        assert_int_equal(tdm_sink_put(sink, "two\n", 4, NULL), TDM_OK);
        end_chunk(sink, 0, 0);
        end_chunk(sink, 1, 0);
        finish(sink);
        tdm_sink_close(sink);
        tdm_job_close(job);
        assert_int_equal(tdm_compress(codec, "one\ntwo\n", 8, &want, NULL), TDM_OK);
        assert_int_equal(tdm_compress(codec, "", 0, &want, NULL), TDM_OK);
        tdm_buf got = contents(paths[i]);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.p, want.p, want.len);
        tdm_buf_free(&got);
        tdm_buf_free(&want);
    }
    clear_folder();
}

/* ---- --max-errors ---- */

static const struct {
    tdm_max_errors max;
    int ok, bad;  /* records */
    int stops_at; /* the bad record that is refused; 0: none */
    tdm_status finish;
} LIMITS[] = {
    {{false, 0}, 3, 0, 0, TDM_OK},        {{false, 0}, 3, 1, 1, TDM_OK},
    {{false, 2}, 0, 2, 0, TDM_OK},        {{false, 2}, 9, 3, 3, TDM_OK},
    {{true, 10}, 9, 1, 0, TDM_OK},        {{true, 10}, 8, 1, 0, TDM_EFORMAT},
    {{true, 0}, 1000, 1, 0, TDM_EFORMAT}, {{true, 100}, 0, 7, 0, TDM_OK},
    {{true, 0}, 0, 0, 0, TDM_OK},         {{true, 0.1}, 999, 1, 0, TDM_OK},
    {{true, 0.1}, 998, 1, 0, TDM_EFORMAT},
};

static void check_limit(size_t i, tdm_sink *sink)
{
    tdm_err err = {0};
    int refused_at = 0;
    for (int k = 0; k < LIMITS[i].ok; k++)
        assert_int_equal(tdm_sink_put(sink, "x\n", 2, NULL), TDM_OK);
    for (int k = 1; k <= LIMITS[i].bad && !refused_at; k++)
        if (tdm_sink_bad(sink, &BAD, &err) != TDM_OK)
            refused_at = k;
    assert_int_equal(refused_at, LIMITS[i].stops_at);
    if (refused_at) {
        assert_int_equal(err.status, TDM_EFORMAT);
        assert_non_null(strstr(err.msg, "a \"b\".jsonl:12: empty: field"));
        assert_non_null(strstr(err.msg, "--max-errors"));
        return;
    }
    end_chunk(sink, 0, 0);
    end_chunk(sink, 1, 0);
    if (tdm_sink_finish(sink, &err) != LIMITS[i].finish)
        fail_msg("case %zu: %s", i, err.msg);
    if (LIMITS[i].finish != TDM_OK)
        assert_non_null(strstr(err.msg, "--max-errors"));
}

static int silence(void)
{
    const int before = dup(STDERR_FILENO), nothing = open("/dev/null", O_WRONLY);
    assert_true(before >= 0 && nothing >= 0);
    fflush(stderr);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
    return before;
}

static void test_max_errors(void **state)
{
    (void)state;
    const int said = silence(); /* error records of the second half */
    for (size_t i = 0; i < COUNT(LIMITS); i++) {
        tdm_job *job = open_job(out);
        tdm_sink *sink = open_sink(out, job, LIMITS[i].max);
        check_limit(i, sink);
        tdm_sink_close(sink);
        tdm_job_close(job);
        clear_folder();
        sink = open_sink("/dev/null", NULL, LIMITS[i].max);
        check_limit(i, sink);
        tdm_sink_close(sink);
    }
    dup2(said, STDERR_FILENO);
    close(said);
}

/* Bad records of earlier runs and of other ranks count. */
static void test_max_errors_of_all(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_sink *sink = NULL;
    tdm_job *job = open_job(out);
    sink = open_sink(out, job, (tdm_max_errors){.limit = 2});
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    end_chunk(sink, 0, 0);
    tdm_sink_close(sink);
    tdm_job_close(job);

    job = open_job(out);
    sink = open_sink(out, job, (tdm_max_errors){.limit = 2});
    assert_int_equal(tdm_sink_bad(sink, &BAD, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "bad record 3, --max-errors 2"));
    tdm_sink_close(sink);
    const tdm_sink_options stricter = {.path = out, .job = job, .max_errors = {.limit = 1}};
    assert_int_equal(tdm_sink_open(&stricter, &sink, &err), TDM_EFORMAT); /* before any work */
    assert_null(sink);
    assert_non_null(strstr(err.msg, "2 bad records so far, --max-errors 1"));
    tdm_job_close(job);
    clear_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_max_errors),
        cmocka_unit_test(test_max_errors_of_all),
    };
    return cmocka_run_group_tests(tests, make_names, remove_folder);
}
