/* The lines that progress prints, at given times, and when it prints at all. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/progress.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define AS(which, records) .set = {.mode = TDM_PROGRESS_##which, .total = (records)}

static const struct {
    tdm_progress p;
    double seconds;
    int columns;
    tdm_progress_event event;
    const char *want;
} LINES[] = {
    {{AS(PLAIN, 10000), .done = 3700, .tokens = 456789, .bad = 2}, 37, 80, TDM_EVENT_PROGRESS,
     "tandem generate: 3700/10000 documents (37%), 100/s, 12.3k tokens/s, 2 bad, ETA 1:03"},
    {{AS(PLAIN, 0), .done = 5}, 2, 80, TDM_EVENT_PROGRESS, "tandem generate: 5 documents, 2.5/s"},
    {{AS(PLAIN, 0), .done = 1, .bytes_done = 25, .bytes_total = 100}, 3600, 80, TDM_EVENT_PROGRESS,
     "tandem generate: 1 documents (25%), 0.0/s, ETA 3:00:00"},
    {{AS(PLAIN, 4)}, 0, 80, TDM_EVENT_PROGRESS, "tandem generate: 0/4 documents (0%), 0.0/s"},
    {{AS(PLAIN, 10000), .done = 10000, .tokens = 12340000}, 83.4, 80, TDM_EVENT_FINISH,
     "tandem generate: 10000 documents in 1:23, 120/s, 148k tokens/s"},
    {{AS(PLAIN, 4), .done = 9}, 9, 80, TDM_EVENT_PROGRESS, /* more than announced */
     "tandem generate: 9/4 documents (100%), 1.0/s, ETA 0:00"},
    {{AS(BAR, 10), .done = 5}, 1, 200, TDM_EVENT_PROGRESS,
     "tandem generate: [==========>         ] 5/10 documents (50%), 5.0/s, ETA 0:01"},
    {{AS(BAR, 10), .done = 10}, 1, 200, TDM_EVENT_PROGRESS,
     "tandem generate: [====================] 10/10 documents (100%), 10.0/s, ETA 0:00"},
    {{AS(BAR, 10), .done = 5}, 1, 21, TDM_EVENT_PROGRESS, "tandem generate: 5/1"},
    {{AS(BAR, 10), .done = 5}, 1, 60, TDM_EVENT_PROGRESS, /* the bar gives way, not what is behind it */
     "tandem generate: [=>] 5/10 documents (50%), 5.0/s, ETA 0:01"},
    {{AS(BAR, 10), .done = 5}, 1, 50, TDM_EVENT_PROGRESS,
     "tandem generate: 5/10 documents (50%), 5.0/s, ETA"},
    {{AS(BAR, 0), .done = 3}, 1, 80, TDM_EVENT_PROGRESS, "tandem generate: 3 documents, 3.0/s"},
    {{AS(NONE, 0), .done = 5}, 1, 80, TDM_EVENT_FINISH, ""},
    {{AS(PLAIN, 7)}, 0, 80, TDM_EVENT_START, ""},
    {{AS(BAR, 7), .done = 5}, 1, 80, TDM_EVENT_STOP, ""},
    /* a job that goes on: what was there before is done, and took no time */
    {{.set = {.mode = TDM_PROGRESS_PLAIN, .total = 100, .records_before = 60, .bad_before = 3},
      .done = 70, .bad = 3},
     5, 80, TDM_EVENT_PROGRESS, "tandem generate: 70/100 documents (70%), 2.0/s, 3 bad, ETA 0:15"},
    {{.set = {.mode = TDM_PROGRESS_PLAIN, .total = 100, .records_before = 60}, .done = 60}, 5, 80,
     TDM_EVENT_PROGRESS, "tandem generate: 60/100 documents (60%), 0.0/s"},
    {{.set = {.mode = TDM_PROGRESS_PLAIN, .total = 100, .records_before = 60}, .done = 100}, 10, 80,
     TDM_EVENT_FINISH, "tandem generate: 100 documents (60 of them before) in 0:10, 4.0/s"},
    {{.set = {.mode = TDM_PROGRESS_PLAIN, .records_before = 60}, .done = 70, .bytes_before = 500,
      .bytes_done = 600, .bytes_total = 1000},
     10, 80, TDM_EVENT_PROGRESS, "tandem generate: 70 documents (60%), 1.0/s, ETA 0:40"},
};

