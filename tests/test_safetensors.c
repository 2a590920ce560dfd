/* One safetensors file: every check of the container has a file that fails it. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/buf.h"
#include "host/safetensors.h"

#define TEXT(literal) literal, sizeof(literal) - 1
#define ENTRY(type, shape, range)                                                                  \
    "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" range "}"

/* ---- headers ---- */

static const struct {
    const char *header;
    size_t len;
    uint64_t data_bytes;
    const char *message; /* part of it; NULL: accepted */
} HEADERS[] = {
    {TEXT("{}"), 0, NULL},
    {TEXT("{}   "), 0, NULL},
    {TEXT("{\"a\":" ENTRY("F32", "[]", "[0,4]") "}"), 4, NULL},
    {TEXT("{\"\":" ENTRY("F32", "[]", "[0,4]") "}"), 4, NULL},
    {TEXT("{\"a\":" ENTRY("F32", "[0,5]", "[0,0]") "}"), 0, NULL},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[0,3]") ",\"z\":" ENTRY("U8", "[0]", "[3,3]") "}"), 3,
     NULL},
    {TEXT("{\"b\":" ENTRY("F16", "[2]", "[4,8]") ",\"a\":" ENTRY("BF16", "[2,1]", "[0,4]") "}"), 8,
     NULL},
    {TEXT("{\"__metadata__\":{\"format\":\"pt\"},\"a\":" ENTRY("I64", "[1]", "[0,8]") "}"), 8,
     NULL},
    {TEXT("{\"a\":" ENTRY("BOOL", "[1,1,1,1,1,1,1,1]", "[0,1]") "}"), 1, NULL},
    {TEXT("{\"\\u0061\\n\":" ENTRY("F32", "[]", "[0,4]") "}"), 4, "control character in the name"},

    {TEXT(""), 0, "does not start with {"},
    {TEXT(" {}"), 0, "does not start with {"},
    {TEXT("[]"), 0, "does not start with {"},
    {TEXT("{"), 0, "at byte 1"},
    {TEXT("{}x"), 0, "at byte 2"},
    {TEXT("{}\0"), 0, "NUL"},
    {TEXT("{\"\xff\":1}"), 0, "UTF-8"},
    {TEXT("{\"a\":" ENTRY("U8", "[]", "[0,1]") ",\"a\":" ENTRY("U8", "[]", "[1,2]") "}"), 2,
     "\"a\" stands twice"},
    {TEXT("{\"a\\u0000b\":" ENTRY("U8", "[]", "[0,1]") "}"), 1, "u0000"},
    {TEXT("{\"a\":1}"), 0, "tensor \"a\": want an object"},
    {TEXT("{\"a\":{}}"), 0, "want an object"},
    {TEXT("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}"), 0, "want an object"},
    {TEXT("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"offsets\":[0,1]}}"), 1,
     "data_offsets is missing"},
    {TEXT("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":1}}"), 1,
     "want an object"},
    {TEXT("{\"a\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,1]}}"), 1, "dtype is missing"},
    {TEXT("{\"a\":" ENTRY("f32", "[]", "[0,4]") "}"), 4, "dtype \"f32\" is not known"},
    {TEXT("{\"a\":" ENTRY("F4", "[2]", "[0,1]") "}"), 1, "dtype \"F4\" is not known"},
    {TEXT("{\"a\":" ENTRY("U8", "3", "[0,3]") "}"), 3, "shape is missing"},
    {TEXT("{\"a\":" ENTRY("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}"), 1, "more than 8 dimensions"},
    {TEXT("{\"a\":" ENTRY("U8", "[\"3\"]", "[0,3]") "}"), 3, "dimension 0"},
    {TEXT("{\"a\":" ENTRY("U8", "[-3]", "[0,3]") "}"), 3, "digits alone"},
    {TEXT("{\"a\":" ENTRY("U8", "[3.0]", "[0,3]") "}"), 3, "digits alone"},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[0,3e0]") "}"), 3, "digits alone"},
    {TEXT("{\"a\":" ENTRY("U8", "[1,9007199254740992]", "[0,3]") "}"), 3, "dimension 1"},
    {TEXT("{\"a\":" ENTRY("U8", "[9007199254740991,9007199254740991]", "[0,3]") "}"), 3,
     "does not fit 64 bits"},
    {TEXT("{\"a\":" ENTRY("F64", "[2305843009213693,1024,1]", "[0,3]") "}"), 3,
     "does not fit 64 bits"},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[0]") "}"), 3, "data_offsets"},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[0,3,3]") "}"), 3, "data_offsets"},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[0,null]") "}"), 3, "data_offsets"},
    {TEXT("{\"a\":" ENTRY("U8", "[3]", "[3,0]") "}"), 3, "run backwards"},
    {TEXT("{\"a\":" ENTRY("U8", "[4]", "[0,4]") "}"), 3, "end at 4, the file has 3"},
    {TEXT("{\"a\":" ENTRY("F32", "[1]", "[0,3]") "}"), 3, "make 4 bytes, data_offsets 3"},
    {TEXT("{\"a\":" ENTRY("F32", "[2]", "[0,4]") "}"), 4, "make 8 bytes, data_offsets 4"},
    {TEXT("{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"b\":" ENTRY("U8", "[1]", "[2,3]") "}"), 3,
     "b: a hole of 1 bytes"},
    {TEXT("{\"a\":" ENTRY("U8", "[1]", "[1,2]") "}"), 2, "a: a hole of 1 bytes"},
    {TEXT("{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[1,3]") "}"), 3,
     "b: data at 1 overlaps a"},
    {TEXT("{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[0,2]") "}"), 2,
     "overlaps"},
    {TEXT("{\"a\":" ENTRY("U8", "[2]", "[0,2]") "}"), 3, "end at byte 2 of 3"},
    {TEXT("{}"), 1, "end at byte 0 of 1"},
    {TEXT("{\"__metadata__\":[]}"), 0, "__metadata__ is no object"},
    {TEXT("{\"__metadata__\":{\"a\":1}}"), 0, "no string"},
    {TEXT("{\"__metadata__\":{\"a\":{}}}"), 0, "no string"},
};

