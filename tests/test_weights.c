/* tests/test_weights.c - tensors of a file as weights, biases and tables of a backend. */
#include <unistd.h>

#include "host/weights.h"
#include "tests/ops_reference.h"

/* ---- a safetensors file of its own making ---- */

static char path[64];

typedef struct {
    const char *name;
    tdm_dtype dtype;
    int rows, cols; /* cols 0: a vector */
    const float *values;
} tensor;

static size_t count_of(const tensor *t)
{
    return (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
}

/* Write the tensors one behind the other. */
static void write_file(const tensor *tensors, size_t n)
{
    static const char *const TYPES[] = {"F32", "F16", "BF16"};
    char header[1024], shape[40];
    size_t at = (size_t)snprintf(header, sizeof header, "{"), offset = 0;
    for (size_t i = 0; i < n; i++) {
        const tensor *t = &tensors[i];
        const size_t end = offset + count_of(t) * tdm_dtype_size(t->dtype);
        snprintf(shape, sizeof shape, t->cols ? "%d, %d" : "%d", t->rows, t->cols);
        at += (size_t)snprintf(
            header + at, sizeof header - at,
            "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
            i ? ", " : "", t->name, TYPES[t->dtype], shape, offset, end);
        offset = end;
    }
    at += (size_t)snprintf(header + at, sizeof header - at, "}");
    const uint64_t length = at;
    strcpy(path, "test_weights_XXXXXX.safetensors");
    const int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&length, sizeof length, 1, f), 1);
    assert_int_equal(fwrite(header, 1, at, f), at);
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = count_of(&tensors[i]) * tdm_dtype_size(tensors[i].dtype);
        void *data = malloc(count_of(&tensors[i]) * sizeof(float));
        assert_non_null(data);
        tdm_from_f32(data, tensors[i].dtype, tensors[i].values, count_of(&tensors[i]));
        assert_int_equal(fwrite(data, 1, bytes, f), bytes);
        free(data);
    }
    assert_int_equal(fclose(f), 0);
}

typedef struct {
    tdm_backend be;
    tdm_checkpoint *ck;
    tdm_loader load;
} opened;

static void open_file(opened *o, const tensor *tensors, size_t n)
{
    write_file(tensors, n);
    ASSERT_OK(tdm_open_cpu(1, &o->be, err));
    ASSERT_OK(tdm_checkpoint_open(path, &o->ck, err));
    ASSERT_OK(tdm_loader_open(&o->load, &o->be, o->ck, "", true, err));
}

static void close_file(opened *o)
{
    tdm_loader_close(&o->load);
    tdm_checkpoint_close(o->ck);
    tdm_backend_close(&o->be);
    unlink(path);
}

/* ---- tests ---- */

enum { IN = 5, OUT = 3, N = 2 };

/* y of the joined weights and biases is y of each beside the other, in one type and in two. */
static void joined(void **state)
{
    (void)state;
    static const tdm_dtype SECOND[] = {TDM_F16, TDM_BF16};
    static const char *const WEIGHTS[] = {"a", "b"}, *const BIASES[] = {"p", "q"};
    float values[N][IN * OUT], bias[N][OUT], x[IN], y[N * OUT];
    double want[N * OUT];
    for (int i = 0; i < N * IN * OUT; i++)
        values[i / (IN * OUT)][i % (IN * OUT)] = (float)(i * 7 % 11) - 5;
    for (int i = 0; i < N * OUT; i++)
        bias[i / OUT][i % OUT] = (float)i / 4;
    for (int i = 0; i < IN; i++)
        x[i] = (float)(1 + i);
    for (int i = 0; i < N * OUT; i++) {
        want[i] = (double)bias[i / OUT][i % OUT];
        for (int k = 0; k < IN; k++)
            want[i] += (double)x[k] * (double)values[i / OUT][i % OUT * IN + k];
    }
    for (size_t i = 0; i < COUNT(SECOND); i++) {
        const tensor tensors[] = {{"a", TDM_F16, OUT, IN, values[0]},
                                  {"b", SECOND[i], OUT, IN, values[1]},
                                  {"p", TDM_F16, OUT, 0, bias[0]},
                                  {"q", SECOND[i], OUT, 0, bias[1]}};
        opened o;
        tdm_weight *w = NULL;
        tdm_mat b = {0};
        open_file(&o, tensors, COUNT(tensors));
        ASSERT_OK(tdm_load_weights_joined(&o.load, WEIGHTS, N, tdm_whole(IN), tdm_whole(OUT), &w, err));
        ASSERT_OK(tdm_load_biases_joined(&o.load, BIASES, N, tdm_whole(OUT), &b, err));
        assert_true(b.rows == 1 && b.cols == N * OUT && b.dtype == o.be.dtype);
        assert_int_equal(o.load.bytes, N * (IN + 1) * OUT * sizeof(float));
        ASSERT_OK(tdm_linear(&o.be, mat(y, 1, N * OUT), mat(x, 1, IN), w, &b, TDM_LINEAR, err));
        ASSERT_CLOSE(y, want, N * OUT, N * OUT, 0x1p-20, "second type %d", (int)SECOND[i]);
        tdm_weight_close(&o.be, w);
        tdm_release(&o.be, b.p);
        close_file(&o);
    }
}