static void test_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(LINES); i++) {
        char line[512];
        tdm_progress p = LINES[i].p;
        p.set.command = "generate";
        p.set.unit = "documents";
        const size_t n = tdm_progress_format(&p, LINES[i].seconds, LINES[i].columns,
                                             LINES[i].event, line, sizeof line);
        assert_string_equal(line, LINES[i].want);
        assert_int_equal(n, strlen(line));
    }
}

static void test_events(void **state)
{
    (void)state;
#define HEAD(event)                                                                                \
    "{\"event\": \"" event "\", \"command\": \"generate\", \"unit\": \"documents\", \"rank\": 1, "          \
    "\"ranks\": 3, "
    static const struct {
        tdm_progress p;
        double seconds;
        tdm_progress_event event;
        const char *want;
    } CASES[] = {
        {{.set = {.total = 10, .records_before = 4, .bad_before = 1}, .done = 4, .bad = 1}, 0,
         TDM_EVENT_START,
         HEAD("start") "\"before\": 4, \"done\": 4, \"total\": 10, \"tokens\": 0, \"bad\": 1, "
                       "\"seconds\": 0.000, \"records_per_second\": 0.000, "
                       "\"tokens_per_second\": 0.000}"},
        {{.set = {.total = 10}, .done = 5, .tokens = 7, .bad = 1}, 2.5, TDM_EVENT_PROGRESS,
         HEAD("progress") "\"before\": 0, \"done\": 5, \"total\": 10, \"tokens\": 7, \"bad\": 1, "
                          "\"seconds\": 2.500, \"records_per_second\": 2.000, "
                          "\"tokens_per_second\": 2.800, \"eta\": 2.5}"},
        {{.set = {.records_before = 2}, .done = 5, .bytes_done = 9, .bytes_total = 9}, 2,
         TDM_EVENT_FINISH,
         HEAD("finish") "\"before\": 2, \"done\": 5, \"bytes_done\": 9, \"bytes_total\": 9, "
                        "\"tokens\": 0, \"bad\": 0, \"seconds\": 2.000, "
                        "\"records_per_second\": 1.500, \"tokens_per_second\": 0.000}"},
        {{.set = {.total = 10}, .done = 5}, 2.5, TDM_EVENT_STOP,
         HEAD("stop") "\"before\": 0, \"done\": 5, \"total\": 10, \"tokens\": 0, \"bad\": 0, "
                      "\"seconds\": 2.500, \"records_per_second\": 2.000, "
                      "\"tokens_per_second\": 0.000}"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char line[1024];
        tdm_progress p = CASES[i].p;
        p.set.mode = TDM_PROGRESS_JSON;
        p.set.command = "generate";
        p.set.unit = "documents";
        p.set.rank = (tdm_rank){1, 3};
        tdm_progress_format(&p, CASES[i].seconds, 20, CASES[i].event, line, sizeof line);
        assert_string_equal(line, CASES[i].want);
    }
}

/* Whatever the numbers, an event is whole. */
static void test_longest_event(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    tdm_progress p = {.set = {.mode = TDM_PROGRESS_JSON,
                              .to = to,
                              .command = "tokenize",
                              .unit = "documents",
                              .total = UINT64_MAX,
                              .rank = {INT64_MAX - 1, INT64_MAX},
                              .records_before = UINT64_MAX / 2},
                      .done = UINT64_MAX,
                      .bad = UINT64_MAX,
                      .tokens = UINT64_MAX,
                      .bytes_done = UINT64_MAX,
                      .bytes_total = UINT64_MAX};
    tdm_progress_finish(&p);
    fclose(to);
    assert_string_equal(text + len - 2, "}\n");
    free(text);
}

/* What was passed before the first record is no work of this run. */
static void test_bytes_before(void **state)
{
    (void)state;
    tdm_progress p;
    const tdm_progress_options options = {.mode = TDM_PROGRESS_NONE, .records_before = 7};
    assert_int_equal(tdm_progress_start(&p, &options, NULL), TDM_OK);
    tdm_progress_bytes(&p, 100, 900);
    tdm_progress_bytes(&p, 300, 900);
    assert_int_equal(p.bytes_before, 300);
    tdm_progress_add(&p, 1, 0, 0);
    tdm_progress_bytes(&p, 400, 900);
    assert_int_equal(p.bytes_before, 300);
    assert_int_equal(p.bytes_done, 400);
    assert_int_equal(p.done, 8);
}

static void test_rates(void **state)
{
    (void)state;
    static const struct {
        uint64_t done;
        const char *want;
    } CASES[] = {{0, "0.0/s"},      {99, "99.0/s"},     {100, "100/s"},     {999, "999/s"},
                 {1000, "1.00k/s"}, {99949, "99.9k/s"}, {999499, "999k/s"}, {999500, "1.00M/s"},
                 {2500000000, "2.50G/s"}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char line[512];
        const tdm_progress p = {
            .set = {.mode = TDM_PROGRESS_PLAIN, .command = "x", .unit = "y"}, .done = CASES[i].done};
        tdm_progress_format(&p, 1, 80, TDM_EVENT_PROGRESS, line, sizeof line);
        const char *rate = strstr(line, "y, ");
        assert_non_null(rate);
        assert_string_equal(rate + 3, CASES[i].want);
    }
}

/* A buffer that is too small gets a whole string all the same. */
static void test_small_buffer(void **state)
{
    (void)state;
    const tdm_progress p = {.set = {.mode = TDM_PROGRESS_PLAIN, .command = "x", .unit = "y"}, .done = 5};
    for (size_t size = 0; size < 40; size++) {
        char line[40];
        memset(line, '#', sizeof line);
        const size_t n = tdm_progress_format(&p, 1, 80, TDM_EVENT_PROGRESS, line, size);
        if (size) {
            assert_true(n < size);
            assert_int_equal(strlen(line), n);
        }
        for (size_t i = size; i < sizeof line; i++)
            assert_int_equal(line[i], '#');
    }
}

static void start(tdm_progress *p, tdm_progress_mode mode, bool quiet, FILE *to)
{
    const tdm_progress_options options = {.mode = mode,
                                          .quiet = quiet,
                                          .to = to,
                                          .command = "detect",
                                          .unit = "texts",
                                          .total = 3,
                                          .rank = {0, 1}};
    assert_int_equal(tdm_progress_start(p, &options, NULL), TDM_OK);
}

static void run_mode(tdm_progress_mode mode, bool quiet, tdm_progress_mode want_mode, size_t want_lines,
                     const char *begins)
{
    char *text = NULL;
    size_t len = 0, lines = 0;
    tdm_progress p;
    FILE *to = open_memstream(&text, &len);
    assert_non_null(to);
    start(&p, mode, quiet, to);
    assert_int_equal(p.set.mode, want_mode);
    for (int i = 0; i < 3; i++)
        tdm_progress_add(&p, 1, 10, i == 2);
    assert_true(tdm_progress_seconds(&p) >= 0);
    tdm_progress_finish(&p);
    assert_int_equal(fclose(to), 0);
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, want_lines);
    assert_int_equal(strncmp(text, begins, strlen(begins)), 0);
    if (want_lines)
        assert_non_null(strstr(text, mode == TDM_PROGRESS_JSON ? "\"bad\": 1" : "1 bad"));
    free(text);
}

