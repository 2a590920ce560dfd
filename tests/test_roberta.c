/* The detector's network against a float64 forward pass, and its promise: a row of logits depends on its
 * text alone. */
#include <math.h>

#include "tests/roberta_subject.h"

/* Logits are of the order of 1 and went through a few hundred f32 roundings of 2^-24 each. */
static const double TOLERANCE = 0x1p-16;

/* Infinity when anything is not finite: fmax would pass over a NaN. */
static double distance(const float got[2], const double want[2])
{
    for (int i = 0; i < 2; i++)
        if (!isfinite(got[i]) || !isfinite(want[i]))
            return INFINITY;
    return fmax(fabs(got[0] - want[0]), fabs(got[1] - want[1]));
}

static void test_reference(void **state)
{
    (void)state;
    static const struct {
        int layers, heads;
        const char *prefix;
        tdm_dtype dtype;
    } CASES[] = {
        {1, 1, "roberta.", TDM_F32}, {2, 2, "roberta.", TDM_F32}, {3, 3, "", TDM_F32},
        {2, 2, "roberta.", TDM_F16}, {2, 2, "", TDM_BF16},
    };
    static const int LENGTHS[] = {1, 2, 3, 17, MOST_TOKENS};
    double worst = 0;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        subject s;
        subject_open(&s, CASES[c].layers, CASES[c].heads, CASES[c].prefix, CASES[c].dtype, 1);
        for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
            int32_t ids[MOST_TOKENS];
            float got[2];
            double want[2];
            make_text(i, ids, LENGTHS[i]);
            classify_one(&s, ids, LENGTHS[i], got);
            reference_logits(&s.tiny, ids, LENGTHS[i], RIGHT, want);
            worst = fmax(worst, distance(got, want));
        }
        subject_close(&s);
    }
    print_message("largest difference %.3g, allowed %.3g\n", worst, TOLERANCE);
    assert_true(worst <= TOLERANCE);
}

/* The comparison has teeth: each usual mistake is far outside the tolerance. */
static void test_mistakes_are_seen(void **state)
{
    (void)state;
    int32_t ids[MOST_TOKENS];
    float got[2];
    double wrong[2];
    subject s;
    subject_open(&s, 2, 2, "roberta.", TDM_F32, 1);
    make_text(3, ids, 20);
    classify_one(&s, ids, 20, got);
    for (int v = RIGHT + 1; v < N_VARIANTS; v++) {
        reference_logits(&s.tiny, ids, 20, (variant)v, wrong);
        print_message("%s: %.3g\n", VARIANT_NAMES[v], distance(got, wrong));
        assert_true(isfinite(distance(got, wrong)) && distance(got, wrong) > 8 * TOLERANCE);
    }
    subject_close(&s);
}

/* Alone, in company, in another order, at another place, on more threads: the same bits. */
static void test_row_bits(void **state)
{
    (void)state;
    static const int LENGTHS[] = {5, 48, 1, 17, 33, 2, 8};
    enum { N = sizeof LENGTHS / sizeof *LENGTHS };
    static int32_t texts[N][MOST_TOKENS];
    float alone[N][2];
    for (int threads = 1; threads <= 3; threads += 2) {
        subject s;
        subject_open(&s, 2, 2, "roberta.", TDM_F32, threads);
        for (int i = 0; i < N; i++) {
            float again[2];
            make_text((uint64_t)i, texts[i], LENGTHS[i]);
            classify_one(&s, texts[i], LENGTHS[i], again);
            if (threads > 1)
                assert_memory_equal(again, alone[i], sizeof again);
            memcpy(alone[i], again, sizeof again);
        }
        for (int shift = 0; shift < N; shift++) {
            int32_t ids[MAX_ROWS], starts[N + 1] = {0};
            float together[N][2];
            for (int i = 0; i < N; i++) {
                const int text = (i * 3 + shift) % N;
                memcpy(ids + starts[i], texts[text], (size_t)LENGTHS[text] * sizeof *ids);
                starts[i + 1] = starts[i] + LENGTHS[text];
            }
            assert_int_equal(roberta_classify(s.model, ids, starts, N, together[0], NULL), TDM_OK);
            for (int i = 0; i < N; i++)
                assert_memory_equal(together[i], alone[(i * 3 + shift) % N], sizeof *together);
        }
        subject_close(&s);
    }
}