/* A tensor of several slices: all of it, and the first bad element wherever it is. */
static void large_tensors(void **state)
{
    (void)state;
    enum { ROWS = 1201, COLS = 1001, ALL = ROWS * COLS };
    static const size_t BAD[] = {0, 1, ALL / 4 - 2, ALL / 4 + 3, ALL / 2, ALL - 1};
    float *values = random_floats(ALL, 1);
    const float *got = NULL;
    char says[64];
    for (size_t i = 0; i <= COUNT(BAD); i++) {
        opened o;
        const tensor t = {"t", TDM_F32, ROWS, COLS, values};
        const float kept = i ? values[BAD[i - 1]] : 0;
        if (i) {
            values[BAD[i - 1]] = NAN;
            values[ALL - 1] = INFINITY;
            snprintf(says, sizeof says, "t: element %zu is", BAD[i - 1]);
        }
        open_file(&o, &t, 1);
        if (i) {
            ASSERT_FAILS(tdm_load_host(&o.load, "t", ROWS, COLS, &got, err), TDM_EFORMAT, says);
            values[BAD[i - 1]] = kept;
        } else {
            ASSERT_OK(tdm_load_host(&o.load, "t", ROWS, COLS, &got, err));
            assert_memory_equal(got, values, ALL * sizeof *values);
        }
        close_file(&o);
    }
    free(values);
}

/* ---- slices ---- */

/* The value that slice (rows, cols) of t has at (r, c) of what is in memory; zeros beyond the share. */
static float sliced_value(const tensor *t, tdm_slice rows, tdm_slice cols, int r, int c)
{
    const int in_row = r % rows.width, in_col = c % cols.width;
    if (in_row >= rows.share.n || in_col >= cols.share.n)
        return 0;
    const int row = r / rows.width * (rows.size / rows.groups) + rows.share.first + in_row;
    const int col = c / cols.width * (cols.size / cols.groups) + cols.share.first + in_col;
    return t->values[row * cols.size + col];
}

/* The matrix of one slice, seen through the product with the unit matrix. */
static void check_matrix(opened *o, const tensor *t, tdm_slice in, tdm_slice out, tdm_layout layout)
{
    const int n_in = tdm_slice_width(in), n_out = tdm_slice_width(out);
    const size_t before = o->load.bytes;
    tdm_weight *w = NULL;
    float *x = calloc((size_t)n_in * (size_t)n_in, sizeof *x), *y = calloc((size_t)n_in * (size_t)n_out, sizeof *y);
    assert_true(x && y);
    for (int i = 0; i < n_in; i++)
        x[i * n_in + i] = 1;
    ASSERT_OK(tdm_load_weight(&o->load, t->name, in, out, layout, &w, err));
    assert_true(w->in == n_in && w->out == n_out);
    assert_int_equal(o->load.bytes - before, (size_t)n_in * (size_t)n_out * sizeof *y);
    ASSERT_OK(tdm_linear(&o->be, mat(y, n_in, n_out), mat(x, n_in, n_in), w, NULL, TDM_LINEAR, err));
    for (int i = 0; i < n_in; i++)
        for (int k = 0; k < n_out; k++) {
            const float want = layout == TDM_IN_OUT ? sliced_value(t, in, out, i, k) : sliced_value(t, out, in, k, i);
            if (y[i * n_out + k] != want)
                fail_msg("input %d, output %d: %g, want %g", i, k, (double)y[i * n_out + k], (double)want);
        }
    tdm_weight_close(&o->be, w);
    free(x);
    free(y);
}

enum { ROWS = 64, COLS = 96, GROUPS = 3 };

