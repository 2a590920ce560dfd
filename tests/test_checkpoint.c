/* Folders of safetensors: single file, shards and their index, looking up and reading. */
#include <dirent.h>
#include <math.h>
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
#include "host/checkpoint.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "test_checkpoint.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlink(in_dir(e->d_name));
    closedir(d);
    return rmdir(dir);
}

static void write_bytes(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

/* A file of F32 vectors of four elements, one for each name: 0, 1, 2, ... */
static void write_vectors(const char *file, const char *const *names, int n)
{
    tdm_buf header = {0}, all = {0};
    for (int i = 0; i < n; i++)
        tdm_buf_printf(&header, NULL,
                       "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%d,%d]}",
                       i ? "," : "{", names[i], 16 * i, 16 * i + 16);
    tdm_buf_put(&header, "}", 1, NULL);
    const uint64_t len = header.len;
    tdm_buf_put(&all, &len, sizeof len, NULL);
    tdm_buf_put(&all, header.p, header.len, NULL);
    for (int i = 0; i < 4 * n; i++) {
        const float x = (float)i;
        tdm_buf_put(&all, &x, sizeof x, NULL);
    }
    write_bytes(file, all.p, all.len);
    tdm_buf_free(&header);
    tdm_buf_free(&all);
}

static void refused(tdm_status status, const char *message)
{
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    const tdm_status st = tdm_checkpoint_open(dir, &ck, &err);
    if (st != status || !strstr(err.msg, message) || !strstr(err.msg, dir))
        fail_msg("status %d, want %d with \"%s\": %s", (int)st, (int)status, message, err.msg);
    assert_null(ck);
}

static const char *const ABC[] = {"c", "a", "b"};

static void single_file(void **state)
{
    (void)state;
    tdm_checkpoint *ck = NULL;
    uint64_t bytes = 0;
    float data[4];
    write_vectors(SINGLE, ABC, 3);
    write_text(INDEX, "not even JSON"); /* the single file wins */
    assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
    assert_int_equal(tdm_checkpoint_count(ck), 3);
    assert_string_equal(tdm_checkpoint_at(ck, 0)->name, "a");
    assert_string_equal(tdm_checkpoint_at(ck, 2)->name, "c");
    assert_null(tdm_checkpoint_find(ck, "d"));
    const tdm_tensor *b = tdm_checkpoint_find(ck, "b");
    assert_non_null(b);
    assert_int_equal(tdm_checkpoint_read(ck, b, true, data, NULL), TDM_OK);
    assert_true(data[0] == 8 && data[3] == 11);
    assert_int_equal(tdm_checkpoint_files(ck), 1);
    assert_string_equal(tdm_checkpoint_file(ck, 0, &bytes), SINGLE);
    struct stat info;
    assert_int_equal(stat(in_dir(SINGLE), &info), 0);
    assert_int_equal(bytes, info.st_size);
    tdm_checkpoint_close(ck);

    assert_int_equal(tdm_checkpoint_open(in_dir(SINGLE), &ck, NULL), TDM_OK);
    assert_int_equal(tdm_checkpoint_count(ck), 3);
    tdm_checkpoint_close(ck);
    tdm_checkpoint_close(NULL);
}

static void shards(void **state)
{
    (void)state;
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    uint64_t bytes = 0;
    float data[4];
    write_vectors("one.safetensors", (const char *const[]){"a", "b"}, 2);
    write_vectors("two.safetensors", (const char *const[]){"c"}, 1);
    write_text(INDEX, "{\"metadata\":{\"total_size\":48},\"weight_map\":{\"a\":\"one.safetensors\","
                      "\"c\":\"two.safetensors\",\"b\":\"one.safetensors\"}}");
    if (tdm_checkpoint_open(dir, &ck, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(tdm_checkpoint_files(ck), 2);
    assert_int_equal(tdm_checkpoint_count(ck), 3);
    const tdm_tensor *b = tdm_checkpoint_find(ck, "b"), *c = tdm_checkpoint_find(ck, "c");
    assert_int_equal(tdm_checkpoint_read(ck, b, true, data, NULL), TDM_OK);
    assert_true(data[0] == 4);
    assert_int_equal(tdm_checkpoint_read(ck, c, true, data, NULL), TDM_OK);
    assert_true(data[0] == 0);
    assert_string_equal(tdm_checkpoint_file(ck, c->file, &bytes), "two.safetensors");
    tdm_checkpoint_close(ck);
}

static void bad_index(void **state)
{
    (void)state;
    static const struct {
        const char *map;
        tdm_status status;
        const char *message;
    } MAPS[] = {
        {"{\"a\":\"one.safetensors\",\"b\":\"three.safetensors\"}", TDM_ENOINPUT,
         "three.safetensors: No such file"},
        {"{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}", TDM_EFORMAT,
         "tensor \"b\" is not in one.safetensors"},
        {"{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"x\":\"two.safetensors\"}",
         TDM_EFORMAT, "tensor \"x\" is not in two.safetensors"},
        {"{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}", TDM_EFORMAT,
         "tensor \"a\" is in one.safetensors, not in two.safetensors"},
        {"{\"b\":\"two.safetensors\"}", TDM_EFORMAT, "tensor c of two.safetensors is not in"},
        {"{\"c\":\"two.safetensors\"}", TDM_EFORMAT, "tensor b of two.safetensors is not in"},
        {"{\"a\":\"one.safetensors\",\"b\":\"twin.safetensors\"}", TDM_EFORMAT,
         "tensor a is in one.safetensors and in twin.safetensors"},
        {"{\"a\":\"../one.safetensors\"}", TDM_EFORMAT, "is not the name of a .safetensors file"},
        {"{\"a\":\"/tmp/one.safetensors\"}", TDM_EFORMAT, "is not the name of a .safetensors file"},
        {"{\"a\":\"..\"}", TDM_EFORMAT, "is not the name"},
        {"{\"a\":\".safetensors\"}", TDM_EFORMAT, "is not the name"},
        {"{\"a\":\"\"}", TDM_EFORMAT, "is not the name"},
        {"{\"a\":\"pytorch_model.bin\"}", TDM_EFORMAT, "\"pytorch_model.bin\" is not the name"},
        {"{\"a\":\"x\\ny.safetensors\"}", TDM_EFORMAT, "\"x\\ny.safetensors\" is not the name"},
        {"{\"a\":7}", TDM_EFORMAT, "no string"},
        {"{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}", TDM_EFORMAT, "stands twice"},
        {"{}", TDM_EFORMAT, "weight_map is missing"},
        {"[]", TDM_EFORMAT, "weight_map is missing"},
        {"{", TDM_EFORMAT, "at byte"},
    };
    write_vectors("one.safetensors", (const char *const[]){"a"}, 1);
    write_vectors("twin.safetensors", (const char *const[]){"a"}, 1);
    write_vectors("two.safetensors", (const char *const[]){"b", "c"}, 2);
    for (size_t i = 0; i < COUNT(MAPS); i++) {
        tdm_buf text = {0};
        tdm_buf_printf(&text, NULL, "{\"weight_map\":%s}", MAPS[i].map);
        write_bytes(INDEX, text.p, text.len);
        refused(MAPS[i].status, MAPS[i].message);
        tdm_buf_free(&text);
    }
}

/* As many tensors as a header may hold, all but the last in the index: found in linear time; to
 * look each of them up in the index takes minutes. */
static void one_of_many_is_not_in_the_index(void **state)
{
    (void)state;
    enum { N = 140000 };
    tdm_buf header = {0}, all = {0}, index = {0};
    for (int i = 0; i < N; i++) {
        tdm_buf_printf(&header, NULL,
                       "%s\"t%06d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                       i ? "," : "{", i);
        if (i < N - 1)
            tdm_buf_printf(&index, NULL, "%s\"t%06d\":\"one.safetensors\"",
                           i ? "," : "{\"weight_map\":{", i);
    }
    tdm_buf_put(&header, "}", 1, NULL);
    tdm_buf_put(&index, "}}", 2, NULL);
    const uint64_t len = header.len;
    tdm_buf_put(&all, &len, sizeof len, NULL);
    tdm_buf_put(&all, header.p, header.len, NULL);
    write_bytes("one.safetensors", all.p, all.len);
    write_bytes(INDEX, index.p, index.len);
    tdm_buf_free(&header);
    tdm_buf_free(&all);
    tdm_buf_free(&index);
    refused(TDM_EFORMAT, "tensor t139999 of one.safetensors is not in weight_map");
}

/* A damaged shard is named. */
static void bad_shard(void **state)
{
    (void)state;
    write_text("one.safetensors", "short");
    write_text(INDEX, "{\"weight_map\":{\"a\":\"one.safetensors\"}}");
    refused(TDM_EFORMAT, "one.safetensors: 5 bytes, too short for a header");
}

static void too_many_shards(void **state)
{
    (void)state;
    tdm_buf text = {0};
    tdm_buf_printf(&text, NULL, "{\"weight_map\":{");
    for (int i = 0; i < 257; i++) {
        char file[40], name[20];
        const char *names[] = {name};
        snprintf(file, sizeof file, "%d.safetensors", i);
        snprintf(name, sizeof name, "t%d", i);
        write_vectors(file, names, 1);
        tdm_buf_printf(&text, NULL, "%s\"%s\":\"%s\"", i ? "," : "", name, file);
    }
    tdm_buf_printf(&text, NULL, "}}");
    write_bytes(INDEX, text.p, text.len);
    tdm_buf_free(&text);
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    assert_int_equal(tdm_checkpoint_open(dir, &ck, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, INDEX ": more than 256 files"));
}

static void nothing_there(void **state)
{
    (void)state;
    refused(TDM_ENOINPUT, "neither model.safetensors nor model.safetensors.index.json");
    write_text("pytorch_model.bin", "x");
    refused(TDM_ENOINPUT, "only \"pytorch_model.bin\": convert it to safetensors");
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    assert_int_equal(tdm_checkpoint_open("no/such/folder", &ck, &err), TDM_ENOINPUT);
    assert_string_equal(err.msg, "no/such/folder: No such file or directory");
    assert_int_equal(mkdir(in_dir(SINGLE), 0700), 0);
    refused(TDM_ENOINPUT, "is a folder, want a file");
    assert_int_equal(rmdir(in_dir(SINGLE)), 0);
}

static void expects(void **state)
{
    (void)state;
    static const char HEADER[] =
        "{\"wte.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
        "\"mask\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[12,18]},"
        "\"norm\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[18,24]}}";
    static const struct {
        const char *name;
        int64_t rows, cols;
        const char *message;
    } WANTS[] = {
        {"wte.weight", 2, 3, NULL},
        {"norm", 3, 0, NULL},
        {"wte.weight", 3, 2, "wte.weight: shape [2, 3], want [3, 2]"},
        {"wte.weight", 6, 0, "wte.weight: shape [2, 3], want [6]"},
        {"norm", 3, 1, "norm: shape [3], want [3, 1]"},
        {"mask", 2, 3, "mask: dtype U8, want F32, F16 or BF16"},
        {"h.0.ln_1.weight", 3, 0, "no tensor h.0.ln_1.weight"},
    };
    tdm_buf file = {0};
    const uint64_t len = sizeof HEADER - 1;
    tdm_buf_put(&file, &len, sizeof len, NULL);
    tdm_buf_put(&file, HEADER, sizeof HEADER - 1, NULL);
    tdm_buf_put(&file, "012345678901234567890123", 24, NULL);
    write_bytes(SINGLE, file.p, file.len);
    tdm_buf_free(&file);

    tdm_checkpoint *ck = NULL;
    assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
    for (size_t i = 0; i < COUNT(WANTS); i++) {
        const tdm_tensor *t = NULL;
        tdm_err err = {0};
        const tdm_status st =
            tdm_checkpoint_expect(ck, WANTS[i].name, WANTS[i].rows, WANTS[i].cols, &t, &err);
        if (!WANTS[i].message) {
            assert_int_equal(st, TDM_OK);
            assert_string_equal(t->name, WANTS[i].name);
        } else if (st != TDM_EFORMAT || t || !strstr(err.msg, WANTS[i].message)) {
            fail_msg("%s: %s", WANTS[i].name, err.msg);
        }
    }
    tdm_checkpoint_close(ck);
}

/* A value that is not finite is found in place, or let pass when nobody asks. */
static void not_finite(void **state)
{
    (void)state;
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    float data[4];
    write_vectors(SINGLE, ABC, 3);
    struct stat info;
    assert_int_equal(stat(in_dir(SINGLE), &info), 0);
    FILE *f = fopen(in_dir(SINGLE), "r+b");
    const float bad = -INFINITY;
    assert_int_equal(fseek(f, info.st_size - 8, SEEK_SET), 0); /* element 2 of b, the last */
    assert_int_equal(fwrite(&bad, sizeof bad, 1, f), 1);
    fclose(f);
    assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
    const tdm_tensor *b = tdm_checkpoint_find(ck, "b");
    assert_int_equal(tdm_checkpoint_read(ck, b, true, data, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "model.safetensors: b: element 2 is -inf"));
    assert_int_equal(tdm_checkpoint_read(ck, b, false, data, &err), TDM_OK);
    tdm_checkpoint_close(ck);
}

static void a_file_that_shrinks(void **state)
{
    (void)state;
    tdm_checkpoint *ck = NULL;
    tdm_err err = {0};
    float data[4];
    write_vectors(SINGLE, ABC, 3);
    assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
    const tdm_tensor *b = tdm_checkpoint_find(ck, "b");
    assert_int_equal(truncate(in_dir(SINGLE), (off_t)b->offset + 5), 0);
    assert_int_equal(tdm_checkpoint_read(ck, b, true, data, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "b: ends at byte"));
    tdm_checkpoint_close(ck);
}

int main(void)
{
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(single_file),
        IN_A_FOLDER(shards),
        IN_A_FOLDER(bad_index),
        IN_A_FOLDER(bad_shard),
        IN_A_FOLDER(expects),
        IN_A_FOLDER(too_many_shards),
        IN_A_FOLDER(nothing_there),
        IN_A_FOLDER(not_finite),
        IN_A_FOLDER(a_file_that_shrinks),
        IN_A_FOLDER(one_of_many_is_not_in_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
