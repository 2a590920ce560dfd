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
        ASSERT_OK(tdm_load_weights_joined(&o.load, WEIGHTS, N, IN, OUT, &w, err));
        ASSERT_OK(tdm_load_biases_joined(&o.load, BIASES, N, OUT, &b, err));
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
    ASSERT_FAILS(tdm_load_weight(&o.load, "a", IN, OUT, TDM_IN_OUT, &w, err), TDM_EFORMAT,
                 "shape [3, 5]");
    ASSERT_FAILS(tdm_load_weights_joined(&o.load, NAMES, 2, IN, OUT, &w, err), TDM_EFORMAT,
                 "no tensor c");
    ASSERT_FAILS(tdm_load_bias(&o.load, "b", OUT + 1, &m, err), TDM_EFORMAT, "loading b");
    assert_true(w == NULL && m.p == NULL);
    assert_int_equal(o.load.bytes, 0);
    ASSERT_OK(tdm_load_table(&o.load, "a", OUT, IN, &m, err));
    assert_true(m.dtype == TDM_F16 && m.rows == OUT && m.cols == IN);
    tdm_release(&o.be, m.p);
    close_file(&o);
    open_file(&o, TENSORS, COUNT(TENSORS));
    ASSERT_OK(tdm_load_bias(&o.load, "b", OUT, &m, err));
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
        cmocka_unit_test(wrong_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
