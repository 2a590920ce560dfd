/* host/batch.h - texts that are written side by side, each in its own slot of the cache.
 *
 *   TDM_TRY(tdm_batch_open(model, 64, 1024, &batch, err));
 *   for (;;) {
 *       while (tdm_batch_has_room(batch) && more_texts())
 *           tdm_batch_admit(batch, next_text());
 *       if (tdm_batch_running(batch) == 0)
 *           break;
 *       TDM_TRY(tdm_batch_step(batch, err)); // every text gets its next token; prompts come first
 *       ...texts whose state is no longer TDM_TEXT_RUNNING have left their slot...
 *   }
 *   tdm_batch_close(batch);
 *
 * What a text becomes depends on its own prompt and draw alone, never on its slot, on the others, or
 * on when it was admitted. Thread safety: one batch, one thread: that of the backend. */
#ifndef HOST_BATCH_H
#define HOST_BATCH_H

#include <stdbool.h>
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
    tdm_draw draw;      /* position is kept by the batch */
    tdm_text_state state;
} tdm_batch_text;

enum { TDM_MAX_BATCH = 1 << 16 };

typedef struct tdm_batch tdm_batch;

/* Rows of a step of a batch: one for each text, and room for prompts, which are cut to fit. */
int32_t tdm_batch_rows(int32_t slots);

/* Allocate slots for texts of at most `context` tokens. Nothing is allocated after that.
 * Errors: TDM_EARG, TDM_ENOMEM. */
tdm_status tdm_batch_open(const gpt2_model *model, int32_t slots, int32_t context, tdm_batch **out,
                          tdm_err *err);
void tdm_batch_close(tdm_batch *b); /* NULL is fine */

bool tdm_batch_has_room(const tdm_batch *b);
int32_t tdm_batch_running(const tdm_batch *b);
/* Texts that the last step drew a token for: fewer than were running while prompts are fed. */
int32_t tdm_batch_drawn(const tdm_batch *b);

/* Give a text a slot. There must be room; text stays valid until its state changes.
 *   text  n_tokens == n_prompt, 1 <= n_prompt < max_tokens <= context + 1, draw set, position 0
 * Errors: TDM_EARG with the numbers. */
tdm_status tdm_batch_admit(tdm_batch *b, tdm_batch_text *text, tdm_err *err);

/* One forward pass: one more token for each text whose prompt has been fed completely.
 * Errors: those of the backend. */
tdm_status tdm_batch_step(tdm_batch *b, tdm_err *err);

#endif
