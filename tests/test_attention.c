/* tests/test_attention.c - attention over the cache and over packed batches against float64, and the
 * promise that a row's bits depend neither on the other rows nor on how its text was cut. */
#include "tests/ops_reference.h"

/* A score of size s carries an error of a few s * 2^-24, which the exponential makes relative: 2^-20
 * for scores of a few units, 2^-18 for the sharp case with scores beyond 50. */

typedef struct {
    const char *name;
    int heads, length;
    float spread; /* of queries and keys: how sharp the softmax is */
    double tolerance;
} attention_case;

static const attention_case CASES[] = {
    {"one token", 1, 1, 1, 0x1p-20},
    {"two tokens", 3, 2, 1, 0x1p-20},
    {"a group and one", 5, 7, 1, 0x1p-20},
    {"one short of a key block", 2, 63, 1, 0x1p-20},
    {"a key block", 1, 64, 1, 0x1p-20},
    {"a key block and one", 2, 65, 2, 0x1p-20},
    {"sharp", 3, 130, 8, 0x1p-18},
    {"124M", 12, 200, 1, 0x1p-20},
    {"1558M: 25 heads", 25, 100, 1, 0x1p-20},
    {"whole context", 2, 1024, 1, 0x1p-20},
};

/* q | k | v of one text. */
static float *make_qkv(size_t n, size_t heads, float spread, uint64_t seed)
{
    const size_t width = heads * TDM_HEAD;
    float *qkv = random_floats(n * 3 * width, seed);
    for (size_t i = 0; i < n * 3 * width; i++)
        if (i % (3 * width) < 2 * width)
            qkv[i] *= spread;
    return qkv;
}

/* One text in one step: rows 0 .. n - 1 at positions first .. */
typedef struct {
    tdm_step step;
    int32_t starts[2], slot, positions[1024];
} one_text;

/* A cache whose slots all have room for TEXT_PAGES pages, which lie about in no order. */
enum { TEXT_PAGES = 16, MOST_SLOTS = 8 };
static const int32_t *scattered_pages(void)
{
    enum { N = TEXT_PAGES * MOST_SLOTS };
    static int32_t pages[N];
    for (int32_t i = 0; i < N; i++)
        pages[i] = i * 37 % N; /* odd: every page once */
    return pages;
}

static tdm_kv *open_cache(tdm_backend *be, int layers, int heads)
{
    tdm_kv *kv = NULL;
    ASSERT_OK(tdm_kv_open(be, layers, heads, TEXT_PAGES * MOST_SLOTS, TEXT_PAGES, &kv, err));
    return kv;
}

static const tdm_step *text_step(one_text *t, int first, int n, int slot)
{
    t->starts[0] = 0;
    t->starts[1] = n;
    t->slot = slot;
    for (int r = 0; r < n; r++)
        t->positions[r] = first + r;
    t->step = (tdm_step){.n_rows = n, .n_seqs = 1, .positions = t->positions,
                         .starts = t->starts, .slots = &t->slot, .pages = scattered_pages()};
    return &t->step;
}

/* ---- against float64 ---- */

typedef enum { CACHED, CAUSAL, WHOLE_TEXT } attention_form;

static void check_case(tdm_backend *be, const attention_case *c, attention_form form)
{
    const size_t n = (size_t)c->length, heads = (size_t)c->heads, width = heads * TDM_HEAD;
    const size_t extra = form == WHOLE_TEXT ? n : 0; /* every row sees all */
    float *qkv = make_qkv(n, heads, c->spread, 1), *y = random_floats(n * width, 2);
    double *want = doubles(n * width);
    one_text text;
    const tdm_step *step = text_step(&text, 0, c->length, 1);
    const tdm_mat out = mat(y, c->length, (int)width), in = mat(qkv, c->length, (int)width * 3);
    poison_scratch(be);
    if (form == CACHED) {
        tdm_kv *kv = open_cache(be, 2, c->heads);
        ASSERT_OK(tdm_attend_cached(be, out, in, kv, 1, step, err));
        tdm_kv_close(be, kv);
    } else {
        ASSERT_OK(tdm_attend_packed(be, out, in, step, form == CAUSAL, err));
    }
    ref_attend(want, qkv, n, heads, extra, 0.125);
    ASSERT_CLOSE(y, want, n * width, width, c->tolerance, "%s", c->name);
    if (n > 1) {
        ref_attend(want, qkv, n, heads, extra, 0.1251);
        ASSERT_FAR(y, want, n * width, c->tolerance, "%s, scale", c->name);
        ref_attend(want, qkv, n, heads, form == WHOLE_TEXT ? 0 : 1, 0.125);
        ASSERT_FAR(y, want, n * width, c->tolerance, "%s, mask", c->name);
    }
    free(want);
    free(y);
    free(qkv);
}

