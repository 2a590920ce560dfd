/* detector/detect.h - texts in, probabilities out: tokenise, pack, classify.
 *
 *   tdm_detect_options options = TDM_DETECT_DEFAULTS;
 *   TDM_TRY(tdm_detector_open("roberta-base-openai-detector", &backend, &options, &d, err));
 *   TDM_TRY(tdm_detector_load(d, err));
 *   TDM_TRY(tdm_detector_run(d, texts, n_texts, results, NULL, NULL, err));
 *   ...results[0].fake...
 *   tdm_detector_close(d);
 *
 * Or window by window, where one thread prepares while another judges and a third writes:
 *
 *   TDM_TRY(tdm_detect_window_open(d, &w, err));
 *   TDM_TRY(tdm_detector_prepare(d, w, texts, n_texts, err)); // one thread
 *   TDM_TRY(tdm_detector_judge(d, &line, err));               // the backend's: windows of line->take
 *   ...tdm_detect_window_result(w, 0)->fake...                // any thread, after line->give
 *
 * A result depends on its text and the options alone, bit for bit: not on the other texts, their
 * order, the window, the batch or the threads.
 * Thread safety: prepare and judge may each run on one thread at the same time, on different windows;
 * all else is for one thread. */
#ifndef DETECTOR_DETECT_H
#define DETECTOR_DETECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "detector/preprocess.h"
#include "host/backend.h"
#include "host/config.h"
#include "host/err.h"
#include "host/packed.h"

typedef struct {
    tdm_preprocess_mode preprocess;
    int64_t batch;    /* texts in one forward pass at most; 0: as many as fit max_rows */
    int32_t max_rows; /* tokens in one forward pass at most; raised to the context. 0: what suits the
                         backend */
    int threads;      /* that tokenise; 0: one per usable core */
    bool skip_weight_check; /* do not look for NaN and infinity in the weights */
} tdm_detect_options;
#define TDM_DETECT_DEFAULTS                                                                        \
    {                                                                                              \
        .preprocess = TDM_PREPROCESS_RELEASE                                                       \
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

/* Open a model folder: config.json, merges.txt, vocab.json, and the list of the weights.
 *   be  borrowed until close
 * Errors: those of checkpoint, config and tokenizer; TDM_EFORMAT also when the folder holds a
 * GPT-2, or when vocabulary and weights do not fit together. */
tdm_status tdm_detector_open(const char *dir, const tdm_backend *be,
                             const tdm_detect_options *options, tdm_detector **out, tdm_err *err);
/* Load the weights, and take the memory of forward passes: before the first text is judged.
 * Errors: those of roberta_open; TDM_ESTOPPED by the backend's stop. */
tdm_status tdm_detector_load(tdm_detector *d, tdm_err *err);
void tdm_detector_close(tdm_detector *d); /* NULL is fine */
const tdm_config *tdm_detector_config(const tdm_detector *d);
/* What judging takes on a backend with so much memory (before the weights are there; 0: unknown), without a model: tokens
 * in one forward pass, and bytes of scratch, SIZE_MAX where they cannot be counted. Of be only name, dtype, rank and
 * n_ranks count, so a copy of a backend with other numbers there shows what it would be. */
void tdm_detector_plan(const tdm_backend *be, const tdm_config *config, const tdm_detect_options *options,
                       size_t memory, int32_t *rows, size_t *scratch);
/* Tokens in one forward pass at most. */
int32_t tdm_detector_rows(const tdm_detector *d);
/* CPU seconds so far of the threads that tokenise, without those of who calls prepare. */
double tdm_detector_seconds(const tdm_detector *d);

/* Judge n texts.
 *   results  [n] in the order of texts
 *   hook     NULL allowed; called on the caller's thread
 * Errors: TDM_ESTOPPED when the hook or the backend's stop asked for it (results are then incomplete);
 * TDM_ENOMEM; those of the backend. */
tdm_status tdm_detector_run(tdm_detector *d, const tdm_text *texts, size_t n, tdm_detection *results,
                            tdm_batch_hook *hook, void *ctx, tdm_err *err);

/* The ids that the network saw of text i of the last run, <s> and </s> included; [*n], valid until
 * the next run. */
const int32_t *tdm_detector_ids(const tdm_detector *d, size_t i, size_t *n);

/* ---- window by window ---- */

/* Texts that are tokenised and packed together, and what was found about them. Its memory grows to the
 * largest number of texts that it has held: [texts, context] ids. */
typedef struct tdm_detect_window tdm_detect_window;

tdm_status tdm_detect_window_open(const tdm_detector *d, tdm_detect_window **out, tdm_err *err);
void tdm_detect_window_close(tdm_detect_window *w); /* NULL is fine */

/* Replace what w holds by n texts: tokenise on the detector's threads, and pack.
 *   texts  not kept
 * Errors: TDM_EARG for 2^32 texts, TDM_ESTOPPED by the backend's stop, TDM_ENOMEM. */
tdm_status tdm_detector_prepare(tdm_detector *d, tdm_detect_window *w, const tdm_text *texts, size_t n,
                                tdm_err *err);

/* Judge window after window of the line (each a tdm_detect_window) until it has none: tdm_packed_run.
 * Errors: TDM_ESTOPPED by the hook or the backend's stop; those of the backend. Windows that were not given are
 * incomplete. */
tdm_status tdm_detector_judge(tdm_detector *d, const tdm_window_line *line, tdm_err *err);

/* Of text i of a window that is complete. */
const tdm_detection *tdm_detect_window_result(const tdm_detect_window *w, size_t i);
const int32_t *tdm_detect_window_ids(const tdm_detect_window *w, size_t i, size_t *n);

#endif
