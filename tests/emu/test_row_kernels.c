/* tests/emu/test_row_kernels.c - kernels/rows.cu: one case table each, for all dtypes, against
 * float64 loops over inputs that were rounded to the dtype first. */
#include "tests/emu/kernel_test.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};

static void assert_same_bits(const float *got, const float *want, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (bits_of(got[i]) != bits_of(want[i]))
            fail_msg("%s: [%zu] is %.9g, want %.9g", name, i, (double)got[i], (double)want[i]);
}

/* ---- embed ---- */

enum { N_WORDS = 37, N_PLACES = 21, FIRST = 2, EMBED_ROWS = 9 };

/* The token and position of each row; token -1 and N_WORDS, position N_PLACES: outside. */
static const int32_t TOKENS[EMBED_ROWS] = {0, 36, 5, -1, N_WORDS, 7, 5, 12, 5};
static const int32_t PLACES[EMBED_ROWS] = {0, 18, 3, 4, 5, N_PLACES - FIRST, 3, 18, -1};

static void check_embed_row(const float *got, const float *words, const float *places, int token,
                            int place, bool idle, size_t width)
{
    const bool outside =
        token < 0 || token >= N_WORDS || place + FIRST < 0 || place + FIRST >= N_PLACES;
    for (size_t i = 0; i < width; i++) {
        if (idle)
            assert_true(got[i] == 0);
        else if (outside)
            assert_true(isnan(got[i]));
        else if (got[i] !=
                 words[(size_t)token * width + i] + places[(size_t)(place + FIRST) * width + i])
            fail_msg("embed: token %d, place %d, width %zu: [%zu] is %g", token, place, width, i,
                     (double)got[i]);
    }
}

/* Decoding: row r has the slot SLOTS[r], and takes that slot's token and position. */
static const int32_t SLOTS[EMBED_ROWS] = {3, -1, 0, 8, 1, 2, 4, 6, 7};

static void check_embed(int32_t width, tdm_dtype words_dtype, tdm_dtype places_dtype, bool decoding)
{
    const size_t n = (size_t)width;
    float *words = random_values(N_WORDS * n, 1, 1, 0),
          *places = random_values(N_PLACES * n, 2, 1, 0);
    float *nothing = random_values(EMBED_ROWS * n, 3, 1, 0);
    const tdm_mat y = matrix(nothing, EMBED_ROWS, width, TDM_F32);
    const int32_t starts[2] = {0, EMBED_ROWS};
    const tdm_step step = {.n_rows = EMBED_ROWS,
                           .tokens = on_device(TOKENS, sizeof TOKENS),
                           .positions = on_device(PLACES, sizeof PLACES),
                           .starts = decoding ? NULL : on_device(starts, sizeof starts),
                           .slots = decoding ? on_device(SLOTS, sizeof SLOTS) : NULL};
    ASSERT_CUDA(tdmk_embed(y, &step, matrix(words, N_WORDS, width, words_dtype), 0,
                           matrix(places, N_PLACES, width, places_dtype), FIRST, false, NULL));
    float *got = values_of(y);
    for (size_t r = 0; r < EMBED_ROWS; r++) {
        const int32_t from = decoding ? SLOTS[r] : (int32_t)r;
        const bool idle = decoding && (from < 0 || PLACES[from] < 0);
        check_embed_row(got + r * n, words, places, idle ? 0 : TOKENS[from],
                        idle ? 0 : PLACES[from], idle, n);
    }
    free_device();
    free(words);
    free(places);
    free(nothing);
    free(got);
}

static void embed_adds_two_rows(void **state)
{
    (void)state;
    static const int32_t WIDTHS[] = {64, 8, 776, 8200};
    int cases = 0;
    for (size_t w = 0; w < COUNT(WIDTHS); w++)
        for (int i = 0; i < 9; i++)
            for (int decoding = 0; decoding < 2; decoding++)
                if (WIDTHS[w] == 64 || i == 0 || i == 4) {
                    check_embed(WIDTHS[w], DTYPES[i / 3], DTYPES[i % 3], decoding);
                    cases++;
                }
    print_message("%-12s      %3d cases, exact\n", "embed", cases);
}

/* ---- add_norm ---- */

typedef enum { NO_DELTA, DELTA_F32, DELTA_ACT } delta_kind;
typedef struct {
    const char *name;
    int rows;
    int32_t width;
    float spread, mean;
    delta_kind delta;
    tdm_norm form;
    bool in_place; /* f32 alone */
} norm_case;

