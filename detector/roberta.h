/* detector/roberta.h - RoBERTa with the two-way head of the GPT-2 output detector.
 *
 *   TDM_TRY(roberta_open(&backend, ck, &config, &(roberta_limits){.rows = 2048, .texts = 256}, true, &model, err));
 *   TDM_TRY(roberta_classify(model, ids, starts, n_texts, logits, err)); // [n_texts, 2]
 *   roberta_softmax(logits, p);                                          // p[ROBERTA_FAKE]
 *   roberta_close(model);
 *
 * Texts are packed one behind the other, without padding. The logits of a text depend on that text
 * alone, bit for bit: not on the texts beside it, their number, or the place in the batch.
 * Thread safety: one model, one thread (the backend's). */
#ifndef DETECTOR_ROBERTA_H
#define DETECTOR_ROBERTA_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/config.h"
#include "host/err.h"
#include "host/weights.h"

/* The order of the two logits. Fixed by how the published models were trained (0 is fake); what a
 * config.json says about labels is not asked. */
enum { ROBERTA_FAKE, ROBERTA_REAL, ROBERTA_LABELS };

typedef struct roberta roberta;

/* Texts of one call at most: their logits go through one lane of the backend. */
enum { ROBERTA_MOST_TEXTS = TDM_LANE_BYTES / (ROBERTA_LABELS * (int)sizeof(float)) };

/* What one call may hold at most. */
typedef struct {
    int32_t rows;  /* tokens; at least config->n_context */
    int32_t texts;
    int32_t slice; /* of the tokens, those whose inner activations are in memory at a time; 0: what suits a
                      device. Changes no result */
} roberta_limits;

/* Load the weights and allocate all memory that classifying needs.
 *   be         borrowed until close
 *   ck         read now, not kept. Names as in published files, with or without "roberta.";
 *              LayerNorm as weight and bias or as gamma and beta; pooler and position_ids are
 *              ignored
 *   config     of a RoBERTa
 *   check_finite  refuse NaN and infinity in weights
 * Errors: TDM_EFORMAT names what is missing, has another shape, is not finite or does not belong;
 * TDM_EARG for the limits; TDM_EIO, TDM_ENOMEM. */
tdm_status roberta_open(const tdm_backend *be, const tdm_checkpoint *ck, const tdm_config *config,
                        const roberta_limits *limits, bool check_finite, roberta **out,
                        tdm_err *err);
void roberta_close(roberta *m); /* NULL is fine */

/* Tell `see` every tensor that rank `rank` of n_ranks (0 of 0: one alone) would ask of ck in roberta_open, in its order
 * and by the same list, whether or not it is there. Reads no data; stops at the first call that fails and returns its
 * status. With tdm_plan_tensor: what roberta_weight_bytes will be. */
tdm_status roberta_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, int32_t rank, int32_t n_ranks,
                               tdm_see_tensor see, void *ctx);
/* What files of this model may hold besides, with or without "roberta.": the pooler and the position
 * numbers; and the language model's head, "lm_head.". */
bool roberta_ignores(const char *name);

/* Bytes of the weights and of the scratch memory, on the backend; of several ranks, on one that has most. */
size_t roberta_weight_bytes(const roberta *m);
size_t roberta_scratch_bytes(const roberta *m);
/* Bytes of scratch memory that one more token takes at most, where activations are of type act; n_ranks 0: alone. */
size_t roberta_row_bytes(const tdm_config *config, tdm_dtype act, int32_t n_ranks);
/* What roberta_scratch_bytes will be. Of be only dtype, rank and n_ranks count. False: more than can be counted. */
bool roberta_run_bytes(const tdm_backend *be, const tdm_config *config, const roberta_limits *limits, size_t *bytes);

/* Enqueue the judging of some texts. Two lanes let the next texts be enqueued before the logits of the
 * last are waited for.
 *   lane    0 .. TDM_LANES - 1, free: collected since its last submit. A failed submit leaves it free
 *   ids     [starts[n_texts]] host; text i is ids[starts[i]] .. ids[starts[i + 1] - 1], <s> first.
 *           Not kept
 *   starts  [n_texts + 1] host; starts[0] is 0, no text is empty or longer than the context. Not kept
 * Cost: allocates nothing.
 * Errors: TDM_EARG for an id, a length or a total out of range, or a lane that is not free; those of the
 * backend, also of earlier work.
 * Source: transformers RobertaForSequenceClassification. */
tdm_status roberta_submit(roberta *m, int lane, const int32_t *ids, const int32_t *starts,
                          int32_t n_texts, tdm_err *err);

/* Wait for what was submitted on a lane, which is free then, whatever is returned.
 *   logits  receives [n_texts, 2], valid until the next submit on this lane
 * Errors: TDM_EARG where nothing was submitted; those of the backend. */
tdm_status roberta_collect(roberta *m, int lane, const float **logits, tdm_err *err);

/* Both, and the logits copied: [n_texts, 2] host. For lane 0, which must be free. */
tdm_status roberta_classify(roberta *m, const int32_t *ids, const int32_t *starts, int32_t n_texts,
                            float *logits, tdm_err *err);

/* Probabilities of two logits, in double. */
void roberta_softmax(const float logits[ROBERTA_LABELS], double p[ROBERTA_LABELS]);

#endif