static void cases_on(tdm_backend *be)
{
    for (size_t i = 0; i < COUNT(CASES); i++) {
        check_case(be, &CASES[i], CACHED);
        check_case(be, &CASES[i], CAUSAL);
        check_case(be, &CASES[i], WHOLE_TEXT);
    }
}

static void attention_matches_float64(void **state)
{
    (void)state;
    const cpu_kernels *tables[3];
    const size_t n = kernel_tables(tables);
    for (size_t i = 0; i < n; i++) {
        tdm_backend be = open_backend(tables[i], 2);
        cases_on(&be);
        tdm_backend_close(&be);
    }
}

/* ---- cuts ---- */

enum { HEADS = 3, WIDTH = HEADS * TDM_HEAD, CONTEXT = 200 };

/* Run a text in steps of the given lengths (0: the rest) and slot. */
static void run_cut(tdm_backend *be, tdm_kv *kv, int slot, const float *qkv, int length,
                    const int *cut, float *y)
{
    one_text text;
    for (int first = 0; first < length;) {
        const int n = *cut && first + *cut < length ? *cut : length - first;
        ASSERT_OK(tdm_attend_cached(be, mat(y + first * WIDTH, n, WIDTH),
                                    mat(qkv + first * 3 * WIDTH, n, 3 * WIDTH), kv, 0,
                                    text_step(&text, first, n, slot), err));
        first += n;
        cut += cut[1] ? 1 : 0; /* the last length repeats */
    }
}

static void cuts_on(tdm_backend *be)
{
    static const int CUTS[][8] = {{1, 0}, {2, 0}, {5, 0}, {6, 0}, {7, 0}, {64, 1, 0}, {63, 0},
                                  {1, 47, 3, 49, 1, 0}, {150, 1, 0}};
    float *qkv = make_qkv(CONTEXT, HEADS, 2, 1);
    float *whole = random_floats(CONTEXT * WIDTH, 2), *y = random_floats(CONTEXT * WIDTH, 3);
    static const int WHOLE[] = {0, 0};
    tdm_kv *kv = open_cache(be, 1, HEADS);
    run_cut(be, kv, 0, qkv, CONTEXT, WHOLE, whole);
    for (size_t i = 0; i < COUNT(CUTS); i++) {
        memset(y, 0, CONTEXT * WIDTH * sizeof *y);
        run_cut(be, kv, (int)i % 2, qkv, CONTEXT, CUTS[i], y);
        for (size_t r = 0; r < CONTEXT; r++)
            if (memcmp(y + r * WIDTH, whole + r * WIDTH, WIDTH * sizeof *y))
                fail_msg("cut %zu: row %zu differs", i, r);
    }
    tdm_kv_close(be, kv);
    free(y);
    free(whole);
    free(qkv);
}

static void cuts_do_not_matter(void **state)
{
    (void)state;
    on_all_backends(cuts_on);
}

/* ---- decoding steps, copies of pages, idle rows ---- */