static const norm_case NORM[] = {
    {"64", 5, 64, 1, 0, DELTA_ACT, TDM_PRE_NORM, false},
    {"8 columns", 3, 8, 1, 0.5f, DELTA_ACT, TDM_PRE_NORM, false},
    {"part of a warp", 3, 520, 1, 0, DELTA_F32, TDM_PRE_NORM, false},
    {"128, post", 4, 128, 1, 0, DELTA_ACT, TDM_POST_NORM, false},
    {"192, post, no delta", 4, 192, 1, 0, NO_DELTA, TDM_POST_NORM, false},
    {"768, post", 3, 768, 1, 1, DELTA_F32, TDM_POST_NORM, false},
    {"768, no delta", 3, 768, 1, 0, NO_DELTA, TDM_PRE_NORM, false},
    {"1024, post", 2, 1024, 1, 0, DELTA_ACT, TDM_POST_NORM, false},
    {"1600", 2, 1600, 1, 0, DELTA_ACT, TDM_PRE_NORM, false},
    {"8192", 1, 8192, 1, 0, DELTA_ACT, TDM_PRE_NORM, false},
    {"variance of the size of eps", 4, 64, 4e-3f, 0, NO_DELTA, TDM_PRE_NORM, false},
    {"mean of 800 spreads", 4, 768, 1, 800, NO_DELTA, TDM_PRE_NORM, false},
    {"in place", 4, 192, 1, 0, DELTA_ACT, TDM_POST_NORM, true},
};

static const float EPS = 1e-5f;

typedef enum { RIGHT, EPS_TIMES_2, EPS_OUTSIDE, UNBIASED, GAMMA_ONLY, N_MISTAKES } mistake;

static void norm_row(double *y, const float *x, const float *gamma, const float *beta, size_t n,
                     mistake m)
{
    const double eps = (double)EPS * (m == EPS_TIMES_2 ? 2 : 1);
    double mean = 0, variance = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean);
    variance /= (double)(m == UNBIASED ? n - 1 : n);
    const double deviation = m == EPS_OUTSIDE ? sqrt(variance) + eps : sqrt(variance + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)gamma[i] * ((double)x[i] - mean) / deviation +
               (m == GAMMA_ONLY ? 0 : (double)beta[i]);
}

/* The device side of one case. values: what was uploaded, rounded. */
typedef struct {
    tdm_mat x, y, delta, gamma, beta;
    float *x_values, *y_values, *delta_values, *gamma_values, *beta_values;
} norm_data;

static norm_data make_norm(const norm_case *c, tdm_dtype act)
{
    const size_t width = (size_t)c->width, n = (size_t)c->rows * width;
    norm_data d = {.x_values = random_values(n, 1, c->spread, c->mean),
                   .y_values = random_values(n, 2, 1, 0),
                   .delta_values = random_values(n, 3, c->spread, 0),
                   .gamma_values = random_values(width, 4, 1, 0),
                   .beta_values = random_values(width, 5, 1, 0)};
    d.x = matrix(d.x_values, c->rows, c->width, TDM_F32);
    d.y = c->in_place ? d.x : matrix(d.y_values, c->rows, c->width, act);
    d.delta = matrix(d.delta_values, c->rows, c->width, c->delta == DELTA_ACT ? act : TDM_F32);
    d.gamma = matrix(d.gamma_values, 1, c->width, TDM_F32);
    d.beta = matrix(d.beta_values, 1, c->width, TDM_F32);
    return d;
}

static void free_norm(norm_data *d)
{
    free_device();
    free(d->x_values);
    free(d->y_values);
    free(d->delta_values);
    free(d->gamma_values);
    free(d->beta_values);
}

/* The same rows one by one have the same bits. */
static void check_norm_alone(const norm_case *c, tdm_dtype act, const float *y, const float *x)
{
    const size_t width = (size_t)c->width;
    norm_data d = make_norm(c, act);
    for (int r = 0; r < c->rows; r++) {
        const tdm_mat delta = row_of(d.delta, r);
        ASSERT_CUDA(tdmk_add_norm(row_of(d.y, r), row_of(d.x, r), c->delta ? &delta : NULL, d.gamma,
                                  d.beta, EPS, c->form, NULL));
    }
    float *y_alone = values_of(d.y), *x_alone = values_of(d.x);
    assert_same_bits(y_alone, y, (size_t)c->rows * width, c->name);
    assert_same_bits(x_alone, x, (size_t)c->rows * width, c->name);
    free(y_alone);
    free(x_alone);
    free_norm(&d);
}

