/* host/score.h - how probable GPT-2 finds each token of given texts (teacher forcing).
 *
 *   TDM_TRY(tdm_scorer_open(model, &(tdm_score_options){0}, &scorer, err));
 *   tdm_score_text texts[] = {{ids, n, stats}, ...};     // stats [n - 1]
 *   TDM_TRY(tdm_scorer_run(scorer, texts, n_texts, err));
 *   ...stats[j].logprob is that of ids[j + 1] behind ids[0 .. j]...
 *   tdm_scorer_close(scorer);
 *
 * Or window by window, where one thread prepares while another scores and a third writes:
 *
 *   TDM_TRY(tdm_score_window_open(&w, err));
 *   TDM_TRY(tdm_scorer_prepare(scorer, w, texts, n_texts, err)); // one thread
 *   TDM_TRY(tdm_scorer_score(scorer, &line, err));               // the backend's: windows of line->take
 *   ...texts[0].stats...                                         // any thread, after line->give
 *
 * The first token of a text is not judged: a caller who wants all tokens judged puts <|endoftext|> in
 * front. Texts are packed without padding, and the next batch is on its way before the last one's statistics are
 * waited for. A text's statistics depend on that text alone, bit for bit, and not on what else is asked.
 * Thread safety: prepare and score may each run on one thread at the same time, on different windows;
 * all else is for one thread (the backend's). */
#ifndef HOST_SCORE_H
#define HOST_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/config.h"
#include "host/err.h"
#include "host/gpt2.h"
#include "host/packed.h"

typedef struct tdm_scorer tdm_scorer;

typedef struct {
    /* 0: what suits the backend and its memory. Neither changes a result. */
    int32_t rows;   /* tokens in one forward pass at most; raised to the context. What is found out about them
                       fits one lane of the backend */
    int32_t logits; /* of these, tokens whose logits are in memory at a time; [logits, V] f32, of both models */
    const gpt2_model *observer; /* a second model of the same backend, vocabulary size and at least the same
                                   context, for text->cross; NULL: none. Must outlive the scorer */
    int32_t top;    /* likeliest tokens of each position, for text->top; 0: none. At most TDM_TOP_MOST */
} tdm_score_options;

/* Allocate the memory of scoring; a window has a few bytes for each text and no more.
 *   m  must outlive the scorer. May be its own observer
 * Errors: TDM_EARG for options out of range, an observer that does not fit, or a context of which more is found out
 * than fits a lane; TDM_ENOMEM. */
tdm_status tdm_scorer_open(const gpt2_model *m, const tdm_score_options *options, tdm_scorer **out,
                           tdm_err *err);
void tdm_scorer_close(tdm_scorer *s); /* NULL is fine */

/* What scoring takes in `memory` bytes beside the weights (0: unknown), without a model: tokens in one forward pass, and
 * bytes of scratch, SIZE_MAX where they cannot be counted. Of be as much counts as for gpt2_run_bytes.
 *   observer  NULL: none; options->observer is not looked at */
void tdm_scorer_plan(const tdm_backend *be, const tdm_config *model, const tdm_config *observer,
                     const tdm_score_options *options, size_t memory, int32_t *rows, size_t *scratch);

/* Tokens in one forward pass at most. */
int32_t tdm_scorer_rows(const tdm_scorer *s);

typedef struct {
    const int32_t *ids; /* [n] */
    int32_t n;          /* 1 .. context + 1: the last token is judged, but not read */
    tdm_stat *stats;    /* [n - 1 - skip] receives those of ids[1 + skip ..]; NULL where there are none */
    tdm_cross *cross;   /* likewise, p the model and q the observer; with options.observer alone */
    tdm_top *top;       /* [n - 1 - skip, options.top] likewise; with options.top alone */
    int32_t skip;       /* 0 .. n - 1: so many positions at the beginning are only read */
} tdm_score_text;

/* Score n texts.
 * Errors: TDM_EARG names the first text that is empty, too long, or has an id or skip out of range, before any work;
 * TDM_ENOMEM; those of the backend. The statistics are incomplete then. */
tdm_status tdm_scorer_run(tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err);

/* ---- window by window ---- */

/* Texts that are packed together. */
typedef struct tdm_score_window tdm_score_window;

tdm_status tdm_score_window_open(tdm_score_window **out, tdm_err *err);
void tdm_score_window_close(tdm_score_window *w); /* NULL is fine */

/* Replace what w holds by n texts: check and pack.
 *   texts  [n] borrowed, like what they point to, until the window was given
 * Errors: as of tdm_scorer_run. */
tdm_status tdm_scorer_prepare(const tdm_scorer *s, tdm_score_window *w, const tdm_score_text *texts, size_t n,
                              tdm_err *err);

/* Score window after window of the line (each a tdm_score_window) until it has none: tdm_packed_run. Texts of one token are
 * in no batch.
 * Errors: TDM_ESTOPPED by the hook or the backend's stop; those of the backend. Windows that were not given are
 * incomplete. */
tdm_status tdm_scorer_score(tdm_scorer *s, const tdm_window_line *line, tdm_err *err);

#endif
