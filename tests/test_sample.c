/* What a part of the input says of the whole: exact of little, scaled up of much, and from where it is taken. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/codec.h"
#include "tools/sample.c"

static char folder[] = "/tmp/test_sample.XXXXXX";

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

/* n records of 200 to 455 bytes, hard to compress; every bad_every-th is none (0: no such). */
static void fill(tdm_buf *out, size_t n, bool ids, size_t bad_every)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        char text[512];
        const size_t len = 180 + i % 256;
        for (size_t k = 0; k < len; k++) {
            seed = seed * 1664525 + 1013904223;
            text[k] = (char)('A' + (seed >> 24) % 58);
            text[k] = text[k] == '\\' ? 'x' : text[k];
        }
        if (bad_every && i % bad_every == 0)
            text[0] = '\n'; /* no escape: two broken lines */
        if (ids)
            assert_int_equal(tdm_buf_printf(out, NULL, "{\"id\": %7zu, ", i), TDM_OK);
        assert_int_equal(tdm_buf_printf(out, NULL, "%s\"text\": \"%.*s\"}\n", ids ? "" : "{", (int)len, text),
                         TDM_OK);
    }
}

static void write_all(const char *path, const tdm_buf *text, tdm_codec codec)
{
    tdm_buf packed = {0};
    assert_int_equal(tdm_compress(codec, text->p, text->len, &packed, NULL), TDM_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(packed.len ? packed.p : "", 1, packed.len, f), packed.len);
    assert_int_equal(fclose(f), 0);
    tdm_buf_free(&packed);
}

static tdm_status take(input_sample *s, const char *const *paths, size_t n, tdm_err *err)
{
    static const tdm_reader_options READING = TDM_READER_DEFAULTS;
    tdm_inputs inputs = {0};
    tdm_status st = tdm_inputs_list(paths, n, NULL, &inputs, err);
    *s = (input_sample){0};
    if (st == TDM_OK)
        st = sample_take(s, &inputs, &READING, err);
    for (size_t i = 0; i < s->n; i++) /* a name that lives in the inputs */
        s->items[i].record.file = NULL;
    tdm_inputs_free(&inputs);
    return st;
}

static double weights(const input_sample *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += s->items[i].weight;
    return sum;
}

static void assert_near(double got, double want, double share)
{
    if (fabs(got - want) > share * want)
        fail_msg("got %g, want %g", got, want);
}

static void test_little(void **state)
{
    (void)state;
    static const char *const PATHS[] = {"a.jsonl", "empty.jsonl", "b.zst", "c.gz"};
    tdm_buf text = {0};
    input_sample s;
    fill(&text, 1000, true, 50);
    write_all("a.jsonl", &text, TDM_PLAIN);
    write_all("b.zst", &text, TDM_ZST);
    write_all("c.gz", &text, TDM_GZ);
    write_all("empty.jsonl", &(tdm_buf){.p = ""}, TDM_PLAIN);
    assert_int_equal(take(&s, PATHS, 4, NULL), TDM_OK);
    assert_true(s.is_exact);
    assert_near(s.records, 3 * 1020, 1e-9); /* each bad one is two lines */
    assert_near(s.bad, 3 * 40, 1e-9);
    assert_near(s.text_bytes, 3 * (double)text.len, 1e-9);
    assert_near(s.packed_text_bytes, 2 * (double)text.len, 1e-9);
    assert_int_equal(s.n, 3 * 980);
    assert_near(weights(&s), 3 * 980, 1e-9);
    assert_memory_equal(s.items[0].record.id_json, "1", 1);
    assert_memory_equal(s.items[979].record.id_json, "999", 3);
    assert_int_equal(s.items[979].record.source[0], '{');
    sample_free(&s);
    tdm_buf_free(&text);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(unlink(PATHS[i]), 0);
}

