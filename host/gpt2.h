/* host/gpt2.h - GPT-2: tokens in, logits, draws or statistics out.
 *
 *   TDM_TRY(gpt2_open(&be, ck, &config, true, &model, err));
 *   TDM_TRY(gpt2_run_open(model, &(gpt2_limits){.slots = 64, .pages = 64 * gpt2_text_pages(1024),
 *                                               .context = 1024, .rows = 512, .logits = 64},
 *                         &run, err));
 *   TDM_TRY(gpt2_forward(run, &step, &logits, err)); // any number of times
 *   gpt2_run_close(run);
 *   gpt2_close(model);
 *
 * A model is weights; a run is the memory of one job: the cache, and scratch for a bounded number of
 * rows. Three ways to use a run:
 *   gpt2_forward  the next tokens of some texts, into the cache; logits of chosen rows (prompts, parity)
 *   gpt2_decode   one token more for each text that was started, drawn without the host (generation)
 *   gpt2_score    whole texts at once, no cache; statistics of their own tokens (likelihoods)
 * A row's result depends on its own text alone, and on which of the three computed it: not on how the
 * text was cut into calls of gpt2_forward, nor on what else is in a call. Runs at most on the backend's
 * one thread. After run_open nothing is allocated. On a backend of several ranks (host/ranks.h) all of this happens on each
 * of them.
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

/* Tell `see` every tensor that rank `rank` of n_ranks (0 of 0: one alone) would ask of ck in gpt2_open, in its order and
 * by the same list, whether or not it is there; a tied word table comes twice, as table and as matrix. Reads no data;
 * stops at the first call that fails and returns its status. With tdm_plan_tensor: what gpt2_weight_bytes will be. */
tdm_status gpt2_each_tensor(const tdm_checkpoint *ck, const tdm_config *config, int32_t rank, int32_t n_ranks,
                            tdm_see_tensor see, void *ctx);
/* What files of this model may hold besides: "[transformer.]h.N.attn.bias" (the mask) and
 * "...masked_bias" of old versions, and a copy of a tied output matrix. */
bool gpt2_ignores(const char *name);

const tdm_backend *gpt2_backend(const gpt2_model *m);
const tdm_config *gpt2_config(const gpt2_model *m);
/* Of several ranks: those of the one that has most. */
size_t gpt2_weight_bytes(const gpt2_model *m);

/* ---- the memory of a job ---- */

typedef struct {
    int32_t slots;   /* texts in the cache; 0: no cache, for gpt2_score alone */
    int32_t pages;   /* of the cache; slots * gpt2_text_pages(context): every slot can be full */
    int32_t context; /* tokens of one text at most; <= config.n_context */
    int32_t rows;    /* rows of one call at most, >= slots, >= logits */
    int32_t logits;  /* rows of one gpt2_forward whose logits are wanted, at most; of a gpt2_score:
                        rows whose logits exist at a time */
    int32_t top;     /* of a gpt2_score: likeliest tokens of each row; 0: none. At most TDM_TOP_MOST */
    bool cross;      /* of a gpt2_score: memory for what an observer adds */
} gpt2_limits;

/* Bytes that a gpt2_score finds out about each row. */
static inline size_t gpt2_score_bytes(const gpt2_limits *l)
{
    return sizeof(tdm_stat) + (size_t)l->top * sizeof(tdm_top) + (l->cross ? sizeof(tdm_cross) : 0);
}

/* Pages of a text of `context` tokens. */
static inline int32_t gpt2_text_pages(int32_t context)
{
    return context / TDM_PAGE + (context % TDM_PAGE != 0);
}

/* Bytes that a run of these limits takes on a rank that has most: the cache, and all scratch. Of be only dtype, graphs,
 * kv_page_bytes, rank and n_ranks count, so a copy of a backend with other numbers there shows what it would be.
 * Returns false when the sum does not fit size_t. */
bool gpt2_run_bytes(const tdm_backend *be, const tdm_config *config, const gpt2_limits *limits,
                    size_t *cache, size_t *scratch);

/* Bytes of a page of the cache, likewise. */
size_t gpt2_page_bytes(const tdm_backend *be, const tdm_config *config);

/* Allocate the memory of a run. With pages for every slot, slot s has the pages s * text_pages ..;
 * otherwise gpt2_set_pages comes before the first step.
 * Errors: TDM_EARG for limits out of range, TDM_ENOMEM. */
