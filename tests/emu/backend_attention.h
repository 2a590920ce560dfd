/* tests/emu/backend_attention.h - attention through the CUDA backend against float64: two texts
 * with pages of their own in no order, then one more token of each. */
#ifndef TESTS_EMU_BACKEND_ATTENTION_H
#define TESTS_EMU_BACKEND_ATTENTION_H

#include "tests/emu/backend_test.h"

enum {
    HEADS = 2,
    WIDTH = HEADS * TDM_HEAD,
    LONG = 70,
    SHORT = 5,
    PAGES = 6,
    TEXT_PAGES = 2,
    TEXT_SLOTS = 3,
    LONG_ROWS = LONG - 1, /* rows of the long prompt, and of the short: all but the last */
    SHORT_ROWS = SHORT - 1,
    BOTH = LONG_ROWS + SHORT_ROWS
};

typedef struct {
    float *a, *b;         /* [LONG], [SHORT] rows of q | k | v */
    tdm_mat prompts, y;   /* all but the last rows of a, then of b */
    tdm_mat last, y_last; /* a row of nobody, the last of b, the last of a */
    tdm_step ragged, decoding;
    double *want, *want_b;
} attention;

static inline attention open_attention(const tdm_backend *be)
{
    static const int32_t STARTS[] = {0, LONG_ROWS, BOTH}, TEXTS[] = {2, 0};
    static const int32_t TABLE[TEXT_SLOTS][TEXT_PAGES] = {{4, 4}, {0, 0}, {3, 1}};
    static const int32_t POSITIONS[TEXT_SLOTS] = {SHORT_ROWS, -1, LONG_ROWS},
                         DECODING[] = {1, 0, 2};
    enum { ROW = 3 * WIDTH };
    const tdm_dtype act = be->dtype;
    attention t = {.a = values_of(LONG * ROW, 1, 1, 0, act),
                   .b = values_of(SHORT * ROW, 2, 1, 0, act),
                   .want = doubles(LONG * WIDTH),
                   .want_b = doubles(SHORT * WIDTH)};
    float *both = random_floats(BOTH * ROW, 0), *last = values_of(3 * ROW, 3, 1, 0, act);
    int32_t positions[BOTH];
    memcpy(both, t.a, LONG_ROWS * ROW * sizeof *both);
    memcpy(both + LONG_ROWS * ROW, t.b, SHORT_ROWS * ROW * sizeof *both);
    memcpy(last + ROW, t.b + SHORT_ROWS * ROW, ROW * sizeof *last);
    memcpy(last + 2 * ROW, t.a + LONG_ROWS * ROW, ROW * sizeof *last);
    for (int32_t i = 0; i < BOTH; i++)
        positions[i] = i < LONG_ROWS ? i : i - LONG_ROWS;
    t.ragged = (tdm_step){.n_rows = BOTH,
                          .n_seqs = 2,
                          .longest = LONG_ROWS,
                          .positions = on_device(be, positions, sizeof positions),
                          .starts = on_device(be, STARTS, sizeof STARTS),
                          .slots = on_device(be, TEXTS, sizeof TEXTS),
                          .pages = on_device(be, TABLE, sizeof TABLE)};
    t.decoding = (tdm_step){.n_rows = 3,
                            .n_seqs = 3,
                            .longest = 1,
                            .positions = on_device(be, POSITIONS, sizeof POSITIONS),
                            .slots = on_device(be, DECODING, sizeof DECODING),
                            .pages = t.ragged.pages};
    t.prompts = put(be, both, BOTH, ROW, act);
    t.y = room(be, BOTH, WIDTH, 0, act);
    t.last = put(be, last, 3, ROW, act);
    t.y_last = room(be, 3, WIDTH, 0, act);
    free(last);
    free(both);
    return t;
}

static inline void close_attention(const tdm_backend *be, attention *t)
{
    release_all(be);
    free(t->want_b);
    free(t->want);
    free(t->b);
    free(t->a);
}

/* The prompts over the cache; then a token of each, the short text's in a copy of its page. */
static inline void check_cached(const tdm_backend *be, const attention *t, record *r,
                                double tolerance)
{
    static const int32_t MOVED[TEXT_SLOTS][TEXT_PAGES] = {{5, 5}, {0, 0}, {3, 1}};
    tdm_kv *kv = NULL;
    ASSERT_OK(tdm_kv_open(be, 2, HEADS, PAGES, TEXT_PAGES, &kv, err));
    ASSERT_OK(tdm_attend_cached(be, t->y, t->prompts, kv, 1, &t->ragged, err));
    ASSERT_OK(tdm_kv_copy(be, kv, 5, 4, err));
    ASSERT_OK(tdm_upload(be, (void *)t->decoding.pages, MOVED, sizeof MOVED, err));
    ASSERT_OK(tdm_attend_cached(be, t->y_last, t->last, kv, 1, &t->decoding, err));
    float *got = get(be, t->y), *last = get(be, t->y_last);
    ref_attend(t->want, t->a, LONG, HEADS, 0, 0.125);
    ref_attend(t->want_b, t->b, SHORT, HEADS, 0, 0.125);
    note(r, "long prompt", be->dtype, got, t->want, LONG_ROWS * WIDTH, tolerance);
    note(r, "short prompt", be->dtype, got + LONG_ROWS * WIDTH, t->want_b, SHORT_ROWS * WIDTH,
         tolerance);
    note(r, "a token of the long text", be->dtype, last + 2 * WIDTH, t->want + LONG_ROWS * WIDTH,
         WIDTH, tolerance);
    note(r, "a token of the short text", be->dtype, last + WIDTH, t->want_b + SHORT_ROWS * WIDTH,
         WIDTH, tolerance);
    for (size_t i = 0; i < WIDTH; i++)
        assert_true(last[i] == 0); /* the row of nobody */
    tdm_kv_close(be, kv);
    free(last);
    free(got);
}

static inline void check_packed(const tdm_backend *be, const attention *t, bool causal, record *r,
                                double tolerance)
{
    ASSERT_OK(tdm_attend_packed(be, t->y, t->prompts, &t->ragged, causal, err));
    float *got = get(be, t->y);
    ref_attend(t->want, t->a, LONG_ROWS, HEADS, causal ? 0 : LONG_ROWS, 0.125);
    ref_attend(t->want_b, t->b, SHORT_ROWS, HEADS, causal ? 0 : SHORT_ROWS, 0.125);
    note(r, "packed, long", be->dtype, got, t->want, LONG_ROWS * WIDTH, tolerance);
    note(r, "packed, short", be->dtype, got + LONG_ROWS * WIDTH, t->want_b, SHORT_ROWS * WIDTH,
         tolerance);
    free(got);
}

static inline void attention_on(const tdm_backend *be, tdm_dtype kv_dtype)
{
    record r = {.what = "attend"};
    const double tolerance = /* weights, results; cache */
        2 * SUMS + 2 * unit_of(be->dtype) + unit_of(kv_dtype);
    attention t = open_attention(be);
    check_cached(be, &t, &r, tolerance);
    check_packed(be, &t, false, &r, tolerance);
    check_packed(be, &t, true, &r, tolerance);
    print_record(&r, be->dtype);
    close_attention(be, &t);
}

#endif