/* x afterwards: the sum, to the bit; or what y is rounded from. */
static void check_norm_x(const norm_case *c, tdm_dtype act, const float *x, const float *y,
                         const float *sum, const double *want, size_t n)
{
    if (c->form == TDM_PRE_NORM) {
        assert_same_bits(x, sum, n, c->name);
        return;
    }
    assert_true(error_of(x, want, n) <= 0x1p-20);
    uint16_t *half = checked(malloc(n * sizeof(float)));
    float *rounded = checked(malloc(n * sizeof *rounded));
    narrow(half, x, act, n);
    tdm_to_f32(rounded, half, act, n);
    assert_same_bits(y, rounded, n, c->name);
    free(half);
    free(rounded);
}

static void check_norm(const norm_case *c, record *r)
{
    const size_t width = (size_t)c->width, n = (size_t)c->rows * width;
    norm_data d = make_norm(c, r->dtype);
    ASSERT_CUDA(
        tdmk_add_norm(d.y, d.x, c->delta ? &d.delta : NULL, d.gamma, d.beta, EPS, c->form, NULL));
    float *y = values_of(d.y), *x = values_of(d.x);
    double *want = checked(malloc(n * sizeof *want));
    for (size_t i = 0; c->delta && i < n; i++)
        d.x_values[i] += d.delta_values[i];
    for (int m = N_MISTAKES - 1; m >= RIGHT; m--) {
        for (size_t i = 0; i < n; i += width)
            norm_row(want + i, d.x_values + i, d.gamma_values, d.beta_values, width, m);
        if (m != RIGHT && r->dtype == TDM_F32 && error_of(y, want, n) <= r->tolerance)
            fail_msg("%s: mistake %d is not noticed", c->name, m);
    }
    note(r, c->name, y, want, n);
    check_norm_x(c, r->dtype, x, y, d.x_values, want, n);
    free_norm(&d);
    check_norm_alone(c, r->dtype, y, x);
    free(y);
    free(x);
    free(want);
}

static void add_norm_matches(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT(DTYPES); t++) {
        record r = {"add_norm", DTYPES[t], unit_of(DTYPES[t]) + 0x1p-20, 0, 0};
        for (size_t i = 0; i < COUNT(NORM); i++)
            if (!NORM[i].in_place || DTYPES[t] == TDM_F32)
                check_norm(&NORM[i], &r);
        print_record(&r);
    }
}

/* ---- activate ---- */

typedef struct {
    int rows;
    int32_t width;
    bool bias;
} activate_case;
static const activate_case ACTIVATE[] = {
    {1, 8, true}, {4, 64, false}, {5, 192, true}, {9, 1032, true}, {3, 1024, false}};

static double activation(double x, tdm_epilogue f)
{
    return f == TDM_TANH ? tanh(x)
           : f == TDM_GELU_ERF
               ? 0.5 * x * erfc(-x * 0.7071067811865476)
               : 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static void check_activate(const activate_case *c, tdm_epilogue f, record *r)
{
    const size_t width = (size_t)c->width, n = (size_t)c->rows * width;
    float *x = random_values(n, 1, 5, 0), *add = random_values(width, 2, 1, 0);
    double *want = checked(malloc(n * sizeof *want)), *wrong = checked(malloc(n * sizeof *wrong));
    const tdm_mat y = matrix(x, c->rows, c->width, r->dtype);
    const tdm_mat bias = matrix(add, 1, c->width, r->dtype);
    ASSERT_CUDA(tdmk_activate(y, c->bias ? &bias : NULL, f, NULL));
    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i] + (c->bias ? (double)add[i % width] : 0);
        want[i] = activation(v, f);
        wrong[i] = activation(v, TDM_GELU_TANH);
    }
    float *got = values_of(y);
    note(r, f == TDM_TANH ? "tanh" : "gelu", got, want, n);
    if (r->dtype == TDM_F32 && n > 64 && error_of(got, wrong, n) <= r->tolerance)
        fail_msg("the other gelu is not noticed");
    free_device();
    free(x);
    free(add);
    free(want);
    free(wrong);
    free(got);
}

static void activate_matches(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT(DTYPES); t++) {
        record r = {"activate", DTYPES[t], unit_of(DTYPES[t]) + 0x1p-22, 0, 0};
        for (size_t i = 0; i < COUNT(ACTIVATE); i++) {
            check_activate(&ACTIVATE[i], TDM_GELU_ERF, &r);
            check_activate(&ACTIVATE[i], TDM_TANH, &r);
        }
        print_record(&r);
    }
}

/* ---- gather ---- */

