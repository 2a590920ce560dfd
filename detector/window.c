/* detector/window.c - windows of texts: tokenise on all threads, pack, one forward pass per batch (host/packed.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "detector/detector.h"
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
    tdm_packed_free(&w->packed);
    free(w->ids);
    free(w->results);
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
    TDM_TRY(tdm_packed_reserve(&w->packed, n, err));
    if (n <= w->cap && w->ids)
        return TDM_OK;
    free(w->ids);
    free(w->results);
    w->ids = calloc(n + 1, w->context * sizeof *w->ids);
    w->results = calloc(n + 1, sizeof *w->results);
    TDM_REQUIRE(w->ids && w->results, TDM_ENOMEM, "window of %zu texts", n);
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
    w->packed.lengths[i] = 0;
    if (tdm_stopped(t->stop))
        return;
    const tdm_status st = tdm_preprocess_text(t->preprocess, t->texts[i].p, t->texts[i].len, &ids,
                                              &w->results[i].counts, NULL);
    if (st == TDM_OK && ids.len)
        memcpy(w->ids + i * w->context, ids.p, ids.len * sizeof *ids.p);
    w->packed.lengths[i] = st == TDM_OK ? (int32_t)ids.len : -1;
    tdm_ids_free(&ids);
}

tdm_status tdm_detector_prepare(tdm_detector *d, tdm_detect_window *w, const tdm_text *texts, size_t n,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    tokenising t = {&d->preprocess, d->be->stop, w, texts};
    TDM_TRY(grow(w, n, err));
    tdm_parallel(d->threads, n, tokenise, &t);
    TDM_TRY(tdm_check_stop(d->be->stop, err));
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(w->packed.lengths[i] >= 0, TDM_ENOMEM, "token ids of a text of %zu bytes", texts[i].len);
    tdm_packed_pack(&w->packed, n, d->max_rows, (size_t)d->max_texts);
done:
    return st;
}

const tdm_detection *tdm_detect_window_result(const tdm_detect_window *w, size_t i)
{
    return &w->results[i];
}

const int32_t *tdm_detect_window_ids(const tdm_detect_window *w, size_t i, size_t *n)
{
    *n = (size_t)w->packed.lengths[i];
    return w->ids + i * w->context;
}

/* ---- judging ---- */

static tdm_status submit(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err)
{
    tdm_detector *d = ctx;
    const tdm_detect_window *w = (const tdm_detect_window *)b->window;
    int32_t rows = 0;
    for (size_t i = 0; i < b->n; i++) {
        const int32_t length = b->window->lengths[b->texts[i]];
        memcpy(d->batch_ids + rows, w->ids + b->texts[i] * w->context, (size_t)length * sizeof *w->ids);
        d->batch_starts[i] = rows;
        rows += length;
    }
    d->batch_starts[b->n] = rows;
    return roberta_submit(d->model, lane, d->batch_ids, d->batch_starts, (int32_t)b->n, err);
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

static tdm_status collect(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_detector *d = ctx;
    tdm_detect_window *w = (tdm_detect_window *)b->window;
    const float *logits = NULL;
    TDM_TRY(roberta_collect(d->model, lane, &logits, err));
    for (size_t i = 0; i < b->n; i++)
        set_result(&w->results[b->texts[i]], logits + i * ROBERTA_LABELS);
done:
    return st;
}

tdm_status tdm_detector_judge(tdm_detector *d, const tdm_window_line *line, tdm_err *err)
{
    return tdm_packed_run(&(tdm_packed_model){d, submit, collect}, line, err);
}

tdm_status tdm_detector_run(tdm_detector *d, const tdm_text *texts, size_t n, tdm_detection *results,
                            tdm_batch_hook *hook, void *ctx, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_detector_prepare(d, d->own, texts, n, err));
    st = tdm_packed_run_one(&(tdm_packed_model){d, submit, collect}, &d->own->packed, hook, ctx, err);
    memcpy(results, d->own->results, n * sizeof *results);
done:
    return st;
}

const int32_t *tdm_detector_ids(const tdm_detector *d, size_t i, size_t *n)
{
    return tdm_detect_window_ids(d->own, i, n);
}
