/* tests/graph_backend.h - the CPU backend with graphs, and with eyes on what a batch asks of it.
 *
 *   tdm_backend be;
 *   open_watched(&be, 2, true); // threads, graphs
 *   ...
 *   tdm_backend_close(&be);
 *
 * Graphs are lists of calls, replayed with the arguments that they had. Counted: allocations, graphs,
 * copies of pages, ragged rows. Failed on the spot: a decoding step in which a text writes to a page
 * that another text of the step has too. One backend at a time. */
#ifndef TESTS_GRAPH_BACKEND_H
#define TESTS_GRAPH_BACKEND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/backend.h"

enum { GRAPH_CALLS = 256 };

typedef enum { CALL_EMBED, CALL_NORM, CALL_LINEAR, CALL_ATTEND, CALL_SAMPLE } call_kind;

typedef struct {
    call_kind kind;
    tdm_mat y, x, a, b, third; /* third: delta or bias */
    bool has_third;
    tdm_step step;
    tdm_slots state;
    const tdm_weight *w;
    tdm_kv *kv;
    const int32_t *slots;
    float eps;
    int32_t number; /* first position, form, epilogue, layer or eos */
} graph_call;

struct tdm_graph {
    int n;
    graph_call calls[GRAPH_CALLS];
};

static struct {
    const tdm_ops *inner;
    tdm_ops ops;
    tdm_graph *recording;
    int allocations, graphs, runs, copies, ragged_rows, decoding_rows;
} watched;

static inline void watch_pages(const tdm_step *s, const tdm_kv *kv)
{
    for (int i = 0; i < s->n_seqs; i++) {
        if (s->slots[i] < 0 || s->positions[s->slots[i]] < 0)
            continue;
        const int32_t at = s->positions[s->slots[i]] / TDM_PAGE;
        const int32_t written = s->pages[s->slots[i] * kv->text_pages + at];
        for (int k = 0; k < s->n_seqs; k++) {
            if (k == i || s->slots[k] < 0 || s->positions[s->slots[k]] < 0)
                continue;
            for (int32_t j = 0; j <= s->positions[s->slots[k]] / TDM_PAGE; j++)
                if (s->pages[s->slots[k] * kv->text_pages + j] == written)
                    fail_msg("slot %d writes to page %d, which slot %d has too", s->slots[i], written,
                             s->slots[k]);
        }
    }
}

static inline tdm_status do_call(void *self, const graph_call *c, tdm_err *err)
{
    const tdm_mat *third = c->has_third ? &c->third : NULL;
    switch (c->kind) {
    case CALL_EMBED:
        if (c->step.starts)
            watched.ragged_rows += c->step.n_rows;
        else
            watched.decoding_rows += c->step.n_rows;
        return watched.inner->embed(self, c->y, &c->step, c->a, 0, c->b, c->number, err);
    case CALL_NORM:
        return watched.inner->add_norm(self, c->y, c->x, third, c->a, c->b, c->eps,
                                       (tdm_norm)c->number, err);
    case CALL_LINEAR:
        return watched.inner->linear(self, c->y, c->x, c->w, third, (tdm_epilogue)c->number, err);
    case CALL_ATTEND:
        if (!c->step.starts)
            watch_pages(&c->step, c->kv);
        return watched.inner->attend_cached(self, c->y, c->x, c->kv, c->number, &c->step, err);
    default:
        return watched.inner->sample(self, &c->state, c->slots, c->x, c->number, err);
    }
}

/* Record a call or do it. */
static inline tdm_status called(void *self, graph_call c, tdm_err *err)
{
    if (!watched.recording)
        return do_call(self, &c, err);
    assert_true(watched.recording->n < GRAPH_CALLS);
    watched.recording->calls[watched.recording->n++] = c;
    return TDM_OK;
}

static inline graph_call with_third(graph_call c, const tdm_mat *third)
{
    c.has_third = third != NULL;
    if (third)
        c.third = *third;
    return c;
}

