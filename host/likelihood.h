/* host/likelihood.h - from the statistics of a text's tokens to the measures that zero-shot detectors use.
 *
 *   tdm_likelihood l;
 *   if (tdm_likelihood_of(stats, cross, n, false, &l))
 *       ...l.ppl...
 *
 * n scored tokens x_1 .. x_n, natural logarithms; p the model, q the observer; rank is 1-based. Sums are in double, in
 * the order of the tokens. Formulas and where they are from:
 *
 *   logprob       L = sum ln p(x_i)                                   GLTR; DetectGPT's likelihood is L / n
 *   ppl           exp(-L / n)
 *   mean_rank     sum rank_i / n                                      DetectGPT (there negated)
 *   mean_logrank  sum ln rank_i / n                                   DetectGPT (there negated)
 *   entropy       sum H_i / n, H_i = -sum_v p ln p                    over scored positions
 *   lrr           -L / sum ln rank_i                                  Su et al., DetectLLM, 2023
 *   fast_detect   (L + sum H_i) / sqrt(sum Var_i)                     Bao et al., Fast-DetectGPT, 2023, analytic, one model
 *   gltr          ranks <= 10, <= 100, <= 1000, the rest              Gehrmann et al., GLTR, 2019; MGTBench
 *   binoculars    (-L / n) / (sum cross_i / n), cross_i = -sum_v q ln p     Hans et al., Binoculars, 2024: its released code
 *   binoculars_paper  the same with back_i = -sum_v p ln q            the formula of its paper, p as M1
 *   fast_detect_observer  (L + sum cross_i) / sqrt(sum variance_i)    Fast-DetectGPT with q as the reference model
 *
 * Thread safety: no state. */
#ifndef HOST_LIKELIHOOD_H
#define HOST_LIKELIHOOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"

enum { TDM_GLTR_BUCKETS = 4 };

/* A quotient whose divisor is 0 is NaN: lrr where every token was the likeliest, fast_detect where nothing was open. */
typedef struct {
    int64_t tokens; /* n */
    double logprob, mean_logprob, ppl, mean_rank, mean_logrank, entropy, lrr, fast_detect;
    int64_t gltr[TDM_GLTR_BUCKETS];
    double binoculars, binoculars_paper, fast_detect_observer; /* NaN without cross */
} tdm_likelihood;

/* The bucket of a 1-based rank. RAID's detector counts 0-based ranks up to and with 10: rank - 1 gives its buckets. */
static inline int tdm_gltr_bucket(int32_t rank)
{
    return (rank > 10) + (rank > 100) + (rank > 1000);
}

/* Add up n >= 1 tokens.
 *   stats   [n], or with behind [n + 1]
 *   cross   likewise, or NULL: no observer
 *   behind  the last one is of the position behind the last token: its entropies count in the means of entropy,
 *           binoculars and binoculars_paper, as in Binoculars' released code, and nowhere else
 * Returns: false when a statistic is not finite; the result is not to be used then. */
bool tdm_likelihood_of(const tdm_stat *stats, const tdm_cross *cross, size_t n, bool behind, tdm_likelihood *out);

#endif
