/* tests/test_ops.c - the operations besides the matrix product (test_gemm.c), attention (test_attention.c)
 * and statistics (test_stats.c): one case table each, run on every instruction set with 1 to 3 threads
 * against float64 loops. */
#include "tests/ops_reference.h"

/* ---- embed ---- */

typedef struct {
    const char *name;
    int rows, width;
    tdm_dtype words, positions;
    int first_position;
} embed_case;

static const embed_case EMBED[] = {
    {"one row", 1, 64, TDM_F32, TDM_F32, 0},
    {"3 heads, RoBERTa's first position", 7, 192, TDM_F32, TDM_F32, 2},
    {"768", 100, 768, TDM_F32, TDM_F32, 0},
    {"1600, f16", 33, 1600, TDM_F16, TDM_F16, 0},
    {"odd width, mixed formats", 5, 77, TDM_BF16, TDM_F16, 3},
};

enum { WORDS = 50, PLACES = 40 };

/* A table of numbers that every format holds: +-(1 + i / 128). */
static void *make_table(size_t n, tdm_dtype dtype, float *values)
{
    uint16_t *half = malloc(n * 4);
    assert_non_null(half);
    for (size_t i = 0; i < n; i++) {
        const uint32_t fraction = (uint32_t)((i + i / 64) * 37 % 128), sign = (uint32_t)(i / 3 % 2);
        values[i] = (sign ? -1.0f : 1.0f) * (1 + (float)fraction / 128);
        half[i] = (uint16_t)(sign << 15 | (dtype == TDM_F16 ? 0x3c00 | fraction << 3
                                                             : 0x3f80 | fraction));
    }
    if (dtype == TDM_F32)
        memcpy(half, values, n * 4);
    return half;
}

static void check_embed(tdm_backend *be, const embed_case *c)
{
    const size_t width = (size_t)c->width, rows = (size_t)c->rows;
    float *words = random_floats(WORDS * width, 1), *places = random_floats(PLACES * width, 1);
    float *y = random_floats(rows * width, 2);
    void *word_bytes = make_table(WORDS * width, c->words, words);
    void *place_bytes = make_table(PLACES * width, c->positions, places);
    int32_t tokens[100], positions[100];
    for (int r = 0; r < c->rows; r++) {
        tokens[r] = r * 17 % WORDS;
        positions[r] = r * 5 % (PLACES - c->first_position);
    }
    const int32_t starts[] = {0, c->rows};
    const tdm_step step = {.n_rows = c->rows, .n_seqs = 1, .tokens = tokens, .positions = positions,
                           .starts = starts};
    poison_scratch(be);
    ASSERT_OK(tdm_embed(be, mat(y, c->rows, c->width), &step,
                        (tdm_mat){word_bytes, WORDS, c->width, c->words, 0}, 0,
                        (tdm_mat){place_bytes, PLACES, c->width, c->positions, 0},
                        c->first_position, err));
    bool shifted_differs = false;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j++) {
            const size_t place = (size_t)(c->first_position + positions[r]);
            const float word = words[(size_t)tokens[r] * width + j];
            if (y[r * width + j] != word + places[place * width + j])
                fail_msg("%s: [%zu, %zu] is %g", c->name, r, j, (double)y[r * width + j]);
            const size_t wrong = (place + 1) % PLACES;
            shifted_differs |= y[r * width + j] != word + places[wrong * width + j];
        }
    assert_true(shifted_differs);
    free(word_bytes);
    free(place_bytes);
    free(words);
    free(places);
    free(y);
}

/* Decoding: a row takes the token and position of its slot; idle rows are zeros. */
static void check_embed_slots(tdm_backend *be)
{
    enum { ROWS = 5, SLOTS = 4, WIDTH = 70 };
    static const int32_t TOKENS[SLOTS] = {7, 49, 0, 3}, POSITIONS[SLOTS] = {1, -1, 39, 0};
    static const int32_t ROW_SLOTS[ROWS] = {3, -1, 1, 0, 2}; /* the second of nobody, the third idle */
    float *words = random_floats(WORDS * WIDTH, 1), *places = random_floats(PLACES * WIDTH, 2);
    float *y = random_floats(ROWS * WIDTH, 3);
    const tdm_step step = {.n_rows = ROWS, .n_seqs = ROWS, .longest = 1, .tokens = TOKENS,
                           .positions = POSITIONS, .slots = ROW_SLOTS};
    ASSERT_OK(tdm_embed(be, mat(y, ROWS, WIDTH), &step, mat(words, WORDS, WIDTH), 0,
                        mat(places, PLACES, WIDTH), 0, err));
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < WIDTH; j++) {
            const int32_t s = ROW_SLOTS[r];
            const bool idle = s < 0 || POSITIONS[s] < 0;
            const float want = idle ? 0 : words[TOKENS[s] * WIDTH + j] + places[POSITIONS[s] * WIDTH + j];
            assert_true(y[r * WIDTH + j] == want);
        }
    free(y);
    free(places);
    free(words);
}

