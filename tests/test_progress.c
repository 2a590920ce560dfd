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

static void test_format(void **state)
{
    (void)state;
    static const struct {
        tdm_progress p;
        double seconds;
        int columns;
        bool finished;
        const char *want;
    } CASES[] = {
        {{.mode = TDM_PROGRESS_PLAIN, .done = 3700, .total = 10000, .tokens = 456789, .bad = 2},
         37, 80, false,
         "tandem generate: 3700/10000 documents (37%), 100/s, 12.3k tokens/s, 2 bad, ETA 1:03"},
        {{.mode = TDM_PROGRESS_PLAIN, .done = 5}, 2, 80, false, "tandem generate: 5 documents, 2.5/s"},
        {{.mode = TDM_PROGRESS_PLAIN, .done = 1, .bytes_done = 25, .bytes_total = 100}, 3600, 80, false,
         "tandem generate: 1 documents (25%), 0.0/s, ETA 3:00:00"},
        {{.mode = TDM_PROGRESS_PLAIN, .total = 4}, 0, 80, false,
         "tandem generate: 0/4 documents (0%), 0.0/s"},
        {{.mode = TDM_PROGRESS_PLAIN, .done = 10000, .total = 10000, .tokens = 12340000}, 83.4, 80, true,
         "tandem generate: 10000 documents in 1:23, 120/s, 148k tokens/s"},
        {{.mode = TDM_PROGRESS_PLAIN, .done = 9, .total = 4}, 9, 80, false, /* more than announced */
         "tandem generate: 9/4 documents (100%), 1.0/s, ETA 0:00"},
        {{.mode = TDM_PROGRESS_BAR, .done = 5, .total = 10}, 1, 200, false,
         "tandem generate: [==========>         ] 5/10 documents (50%), 5.0/s, ETA 0:01"},
        {{.mode = TDM_PROGRESS_BAR, .done = 10, .total = 10}, 1, 200, false,
         "tandem generate: [====================] 10/10 documents (100%), 10.0/s, ETA 0:00"},
        {{.mode = TDM_PROGRESS_BAR, .done = 5, .total = 10}, 1, 21, false, "tandem generate: [=="},
        {{.mode = TDM_PROGRESS_BAR, .done = 3}, 1, 80, false, "tandem generate: 3 documents, 3.0/s"},
        {{.mode = TDM_PROGRESS_JSON, .done = 5, .total = 10, .tokens = 7, .bad = 1}, 2.5, 20, false,
         "{\"event\": \"progress\", \"command\": \"generate\", \"unit\": \"documents\", \"done\": 5, "
         "\"total\": 10, \"tokens\": 7, \"bad\": 1, \"seconds\": 2.500, \"eta\": 2.5}"},
        {{.mode = TDM_PROGRESS_JSON, .done = 5, .bytes_done = 9, .bytes_total = 9}, 2, 80, true,
         "{\"event\": \"finish\", \"command\": \"generate\", \"unit\": \"documents\", \"done\": 5, "
         "\"bytes_done\": 9, \"bytes_total\": 9, \"tokens\": 0, \"bad\": 0, \"seconds\": 2.000}"},
        {{.mode = TDM_PROGRESS_NONE, .done = 5}, 1, 80, true, ""},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        char line[512];
        tdm_progress p = CASES[i].p;
        p.command = "generate";
        p.unit = "documents";
        const size_t n = tdm_progress_format(&p, CASES[i].seconds, CASES[i].columns,
                                             CASES[i].finished, line, sizeof line);
        assert_string_equal(line, CASES[i].want);
        assert_int_equal(n, strlen(line));
    }
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
        const tdm_progress p = {.mode = TDM_PROGRESS_PLAIN, .command = "x", .unit = "y",
                                .done = CASES[i].done};
        tdm_progress_format(&p, 1, 80, false, line, sizeof line);
        const char *rate = strstr(line, "y, ");
        assert_non_null(rate);
        assert_string_equal(rate + 3, CASES[i].want);
    }
}

/* A buffer that is too small gets a whole string all the same. */
static void test_small_buffer(void **state)
{
    (void)state;
    const tdm_progress p = {.mode = TDM_PROGRESS_PLAIN, .command = "x", .unit = "y", .done = 5};
    for (size_t size = 0; size < 40; size++) {
        char line[40];
        memset(line, '#', sizeof line);
        const size_t n = tdm_progress_format(&p, 1, 80, false, line, size);
        if (size) {
            assert_true(n < size);
            assert_int_equal(strlen(line), n);
        }
        for (size_t i = size; i < sizeof line; i++)
            assert_int_equal(line[i], '#');
    }
}

static void run_mode(tdm_progress_mode mode, bool quiet, tdm_progress_mode want_mode, size_t want_lines,
                     const char *begins)
{
    char *text = NULL;
    size_t len = 0, lines = 0;
    tdm_progress p;
    FILE *to = open_memstream(&text, &len);
    assert_non_null(to);
    tdm_progress_start(&p, mode, quiet, to, "detect", "texts", 3);
    assert_int_equal(p.mode, want_mode);
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
    run_mode(TDM_PROGRESS_JSON, false, TDM_PROGRESS_JSON, 1, "{\"event\": \"finish\"");
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
        tdm_progress_start(&p, CASES[i].mode, false, to, "detect", "texts", 3);
        p.last += 1e6; /* in the future: nothing is due however slow the machine */
        tdm_progress_add(&p, 1, 0, 0);
        fflush(to);
        assert_int_equal(len, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format), cmocka_unit_test(test_rates), cmocka_unit_test(test_small_buffer),
        cmocka_unit_test(test_modes),  cmocka_unit_test(test_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
