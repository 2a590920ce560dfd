/* Results appear whole or not at all, with the right counts and the bad records beside them. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/sink.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_sink.XXXXXX";
static char out[64], errors[96]; /* OUT and OUT.errors.jsonl */

static int make_folder(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return -1;
    snprintf(out, sizeof out, "%s/out.jsonl", folder);
    snprintf(errors, sizeof errors, "%s.errors.jsonl", out);
    return 0;
}

/* How many files there are in the folder; they are removed. */
static int clear_folder(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[400];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        assert_int_equal(unlink(path), 0);
        n++;
    }
    closedir(dir);
    return n;
}

static int remove_folder(void **state)
{
    (void)state;
    clear_folder();
    return rmdir(folder);
}

static void check_file(const char *path, const char *want)
{
    char text[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    fclose(f);
    assert_string_equal(text, want);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static tdm_sink *open_sink(const char *path, tdm_max_errors max)
{
    tdm_err err = {0};
    tdm_sink *sink = NULL;
    if (tdm_sink_open(path, max, &sink, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return sink;
}

static const tdm_max_errors NONE = {0};

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

static void test_commit(void **state)
{
    (void)state;
    write_file(out, "of an earlier run\n");
    write_file(errors, "stale\n");
    tdm_sink *sink = open_sink(out, NONE);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_put(sink, "two\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_flush(sink, NULL), TDM_OK);
    check_file(out, "of an earlier run\n"); /* until the commit */
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    check_file(out, "one\ntwo\n");
    assert_int_equal(tdm_sink_counts(sink)->ok, 2);
    assert_int_equal(tdm_sink_counts(sink)->bad, 0);
    tdm_sink_close(sink);
    check_file(out, "one\ntwo\n");
    assert_int_equal(clear_folder(), 1); /* no errors file, nothing temporary */
}

static void test_bad_records(void **state)
{
    (void)state;
    tdm_record unknown = BAD;
    unknown.id_len = 0;
    unknown.fault = TDM_FAULT_JSON;
    unknown.detail = "at byte 3: \xc3\xa9";
    tdm_sink *sink = open_sink(out, (tdm_max_errors){.limit = 2});
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &unknown, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    const tdm_counts *counts = tdm_sink_counts(sink);
    assert_int_equal(counts->ok, 1);
    assert_int_equal(counts->bad, 2);
    assert_int_equal(counts->by_fault[TDM_FAULT_EMPTY], 1);
    assert_int_equal(counts->by_fault[TDM_FAULT_JSON], 1);
    tdm_sink_close(sink);
    check_file(out, "one\n");
    check_file(errors, BAD_LINE
               "{\"file\": \"a \\\"b\\\".jsonl\", \"line\": 12, \"offset\": 345, \"id\": null, "
               "\"class\": \"json\", \"detail\": \"at byte 3: \\u00e9\"}\n");
    assert_int_equal(clear_folder(), 2);
}

/* A document that was written from nothing stands in no file. */
static void test_unknown_place(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_record nowhere = BAD;
    nowhere.file = NULL;
    nowhere.id_json = "255000, and more";
    nowhere.id_len = 6;
    tdm_sink *sink = open_sink(out, (tdm_max_errors){.limit = 1});
    assert_int_equal(tdm_sink_bad(sink, &nowhere, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    tdm_sink_close(sink);
    sink = open_sink(out, NONE);
    assert_int_equal(tdm_sink_bad(sink, &nowhere, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "document 255000: empty: field"));
    tdm_sink_close(sink);
    check_file(errors, "{\"file\": null, \"line\": null, \"offset\": null, \"id\": 255000, "
                       "\"class\": \"empty\", \"detail\": \"field \\\"text\\\" is empty\"}\n");
    assert_int_equal(clear_folder(), 2);
}

static void test_is_direct(void **state)
{
    (void)state;
    static const char *const DIRECT[] = {"-", "/dev/null"};
    for (size_t i = 0; i < COUNT(DIRECT); i++) {
        tdm_sink *sink = open_sink(DIRECT[i], NONE);
        assert_true(tdm_sink_is_direct(sink));
        tdm_sink_close(sink);
    }
    tdm_sink *sink = open_sink(out, NONE);
    assert_false(tdm_sink_is_direct(sink));
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    assert_false(tdm_sink_is_direct(sink)); /* also when its name is final */
    tdm_sink_close(sink);
    assert_int_equal(clear_folder(), 1);
}

static void test_close_leaves_nothing(void **state)
{
    (void)state;
    tdm_sink *sink = open_sink(out, (tdm_max_errors){.limit = 5});
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_bad(sink, &BAD, NULL), TDM_OK);
    tdm_sink_close(sink);
    assert_int_equal(clear_folder(), 0);
    tdm_sink_close(NULL);
}

static void test_max_errors(void **state)
{
    (void)state;
    static const struct {
        tdm_max_errors max;
        int ok, bad; /* records */
        int stops_at; /* the bad record that is refused; 0: none */
        tdm_status commit;
    } CASES[] = {
        {{false, 0}, 3, 0, 0, TDM_OK},
        {{false, 0}, 3, 1, 1, TDM_OK},
        {{false, 2}, 0, 2, 0, TDM_OK},
        {{false, 2}, 9, 3, 3, TDM_OK},
        {{true, 10}, 9, 1, 0, TDM_OK},
        {{true, 10}, 8, 1, 0, TDM_EFORMAT},
        {{true, 0}, 1000, 1, 0, TDM_EFORMAT},
        {{true, 100}, 0, 7, 0, TDM_OK},
        {{true, 0}, 0, 0, 0, TDM_OK},
        {{true, 0.1}, 999, 1, 0, TDM_OK},
        {{true, 0.1}, 998, 1, 0, TDM_EFORMAT},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_err err = {0};
        tdm_sink *sink = open_sink(out, CASES[i].max);
        int refused_at = 0;
        for (int k = 0; k < CASES[i].ok; k++)
            assert_int_equal(tdm_sink_put(sink, "x\n", 2, NULL), TDM_OK);
        for (int k = 1; k <= CASES[i].bad && !refused_at; k++)
            if (tdm_sink_bad(sink, &BAD, &err) != TDM_OK)
                refused_at = k;
        assert_int_equal(refused_at, CASES[i].stops_at);
        if (refused_at) {
            assert_int_equal(err.status, TDM_EFORMAT);
            assert_non_null(strstr(err.msg, "a \"b\".jsonl:12: empty: field"));
            assert_non_null(strstr(err.msg, "--max-errors"));
        } else if (tdm_sink_commit(sink, &err) != CASES[i].commit) {
            fail_msg("case %zu: %s", i, err.msg);
        }
        tdm_sink_close(sink);
        const bool is_out = !CASES[i].stops_at && CASES[i].commit == TDM_OK;
        assert_int_equal(clear_folder(), !is_out ? 0 : CASES[i].bad ? 2 : 1);
    }
}

static void test_open_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *path; /* behind the folder */
        tdm_status status;
        const char *says;
    } CASES[] = {
        {"", TDM_ECANTCREATE, "folder"},
        {"/missing/out.jsonl", TDM_ECANTCREATE, "No such file"},
        {"/out.jsonl.gz", TDM_EARG, "compressed"},
        {"/out.zst", TDM_EARG, "compressed"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char path[128];
        tdm_err err = {0};
        tdm_sink *sink = NULL;
        snprintf(path, sizeof path, "%s%s", folder, CASES[i].path);
        assert_int_equal(tdm_sink_open(path, NONE, &sink, &err), CASES[i].status);
        assert_null(sink);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, CASES[i].says));
    }
    assert_int_equal(clear_folder(), 0);
}

/* As a user who may look into the folder and no more: a stranger for root, the owner otherwise. */
static tdm_status open_as_reader(tdm_err *err)
{
    tdm_sink *sink = NULL;
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        return TDM_OK;
    const tdm_status st = tdm_sink_open(out, NONE, &sink, err);
    tdm_sink_close(sink);
    return st;
}

static void test_not_permitted(void **state)
{
    (void)state;
    static const struct {
        mode_t folder, file; /* file 0: there is none yet */
    } CASES[] = {{0555, 0}, {0777, 0444}, {0333, 0}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        int status = 0;
        tdm_err err = {0};
        if (CASES[i].file) {
            write_file(out, "precious\n");
            assert_int_equal(chmod(out, CASES[i].file), 0);
        }
        assert_int_equal(chmod(folder, CASES[i].folder), 0);
        const pid_t pid = fork();
        if (pid == 0)
            _exit(open_as_reader(&err) == TDM_ECANTCREATE && strstr(err.msg, out) ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_int_equal(chmod(folder, 0700), 0);
        assert_int_equal(clear_folder(), CASES[i].file ? 1 : 0);
    }
}

static void test_second_writer(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_sink *other = NULL;
    tdm_sink *sink = open_sink(out, NONE);
    assert_int_equal(tdm_sink_open(out, NONE, &other, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "another process"));
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    other = open_sink(out, NONE); /* after the commit the name is free again */
    tdm_sink_close(other);
    tdm_sink_close(sink);
    check_file(out, "one\n");
    assert_int_equal(clear_folder(), 1);
}

/* What a killed run left is overwritten, also where it was longer. */
static void test_leftover(void **state)
{
    (void)state;
    char part[128];
    snprintf(part, sizeof part, "%s/.out.jsonl.tandem-part", folder);
    write_file(part, "much longer than the new one\n");
    tdm_sink *sink = open_sink(out, NONE);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    tdm_sink_close(sink);
    check_file(out, "one\n");
    assert_int_equal(clear_folder(), 1);
}

static void test_link_survives(void **state)
{
    (void)state;
    char target[128];
    struct stat info;
    snprintf(target, sizeof target, "%s/target", folder);
    write_file(target, "old\n");
    assert_int_equal(symlink("target", out), 0);
    tdm_sink *sink = open_sink(out, NONE);
    assert_int_equal(tdm_sink_put(sink, "new\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    tdm_sink_close(sink);
    assert_int_equal(lstat(out, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    check_file(target, "new\n");
    assert_int_equal(clear_folder(), 2);
}

static void test_full_disk(void **state)
{
    (void)state;
    tdm_err err = {0};
    if (access("/dev/full", W_OK) != 0)
        skip();
    tdm_sink *sink = open_sink("/dev/full", NONE);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, &err), TDM_OK); /* held back */
    assert_int_equal(tdm_sink_commit(sink, &err), TDM_EIO);
    assert_non_null(strstr(err.msg, "/dev/full"));
    assert_non_null(strstr(err.msg, strerror(ENOSPC)));
    assert_false(tdm_sink_pipe_closed(sink));
    tdm_sink_close(sink);
}

/* Run body with stdout connected to a pipe, and return what came through it. */
static size_t through_stdout(bool reader_leaves, void (*body)(void), char *text, size_t size)
{
    int ends[2], status = 0;
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        body();
        _exit(0);
    }
    close(ends[1]);
    if (reader_leaves)
        close(ends[0]);
    for (ssize_t m = 1; !reader_leaves && m > 0; n += (size_t)m)
        if ((m = read(ends[0], text + n, size - n)) <= 0)
            break;
    if (!reader_leaves)
        close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    return n;
}

static void put_two(void)
{
    tdm_sink *sink = NULL;
    if (tdm_sink_open("-", NONE, &sink, NULL) || tdm_sink_put(sink, "one\n", 4, NULL) ||
        tdm_sink_flush(sink, NULL) || tdm_sink_put(sink, "two\n", 4, NULL))
        _exit(1);
    tdm_sink_close(sink); /* no commit: what was put is still delivered */
}

static void put_until_closed(void)
{
    tdm_sink *sink = NULL;
    tdm_err err = {0};
    if (tdm_sink_open("-", NONE, &sink, NULL))
        _exit(1);
    for (int i = 0; i < 10000000; i++)
        if (tdm_sink_put(sink, "some text\n", 10, &err) != TDM_OK)
            break;
    if (err.status != TDM_EIO || !tdm_sink_pipe_closed(sink))
        _exit(2);
    tdm_sink_close(sink);
}

static void test_stdout(void **state)
{
    (void)state;
    char text[100];
    assert_int_equal(through_stdout(false, put_two, text, sizeof text), 8);
    assert_memory_equal(text, "one\ntwo\n", 8);
    through_stdout(true, put_until_closed, text, sizeof text);
}

enum { N_MANY = 200000 };

static void put_many_nonblocking(void)
{
    tdm_sink *sink = NULL;
    fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    if (tdm_sink_open("-", NONE, &sink, NULL))
        _exit(1);
    for (int i = 0; i < N_MANY; i++)
        if (tdm_sink_put(sink, "0123456789\n", 11, NULL) != TDM_OK)
            _exit(2);
    if (tdm_sink_commit(sink, NULL) != TDM_OK)
        _exit(3);
    tdm_sink_close(sink);
}

/* A pipe that takes a part of each write. */
static void test_short_writes(void **state)
{
    (void)state;
    const size_t size = N_MANY * 11 + 1;
    char *text = malloc(size);
    assert_non_null(text);
    assert_int_equal(through_stdout(false, put_many_nonblocking, text, size), size - 1);
    for (size_t i = 0; i + 1 < size; i++)
        if (text[i] != "0123456789\n"[i % 11])
            fail_msg("byte %zu", i);
    free(text);
}

/* More than any buffer holds. */
static void test_large(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct stat info;
    tdm_sink *sink = open_sink(out, NONE);
    for (int i = 0; i < N; i++)
        assert_int_equal(tdm_sink_put(sink, "0123456789\n", 11, NULL), TDM_OK);
    assert_int_equal(tdm_sink_commit(sink, NULL), TDM_OK);
    assert_int_equal(tdm_sink_counts(sink)->ok, N);
    tdm_sink_close(sink);
    assert_int_equal(stat(out, &info), 0);
    assert_int_equal(info.st_size, 11 * N);
    assert_int_equal(clear_folder(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit),        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_close_leaves_nothing), cmocka_unit_test(test_max_errors),
        cmocka_unit_test(test_open_refuses),  cmocka_unit_test(test_not_permitted),
        cmocka_unit_test(test_second_writer), cmocka_unit_test(test_leftover),
        cmocka_unit_test(test_link_survives), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_stdout),        cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_large),         cmocka_unit_test(test_unknown_place),
        cmocka_unit_test(test_is_direct),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
