/* The metrics file: its text, its name, and that it is replaced as a whole or not at all. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/metrics.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_metrics.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1; /* which the tests have left empty */
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static const tdm_metrics SOME = {.command = "detect",
                                 .unit = "texts",
                                 .rank = {3, 8},
                                 .is_up = true,
                                 .records = 9007199254740,
                                 .bad = 2,
                                 .tokens = 30,
                                 .records_before = 4,
                                 .records_total = 50,
                                 .bytes_read = 60,
                                 .bytes_total = 70,
                                 .started = 1700000000.25,
                                 .updated = 1700000001.5,
                                 .eta = 12.5};

static void check_text(const tdm_metrics *m, const char *want)
{
    tdm_buf out = {0};
    assert_int_equal(tdm_metrics_format(&out, m, NULL), TDM_OK);
    assert_int_equal(tdm_buf_put(&out, "", 1, NULL), TDM_OK);
    assert_string_equal(out.p, want);
    tdm_buf_free(&out);
}

#define METRIC(name, type, help, value)                                                            \
    "# HELP tandem_" name " " help "\n# TYPE tandem_" name " " type "\n"                            \
    "tandem_" name "{command=\"detect\",rank=\"3\"} " value "\n"

static void test_text(void **state)
{
    (void)state;
#define INFO                                                                                       \
    "# HELP tandem_info What runs.\n# TYPE tandem_info gauge\n"                                    \
    "tandem_info{command=\"detect\",rank=\"3\",ranks=\"8\",unit=\"texts\",version=\"" TDM_VERSION  \
    "\"} 1\n"
#define KNOWN_BEFORE(up, finished)                                                                 \
    METRIC("up", "gauge", "Whether the process is at work.", up)                                   \
    METRIC("finished", "gauge", "Whether it ended with all of its work done.", finished)           \
    METRIC("start_time_seconds", "gauge", "When it began, seconds since 1970.", "1700000000.25")   \
    METRIC("updated_timestamp_seconds", "gauge", "When this was written, seconds since 1970.",     \
           "1700000001.5")                                                                         \
    METRIC("records_total", "counter", "Records done by this process, bad ones included.",         \
           "9007199254740")                                                                        \
    METRIC("bad_records_total", "counter", "Bad records met by this process.", "2")                \
    METRIC("tokens_total", "counter", "Tokens through the model in this process.", "30")           \
    METRIC("records_before", "gauge", "Records done by earlier processes of the job.", "4")
    check_text(&SOME, INFO KNOWN_BEFORE("1", "0") METRIC(
                          "records_expected", "gauge", "Records in all, those before included.", "50")
                          METRIC("input_read_bytes", "gauge", "Input bytes passed, as they are on disk.",
                                 "60")
                              METRIC("input_bytes", "gauge", "Input bytes in all, as they are on disk.",
                                     "70")
                                  METRIC("eta_seconds", "gauge",
                                         "Seconds to go at the mean rate so far.", "12.5"));
    /* what is not known is left out */
    tdm_metrics little = SOME;
    little.is_up = false;
    little.is_finished = true;
    little.records_total = little.bytes_total = 0;
    little.eta = -1;
    check_text(&little, INFO KNOWN_BEFORE("0", "1"));
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        tdm_rank rank;
        const char *want;
    } CASES[] = {
        {"run.prom", {0, 1}, "run.prom"},         {"run.prom", {0, 4}, "run.0.prom"},
        {"run.prom", {123, 1000}, "run.123.prom"}, {"run", {2, 4}, "run.2"},
        {"a.b/run", {2, 4}, "a.b/run.2"},         {"a.b/.run", {2, 4}, "a.b/.run.2"},
        {"a.b/run.x.y", {2, 4}, "a.b/run.x.2.y"},
    };
    assert_int_equal(mkdir("a.b", 0777), 0);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char temporary[64];
        tdm_metrics m = SOME;
        m.rank = CASES[i].rank;
        assert_int_equal(tdm_metrics_write(CASES[i].path, &m, NULL), TDM_OK);
        snprintf(temporary, sizeof temporary, "%s.tmp", CASES[i].want);
        assert_false(exists(temporary));
        assert_int_equal(unlink(CASES[i].want), 0);
    }
    assert_int_equal(rmdir("a.b"), 0);
}

