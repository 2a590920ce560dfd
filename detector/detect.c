/* detector/detect.c - one window of texts: tokenise on all threads, pack, one forward per batch. */
#include "detector/detect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "detector/pack.h"
#include "detector/roberta.h"
#include "host/checkpoint.h"
#include "host/threads.h"

struct tdm_detector {
    tdm_config config;
    tdm_preprocess preprocess;
    tdm_bpe *bpe;
    tdm_threads *threads;
    roberta *model;
    int32_t max_rows, max_texts;
    int32_t *batch_ids;    /* [max_rows] */
    int32_t *batch_starts; /* [max_texts + 1] */
    float *logits;         /* [max_texts, 2] */
    /* of the window, grown to the largest that was seen */
    size_t cap;
    int32_t *ids;     /* [cap, context] */
    int32_t *lengths; /* [cap]; 0: an empty text */
    uint32_t *order;  /* [cap] */
    size_t *ends;     /* [cap] */
};

/* ---- opening ---- */

/* Errors of the file readers name the folder already; those of what the files mean do not. */
static tdm_status name_folder(const char *dir, tdm_status st, tdm_err *err)
{
    return err && !strstr(err->msg, dir) ? tdm_context(err, st, "%s", dir) : st;
}

static tdm_status open_tokenizer(tdm_detector *d, const char *dir,
                                 const tdm_detect_options *options, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_bpe_open_dir(dir, &d->bpe, err));
    TDM_TRY(tdm_preprocess_init(&d->preprocess, d->bpe, options->preprocess, d->config.n_context,
                                d->config.bos, d->config.eos, err));
    TDM_REQUIRE(tdm_bpe_size(d->bpe) <= d->config.n_vocab, TDM_EFORMAT,
                "the vocabulary has ids up to %d, the model has %d", (int)tdm_bpe_size(d->bpe) - 1,
                d->config.n_vocab);
    TDM_TRY(tdm_threads_open(options->threads, &d->threads, err));
done:
    return st;
}

static tdm_status open_model(tdm_detector *d, const char *dir, const tdm_backend *be,
                             const tdm_detect_options *options, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_checkpoint *ck = NULL;
    const int64_t context = d->config.n_context;
    int64_t rows = options->max_rows > context ? options->max_rows : context;
    if (options->batch && options->batch < rows / context)
        rows = options->batch * context;
    d->max_rows = (int32_t)rows;
    /* The shortest text is <s>, one token, </s>. */
    const int64_t texts = rows / 3;
    d->max_texts = (int32_t)(options->batch && options->batch < texts ? options->batch : texts);

    TDM_TRY(tdm_checkpoint_open(dir, &ck, err));
    TDM_TRY(roberta_open(be, ck, &d->config, &(roberta_limits){d->max_rows, d->max_texts},
                         !options->skip_weight_check, &d->model, err));
    d->batch_ids = calloc((size_t)d->max_rows, sizeof *d->batch_ids);
    d->batch_starts = calloc((size_t)d->max_texts + 1, sizeof *d->batch_starts);
    d->logits = calloc((size_t)d->max_texts, ROBERTA_LABELS * sizeof *d->logits);
    TDM_REQUIRE(d->batch_ids && d->batch_starts && d->logits, TDM_ENOMEM, "batch of %d tokens",
                (int)d->max_rows);
done:
    tdm_checkpoint_close(ck);
    return st;
}

tdm_status tdm_detector_open(const char *dir, const tdm_backend *be,
                             const tdm_detect_options *options, tdm_detector **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_detector *d = calloc(1, sizeof *d);
    TDM_REQUIRE(d, TDM_ENOMEM, "detector handle");
    TDM_REQUIRE(options->batch >= 0, TDM_EARG, "batch of %lld texts", (long long)options->batch);
    TDM_TRY(tdm_config_load(dir, &d->config, err));
    TDM_REQUIRE(d->config.arch == TDM_ROBERTA, TDM_EFORMAT,
                "a GPT-2 model, which writes and cannot judge: want a RoBERTa with a classifier");
    TDM_TRY(open_tokenizer(d, dir, options, err));
    TDM_TRY(open_model(d, dir, be, options, err));
    *out = d;
    d = NULL;
done:
    tdm_detector_close(d);
    return st == TDM_OK ? TDM_OK : name_folder(dir, st, err);
}

static void free_window(tdm_detector *d)
{
    free(d->ids);
    free(d->lengths);
    free(d->order);
    free(d->ends);
    d->ids = NULL;
    d->lengths = NULL;
    d->order = NULL;
    d->ends = NULL;
    d->cap = 0;
}