static void gather_copies_rows(void **state)
{
    (void)state;
    static const int32_t ROWS[] = {3, 0, 6, 3, -1, 7, 5};
    static const int32_t WIDTHS[] = {8, 192, 4104};
    int cases = 0;
    for (size_t t = 0; t < COUNT(DTYPES); t++)
        for (size_t w = 0; w < COUNT(WIDTHS); w++, cases++) {
            const size_t n = (size_t)WIDTHS[w];
            float *values = random_values(7 * n, 1, 1, 0), *nothing = random_values(7 * n, 2, 1, 0);
            const tdm_mat x = matrix(values, 7, WIDTHS[w], DTYPES[t]);
            const tdm_mat y = matrix(nothing, COUNT(ROWS), WIDTHS[w], DTYPES[t]);
            ASSERT_CUDA(tdmk_gather(y, x, on_device(ROWS, sizeof ROWS), NULL));
            float *got = values_of(y);
            for (size_t r = 0; r < COUNT(ROWS); r++)
                for (size_t i = 0; i < n; i++)
                    if (ROWS[r] < 0 || ROWS[r] >= 7)
                        assert_true(isnan(got[r * n + i]));
                    else
                        assert_true(got[r * n + i] == values[(size_t)ROWS[r] * n + i]);
            free_device();
            free(values);
            free(nothing);
            free(got);
        }
    print_message("%-12s      %3d cases, exact\n", "gather", cases);
}

/* ---- classify ---- */

static const struct {
    int rows;
    int32_t width, labels;
} CLASSIFY[] = {{3, 64, 2}, {2, 1024, 2}, {1, 768, 1}, {2, 40, 5}, {2, 64, 32}};

static void check_classify(size_t c, record *r)
{
    const int32_t width = CLASSIFY[c].width, labels = CLASSIFY[c].labels;
    const size_t rows = (size_t)CLASSIFY[c].rows, n = (size_t)width, m = (size_t)labels;
    float *x = random_values(rows * n, 1, 1, 0), *w = random_values(m * n, 2, 1, 0);
    float *bias = random_values(m, 3, 1, 0), *nothing = random_values(rows * m, 4, 1, 0);
    double *want = checked(malloc(rows * m * sizeof *want));
    const tdm_mat xs = matrix(x, CLASSIFY[c].rows, width, r->dtype);
    const tdm_mat ws = matrix(w, labels, width, TDM_F32), biases = matrix(bias, 1, labels, TDM_F32);
    const tdm_mat y = matrix(nothing, CLASSIFY[c].rows, labels, TDM_F32);
    ASSERT_CUDA(tdmk_classify(y, xs, ws, biases, NULL));
    for (size_t row = 0; row < rows; row++)
        for (size_t j = 0; j < m; j++) {
            want[row * m + j] = (double)bias[j];
            for (size_t i = 0; i < n; i++)
                want[row * m + j] += (double)x[row * n + i] * (double)w[j * n + i];
        }
    float *got = values_of(y);
    note(r, "against float64", got, want, rows * m);
    for (int64_t row = 0; row < y.rows; row++)
        ASSERT_CUDA(tdmk_classify(row_of(y, row), row_of(xs, row), ws, biases, NULL));
    float *alone = values_of(y);
    assert_same_bits(alone, got, rows * m, "classify, rows one by one");
    free_device();
    free(x);
    free(w);
    free(bias);
    free(nothing);
    free(want);
    free(got);
    free(alone);
}

static void classify_matches(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT(DTYPES); t++) {
        record r = {"classify", DTYPES[t], 0x1p-20, 0, 0}; /* f32 whatever x is */
        for (size_t c = 0; c < COUNT(CLASSIFY); c++)
            check_classify(c, &r);
        print_record(&r);
    }
}

/* ---- what launchers refuse ---- */

/* Matrices that no launcher takes, each for its own reason, beside what is right. */
typedef struct {
    float *values;
    tdm_mat m, half, one, none, narrow_one, odd, shifted, wide, gap, other;
} odd_ones;

static odd_ones make_odd_ones(void)
{
    odd_ones o = {.values = random_values(4 * 64, 1, 1, 0)};
    o.m = matrix(o.values, 4, 64, TDM_F32);
    o.half = matrix(o.values, 4, 64, TDM_F16);
    o.one = row_of(o.m, 0);
    o.none = o.narrow_one = o.odd = o.shifted = o.wide = o.gap = o.other = o.m;
    o.none.rows = 0;
    o.narrow_one.cols = 56;
    o.odd.cols = 60;
    o.shifted.p = (char *)o.shifted.p + 4;
    o.wide.cols = 8200;
    o.gap.stride = 128;
    o.other.dtype = (tdm_dtype)3;
    return o;
}

