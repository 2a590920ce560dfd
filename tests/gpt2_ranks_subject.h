/* tests/gpt2_ranks_subject.h - what a GPT-2 makes of a few texts in all three ways, on whatever backend, so that what
 * several ranks make of them can be compared with what one backend alone does.
 *
 *   open_files(&files, dir);
 *   ask(&be, &files, false, &alone);  // opens the model, asks it, closes it
 *   ask(&ranks, &files, true, &some); // the same texts in other company
 *   assert_close(&some, &alone, 0x1p-17, "3 ranks");
 *   assert_same(&some, &again, "3 ranks");
 *   free_answers(&alone); */
#ifndef TESTS_GPT2_RANKS_SUBJECT_H
#define TESTS_GPT2_RANKS_SUBJECT_H

#include <math.h>
#include <string.h>

#include "host/gpt2.h"
#include "host/ranks.h"
#include "tests/tiny_gpt2.h"

enum {
    TEXTS = 3,
    STEPS = 4,    /* tokens drawn for each text */
    CONTEXT = 20,
    SLOTS = 4,    /* the last is a stranger's */
    FED = 9 + 5 + 2,
    TOP = 3,
    GREEDY = 0,   /* the text that is written greedily */
};
static const int32_t LENGTHS[TEXTS] = {9, 5, 2};

typedef struct {
    tdm_checkpoint *ck;
    tdm_config config;
} model_files;

typedef struct {
    int32_t vocab;
    float *logits;                /* [FED, V] of all tokens that were fed, text by text */
    float *greedy;                /* [STEPS, V] what the greedy text was drawn from */
    int32_t drawn[TEXTS][STEPS];
    tdm_stat stats[FED];          /* of each token of the texts, the next one as target */
    tdm_top top[FED][TOP];
    tdm_cross cross[FED];         /* the model as its own observer */
} answers;

#define RANKS_OK(call)                    \
    do {                                  \
        tdm_err e_ = {0};                 \
        tdm_err *err = &e_;               \
        if ((call) != TDM_OK)             \
            fail_msg("%s", e_.msg);       \
    } while (0)

static inline void open_files(model_files *f, const char *dir)
{
    RANKS_OK(tdm_config_load(dir, &f->config, err));
    RANKS_OK(tdm_checkpoint_open(dir, &f->ck, err));
}

static inline void close_files(model_files *f)
{
    tdm_checkpoint_close(f->ck);
}

static inline void free_answers(answers *a)
{
    free(a->logits);
    free(a->greedy);
}

/* Token i of a text; the one behind its last is what decoding feeds first. */
static inline int32_t token_of(int text, int i, int32_t vocab)
{
    uint64_t state = (uint64_t)(1000 * text + i);
    (void)tiny_random(&state);
    return (int32_t)(tiny_random(&state) % (uint32_t)(vocab - 1));
}

static inline int first_row(int text)
{
    int row = 0;
    for (int t = 0; t < text; t++)
        row += LENGTHS[t];
    return row;
}

/* ---- asking ---- */

/* Rows of logits from the backend to out [n, V]. */
static inline void fetch_logits(const tdm_backend *be, tdm_mat logits, float *out)
{
    const size_t stride = (size_t)(logits.stride ? logits.stride : logits.cols), V = (size_t)logits.cols;
    float *all = malloc((size_t)logits.rows * stride * sizeof *all);
    assert_non_null(all);
    RANKS_OK(tdm_download(be, all, logits.p, (size_t)logits.rows * stride * sizeof *all, err));
    for (size_t r = 0; r < (size_t)logits.rows; r++)
        memcpy(out + r * V, all + r * stride, V * sizeof *out);
    free(all);
}

/* Feed tokens [from, to) of `text` in `slot`, with a stranger in the last slot before it in company. */
static inline void feed_text(gpt2_run *run, const tdm_backend *be, const int32_t *tokens, int from, int to, int32_t slot,
                             bool company, float *out)
{
    enum { STRANGER = 3 };
    int32_t ids[CONTEXT + STRANGER], positions[CONTEXT + STRANGER], rows[CONTEXT];
    const int before = company ? STRANGER : 0, n = to - from;
    tdm_mat logits;
    for (int i = 0; i < before; i++) {
        ids[i] = 7 * i + from;
        positions[i] = i;
    }
    for (int i = 0; i < n; i++) {
        ids[before + i] = tokens[from + i];
        positions[before + i] = from + i;
        rows[i] = before + i;
    }
    const gpt2_step step = {.n_rows = before + n,
                            .n_seqs = company ? 2 : 1,
                            .n_logits = n,
                            .tokens = ids,
                            .positions = positions,
                            .starts = company ? (int32_t[]){0, before, before + n} : (int32_t[]){0, n},
                            .slots = company ? (int32_t[]){SLOTS - 1, slot} : (int32_t[]){slot},
                            .logit_rows = rows};
    RANKS_OK(gpt2_forward(run, &step, &logits, err));
    assert_int_equal(logits.rows, n);
    fetch_logits(be, logits, out);
}

static inline int32_t slot_of(int text, bool company)
{
    return company ? TEXTS - 1 - text : text;
}