void tdm_detector_close(tdm_detector *d)
{
    if (!d)
        return;
    free_window(d);
    free(d->batch_ids);
    free(d->batch_starts);
    free(d->logits);
    roberta_close(d->model);
    tdm_threads_close(d->threads);
    tdm_bpe_close(d->bpe);
    free(d);
}

const tdm_config *tdm_detector_config(const tdm_detector *d)
{
    return &d->config;
}

/* ---- a window ---- */

static tdm_status grow_window(tdm_detector *d, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (n <= d->cap)
        return TDM_OK;
    free_window(d);
    d->ids = calloc(n, d->preprocess.context * sizeof *d->ids);
    d->lengths = calloc(n, sizeof *d->lengths);
    d->order = calloc(n, sizeof *d->order);
    d->ends = calloc(n, sizeof *d->ends);
    TDM_REQUIRE(d->ids && d->lengths && d->order && d->ends, TDM_ENOMEM, "window of %zu texts", n);
    d->cap = n;
done:
    return st;
}

typedef struct {
    tdm_detector *d;
    const tdm_text *texts;
    tdm_detection *results;
} window;

/* Tokenise one text. Only what the model sees is kept: a text may be thousands of times longer.
 * Running out of memory is marked by length -1. */
static void tokenise(void *ctx, size_t i)
{
    const window *w = ctx;
    tdm_detector *d = w->d;
    tdm_ids ids = {0};
    tdm_detection *result = &w->results[i];
    *result = (tdm_detection){.outcome = TDM_DETECT_EMPTY};
    const tdm_status st = tdm_preprocess_text(&d->preprocess, w->texts[i].p, w->texts[i].len, &ids,
                                              &result->counts, NULL);
    if (st == TDM_OK && ids.len)
        memcpy(d->ids + i * d->preprocess.context, ids.p, ids.len * sizeof *ids.p);
    d->lengths[i] = st == TDM_OK ? (int32_t)ids.len : -1;
    tdm_ids_free(&ids);
}

static void set_result(tdm_detection *result, const float logits[ROBERTA_LABELS])
{
    double p[ROBERTA_LABELS];
    roberta_softmax(logits, p);
    result->fake = p[ROBERTA_FAKE];
    result->real = p[ROBERTA_REAL];
    result->logit_fake = logits[ROBERTA_FAKE];
    result->logit_real = logits[ROBERTA_REAL];
    result->outcome = isfinite(result->logit_fake) && isfinite(result->logit_real)
                          ? TDM_DETECTED
                          : TDM_DETECT_NON_FINITE;
}

/* One forward pass over the texts order[0 .. n). */
static tdm_status run_batch(tdm_detector *d, const uint32_t *order, size_t n,
                            tdm_detection *results, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t length = d->lengths[order[i]];
        memcpy(d->batch_ids + rows, d->ids + order[i] * d->preprocess.context,
               (size_t)length * sizeof *d->ids);
        d->batch_starts[i] = rows;
        rows += length;
    }
    d->batch_starts[n] = rows;
    TDM_TRY(roberta_classify(d->model, d->batch_ids, d->batch_starts, (int32_t)n, d->logits, err));
    for (size_t i = 0; i < n; i++)
        set_result(&results[order[i]], d->logits + i * ROBERTA_LABELS);
done:
    return st;
}

tdm_status tdm_detector_run(tdm_detector *d, const tdm_text *texts, size_t n,
                            tdm_detection *results, tdm_detect_hook *hook, void *ctx, tdm_err *err)
{
    tdm_status st = TDM_OK;
    window w = {.d = d, .texts = texts, .results = results};
    TDM_REQUIRE(n <= UINT32_MAX, TDM_EARG, "window of %zu texts", n);
    TDM_TRY(grow_window(d, n, err));
    tdm_parallel(d->threads, n, tokenise, &w);
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(d->lengths[i] >= 0, TDM_ENOMEM, "token ids of a text of %zu bytes",
                    texts[i].len);

    const size_t n_batches =
        tdm_pack(d->lengths, n, d->max_rows, (size_t)d->max_texts, d->order, d->ends);
    for (size_t b = 0, from = 0; b < n_batches; from = d->ends[b++]) {
        const size_t n_texts = d->ends[b] - from;
        TDM_TRY(run_batch(d, d->order + from, n_texts, results, err));
        const int64_t rows = d->batch_starts[n_texts];
        TDM_REQUIRE(!hook || hook(ctx, n_texts, rows), TDM_ESTOPPED, "stopped");
    }
done:
    return st;
}

const int32_t *tdm_detector_ids(const tdm_detector *d, size_t i, size_t *n)
{
    *n = (size_t)d->lengths[i];
    return d->ids + i * d->preprocess.context;
}
