/* What a command is given to read, as a list of files: names, folders, order, what is passed over, what is refused. */
#include "tests/record_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "host/codec.h"
#include "host/inputs.h"

/* Paths below the folder of the test, which is left out of them. */
static char *below(const char *name)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static void make_dir(const char *name)
{
    char *path = below(name);
    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

static void make_link(const char *target, const char *name)
{
    char *path = below(name), *to = target[0] == '.' ? strdup(target) : below(target);
    assert_int_equal(symlink(to, path), 0);
    free(path);
    free(to);
}

static void remove_all(const char *const *names, size_t n)
{
    for (size_t i = n; i-- > 0;) { /* folders come before what is in them */
        char *path = below(names[i]);
        assert_int_equal(remove(path), 0);
        free(path);
    }
}

/* The list's paths in one line, without the test's folder. */
static void join(const tdm_inputs *inputs, char *line, size_t cap)
{
    const size_t prefix = strlen(folder) + 1;
    line[0] = '\0';
    for (size_t i = 0; i < inputs->n; i++) {
        const char *path = inputs->items[i].path;
        const bool is_below = !strncmp(path, folder, prefix - 1) && path[prefix - 1] == '/';
        snprintf(line + strlen(line), cap - strlen(line), "%s%s", i ? " " : "", is_below ? path + prefix : path);
    }
}

/* ---- a tree ---- */

/* A name that ends in "/" is a folder; "->" a link. */
static const char *const TREE[] = {
    "d/",          "d/b.jsonl",   "d/a.jsonl.gz",  "d/z.jsonl.zst", "d/B.jsonl",
    "d/notes.txt", "d/c.json",    "d/x.gz",        "d/.h.jsonl",    "d/.hidden/",
    "d/sub/",      "d/a-/",       "d/OUT.job/",    "d/empty/",      "d/.hidden/k.jsonl",
    "d/sub/1.jsonl", "d/a-/2.jsonl", "d/OUT.job/0.jsonl", "d/sub/OUT.jsonl", "d/sub/OUT.jsonl.errors.jsonl",
    "d/sub/OUT.jsonl.manifest.json", "d/a.jsonl/",  "d/a.jsonl/3.jsonl",
};

static void make_tree(void)
{
    tdm_buf gz = {0}, zst = {0};
    assert_int_equal(tdm_compress(TDM_GZ, "x", 1, &gz, NULL), TDM_OK);
    assert_int_equal(tdm_compress(TDM_ZST, "x", 1, &zst, NULL), TDM_OK);
    for (size_t i = 0; i < COUNT(TREE); i++) {
        const tdm_codec codec = tdm_codec_of_name(TREE[i]);
        const tdm_buf plain = {.p = (char *)"12345", .len = 5};
        const tdm_buf *data = codec == TDM_GZ ? &gz : codec == TDM_ZST ? &zst : &plain;
        if (TREE[i][strlen(TREE[i]) - 1] == '/')
            make_dir(TREE[i]);
        else
            free(write_file(TREE[i], data->p, data->len));
    }
    tdm_buf_free(&gz);
    tdm_buf_free(&zst);
}

static const struct {
    const char *operands[4], *out; /* without "/", of the test's folder */
    tdm_status st;
    const char *want; /* the list, or a part of the message */
} LISTS[] = {
    {{"d"}, NULL, TDM_OK,
     "d/B.jsonl d/a-/2.jsonl d/a.jsonl.gz d/a.jsonl/3.jsonl d/b.jsonl d/sub/1.jsonl d/sub/OUT.jsonl "
     "d/sub/OUT.jsonl.errors.jsonl d/z.jsonl.zst"},
    {{"d/sub"}, "d/sub/OUT.jsonl", TDM_OK, "d/sub/1.jsonl"},
    {{"d/sub/"}, "-", TDM_OK, "d/sub/1.jsonl d/sub/OUT.jsonl d/sub/OUT.jsonl.errors.jsonl"},
    {{"d/sub"}, "d/sub/new.jsonl", TDM_OK, "d/sub/1.jsonl d/sub/OUT.jsonl d/sub/OUT.jsonl.errors.jsonl"},
    {{"d/sub"}, "l.jsonl", TDM_OK, "d/sub/1.jsonl"}, /* a link to d/sub/OUT.jsonl */
    {{"l"}, "d/sub/OUT.jsonl", TDM_OK, "l/1.jsonl"}, /* a link to d/sub */
    {{"d/b.jsonl", "-", "d/sub/1.jsonl", "d/b.jsonl"}, NULL, TDM_OK, "d/b.jsonl - d/sub/1.jsonl d/b.jsonl"},
    {{"d/notes.txt", "d/.h.jsonl"}, NULL, TDM_OK, "d/notes.txt d/.h.jsonl"}, /* named, any file will do */
    {{"d/OUT.job"}, NULL, TDM_OK, "d/OUT.job/0.jsonl"},
    {{NULL}, NULL, TDM_OK, "-"},
    {{"-", "d/b.jsonl", "-"}, NULL, TDM_EARG, "only once"},
    {{"d/b.jsonl"}, "d/b.jsonl", TDM_EARG, "d/b.jsonl: is input and output"},
    {{"d/sub/OUT.jsonl"}, "l.jsonl", TDM_EARG, "d/sub/OUT.jsonl: is input and output"},
    {{"d/sub/OUT.jsonl.errors.jsonl"}, "d/sub/OUT.jsonl", TDM_EARG, "errors.jsonl: is input and output"},
    {{"d"}, "d/b.jsonl", TDM_EARG, "d/b.jsonl: is among the inputs"}, /* no run made it */
    {{"d/empty"}, NULL, TDM_ENOINPUT, "d/empty: a folder without"},
    {{"d/b.jsonl", "d/nothing"}, NULL, TDM_ENOINPUT, "d/nothing: No such file"},
    {{"d/x.gz"}, NULL, TDM_OK, "d/x.gz"},
};

static void check_list(size_t i)
{
    char *paths[4] = {NULL}, *out = NULL, line[1024];
    tdm_inputs inputs;
    tdm_err err = {0};
    size_t n = 0;
    for (; n < 4 && LISTS[i].operands[n]; n++)
        paths[n] = strcmp(LISTS[i].operands[n], "-") ? below(LISTS[i].operands[n]) : strdup("-");
    if (LISTS[i].out)
        out = strcmp(LISTS[i].out, "-") ? below(LISTS[i].out) : strdup("-");
    const tdm_status st = tdm_inputs_list((const char *const *)paths, n, out, &inputs, &err);
    if (st != LISTS[i].st)
        fail_msg("case %zu: %d %s", i, st, err.msg);
    join(&inputs, line, sizeof line);
    if (st == TDM_OK ? strcmp(line, LISTS[i].want) != 0 : !strstr(err.msg, LISTS[i].want))
        fail_msg("case %zu: %s", i, st == TDM_OK ? line : err.msg);
    assert_true(st == TDM_OK || inputs.n == 0);
    tdm_inputs_free(&inputs);
    for (size_t k = 0; k < n; k++)
        free(paths[k]);
    free(out);
}

static void test_lists(void **state)
{
    (void)state;
    make_tree();
    make_link("d/sub/OUT.jsonl", "l.jsonl");
    make_link("d/sub", "l");
    for (size_t i = 0; i < COUNT(LISTS); i++)
        check_list(i);
    static const char *const LINKS[] = {"l.jsonl", "l"};
    remove_all(LINKS, COUNT(LINKS));
    remove_all(TREE, COUNT(TREE));
}

static void test_links(void **state)
{
    (void)state;
    static const char *const MADE[] = {"t", "t/a", "t/a/up", "t/b.jsonl"};
    tdm_inputs inputs;
    tdm_err err = {0};
    char *path = below("t");
    make_dir("t");
    make_dir("t/a");
    make_link("..", "t/a/up");
    free(write_file("t/b.jsonl", BYTES("1")));
    assert_int_equal(tdm_inputs_list((const char *const *)&path, 1, NULL, &inputs, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "t/a/up: is a link to a folder that it is in"));
    remove_all(&MADE[2], 1);
    make_link("./gone", "t/a/up.jsonl");
    assert_int_equal(tdm_inputs_list((const char *const *)&path, 1, NULL, &inputs, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "t/a/up.jsonl: No such file"));
    static const char *const LEFT[] = {"t", "t/a", "t/b.jsonl", "t/a/up.jsonl"};
    remove_all(LEFT, COUNT(LEFT));
    free(path);
}

/* ---- one file ---- */

static void test_what_is_known(void **state)
{
    (void)state;
    tdm_buf gz = {0};
    assert_int_equal(tdm_compress(TDM_GZ, "abc", 3, &gz, NULL), TDM_OK);
    char *paths[] = {write_file("k.jsonl", BYTES("12345")), write_file("k.jsonl.gz", gz.p, gz.len),
                     write_file("k", gz.p, gz.len), below("pipe.zst")};
    const tdm_codec codecs[] = {TDM_PLAIN, TDM_GZ, TDM_GZ, TDM_ZST};
    const uint64_t sizes[] = {5, gz.len, gz.len, 0};
    const struct timespec times[2] = {{1000, 5}, {1234567890, 987654321}};
    tdm_inputs inputs;
    tdm_err err = {0};
    assert_int_equal(mkfifo(paths[3], 0600), 0); /* which has no writer: it is not opened */
    assert_int_equal(utimensat(AT_FDCWD, paths[0], times, 0), 0);
    for (size_t n = 3; n <= 4; n++) {
        assert_int_equal(tdm_inputs_list((const char *const *)paths, n, NULL, &inputs, &err), TDM_OK);
        assert_int_equal(inputs.n, n);
        assert_int_equal(inputs.bytes, n == 3 ? 5 + 2 * gz.len : 0);
        for (size_t i = 0; i < n; i++) {
            const tdm_input *input = &inputs.items[i];
            assert_int_equal(input->is_regular, i < 3);
            assert_int_equal(input->codec, codecs[i]);
            assert_int_equal(input->size, sizes[i]);
            assert_int_equal(tdm_input_is_seekable(input), i == 0);
            assert_int_equal(tdm_input_chunks(input, 2), i == 0 ? 3 : TDM_CHUNKS_UNKNOWN);
        }
        assert_int_equal(inputs.items[0].mtime, INT64_C(1234567890987654321));
        assert_int_equal(tdm_input_chunks(&inputs.items[0], 5), 1);
        assert_int_equal(tdm_input_chunks(&inputs.items[0], 1 << 20), 1);
        tdm_inputs_free(&inputs);
    }
    for (size_t i = 0; i < COUNT(paths); i++)
        remove_file(paths[i]);
    tdm_buf_free(&gz);
}

/* A name that promises what the bytes are not. */
static void test_false_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t len;
    } CASES[] = {{"f.gz", BYTES("")}, {"f.jsonl.zst", BYTES("")}, {"f.gz", BYTES("{}")},
                 {"f.zst", BYTES("\x1f\x8b\x08")}, {"f.gz", BYTES("\x28\xb5\x2f\xfd")}, {"f.gz", BYTES("\x1f")}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_inputs inputs;
        tdm_err err = {0};
        char *path = write_file(CASES[i].name, CASES[i].bytes, CASES[i].len);
        assert_int_equal(tdm_inputs_list((const char *const *)&path, 1, NULL, &inputs, &err), TDM_EFORMAT);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, "though its name says so"));
        remove_file(path);
    }
}