/* The inner layer in slices of any size: those of a single token, one that ends inside a text, one that the
 * texts just fill, one larger than all. */
static void test_slices(void **state)
{
    (void)state;
    enum { N = 4, ROWS = 3 * MOST_TOKENS + 2 };
    static const int32_t SLICES[] = {0, 1, 7, ROWS - 1, ROWS, ROWS + 1, MAX_ROWS};
    const int32_t starts[N + 1] = {0, MOST_TOKENS, MOST_TOKENS + 2, 2 * MOST_TOKENS + 2, ROWS};
    int32_t ids[ROWS];
    float want[N][2], got[N][2];
    for (int i = 0; i < N; i++)
        make_text((uint64_t)i + 60, ids + starts[i], starts[i + 1] - starts[i]);
    for (size_t c = 0; c < sizeof SLICES / sizeof *SLICES; c++) {
        tdm_err err = {0};
        subject s = {.slice = SLICES[c]};
        tiny_roberta_make(&s.tiny, 2, 2, 7);
        assert_int_equal(try_open(&s, "roberta.", TDM_F32, 2, &err), TDM_OK);
        assert_int_equal(roberta_classify(s.model, ids, starts, N, (c ? got : want)[0], &err), TDM_OK);
        if (c)
            assert_memory_equal(got, want, sizeof got);
        for (int i = 0; i < N; i++) {
            classify_one(&s, ids + starts[i], starts[i + 1] - starts[i], got[i]);
            assert_memory_equal(got[i], want[i], sizeof got[i]);
        }
        subject_close(&s);
    }
}

static void test_refused_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        int32_t n_texts, starts[4], second_id;
        const char *message;
    } CASES[] = {
        {"no text", 0, {0}, 0, "0 texts"},
        {"too many texts", MAX_TEXTS + 1, {0}, 0, "21 texts"},
        {"an empty text", 2, {0, 3, 3}, 0, "text of 0 tokens"},
        {"starts run backwards", 2, {0, 3, 1}, 0, "text of -2 tokens"},
        {"first start is not 0", 1, {1, 3}, 0, "first start 1"},
        {"longer than the context", 1, {0, MOST_TOKENS + 1}, 0, "text of 49 tokens"},
        {"id too large", 1, {0, 3}, TINY_VOCAB, "token id 268, want 0 to 267"},
        {"negative id", 1, {0, 3}, -1, "token id -1"},
    };
    subject s;
    subject_open(&s, 1, 1, "roberta.", TDM_F32, 1);
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        int32_t ids[MAX_ROWS] = {0}, starts[MAX_TEXTS + 2] = {0};
        float logits[2 * MAX_TEXTS];
        tdm_err err = {0};
        memcpy(starts, CASES[c].starts, sizeof CASES[c].starts);
        ids[1] = CASES[c].second_id;
        const tdm_status st =
            roberta_classify(s.model, ids, starts, CASES[c].n_texts, logits, &err);
        print_message("%s: %s\n", CASES[c].why, err.msg);
        assert_int_equal(st, TDM_EARG);
        assert_non_null(strstr(err.msg, CASES[c].message));
    }
    subject_close(&s);
}

/* Two batches under way at once: each lane keeps its own logits, in whatever order they are collected. */
static void test_lanes(void **state)
{
    (void)state;
    enum { N = 17 };
    int32_t ids[2][N];
    const int32_t starts[2][3] = {{0, 5, N}, {0, N}};
    const int32_t n_texts[2] = {2, 1};
    float want[2][4];
    subject s;
    subject_open(&s, 2, 2, "roberta.", TDM_F32, 1);
    for (int b = 0; b < 2; b++) {
        make_text((uint64_t)b + 20, ids[b], N);
        assert_int_equal(roberta_classify(s.model, ids[b], starts[b], n_texts[b], want[b], NULL), TDM_OK);
    }
    for (int first = 0; first < 2; first++) {
        for (int b = 0; b < 2; b++) {
            int32_t given[N]; /* is not kept */
            memcpy(given, ids[b], sizeof given);
            assert_int_equal(roberta_submit(s.model, b, given, starts[b], n_texts[b], NULL), TDM_OK);
            memset(given, 0, sizeof given);
        }
        for (int i = 0; i < 2; i++) {
            const int b = first ? 1 - i : i;
            const float *logits = NULL;
            assert_int_equal(roberta_collect(s.model, b, &logits, NULL), TDM_OK);
            assert_memory_equal(logits, want[b], (size_t)n_texts[b] * 2 * sizeof *logits);
        }
    }
    subject_close(&s);
}

