/* detector/window.c - windows of texts: tokenise on all threads, pack, one forward pass per batch, with the
 * next one on its way before the last one's logits are waited for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "detector/detector.h"
#include "host/pack.h"
#include "host/stop.h"

/* ---- memory ---- */

tdm_status tdm_detect_window_open(const tdm_detector *d, tdm_detect_window **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = calloc(1, sizeof **out);
    TDM_REQUIRE(*out, TDM_ENOMEM, "window handle");
    (*out)->context = d->preprocess.context;
done:
    return st;
}

static void release(tdm_detect_window *w)
{
    free(w->ids);
    free(w->lengths);
    free(w->results);
    free(w->order);
    free(w->ends);
    *w = (tdm_detect_window){.context = w->context};
}

void tdm_detect_window_close(tdm_detect_window *w)
{
    if (!w)
        return;
    release(w);
    free(w);
}

static tdm_status grow(tdm_detect_window *w, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (n <= w->cap && w->ends)
        return TDM_OK;
    release(w);
    w->ids = calloc(n + 1, w->context * sizeof *w->ids);
    w->lengths = calloc(n + 1, sizeof *w->lengths);
    w->results = calloc(n + 1, sizeof *w->results);
    w->order = calloc(n + 1, sizeof *w->order);
    w->ends = calloc(n + 1, sizeof *w->ends);
    TDM_REQUIRE(w->ids && w->lengths && w->results && w->order && w->ends, TDM_ENOMEM,
                "window of %zu texts", n);
    w->cap = n;
done:
    if (st != TDM_OK)
        release(w);
    return st;
}

/* ---- preparing ---- */

typedef struct {
    const tdm_preprocess *preprocess;
    const tdm_stop *stop;
    tdm_detect_window *window;
    const tdm_text *texts;
} tokenising;

/* Tokenise one text, unless there is no need. Only what the model sees is kept: a text may be thousands of
 * times longer. Running out of memory is marked by length -1. */
static void tokenise(void *ctx, size_t i)
{
    const tokenising *t = ctx;
    tdm_detect_window *w = t->window;
    tdm_ids ids = {0};
    w->results[i] = (tdm_detection){.outcome = TDM_DETECT_EMPTY};
    w->lengths[i] = 0;
    if (tdm_stopped(t->stop))
        return;
    const tdm_status st = tdm_preprocess_text(t->preprocess, t->texts[i].p, t->texts[i].len, &ids,
                                              &w->results[i].counts, NULL);
    if (st == TDM_OK && ids.len)
        memcpy(w->ids + i * w->context, ids.p, ids.len * sizeof *ids.p);
    w->lengths[i] = st == TDM_OK ? (int32_t)ids.len : -1;
    tdm_ids_free(&ids);
}

tdm_status tdm_detector_prepare(tdm_detector *d, tdm_detect_window *w, const tdm_text *texts, size_t n,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    tokenising t = {&d->preprocess, d->be->stop, w, texts};
    TDM_REQUIRE(n <= UINT32_MAX, TDM_EARG, "window of %zu texts", n);
    TDM_TRY(grow(w, n, err));
    w->n = n;
    w->next = w->n_batches = 0;
    tdm_parallel(d->threads, n, tokenise, &t);
    TDM_TRY(tdm_check_stop(d->be->stop, err));
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(w->lengths[i] >= 0, TDM_ENOMEM, "token ids of a text of %zu bytes", texts[i].len);
    w->n_batches = tdm_pack(w->lengths, n, d->max_rows, (size_t)d->max_texts, w->order, w->ends);
    if (!w->n_batches) /* nothing to judge, and its turn all the same: one batch of no texts */
        w->ends[w->n_batches++] = 0;
done:
    return st;
}

const tdm_detection *tdm_detect_window_result(const tdm_detect_window *w, size_t i)
{
    return &w->results[i];
}

const int32_t *tdm_detect_window_ids(const tdm_detect_window *w, size_t i, size_t *n)
{
    *n = (size_t)w->lengths[i];
    return w->ids + i * w->context;
}

/* ---- judging ---- */

/* Put the next batch of w on its way. */
static tdm_status submit(tdm_detector *d, tdm_detect_window *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int lane = (int)(d->submitted % TDM_LANES);
    const size_t from = w->next ? w->ends[w->next - 1] : 0, n = w->ends[w->next] - from;
    int32_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t text = w->order[from + i];
        memcpy(d->batch_ids + rows, w->ids + text * w->context,
               (size_t)w->lengths[text] * sizeof *w->ids);
        d->batch_starts[i] = rows;
        rows += w->lengths[text];
    }
    d->batch_starts[n] = rows;
    if (n)
        TDM_TRY(roberta_submit(d->model, lane, d->batch_ids, d->batch_starts, (int32_t)n, err));
    w->next++;
    d->lanes[lane] = (detect_batch){w, from, n, rows, w->next == w->n_batches};
    d->submitted++;
done:
    return st;
}

static void set_result(tdm_detection *result, const float logits[ROBERTA_LABELS])
{
    double p[ROBERTA_LABELS];
    roberta_softmax(logits, p);
    result->fake = p[ROBERTA_FAKE];
    result->real = p[ROBERTA_REAL];
    result->logit_fake = logits[ROBERTA_FAKE];
    result->logit_real = logits[ROBERTA_REAL];
    result->outcome = isfinite(result->logit_fake) && isfinite(result->logit_real)
                          ? TDM_DETECTED
                          : TDM_DETECT_NON_FINITE;
}

/* Wait for the oldest batch and put its results where they belong. */
static tdm_status collect(tdm_detector *d, detect_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const float *logits = NULL;
    const int lane = (int)(d->collected++ % TDM_LANES);
    *b = d->lanes[lane];
    if (b->n)
        TDM_TRY(roberta_collect(d->model, lane, &logits, err));
    for (size_t i = 0; i < b->n; i++)
        set_result(&b->window->results[b->window->order[b->from + i]], logits + i * ROBERTA_LABELS);
done:
    return st;
}

tdm_status tdm_detector_judge(tdm_detector *d, const tdm_detect_line *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_detect_window *w = NULL;
    detect_batch done_with;
    for (;;) {
        const uint64_t under_way = d->submitted - d->collected;
        if (!w)
            w = line->take(line->ctx, under_way == 0);
        if (!w && !under_way)
            break;
        if (w && under_way < TDM_LANES) {
            TDM_TRY(submit(d, w, err));
            w = w->next < w->n_batches ? w : NULL;
            continue;
        }
        TDM_TRY(collect(d, &done_with, err));
        if (done_with.last)
            line->give(line->ctx);
        const bool go_on = !done_with.n || !line->hook ||
                           line->hook(line->ctx, done_with.n, done_with.rows);
        TDM_REQUIRE(go_on, TDM_ESTOPPED, "stopped");
    }
done:
    while (d->collected < d->submitted) /* after a failure: nobody wants these */
        (void)collect(d, &done_with, NULL);
    return st;
}