static void checks_the_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        char *copy = malloc(HEADERS[i].len + 1);
        memcpy(copy, HEADERS[i].header, HEADERS[i].len);
        copy[HEADERS[i].len] = '}'; /* behind the end: must not be read */
        tdm_safetensors st;
        tdm_err err = {0};
        const tdm_status got =
            tdm_safetensors_parse(copy, HEADERS[i].len, HEADERS[i].data_bytes, 0, &st, &err);
        if (!HEADERS[i].message && got != TDM_OK)
            fail_msg("%s: refused: %s", HEADERS[i].header, err.msg);
        if (HEADERS[i].message && (got != TDM_EFORMAT || !strstr(err.msg, HEADERS[i].message)))
            fail_msg("%s: status %d, %s", HEADERS[i].header, (int)got, err.msg);
        tdm_safetensors_close(&st);
        free(copy);
    }
}

static void knows_the_tensors(void **state)
{
    (void)state;
    static const char HEADER[] =
        "{\"b\":" ENTRY("F16", "[2,3]", "[8,20]") ",\"__metadata__\":{},\"a\":" ENTRY(
            "I64", "[1]", "[0,8]") ",\"empty\":" ENTRY("BF16", "[0]", "[20,20]") "}";
    tdm_safetensors st;
    assert_int_equal(tdm_safetensors_parse(TEXT(HEADER), 20, 7, &st, NULL), TDM_OK);
    assert_int_equal(st.n, 3);
    const uint64_t data = 8 + sizeof HEADER - 1;
    assert_int_equal(st.size, data + 20);

    assert_string_equal(st.tensors[0].name, "a");
    assert_string_equal(st.tensors[0].type_name, "I64");
    assert_false(st.tensors[0].is_float);
    assert_int_equal(st.tensors[0].offset, data);

    assert_string_equal(st.tensors[1].name, "b");
    assert_true(st.tensors[1].is_float);
    assert_int_equal(st.tensors[1].dtype, TDM_F16);
    assert_int_equal(st.tensors[1].rank, 2);
    assert_int_equal(st.tensors[1].shape[0], 2);
    assert_int_equal(st.tensors[1].shape[1], 3);
    assert_int_equal(st.tensors[1].bytes, 12);
    assert_int_equal(st.tensors[1].offset, data + 8);
    assert_int_equal(st.tensors[1].file, 7);

    assert_string_equal(st.tensors[2].name, "empty");
    assert_int_equal(st.tensors[2].bytes, 0);
    tdm_safetensors_close(&st);
}