static void test_misuse_of_lanes(void **state)
{
    (void)state;
    static const int32_t IDS[] = {0, 7, 2}, STARTS[] = {0, 3}, BAD[] = {0, 4000, 2};
    const float *logits = NULL;
    float both[2];
    tdm_err err = {0};
    subject s;
    subject_open(&s, 1, 1, "roberta.", TDM_F32, 1);
    for (int lane = -1; lane <= TDM_LANES; lane += TDM_LANES + 1) {
        assert_int_equal(roberta_submit(s.model, lane, IDS, STARTS, 1, &err), TDM_EARG);
        assert_non_null(strstr(err.msg, "want 0 to 1"));
        assert_int_equal(roberta_collect(s.model, lane, &logits, &err), TDM_EARG);
    }
    assert_int_equal(roberta_collect(s.model, 0, &logits, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "nothing was submitted"));
    assert_int_equal(roberta_submit(s.model, 0, BAD, STARTS, 1, &err), TDM_EARG); /* leaves it free */
    assert_int_equal(roberta_submit(s.model, 0, IDS, STARTS, 1, &err), TDM_OK);
    assert_int_equal(roberta_submit(s.model, 0, IDS, STARTS, 1, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "lane 0: its texts have not been collected"));
    assert_int_equal(roberta_classify(s.model, IDS, STARTS, 1, both, &err), TDM_EARG);
    assert_int_equal(roberta_collect(s.model, 0, &logits, &err), TDM_OK);
    assert_int_equal(roberta_collect(s.model, 0, &logits, &err), TDM_EARG);
    assert_null(logits);
    assert_int_equal(roberta_submit(s.model, 1, IDS, STARTS, 1, &err), TDM_OK);
    subject_close(&s); /* with a lane in use */
}

/* What a token costs is what the scratch grows by (and the one number that starts has more than texts). */
static void test_row_bytes(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 1, 2, "roberta.", TDM_F32, 1);
    const size_t fixed = roberta_scratch_bytes(s.model) - MAX_ROWS * roberta_row_bytes(&s.config, TDM_F32, 0);
    assert_true(fixed < MAX_TEXTS * (3 * 128 + 3) * sizeof(float) + 12 * 256 + 256);
    const size_t E = 128, W = s.config.n_inner > 384 ? (size_t)s.config.n_inner : 384;
    assert_int_equal(roberta_row_bytes(&s.config, TDM_F32, 0), 4 * (3 * E + W) + 3 * 4);
    assert_int_equal(roberta_row_bytes(&s.config, TDM_F16, 0), 4 * E + 2 * (3 * E + W) + 3 * 4);
    subject_close(&s);
}

static void test_softmax(void **state)
{
    (void)state;
    static const struct {
        float logits[2];
        double fake;
    } CASES[] = {{{0.f, 0.f}, 0.5},
                 {{1.f, -1.f}, 0.88079707797788243},
                 {{-1.f, 1.f}, 0.11920292202211755},
                 {{1000.f, -1000.f}, 1.0},
                 {{-1000.f, 1000.f}, 0.0},
                 {{20.f, 0.f}, 0.99999999793884636}};
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        double p[2];
        roberta_softmax(CASES[c].logits, p);
        assert_true(fabs(p[ROBERTA_FAKE] - CASES[c].fake) < 1e-15);
        assert_true(fabs(p[ROBERTA_FAKE] + p[ROBERTA_REAL] - 1) < 1e-15);
    }
}

static void test_classifying_allocates_nothing(void **state)
{
    (void)state;
    int32_t ids[MOST_TOKENS];
    float logits[2];
    subject s;
    n_allocations = 0;
    subject_open(&s, 2, 2, "roberta.", TDM_F32, 2);
    const int opening = n_allocations;
    assert_true(opening > 0); /* they are counted */
    for (int n = 1; n <= MOST_TOKENS; n += 47) {
        make_text((uint64_t)n, ids, n);
        classify_one(&s, ids, n, logits);
    }
    assert_int_equal(n_allocations, opening);
    subject_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_mistakes_are_seen),
        cmocka_unit_test(test_row_bits),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_refused_arguments),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_misuse_of_lanes),
        cmocka_unit_test(test_row_bytes),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_classifying_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