static inline tdm_status watch_embed(void *self, tdm_mat y, const tdm_step *step, tdm_mat words,
                                     int32_t first_word, tdm_mat positions, int32_t first, tdm_err *err)
{
    (void)first_word;
    const graph_call c = {.kind = CALL_EMBED, .y = y, .a = words, .b = positions, .step = *step,
                          .number = first};
    return called(self, c, err);
}

static inline tdm_status watch_norm(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                                    tdm_mat gamma, tdm_mat beta, float eps, tdm_norm form,
                                    tdm_err *err)
{
    const graph_call c = {.kind = CALL_NORM, .y = y, .x = x, .a = gamma, .b = beta, .eps = eps,
                          .number = (int32_t)form};
    return called(self, with_third(c, delta), err);
}

static inline tdm_status watch_linear(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w,
                                      const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err)
{
    const graph_call c = {.kind = CALL_LINEAR, .y = y, .x = x, .w = w, .number = (int32_t)epilogue};
    return called(self, with_third(c, bias), err);
}

static inline tdm_status watch_attend(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                                      const tdm_step *step, tdm_err *err)
{
    const graph_call c = {.kind = CALL_ATTEND, .y = y, .x = qkv, .kv = kv, .step = *step,
                          .number = layer};
    return called(self, c, err);
}

static inline tdm_status watch_sample(void *self, const tdm_slots *state, const int32_t *slots,
                                      tdm_mat logits, int32_t eos, tdm_err *err)
{
    const graph_call c = {.kind = CALL_SAMPLE, .x = logits, .state = *state, .slots = slots,
                          .number = eos};
    return called(self, c, err);
}

static inline tdm_status watch_graph_begin(void *self, tdm_err *err)
{
    (void)self;
    (void)err;
    assert_null(watched.recording);
    watched.recording = calloc(1, sizeof *watched.recording);
    assert_non_null(watched.recording);
    return TDM_OK;
}

static inline tdm_status watch_graph_end(void *self, tdm_graph **graph, tdm_err *err)
{
    (void)self;
    (void)err;
    assert_non_null(watched.recording);
    *graph = watched.recording;
    watched.recording = NULL;
    watched.graphs++;
    return TDM_OK;
}

static inline tdm_status watch_graph_run(void *self, const tdm_graph *graph, tdm_err *err)
{
    tdm_status st = TDM_OK;
    watched.runs++;
    for (int i = 0; i < graph->n && st == TDM_OK; i++)
        st = do_call(self, &graph->calls[i], err);
    return st;
}

static inline void watch_graph_close(void *self, tdm_graph *graph)
{
    (void)self;
    free(graph);
    watched.graphs--;
}

static inline tdm_status watch_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    watched.allocations++;
    return watched.inner->alloc(self, bytes, out, err);
}

static inline tdm_status watch_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages,
                                       int32_t text_pages, tdm_kv **kv, tdm_err *err)
{
    watched.allocations++;
    return watched.inner->kv_open(self, layers, heads, pages, text_pages, kv, err);
}

static inline tdm_status watch_weight(void *self, const void *src, tdm_dtype dtype, int32_t in,
                                      int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    watched.allocations++;
    return watched.inner->weight_open(self, src, dtype, in, out, layout, w, err);
}

static inline tdm_status watch_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err)
{
    watched.copies++;
    return watched.inner->kv_copy(self, kv, to, from, err);
}

static inline void open_watched(tdm_backend *be, int threads, bool graphs)
{
    tdm_err err = {0};
    if (tdm_open_cpu(threads, be, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    watched.inner = be->ops;
    watched.ops = *be->ops;
    watched.ops.alloc = watch_alloc;
    watched.ops.weight_open = watch_weight;
    watched.ops.kv_open = watch_kv_open;
    watched.ops.kv_copy = watch_copy;
    watched.ops.embed = watch_embed;
    watched.ops.add_norm = watch_norm;
    watched.ops.linear = watch_linear;
    watched.ops.attend_cached = watch_attend;
    watched.ops.sample = watch_sample;
    if (graphs) {
        watched.ops.graph_begin = watch_graph_begin;
        watched.ops.graph_end = watch_graph_end;
        watched.ops.graph_run = watch_graph_run;
        watched.ops.graph_close = watch_graph_close;
    }
    be->ops = &watched.ops;
}

#endif
