/* host/score.c - see score.h. A text of n tokens is n - 1 rows: what follows the last is not asked. */
#include "host/score.h"

#include <stdlib.h>
#include <string.h>

#include "host/buf.h"

/* On a device, 16384 rows keep matrix products at their best, and 1024 rows of logits at a time are enough to
 * read the output matrix at less than the cost of multiplying by it. Of the memory that the weights have left,
 * half. On a CPU logits stay in the cache. */
enum { DEVICE_ROWS = 16384, DEVICE_LOGITS = 1024, CPU_ROWS = 2048, CPU_LOGITS = 64, MEMORY_SHARE = 2 };

struct tdm_score_window {
    tdm_packed packed;
    const tdm_score_text *texts; /* [packed.n] borrowed */
};

struct tdm_scorer {
    const gpt2_model *model; /* borrowed */
    gpt2_run *run, *observer; /* observer: NULL where there is none */
    int32_t rows, top;
    int32_t *tokens, *targets; /* [rows] */
    int32_t *starts;           /* [rows + 1] */
    tdm_score_window *own;     /* of tdm_scorer_run */
};

/* ---- opening ---- */

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* The observer's run: what the model's has, but for what is found out. */
static gpt2_limits observer_limits(const gpt2_limits *model)
{
    gpt2_limits limits = *model;
    limits.top = 0;
    limits.cross = false;
    return limits;
}

/* Bytes of scratch of the runs of these limits; SIZE_MAX: more than can be counted. */
static size_t scratch_of(const tdm_backend *be, const tdm_config *model, const tdm_config *observer,
                         const gpt2_limits *limits)
{
    const gpt2_limits second = observer_limits(limits);
    size_t cache = 0, scratch = 0, more = 0;
    if (!gpt2_run_bytes(be, model, limits, &cache, &scratch) ||
        (observer && !gpt2_run_bytes(be, observer, &second, &cache, &more)) || !tdm_add_size(scratch, more, &scratch))
        return SIZE_MAX;
    return scratch;
}

/* What the caller asks for, else what suits the backend.
 *   memory  that the weights have left; 0: unknown */
static gpt2_limits choose_limits(const tdm_backend *be, const tdm_config *model, const tdm_config *observer,
                                 const tdm_score_options *options, size_t memory)
{
    const bool on_cpu = !strcmp(be->ops->name, "cpu");
    const int32_t context = model->n_context;
    gpt2_limits limits = {.context = context, .top = options->top, .cross = observer != NULL};
    const int32_t most = (int32_t)(TDM_LANE_BYTES / gpt2_score_bytes(&limits));
    limits.rows = options->rows ? options->rows : least(on_cpu ? CPU_ROWS : DEVICE_ROWS, most);
    if (limits.rows < context)
        limits.rows = context;
    limits.logits = options->logits ? options->logits : on_cpu ? CPU_LOGITS : DEVICE_LOGITS;
    limits.logits = least(limits.logits, limits.rows);
    while (!options->rows && memory && limits.rows > context &&
           scratch_of(be, model, observer, &limits) > memory / MEMORY_SHARE) {
        limits.rows = limits.rows / 2 > context ? limits.rows / 2 : context;
        limits.logits = least(limits.logits, limits.rows);
    }
    return limits;
}

void tdm_scorer_plan(const tdm_backend *be, const tdm_config *model, const tdm_config *observer,
                     const tdm_score_options *options, size_t memory, int32_t *rows, size_t *scratch)
{
    const gpt2_limits limits = choose_limits(be, model, observer, options, memory);
    *rows = limits.rows;
    *scratch = scratch_of(be, model, observer, &limits);
}

static tdm_status check_options(const gpt2_model *m, const tdm_score_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_config *c = gpt2_config(m), *q = o->observer ? gpt2_config(o->observer) : c;
    TDM_REQUIRE(o->rows >= 0 && o->logits >= 0, TDM_EARG,
                "scoring %d tokens at once with the logits of %d", (int)o->rows, (int)o->logits);
    TDM_REQUIRE(o->top >= 0 && o->top <= least(TDM_TOP_MOST, c->n_vocab), TDM_EARG,
                "the %d likeliest tokens, want 0 to %d", (int)o->top, (int)least(TDM_TOP_MOST, c->n_vocab));
    TDM_REQUIRE(q->n_vocab == c->n_vocab, TDM_EARG,
                "the observer has a vocabulary of %d tokens, the model of %d: want the same", q->n_vocab,
                c->n_vocab);
    TDM_REQUIRE(q->n_context >= c->n_context, TDM_EARG,
                "the observer has a context of %d tokens, the model of %d: want at least that", q->n_context,
                c->n_context);
    TDM_REQUIRE(!o->observer || gpt2_backend(o->observer)->self == gpt2_backend(m)->self, TDM_EARG,
                "model and observer are on two backends");
done:
    return st;
}

static tdm_status open_runs(tdm_scorer *s, const gpt2_model *observer, const gpt2_limits *limits,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    const gpt2_limits second = observer_limits(limits);
    TDM_TRY(gpt2_run_open(s->model, limits, &s->run, err));
    if (observer)
        TDM_TRY(gpt2_run_open(observer, &second, &s->observer, err));
done:
    return st;
}

