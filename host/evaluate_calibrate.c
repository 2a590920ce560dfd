/* host/evaluate_calibrate.c - do probabilities mean what they say? */
#include <math.h>

#include "host/evaluate.h"

/* Neumaier's compensated sum. */
typedef struct {
    double sum, rest;
} exact_sum;

static void add(exact_sum *s, double x)
{
    const double sum = s->sum + x;
    s->rest += fabs(s->sum) >= fabs(x) ? s->sum - sum + x : x - sum + s->sum;
    s->sum = sum;
}

tdm_status tdm_calibrate(const tdm_scored *set, tdm_calibration *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    exact_sum squares = {0}, scores[TDM_CALIBRATION_BINS] = {0};
    int64_t n = 0, machines[TDM_CALIBRATION_BINS] = {0};
    *out = (tdm_calibration){0};
    for (size_t i = 0; i < set->n; i++) {
        if (set->wanted && !set->wanted[i])
            continue;
        const double score = set->scores[i], is_machine = set->machine[i] != 0;
        TDM_REQUIRE(score >= 0 && score <= 1, TDM_EFORMAT, "score %zu is %g, want a probability", i, score);
        const int bin = score < 1 ? (int)(score * TDM_CALIBRATION_BINS) : TDM_CALIBRATION_BINS - 1;
        add(&squares, (score - is_machine) * (score - is_machine));
        add(&scores[bin], score);
        machines[bin] += set->machine[i] != 0;
        out->bins[bin].n++;
        n++;
    }
    TDM_REQUIRE(n, TDM_EFORMAT, "no text to calibrate with");
    out->brier = (squares.sum + squares.rest) / (double)n;
    for (int b = 0; b < TDM_CALIBRATION_BINS; b++) {
        const double in_bin = (double)out->bins[b].n;
        out->bins[b].mean_score = (scores[b].sum + scores[b].rest) / in_bin; /* 0 / 0 is NaN */
        out->bins[b].machine = (double)machines[b] / in_bin;
        const double gap = fabs(out->bins[b].machine - out->bins[b].mean_score);
        out->ece += in_bin > 0 ? in_bin / (double)n * gap : 0;
        out->mce = in_bin > 0 ? fmax(out->mce, gap) : out->mce;
    }
done:
    return st;
}
