/* host/gpt2_score.c - GPT-2 reads whole texts: what it finds out about each of their tokens; see gpt2.h. */
#include "host/gpt2_model.h"

/* Checks texts and numbers their tokens. */
static tdm_status number_rows(gpt2_run *r, const gpt2_texts *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(t->n_texts > 0 && t->n_rows > 0 && t->n_rows <= r->limits.rows, TDM_EARG,
                "gpt2 score: %d rows of %d, %d texts", (int)t->n_rows, (int)r->limits.rows,
                (int)t->n_texts);
    TDM_REQUIRE(t->n_texts <= t->n_rows && t->starts[0] == 0 && t->starts[t->n_texts] == t->n_rows,
                TDM_EARG, "%d texts have rows %d to %d, the step %d", (int)t->n_texts,
                (int)t->starts[0], (int)t->starts[t->n_texts], (int)t->n_rows);
    for (int32_t i = 0; i < t->n_texts; i++) {
        const int64_t n = (int64_t)t->starts[i + 1] - t->starts[i];
        TDM_REQUIRE(n > 0 && n <= r->limits.context && t->starts[i + 1] <= t->n_rows, TDM_EARG,
                    "text %d of %lld tokens, the context has %d", (int)i, (long long)n,
                    (int)r->limits.context);
        for (int32_t k = 0; k < n; k++)
            r->host_positions[t->starts[i] + k] = k;
    }
    TDM_TRY(gpt2_check_tokens(r, t->tokens, t->n_rows, err));
    for (int32_t i = 0; i < t->n_rows; i++)
        TDM_REQUIRE(t->targets[i] < r->model->config.n_vocab, TDM_EARG,
                    "target %d, the vocabulary has %d", (int)t->targets[i],
                    r->model->config.n_vocab);
done:
    return st;
}

static tdm_status check_observer(const gpt2_run *r, const gpt2_run *observer, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const gpt2_limits *want = &r->limits, *have = &observer->limits;
    TDM_REQUIRE(observer != r && observer->model->be->self == r->model->be->self, TDM_EARG,
                "an observer wants a run of its own on the same backend");
    TDM_REQUIRE(observer->model->config.n_vocab == r->model->config.n_vocab, TDM_EARG,
                "the observer has a vocabulary of %d, the model of %d", observer->model->config.n_vocab,
                r->model->config.n_vocab);
    TDM_REQUIRE(want->cross && have->rows >= want->rows && have->logits >= want->logits &&
                    have->context >= want->context,
                TDM_EARG, "an observer of %d rows, %d of logits, context %d; the run has %d, %d, %d%s",
                (int)have->rows, (int)have->logits, (int)have->context, (int)want->rows,
                (int)want->logits, (int)want->context, want->cross ? "" : ", and no memory for it");
done:
    return st;
}

/* Where what is found out about n rows begins: statistics, then these, one behind the other, so that one
 * fetch carries them all. In bytes. */
typedef struct {
    size_t top, cross, end;
} score_layout;

static score_layout lay_out(int32_t n, int32_t n_top, bool cross)
{
    const size_t rows = (size_t)n;
    score_layout at = {.top = rows * sizeof(tdm_stat)};
    at.cross = at.top + rows * (size_t)n_top * sizeof(tdm_top);
    at.end = at.cross + (cross ? rows * sizeof(tdm_cross) : 0);
    return at;
}

/* ---- the work of a rank ---- */

typedef struct {
    gpt2_work *works, *observers; /* observers: NULL where there is none */
    const gpt2_texts *texts;
    const int32_t *positions;
    score_layout at;
    int32_t most, top; /* rows of logits, likeliest tokens */
    int lane;
} score_job;