static void free_odd_ones(odd_ones *o)
{
    ASSERT_CUDA(cudaDeviceSynchronize());
    free_device();
    free(o->values);
}

static void embed_checks(void **state)
{
    (void)state;
    odd_ones o = make_odd_ones();
    const tdm_step step = {.n_rows = 4}, no_step = {.n_rows = 0};
    ASSERT_CUDA(tdmk_embed(o.none, &no_step, o.m, 0, o.m, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.half, &step, o.m, 0, o.m, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.none, &step, o.m, 0, o.m, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.m, &step, o.narrow_one, 0, o.narrow_one, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.m, &step, o.m, 0, o.narrow_one, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.m, &step, o.other, 0, o.m, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.m, &step, o.m, 0, o.other, 0, false, NULL));
    ASSERT_REFUSED(tdmk_embed(o.shifted, &step, o.m, 0, o.m, 0, false, NULL));
    free_odd_ones(&o);
}

static void add_norm_checks(void **state)
{
    (void)state;
    odd_ones o = make_odd_ones();
    ASSERT_CUDA(tdmk_add_norm(o.none, o.none, NULL, o.one, o.one, EPS, TDM_POST_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.m, o.half, NULL, o.one, o.one, EPS, TDM_PRE_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.m, o.m, NULL, o.one, o.one, EPS, TDM_PRE_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.odd, o.odd, NULL, o.odd, o.odd, EPS, TDM_POST_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.wide, o.wide, NULL, o.wide, o.wide, EPS, TDM_POST_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.gap, o.m, NULL, o.one, o.one, EPS, TDM_PRE_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.half, o.m, &o.other, o.one, o.one, EPS, TDM_PRE_NORM, NULL));
    ASSERT_REFUSED(tdmk_add_norm(o.half, o.m, NULL, o.m, o.one, EPS, TDM_PRE_NORM, NULL));
    free_odd_ones(&o);
}

static void activate_checks(void **state)
{
    (void)state;
    odd_ones o = make_odd_ones();
    ASSERT_CUDA(tdmk_activate(o.none, NULL, TDM_TANH, NULL));
    ASSERT_REFUSED(tdmk_activate(o.m, NULL, TDM_LINEAR, NULL));
    ASSERT_REFUSED(tdmk_activate(o.m, NULL, TDM_GELU_TANH, NULL));
    ASSERT_REFUSED(tdmk_activate(o.m, &o.half, TDM_TANH, NULL));
    ASSERT_REFUSED(tdmk_activate(o.odd, NULL, TDM_TANH, NULL));
    free_odd_ones(&o);
}

static void gather_checks(void **state)
{
    (void)state;
    odd_ones o = make_odd_ones();
    ASSERT_CUDA(tdmk_gather(o.none, o.m, NULL, NULL));
    ASSERT_REFUSED(tdmk_gather(o.m, o.half, NULL, NULL));
    ASSERT_REFUSED(tdmk_gather(o.m, o.narrow_one, NULL, NULL));
    free_odd_ones(&o);
}

static void classify_checks(void **state)
{
    (void)state;
    odd_ones o = make_odd_ones();
    ASSERT_CUDA(tdmk_classify((tdm_mat){o.m.p, 0, 4, TDM_F32, 0}, o.none, o.m,
                              (tdm_mat){o.m.p, 1, 4, TDM_F32, 0}, NULL));
    ASSERT_REFUSED(tdmk_classify((tdm_mat){o.m.p, 4, 3, TDM_F32, 0}, o.m, o.m,
                                 (tdm_mat){o.m.p, 1, 4, TDM_F32, 0}, NULL));
    ASSERT_REFUSED(tdmk_classify((tdm_mat){o.m.p, 4, 33, TDM_F32, 0}, o.m,
                                 (tdm_mat){o.m.p, 33, 64, TDM_F32, 0},
                                 (tdm_mat){o.m.p, 1, 33, TDM_F32, 0}, NULL));
    free_odd_ones(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_adds_two_rows), cmocka_unit_test(add_norm_matches),
        cmocka_unit_test(activate_matches),    cmocka_unit_test(gather_copies_rows),
        cmocka_unit_test(classify_matches),    cmocka_unit_test(embed_checks),
        cmocka_unit_test(add_norm_checks),     cmocka_unit_test(activate_checks),
        cmocka_unit_test(gather_checks),       cmocka_unit_test(classify_checks),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
