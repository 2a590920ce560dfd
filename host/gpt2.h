/* host/gpt2.h - GPT-2: tokens in, logits out, with cached keys and values.
 *
 *   TDM_TRY(gpt2_open(&be, ck, &config, true, &model, err));
 *   TDM_TRY(gpt2_run_open(model, &(gpt2_limits){.slots = 64, .context = 1024, .rows = 512, .logits = 64},
 *                         &run, err));
 *   TDM_TRY(gpt2_forward(run, &step, &logits, err)); // any number of times
 *   gpt2_run_close(run);
 *   gpt2_close(model);
 *
 * A model is weights; a run is the memory of one job: the cache, and scratch for a bounded number of
 * rows. A long prompt is fed in several steps; the logits of a row do not depend on how texts were
 * cut into steps, nor on what else is in a step. Runs at most on the backend's one thread.
 *
 * Source: openai/gpt-2 src/model.py; the tensor names are those of Hugging Face's GPT2LMHeadModel. */
#ifndef HOST_GPT2_H
#define HOST_GPT2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/config.h"
#include "host/err.h"
#include "host/weights.h"

typedef struct gpt2_model gpt2_model;
typedef struct gpt2_run gpt2_run;

/* Load the weights of ck into the backend.
 *   be            must outlive the model
 *   check_finite  refuse NaN and infinity in weights (costs one more pass)
 * Names may start with "transformer." or not. The output matrix is wte if the config ties it, or if
 * there is no lm_head.weight. Old files' mask buffers are skipped by exact name.
 * Errors: TDM_EFORMAT names the tensor: missing, of another shape than config.json says, not finite,
 * or none of this model. TDM_EIO, TDM_ENOMEM. */
tdm_status gpt2_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                     bool check_finite, gpt2_model **out, tdm_err *err);
void gpt2_close(gpt2_model *m); /* NULL is fine; runs are closed first */

/* Tell `see` every tensor that gpt2_open would ask of ck, in its order and by the same list, whether
 * or not it is there; a tied word table comes twice, as table and as matrix. Reads no data; stops at
 * the first call that fails and returns its status. */
tdm_status gpt2_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, tdm_see_tensor see,
                            void *ctx);
/* What files of this model may hold besides: "[transformer.]h.N.attn.bias" (the mask) and
 * "...masked_bias" of old versions, and a copy of a tied output matrix. */
bool gpt2_ignores(const char *name);

const tdm_backend *gpt2_backend(const gpt2_model *m);
const tdm_config *gpt2_config(const gpt2_model *m);
size_t gpt2_weight_bytes(const gpt2_model *m);

typedef struct {
    int32_t slots;   /* texts in the cache */
    int32_t context; /* tokens of one text at most; <= config.n_context */
    int32_t rows;    /* rows of one step at most, >= slots */
    int32_t logits;  /* rows of one step whose logits are wanted, at most */
} gpt2_limits;

/* Bytes that a run of these limits takes: the cache (f32), and all scratch.
 * Returns false when the sum does not fit size_t. */
bool gpt2_run_bytes(const tdm_config *config, const gpt2_limits *limits, size_t *cache,
                    size_t *scratch);

/* Allocate the memory of a run. gpt2_forward allocates nothing.
 * Errors: TDM_EARG for limits out of range, TDM_ENOMEM. */
tdm_status gpt2_run_open(const gpt2_model *m, const gpt2_limits *limits, gpt2_run **out,
                         tdm_err *err);
void gpt2_run_close(gpt2_run *r); /* NULL is fine */

/* One step: rows starts[i] .. starts[i + 1] - 1 are the next tokens of the text in slots[i].
 * All arrays are host memory. A text starts over in a slot with position 0. */
typedef struct {
    int32_t n_rows, n_seqs, n_logits;
    const int32_t *tokens;     /* [n_rows] */
    const int32_t *positions;  /* [n_rows] 0 is a text's first token */
    const int32_t *starts;     /* [n_seqs + 1] */
    const int32_t *slots;      /* [n_seqs] */
    const int32_t *logit_rows; /* [n_logits] rows whose logits are wanted */
} gpt2_step;

/* Run one step.
 *   logits  receives a view of [n_logits, V] f32 in the backend's memory, valid until the next step
 * Errors: TDM_EARG for a step outside the run's limits or a token or position out of range. */
tdm_status gpt2_forward(gpt2_run *r, const gpt2_step *step, tdm_mat *logits, tdm_err *err);

#endif
