/* Results go straight to stdout, pipes and devices, whatever these do. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/sink_subject.h"

static void test_open_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *path; /* behind the folder */
        const char *says;
    } CASES[] = {{"", "Is a directory"}, {"/missing/out.jsonl", "No such file"}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char path[128];
        tdm_err err = {0};
        tdm_sink *sink = NULL;
        snprintf(path, sizeof path, "%s%s", folder, CASES[i].path);
        const tdm_sink_options options = {.path = path};
        assert_int_equal(tdm_sink_open(&options, &sink, &err), TDM_ECANTCREATE);
        assert_null(sink);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, CASES[i].says));
    }
    tdm_sink_close(NULL);
}

static void test_is_direct(void **state)
{
    (void)state;
    static const char *const DIRECT[] = {"-", "/dev/null"};
    for (size_t i = 0; i < COUNT(DIRECT); i++) {
        tdm_sink *sink = open_sink(DIRECT[i], NULL, NONE);
        assert_true(tdm_sink_is_direct(sink));
        end_chunk(sink, 0, 7);
        assert_int_equal(tdm_sink_counts(sink)->skipped, 7);
        tdm_sink_close(sink);
    }
}

static void test_full_disk(void **state)
{
    (void)state;
    tdm_err err = {0};
    if (access("/dev/full", W_OK) != 0)
        skip();
    tdm_sink *sink = open_sink("/dev/full", NULL, NONE);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, &err), TDM_OK); /* held back */
    assert_int_equal(tdm_sink_finish(sink, &err), TDM_EIO);
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

static const tdm_sink_options TO_STDOUT = {.path = "-"};

static void put_two(void)
{
    tdm_sink *sink = NULL;
    if (tdm_sink_open(&TO_STDOUT, &sink, NULL) || tdm_sink_put(sink, "one\n", 4, NULL) ||
        tdm_sink_flush(sink, NULL) || tdm_sink_put(sink, "two\n", 4, NULL))
        _exit(1);
    tdm_sink_close(sink); /* no finish: what was put is still delivered */
}

static void put_until_closed(void)
{
    tdm_sink *sink = NULL;
    tdm_err err = {0};
    if (tdm_sink_open(&TO_STDOUT, &sink, NULL))
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
    if (tdm_sink_open(&TO_STDOUT, &sink, NULL))
        _exit(1);
    for (int i = 0; i < N_MANY; i++)
        if (tdm_sink_put(sink, "0123456789\n", 11, NULL) != TDM_OK)
            _exit(2);
    if (tdm_sink_finish(sink, NULL) != TDM_OK)
        _exit(3);
    tdm_sink_close(sink);
}

/* A pipe that takes a part of each write; more than any buffer holds. */
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

/* A named pipe with an ending gets its chunks as members, and nothing in between. */
static void test_compressed_pipe(void **state)
{
    (void)state;
    char got[256];
    tdm_buf want = {0};
    assert_int_equal(mkfifo(gz, 0600), 0);
    const int reader = open(gz, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    tdm_sink *sink = open_sink(gz, NULL, NONE);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    assert_int_equal(tdm_sink_flush(sink, NULL), TDM_OK);
    assert_int_equal(read(reader, got, sizeof got), -1); /* EAGAIN */
    end_chunk(sink, 0, 0);
    assert_int_equal(read(reader, got, sizeof got), -1); /* it may wait for others */
    assert_int_equal(tdm_sink_flush(sink, NULL), TDM_OK);
    assert_int_equal(tdm_compress(TDM_GZ, "one\n", 4, &want, NULL), TDM_OK);
    assert_int_equal(read(reader, got, sizeof got), want.len);
    assert_memory_equal(got, want.p, want.len);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    finish(sink); /* what belongs to no chunk */
    assert_int_equal(read(reader, got, sizeof got), want.len);
    assert_memory_equal(got, want.p, want.len);
    assert_int_equal(tdm_sink_put(sink, "one\n", 4, NULL), TDM_OK);
    end_chunk(sink, 1, 0);
    assert_int_equal(tdm_sink_put(sink, "two\n", 4, NULL), TDM_OK);
    tdm_sink_close(sink); /* a chunk that has ended stays, one that has not is dropped */
    assert_int_equal(read(reader, got, sizeof got), want.len);
    assert_memory_equal(got, want.p, want.len);
    sink = open_sink(gz, NULL, NONE);
    finish(sink); /* no chunk at all: still a gzip stream */
    tdm_sink_close(sink);
    want.len = 0;
    assert_int_equal(tdm_compress(TDM_GZ, "", 0, &want, NULL), TDM_OK);
    assert_int_equal(read(reader, got, sizeof got), want.len);
    assert_memory_equal(got, want.p, want.len);
    close(reader);
    tdm_buf_free(&want);
    clear_folder();
}

/* A named pipe that nobody reads is waited for, but not for ever. */
static void test_pipe_without_reader(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_sink *sink = NULL;
    const tdm_stop stop = {.why = SIGTERM};
    const tdm_sink_options options = {.path = out, .stop = &stop};
    assert_int_equal(mkfifo(out, 0600), 0);
    assert_int_equal(tdm_sink_open(&options, &sink, &err), TDM_ESTOPPED);
    assert_null(sink);
    clear_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_refuses),    cmocka_unit_test(test_is_direct),
        cmocka_unit_test(test_full_disk),       cmocka_unit_test(test_stdout),
        cmocka_unit_test(test_short_writes),    cmocka_unit_test(test_compressed_pipe),
        cmocka_unit_test(test_pipe_without_reader),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