static void embed_on(tdm_backend *be)
{
    for (size_t i = 0; i < COUNT(EMBED); i++)
        check_embed(be, &EMBED[i]);
    check_embed_slots(be);
}

static void embed_matches(void **state)
{
    (void)state;
    on_all_backends(embed_on);
}

/* ---- add_norm ---- */

typedef struct {
    const char *name;
    int rows, width;
    double mean; /* in units of the spread */
    bool delta;
    tdm_norm form;
    bool in_place; /* y is x: of the post-norm form alone */
    double tolerance;
} norm_case;

/* One rounding of each of the few operations. A mean of 800 spreads costs log2(800) bits in x itself,
 * which the reference shares; what remains is the mean's own rounding, which the kernel corrects. */
static const norm_case NORM[] = {
    {"one number", 1, 1, 0, false, TDM_PRE_NORM, false, 0x1p-20},
    {"3 heads", 5, 192, 0, true, TDM_PRE_NORM, false, 0x1p-21},
    {"768", 64, 768, 0.5, true, TDM_POST_NORM, true, 0x1p-21},
    {"768, mean of 800 spreads", 64, 768, 800, false, TDM_PRE_NORM, false, 0x1p-21},
    {"1600", 33, 1600, 0, false, TDM_POST_NORM, true, 0x1p-21},
    {"1600, a copy", 33, 1600, 0, true, TDM_POST_NORM, false, 0x1p-21},
    {"odd width", 9, 77, -3, true, TDM_PRE_NORM, false, 0x1p-21},
    {"narrower than a vector", 9, 5, 1, true, TDM_PRE_NORM, false, 0x1p-21},
};

static void check_norm(tdm_backend *be, const norm_case *c)
{
    const size_t width = (size_t)c->width, rows = (size_t)c->rows, n = rows * width;
    float *x = random_floats(n, 1), *delta = random_floats(n, 2), *y = random_floats(n, 5);
    float *gamma = random_floats(width, 3), *beta = random_floats(width, 4);
    float *sum = random_floats(n, 6);
    double *want = doubles(n);
    for (size_t i = 0; i < n; i++) {
        x[i] += (float)c->mean;
        sum[i] = c->delta ? x[i] + delta[i] : x[i];
    }
    const tdm_mat d = mat(delta, c->rows, c->width), xm = mat(x, c->rows, c->width);
    ASSERT_OK(tdm_add_norm(be, c->in_place ? xm : mat(y, c->rows, c->width), xm,
                           c->delta ? &d : NULL, mat(gamma, 1, c->width), mat(beta, 1, c->width),
                           1e-5f, c->form, err));
    const float *got = c->in_place ? x : y;
    assert_memory_equal(x, c->form == TDM_POST_NORM ? got : sum, n * sizeof *x);
    ref_norm(want, sum, gamma, beta, rows, width, 1e-5);
    ASSERT_CLOSE(got, want, n, width, c->tolerance, "%s", c->name);
    if (width > 1) {
        ref_norm(want, sum, gamma, beta, rows, width, 1e-4);
        ASSERT_FAR(got, want, n, c->tolerance, "%s, eps", c->name);
    }
    ref_norm(want, sum, gamma, gamma, rows, width, 1e-5);
    ASSERT_FAR(got, want, n, c->tolerance, "%s, beta", c->name);
    /* Each row alone has the same bits. */
    for (size_t r = 0; r < rows; r++) {
        const tdm_mat one = mat(sum + r * width, 1, c->width);
        ASSERT_OK(tdm_add_norm(be, one, one, NULL, mat(gamma, 1, c->width),
                               mat(beta, 1, c->width), 1e-5f, TDM_POST_NORM, err));
    }
    assert_memory_equal(sum, got, n * sizeof *got);
    free(want);
    free(sum);
    free(beta);
    free(gamma);
    free(y);
    free(delta);
    free(x);
}

static void norm_on(tdm_backend *be)
{
    for (size_t i = 0; i < COUNT(NORM); i++)
        check_norm(be, &NORM[i]);
}

static void norm_matches(void **state)
{
    (void)state;
    on_all_backends(norm_on);
}