/* The output matrix and the statistics of rows [from, from + n). */
static tdm_status score_rows(gpt2_work *w, gpt2_work *observer, const score_job *job, int32_t from, int32_t n,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_backend *be = w->shard->be;
    const int32_t *targets = w->targets + from, k = job->top;
    const tdm_mat logits = gpt2_first(w->logits, n);
    TDM_TRY(gpt2_head(w, gpt2_part(w->resid, from, n), gpt2_part(w->proj, from, n), err));
    TDM_TRY(tdm_token_stats(be, (tdm_stat *)(void *)w->scores + from, logits, targets, err));
    if (k > 0) {
        tdm_top *top = (tdm_top *)(void *)(w->scores + job->at.top) + (size_t)from * (size_t)k;
        TDM_TRY(tdm_top_tokens(be, top, k, logits, targets, err));
    }
    if (observer) {
        tdm_cross *cross = (tdm_cross *)(void *)(w->scores + job->at.cross) + from;
        TDM_TRY(gpt2_head(observer, gpt2_part(observer->resid, from, n), gpt2_part(observer->proj, from, n), err));
        TDM_TRY(tdm_cross_stats(be, cross, logits, gpt2_first(observer->logits, n), targets, err));
    }
done:
    return st;
}

static tdm_status score_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const score_job job = *(const score_job *)ctx;
    const gpt2_texts *t = job.texts;
    gpt2_work *w = &job.works[rank], *observer = job.observers ? &job.observers[rank] : NULL;
    const int32_t n_rows = t->n_rows;
    const tdm_step step = {.n_rows = n_rows,
                           .n_seqs = t->n_texts,
                           .longest = gpt2_longest_text(t->starts, t->n_texts),
                           .tokens = w->tokens,
                           .positions = w->positions,
                           .starts = w->starts};
    TDM_TRY(gpt2_upload_ids(w, w->tokens, t->tokens, n_rows, err));
    TDM_TRY(gpt2_upload_ids(w, w->positions, job.positions, n_rows, err));
    TDM_TRY(gpt2_upload_ids(w, w->starts, t->starts, t->n_texts + 1, err));
    TDM_TRY(gpt2_upload_ids(w, w->targets, t->targets, n_rows, err));
    TDM_TRY(gpt2_layers(w, &step, err));
    if (observer)
        TDM_TRY(gpt2_layers(observer, &step, err));
    for (int32_t from = 0; from < n_rows; from += job.most) {
        const int32_t left = n_rows - from;
        TDM_TRY(score_rows(w, observer, &job, from, left < job.most ? left : job.most, err));
    }
    TDM_TRY(tdm_fetch_begin(be, job.lane, w->scores, job.at.end, err));
done:
    return st;
}

/* ---- for all ranks ---- */

tdm_status gpt2_score(gpt2_run *r, gpt2_run *observer, const gpt2_texts *t, int lane, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(number_rows(r, t, err));
    if (observer)
        TDM_TRY(check_observer(r, observer, err));
    score_job job = {.works = r->works,
                     .observers = observer ? observer->works : NULL,
                     .texts = t,
                     .positions = r->host_positions,
                     .at = lay_out(t->n_rows, r->limits.top, observer != NULL),
                     .most = r->limits.logits,
                     .top = r->limits.top,
                     .lane = lane};
    TDM_TRY(tdm_each_rank(r->model->be, score_rank, &job, err));
    r->scored[lane].rows = t->n_rows;
    r->scored[lane].cross = observer != NULL;
done:
    return st;
}

/* The row whose statistics, likeliest tokens or second opinion byte `at` belongs to. */
static size_t row_of(const score_layout *l, size_t at, int32_t n_top)
{
    if (at < l->top)
        return at / sizeof(tdm_stat);
    return at < l->cross ? (at - l->top) / sizeof(tdm_top) / (size_t)n_top : (at - l->cross) / sizeof(tdm_cross);
}

tdm_status gpt2_scored(gpt2_run *r, int lane, gpt2_scores *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t rank = 0;
    *out = (gpt2_scores){0};
    TDM_TRY(gpt2_fetch(r, lane, err));
    const bool cross = r->scored[lane].cross;
    const score_layout layout = lay_out(r->scored[lane].rows, r->limits.top, cross);
    const size_t at = gpt2_first_difference(r, layout.end, &rank);
    TDM_REQUIRE(at == layout.end, TDM_EINTERNAL, "rank %d scored row %zu otherwise than rank 0", (int)rank,
                row_of(&layout, at, r->limits.top));
    const char *base = r->works[0].fetched;
    out->stats = (const void *)base;
    out->top = r->limits.top ? (const void *)(base + layout.top) : NULL;
    out->cross = cross ? (const void *)(base + layout.cross) : NULL;
done:
    return st;
}
