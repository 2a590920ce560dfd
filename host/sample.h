/* host/sample.h - drawing a token from logits, on the CPU: the definition all backends follow.
 *
 * In this order: divide by the temperature, in f32; top-k keeps every logit >= the k-th largest
 * (ties survive); top-p on the masses exp(logit - largest) of what is left, in double, against
 * p * their sum:
 *   openai  n = number of inclusive cumulative sums (falling order) that are <= p; keep every logit
 *           >= the one at index max(n - 1, 0): the token that crosses p is out, ties survive
 *   hf      the smallest top set whose mass is >= p, ties broken by the lower id
 * then Gumbel-max over the survivors: the largest logit + noise wins, the lowest id on equal values.
 * The noise of vocabulary entry v is word w = v % 4 of Philox4x32-10 with
 *   key = seed, counter = (v / 4, position, document low, document high)
 *   u = (w + 1/2) / 2^32, noise = -ln(-ln(u)); noise and sum in double (host/rng.h).
 * 32 bits in u shift no probability by more than about 2^-32. Temperature 0: the lowest id of the
 * largest logit. p >= 1 is off (sample.py cuts a tail of about 1e-6 there, by rounding).
 * Source: openai/gpt-2 src/sample.py; Salmon et al. 2011 (Philox).
 *
 * Thread safety: one sampler, one thread. */
#ifndef HOST_SAMPLE_H
#define HOST_SAMPLE_H

#include <stdint.h>

#include "host/backend.h"

typedef struct tdm_sampler tdm_sampler; /* scratch memory for one thread */

/* Errors: TDM_EARG for n_vocab < 1, TDM_ENOMEM. */
tdm_status tdm_sampler_open(int32_t n_vocab, tdm_sampler **out, tdm_err *err);
void tdm_sampler_close(tdm_sampler *s); /* NULL is fine */

/* One draw from logits [n_vocab], which are not changed.
 *   draw  temperature >= 0, top_k >= 0, top_p > 0
 * Returns the id, or -1 when a logit, or a logit divided by the temperature, is NaN or infinite.
 * Cost: 0.1 to 0.3 ms for 50,257 entries; does not allocate. */
int32_t tdm_sample_row(tdm_sampler *s, const float *logits, const tdm_draw *draw);

/* The p of one document for --top-p A:B: uniform in [a, b), from position 0xFFFFFFFF. */
float tdm_draw_top_p(uint64_t seed, uint64_t document, float a, float b);

#endif