static void sliced_matrices(void **state)
{
    (void)state;
    static const tdm_slice SLICES[][2] = {
        /* of ROWS                             of COLS */
        {{ROWS, 1, {0, ROWS}, ROWS}, {COLS, GROUPS, {5, 11}, 11}}, /* columns of query, key and value */
        {{ROWS, 1, {0, ROWS}, ROWS}, {COLS, 1, {COLS - 7, 7}, 7}},
        {{ROWS, 1, {3, 40}, 40}, {COLS, 1, {0, COLS}, COLS}}, /* whole rows */
        {{ROWS, 1, {60, 4}, 16}, {COLS, 1, {0, COLS}, COLS}}, /* and rows of nobody */
        {{ROWS, 1, {0, 0}, 16}, {COLS, 1, {0, COLS}, COLS}},
        {{ROWS, 4, {1, 3}, 5}, {COLS, GROUPS, {30, 2}, 4}},
        {{ROWS, 4, {1, 3}, 5}, {COLS, 1, {0, COLS}, COLS}},
        {{ROWS, 1, {2, 50}, 50}, {COLS, 1, {0, COLS}, COLS + 5}},
        {{ROWS, 2, {0, 32}, 32}, {COLS, GROUPS, {0, 32}, 32}}, /* everything, in groups */
    };
    float *values = random_floats(ROWS * COLS, 2);
    const tensor t = {"t", TDM_F32, ROWS, COLS, values};
    opened o;
    open_file(&o, &t, 1);
    for (size_t i = 0; i < COUNT(SLICES); i++) {
        check_matrix(&o, &t, SLICES[i][0], SLICES[i][1], TDM_IN_OUT);
        check_matrix(&o, &t, SLICES[i][1], SLICES[i][0], TDM_OUT_IN);
    }
    close_file(&o);
    free(values);
}

/* Columns of a tensor that several readers share, and what is not finite inside and outside of them. */
static void sliced_large(void **state)
{
    (void)state;
    enum { LONG = 24000, WIDE = 120, FIRST = 37, TAKEN = 60 };
    static const int BAD[] = {-1, FIRST - 1, FIRST, 7000 * WIDE + FIRST + TAKEN - 1, LONG / 2 * WIDE + FIRST + TAKEN};
    static const tdm_slice ALL = {LONG, 1, {0, LONG}, LONG}, SOME = {WIDE, 1, {FIRST, TAKEN}, TAKEN};
    float *values = random_floats(LONG * WIDE, 3), *x = calloc(LONG, sizeof *x), y[TAKEN];
    const tensor t = {"t", TDM_F32, LONG, WIDE, values};
    for (size_t i = 0; i < COUNT(BAD); i++) {
        const bool wanted = i == 2 || i == 3;
        const float kept = BAD[i] < 0 ? 0 : values[BAD[i]];
        char says[64];
        opened o;
        tdm_weight *w = NULL;
        if (BAD[i] >= 0)
            values[BAD[i]] = NAN;
        open_file(&o, &t, 1);
        snprintf(says, sizeof says, "t: element %d is", BAD[i]);
        if (wanted)
            ASSERT_FAILS(tdm_load_weight(&o.load, "t", ALL, SOME, TDM_IN_OUT, &w, err), TDM_EFORMAT, says);
        else
            ASSERT_OK(tdm_load_weight(&o.load, "t", ALL, SOME, TDM_IN_OUT, &w, err));
        for (int row = 0; w && row < LONG; row += 997) {
            x[row] = 1;
            ASSERT_OK(tdm_linear(&o.be, mat(y, 1, TAKEN), mat(x, 1, LONG), w, NULL, TDM_LINEAR, err));
            assert_memory_equal(y, values + row * WIDE + FIRST, sizeof y);
            x[row] = 0;
        }
        tdm_weight_close(&o.be, w);
        close_file(&o);
        if (BAD[i] >= 0)
            values[BAD[i]] = kept;
    }
    free(values);
    free(x);
}