/* More than is simply read. from_start: records are known by their line, which is far from the middle. */
static void check_much(const char *path, tdm_codec codec, size_t n, bool ids, bool from_start)
{
    tdm_buf text = {0};
    input_sample s;
    struct stat info;
    fill(&text, n, ids, 10);
    write_all(path, &text, codec);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size > WHOLE);
    assert_int_equal(take(&s, &path, 1, NULL), TDM_OK);
    assert_false(s.is_exact);
    assert_near(s.records, 1.1 * (double)n, 0.03);
    assert_near(s.bad, 0.2 * (double)n, 0.03);
    assert_near(s.text_bytes, (double)text.len, 0.03);
    assert_near(s.source_bytes, 0.9 * (double)text.len, 0.03);
    assert_near(weights(&s), s.records - s.bad, 1e-6);
    assert_true((s.bytes_read < (START + 1) * (double)TDM_CHUNK_BYTES) == from_start);
    const double last = strtod(s.items[s.n - 1].record.id_json, NULL); /* 0: no id, but "FILE:LINE" */
    assert_true((last < (double)n / 2) == from_start);
    sample_free(&s);
    tdm_buf_free(&text);
    assert_int_equal(unlink(path), 0);
}

static void test_much(void **state)
{
    (void)state;
    check_much("a.jsonl", TDM_PLAIN, 110000, true, false);
    check_much("a.jsonl", TDM_PLAIN, 60000, false, true);
    check_much("a.jsonl.zst", TDM_ZST, 75000, true, true);
}

/* Files that differ: each counts by its size, also one of which more is read than is kept. */
static void test_mixed(void **state)
{
    (void)state;
    static const char *const PATHS[] = {"a.zst", "bad.jsonl", "good.jsonl"};
    tdm_buf text = {0};
    input_sample s;
    double bytes = 0;
    fill(&text, 50000, true, 0);
    write_all("good.jsonl", &text, TDM_PLAIN);
    write_all("a.zst", &text, TDM_ZST);
    bytes += 2 * (double)text.len;
    text.len = 0;
    fill(&text, 25000, true, 1);
    write_all("bad.jsonl", &text, TDM_PLAIN);
    bytes += (double)text.len;
    assert_int_equal(take(&s, PATHS, 3, NULL), TDM_OK);
    assert_near(s.records, 150000, 0.06); /* of 32 places one more or less is in the first */
    assert_near(s.bad, 50000, 0.1);
    assert_near(s.text_bytes, bytes, 0.03);
    assert_near(weights(&s), s.records - s.bad, 1e-6);
    sample_free(&s);
    tdm_buf_free(&text);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(unlink(PATHS[i]), 0);
}

/* Many small files: those that are looked at are read whole, and stand for the others. */
static void test_many(void **state)
{
    (void)state;
    enum { FILES = 100 };
    char names[FILES][16];
    const char *paths[FILES];
    tdm_buf text = {0};
    input_sample s;
    fill(&text, 600, true, 0);
    for (size_t i = 0; i < FILES; i++) {
        snprintf(names[i], sizeof names[i], "%zu.jsonl", i);
        paths[i] = names[i];
        write_all(paths[i], &text, TDM_PLAIN);
    }
    assert_true(FILES * text.len > WHOLE);
    assert_int_equal(take(&s, paths, FILES, NULL), TDM_OK);
    assert_false(s.is_exact);
    assert_near(s.bytes_read, PLACES * (double)text.len, 1e-9);
    assert_near(s.records, FILES * 600, 1e-9);
    sample_free(&s);
    tdm_buf_free(&text);
    for (size_t i = 0; i < FILES; i++)
        assert_int_equal(unlink(paths[i]), 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const PIPE = "pipe", *const STDIN = "-";
    input_sample s;
    tdm_err err;
    assert_int_equal(mkfifo(PIPE, 0600), 0);
    assert_int_equal(take(&s, &PIPE, 1, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "pipe can be read only once"));
    sample_free(&s);
    assert_int_equal(take(&s, &STDIN, 1, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "stdin can be read only once"));
    sample_free(&s);
    assert_int_equal(unlink(PIPE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_little),
        cmocka_unit_test(test_much),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