static inline void ask_forward(gpt2_run *run, const tdm_backend *be, bool company, answers *a)
{
    for (int t = 0; t < TEXTS; t++) {
        int32_t tokens[CONTEXT];
        const int n = LENGTHS[t], cut = company ? n / 2 : n;
        float *out = a->logits + (size_t)first_row(t) * (size_t)a->vocab;
        for (int i = 0; i < n; i++)
            tokens[i] = token_of(t, i, a->vocab);
        feed_text(run, be, tokens, 0, cut, slot_of(t, company), company, out);
        if (cut < n)
            feed_text(run, be, tokens, cut, n, slot_of(t, company), company, out + (size_t)cut * (size_t)a->vocab);
    }
}

/* Alone all texts take each step together; in company each is written on its own, beside a stranger. */
static inline void ask_decode(gpt2_run *run, bool company, answers *a)
{
    static const tdm_draw DRAWS[TEXTS] = {
        {.seed = 5, .document = 1, .top_p = 1},
        {.seed = 5, .document = 2, .temperature = 1, .top_p = 1},
        {.seed = 5, .document = 3, .temperature = 0.8f, .top_k = 40, .top_p = 0.9f},
    };
    const int32_t *drawn = NULL;
    for (int t = 0; t < TEXTS; t++) {
        const gpt2_next next = {token_of(t, LENGTHS[t], a->vocab), LENGTHS[t], STEPS, DRAWS[t]};
        RANKS_OK(gpt2_start(run, slot_of(t, company), &next, err));
    }
    for (int t = 0; t < (company ? TEXTS : 1); t++) {
        const gpt2_next stranger = {1, 3, STEPS, {.seed = 9, .temperature = 2, .top_p = 1}};
        const int32_t pair[] = {SLOTS - 1, slot_of(t, true)}, all[] = {0, 1, 2};
        if (company)
            RANKS_OK(gpt2_start(run, SLOTS - 1, &stranger, err));
        for (int s = 0; s < STEPS; s++) {
            RANKS_OK(gpt2_decode(run, company ? pair : all, company ? 2 : TEXTS, s % 2, err));
            RANKS_OK(gpt2_drawn(run, s % 2, &drawn, err));
            for (int i = 0; i < TEXTS; i++)
                if (!company || i == t)
                    a->drawn[i][s] = drawn[slot_of(i, company)];
        }
    }
}

/* The greedy text once more, by gpt2_forward. */
static inline void ask_greedy(gpt2_run *run, const tdm_backend *be, bool company, answers *a)
{
    int32_t tokens[CONTEXT];
    const int n = LENGTHS[GREEDY];
    float *out = malloc((size_t)(n + STEPS) * (size_t)a->vocab * sizeof *out);
    assert_non_null(out);
    for (int i = 0; i <= n; i++)
        tokens[i] = token_of(GREEDY, i, a->vocab);
    for (int s = 0; s + 1 < STEPS; s++)
        tokens[n + 1 + s] = a->drawn[GREEDY][s] < 0 ? 0 : a->drawn[GREEDY][s];
    feed_text(run, be, tokens, 0, n + STEPS, 1, company, out);
    memcpy(a->greedy, out + (size_t)n * (size_t)a->vocab, (size_t)STEPS * (size_t)a->vocab * sizeof *out);
    free(out);
}

/* Texts [from, from + n), in this order or the other. */
static inline void score_texts(gpt2_run *run, gpt2_run *observer, int from, int n, bool backwards, int lane, answers *a)
{
    int32_t tokens[FED], targets[FED], starts[TEXTS + 1] = {0}, text_at[TEXTS];
    gpt2_scores got;
    for (int k = 0; k < n; k++) {
        const int t = text_at[k] = backwards ? from + n - 1 - k : from + k;
        starts[k + 1] = starts[k] + LENGTHS[t];
        for (int i = 0; i < LENGTHS[t]; i++) {
            tokens[starts[k] + i] = token_of(t, i, a->vocab);
            targets[starts[k] + i] = i == 1 ? -1 : token_of(t, i + 1, a->vocab);
        }
    }
    const gpt2_texts texts = {starts[n], n, tokens, starts, targets};
    RANKS_OK(gpt2_score(run, observer, &texts, lane, err));
    RANKS_OK(gpt2_scored(run, lane, &got, err));
    for (int k = 0; k < n; k++) {
        const size_t rows = (size_t)LENGTHS[text_at[k]];
        const int to = first_row(text_at[k]);
        memcpy(a->stats + to, got.stats + starts[k], rows * sizeof *a->stats);
        memcpy(a->top + to, got.top + starts[k] * TOP, rows * sizeof *a->top);
        memcpy(a->cross + to, got.cross + starts[k], rows * sizeof *a->cross);
    }
}