/* ---- gather ---- */

static void gather_on(tdm_backend *be)
{
    enum { ROWS = 9, WIDTH = 33, PICKED = 5 };
    static const int32_t PICKS[PICKED] = {8, 0, 3, 3, 7};
    float *x = random_floats(ROWS * WIDTH, 1), *y = random_floats(PICKED * WIDTH, 2);
    ASSERT_OK(tdm_gather(be, mat(y, PICKED, WIDTH), mat(x, ROWS, WIDTH), PICKS, err));
    for (size_t i = 0; i < PICKED; i++)
        assert_memory_equal(y + i * WIDTH, x + (size_t)PICKS[i] * WIDTH, WIDTH * sizeof *x);
    static const int32_t LOW[] = {0, -1}, HIGH[] = {ROWS, 0};
    ASSERT_FAILS(tdm_gather(be, mat(y, 2, WIDTH), mat(x, ROWS, WIDTH), LOW, err), TDM_EARG, "-1");
    ASSERT_FAILS(tdm_gather(be, mat(y, 2, WIDTH), mat(x, ROWS, WIDTH), HIGH, err), TDM_EARG,
                 "want 0 to 8");
    free(y);
    free(x);
}

static void gather_copies_rows(void **state)
{
    (void)state;
    on_all_backends(gather_on);
}

/* ---- classify ---- */

static void classify_on(tdm_backend *be)
{
    static const int SHAPES[][3] = {{1, 64, 2}, {7, 768, 2}, {3, 77, 32}, {20, 1024, 1}};
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        const int rows = SHAPES[i][0], width = SHAPES[i][1], labels = SHAPES[i][2];
        const size_t n = (size_t)rows * (size_t)labels;
        float *x = random_floats((size_t)rows * (size_t)width, 1), *y = random_floats(n, 2);
        float *w = random_floats((size_t)labels * (size_t)width, 3);
        float *bias = random_floats((size_t)labels, 4);
        double *want = doubles(n);
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < labels; k++) {
                want[r * labels + k] = (double)bias[k];
                for (int j = 0; j < width; j++)
                    want[r * labels + k] += (double)x[r * width + j] * (double)w[k * width + j];
            }
        ASSERT_OK(tdm_classify(be, mat(y, rows, labels), mat(x, rows, width), mat(w, labels, width),
                               mat(bias, 1, labels), err));
        ASSERT_CLOSE(y, want, n, labels, 0x1p-22, "classify %zu", i);
        free(want);
        free(bias);
        free(w);
        free(y);
        free(x);
    }
}

static void classify_matches(void **state)
{
    (void)state;
    on_all_backends(classify_on);
}

/* ---- lanes ---- */

static void lanes_on(tdm_backend *be)
{
    int32_t first[] = {1, 2, 3}, second[] = {4, 5};
    const void *host = NULL;
    ASSERT_OK(tdm_fetch_begin(be, 0, first, sizeof first, err));
    ASSERT_OK(tdm_fetch_begin(be, 1, second, sizeof second, err));
    first[0] = second[0] = 9; /* later work does not change what was fetched */
    ASSERT_FAILS(tdm_fetch_begin(be, 0, first, sizeof first, err), TDM_EARG, "lane 0 is in use");
    ASSERT_OK(tdm_fetch_end(be, 0, &host, err));
    assert_memory_equal(host, ((int32_t[]){1, 2, 3}), 12);
    ASSERT_OK(tdm_fetch_end(be, 1, &host, err));
    assert_memory_equal(host, ((int32_t[]){4, 5}), 8);
    ASSERT_FAILS(tdm_fetch_end(be, 1, &host, err), TDM_EARG, "lane 1 has no begin");
    assert_null(host);
    ASSERT_FAILS(tdm_fetch_begin(be, 2, first, 4, err), TDM_EARG, "lane 2, want 0 to 1");
    ASSERT_FAILS(tdm_fetch_end(be, -1, &host, err), TDM_EARG, "lane -1");
    ASSERT_FAILS(tdm_fetch_begin(be, 0, first, TDM_LANE_BYTES + 1, err), TDM_EARG, "1048577 bytes");
    char *much = calloc(1, TDM_LANE_BYTES);
    ASSERT_OK(tdm_fetch_begin(be, 0, much, TDM_LANE_BYTES, err));
    ASSERT_OK(tdm_fetch_end(be, 0, &host, err));
    assert_memory_equal(host, much, TDM_LANE_BYTES);
    free(much);
}

static void lanes_keep_what_was_fetched(void **state)
{
    (void)state;
    on_all_backends(lanes_on);
}