/* A header that is all values must stop at the bound, not at the end of memory. */
static void bounds_the_tree(void **state)
{
    (void)state;
    const size_t n = 4u << 20;
    char *header = malloc(n);
    for (size_t i = 0; i < n; i++)
        header[i] = i % 2 ? ',' : '0';
    memcpy(header, "{\"a\":[", 6);
    tdm_safetensors st;
    tdm_err err = {0};
    assert_int_equal(tdm_safetensors_parse(header, n, 0, 0, &st, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "more values than allowed"));
    free(header);
}

/* ---- files ---- */

static char path[64];

static int make_path(void **state)
{
    (void)state;
    strcpy(path, "test_safetensors.XXXXXX");
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(uint64_t claimed, const char *header, size_t data_bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(claimed >> (8 * i) & 0xFF), f);
    fputs(header, f);
    for (size_t i = 0; i < data_bytes; i++)
        fputc((int)i, f);
    assert_int_equal(fclose(f), 0);
}

static void checks_the_file(void **state)
{
    (void)state;
    static const char HEADER[] = "{\"a\":" ENTRY("U8", "[4]", "[0,4]") "}";
    static const uint64_t LEN = sizeof HEADER - 1;
    const struct {
        uint64_t claimed;
        size_t data_bytes;
        const char *message;
    } files[] = {
        {LEN, 4, NULL},
        {LEN, 3, "end at 4, the file has 3 bytes"},
        {LEN, 5, "end at byte 4 of 5"},
        {LEN, 0, "end at 4, the file has 0 bytes"},
        {0, 4, "does not start with {"},
        {LEN - 1, 4, "ends too early"},
        {LEN + 5, 4, "the header claims"},
        {100000000, 4, "the header claims 100000000 bytes, the file has"},
        {100000001, 4, "at most 100000000 are allowed"},
        {UINT64_MAX, 4, "the header claims 18446744073709551615 bytes"},
        {UINT64_MAX - 7, 4, "the header claims"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        tdm_safetensors st;
        tdm_err err = {0};
        write_file(files[i].claimed, HEADER, files[i].data_bytes);
        const tdm_status got = tdm_safetensors_open(path, 0, &st, &err);
        if (!files[i].message) {
            assert_int_equal(got, TDM_OK);
            assert_true(st.fd >= 0);
        } else if (got != TDM_EFORMAT || !strstr(err.msg, files[i].message) ||
                   strncmp(err.msg, path, strlen(path)) != 0) {
            fail_msg("file %zu: status %d, %s", i, (int)got, err.msg);
        }
        tdm_safetensors_close(&st);
    }
}

static void short_files(void **state)
{
    (void)state;
    for (int n = 0; n < 8; n++) {
        tdm_safetensors st;
        tdm_err err = {0};
        char want[64];
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(tdm_safetensors_open(path, 0, &st, &err), TDM_EFORMAT);
        snprintf(want, sizeof want, "%d bytes, too short for a header", n);
        assert_non_null(strstr(err.msg, want));
    }
}

static void no_such_file(void **state)
{
    (void)state;
    tdm_safetensors st;
    tdm_err err = {0};
    assert_int_equal(tdm_safetensors_open("no/such/file", 0, &st, &err), TDM_ENOINPUT);
    assert_string_equal(err.msg, "no/such/file: No such file or directory");
    assert_int_equal(tdm_safetensors_open(".", 0, &st, &err), TDM_ENOINPUT);
    assert_string_equal(err.msg, ".: is a folder, want a file");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(tdm_safetensors_open(path, 0, &st, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "is not a regular file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_the_header),
        cmocka_unit_test(knows_the_tensors),
        cmocka_unit_test(bounds_the_tree),
        cmocka_unit_test_setup_teardown(checks_the_file, make_path, remove_path),
        cmocka_unit_test_setup_teardown(short_files, make_path, remove_path),
        cmocka_unit_test_setup_teardown(no_such_file, make_path, remove_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
