/* CSV: what RFC 4180 allows, what it does not and where, rows around the limit, and reads that end anywhere. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/csv.h"

#define BYTES(s) s, sizeof s - 1
#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_csv.XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/f.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(len == 0 || fwrite(data, 1, len, f) == len);
    assert_int_equal(fclose(f), 0);
}

/* All rows as one text: fields as <...>, bad rows as ![class detail], each with number@line+offset. */
static void dump(tdm_csv *csv, size_t n, tdm_buf *out)
{
    tdm_err err = {0};
    tdm_csv_row row;
    for (;;) {
        if (tdm_csv_next(csv, &row, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        if (row.kind == TDM_CSV_END)
            break;
        tdm_buf_printf(out, NULL, "%d@%d+%d", (int)row.number, (int)row.line, (int)row.offset);
        if (row.kind == TDM_CSV_BAD)
            tdm_buf_printf(out, NULL, "![%s %s]", tdm_fault_name(row.fault), row.detail);
        for (size_t i = 0; i < n && row.kind == TDM_CSV_ROW; i++)
            tdm_buf_printf(out, NULL, "<%.*s>", (int)row.fields[i].len, row.fields[i].text);
        tdm_buf_put(out, " ", 1, NULL);
    }
    tdm_buf_put(out, "", 1, NULL);
}

static tdm_csv *open_csv(const char *name, size_t max_row, size_t *n)
{
    tdm_err err = {0};
    tdm_csv *csv = NULL;
    const tdm_csv_options options = {.max_row = max_row, .max_ratio = 500};
    if (tdm_csv_open(name, &options, &csv, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    const tdm_csv_field *columns = tdm_csv_columns(csv, n);
    assert_true(*n > 0 && (columns[0].text[0] == 'a' || columns[0].text[0] == 'i')); /* not the byte order mark */
    return csv;
}

typedef struct {
    const char *data;
    size_t len;
    const char *rows;
} csv_case;

static const csv_case CASES[] = {
    {BYTES("a,b\n"), ""},
    {BYTES("a,b"), ""},
    {BYTES("a,b\n1,2\n3,4\n"), "1@2+4<1><2> 2@3+8<3><4> "},
    {BYTES("a,b\r\n1,2\r\n3,4"), "1@2+5<1><2> 2@3+10<3><4> "},
    {BYTES("a,b\n3,4\r"), "1@2+4<3><4> "},
    {BYTES("a,b\n,\n"), "1@2+4<><> "},
    {BYTES("a,b\n1,"), "1@2+4<1><> "},
    {BYTES("\xef\xbb\xbf" "a,b\n1,2\n"), "1@2+7<1><2> "},
    {BYTES("a,b\n\n\r\n1,2\n\n"), "1@4+7<1><2> "},
    {BYTES("a\n\"\"\n"), "1@2+2<> "},
    {BYTES("a,b\n\"1,2\",\"3\"\"4\"\n"), "1@2+4<1,2><3\"4> "},
    {BYTES("a,b\n\"\"\"\",\"\"\"\"\"\"\n"), "1@2+4<\"><\"\"> "},
    {BYTES("a,b\n\"1\n\n2\r\n\",3\n4,5\n"), "1@2+4<1\n\n2\r\n><3> 2@6+15<4><5> "},
    {BYTES("a,b\n\"x\"\"\n\"\"y\n\",2\n3,4\n"), "1@2+4<x\"\n\"y\n><2> 2@5+17<3><4> "},
    {BYTES("a,b\n1,\"2\""), "1@2+4<1><2> "},
    {BYTES("a,b\n\xc3\xa9,\xf0\x9f\x98\x80\n"), "1@2+4<\xc3\xa9><\xf0\x9f\x98\x80> "},
    {BYTES("\"a\"\"\n\",b\n1,2\n"), "1@3+9<1><2> "},
    /* what is wrong, and where; the rows behind it are read */
    {BYTES("a,b\n1\n1,2,3\n4,5\n"),
     "1@2+4![csv row 1: 1 fields, want 2] 2@3+6![csv row 2: 3 fields, want 2] 3@4+12<4><5> "},
    {BYTES("a,b\n1,2\"3\n4,5\n"),
     "1@2+4![csv row 1, line 2, byte 7: a quote inside a field without quotes] 2@3+10<4><5> "},
    {BYTES("a,b\n1,\"2\n\"3\n4,5\n"), "1@2+4![csv row 1, line 3, byte 10: text behind a closing quote] 2@4+12<4><5> "},
    {BYTES("a,b\n1,2\r3\n4,5\n"),
     "1@2+4![csv row 1, line 2, byte 7: a carriage return that ends no line, outside quotes] 2@3+10<4><5> "},
    {BYTES("a,b\n1,2\n3,\"4\n5,6\n"),
     "1@2+4<1><2> 2@3+8![csv row 2: the quote at line 3, byte 10 is not closed before the end of the file] "},
    {BYTES("a,b\n1,\"x\n\xff\"\n4,5\n"), "1@2+4![utf8 row 1, line 3, byte 9: invalid UTF-8] 2@4+12<4><5> "},
    {BYTES("a,b\n1,\xc3\n4,5\n"), "1@2+4![utf8 row 1, line 2, byte 6: invalid UTF-8] 2@3+8<4><5> "},
    {BYTES("a,b\n1,\xed\xa0\x80\n"), "1@2+4![utf8 row 1, line 2, byte 6: invalid UTF-8] "},
    {BYTES("a,b\n1,x\0y\n4,5\n"), "1@2+4![nul row 1, line 2, byte 7: a NUL byte] 2@3+10<4><5> "},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_buf out = {0};
        size_t n = 0;
        write_file(CASES[i].data, CASES[i].len);
        tdm_csv *csv = open_csv(path, 1 << 20, &n);
        dump(csv, n, &out);
        if (strcmp(out.p, CASES[i].rows) != 0)
            fail_msg("case %zu: %s, want %s", i, out.p, CASES[i].rows);
        tdm_csv_close(csv);
        tdm_buf_free(&out);
    }
}

/* Every read ends somewhere else: stdin is a socket whose packets are `step` bytes. */
static void test_reads_end_anywhere(void **state)
{
    (void)state;
    const int saved = dup(STDIN_FILENO);
    for (size_t i = 0; i < COUNT(CASES) * 3; i++) {
        const csv_case *c = &CASES[i / 3];
        const size_t step = i % 3 + 1;
        int ends[2];
        tdm_buf out = {0};
        size_t n = 0;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        for (size_t at = 0; at < c->len; at += step) {
            const size_t some = c->len - at < step ? c->len - at : step;
            assert_int_equal(write(ends[1], c->data + at, some), some);
        }
        close(ends[1]);
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        tdm_csv *csv = open_csv("-", 1 << 20, &n);
        dump(csv, n, &out);
        if (strcmp(out.p, c->rows) != 0)
            fail_msg("case %zu by %zu: %s, want %s", i / 3, step, out.p, c->rows);
        tdm_csv_close(csv);
        tdm_buf_free(&out);
    }
    dup2(saved, STDIN_FILENO);
    close(saved);
}

/* A row of exactly n bytes, n >= 6, in quotes or not. */
static void put_row_of(tdm_buf *b, size_t n, bool quoted)
{
    tdm_buf_put(b, quoted ? "1,\"" : "1,x", 3, NULL);
    for (size_t i = 0; i < n - 5; i++)
        tdm_buf_put(b, i % 7 || !quoted ? "x" : "\n", 1, NULL);
    tdm_buf_put(b, quoted ? "\"\n" : "x\n", 2, NULL);
}

static void test_row_too_long(void **state)
{
    (void)state;
    static const size_t LIMITS[] = {16, 1000, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, (1 << 20) + 3};
    for (size_t i = 0; i < COUNT(LIMITS) * 2; i++) {
        const size_t limit = LIMITS[i / 2];
        const size_t lens[] = {limit, limit + 1, 3 * limit + 5, limit};
        tdm_buf all = {0};
        uint64_t offset = 4;
        int64_t line = 2;
        size_t n = 0;
        tdm_csv_row row;
        tdm_buf_put(&all, "a,b\n", 4, NULL);
        for (size_t k = 0; k < COUNT(lens); k++)
            put_row_of(&all, lens[k], i % 2);
        write_file(all.p, all.len);
        tdm_csv *csv = open_csv(path, limit, &n);
        for (size_t k = 0; k < COUNT(lens); k++) {
            assert_int_equal(tdm_csv_next(csv, &row, NULL), TDM_OK);
            assert_int_equal(row.kind, lens[k] > limit ? TDM_CSV_BAD : TDM_CSV_ROW);
            assert_int_equal(row.offset, offset);
            assert_int_equal(row.line, line);
            if (row.kind == TDM_CSV_BAD)
                assert_int_equal(row.fault, TDM_FAULT_LINE_TOO_LONG);
            for (size_t at = (size_t)offset; at < offset + lens[k]; at++)
                line += all.p[at] == '\n';
            offset += lens[k];
        }
        assert_int_equal(tdm_csv_next(csv, &row, NULL), TDM_OK);
        assert_int_equal(row.kind, TDM_CSV_END);
        assert_int_equal(row.offset, all.len);
        tdm_csv_close(csv);
        tdm_buf_free(&all);
    }
}

/* A quote that is never closed takes the rest of the file with it: where it began is told, also when that is long gone. */
static void test_open_quote_is_found(void **state)
{
    (void)state;
    tdm_buf all = {0};
    tdm_csv_row row;
    size_t n = 0;
    tdm_buf_printf(&all, NULL, "a,b\n1,2\n3,\"4\n");
    for (int i = 0; i < 100000; i++)
        tdm_buf_printf(&all, NULL, "%d,x\n", i);
    write_file(all.p, all.len);
    tdm_csv *csv = open_csv(path, 4096, &n);
    assert_int_equal(tdm_csv_next(csv, &row, NULL), TDM_OK);
    assert_int_equal(row.kind, TDM_CSV_ROW);
    assert_int_equal(tdm_csv_next(csv, &row, NULL), TDM_OK);
    assert_int_equal(row.kind, TDM_CSV_BAD);
    assert_string_equal(row.detail, "row 2: more than 4096 bytes, in quotes that begin at line 3, byte 10");
    assert_int_equal(tdm_csv_next(csv, &row, NULL), TDM_OK);
    assert_int_equal(row.kind, TDM_CSV_END);
    tdm_csv_close(csv);
    tdm_buf_free(&all);
}

static void test_compressed(void **state)
{
    (void)state;
    static const char TEXT[] = "a,b\n1,\"2\n\"\n3,4\n";
    for (int i = 0; i < 4; i++) {
        tdm_buf packed = {0}, out = {0};
        size_t n = 0;
        const bool is_cut = i >= 2;
        assert_int_equal(tdm_compress(i % 2 ? TDM_GZ : TDM_ZST, BYTES(TEXT), &packed, NULL), TDM_OK);
        tdm_compress(i % 2 ? TDM_GZ : TDM_ZST, BYTES("5,6\n"), &packed, NULL);
        write_file(packed.p, packed.len - (is_cut ? 10 : 0));
        tdm_csv *csv = open_csv(path, 1 << 20, &n);
        dump(csv, n, &out);
        if (!is_cut)
            assert_string_equal(out.p, "1@2+4<1><2\n> 2@4+11<3><4> 3@5+15<5><6> ");
        else if (!strstr(out.p, "1@2+4<1><2\n> 2@4+11<3><4> 3@5+15![damaged "))
            fail_msg("%s", out.p);
        tdm_csv_close(csv);
        tdm_buf_free(&packed);
        tdm_buf_free(&out);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *data, *says;
    } cases[] = {
        {"", "is empty; want a first row that names the columns"},
        {"\n\n", "is empty; want a first row that names the columns"},
        {"a,b,a\n", "line 1: columns 1 and 3 are both named \"a\""},
        {"a,\"b\n1,2\n", "line 1: the names of the columns: row 1: the quote at line 1, byte 2 is not closed"},
        {"a,\xff\n", "the names of the columns: row 1, line 1, byte 2: invalid UTF-8"},
    };
    const tdm_csv_options options = {.max_row = 1 << 20};
    tdm_csv *csv = NULL;
    for (size_t i = 0; i < COUNT(cases); i++) {
        tdm_err err = {0};
        write_file(cases[i].data, strlen(cases[i].data));
        assert_int_equal(tdm_csv_open(path, &options, &csv, &err), TDM_EFORMAT);
        assert_null(csv);
        if (!strstr(err.msg, cases[i].says) || strncmp(err.msg, path, strlen(path)) != 0)
            fail_msg("case %zu: %s", i, err.msg);
    }
    tdm_buf wide = {0};
    for (int i = 0; i <= TDM_CSV_COLUMNS_MOST; i++)
        tdm_buf_printf(&wide, NULL, "c%d,", i);
    write_file(wide.p, wide.len);
    assert_int_equal(tdm_csv_open(path, &options, &csv, NULL), TDM_EFORMAT);
    tdm_buf_free(&wide);
    size_t n = 0;
    write_file(BYTES("id,\"the, text\",id2\n"));
    csv = open_csv(path, 1 << 20, &n);
    assert_int_equal(n, 3);
    assert_int_equal(tdm_csv_column(csv, "id"), 0);
    assert_int_equal(tdm_csv_column(csv, "the, text"), 1);
    assert_int_equal(tdm_csv_column(csv, "id2"), 2);
    assert_true(tdm_csv_column(csv, "i") == TDM_CSV_NONE);
    tdm_csv_close(csv);
}

static void test_no_file(void **state)
{
    (void)state;
    tdm_csv *csv = NULL;
    tdm_err err = {0};
    const tdm_csv_options options = {.max_row = 1 << 20};
    assert_int_equal(tdm_csv_open("/nowhere/f.csv", &options, &csv, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "/nowhere/f.csv"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_reads_end_anywhere),
        cmocka_unit_test(test_row_too_long),
        cmocka_unit_test(test_open_quote_is_found),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
