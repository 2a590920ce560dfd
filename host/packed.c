/* host/packed.c - see packed.h. */
#include "host/packed.h"

#include <stdlib.h>

#include "host/backend.h"
#include "host/pack.h"

/* ---- batches ---- */

tdm_status tdm_packed_reserve(tdm_packed *p, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(n <= UINT32_MAX, TDM_EARG, "%zu texts at once", n);
    if (n <= p->cap && p->ends)
        return TDM_OK;
    tdm_packed_free(p);
    p->lengths = calloc(n + 1, sizeof *p->lengths);
    p->order = calloc(n + 1, sizeof *p->order);
    p->ends = calloc(n + 1, sizeof *p->ends);
    TDM_REQUIRE(p->lengths && p->order && p->ends, TDM_ENOMEM, "lists of %zu texts", n);
    p->cap = n;
done:
    if (st != TDM_OK)
        tdm_packed_free(p);
    return st;
}

void tdm_packed_free(tdm_packed *p)
{
    free(p->lengths);
    free(p->order);
    free(p->ends);
    *p = (tdm_packed){0};
}

void tdm_packed_pack(tdm_packed *p, size_t n, int32_t max_rows, size_t max_texts)
{
    p->n = n;
    p->next = 0;
    p->n_batches = tdm_pack(p->lengths, n, max_rows, max_texts, p->order, p->ends);
    if (!p->n_batches)
        p->ends[p->n_batches++] = 0;
}

static tdm_packed_batch next_batch(tdm_packed *p)
{
    const size_t from = p->next ? p->ends[p->next - 1] : 0;
    tdm_packed_batch b = {.window = p, .texts = p->order + from, .n = p->ends[p->next] - from};
    for (size_t i = 0; i < b.n; i++)
        b.rows += p->lengths[b.texts[i]];
    b.is_last = p->next + 1 == p->n_batches;
    return b;
}

/* ---- running ---- */

/* Batches on their way: number i is in lane i % TDM_LANES. */
typedef struct {
    const tdm_packed_model *model;
    tdm_packed_batch lanes[TDM_LANES];
    uint64_t submitted, collected;
} flight;

/* Put the next batch of a window on its way. */
static tdm_status submit(flight *f, tdm_packed *window, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int lane = (int)(f->submitted % TDM_LANES);
    const tdm_packed_batch b = next_batch(window);
    if (b.n)
        TDM_TRY(f->model->submit(f->model->ctx, lane, &b, err));
    window->next++;
    f->lanes[lane] = b;
    f->submitted++;
done:
    return st;
}

/* Wait for the oldest batch. */
static tdm_status collect(flight *f, tdm_packed_batch *b, tdm_err *err)
{
    const int lane = (int)(f->collected++ % TDM_LANES);
    *b = f->lanes[lane];
    return b->n ? f->model->collect(f->model->ctx, lane, b, err) : TDM_OK;
}

tdm_status tdm_packed_run(const tdm_packed_model *m, const tdm_window_line *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    flight f = {.model = m};
    tdm_packed *w = NULL;
    tdm_packed_batch b;
    for (;;) {
        const uint64_t under_way = f.submitted - f.collected;
        if (!w)
            w = line->take(line->ctx, under_way == 0);
        if (!w && !under_way)
            break;
        if (w && under_way < TDM_LANES) {
            TDM_TRY(submit(&f, w, err));
            w = w->next < w->n_batches ? w : NULL;
            continue;
        }
        TDM_TRY(collect(&f, &b, err));
        if (b.is_last)
            line->give(line->ctx);
        const bool go_on = !b.n || !line->hook || line->hook(line->ctx, b.n, b.rows);
        TDM_REQUIRE(go_on, TDM_ESTOPPED, "stopped");
    }
done:
    while (f.collected < f.submitted) /* after a failure: nobody wants these */
        (void)collect(&f, &b, NULL);
    return st;
}

/* ---- one window ---- */

typedef struct {
    tdm_packed *window; /* NULL once it has been taken */
    tdm_batch_hook *hook;
    void *ctx;
} single;

static void *take_single(void *ctx, bool wait)
{
    single *s = ctx;
    tdm_packed *window = s->window;
    (void)wait;
    s->window = NULL;
    return window;
}

static void give_single(void *ctx)
{
    (void)ctx;
}

static bool tell_hook(void *ctx, size_t texts, int64_t tokens)
{
    const single *s = ctx;
    return !s->hook || s->hook(s->ctx, texts, tokens);
}

tdm_status tdm_packed_run_one(const tdm_packed_model *m, tdm_packed *window, tdm_batch_hook *hook, void *ctx,
                              tdm_err *err)
{
    single s = {window, hook, ctx};
    return tdm_packed_run(m, &(tdm_window_line){&s, take_single, give_single, tell_hook}, err);
}