/* Rows of a decoding step have the bits of ragged ones; idle rows are zeros and leave the cache alone. */
static void decoding_on(tdm_backend *be)
{
    enum { N = 130, TEXTS = 3, ROWS = 5 };
    static const int32_t ROW_SLOTS[ROWS] = {2, -1, 0, 3, 1}; /* slot 3 is idle */
    static const int WHOLE[] = {0, 0};
    float *qkv = make_qkv(N, HEADS, 2, 1), *whole = random_floats(N * WIDTH, 2);
    float *in = random_floats(ROWS * 3 * WIDTH, 3), *y = random_floats(ROWS * WIDTH, 4);
    tdm_kv *kv = open_cache(be, 1, HEADS);
    run_cut(be, kv, 7, qkv, N, WHOLE, whole);
    /* All texts are the same one; text t is at position first - t. */
    for (int first = TEXTS - 1; first < N; first++) {
        int32_t positions[MOST_SLOTS] = {0};
        for (int t = 0; t < TEXTS; t++)
            positions[t] = first - t;
        positions[3] = -1;
        for (int t = 0; t < TEXTS && first == TEXTS - 1; t++) /* what lies before */
            run_cut(be, kv, t, qkv, first - t, WHOLE, y);
        for (int r = 0; r < ROWS; r++) {
            const bool idle = ROW_SLOTS[r] < 0 || positions[ROW_SLOTS[r]] < 0;
            const int from = idle ? 5 : positions[ROW_SLOTS[r]];
            memcpy(in + r * 3 * WIDTH, qkv + from * 3 * WIDTH, 3 * WIDTH * sizeof *in);
        }
        const tdm_step step = {.n_rows = ROWS, .n_seqs = ROWS, .longest = 1, .positions = positions,
                               .slots = ROW_SLOTS, .pages = scattered_pages()};
        ASSERT_OK(tdm_attend_cached(be, mat(y, ROWS, WIDTH), mat(in, ROWS, 3 * WIDTH), kv, 0, &step,
                                    err));
        for (int r = 0; r < ROWS; r++) {
            const int32_t s = ROW_SLOTS[r];
            const bool idle = s < 0 || positions[s] < 0;
            if (!idle)
                assert_memory_equal(y + r * WIDTH, whole + positions[s] * WIDTH, WIDTH * sizeof *y);
            for (int j = 0; idle && j < WIDTH; j++)
                assert_true(y[r * WIDTH + j] == 0);
        }
    }
    tdm_kv_close(be, kv);
    free(y);
    free(in);
    free(whole);
    free(qkv);
}

static void decoding_gives_the_same_bits(void **state)
{
    (void)state;
    on_all_backends(decoding_on);
}

/* Two texts with a common beginning: the second has the first one's full page and a copy of the next. */
static void copies_on(tdm_backend *be)
{
    enum { COMMON = 100, N = 150, LAYERS = 2, PAGES = 6, OF_TEXT = 3 };
    static const int32_t TABLE[] = {4, 1, 0, /* second */ 4, 3, 5};
    float *qkv = make_qkv(N, HEADS, 2, 1), *other = make_qkv(N, HEADS, 2, 9);
    float *want = random_floats(N * WIDTH, 2), *y = random_floats(N * WIDTH, 3);
    one_text t;
    tdm_kv *kv = NULL;
    memcpy(other, qkv, COMMON * 3 * WIDTH * sizeof *qkv);
    ASSERT_OK(tdm_kv_open(be, LAYERS, HEADS, PAGES, OF_TEXT, &kv, err));
    for (int layer = 0; layer < LAYERS; layer++) {
        text_step(&t, 0, COMMON, 0);
        t.step.pages = TABLE;
        ASSERT_OK(tdm_attend_cached(be, mat(y, COMMON, WIDTH), mat(qkv, COMMON, 3 * WIDTH), kv, layer,
                                    &t.step, err));
    }
    ASSERT_OK(tdm_kv_copy(be, kv, 3, 1, err));
    for (int layer = 0; layer < LAYERS; layer++)
        for (int text = 0; text < 2; text++) { /* both go on, each in pages of its own */
            const float *all = text ? other : qkv;
            const int rest = N - COMMON;
            ASSERT_OK(tdm_attend_packed(be, mat(want, N, WIDTH), mat(all, N, 3 * WIDTH),
                                        text_step(&t, 0, N, 0), true, err));
            text_step(&t, COMMON, rest, text);
            t.step.pages = TABLE;
            ASSERT_OK(tdm_attend_cached(be, mat(y, rest, WIDTH),
                                        mat(all + COMMON * 3 * WIDTH, rest, 3 * WIDTH), kv, layer,
                                        &t.step, err));
            assert_memory_equal(y, want + COMMON * WIDTH, (size_t)(rest * WIDTH) * sizeof *y);
        }
    ASSERT_FAILS(tdm_kv_copy(be, kv, 3, 3, err), TDM_EARG, "page 3 to page 3 of 6");
    ASSERT_FAILS(tdm_kv_copy(be, kv, PAGES, 0, err), TDM_EARG, "page 0 to page 6 of 6");
    ASSERT_FAILS(tdm_kv_copy(be, kv, 0, -1, err), TDM_EARG, "page -1");
    ASSERT_FAILS(tdm_kv_copy(be, NULL, 0, 1, err), TDM_EARG, "no cache");
    assert_int_equal(tdm_kv_page_bytes(be, LAYERS, HEADS), LAYERS * HEADS * 2 * TDM_PAGE * TDM_HEAD * 4);
    tdm_kv_close(be, kv);
    free(y);
    free(want);
    free(other);
    free(qkv);
}