/* ---- sample: the rows are those of tdm_sample_row, on every thread ---- */

/* Slots in another order than rows, a row of nobody, an idle slot, an end of every kind. */
enum { ROWS = 37, SLOTS = 40, NOBODY = 11, IDLE = 12, LAST = 13, BAD = 5 };

typedef struct {
    int32_t slots[ROWS], tokens[SLOTS], positions[SLOTS], left[SLOTS], drawn[SLOTS];
    tdm_draw draws[SLOTS];
} drawing;

static void make_drawing(drawing *d, float *logits, int vocabulary, int stride)
{
    for (int32_t s = 0; s < SLOTS; s++) {
        d->tokens[s] = d->drawn[s] = 1000 + s;
        d->positions[s] = 10 + s;
        d->left[s] = 2;
        d->draws[s] = (tdm_draw){.seed = 1, .document = (uint64_t)s, .position = 3 * (uint32_t)s,
                                 .temperature = 0.9f, .top_k = s % 2 ? 10 : 0,
                                 .top_p = s % 3 ? 1 : 0.9f};
    }
    for (int32_t r = 0; r < ROWS; r++) {
        d->slots[r] = r == NOBODY ? -1 : (r * 7 + 3) % SLOTS;
        for (int32_t k = vocabulary; k < stride; k++)
            logits[r * stride + k] = 1e30f; /* what lies in the gap is never drawn */
    }
    logits[BAD * stride + 7] = NAN;
    d->positions[d->slots[IDLE]] = -1;
    d->left[d->slots[LAST]] = 1;
}

/* Row r has become what a draw of its own says; want: TDM_IDLE or that draw. */
static void check_drawn(const drawing *d, int32_t r, int32_t want, int32_t eos)
{
    const int32_t s = d->slots[r];
    const bool runs = r != IDLE && want >= 0 && want != eos && r != LAST;
    assert_int_equal(d->drawn[s], want);
    assert_int_equal(d->positions[s], runs ? 11 + s : -1);
    assert_int_equal(d->tokens[s], runs ? want : 1000 + s);
    assert_int_equal(d->draws[s].position, 3 * s + runs);
    assert_int_equal(d->left[s], r == LAST || runs ? 1 : 2);
}

static void check_unnamed(const drawing *d)
{
    for (int32_t s = 0; s < SLOTS; s++) {
        bool named = false;
        for (int32_t r = 0; r < ROWS; r++)
            named |= d->slots[r] == s;
        if (!named)
            assert_true(d->drawn[s] == 1000 + s && d->positions[s] == 10 + s && d->left[s] == 2);
    }
}

static void sample_on(tdm_backend *be)
{
    static const int VOCABULARIES[] = {50, 1000, 50};
    for (size_t i = 0; i < COUNT(VOCABULARIES); i++) {
        const int vocabulary = VOCABULARIES[i], stride = tdm_padded(vocabulary);
        float *logits = random_floats(ROWS * (size_t)stride, i + 1);
        drawing d;
        tdm_draw before[SLOTS];
        tdm_sampler *sampler = NULL;
        make_drawing(&d, logits, vocabulary, stride);
        memcpy(before, d.draws, sizeof before);
        ASSERT_OK(tdm_sampler_open(vocabulary, &sampler, err));
        const int32_t eos = tdm_sample_row(sampler, logits, &before[d.slots[0]]); /* row 0 ends its text */
        const tdm_slots state = {d.tokens, d.positions, d.left, d.drawn, d.draws};
        ASSERT_OK(tdm_sample(be, &state, d.slots,
                             (tdm_mat){logits, ROWS, vocabulary, TDM_F32, stride}, eos, err));
        for (int32_t r = 0; r < ROWS; r++) {
            const float *row = logits + r * stride;
            if (r == IDLE)
                check_drawn(&d, r, TDM_IDLE, eos);
            else if (r != NOBODY)
                check_drawn(&d, r, tdm_sample_row(sampler, row, &before[d.slots[r]]), eos);
        }
        assert_int_equal(d.drawn[d.slots[BAD]], TDM_NOT_FINITE);
        check_unnamed(&d);
        tdm_sampler_close(sampler);
        free(logits);
    }
}

static void sample_draws_each_row(void **state)
{
    (void)state;
    on_all_backends(sample_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_matches),
        cmocka_unit_test(norm_matches),
        cmocka_unit_test(gather_copies_rows),
        cmocka_unit_test(sample_draws_each_row),
        cmocka_unit_test(classify_matches),
        cmocka_unit_test(lanes_keep_what_was_fetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