static void test_modes(void **state)
{
    (void)state;
    run_mode(TDM_PROGRESS_AUTO, false, TDM_PROGRESS_PLAIN, 1, "tandem detect: 3 texts in ");
    run_mode(TDM_PROGRESS_PLAIN, false, TDM_PROGRESS_PLAIN, 1, "tandem detect: 3 texts in ");
    run_mode(TDM_PROGRESS_BAR, false, TDM_PROGRESS_BAR, 1, "\rtandem detect: 3 texts in ");
    run_mode(TDM_PROGRESS_JSON, false, TDM_PROGRESS_JSON, 2, "{\"event\": \"start\"");
    run_mode(TDM_PROGRESS_NONE, false, TDM_PROGRESS_NONE, 0, "");
    run_mode(TDM_PROGRESS_JSON, true, TDM_PROGRESS_NONE, 0, "");
}

/* The clock is moved by hand: a line is due when the last one is long ago. */
static void test_due(void **state)
{
    (void)state;
    static const struct {
        tdm_progress_mode mode;
        double late; /* seconds since the last line */
    } CASES[] = {{TDM_PROGRESS_PLAIN, 11}, {TDM_PROGRESS_BAR, 0.2}, {TDM_PROGRESS_JSON, 1.5}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char *text = NULL;
        size_t len = 0;
        tdm_progress p;
        FILE *to = open_memstream(&text, &len);
        start(&p, CASES[i].mode, false, to);
        fflush(to);
        const size_t started = len;
        p.last += 1e6; /* in the future: nothing is due however slow the machine */
        tdm_progress_add(&p, 1, 0, 0);
        fflush(to);
        assert_int_equal(len, started);
        p.last -= 1e6 + CASES[i].late;
        tdm_progress_add(&p, 1, 0, 0);
        fflush(to);
        assert_non_null(strstr(text, CASES[i].mode == TDM_PROGRESS_JSON ? "\"done\": 2" : "2/3 texts"));
        const size_t before = len;
        assert_true(p.last >= p.start); /* the time of this line, not of the one before */
        p.last += 1e6;
        tdm_progress_add(&p, 1, 0, 0);
        fflush(to);
        assert_int_equal(len, before);
        const bool is_bar = CASES[i].mode == TDM_PROGRESS_BAR;
        tdm_progress_clear(&p);
        assert_int_equal(len, before + (is_bar ? 4 : 0));
        assert_string_equal(text + before, is_bar ? "\r\033[K" : "");
        tdm_progress_abandon(&p);
        fclose(to);
        assert_int_equal(text[len - 1], '\n');
        free(text);
    }
}

