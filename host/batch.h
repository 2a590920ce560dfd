/* host/batch.h - texts that are written side by side, each in its own slot, in pages of one cache.
 *
 *   TDM_TRY(tdm_batch_open(model, &limits, &batch, err));
 *   for (;;) {
 *       while (more_texts() && tdm_batch_has_room(batch, next_text()))
 *           TDM_TRY(tdm_batch_admit(batch, next_text(), err));
 *       if (tdm_batch_running(batch) == 0)
 *           break;
 *       TDM_TRY(tdm_batch_step(batch, err));
 *       ...texts whose state is no longer TDM_TEXT_RUNNING have left their slot...
 *   }
 *   tdm_batch_close(batch);
 *
 * A prompt's tokens but the last are fed in ragged steps, then the last one and each drawn one in
 * decoding steps. A decoding step is enqueued before the draws of the one before it are looked at: the
 * device never waits for the host, and a text's end is known one step late.
 *
 * What a text becomes depends on its own prompt and draw alone: not on its slot and pages, on the
 * others, or on when it was admitted. Thread safety: one batch, one thread: that of the backend. */
#ifndef HOST_BATCH_H
#define HOST_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/gpt2.h"

typedef enum {
    TDM_TEXT_RUNNING,
    TDM_TEXT_ENDED,      /* <|endoftext|> was drawn; it is not among the tokens */
    TDM_TEXT_FULL,       /* max_tokens are there */
    TDM_TEXT_NON_FINITE, /* a logit behind the last token was NaN or infinite */
} tdm_text_state;

/* One text: the caller's memory, filled by the batch while it runs. */
typedef struct {
    int32_t *tokens;    /* [max_tokens] the prompt (n_prompt >= 1), then what is drawn */
    int32_t n_prompt, n_tokens, max_tokens; /* max_tokens <= context + 1: the last is never fed */
    int64_t prompt;     /* >= 0: texts with this number have the same prompt, and share its pages when
                           they follow each other; < 0: none */
    tdm_draw draw;      /* position 0; it is kept by the batch */
    tdm_text_state state;
} tdm_batch_text;

enum { TDM_MAX_BATCH = 1 << 16 };

typedef struct {
    int32_t slots;   /* texts at once */
    int32_t pages;   /* of the cache, at least one text's; slots * gpt2_text_pages(context) is enough for
                        all, with fewer a text waits until it cannot come short of them */
    int32_t context; /* tokens of one text at most */
    int32_t rows;    /* of prompts in one step */
} tdm_batch_limits;

typedef struct tdm_batch tdm_batch;

/* Bytes that a batch takes in the backend's memory. Returns false when the sum does not fit size_t. */
bool tdm_batch_bytes(const tdm_backend *be, const tdm_config *config, const tdm_batch_limits *limits,
                     size_t *cache, size_t *scratch);

/* Nothing is allocated after that. Errors: TDM_EARG, TDM_ENOMEM. */
tdm_status tdm_batch_open(const gpt2_model *model, const tdm_batch_limits *limits, tdm_batch **out,
                          tdm_err *err);
void tdm_batch_close(tdm_batch *b); /* NULL is fine */

/* Texts that have a slot. */
int32_t tdm_batch_running(const tdm_batch *b);
/* Draws that the last tdm_batch_step learned of. */
int32_t tdm_batch_drawn(const tdm_batch *b);

/* Whether this text can be admitted now: there is a slot, the pages suffice even if all texts grow to their
 * most, and, where the cache could not hold all slots' texts at full length, not too many begin at
 * once. With no text running there always is room. */
bool tdm_batch_has_room(tdm_batch *b, const tdm_batch_text *text);

/* Give a text a slot. There must be room; text stays valid until its state changes.
 *   text  n_tokens == n_prompt, 1 <= n_prompt < max_tokens <= context + 1, draw set
 * Errors: TDM_EARG with the numbers. */
tdm_status tdm_batch_admit(tdm_batch *b, tdm_batch_text *text, tdm_err *err);

/* Feed limits.rows tokens of prompts, then enqueue one more token for each text whose prompt has been fed;
 * wait for the draws of the step before. When no text is left, nothing is under way either.
 * Errors: those of the backend. */
tdm_status tdm_batch_step(tdm_batch *b, tdm_err *err);

#endif
