/* host/generate.h - from (seed, id, prompt) to documents, in the order of their ids.
 *
 *   tdm_generate_options o = TDM_GENERATE_DEFAULTS;
 *   o.n = 1000;
 *   o.top_k = 40;
 *   tdm_generate_to to = {.deliver = write_it, .ctx = &file};
 *   TDM_TRY(tdm_generate(model, bpe, &o, NULL, &to, &totals, err));
 *
 * A document depends on the model, the options, the seed, its id and its prompt alone: not on
 * o.batch, nor on the others. Memory is bounded: texts wait for their turn in a window of
 * tdm_generate_window(batch, context) documents.
 *
 * Thread safety: one call, one thread: that of the model's backend. */
#ifndef HOST_GENERATE_H
#define HOST_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/chunk.h"
#include "host/err.h"
#include "host/gpt2.h"
#include "host/record.h"
#include "host/stop.h"
#include "tokenizer/bpe.h"

typedef struct {
    uint64_t n;         /* documents, where there are no prompts; >= 1 */
    uint64_t seed;
    uint64_t first_id;  /* id = first_id + number; the id is what draws depend on */
    int32_t length;     /* new tokens at most; 0: what fits the context */
    float temperature;  /* 0: the lowest id of the largest logit */
    int32_t top_k;      /* 0: off */
    float top_p[2];     /* p, or the range that each document draws its p from; 1, 1: off */
    tdm_nucleus nucleus;
    int32_t samples_per_prompt;
    int32_t batch;      /* texts at once; changes speed and memory, not results. For tdm_generate_plan: 0 is
                           what is useful */
    int32_t pages;      /* of the cache, as tdm_generate_plan says; 0: enough for every text */
    const tdm_stop *stop; /* set: stop after this step. NULL allowed */
} tdm_generate_options;
#define TDM_GENERATE_DEFAULTS                                                                      \
    {                                                                                              \
        .n = 1, .temperature = 1.f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1       \
    }

/* One document, or what was wrong with it. All pointers are valid during the call that gets it. */
typedef struct {
    uint64_t id;
    const tdm_record *bad; /* NULL: fine, and the rest is set */
    bool ended;            /* <|endoftext|> was drawn */
    const int32_t *ids;    /* [length] new tokens, without the prompt and <|endoftext|> */
    int32_t length;
    const char *text; /* [text_len] the new tokens as valid UTF-8 */
    size_t text_len;
    bool has_p; /* top_p is a range */
    float p;
    const char *prompt_id; /* [prompt_id_len] JSON source of the prompt's id; NULL without prompts */
    size_t prompt_id_len;
} tdm_document;

/* Where documents go. With chunks (host/chunk.h, of chunk_documents documents by their number, counted from
 * first_id), those that are not wanted are left out: nothing of another document depends on them. */
typedef struct {
    tdm_status (*deliver)(void *ctx, const tdm_document *d, tdm_err *err); /* in order of ids */
    void (*tick)(void *ctx, int32_t n_tokens); /* after each step: tokens drawn. NULL allowed */
    /* All documents of a wanted chunk have been delivered. skipped: blank lines in front of the prompts whose
     * first document is in it, in the last chunk also those at the end; hash: of all prompts up to its last.
     * A file of prompts that holds none has one chunk, which is empty. NULL without chunks */
    tdm_status (*end_chunk)(void *ctx, const tdm_chunk *chunk, tdm_err *err);
    /* Set: one document at a time, and this is asked when all before it were delivered. false: it is not written but
     * delivered as bad, class device-fault, detail *reason. number: from 0, without first_id. NULL allowed */
    bool (*begin)(void *ctx, uint64_t number, const char **reason);
    uint64_t chunk_documents; /* 0: no chunks */
    tdm_chunk_filter filter;
    void *ctx;
} tdm_generate_to;

typedef struct {
    uint64_t documents, bad, ended;
    uint64_t tokens;        /* new tokens of good documents, without <|endoftext|> */
    uint64_t prompt_tokens; /* of good documents */
    uint64_t hash;          /* tdm_hash_ids over the new tokens of good documents, in order of ids */
} tdm_generate_totals;

/* Check options against a model.
 * Errors: TDM_EARG with the name of the option, the value and the limit. */
tdm_status tdm_generate_check(const tdm_generate_options *o, const tdm_config *config, tdm_err *err);

/* Tokens of one text at most: the context that a run needs. */
int32_t tdm_generate_context(const tdm_generate_options *o, const tdm_config *config,
                             bool has_prompts);

/* The memory of a run, beside the weights. */
typedef struct {
    int32_t batch, pages;       /* for the options of the same names */
    size_t page_bytes;          /* of one page */
    size_t cache_bytes, scratch_bytes;
} tdm_generate_memory;

/* Plan a run in `memory` bytes (0: unknown).
 * On the CPU a run has pages for all of its texts; o->batch 0 is 64 texts, or what half of the memory
 * allows. On a device the cache takes what is left beside the scratch and a reserve, and may have
 * fewer pages than its texts could fill; o->batch 0 is 1024 texts, or at most twice what the cache holds at
 * full length. Never more texts than there are documents.
 * Errors: TDM_ENOMEM with the numbers and the largest batch that would do. */
tdm_status tdm_generate_plan(const tdm_backend *be, const tdm_config *config,
                             const tdm_generate_options *o, bool has_prompts, size_t memory,
                             tdm_generate_memory *plan, tdm_err *err);

/* Documents that are in work or wait for one before them, at most: a number that the batch makes useful,
 * unless their ids would take more than 256 MiB of the host's memory; never fewer than the batch. */
size_t tdm_generate_window(int32_t batch, int32_t context);

/* Write documents.
 *   bpe      the model's tokenizer: prompts to ids, ids to text
 *   prompts  NULL: o->n documents that start from <|endoftext|>. Else o->samples_per_prompt for each
 *            record; a bad record is delivered as such, with the first of the ids it would have had, and in
 *            its chunk, and takes them all.
 *            While a prompt must be waited for, those at hand are written
 *   totals   counted up to the end or to the error
 * Errors: TDM_ESTOPPED by o->stop; TDM_EARG, also for more prompts than there are ids; those of the
 * backend, of the reader and of deliver. */
tdm_status tdm_generate(const gpt2_model *model, const tdm_bpe *bpe, const tdm_generate_options *o,
                        tdm_reader *prompts, const tdm_generate_to *to, tdm_generate_totals *totals,
                        tdm_err *err);

/* Append a document as a line of the GPT-2 output dataset, as Python's json.dumps writes it:
 * {"id": 7, "ended": true, "length": 3, "text": "..."}, then "p" and "prompt_id" where set. */
tdm_status tdm_document_put(tdm_buf *out, const tdm_document *d, tdm_err *err);

#endif