/* Biases, joined matrices and tables; what is empty; a slice that is not inside. */
static void sliced_others(void **state)
{
    (void)state;
    static const char *const WEIGHTS[] = {"a", "b"}, *const BIASES[] = {"p", "p"};
    static const tdm_slice BAD[] = {{COLS, 1, {90, 7}, 7}, {COLS, 5, {0, 1}, 1}, {COLS, 1, {-1, 4}, 4},
                                    {COLS, 1, {0, 4}, 3}, {COLS, 0, {0, 4}, 4}};
    const tdm_slice qkv = {COLS, GROUPS, {5, 11}, 12}, few = tdm_some(ROWS, (tdm_share){50, 3});
    const tdm_slice none = tdm_some(ROWS, (tdm_share){ROWS, 0});
    float *values = random_floats(ROWS * COLS, 4), x[COLS] = {0}, y[6];
    const tensor tensors[] = {{"a", TDM_F32, ROWS, COLS, values}, {"b", TDM_F16, ROWS, COLS, values},
                              {"p", TDM_F32, COLS, 0, values}, {"t", TDM_F16, ROWS, 4, values}};
    opened o;
    tdm_weight *w = NULL;
    tdm_mat m = {0};
    open_file(&o, tensors, COUNT(tensors));
    ASSERT_OK(tdm_load_biases_joined(&o.load, BIASES, 2, qkv, &m, err));
    assert_true(m.cols == 2 * GROUPS * 12 && o.load.bytes == (size_t)m.cols * sizeof(float));
    for (int i = 0; i < m.cols; i++)
        assert_true(((float *)m.p)[i] == (i % 12 < 11 ? values[i / 12 % GROUPS * 32 + 5 + i % 12] : 0));
    tdm_release(&o.be, m.p);
    ASSERT_OK(tdm_load_weights_joined(&o.load, WEIGHTS, 2, tdm_whole(COLS), few, &w, err));
    x[17] = 1;
    ASSERT_OK(tdm_linear(&o.be, mat(y, 1, 6), mat(x, 1, COLS), w, NULL, TDM_LINEAR, err));
    for (int i = 0; i < 3; i++) {
        assert_true(y[i] == values[(50 + i) * COLS + 17]);
        assert_true(fabsf(y[3 + i] - y[i]) <= 0x1p-11F * fabsf(y[i])); /* rounded to f16 in the file */
    }
    tdm_weight_close(&o.be, w);
    ASSERT_OK(tdm_load_table(&o.load, "t", few, 4, &m, err));
    assert_true(m.rows == 3 && m.cols == 4 && m.dtype == TDM_F16);
    for (int i = 0; i < 12; i++) {
        tdm_to_f32(y, (uint16_t *)m.p + i, TDM_F16, 1);
        assert_true(fabsf(y[0] - values[200 + i]) <= 0x1p-11F * fabsf(values[200 + i]));
    }
    tdm_release(&o.be, m.p);
    const size_t bytes = o.load.bytes;
    ASSERT_OK(tdm_load_table(&o.load, "t", none, 4, &m, err));
    assert_true(m.p && m.rows == 0);
    tdm_release(&o.be, m.p);
    ASSERT_OK(tdm_load_bias(&o.load, "p", tdm_some(COLS, (tdm_share){0, 0}), &m, err));
    assert_true(m.rows == 1 && m.cols == 0);
    tdm_release(&o.be, m.p);
    for (size_t i = 0; i < COUNT(BAD); i++)
        ASSERT_FAILS(tdm_load_bias(&o.load, "p", BAD[i], &m, err), TDM_EARG, "loading p: ");
    assert_int_equal(o.load.bytes, bytes);
    close_file(&o);
    free(values);
}

/* What is asked for must be there, in that shape, and nothing else may be. */
static bool ignores_nothing(const char *name)
{
    (void)name;
    return false;
}

static void wrong_tensors(void **state)
{
    (void)state;
    static const float VALUES[OUT * IN] = {0};
    static const tensor TENSORS[] = {{"a", TDM_F16, OUT, IN, VALUES},
                                     {"b", TDM_F32, OUT, 0, VALUES}};
    static const char *const NAMES[] = {"a", "c"};
    opened o;
    tdm_weight *w = NULL;
    tdm_mat m = {0};
    open_file(&o, TENSORS, COUNT(TENSORS));
    ASSERT_FAILS(tdm_load_weight(&o.load, "a", tdm_whole(IN), tdm_whole(OUT), TDM_IN_OUT, &w, err), TDM_EFORMAT,
                 "shape [3, 5]");
    ASSERT_FAILS(tdm_load_weights_joined(&o.load, NAMES, 2, tdm_whole(IN), tdm_whole(OUT), &w, err), TDM_EFORMAT,
                 "no tensor c");
    ASSERT_FAILS(tdm_load_bias(&o.load, "b", tdm_whole(OUT + 1), &m, err), TDM_EFORMAT, "loading b");
    assert_true(w == NULL && m.p == NULL);
    assert_int_equal(o.load.bytes, 0);
    ASSERT_OK(tdm_load_table(&o.load, "a", tdm_whole(OUT), IN, &m, err));
    assert_true(m.dtype == TDM_F16 && m.rows == OUT && m.cols == IN);
    tdm_release(&o.be, m.p);
    close_file(&o);
    open_file(&o, TENSORS, COUNT(TENSORS));
    ASSERT_OK(tdm_load_bias(&o.load, "b", tdm_whole(OUT), &m, err));
    ASSERT_FAILS(tdm_loader_check_rest(&o.load, ignores_nothing, err), TDM_EFORMAT,
                 "tensor a does not belong");
    tdm_release(&o.be, m.p);
    close_file(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined),
        cmocka_unit_test(large_tensors),
        cmocka_unit_test(sliced_matrices),
        cmocka_unit_test(sliced_large),
        cmocka_unit_test(sliced_others),
        cmocka_unit_test(wrong_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