tdm_status gpt2_run_open(const gpt2_model *m, const gpt2_limits *limits, gpt2_run **out,
                         tdm_err *err);
void gpt2_run_close(gpt2_run *r); /* NULL is fine */

/* Which pages the texts of all slots have, for the calls that follow.
 *   table  [slots, gpt2_text_pages(context)] host memory; -1 where a text has none yet
 * Errors: TDM_EARG for a page out of range. */
tdm_status gpt2_set_pages(gpt2_run *r, const int32_t *table, tdm_err *err);

/* Page `to` becomes a copy of page `from`. */
tdm_status gpt2_copy_page(gpt2_run *r, int32_t to, int32_t from, tdm_err *err);

/* ---- some tokens of some texts ---- */

/* Rows starts[i] .. starts[i + 1] - 1 are the next tokens of the text in slots[i].
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
 *   logits  receives a view of [n_logits, V] f32 in the backend's memory, valid until the next call; its
 *           rows may be padded
 * Errors: TDM_EARG for a step outside the run's limits or a token or position out of range. */
tdm_status gpt2_forward(gpt2_run *r, const gpt2_step *step, tdm_mat *logits, tdm_err *err);

/* ---- decoding ---- */

/* What a text feeds next: its last token, which must not be in the cache yet. */
typedef struct {
    int32_t token, position;
    int32_t left; /* tokens to draw at most, >= 1; position + left <= context */
    tdm_draw draw;
} gpt2_next;

/* Put a text into a slot; it moves on by itself with every gpt2_decode that names the slot, until it
 * has ended. Positions before next->position must be in the cache by then.
 * Errors: TDM_EARG for values out of range. */
tdm_status gpt2_start(gpt2_run *r, int32_t slot, const gpt2_next *next, tdm_err *err);

/* Enqueue one step of the texts in `slots` [n], host memory: each feeds its token and draws the next;
 * then a fetch of all slots' draws into lane. A text that has ended is idle. Does not wait.
 *   slots  1 <= n <= limits.slots, each at most once; each text has the pages that it needs
 * Errors: TDM_EARG for a slot out of range; those of the backend. */
tdm_status gpt2_decode(gpt2_run *r, const int32_t *slots, int32_t n, int lane, tdm_err *err);
/* Wait for what the gpt2_decode of this lane drew.
 *   drawn  receives [limits.slots] host memory, valid until the lane's next gpt2_decode: an id,
 *          TDM_NOT_FINITE, or TDM_IDLE; of slots that were not named: anything */
tdm_status gpt2_drawn(gpt2_run *r, int lane, const int32_t **drawn, tdm_err *err);

/* ---- scoring ---- */

/* Rows starts[i] .. starts[i + 1] - 1 are text i from its first token. All arrays are host memory. */
typedef struct {
    int32_t n_rows, n_texts;
    const int32_t *tokens;  /* [n_rows] */
    const int32_t *starts;  /* [n_texts + 1] */
    const int32_t *targets; /* [n_rows] the token whose statistics are wanted behind each row: the next
                               one of the text; < 0: none */
} gpt2_texts;

/* What was found out about each row, in host memory; zeros where there was no target. */
typedef struct {
    const tdm_stat *stats;  /* [n_rows] */
    const tdm_cross *cross; /* [n_rows] p the model, q the observer; NULL: there was none */
    const tdm_top *top;     /* [n_rows, limits.top]; NULL where that is 0 */
} gpt2_scores;

/* Enqueue the forward pass of whole texts, and a fetch of the statistics of their targets into lane.
 * Logits, of both models, exist for limits.logits rows at a time. Touches no cache. Does not wait.
 *   observer  NULL, or with limits.cross: a run on the same backend whose model has the same vocabulary size,
 *             with at least the rows, logits and context of r. The model may be the same, the run may not
 *   texts     n_rows <= limits.rows and TDM_LANE_BYTES / gpt2_score_bytes(limits); texts of 1 .. context tokens
 * Errors: TDM_EARG for texts outside the run's limits, a token out of range or an observer that does not fit;
 * those of the backend. */
tdm_status gpt2_score(gpt2_run *r, gpt2_run *observer, const gpt2_texts *texts, int lane, tdm_err *err);
/* Wait for what the gpt2_score of this lane found out.
 *   out  receives views that are valid until the lane's next gpt2_score */
tdm_status gpt2_scored(gpt2_run *r, int lane, gpt2_scores *out, tdm_err *err);

#endif
