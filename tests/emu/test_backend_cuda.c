/* tests/emu/test_backend_cuda.c - the operations of host/backend.h on the CUDA backend against
 * float64, in every dtype. Inputs are rounded to the dtype first, so what is judged is the
 * operation's own error: f32 sums, and one rounding of each result that is kept in 16 bits. */
#include "tests/emu/backend_attention.h"
#include "tests/emu/backend_logits.h"
#include "tests/emu/backend_test.h"

/* ---- linear ---- */

typedef struct {
    const char *name;
    int rows, in, out;
    tdm_dtype file;
    tdm_layout layout;
    bool bias, f32_result;
    tdm_epilogue epilogue;
} linear_case;

static const linear_case LINEAR[] = {
    {"one row", 1, 64, 64, TDM_F32, TDM_IN_OUT, true, false, TDM_LINEAR},
    {"no bias", 3, 72, 128, TDM_BF16, TDM_IN_OUT, false, false, TDM_LINEAR},
    {"GPT-2 feed-forward", 5, 128, 512, TDM_F16, TDM_IN_OUT, true, false, TDM_GELU_TANH},
    {"GELU, no bias", 5, 8, 64, TDM_F32, TDM_OUT_IN, false, false, TDM_GELU_TANH},
    {"RoBERTa feed-forward", 7, 128, 256, TDM_F32, TDM_OUT_IN, true, false, TDM_GELU_ERF},
    {"RoBERTa, no bias", 2, 64, 64, TDM_F16, TDM_OUT_IN, false, false, TDM_GELU_ERF},
    {"RoBERTa head", 3, 64, 64, TDM_BF16, TDM_OUT_IN, true, false, TDM_TANH},
    {"logits, 14 columns of nothing", 6, 64, 50, TDM_F16, TDM_OUT_IN, false, true, TDM_LINEAR},
    {"logits, no gap", 33, 64, 192, TDM_F32, TDM_IN_OUT, false, true, TDM_LINEAR},
    {"4.5 MiB: two pieces", 2, 1024, 1152, TDM_F32, TDM_IN_OUT, true, false, TDM_LINEAR},
    {"rows of outputs in two pieces", 1, 1160, 1088, TDM_F32, TDM_OUT_IN, true, false, TDM_LINEAR},
};

/* Weight values [in, out] as they are in act, and their bytes in the file's type and layout. */
static float *make_weight(const linear_case *c, tdm_dtype act, void **bytes)
{
    const size_t in = (size_t)c->in, out = (size_t)c->out;
    float *w = values_of(in * out, 2, 1, 0, c->file), *ordered = random_floats(in * out, 0);
    for (size_t k = 0; k < in; k++)
        for (size_t j = 0; j < out; j++)
            ordered[c->layout == TDM_IN_OUT ? k * out + j : j * in + k] = w[k * out + j];
    tdm_from_f32(ordered, c->file, ordered, in * out);
    *bytes = ordered;
    round_to(w, act, in * out);
    return w;
}

static void check_linear(const tdm_backend *be, const linear_case *c, record *r)
{
    const size_t rows = (size_t)c->rows, in = (size_t)c->in, out = (size_t)c->out, n = rows * out;
    const tdm_dtype act = be->dtype, result = c->f32_result ? TDM_F32 : act;
    const bool after = c->epilogue == TDM_GELU_ERF || c->epilogue == TDM_TANH;
    const double tolerance = SUMS + (after ? 2.5 : 1) * unit_of(result); /* rounded before, too */
    const int32_t stride = c->out % 64 ? tdm_padded(c->out) : 0;
    float *x = values_of(rows * in, 1, 4 / sqrtf((float)in), 0, act), *got = NULL;
    float *bias = values_of(out, 3, 1, 0, act);
    double *want = doubles(n);
    void *bytes = NULL;
    float *w = make_weight(c, act, &bytes);
    tdm_weight *weight = NULL;
    ASSERT_OK(tdm_weight_open(be, bytes, c->file, c->in, c->out, c->layout, &weight, err));
    memset(bytes, 0xff, in * out * tdm_dtype_size(c->file)); /* it is the caller's again */
    assert_true(weight->in == c->in && weight->out == c->out);
    const tdm_mat b = put(be, bias, 1, c->out, act), xm = put(be, x, c->rows, c->in, act);
    const tdm_mat y = room(be, c->rows, c->out, stride, result);
    ASSERT_OK(tdm_linear(be, y, xm, weight, c->bias ? &b : NULL, c->epilogue, err));
    float *all = get(be, y);
    got = random_floats(n, 0);
    for (size_t i = 0; i < rows; i++) {
        const size_t width = stride ? (size_t)stride : out;
        memcpy(got + i * out, all + i * width, out * sizeof *got);
        for (size_t j = out; j < width; j++) /* outputs that fill up the last 64 have no weights */
            assert_true(all[i * width + j] == 0);
    }
    ref_linear(want, x, w, c->bias ? bias : NULL, rows, in, out, c->epilogue);
    note(r, c->name, act, got, want, n, tolerance);
    ref_linear(want, x, w, c->bias ? NULL : bias, rows, in, out, c->epilogue);
    ASSERT_FAR(got, want, n, tolerance, "%s, bias", c->name);
    ref_linear(want, x, w, c->bias ? bias : NULL, rows, in, out,
               c->epilogue == TDM_LINEAR ? TDM_TANH : TDM_LINEAR);
    ASSERT_FAR(got, want, n, tolerance, "%s, epilogue", c->name);
    tdm_weight_close(be, weight);
    release_all(be);
    free(all);
    free(got);
    free(want);
    free(bias);
    free(w);
    free(bytes);
    free(x);
}

