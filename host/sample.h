/* host/sample.h - drawing a token from logits, on the CPU: the definition all backends follow.
 *
 * In this order, in f32 logits: divide by the temperature; top-k keeps every logit >= the k-th
 * largest (ties survive); top-p on the softmax of what is left:
 *   openai  n = number of inclusive cumulative sums (falling order) that are <= p; keep every logit
 *           >= the one at index max(n - 1, 0): the token that crosses p is out, ties survive
 *   hf      the smallest top set whose mass is >= p, ties broken by the lower id
 * then Gumbel-max over the survivors: the largest logit + Gumbel noise wins, the lowest id on equal
 * values. The noise of vocabulary entry v is word v % 4 of Philox4x32-10 with
 *   key = seed, counter = (v / 4, position, document low, document high).
 * Temperature 0: the lowest id of the largest logit. p >= 1 is off.
 * Source: openai/gpt-2 src/sample.py; Salmon et al. 2011 (Philox). */
#ifndef HOST_SAMPLE_H
#define HOST_SAMPLE_H

#include <stdint.h>

#include "host/backend.h"

typedef struct tdm_sampler tdm_sampler; /* scratch memory for one thread */

tdm_status tdm_sampler_open(int32_t n_vocab, tdm_sampler **out, tdm_err *err);
void tdm_sampler_close(tdm_sampler *s); /* NULL is fine */

/* One draw from logits [n_vocab]. Returns the id, or -1 when a logit is NaN or infinite. */
int32_t tdm_sample_row(tdm_sampler *s, const float *logits, const tdm_draw *draw);

/* The p of one document for --top-p A:B: uniform in [a, b), from position 0xFFFFFFFF. */
float tdm_draw_top_p(uint64_t seed, uint64_t document, float a, float b);

#endif