/* The end of a run that did not finish: an event for programs, the end of the line for people. */
static void test_abandon(void **state)
{
    (void)state;
    static const struct {
        tdm_progress_mode mode;
        const char *last;
    } CASES[] = {{TDM_PROGRESS_PLAIN, ""}, {TDM_PROGRESS_BAR, ""}, {TDM_PROGRESS_JSON, "{\"event\": \"stop\""}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char *text = NULL;
        size_t len = 0;
        tdm_progress p;
        FILE *to = open_memstream(&text, &len);
        start(&p, CASES[i].mode, false, to);
        fflush(to);
        const size_t started = len;
        tdm_progress_abandon(&p);
        fclose(to);
        assert_int_equal(strncmp(text + started, CASES[i].last, strlen(CASES[i].last)), 0);
        assert_int_equal(len > started, CASES[i].last[0] != '\0');
        free(text);
    }
    tdm_progress never = {0};
    tdm_progress_abandon(&never);
}

/* ---- the metrics ---- */

#define METRICS "test_progress.prom"

/* Whether the file says `line`, whole. */
static bool has_line(const char *line)
{
    char got[256], want[256];
    bool found = false;
    FILE *f = fopen(METRICS, "r");
    assert_non_null(f);
    snprintf(want, sizeof want, "%s\n", line);
    while (!found && fgets(got, sizeof got, f))
        found = strcmp(got, want) == 0;
    fclose(f);
    return found;
}

#define LABELS "{command=\"detect\",rank=\"0\"}"

static void test_metrics(void **state)
{
    (void)state;
    tdm_progress p;
    tdm_progress_options options = {.mode = TDM_PROGRESS_BAR,
                                    .quiet = true, /* says nothing, and writes the file */
                                    .command = "detect",
                                    .unit = "texts",
                                    .metrics_file = METRICS,
                                    .rank = {0, 1},
                                    .records_before = 40,
                                    .bad_before = 4};
    assert_int_equal(tdm_progress_start(&p, &options, NULL), TDM_OK);
    assert_true(has_line("tandem_up" LABELS " 1"));
    assert_true(has_line("tandem_records_before" LABELS " 40"));
    p.last_metrics += 1e6; /* not due, however slow the machine */
    tdm_progress_bytes(&p, 10, 30);
    tdm_progress_add(&p, 2, 5, 1);
    assert_true(has_line("tandem_records_total" LABELS " 0"));
    p.last_metrics -= 1e6 + 6;
    tdm_progress_bytes(&p, 20, 30);
    tdm_progress_add(&p, 1, 5, 0);
    assert_true(has_line("tandem_records_total" LABELS " 3"));
    assert_true(has_line("tandem_bad_records_total" LABELS " 1"));
    assert_true(has_line("tandem_tokens_total" LABELS " 10"));
    assert_true(has_line("tandem_input_read_bytes" LABELS " 20"));
    assert_true(has_line("tandem_up" LABELS " 1"));
    assert_true(p.last_metrics >= p.start); /* the time of this file, not of the one before */
    p.last_metrics += 1e6;
    tdm_progress_add(&p, 1, 0, 0);
    assert_true(has_line("tandem_records_total" LABELS " 3"));
    tdm_progress_finish(&p);
    assert_true(has_line("tandem_records_total" LABELS " 4"));
    assert_true(has_line("tandem_up" LABELS " 0"));
    assert_true(has_line("tandem_finished" LABELS " 1"));

    assert_int_equal(tdm_progress_start(&p, &options, NULL), TDM_OK);
    assert_true(has_line("tandem_finished" LABELS " 0"));
    tdm_progress_abandon(&p);
    assert_true(has_line("tandem_up" LABELS " 0"));
    assert_true(has_line("tandem_finished" LABELS " 0"));
    remove(METRICS);
}