static void linear_on(const tdm_backend *be)
{
    record r = {.what = "linear"};
    for (size_t i = 0; i < COUNT(LINEAR); i++)
        check_linear(be, &LINEAR[i], &r);
    print_record(&r, be->dtype);
}

/* The difference between the two forms of GELU is below bf16's rounding: told apart in f32. */
static void gelu_forms_differ(void **state)
{
    (void)state;
    tdm_backend be = open_cuda(TDM_F32, TDM_F32, false);
    enum { IN = 64, OUT = 64, ROWS = 9, N = ROWS * OUT };
    float *x = random_floats(ROWS * IN, 1), *w = random_floats(IN * OUT, 2);
    double *want = doubles(N);
    tdm_weight *weight = NULL;
    ASSERT_OK(tdm_weight_open(&be, w, TDM_F32, IN, OUT, TDM_IN_OUT, &weight, err));
    const tdm_mat xm = put(&be, x, ROWS, IN, TDM_F32), y = room(&be, ROWS, OUT, 0, TDM_F32);
    for (int erf = 0; erf < 2; erf++) {
        ASSERT_OK(tdm_linear(&be, y, xm, weight, NULL, erf ? TDM_GELU_ERF : TDM_GELU_TANH, err));
        float *got = get(&be, y);
        ref_linear(want, x, w, NULL, ROWS, IN, OUT, erf ? TDM_GELU_ERF : TDM_GELU_TANH);
        ASSERT_CLOSE(got, want, N, OUT, SUMS, "GELU %d", erf);
        ref_linear(want, x, w, NULL, ROWS, IN, OUT, erf ? TDM_GELU_TANH : TDM_GELU_ERF);
        ASSERT_FAR(got, want, N, SUMS, "form of GELU %d", erf);
        free(got);
    }
    tdm_weight_close(&be, weight);
    release_all(&be);
    tdm_backend_close(&be);
    free(want);
    free(w);
    free(x);
}

/* Two weights of one shape: the second use of a plan has its own weight and bias. */
static void a_plan_keeps_no_operands(void **state)
{
    (void)state;
    enum { IN = 64, OUT = 64, USES = 2 };
    tdm_backend be = open_cuda(TDM_F16, TDM_F16, false);
    tdm_weight *weights[USES];
    tdm_mat y[USES];
    float *x = values_of(IN, 1, 1, 0, TDM_F16);
    double want[OUT];
    const tdm_mat xm = put(&be, x, 1, IN, TDM_F16);
    for (uint64_t i = 0; i < USES; i++) {
        float *w = values_of(IN * OUT, 10 + i, 1, 0, TDM_F16),
              *bias = values_of(OUT, 20 + i, 1, 0, TDM_F16);
        const tdm_mat b = put(&be, bias, 1, OUT, TDM_F16);
        y[i] = room(&be, 1, OUT, 0, TDM_F16);
        ASSERT_OK(tdm_weight_open(&be, w, TDM_F32, IN, OUT, TDM_IN_OUT, &weights[i], err));
        ASSERT_OK(tdm_linear(&be, y[i], xm, weights[i], &b, TDM_LINEAR, err));
        free(bias);
        free(w);
    }
    for (uint64_t i = 0; i < USES; i++) {
        float *w = values_of(IN * OUT, 10 + i, 1, 0, TDM_F16),
              *bias = values_of(OUT, 20 + i, 1, 0, TDM_F16);
        float *got = get(&be, y[i]);
        ref_linear(want, x, w, bias, 1, IN, OUT, TDM_LINEAR);
        ASSERT_CLOSE(got, want, OUT, OUT, SUMS + unit_of(TDM_F16), "use %d", (int)i);
        tdm_weight_close(&be, weights[i]);
        free(got);
        free(bias);
        free(w);
    }
    release_all(&be);
    tdm_backend_close(&be);
    free(x);
}

