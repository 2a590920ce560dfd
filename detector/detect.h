/* detector/detect.h - texts in, probabilities out: tokenise, pack, classify.
 *
 *   tdm_detect_options options = TDM_DETECT_DEFAULTS;
 *   TDM_TRY(tdm_detector_open("roberta-base-openai-detector", &backend, &options, &d, err));
 *   TDM_TRY(tdm_detector_run(d, texts, n_texts, results, NULL, NULL, err));
 *   ...results[0].fake...
 *   tdm_detector_close(d);
 *
 * A result depends on its text and the options alone, bit for bit: not on the other texts, their
 * order, the batch or the threads.
 * Thread safety: one detector, one thread; it uses threads of its own. */
#ifndef DETECTOR_DETECT_H
#define DETECTOR_DETECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/preprocess.h"
#include "host/backend.h"
#include "host/config.h"
#include "host/err.h"

typedef struct {
    tdm_preprocess_mode preprocess;
    int64_t batch;    /* texts in one forward pass at most; 0: as many as fit max_rows */
    int32_t max_rows; /* tokens in one forward pass at most; raised to the context */
    int threads;      /* that tokenise; 0: one per usable core */
    bool skip_weight_check; /* do not look for NaN and infinity in the weights */
} tdm_detect_options;
#define TDM_DETECT_DEFAULTS                                                                        \
    {                                                                                              \
        .preprocess = TDM_PREPROCESS_RELEASE, .max_rows = 2048                                     \
    }

typedef struct {
    const char *p; /* [len] UTF-8; not NULL */
    size_t len;
} tdm_text;

typedef enum {
    TDM_DETECTED,
    TDM_DETECT_EMPTY,     /* no token is left after preprocessing; only counts are set, to 0 */
    TDM_DETECT_NON_FINITE /* a logit is infinite or not a number; logits and counts are set */
} tdm_detect_outcome;

typedef struct {
    tdm_detect_outcome outcome;
    double fake, real; /* probabilities, in [0, 1], sum 1 */
    float logit_fake, logit_real;
    tdm_token_counts counts; /* as preprocess.h defines them */
} tdm_detection;

typedef struct tdm_detector tdm_detector;

/* Load a model folder: config.json, weights, merges.txt, vocab.json.
 *   be  borrowed until close
 * Errors: those of checkpoint, config and tokenizer; TDM_EFORMAT also when the folder holds a
 * GPT-2, or when vocabulary and weights do not fit together. */
tdm_status tdm_detector_open(const char *dir, const tdm_backend *be,
                             const tdm_detect_options *options, tdm_detector **out, tdm_err *err);
void tdm_detector_close(tdm_detector *d); /* NULL is fine */
const tdm_config *tdm_detector_config(const tdm_detector *d);

/* Called after each forward pass with what it did; returns false to stop there. */
typedef bool tdm_detect_hook(void *ctx, size_t texts, int64_t tokens);

/* Judge n texts.
 *   results  [n] in the order of texts
 *   hook     NULL allowed; called on the caller's thread
 * Errors: TDM_ESTOPPED when the hook asked for it (results are then incomplete); TDM_ENOMEM; those
 * of the backend. */
tdm_status tdm_detector_run(tdm_detector *d, const tdm_text *texts, size_t n,
                            tdm_detection *results, tdm_detect_hook *hook, void *ctx, tdm_err *err);

/* The ids that the network saw of text i of the last run, <s> and </s> included; [*n], valid until
 * the next run. */
const int32_t *tdm_detector_ids(const tdm_detector *d, size_t i, size_t *n);

#endif