static void copies_of_pages_are_equal(void **state)
{
    (void)state;
    on_all_backends(copies_on);
}

/* ---- neighbours ---- */

static const int LENGTHS[] = {1, 70, 6, 130, 64, 7, 33};
enum { TEXTS = COUNT(LENGTHS), MOST_ROWS = 400 };

/* Texts in the given order in one step, each at positions 0 .., against each alone. */
static void check_batch(tdm_backend *be, bool cached, const int *order)
{
    float *qkv = make_qkv(MOST_ROWS, HEADS, 2, 5), *y = random_floats(MOST_ROWS * WIDTH, 2);
    float *alone = random_floats(MOST_ROWS * WIDTH, 3);
    int32_t starts[TEXTS + 1] = {0}, slots[TEXTS], positions[MOST_ROWS];
    tdm_kv *kv = open_cache(be, 1, HEADS);
    for (int i = 0; i < TEXTS; i++) {
        starts[i + 1] = starts[i] + LENGTHS[order[i]];
        slots[i] = (order[i] * 3 + 1) % TEXTS;
        for (int r = starts[i]; r < starts[i + 1]; r++)
            positions[r] = r - starts[i];
    }
    const int rows = starts[TEXTS];
    const tdm_step step = {.n_rows = rows, .n_seqs = TEXTS, .positions = positions,
                           .starts = starts, .slots = slots, .pages = scattered_pages()};
    const tdm_mat out = mat(y, rows, WIDTH), in = mat(qkv, rows, 3 * WIDTH);
    ASSERT_OK(cached ? tdm_attend_cached(be, out, in, kv, 0, &step, err)
                     : tdm_attend_packed(be, out, in, &step, false, err));
    for (int i = 0; i < TEXTS; i++) {
        one_text text;
        const int n = LENGTHS[order[i]], first = starts[i];
        const tdm_mat one_out = mat(alone, n, WIDTH);
        const tdm_mat one_in = mat(qkv + (size_t)first * 3 * WIDTH, n, 3 * WIDTH);
        const tdm_step *one = text_step(&text, 0, n, 0);
        poison_scratch(be);
        ASSERT_OK(cached ? tdm_attend_cached(be, one_out, one_in, kv, 0, one, err)
                         : tdm_attend_packed(be, one_out, one_in, one, false, err));
        assert_memory_equal(alone, y + first * WIDTH, (size_t)n * WIDTH * sizeof *y);
    }
    tdm_kv_close(be, kv);
    free(alone);
    free(y);
    free(qkv);
}

static void neighbours_on(tdm_backend *be)
{
    static const int ORDERS[][TEXTS] = {{0, 1, 2, 3, 4, 5, 6}, {6, 3, 1, 0, 5, 2, 4}};
    for (size_t i = 0; i < COUNT(ORDERS); i++) {
        check_batch(be, true, ORDERS[i]);
        check_batch(be, false, ORDERS[i]);
    }
}

static void neighbours_do_not_matter(void **state)
{
    (void)state;
    on_all_backends(neighbours_on);
}

/* ---- what an earlier text left in the slot, and later rows of the same text ---- */

