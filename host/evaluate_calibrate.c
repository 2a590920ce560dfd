/* host/evaluate_calibrate.c - do probabilities mean what they say? */
#include <math.h>

#include "host/evaluate_state.h"

/* Numbers from 0 to 1 are summed as integers, in units of 2^-62: the same in any order. */
#define ONE 0x1p62

static void add(tdm_wide *sum, double x)
{
    *sum += (uint64_t)(x * ONE + 0.5);
}

tdm_status tdm_calibrate(const tdm_scored *set, tdm_calibration *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_wide squares = 0, scores[TDM_CALIBRATION_BINS] = {0};
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
    out->brier = (double)squares / ONE / (double)n;
    for (int b = 0; b < TDM_CALIBRATION_BINS; b++) {
        const double in_bin = (double)out->bins[b].n;
        out->bins[b].mean_score = (double)scores[b] / ONE / in_bin; /* 0 / 0 is NaN */
        out->bins[b].machine = (double)machines[b] / in_bin;
        const double gap = fabs(out->bins[b].machine - out->bins[b].mean_score);
        out->ece += in_bin > 0 ? in_bin / (double)n * gap : 0;
        out->mce = in_bin > 0 ? fmax(out->mce, gap) : out->mce;
    }
done:
    return st;
}
