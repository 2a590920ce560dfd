/* tools/score_job.h - inside tandem score: a job, and the windows of records that go through it. score_window.c tokenises,
 * cmd_score.c scores, score_write.c and score_gltr.c write.
 *
 * What a text is to the model: its tokens, <|endoftext|> in front with --bos yes. Position i stands behind token i;
 * what is found out there is about token i + 1. A text whose positions do not fit the context is read in several
 * passes, each `stride` tokens further; where passes overlap, the earlier one counts. */
#ifndef TOOLS_SCORE_JOB_H
#define TOOLS_SCORE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/likelihood.h"
#include "host/score.h"
#include "tools/args.h"
#include "tools/gpt2_folder.h"
#include "tools/records.h"

enum { SCORE_WINDOWS = 4 };

/* The choices of --bos, --entropy and --gltr-buckets, in this order. */
enum { SCORE_BOS_YES, SCORE_BOS_NO };
enum { SCORE_ENTROPY_SCORED, SCORE_ENTROPY_ALL };
enum { SCORE_TOP10, SCORE_TOP11 };

typedef struct {
    common_args common;
    const char *observer; /* NULL: none */
    int bos, entropy, buckets;
    int64_t stride; /* 0: what does not fit the context is not looked at */
    int64_t gltr;   /* 0: no result for GLTR */
    bool per_token, passthrough;
    const char *key_prefix;
} score_args;

/* The fields of a result in their order. */
#define SCORE_FIELD_MAP(X)                                                                         \
    X(REQUEST, "request") X(RESULT, "result")                                                      \
    X(TOKENS, "tokens") X(LOGPROB, "logprob") X(MEAN_LOGPROB, "mean_logprob") X(PPL, "ppl")        \
    X(MEAN_RANK, "mean_rank") X(MEAN_LOGRANK, "mean_logrank") X(ENTROPY, "entropy") X(LRR, "lrr")  \
    X(FAST_DETECT, "fast_detect") X(GLTR, "gltr") X(ALL_TOKENS, "all_tokens")                      \
    X(WINDOWS, "windows") X(BINOCULARS, "binoculars") X(BINOCULARS_PAPER, "binoculars_paper")      \
    X(FAST_DETECT_OBSERVER, "fast_detect_observer") X(PER_TOKEN, "per_token")
typedef enum {
#define X(name, text) SCORE_FIELD_##name,
    SCORE_FIELD_MAP(X)
#undef X
        SCORE_N_FIELDS
} score_field;

typedef struct {
    int64_t all_tokens;       /* of the text */
    size_t ids_at, n_ids;     /* in window.ids: what is looked at, <|endoftext|> in front included */
    size_t pass_at, n_passes; /* in window.passes; 0: there is nothing to score */
    size_t found_at;          /* in stats, cross and top: its positions in their order */
    size_t n_rows;            /* through the model */
} score_text;

typedef struct {
    records_window records; /* judged: a tdm_score_window of its own */
    tdm_ids ids;
    score_text *texts;      /* [cap_texts] one for each good record */
    tdm_score_text *passes; /* [cap_passes] n_passes are in use */
    tdm_stat *stats;        /* [cap_found] */
    tdm_cross *cross;       /* [cap_found]; NULL without an observer */
    tdm_top *top;           /* [cap_found, args.gltr]; NULL where that is 0 */
    size_t n_passes, cap_texts, cap_passes, cap_found;
} score_window;

typedef struct {
    score_args args;
    gpt2_folder folder, observer_folder;
    gpt2_model *model, *observer;
    size_t context, stride; /* of the model; resolved */
    const char *project;    /* what GLTR calls the model: [project_len] the last name of --model */
    size_t project_len;
    fields fields;
    score_field shown[SCORE_N_FIELDS]; /* [fields.n] */
    tdm_backend backend;
    tdm_scorer *scorer;
    records records;
    score_window windows[SCORE_WINDOWS];
} score_job;

/* ---- score_window.c ---- */

/* records_steps.prepare; ctx is the job, and window the first member of a score_window. */
tdm_status score_prepare(void *ctx, records_window *window, tdm_err *err);
void score_window_close(score_window *w); /* {0} is fine */

/* ---- score_write.c, score_gltr.c ---- */

/* records_steps.put; likewise. */
tdm_status score_put(void *ctx, const records_window *window, tdm_record *record, size_t text, uint64_t *tokens,
                     tdm_err *err);
/* At entry i of a list that may be long: TDM_ESTOPPED once a signal came, which is looked for now and then. */
tdm_status score_check_signal(const score_job *job, size_t i, tdm_err *err);
/* Append GLTR's "request" and "result" of a text. */
tdm_status score_put_request(const score_job *job, const tdm_record *r, tdm_buf *line, tdm_err *err);
tdm_status score_put_result(const score_job *job, const score_window *w, const score_text *t, tdm_buf *line,
                            tdm_err *err);

#endif