static inline void ask_score(const gpt2_model *m, bool company, answers *a)
{
    const gpt2_limits limits = {.context = CONTEXT, .rows = FED, .logits = company ? 3 : 5, .top = TOP, .cross = true};
    gpt2_limits second = limits;
    gpt2_run *run = NULL, *observer = NULL;
    second.cross = false;
    second.top = 0;
    RANKS_OK(gpt2_run_open(m, &limits, &run, err));
    RANKS_OK(gpt2_run_open(m, &second, &observer, err));
    if (company) {
        score_texts(run, observer, 2, 1, false, 1, a);
        score_texts(run, observer, 0, 2, true, 0, a);
    } else {
        score_texts(run, observer, 0, TEXTS, false, 0, a);
    }
    gpt2_run_close(observer);
    gpt2_run_close(run);
}

/* Ask a model that is open. */
static inline void ask_model(const gpt2_model *m, bool company, answers *a)
{
    const tdm_backend *be = gpt2_backend(m);
    const gpt2_limits limits = {.slots = SLOTS, .pages = SLOTS, .context = CONTEXT, .rows = CONTEXT + 4, .logits = CONTEXT};
    gpt2_run *run = NULL;
    *a = (answers){.vocab = gpt2_config(m)->n_vocab};
    a->logits = calloc((size_t)FED * (size_t)a->vocab, sizeof *a->logits);
    a->greedy = calloc((size_t)STEPS * (size_t)a->vocab, sizeof *a->greedy);
    assert_true(a->logits && a->greedy);
    RANKS_OK(gpt2_run_open(m, &limits, &run, err));
    ask_forward(run, be, company, a);
    ask_decode(run, company, a);
    ask_greedy(run, be, company, a);
    gpt2_run_close(run);
    ask_score(m, company, a);
}

static inline void ask(const tdm_backend *be, const model_files *f, bool company, answers *a)
{
    gpt2_model *m = NULL;
    RANKS_OK(gpt2_open(be, f->ck, &f->config, false, &m, err));
    ask_model(m, company, a);
    gpt2_close(m);
}

/* ---- comparing ---- */

static inline void assert_same(const answers *got, const answers *want, const char *what)
{
    const size_t V = (size_t)want->vocab;
    if (memcmp(got->logits, want->logits, FED * V * sizeof *want->logits))
        fail_msg("%s: other bits of logits", what);
    if (memcmp(got->drawn, want->drawn, sizeof want->drawn))
        fail_msg("%s: other draws", what);
    if (memcmp(got->greedy, want->greedy, STEPS * V * sizeof *want->greedy))
        fail_msg("%s: other bits of logits behind draws", what);
    if (memcmp(got->stats, want->stats, sizeof want->stats) || memcmp(got->top, want->top, sizeof want->top) ||
        memcmp(got->cross, want->cross, sizeof want->cross))
        fail_msg("%s: other scores", what);
}

static inline double largest_of(const float *p, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)p[i]));
    return largest;
}

static inline double worst_of(const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        worst = d <= worst ? worst : d; /* NaN counts */
    }
    return worst;
}

/* How far the largest logit of a row is above the second. */
static inline double margin_of(const float *row, size_t V)
{
    double first = -INFINITY, second = -INFINITY;
    for (size_t v = 0; v < V; v++) {
        const double x = (double)row[v];
        if (x > first) {
            second = first;
            first = x;
        } else if (x > second) {
            second = x;
        }
    }
    return first - second;
}

/* Statistics are as far off as the logits they are made of, and the square of a logprob some times that. */
static inline double worst_score(const answers *got, const answers *want)
{
    double worst = 0;
    for (int i = 0; i < FED; i++) {
        const tdm_stat *g = &got->stats[i], *w = &want->stats[i];
        const float a[] = {g->logprob, g->entropy, got->cross[i].cross, got->cross[i].back, got->top[i][0].logprob};
        const float b[] = {w->logprob, w->entropy, want->cross[i].cross, want->cross[i].back, want->top[i][0].logprob};
        worst = fmax(worst, worst_of(a, b, sizeof a / sizeof *a));
    }
    return worst;
}

/* Logits within `tolerance` of the largest one, statistics within eight times that, the greedy text the same as long as
 * the two largest logits differ by more than rounding may do. Returns how far off the logits are, of the largest. */
static inline double assert_close(const answers *got, const answers *want, double tolerance, const char *what)
{
    const size_t V = (size_t)want->vocab;
    const double largest = largest_of(want->logits, FED * V), bound = tolerance * largest;
    double worst = worst_of(got->logits, want->logits, FED * V);
    int equal = 0;
    for (; equal < STEPS; equal++) {
        worst = fmax(worst, worst_of(got->greedy + (size_t)equal * V, want->greedy + (size_t)equal * V, V));
        if (got->drawn[GREEDY][equal] != want->drawn[GREEDY][equal])
            break;
    }
    if (!(worst <= bound))
        fail_msg("%s: logits off by %.2e of the largest, want %.2e", what, worst / largest, tolerance);
    if (equal < STEPS && margin_of(want->greedy + (size_t)equal * V, V) > 2 * bound)
        fail_msg("%s: greedy token %d is %d, want %d", what, equal, (int)got->drawn[GREEDY][equal],
                 (int)want->drawn[GREEDY][equal]);
    if (!(worst_score(got, want) <= 8 * bound))
        fail_msg("%s: scores off by %.2e, want %.2e", what, worst_score(got, want), 8 * bound);
    return worst / largest;
}

#endif