static void stale_on(tdm_backend *be)
{
    enum { N = 70, BAD = 40 };
    static const int WHOLE[] = {0, 0};
    float *qkv = make_qkv(CONTEXT, HEADS, 1, 1), *bad = make_qkv(CONTEXT, HEADS, 1, 2);
    float *clean = random_floats(CONTEXT * WIDTH, 2), *y = random_floats(CONTEXT * WIDTH, 3);
    one_text text;
    tdm_kv *kv = open_cache(be, 1, HEADS);
    memset(bad, 0xff, CONTEXT * 3 * WIDTH * sizeof *bad); /* all NaN */
    run_cut(be, kv, 0, qkv, N, WHOLE, clean);
    run_cut(be, kv, 0, bad, CONTEXT, WHOLE, y);
    run_cut(be, kv, 0, qkv, N, WHOLE, y);
    assert_memory_equal(y, clean, N * WIDTH * sizeof *y);
    /* A row that is NaN spoils itself and the rows after it, in one step as in many. */
    memset(qkv + BAD * 3 * WIDTH, 0xff, 3 * WIDTH * sizeof *qkv);
    run_cut(be, kv, 0, qkv, N, WHOLE, y);
    assert_memory_equal(y, clean, BAD * WIDTH * sizeof *y);
    for (size_t i = BAD * WIDTH; i < N * WIDTH; i++)
        assert_true(isnan(y[i]));
    /* packed: scratch of a longer text of NaN, then a clean short one */
    ASSERT_OK(tdm_attend_packed(be, mat(y, CONTEXT, WIDTH), mat(bad, CONTEXT, 3 * WIDTH),
                                text_step(&text, 0, CONTEXT, 0), false, err));
    ASSERT_OK(tdm_attend_packed(be, mat(y, BAD, WIDTH), mat(qkv, BAD, 3 * WIDTH),
                                text_step(&text, 0, BAD, 0), false, err));
    for (size_t i = 0; i < BAD * WIDTH; i++)
        assert_true(isfinite(y[i]));
    tdm_kv_close(be, kv);
    free(y);
    free(clean);
    free(bad);
    free(qkv);
}

static void stale_memory_does_not_matter(void **state)
{
    (void)state;
    on_all_backends(stale_on);
}

/* ---- refusals ---- */

/* A NaN in what a row reads makes the row NaN, whatever the NaN's other bits: no softmax hides it. */
static void nans_on(tdm_backend *be)
{
    static const uint32_t NANS[] = {0x7fc00000, 0x7fc00001, 0x7f800001, 0xffc00123};
    enum { N = 70, E = TDM_HEAD }; /* the last row's key block has a few keys */
    static const int PLACES[] = {0, 40, 66, 69};
    for (size_t i = 0; i < COUNT(NANS); i++)
        for (size_t j = 0; j < COUNT(PLACES); j++)
            for (int part = 0; part < 2; part++) { /* a query, a key */
                const int place = PLACES[j];
                float *qkv = make_qkv(N, 1, 1, 3), y[N * E];
                one_text t;
                memcpy(&qkv[place * 3 * E + part * E + 5], &NANS[i], sizeof *qkv);
                ASSERT_OK(tdm_attend_packed(be, mat(y, N, E), mat(qkv, N, 3 * E),
                                            text_step(&t, 0, N, 0), false, err));
                for (int r = 0; r < N; r++)
                    for (int k = 0; k < E; k++)
                        if (!isnan(y[r * E + k]) != (part == 0 && r != place))
                            fail_msg("NaN %08x in part %d of row %d: [%d, %d] is %g", NANS[i], part,
                                     place, r, k, (double)y[r * E + k]);
                free(qkv);
            }
}

static void nans_are_not_hidden(void **state)
{
    (void)state;
    on_all_backends(nans_on);
}

