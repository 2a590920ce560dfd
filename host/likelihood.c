#include "host/likelihood.h"

#include <math.h>

/* What is added up, token by token. */
typedef struct {
    double logprob, rank, logrank, entropy, variance;
    double cross, cross_variance, back;
} sums;

static bool is_finite(const tdm_stat *s, const tdm_cross *c)
{
    return s->rank > 0 && isfinite(s->logprob) && isfinite(s->entropy) && isfinite(s->variance) &&
           (!c || (isfinite(c->cross) && isfinite(c->variance) && isfinite(c->back)));
}

static double quotient(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

static void add(sums *to, const tdm_stat *s, const tdm_cross *c)
{
    to->logprob += (double)s->logprob;
    to->rank += s->rank;
    to->logrank += log(s->rank);
    to->entropy += (double)s->entropy;
    to->variance += (double)s->variance;
    if (c) {
        to->cross += (double)c->cross;
        to->cross_variance += (double)c->variance;
        to->back += (double)c->back;
    }
}

bool tdm_likelihood_of(const tdm_stat *stats, const tdm_cross *cross, size_t n, bool behind, tdm_likelihood *out)
{
    sums sum = {0};
    const double N = (double)n, positions = (double)(n + behind);
    *out = (tdm_likelihood){
        .tokens = (int64_t)n, .binoculars = NAN, .binoculars_paper = NAN, .fast_detect_observer = NAN};
    for (size_t i = 0; i < n + behind; i++)
        if (!is_finite(&stats[i], cross ? &cross[i] : NULL))
            return false;
    for (size_t i = 0; i < n; i++) {
        add(&sum, &stats[i], cross ? &cross[i] : NULL);
        out->gltr[tdm_gltr_bucket(stats[i].rank)]++;
    }
    out->logprob = sum.logprob;
    out->mean_logprob = sum.logprob / N;
    out->ppl = exp(-out->mean_logprob);
    out->mean_rank = sum.rank / N;
    out->mean_logrank = sum.logrank / N;
    out->entropy = (sum.entropy + (behind ? (double)stats[n].entropy : 0)) / positions;
    out->lrr = quotient(-sum.logprob, sum.logrank);
    out->fast_detect = quotient(sum.logprob + sum.entropy, sqrt(sum.variance));
    if (!cross)
        return true;
    const double mean_cross = (sum.cross + (behind ? (double)cross[n].cross : 0)) / positions;
    const double mean_back = (sum.back + (behind ? (double)cross[n].back : 0)) / positions;
    out->binoculars = quotient(-out->mean_logprob, mean_cross);
    out->binoculars_paper = quotient(-out->mean_logprob, mean_back);
    out->fast_detect_observer = quotient(sum.logprob + sum.cross, sqrt(sum.cross_variance));
    return true;
}
