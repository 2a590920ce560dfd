/* Scoring with a second model and with the likeliest tokens: against double over both models' own logits; the same
 * bits whatever else is asked; what is refused; memory for two. */
#include "host/gpt2_model.h"
#include "tests/lane_backend.h"
#include "tests/score_subject.h"

enum { OBSERVER_CONTEXT = CONTEXT + 7 };

typedef struct {
    loaded l;
    tdm_config other_config;
    gpt2_model *other; /* of another width, fewer layers and a longer context */
} pair;

static void load_pair(pair *p, int threads)
{
    load(&p->l, threads);
    load_model(&p->l.be, 1, 3, OBSERVER_CONTEXT, 9, &p->other_config, &p->other);
}

static void unload_pair(pair *p)
{
    gpt2_close(p->other);
    unload(&p->l);
}

static void score_all(tdm_scorer *scorer, const tdm_score_text *texts, size_t n)
{
    tdm_err err = {0};
    if (tdm_scorer_run(scorer, texts, n, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

/* ---- against double ---- */

/* ln p [n, V] of the first n tokens of a text, from the forward pass with a cache. */
static void model_logprobs(const gpt2_model *model, const int32_t *ids, int32_t n, double *out)
{
    const gpt2_limits limits = {.slots = 1, .pages = gpt2_text_pages(CONTEXT), .context = CONTEXT,
                                .rows = CONTEXT, .logits = CONTEXT};
    tdm_err err = {0};
    gpt2_run *run = NULL;
    tdm_mat logits;
    int32_t numbers[CONTEXT];
    for (int32_t i = 0; i < n; i++)
        numbers[i] = i;
    const gpt2_step step = {n, 1, n, ids, numbers, (int32_t[]){0, n}, (int32_t[]){0}, numbers};
    assert_int_equal(gpt2_run_open(model, &limits, &run, &err), TDM_OK);
    if (gpt2_forward(run, &step, &logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    for (int32_t i = 0; i < n; i++) {
        const float *row = (const float *)logits.p + i * logits.stride;
        double largest = -INFINITY, sum = 0;
        for (int v = 0; v < V; v++)
            largest = fmax(largest, (double)row[v]);
        for (int v = 0; v < V; v++)
            sum += exp((double)row[v] - largest);
        for (int v = 0; v < V; v++)
            out[i * V + v] = (double)row[v] - largest - log(sum);
    }
    gpt2_run_close(run);
}

/* As in test_score.c: some hundred roundings of logits of the order of 8. */
static const double TOLERANCE = 0x1p-18;

typedef struct {
    double cross, variance, back, top; /* the worst differences */
    int rows;
} differences;

static void compare_row(differences *worst, const double *p, const double *q, const tdm_cross *cross,
                        const tdm_top *top)
{
    double mean = 0, square = 0, back = 0;
    for (int v = 0; v < V; v++) {
        mean += exp(q[v]) * p[v];
        square += exp(q[v]) * p[v] * p[v];
        back -= exp(p[v]) * q[v];
    }
    worst->cross = fmax(worst->cross, fabs((double)cross->cross + mean));
    worst->variance = fmax(worst->variance, fabs((double)cross->variance - (square - mean * mean)));
    worst->back = fmax(worst->back, fabs((double)cross->back - back));
    for (int k = 0; k < TOP; k++) {
        int larger = 0, at_least = 0;
        assert_in_range(top[k].id, 0, V - 1);
        for (int v = 0; v < V; v++) {
            larger += p[v] > p[top[k].id] + TOLERANCE;
            at_least += p[v] >= p[top[k].id] - TOLERANCE;
        }
        assert_true(larger <= k && at_least > k);
        for (int other = 0; other < k; other++)
            assert_int_not_equal(top[k].id, top[other].id);
        worst->top = fmax(worst->top, fabs((double)top[k].logprob - p[top[k].id]));
    }
    worst->rows++;
}

static void test_against_double(void **state)
{
    (void)state;
    static text memory[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    static double p[CONTEXT * V], q[CONTEXT * V];
    differences worst = {0};
    pair both;
    load_pair(&both, 2);
    make_texts(memory, texts, N_TEXTS);
    const tdm_score_options options = {.rows = 100, .logits = 7, .observer = both.other, .top = TOP};
    tdm_scorer *scorer = open_scorer(both.l.model, &options);
    score_all(scorer, texts, N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++) {
        const int32_t n = texts[i].n - 1;
        if (n > 0) {
            model_logprobs(both.l.model, texts[i].ids, n, p);
            model_logprobs(both.other, texts[i].ids, n, q);
        }
        for (int32_t k = 0; k < n; k++) {
            const tdm_stat *s = &texts[i].stats[k];
            const tdm_top *top = &texts[i].top[k * TOP];
            compare_row(&worst, p + k * V, q + k * V, &texts[i].cross[k], top);
            if (s->rank <= TOP) { /* the text's own token is where its rank says, with its log-probability */
                assert_int_equal(top[s->rank - 1].id, texts[i].ids[k + 1]);
                assert_true(fabsf(top[s->rank - 1].logprob - s->logprob) <= 0x1p-20f);
            }
        }
    }
    print_message("%d rows; worst: cross %.2g, variance %.2g, back %.2g, top %.2g\n", worst.rows, worst.cross,
                  worst.variance, worst.back, worst.top);
    assert_true(worst.rows > 1000 && worst.cross <= TOLERANCE && worst.back <= TOLERANCE);
    assert_true(worst.variance <= 4 * TOLERANCE && worst.top <= TOLERANCE);
    tdm_scorer_close(scorer);
    unload_pair(&both);
}

/* A model that observes itself is surprised as often as it expects to be. */
static void test_own_observer(void **state)
{
    (void)state;
    static text memory[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    loaded l;
    double worst = 0;
    load(&l, 1);
    make_texts(memory, texts, N_TEXTS);
    tdm_scorer *scorer = open_scorer(l.model, &(tdm_score_options){.observer = l.model});
    score_all(scorer, texts, N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++)
        for (int32_t k = 0; k < texts[i].n - 1; k++) {
            const tdm_stat *s = &texts[i].stats[k];
            const tdm_cross *c = &texts[i].cross[k];
            worst = fmax(worst, fabs((double)c->cross - (double)s->entropy));
            worst = fmax(worst, fabs((double)c->back - (double)s->entropy));
            worst = fmax(worst, fabs((double)c->variance - (double)s->variance));
        }
    print_message("worst: %.2g\n", worst);
    assert_true(worst <= 0x1p-20); /* of values up to 30 */
    tdm_scorer_close(scorer);
    unload(&l);
}

/* ---- the same bits ---- */

static void test_independence(void **state)
{
    (void)state;
    static const struct {
        int32_t rows, logits, top;
        int threads;
        size_t at_once;
        bool observed, backwards;
    } CASES[] = {{100, 7, TOP, 1, N_TEXTS, true, false}, {0, 0, 0, 2, N_TEXTS, false, false},
                 {0, 0, TOP, 2, N_TEXTS, false, true},   {CONTEXT, 1, 0, 1, N_TEXTS, true, true},
                 {CONTEXT, 40, TOP, 2, 1, true, false},  {1, 1000, TOP, 3, 7, true, true},
                 {500, 64, 0, 2, 13, true, false}};
    static text first[N_TEXTS], again[N_TEXTS], untouched;
    tdm_score_text texts[N_TEXTS];
    memset(&untouched, 0xFF, sizeof untouched);
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        pair both;
        load_pair(&both, CASES[c].threads);
        const tdm_score_options options = {.rows = CASES[c].rows, .logits = CASES[c].logits,
                                           .observer = CASES[c].observed ? both.other : NULL,
                                           .top = CASES[c].top};
        tdm_scorer *scorer = open_scorer(both.l.model, &options);
        make_texts(c ? again : first, texts, N_TEXTS);
        for (size_t i = 0; CASES[c].backwards && i < N_TEXTS / 2; i++) {
            const tdm_score_text t = texts[i];
            texts[i] = texts[N_TEXTS - 1 - i];
            texts[N_TEXTS - 1 - i] = t;
        }
        for (size_t i = 0; i < N_TEXTS; i += CASES[c].at_once)
            score_all(scorer, texts + i, N_TEXTS - i < CASES[c].at_once ? N_TEXTS - i : CASES[c].at_once);
        for (size_t i = 0; c && i < N_TEXTS; i++) { /* what is behind the last is untouched in both */
            const text *cross = CASES[c].observed ? &first[i] : &untouched;
            const text *top = CASES[c].top ? &first[i] : &untouched;
            assert_memory_equal(first[i].stats, again[i].stats, sizeof first[i].stats);
            assert_memory_equal(cross->cross, again[i].cross, sizeof cross->cross);
            assert_memory_equal(top->top, again[i].top, sizeof top->top);
        }
        tdm_scorer_close(scorer);
        unload_pair(&both);
    }
}

/* What is found out behind skipped positions is what it is without. */
static void test_skip(void **state)
{
    (void)state;
    static text whole[N_TEXTS], part[N_TEXTS], untouched;
    static tdm_score_text texts[N_TEXTS];
    pair both;
    load_pair(&both, 2);
    memset(&untouched, 0xFF, sizeof untouched);
    const tdm_score_options options = {.rows = 100, .logits = 7, .observer = both.other, .top = TOP};
    tdm_scorer *scorer = open_scorer(both.l.model, &options);
    make_texts(whole, texts, N_TEXTS);
    score_all(scorer, texts, N_TEXTS);
    make_texts(part, texts, N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++)
        texts[i].skip = i % 3 ? (int32_t)(i * 7) % texts[i].n : texts[i].n - 1;
    score_all(scorer, texts, N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++) {
        const size_t skip = (size_t)texts[i].skip, n = (size_t)texts[i].n - 1 - skip;
        assert_memory_equal(part[i].stats, whole[i].stats + skip, n * sizeof *part[i].stats);
        assert_memory_equal(part[i].cross, whole[i].cross + skip, n * sizeof *part[i].cross);
        assert_memory_equal(part[i].top, whole[i].top + skip * TOP, n * TOP * sizeof *part[i].top);
        assert_memory_equal(part[i].stats + n, untouched.stats, skip * sizeof *part[i].stats);
        assert_memory_equal(part[i].cross + n, untouched.cross, skip * sizeof *part[i].cross);
        assert_memory_equal(part[i].top + n * TOP, untouched.top, skip * TOP * sizeof *part[i].top);
    }
    tdm_scorer_close(scorer);
    unload_pair(&both);
}

/* ---- failures ---- */

static void test_lanes(void **state)
{
    (void)state;
    static text memory[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    /* each pass begins with an embedding by the model, then one by the observer */
    static const lane_watch CASES[] = {{0}, {.fail_embed = 2}, {.fail_embed = 9}, {.fail_embed = 10},
                                       {.fail_begin = 2}, {.fail_end = 3}};
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        lane_watch watch = CASES[c];
        pair both;
        tdm_err err = {0};
        load_pair(&both, 1);
        lane_backend_wrap(&both.l.be, &watch);
        make_texts(memory, texts, N_TEXTS);
        const tdm_score_options options = {.rows = CONTEXT, .observer = both.other, .top = TOP};
        tdm_scorer *scorer = open_scorer(both.l.model, &options);
        const tdm_status st = tdm_scorer_run(scorer, texts, N_TEXTS, &err);
        assert_int_equal(st, c ? TDM_ESTOPPED : TDM_OK);
        assert_true(!c || strstr(err.msg, "the device was lost"));
        assert_int_equal(watch.under_way, 0);
        assert_int_equal(watch.most, c == 1 ? 0 : c == 4 ? 1 : TDM_LANES);
        watch = (lane_watch){0}; /* the scorer is as good as new */
        score_all(scorer, texts, N_TEXTS);
        tdm_scorer_close(scorer);
        unload_pair(&both);
    }
}

static void refuse(const gpt2_model *m, const tdm_score_options *options, const char *message)
{
    tdm_err err = {0};
    tdm_scorer *scorer = NULL;
    assert_int_equal(tdm_scorer_open(m, options, &scorer, &err), TDM_EARG);
    print_message("%s\n", err.msg);
    assert_non_null(strstr(err.msg, message));
    assert_null(scorer);
}

static void test_refused_options(void **state)
{
    enum { MOST_ROWS = TDM_LANE_BYTES / (sizeof(tdm_stat) + sizeof(tdm_cross) + TDM_TOP_MOST * sizeof(tdm_top)) };
    (void)state;
    pair both;
    loaded longer;
    load_pair(&both, 1);
    load_shape(&longer, 1, 1, 1, MOST_ROWS + 1);
    const gpt2_model *m = both.l.model;
    gpt2_model words = *both.other, elsewhere = *both.other;
    words.config.n_vocab = V + 1;
    elsewhere.be = &longer.be;
    refuse(m, &(tdm_score_options){.top = -1}, "the -1 likeliest tokens, want 0 to 64");
    refuse(m, &(tdm_score_options){.top = TDM_TOP_MOST + 1}, "the 65 likeliest tokens, want 0 to 64");
    refuse(m, &(tdm_score_options){.observer = &words},
           "the observer has a vocabulary of 264 tokens, the model of 263");
    refuse(m, &(tdm_score_options){.observer = &elsewhere}, "model and observer are on two backends");
    refuse(both.other, &(tdm_score_options){.observer = m},
           "the observer has a context of 40 tokens, the model of 47: want at least that");
    refuse(m, &(tdm_score_options){.rows = MOST_ROWS + 1, .observer = both.other, .top = TDM_TOP_MOST},
           "scoring 1942 tokens at once, want at most 1941");
    refuse(longer.model, &(tdm_score_options){.observer = longer.model, .top = TDM_TOP_MOST},
           "scoring 1942 tokens at once, want at most 1941");
    const tdm_score_options most = {.observer = both.other, .top = TDM_TOP_MOST};
    tdm_scorer *scorer = open_scorer(m, &most);
    assert_int_equal(tdm_scorer_rows(scorer), MOST_ROWS); /* less than suits a CPU: the lane's limit */
    tdm_scorer_close(scorer);
    unload(&longer);
    unload_pair(&both);
}

static gpt2_run *open_run(const gpt2_model *m, int32_t rows, int32_t logits, int32_t context, bool cross)
{
    tdm_err err = {0};
    gpt2_run *run = NULL;
    const gpt2_limits limits = {.context = context, .rows = rows, .logits = logits, .cross = cross};
    if (gpt2_run_open(m, &limits, &run, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return run;
}

static void test_refused_runs(void **state)
{
    (void)state;
    static const struct {
        int32_t rows, logits, context;
        bool cross;
        const char *message; /* NULL: fits */
    } CASES[] = {
        {8, 4, 8, true, NULL},
        {9, 5, 9, true, NULL},
        {7, 4, 7, true, "an observer of 7 rows, 4 of logits, context 7; the run has 8, 4, 8"},
        {8, 3, 8, true, "an observer of 8 rows, 3 of logits"},
        {8, 4, 7, true, "an observer of 8 rows, 4 of logits, context 7"},
        {8, 4, 8, false, "the run has 8, 4, 8, and no memory for it"},
    };
    const int32_t tokens[3] = {1, 2, 3}, starts[2] = {0, 3};
    const gpt2_texts texts = {3, 1, tokens, starts, tokens};
    pair both;
    load_pair(&both, 1);
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_err err = {0};
        gpt2_scores found;
        gpt2_run *run = open_run(both.l.model, 8, 4, 8, CASES[c].cross);
        gpt2_run *observer = open_run(both.other, CASES[c].rows, CASES[c].logits, CASES[c].context, false);
        const tdm_status st = gpt2_score(run, observer, &texts, 0, &err);
        assert_int_equal(st, CASES[c].message ? TDM_EARG : TDM_OK);
        if (CASES[c].message)
            assert_non_null(strstr(err.msg, CASES[c].message));
        else
            assert_int_equal(gpt2_scored(run, 0, &found, &err), TDM_OK);
        assert_int_equal(gpt2_score(run, run, &texts, 0, &err), TDM_EARG);
        assert_non_null(strstr(err.msg, "a run of its own"));
        assert_int_equal(gpt2_score(run, NULL, &texts, 0, &err), TDM_OK);
        assert_int_equal(gpt2_scored(run, 0, &found, &err), TDM_OK);
        assert_true(found.stats && !found.cross && !found.top);
        gpt2_run_close(run);
        gpt2_run_close(observer);
    }
    unload_pair(&both);
}

/* ---- memory ---- */

static size_t pretended;

static size_t pretend_memory(void *self)
{
    (void)self;
    return pretended;
}

/* A batch gets smaller until the scratch of both models takes half of what is free. */
static void test_memory(void **state)
{
    (void)state;
    enum { ROWS = 2048 }; /* on a CPU */
    pair both;
    load_pair(&both, 1);
    tdm_ops ops = *both.l.be.ops;
    ops.memory = pretend_memory;
    both.l.be.ops = &ops;
    const gpt2_limits first = {.context = CONTEXT, .rows = ROWS, .logits = 64, .cross = true, .top = TOP};
    const gpt2_limits second = {.context = CONTEXT, .rows = ROWS, .logits = 64};
    size_t cache = 0, one = 0, two = 0;
    assert_true(gpt2_run_bytes(&both.l.be, &both.l.config, &first, &cache, &one));
    assert_true(gpt2_run_bytes(&both.l.be, &both.other_config, &second, &cache, &two));
    const struct {
        size_t memory;
        int32_t top, rows;
        bool observed;
    } cases[] = {
        {0, TOP, ROWS, true}, /* not known */
        {2 * (one + two), TOP, ROWS, true},
        {2 * (one + two - 1), TOP, ROWS / 2, true},
        {2 * (one + two - 1), TOP, ROWS, false},
        {2 * one - 2, 0, ROWS, false},
        {2, TOP, CONTEXT, true}, /* the least there is */
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const tdm_score_options options = {.observer = cases[c].observed ? both.other : NULL,
                                           .top = cases[c].top};
        pretended = cases[c].memory;
        tdm_scorer *scorer = open_scorer(both.l.model, &options);
        assert_int_equal(tdm_scorer_rows(scorer), cases[c].rows);
        tdm_scorer_close(scorer);
    }
    unload_pair(&both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_own_observer),
        cmocka_unit_test(test_independence),   cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_refused_options), cmocka_unit_test(test_refused_runs),
        cmocka_unit_test(test_memory),         cmocka_unit_test(test_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
