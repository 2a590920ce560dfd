/* host/packed.h - windows of texts through a model: packed into batches, and the next batch, of this window or the next, is
 * on its way to the device before the results of the last are waited for.
 *
 *   TDM_TRY(tdm_packed_reserve(&window->packed, n, err));
 *   ...window->packed.lengths[0 .. n)...
 *   tdm_packed_pack(&window->packed, n, rows, texts);   // the thread that prepares
 *   TDM_TRY(tdm_packed_run(&model, &line, err));        // the backend's: windows of line->take
 *
 * What the detector (detector/window.c) and the scorer (score.c) have in common. What a batch is made of, and what becomes of
 * its results, is theirs.
 * Thread safety: one window, one thread at a time; tdm_packed_run on the backend's. */
#ifndef HOST_PACKED_H
#define HOST_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"

/* The texts of a window in batches. {0} is an empty one; the first member of every window. */
typedef struct {
    size_t n, cap;
    int32_t *lengths;       /* owned [cap] rows of each text; 0: it is in no batch */
    uint32_t *order;        /* owned [cap] texts, batch after batch */
    size_t *ends;           /* owned [cap + 1] of each batch in order */
    size_t n_batches, next; /* next: the first that is not on its way */
} tdm_packed;

/* Make room for n texts; what was there is lost where it has to grow. Errors: TDM_EARG for 2^32 texts, TDM_ENOMEM. */
tdm_status tdm_packed_reserve(tdm_packed *p, size_t n, tdm_err *err);
void tdm_packed_free(tdm_packed *p);
/* Cut n texts, whose lengths are set, into batches: tdm_pack. Where all are empty, one batch of no texts: the window has its
 * turn all the same. */
void tdm_packed_pack(tdm_packed *p, size_t n, int32_t max_rows, size_t max_texts);

/* One batch: a forward pass. */
typedef struct {
    tdm_packed *window;
    const uint32_t *texts; /* [n] numbers in the window */
    size_t n;              /* > 0 where a model sees it */
    int64_t rows;
    bool is_last; /* of its window */
} tdm_packed_batch;

/* Who runs batches. Lanes are 0 .. TDM_LANES - 1, each submitted and collected by turns. */
typedef struct {
    void *ctx;
    tdm_status (*submit)(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err);
    /* Wait, and put the results where they belong. Called for all that was submitted, after a failure too. */
    tdm_status (*collect)(void *ctx, int lane, const tdm_packed_batch *b, tdm_err *err);
} tdm_packed_model;

/* After each batch with what it did; returns false to stop there. */
typedef bool tdm_batch_hook(void *ctx, size_t texts, int64_t tokens);

/* Where windows come from and go to; called on the thread of the backend. */
typedef struct {
    void *ctx;
    /* The next prepared window, as the model made it; NULL: none is ready, or (wait) there will be none. */
    void *(*take)(void *ctx, bool wait);
    void (*give)(void *ctx); /* the oldest window that was taken has all its results */
    tdm_batch_hook *hook;    /* NULL allowed */
} tdm_window_line;

/* Run window after window until take, waiting, has none.
 * Errors: TDM_ESTOPPED by the hook; those of the model. Windows that were not given are incomplete. */
tdm_status tdm_packed_run(const tdm_packed_model *m, const tdm_window_line *line, tdm_err *err);
/* Run one window and no more.
 *   hook  NULL allowed */
tdm_status tdm_packed_run_one(const tdm_packed_model *m, tdm_packed *window, tdm_batch_hook *hook, void *ctx,
                              tdm_err *err);

#endif
