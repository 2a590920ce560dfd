/* detector/detect.c - opening a detector. What it does with texts is in window.c. */
#include "detector/detect.h"

#include <stdlib.h>
#include <string.h>

#include "detector/detector.h"
#include "host/checkpoint.h"
#include "host/ranks.h"

/* Tokens of a forward pass. On a device: its matrix products are at their best from about 8192 rows on, and
 * at 32768 the work between two launches is hundreds of times longer than the gap; more costs only
 * memory, of which scratch may take a quarter. A CPU wants activations that stay in its cache. */
enum { DEVICE_ROWS = 32768, CPU_ROWS = 2048, MEMORY_SHARE = 4 };

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

static int64_t default_rows(const tdm_backend *be, const tdm_config *config, size_t memory)
{
    if (!strcmp(be->ops->name, "cpu"))
        return CPU_ROWS;
    const tdm_backend *one = tdm_rank_backend(be, 0);
    const size_t fit = memory / MEMORY_SHARE / roberta_row_bytes(config, one->dtype, one->n_ranks);
    return memory && fit < DEVICE_ROWS ? (int64_t)fit : DEVICE_ROWS;
}

/* How much goes through the network at once.
 *   memory  of the backend, before the weights are there; 0: unknown */
static roberta_limits choose_limits(const tdm_backend *be, const tdm_config *config, const tdm_detect_options *options,
                                    size_t memory)
{
    const int64_t context = config->n_context;
    int64_t rows = options->max_rows ? options->max_rows : default_rows(be, config, memory);
    if (rows < context)
        rows = context;
    if (options->batch && options->batch < rows / context)
        rows = options->batch * context;
    int64_t texts = rows / 3; /* the shortest text is <s>, one token, </s> */
    if (options->batch && options->batch < texts)
        texts = options->batch;
    return (roberta_limits){.rows = (int32_t)rows,
                            .texts = (int32_t)(texts < ROBERTA_MOST_TEXTS ? texts : ROBERTA_MOST_TEXTS)};
}

void tdm_detector_plan(const tdm_backend *be, const tdm_config *config, const tdm_detect_options *options,
                       size_t memory, int32_t *rows, size_t *scratch)
{
    const roberta_limits limits = choose_limits(be, config, options, memory);
    *rows = limits.rows;
    if (!roberta_run_bytes(be, config, &limits, scratch))
        *scratch = SIZE_MAX;
}

tdm_status tdm_detector_load(tdm_detector *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const roberta_limits limits = {.rows = d->max_rows, .texts = d->max_texts};
    TDM_TRY(roberta_open(d->be, d->checkpoint, &d->config, &limits, d->check_finite, &d->model, err));
    tdm_checkpoint_close(d->checkpoint);
    d->checkpoint = NULL;
    d->batch_ids = calloc((size_t)d->max_rows, sizeof *d->batch_ids);
    d->batch_starts = calloc((size_t)d->max_texts + 1, sizeof *d->batch_starts);
    TDM_REQUIRE(d->batch_ids && d->batch_starts, TDM_ENOMEM, "batch of %d tokens",
                (int)d->max_rows);
done:
    return st == TDM_OK ? TDM_OK : name_folder(d->dir, st, err);
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
    d->be = be;
    d->check_finite = !options->skip_weight_check;
    d->dir = strdup(dir);
    TDM_REQUIRE(d->dir, TDM_ENOMEM, "detector handle");
    TDM_TRY(open_tokenizer(d, dir, options, err));
    const roberta_limits limits = choose_limits(be, &d->config, options, tdm_backend_memory(be));
    d->max_rows = limits.rows;
    d->max_texts = limits.texts;
    TDM_TRY(tdm_checkpoint_open(dir, &d->checkpoint, err));
    TDM_TRY(tdm_detect_window_open(d, &d->own, err));
    *out = d;
    d = NULL;
done:
    tdm_detector_close(d);
    return st == TDM_OK ? TDM_OK : name_folder(dir, st, err);
}

void tdm_detector_close(tdm_detector *d)
{
    if (!d)
        return;
    tdm_detect_window_close(d->own);
    free(d->batch_ids);
    free(d->batch_starts);
    roberta_close(d->model);
    tdm_checkpoint_close(d->checkpoint);
    free(d->dir);
    tdm_threads_close(d->threads);
    tdm_bpe_close(d->bpe);
    free(d);
}

const tdm_config *tdm_detector_config(const tdm_detector *d)
{
    return &d->config;
}

int32_t tdm_detector_rows(const tdm_detector *d)
{
    return d->max_rows;
}

double tdm_detector_seconds(const tdm_detector *d)
{
    return tdm_threads_seconds(d->threads);
}
