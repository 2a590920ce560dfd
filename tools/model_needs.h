/* tools/model_needs.h - which tensors of a checkpoint a model uses, which it lacks, and how much
 * memory it takes, without reading any data.
 *
 *   model_needs needs;
 *   TDM_TRY(model_needs_check(&needs, ck, &config, err));
 *   ... needs.n_problems, needs.parameters ...
 *   model_needs_free(&needs);
 *
 * The loaders (host/gpt2.c, detector/roberta.c) stop at the first fault; this lists all of them, by
 * the loaders' own lists of tensors. */
#ifndef TOOLS_MODEL_NEEDS_H
#define TOOLS_MODEL_NEEDS_H

#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/checkpoint.h"
#include "host/config.h"
#include "host/err.h"
#include "tools/tp_plan.h"

typedef enum {
    TENSOR_UNKNOWN, /* the loader would refuse it */
    TENSOR_USED,
    TENSOR_IGNORED, /* mask buffers, pooler, position ids, a copy of a tied output matrix */
} tensor_use;

/* What each GPU has of a model that several hold together, with f16 and a useful batch (tools/tp_plan.h). */
typedef struct {
    int32_t ranks;
    tp_share share;
} model_on_gpus;
enum { MODEL_NEEDS_GPUS = 4 }; /* 1, 2, 4 and 8 of them */

typedef struct {
    tensor_use *use;  /* [tdm_checkpoint_count] */
    tdm_buf problems; /* lines without their newlines, each with a NUL: missing, wrong, unknown */
    size_t n_problems;
    uint64_t parameters;   /* in the tensors that are used */
    uint64_t weight_bytes; /* on the CPU: matrices and vectors as f32, tables to look up as in the
                              file */
    /* GPT-2 alone; RoBERTa has no cache */
    uint64_t token_bytes; /* keys and values of one token, f32 */
    int32_t run_texts;    /* texts that generate writes at once, unless told otherwise or short of
                             memory; 0: that many bytes cannot be counted */
    size_t run_cache_bytes, run_scratch_bytes; /* what it allocates for them, each of full length */
    model_on_gpus on_gpus[MODEL_NEEDS_GPUS];
    int n_on_gpus; /* as many as the model can be shared by; 0: it has problems */
} model_needs;

/* Errors: TDM_ENOMEM. Problems of the checkpoint are not errors here. */
tdm_status model_needs_check(model_needs *out, const tdm_checkpoint *ck, const tdm_config *config,
                             tdm_err *err);
void model_needs_free(model_needs *needs); /* {0} is fine */

#endif