tdm_status tdm_scorer_open(const gpt2_model *m, const tdm_score_options *options, tdm_scorer **out,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_scorer *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "scorer handle");
    TDM_TRY(check_options(m, options, err));
    const gpt2_limits limits = choose_limits(gpt2_backend(m), gpt2_config(m),
                                             options->observer ? gpt2_config(options->observer) : NULL, options,
                                             tdm_backend_memory(gpt2_backend(m)));
    const size_t most = TDM_LANE_BYTES / gpt2_score_bytes(&limits);
    TDM_REQUIRE((size_t)limits.rows <= most, TDM_EARG, "scoring %d tokens at once, want at most %zu",
                (int)limits.rows, most);
    s->model = m;
    s->rows = limits.rows;
    s->top = limits.top;
    TDM_TRY(open_runs(s, options->observer, &limits, err));
    TDM_TRY(tdm_score_window_open(&s->own, err));
    s->tokens = calloc((size_t)s->rows, sizeof *s->tokens);
    s->targets = calloc((size_t)s->rows, sizeof *s->targets);
    s->starts = calloc((size_t)s->rows + 1, sizeof *s->starts);
    TDM_REQUIRE(s->tokens && s->targets && s->starts, TDM_ENOMEM, "batch of %d tokens", (int)s->rows);
    *out = s;
    s = NULL;
done:
    tdm_scorer_close(s);
    return st;
}

void tdm_scorer_close(tdm_scorer *s)
{
    if (!s)
        return;
    tdm_score_window_close(s->own);
    gpt2_run_close(s->run);
    gpt2_run_close(s->observer);
    free(s->tokens);
    free(s->targets);
    free(s->starts);
    free(s);
}

int32_t tdm_scorer_rows(const tdm_scorer *s)
{
    return s->rows;
}

/* ---- windows ---- */

tdm_status tdm_score_window_open(tdm_score_window **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = calloc(1, sizeof **out);
    TDM_REQUIRE(*out, TDM_ENOMEM, "window handle");
done:
    return st;
}

void tdm_score_window_close(tdm_score_window *w)
{
    if (!w)
        return;
    tdm_packed_free(&w->packed);
    free(w);
}

static tdm_status check_texts(const tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_config *c = gpt2_config(s->model);
    for (size_t i = 0; i < n; i++) {
        TDM_REQUIRE(texts[i].n > 0, TDM_EARG, "text %zu has %d tokens", i, (int)texts[i].n);
        TDM_REQUIRE(texts[i].n <= c->n_context + 1, TDM_EARG, "text %zu has %d tokens, want at most %d",
                    i, (int)texts[i].n, c->n_context + 1);
        TDM_REQUIRE(texts[i].skip >= 0 && texts[i].skip < texts[i].n, TDM_EARG,
                    "text %zu of %d tokens: %d positions are skipped", i, (int)texts[i].n, (int)texts[i].skip);
        for (int32_t k = 0; k < texts[i].n; k++)
            TDM_REQUIRE(texts[i].ids[k] >= 0 && texts[i].ids[k] < c->n_vocab, TDM_EARG,
                        "text %zu: token %d is id %d, want 0 to %d", i, (int)k, (int)texts[i].ids[k],
                        c->n_vocab - 1);
    }
done:
    return st;
}

tdm_status tdm_scorer_prepare(const tdm_scorer *s, tdm_score_window *w, const tdm_score_text *texts, size_t n,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_texts(s, texts, n, err));
    TDM_TRY(tdm_packed_reserve(&w->packed, n, err));
    w->texts = texts;
    for (size_t i = 0; i < n; i++)
        w->packed.lengths[i] = texts[i].n - 1;
    tdm_packed_pack(&w->packed, n, s->rows, 0);
done:
    return st;
}

/* ---- scoring ---- */

static const tdm_score_text *text_of(const tdm_packed_batch *b, size_t i)
{
    return &((const tdm_score_window *)b->window)->texts[b->texts[i]];
}

static tdm_status submit(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err)
{
    tdm_scorer *s = ctx;
    int32_t rows = 0;
    for (size_t i = 0; i < b->n; i++) {
        const tdm_score_text *t = text_of(b, i);
        const size_t bytes = ((size_t)t->n - 1) * sizeof *t->ids;
        memcpy(s->tokens + rows, t->ids, bytes);
        memcpy(s->targets + rows, t->ids + 1, bytes);
        for (int32_t k = 0; k < t->skip; k++)
            s->targets[rows + k] = -1; /* nothing is found out there */
        s->starts[i] = rows;
        rows += t->n - 1;
    }
    s->starts[b->n] = rows;
    const gpt2_texts batch = {rows, (int32_t)b->n, s->tokens, s->starts, s->targets};
    return gpt2_score(s->run, s->observer, &batch, lane, err);
}

/* Hand out what was found out about the texts of a batch. */
static tdm_status collect(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_scorer *s = ctx;
    gpt2_scores found = {0};
    const size_t top = (size_t)s->top;
    TDM_TRY(gpt2_scored(s->run, lane, &found, err));
    for (size_t i = 0, row = 0; i < b->n; i++) {
        const tdm_score_text *t = text_of(b, i);
        const size_t rows = (size_t)(t->n - 1 - t->skip);
        row += (size_t)t->skip;
        memcpy(t->stats, found.stats + row, rows * sizeof *t->stats);
        if (found.cross)
            memcpy(t->cross, found.cross + row, rows * sizeof *t->cross);
        if (found.top)
            memcpy(t->top, found.top + row * top, rows * top * sizeof *t->top);
        row += rows;
    }
done:
    return st;
}

tdm_status tdm_scorer_score(tdm_scorer *s, const tdm_window_line *line, tdm_err *err)
{
    return tdm_packed_run(&(tdm_packed_model){s, submit, collect}, line, err);
}

tdm_status tdm_scorer_run(tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_scorer_prepare(s, s->own, texts, n, err));
    TDM_TRY(tdm_packed_run_one(&(tdm_packed_model){s, submit, collect}, &s->own->packed, NULL, NULL, err));
done:
    return st;
}