static void impossible_caches_are_refused(void **state)
{
    (void)state;
    tdm_backend be;
    tdm_kv *kv = NULL;
    ASSERT_OK(tdm_open_cpu(1, &be, err));
    ASSERT_FAILS(tdm_kv_open(&be, 0, 12, 64, 1024, &kv, err), TDM_EARG, "0 layers x 12 heads");
    ASSERT_FAILS(tdm_kv_open(&be, 12, 12, -1, 16, &kv, err), TDM_EARG, "-1 pages");
    ASSERT_FAILS(tdm_kv_open(&be, 12, 12, 64, 0, &kv, err), TDM_EARG, "0 for a text");
    ASSERT_FAILS(tdm_kv_open(&be, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, &kv, err), TDM_ENOMEM,
                 "2147483647 pages");
    ASSERT_FAILS(tdm_kv_open(&be, 48, 25, INT32_MAX, 16, &kv, err), TDM_ENOMEM,
                 "bytes for a cache of 48 layers x 25 heads x 2147483647 pages");
    assert_null(kv);
    ASSERT_OK(tdm_kv_open(&be, 48, 25, 512 * 16, 16, &kv, err)); /* 322 GB, none of it touched */
    tdm_kv_close(&be, kv);
    tdm_kv_close(&be, NULL);
    tdm_backend_close(&be);
}

static const tdm_step *own_pages(one_text *t, int first, int n, int slot, const int32_t *pages)
{
    text_step(t, first, n, slot);
    t->step.pages = pages;
    return &t->step;
}

static void bad_steps_are_refused(void **state)
{
    (void)state;
    tdm_backend be;
    tdm_kv *kv = NULL;
    one_text text;
    float *qkv = make_qkv(4, 1, 1, 1), y[4 * TDM_HEAD];
    const tdm_mat out = mat(y, 4, TDM_HEAD), in = mat(qkv, 4, 3 * TDM_HEAD);
    ASSERT_OK(tdm_open_cpu(1, &be, err));
    static const int32_t PAGES[] = {0, 2, 1, -1}; /* of slots 0 and 1 */
    ASSERT_OK(tdm_kv_open(&be, 1, 1, 2, 2, &kv, err));
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, own_pages(&text, 125, 4, 0, PAGES), err),
                 TDM_EARG, "text 0: position 128, want 0 to 127");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, own_pages(&text, 0, 4, -2, PAGES), err),
                 TDM_EARG, "text 0: slot -2");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, own_pages(&text, 61, 4, 0, PAGES), err),
                 TDM_EARG, "text 0: page 1 of slot 0 is 2, want 0 to 1");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, own_pages(&text, 61, 4, 1, PAGES), err),
                 TDM_EARG, "text 0: page 1 of slot 1 is -1, want 0 to 1");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, own_pages(&text, 0, 4, 0, NULL), err),
                 TDM_EARG, "no pages");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 1, text_step(&text, 0, 4, 0), err), TDM_EARG,
                 "layer 1 of 1");
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, NULL, 0, text_step(&text, 0, 4, 0), err), TDM_EARG,
                 "no cache");
    text_step(&text, 0, 4, 0);
    text.positions[2] = 5;
    ASSERT_FAILS(tdm_attend_cached(&be, out, in, kv, 0, &text.step, err), TDM_EARG,
                 "position 5 does not follow 1");
    text_step(&text, 0, 4, 0);
    text.starts[1] = 3;
    ASSERT_FAILS(tdm_attend_packed(&be, out, in, &text.step, false, err), TDM_EARG,
                 "the texts have 3 rows, the step has 4");
    text.starts[1] = 5;
    ASSERT_FAILS(tdm_attend_packed(&be, out, in, &text.step, false, err), TDM_EARG,
                 "end by 4");
    ASSERT_FAILS(tdm_attend_packed(&be, out, mat(qkv, 4, 64), text_step(&text, 0, 4, 0), false,
                                   err), TDM_EARG, "qkv has 64 columns, want 192");
    tdm_kv_close(&be, kv);
    tdm_backend_close(&be);
    free(qkv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_float64),   cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(neighbours_do_not_matter),    cmocka_unit_test(stale_memory_does_not_matter),
        cmocka_unit_test(nans_are_not_hidden),         cmocka_unit_test(decoding_gives_the_same_bits),
        cmocka_unit_test(copies_of_pages_are_equal),
        cmocka_unit_test(impossible_caches_are_refused), cmocka_unit_test(bad_steps_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