/* Whoever has the file open goes on reading the one of before: it is never half of one and half of another. */
static void test_replaced(void **state)
{
    (void)state;
    char before[4096] = "", again[4096] = "", now[4096] = "";
    tdm_metrics m = SOME;
    m.rank.count = 1;
    assert_int_equal(tdm_metrics_write("run.prom", &m, NULL), TDM_OK);
    FILE *f = fopen("run.prom", "r");
    assert_non_null(f);
    assert_true(fread(before, 1, sizeof before - 1, f) > 0);
    m.records = 1;
    assert_int_equal(tdm_metrics_write("run.prom", &m, NULL), TDM_OK);
    rewind(f);
    assert_true(fread(again, 1, sizeof again - 1, f) > 0);
    fclose(f);
    assert_string_equal(before, again);
    f = fopen("run.prom", "r");
    assert_true(fread(now, 1, sizeof now - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(now, "tandem_records_total{command=\"detect\",rank=\"3\"} 1\n"));
    assert_int_equal(unlink("run.prom"), 0);
}

/* Each leaves nothing behind, and what was there as it was. */
static void test_refused(void **state)
{
    (void)state;
    tdm_err err;
    tdm_metrics m = SOME;
    m.rank.count = 1;
    assert_int_equal(tdm_metrics_write("missing/run.prom", &m, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "metrics file: missing/run.prom.tmp: No such file"));

    assert_int_equal(mkdir("is_folder", 0777), 0);
    assert_int_equal(tdm_metrics_write("is_folder", &m, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "is_folder is no regular file"));
    assert_false(exists("is_folder.tmp"));
    assert_int_equal(rmdir("is_folder"), 0);

    assert_int_equal(mkfifo("pipe", 0666), 0); /* stands for /dev/null, which root could replace */
    assert_int_equal(tdm_metrics_write("pipe", &m, &err), TDM_ECANTCREATE);
    assert_false(exists("pipe.tmp"));
    assert_int_equal(unlink("pipe"), 0);

    FILE *f = fopen("texts.jsonl", "w"); /* named by a slip of the hand */
    assert_non_null(f);
    fputs("# HELP is not what is here\n", f);
    fclose(f);
    assert_int_equal(tdm_metrics_write("texts.jsonl", &m, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "texts.jsonl is there and holds something else"));
    f = fopen("texts.jsonl", "w"); /* empty: one that was through a loss of power */
    assert_non_null(f);
    fclose(f);
    assert_int_equal(tdm_metrics_write("texts.jsonl", &m, &err), TDM_OK);
    assert_int_equal(unlink("texts.jsonl"), 0);

    assert_int_equal(symlink("elsewhere", "run.prom.tmp"), 0); /* a trap in a folder for everybody */
    assert_int_equal(tdm_metrics_write("run.prom", &m, &err), TDM_ECANTCREATE);
    assert_false(exists("elsewhere"));
    assert_true(exists("run.prom.tmp"));
    assert_int_equal(unlink("run.prom.tmp"), 0);
}

/* A disk that is full, here a limit on the size of files: the last whole file stays. */
static void test_full(void **state)
{
    (void)state;
    tdm_metrics m = SOME;
    m.rank.count = 1;
    tdm_err err;
    struct rlimit before, little = {.rlim_cur = 100};
    assert_int_equal(tdm_metrics_write("run.prom", &m, NULL), TDM_OK);
    struct stat whole, after;
    assert_int_equal(stat("run.prom", &whole), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    assert_int_equal(tdm_metrics_write("run.prom", &m, &err), TDM_ECANTCREATE);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_non_null(strstr(err.msg, "run.prom.tmp: File too large"));
    assert_false(exists("run.prom.tmp"));
    assert_int_equal(stat("run.prom", &after), 0);
    assert_int_equal(after.st_ino, whole.st_ino);
    assert_int_equal(after.st_size, whole.st_size);
    assert_int_equal(unlink("run.prom"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