/* ---- rows ---- */

static void norm_on(const tdm_backend *be)
{
    enum { ROWS = 5, MOST = 768 };
    static const int WIDTHS[] = {64, 200, MOST};
    record r = {.what = "add_norm"};
    const tdm_dtype act = be->dtype;
    double *want = doubles(ROWS * MOST);
    for (int i = 0; i < 12; i++) {
        const tdm_norm form = i % 2 ? TDM_POST_NORM : TDM_PRE_NORM;
        const bool has_delta = i / 2 % 2;
        const int32_t E = WIDTHS[i / 4];
        const size_t n = ROWS * (size_t)E;
        float *x = values_of(n, 1, 1, 0.5f, TDM_F32), *delta = values_of(n, 2, 1, 0, act);
        float *gamma = values_of((size_t)E, 3, 1, 0, TDM_F32);
        float *beta = values_of((size_t)E, 4, 1, 0, TDM_F32);
        const tdm_mat d = put(be, delta, ROWS, E, act), xm = put(be, x, ROWS, E, TDM_F32);
        const tdm_mat y = room(be, ROWS, E, 0, act);
        ASSERT_OK(tdm_add_norm(be, y, xm, has_delta ? &d : NULL, put(be, gamma, 1, E, TDM_F32),
                               put(be, beta, 1, E, TDM_F32), 1e-5f, form, err));
        float *got = get(be, y), *after = get(be, xm);
        for (size_t k = 0; k < n && has_delta; k++)
            x[k] += delta[k];
        ref_norm(want, x, gamma, beta, ROWS, (size_t)E, 1e-5);
        note(&r, form == TDM_PRE_NORM ? "pre" : "post", act, got, want, n, SUMS + unit_of(act));
        if (form == TDM_PRE_NORM)
            assert_memory_equal(after, x, n * sizeof *x);
        else
            note(&r, "post, x", TDM_F32, after, want, n, SUMS);
        release_all(be);
        free(after);
        free(got);
        free(beta);
        free(gamma);
        free(delta);
        free(x);
    }
    print_record(&r, act);
    free(want);
}

/* Ragged rows name their own tokens; decoding rows those of their slot, and an idle one is zeros.
 */
static void embed_on(const tdm_backend *be)
{
    enum { V = 30, P = 20, E = 72, ROWS = 4, FIRST = 2 };
    static const int32_t TOKENS[] = {29, 0, 7, 7}, POSITIONS[] = {0, 5, -1, 17};
    static const int32_t STARTS[] = {0, 4}, SLOTS[] = {3, 2, 1, -1};
    for (size_t t = 0; t < COUNT(DTYPES); t++) {
        float *words = values_of(V * E, 1, 1, 0, DTYPES[t]);
        float *places = values_of(P * E, 2, 1, 0, TDM_F32);
        tdm_step step = {.n_rows = 2,
                         .n_seqs = 1,
                         .longest = 2,
                         .tokens = on_device(be, TOKENS, sizeof TOKENS),
                         .positions = on_device(be, POSITIONS, sizeof POSITIONS),
                         .starts = on_device(be, STARTS, sizeof STARTS)};
        const tdm_mat w = put(be, words, V, E, DTYPES[t]), p = put(be, places, P, E, TDM_F32);
        const tdm_mat y = room(be, 2, E, 0, TDM_F32), z = room(be, ROWS, E, 0, TDM_F32);
        ASSERT_OK(tdm_embed(be, y, &step, w, 0, p, FIRST, err));
        step = (tdm_step){.n_rows = ROWS,
                          .n_seqs = ROWS,
                          .longest = 1,
                          .tokens = step.tokens,
                          .positions = step.positions,
                          .slots = on_device(be, SLOTS, sizeof SLOTS)};
        ASSERT_OK(tdm_embed(be, z, &step, w, 0, p, FIRST, err));
        float *ragged = get(be, y), *decoding = get(be, z);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < E; i++)
                assert_true(ragged[r * E + i] ==
                            words[TOKENS[r] * E + i] + places[(POSITIONS[r] + FIRST) * E + i]);
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < E; i++) {
                const int s = SLOTS[r];
                const bool idle = s < 0 || POSITIONS[s] < 0;
                assert_true(
                    decoding[r * E + i] ==
                    (idle ? 0 : words[TOKENS[s] * E + i] + places[(POSITIONS[s] + FIRST) * E + i]));
            }
        release_all(be);
        free(decoding);
        free(ragged);
        free(places);
        free(words);
    }
}