/* The hash sees each byte of both ends, and no other. */
static void test_hash_ends(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, SIZE = 3 * MIB };
    static const struct {
        size_t at;
        bool is_seen;
    } CASES[] = {{0, true}, {MIB - 1, true}, {MIB, false}, {SIZE - MIB - 1, false}, {SIZE - MIB, true},
                 {SIZE - 1, true}};
    char *data = calloc(1, SIZE);
    uint64_t first = 0, hash = 0;
    tdm_err err = {0};
    char *path = write_file("ends", data, SIZE);
    tdm_input input = {.path = path, .is_regular = true, .size = SIZE};
    assert_int_equal(tdm_input_hash_ends(&input, &first, &err), TDM_OK);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        data[CASES[i].at] = 1;
        free(write_file("ends", data, SIZE));
        assert_int_equal(tdm_input_hash_ends(&input, &hash, &err), TDM_OK);
        assert_int_equal(hash != first, CASES[i].is_seen);
        data[CASES[i].at] = 0;
    }
    free(write_file("ends", data, 10));
    assert_int_equal(tdm_input_hash_ends(&input, &hash, &err), TDM_EIO);
    assert_non_null(strstr(err.msg, path));
    input.size = 10;
    assert_int_equal(tdm_input_hash_ends(&input, &hash, &err), TDM_OK);
    input.size = 0;
    assert_int_equal(tdm_input_hash_ends(&input, &hash, &err), TDM_OK);
    unlink(path);
    assert_int_equal(tdm_input_hash_ends(&input, &hash, &err), TDM_ENOINPUT);
    free(path);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),       cmocka_unit_test(test_links),     cmocka_unit_test(test_what_is_known),
        cmocka_unit_test(test_false_names), cmocka_unit_test(test_hash_ends),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
