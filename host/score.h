/* host/score.h - how probable GPT-2 finds each token of given texts (teacher forcing).
 *
 *   TDM_TRY(tdm_scorer_open(model, &(tdm_score_options){0}, &scorer, err));
 *   tdm_score_text texts[] = {{ids, n, stats}, ...};     // stats [n - 1]
 *   TDM_TRY(tdm_scorer_run(scorer, texts, n_texts, err));
 *   ...stats[j].logprob is that of ids[j + 1] behind ids[0 .. j]...
 *   tdm_scorer_close(scorer);
 *
 * The first token of a text is not judged: a caller who wants all tokens judged puts <|endoftext|> in
 * front. Texts are packed without padding, and the next batch is on its way before the last one's statistics are
 * waited for. A text's statistics depend on that text alone, bit for bit.
 * Thread safety: one scorer, one thread (the backend's). */
#ifndef HOST_SCORE_H
#define HOST_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/err.h"
#include "host/gpt2.h"

typedef struct tdm_scorer tdm_scorer;

typedef struct {
    /* 0: what suits the backend and its memory. Neither changes a result. */
    int32_t rows;   /* tokens in one forward pass at most; raised to the context */
    int32_t logits; /* of these, tokens whose logits are in memory at a time; [logits, V] f32 */
    const gpt2_model *observer; /* a second model of the same backend, vocabulary size and at least the same
                                   context, for text->cross; NULL: none. Must outlive the scorer */
    int32_t top;    /* likeliest tokens of each position, for text->top; 0: none. At most TDM_TOP_MOST */
} tdm_score_options;

/* Allocate the memory of scoring; a run allocates a few bytes for each text and no more.
 *   m  must outlive the scorer
 * Errors: TDM_EARG for options out of range or an observer that does not fit; TDM_ENOMEM. */
tdm_status tdm_scorer_open(const gpt2_model *m, const tdm_score_options *options, tdm_scorer **out,
                           tdm_err *err);
void tdm_scorer_close(tdm_scorer *s); /* NULL is fine */

/* Tokens in one forward pass at most. */
int32_t tdm_scorer_rows(const tdm_scorer *s);

typedef struct {
    const int32_t *ids; /* [n] */
    int32_t n;          /* 1 .. context + 1: the last token is judged, but not read */
    tdm_stat *stats;    /* [n - 1] receives those of ids[1 ..]; NULL where n is 1 */
    tdm_cross *cross;   /* [n - 1] likewise, p the model and q the observer; with options.observer alone */
    tdm_top *top;       /* [n - 1, options.top]; with options.top alone */
} tdm_score_text;

/* Score n texts.
 * Errors: TDM_EARG names the first text that is empty, too long, or has an id out of range, before any work;
 * TDM_ENOMEM; those of the backend. The statistics are incomplete then. */
tdm_status tdm_scorer_run(tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err);

#endif