/* At the start a bad name is an error; later a lost folder is not, since watching must not end a run. */
static void test_metrics_refused(void **state)
{
    (void)state;
    tdm_progress p;
    tdm_err err;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    tdm_progress_options options = {.mode = TDM_PROGRESS_JSON,
                                    .to = to,
                                    .command = "detect",
                                    .unit = "texts",
                                    .metrics_file = "no/such/folder/x.prom"};
    assert_int_equal(tdm_progress_start(&p, &options, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "no/such/folder/x.prom"));
    tdm_progress_abandon(&p); /* as whoever called it does on its way out */
    fflush(to);
    assert_int_equal(len, 0);

    options.metrics_file = METRICS;
    assert_int_equal(tdm_progress_start(&p, &options, &err), TDM_OK);
    p.set.metrics_file = "no/such/folder/x.prom";
    p.last_metrics -= 6;
    tdm_progress_add(&p, 1, 0, 0);
    tdm_progress_finish(&p);
    fclose(to);
    assert_non_null(strstr(text, "\"finish\""));
    free(text);
    remove(METRICS);
}

/* ---- somebody else prints ---- */

static struct {
    int n[4]; /* by event */
    uint64_t done, tokens, bad, bytes;
} watched;

static void watch(void *ctx, const tdm_progress *p, tdm_progress_event event)
{
    assert_ptr_equal(ctx, &watched);
    watched.n[event]++;
    watched.done = p->done;
    watched.tokens = p->tokens;
    watched.bad = p->bad;
    watched.bytes = p->bytes_done;
}

static void test_watched(void **state)
{
    (void)state;
    static const char NAME[] = "test_progress.watched.prom";
    FILE *f = tmpfile();
    assert_non_null(f);
    memset(&watched, 0, sizeof watched);
    const tdm_progress_options options = {.mode = TDM_PROGRESS_JSON, .to = f, .command = "detect", .unit = "texts",
                                          .metrics_file = NAME, .records_before = 7, .watch = watch,
                                          .watch_ctx = &watched};
    tdm_progress p;
    assert_int_equal(tdm_progress_start(&p, &options, NULL), TDM_OK);
    assert_int_equal(watched.n[TDM_EVENT_START], 1);
    tdm_progress_bytes(&p, 5, 10);
    tdm_progress_add(&p, 2, 30, 1);
    assert_int_equal(watched.n[TDM_EVENT_PROGRESS], 1); /* each time: how often it is due is the watcher's */
    tdm_progress_add(&p, 1, 0, 0);
    assert_int_equal(watched.n[TDM_EVENT_PROGRESS], 2);
    assert_int_equal(watched.done, 10);
    assert_int_equal(watched.tokens, 30);
    assert_int_equal(watched.bad, 1);
    assert_int_equal(watched.bytes, 5);
    tdm_progress_finish(&p);
    tdm_progress_abandon(&p);
    assert_int_equal(watched.n[TDM_EVENT_FINISH], 1);
    assert_int_equal(watched.n[TDM_EVENT_STOP], 1);
    assert_int_equal(ftell(f), 0);
    assert_int_not_equal(remove(NAME), 0); /* no metrics either */
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),       cmocka_unit_test(test_events),
        cmocka_unit_test(test_longest_event), cmocka_unit_test(test_bytes_before),
        cmocka_unit_test(test_rates),        cmocka_unit_test(test_small_buffer),
        cmocka_unit_test(test_modes),        cmocka_unit_test(test_due),
        cmocka_unit_test(test_abandon),      cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_metrics_refused), cmocka_unit_test(test_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
