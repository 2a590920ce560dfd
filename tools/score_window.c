/* tools/score_window.c - see score_job.h: from records to what the model is asked, and back to one list a text. */
#include <stdlib.h>
#include <string.h>

#include "tools/score_job.h"

void score_window_close(score_window *w)
{
    tdm_score_window_close(w->records.judged);
    records_window_close(&w->records);
    tdm_ids_free(&w->ids);
    free(w->texts);
    free(w->passes);
    free(w->stats);
    free(w->cross);
    free(w->top);
    *w = (score_window){0};
}

/* ---- tokens ---- */

static tdm_status put_id(tdm_ids *ids, int32_t id, tdm_err *err)
{
    const tdm_status st = tdm_ids_reserve(ids, 1, err);
    if (st == TDM_OK)
        ids->p[ids->len++] = id;
    return st;
}

/* Positions that are asked: one less than ids, and with --entropy all the last one too. */
static size_t count_positions(const score_job *job, const score_text *t)
{
    return t->n_ids < 2 ? 0 : t->n_ids - 1 + (job->args.entropy == SCORE_ENTROPY_ALL);
}

static size_t count_passes(const score_job *job, size_t positions)
{
    if (positions <= job->context)
        return positions > 0;
    return 1 + (positions - job->context + job->stride - 1) / job->stride;
}

/* Behind a text whose last position is asked, a token stands for the one that is not there: what is found out of the
 * position itself does not depend on it. */
static tdm_status tokenise(const score_job *job, score_window *w, const tdm_text *text, score_text *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ids *ids = &w->ids;
    const int32_t bos = job->folder.config.eos;
    *t = (score_text){.ids_at = ids->len};
    if (job->args.bos == SCORE_BOS_YES)
        TDM_TRY(put_id(ids, bos, err));
    const size_t before = ids->len;
    TDM_TRY(tdm_bpe_encode(job->folder.bpe, text->p, text->len, 0, ids, err));
    t->all_tokens = (int64_t)(ids->len - before);
    if (job->stride == 0 && ids->len - t->ids_at > job->context)
        ids->len = t->ids_at + job->context;
    t->n_ids = ids->len - t->ids_at;
    if (job->args.entropy == SCORE_ENTROPY_ALL)
        TDM_TRY(put_id(ids, bos, err));
done:
    return st;
}

static tdm_status tokenise_all(const score_job *job, score_window *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = w->records.n_texts;
    w->ids.len = 0;
    if (n > w->cap_texts) {
        free(w->texts);
        w->texts = calloc(n, sizeof *w->texts);
        w->cap_texts = w->texts ? n : 0;
        TDM_REQUIRE(w->texts, TDM_ENOMEM, "window of %zu texts", n);
    }
    for (size_t i = 0; i < n; i++)
        TDM_TRY(tokenise(job, w, &w->records.texts[i], &w->texts[i], err));
done:
    return st;
}

/* ---- passes ---- */

static tdm_status make_room(const score_job *job, score_window *w, size_t n_passes, size_t n_found, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (n_passes > w->cap_passes) {
        free(w->passes);
        w->passes = calloc(n_passes, sizeof *w->passes);
        w->cap_passes = w->passes ? n_passes : 0;
        TDM_REQUIRE(w->passes, TDM_ENOMEM, "window of %zu passes", n_passes);
    }
    if (n_found > w->cap_found) {
        free(w->stats);
        free(w->cross);
        free(w->top);
        w->cap_found = 0;
        w->stats = calloc(n_found, sizeof *w->stats);
        w->cross = job->args.observer ? calloc(n_found, sizeof *w->cross) : NULL;
        w->top = job->args.gltr ? calloc(n_found, (size_t)job->args.gltr * sizeof *w->top) : NULL;
        TDM_REQUIRE(w->stats && (w->cross || !job->args.observer) && (w->top || !job->args.gltr), TDM_ENOMEM,
                    "window of %zu tokens", n_found);
        w->cap_found = n_found;
    }
done:
    return st;
}

/* How the passes of a text lie in it and in what they find: every pass but the first begins with positions that the
 * one before has. Returns rows. */
static size_t cut(const score_job *job, score_window *w, const score_text *t)
{
    const size_t positions = count_positions(job, t);
    size_t rows = 0;
    for (size_t i = 0; i < t->n_passes; i++) {
        const size_t begin = i * job->stride, left = positions - begin, n = left < job->context ? left : job->context;
        const size_t known = i ? job->context - job->stride : 0, at = t->found_at + begin + known;
        w->passes[t->pass_at + i] = (tdm_score_text){.ids = w->ids.p + t->ids_at + begin,
                                                     .n = (int32_t)n + 1,
                                                     .stats = w->stats + at,
                                                     .cross = w->cross ? w->cross + at : NULL,
                                                     .top = w->top ? w->top + at * (size_t)job->args.gltr : NULL,
                                                     .skip = (int32_t)known};
        rows += n;
    }
    return rows;
}

static tdm_status plan(const score_job *job, score_window *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t at = 0;
    w->n_passes = 0;
    for (size_t i = 0; i < w->records.n_texts; i++) {
        score_text *t = &w->texts[i];
        const size_t positions = count_positions(job, t);
        t->pass_at = w->n_passes;
        t->n_passes = count_passes(job, positions);
        t->found_at = at;
        w->n_passes += t->n_passes;
        at += positions;
    }
    TDM_TRY(make_room(job, w, w->n_passes, at, err));
    for (size_t i = 0; i < w->records.n_texts; i++)
        w->texts[i].n_rows = cut(job, w, &w->texts[i]);
done:
    return st;
}

tdm_status score_prepare(void *ctx, records_window *window, tdm_err *err)
{
    tdm_status st = TDM_OK;
    score_job *job = ctx;
    score_window *w = (score_window *)window;
    TDM_TRY(tokenise_all(job, w, err));
    TDM_TRY(plan(job, w, err));
    TDM_TRY(tdm_scorer_prepare(job->scorer, window->judged, w->passes, w->n_passes, err));
done:
    return st;
}