static void heads_on(const tdm_backend *be)
{
    enum { ROWS = 6, E = 192, LABELS = 3, PICKED = 4 };
    static const int32_t PICKS[PICKED] = {5, 0, 0, 3};
    record r = {.what = "classify"};
    const tdm_dtype act = be->dtype;
    float *x = values_of(ROWS * E, 1, 1, 0, act), *w = values_of(LABELS * E, 2, 1, 0, TDM_F32);
    float *bias = values_of(LABELS, 3, 1, 0, TDM_F32);
    double *want = doubles(PICKED * LABELS);
    const tdm_mat picked = room(be, PICKED, E, 0, act), y = room(be, PICKED, LABELS, 0, TDM_F32);
    ASSERT_OK(
        tdm_gather(be, picked, put(be, x, ROWS, E, act), on_device(be, PICKS, sizeof PICKS), err));
    ASSERT_OK(tdm_classify(be, y, picked, put(be, w, LABELS, E, TDM_F32),
                           put(be, bias, 1, LABELS, TDM_F32), err));
    float *rows = get(be, picked), *got = get(be, y);
    for (size_t i = 0; i < PICKED; i++) {
        assert_memory_equal(rows + i * E, x + (size_t)PICKS[i] * E, E * sizeof *x);
        for (size_t k = 0; k < LABELS; k++) {
            want[i * LABELS + k] = (double)bias[k];
            for (size_t j = 0; j < E; j++)
                want[i * LABELS + k] += (double)rows[i * E + j] * (double)w[k * E + j];
        }
    }
    note(&r, "3 labels", act, got, want, PICKED * LABELS, SUMS);
    print_record(&r, act);
    release_all(be);
    free(got);
    free(rows);
    free(want);
    free(bias);
    free(w);
    free(x);
}

/* ---- attention ---- */

static void attention_of_every_cache(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(DTYPES); i++)
        for (size_t k = 0; k < COUNT(DTYPES); k++) {
            tdm_backend be = open_cuda(DTYPES[i], DTYPES[k], false);
            assert_int_equal(tdm_kv_page_bytes(&be, 3, 5),
                             3 * 2 * 5 * TDM_PAGE * TDM_HEAD * tdm_dtype_size(DTYPES[k]));
            attention_on(&be, DTYPES[k]);
            tdm_backend_close(&be);
        }
}

/* ---- refusals ---- */

static void refusals_on(const tdm_backend *be)
{
    float values[64 * 64] = {0};
    tdm_weight *w = NULL;
    ASSERT_FAILS(tdm_weight_open(be, values, TDM_F32, 12, 64, TDM_IN_OUT, &w, err), TDM_EARG,
                 "12 inputs, CUDA wants a multiple of 8");
    assert_null(w);
    ASSERT_OK(tdm_weight_open(be, values, TDM_F32, 64, 50, TDM_OUT_IN, &w, err));
    const tdm_mat x = put(be, values, 2, 64, be->dtype), bias = put(be, values, 1, 50, be->dtype);
    const tdm_mat tight = room(be, 2, 50, 0, be->dtype), y = room(be, 2, 50, 64, be->dtype);
    ASSERT_FAILS(tdm_linear(be, tight, x, w, NULL, TDM_LINEAR, err), TDM_EARG, "room for 64");
    ASSERT_FAILS(tdm_linear(be, y, x, w, &bias, TDM_LINEAR, err), TDM_EARG, "50 outputs");
    ASSERT_FAILS(tdm_linear(be, y, x, w, NULL, TDM_TANH, err), TDM_EARG, "50 outputs");
    const tdm_mat none = {.rows = 0, .cols = 64, .dtype = be->dtype};
    ASSERT_OK(tdm_linear(be, (tdm_mat){.cols = 50, .stride = 64, .dtype = be->dtype}, none, w, NULL,
                         TDM_LINEAR, err));
    tdm_weight_close(be, w);
    release_all(be);
}

static void on_every_dtype(void **state)
{
    static void (*const TESTS[])(const tdm_backend *) = {
        linear_on, norm_on, embed_on, heads_on, sample_on, stats_on, cross_on, top_on, refusals_on};
    (void)state;
    for (size_t i = 0; i < COUNT(DTYPES); i++) {
        tdm_backend be = open_cuda(DTYPES[i], DTYPES[i], false);
        for (size_t k = 0; k < COUNT(TESTS); k++)
            TESTS[k](&be);
        tdm_backend_close(&be);
    }
}

int main(void)
{
    require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_every_dtype),
        cmocka_unit_test(gelu_forms_differ),
        cmocka_unit_test(a_plan_keeps_no_operands),
        cmocka_unit_test(attention_of_every_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
