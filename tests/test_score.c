/* Scoring: statistics against a softmax in double over the model's own logits; the same bits for every
 * packing and company; what is refused; the device's failures. */
#include "tests/lane_backend.h"
#include "tests/score_subject.h"

/* ---- against double ---- */

/* Logits [n, V] of the first n tokens of a text, from the forward pass with a cache. */
static void model_logits(gpt2_run *run, const int32_t *ids, int32_t n, float *out)
{
    tdm_err err = {0};
    tdm_mat logits;
    int32_t numbers[CONTEXT];
    for (int32_t i = 0; i < n; i++)
        numbers[i] = i;
    const gpt2_step step = {n, 1, n, ids, numbers, (int32_t[]){0, n}, (int32_t[]){0}, numbers};
    if (gpt2_forward(run, &step, &logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    for (int32_t i = 0; i < n; i++)
        memcpy(out + i * V, (const float *)logits.p + i * logits.stride, V * sizeof *out);
}

typedef struct {
    double logprob, entropy, variance;
    int least_rank, most_rank; /* with room for what rounding may do to equal logits */
} wanted;

/* Logits are of the order of 8, from some hundred roundings of 2^-24; the two forward passes may differ. */
static const double LOGIT_TOLERANCE = 0x1p-18;

static wanted in_double(const float *logits, int32_t target)
{
    wanted w = {.least_rank = 1, .most_rank = 1};
    double largest = -INFINITY, sum = 0, mean = 0, square = 0;
    for (int v = 0; v < V; v++)
        largest = fmax(largest, (double)logits[v]);
    for (int v = 0; v < V; v++)
        sum += exp((double)logits[v] - largest);
    for (int v = 0; v < V; v++) {
        const double lp = (double)logits[v] - largest - log(sum), p = exp(lp);
        const double above = (double)logits[v] - (double)logits[target];
        mean += p * lp;
        square += p * lp * lp;
        w.least_rank += above > LOGIT_TOLERANCE;
        w.most_rank += v != target && above > -LOGIT_TOLERANCE;
    }
    w.logprob = (double)logits[target] - largest - log(sum);
    w.entropy = -mean;
    w.variance = square - mean * mean;
    return w;
}

static void test_against_double(void **state)
{
    (void)state;
    static text memory[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    static float logits[CONTEXT * V];
    const gpt2_limits limits = {.slots = 1, .pages = gpt2_text_pages(CONTEXT), .context = CONTEXT,
                                .rows = CONTEXT, .logits = CONTEXT};
    loaded l;
    tdm_err err = {0};
    gpt2_run *run = NULL;
    double logprob = 0, entropy = 0, variance = 0;
    int judged = 0, other_target = 0;
    load(&l, 2);
    make_texts(memory, texts, N_TEXTS);
    tdm_scorer *scorer = open_scorer(l.model, &(tdm_score_options){.rows = 100, .logits = 7});
    assert_int_equal(tdm_scorer_rows(scorer), 100);
    if (tdm_scorer_run(scorer, texts, N_TEXTS, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gpt2_run_open(l.model, &limits, &run, &err), TDM_OK);
    for (size_t i = 0; i < N_TEXTS; i++) {
        if (texts[i].n > 1)
            model_logits(run, texts[i].ids, texts[i].n - 1, logits);
        for (int32_t k = 0; k < texts[i].n - 1; k++) {
            const wanted w = in_double(logits + k * V, texts[i].ids[k + 1]);
            const tdm_stat *s = &texts[i].stats[k];
            assert_true(isfinite(s->logprob) && isfinite(s->entropy) && isfinite(s->variance));
            logprob = fmax(logprob, fabs((double)s->logprob - w.logprob));
            entropy = fmax(entropy, fabs((double)s->entropy - w.entropy));
            variance = fmax(variance, fabs((double)s->variance - w.variance));
            assert_true(s->rank >= w.least_rank && s->rank <= w.most_rank);
            other_target += fabs(in_double(logits + k * V, texts[i].ids[k]).logprob - w.logprob) > 0.01;
            judged++;
        }
    }
    print_message("%d tokens; worst: logprob %.2g, entropy %.2g, variance %.2g; allowed %.2g\n", judged,
                  logprob, entropy, variance, 4 * LOGIT_TOLERANCE);
    assert_true(logprob <= LOGIT_TOLERANCE && entropy <= LOGIT_TOLERANCE);
    assert_true(variance <= 4 * LOGIT_TOLERANCE); /* of values up to the square of the logprobs */
    assert_true(judged > 1000 && other_target > judged / 2); /* a wrong target would be seen */
    gpt2_run_close(run);
    tdm_scorer_close(scorer);
    unload(&l);
}

/* ---- the same bits ---- */

static void test_independence(void **state)
{
    (void)state;
    static const struct {
        int32_t rows, logits;
        int threads;
        size_t at_once;
        bool backwards;
    } CASES[] = {{100, 7, 1, N_TEXTS, false}, {0, 0, 2, N_TEXTS, false}, {CONTEXT, 1, 1, N_TEXTS, true},
                 {CONTEXT, 40, 2, 1, false},  {1, 1000, 2, 7, true},     {500, 64, 3, 13, false}};
    static text first[N_TEXTS], again[N_TEXTS];
    tdm_score_text texts[N_TEXTS];
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        loaded l;
        load(&l, CASES[c].threads);
        const tdm_score_options options = {.rows = CASES[c].rows, .logits = CASES[c].logits};
        tdm_scorer *scorer = open_scorer(l.model, &options);
        make_texts(c ? again : first, texts, N_TEXTS);
        for (size_t i = 0; CASES[c].backwards && i < N_TEXTS / 2; i++) {
            const tdm_score_text t = texts[i];
            texts[i] = texts[N_TEXTS - 1 - i];
            texts[N_TEXTS - 1 - i] = t;
        }
        for (size_t i = 0; i < N_TEXTS; i += CASES[c].at_once) {
            const size_t n = N_TEXTS - i < CASES[c].at_once ? N_TEXTS - i : CASES[c].at_once;
            assert_int_equal(tdm_scorer_run(scorer, texts + i, n, NULL), TDM_OK);
        }
        for (size_t i = 0; c && i < N_TEXTS; i++) /* what is behind the last is untouched in both */
            assert_memory_equal(first[i].stats, again[i].stats, sizeof first[i].stats);
        tdm_scorer_close(scorer);
        unload(&l);
    }
}

/* ---- lanes and failures ---- */

static void test_lanes(void **state)
{
    (void)state;
    static text memory[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    static const struct {
        lane_watch watch;
        bool fails;
    } CASES[] = {
        {{0}, false},
        {{.fail_embed = 1}, true}, {{.fail_embed = 5}, true}, {{.fail_begin = 2}, true},
        {{.fail_end = 1}, true},   {{.fail_end = 6}, true},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        lane_watch watch = CASES[c].watch;
        loaded l;
        tdm_err err = {0};
        load(&l, 1);
        lane_backend_wrap(&l.be, &watch);
        make_texts(memory, texts, N_TEXTS);
        tdm_scorer *scorer = open_scorer(l.model, &(tdm_score_options){.rows = CONTEXT, .logits = 8});
        const tdm_status st = tdm_scorer_run(scorer, texts, N_TEXTS, &err);
        assert_int_equal(st, CASES[c].fails ? TDM_ESTOPPED : TDM_OK);
        assert_int_equal(watch.under_way, 0);
        if (CASES[c].fails)
            assert_non_null(strstr(err.msg, "the device was lost"));
        else
            assert_int_equal(watch.most, TDM_LANES);
        watch = (lane_watch){0}; /* the scorer is as good as new */
        assert_int_equal(tdm_scorer_run(scorer, texts, N_TEXTS, &err), TDM_OK);
        tdm_scorer_close(scorer);
        unload(&l);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        int32_t n, bad_at, bad, skip;
        const char *message;
    } CASES[] = {
        {"an empty text", 0, 0, 0, 0, "text 1 has 0 tokens"},
        {"a negative length", -3, 0, 0, 0, "text 1 has -3 tokens"},
        {"too long", CONTEXT + 2, 0, 0, 0, "text 1 has 42 tokens, want at most 41"},
        {"an id too large", 3, 1, V, 0, "text 1: token 1 is id 263, want 0 to 262"},
        {"a negative id at the end", 3, 2, -1, 0, "text 1: token 2 is id -1"},
        {"all skipped, and more", 3, 0, 0, 3, "text 1 of 3 tokens: 3 positions are skipped"},
        {"skipped before it", 3, 0, 0, -1, "text 1 of 3 tokens: -1 positions are skipped"},
    };
    loaded l;
    load(&l, 1);
    tdm_scorer *scorer = open_scorer(l.model, &(tdm_score_options){0});
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        int32_t ids[CONTEXT + 2] = {0};
        tdm_stat stats[CONTEXT + 1], other[1] = {{.rank = 77}};
        tdm_err err = {0};
        ids[CASES[c].bad_at] = CASES[c].bad;
        const tdm_score_text texts[] = {{.ids = (int32_t[]){1, 2}, .n = 2, .stats = other},
                                        {.ids = ids, .n = CASES[c].n, .stats = stats, .skip = CASES[c].skip}};
        const tdm_status st = tdm_scorer_run(scorer, texts, 2, &err);
        print_message("%s: %s\n", CASES[c].why, err.msg);
        assert_int_equal(st, TDM_EARG);
        assert_non_null(strstr(err.msg, CASES[c].message));
        assert_int_equal(other[0].rank, 77); /* before any work */
    }
    const tdm_score_text alone = {.ids = (int32_t[]){1}, .n = 1};
    assert_int_equal(tdm_scorer_run(scorer, &alone, 1, NULL), TDM_OK);
    assert_int_equal(tdm_scorer_run(scorer, NULL, 0, NULL), TDM_OK);
    tdm_scorer_close(scorer);
    tdm_scorer_close(NULL);
    unload(&l);
}

static void refuse_options(const loaded *l, int32_t rows, int32_t logits, const char *message)
{
    tdm_err err = {0};
    tdm_scorer *scorer = NULL;
    const tdm_score_options options = {.rows = rows, .logits = logits};
    assert_int_equal(tdm_scorer_open(l->model, &options, &scorer, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, message));
    assert_null(scorer);
}

static void test_bad_options(void **state)
{
    enum { MOST_ROWS = TDM_LANE_BYTES / sizeof(tdm_stat) };
    (void)state;
    loaded l;
    load(&l, 1);
    refuse_options(&l, -1, 0, "scoring -1 tokens at once");
    refuse_options(&l, 0, -1, "with the logits of -1");
    refuse_options(&l, MOST_ROWS + 1, 0, "scoring 65537 tokens at once, want at most 65536");
    unload(&l);
    tdm_scorer *scorer = NULL;
    load_shape(&l, 1, 1, 1, MOST_ROWS); /* raised to the context, which just fits */
    const tdm_score_options one = {.rows = 1, .logits = 1};
    assert_int_equal(tdm_scorer_open(l.model, &one, &scorer, NULL), TDM_OK);
    assert_int_equal(tdm_scorer_rows(scorer), MOST_ROWS);
    tdm_scorer_close(scorer);
    unload(&l);
    load_shape(&l, 1, 1, 1, MOST_ROWS + 1);
    refuse_options(&l, 0, 0, "scoring 65537 tokens at once, want at most 65536");
    refuse_options(&l, 1, 1, "scoring 65537 tokens at once, want at most 65536");
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
