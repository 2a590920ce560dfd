/* host/evaluate.h - how well a score parts machine texts from human ones.
 *
 *   const tdm_scored set = {scores, machine, NULL, n};          // a higher score: rather a machine
 *   TDM_TRY(tdm_ranking_open(&set, &ranking, err));             // sorted, ties in groups
 *   tdm_evaluate(ranking, &options, &values);                   // the point estimates
 *   TDM_TRY(tdm_bootstrap(ranking, &options, &boot, &interval, err));
 *   tdm_ranking_close(ranking);
 *
 * A text is called a machine's when its score >= the threshold. Definitions are those of scikit-learn where it has
 * them (roc_auc_score, average_precision_score, precision_recall_curve, roc_curve, f1_score), machine the positive
 * class. Equal scores (-0 and 0 are) are one group: no threshold parts them, and each pair of them counts a half in
 * AUROC. Sums are of integers, so neither order nor size costs accuracy: a value is within 2^-51 of the true one.
 * Thread safety: a ranking is not changed once it is open. */
#ifndef HOST_EVALUATE_H
#define HOST_EVALUATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/stop.h"

/* n scored texts; borrowed. */
typedef struct {
    const double *scores;    /* [n] finite */
    const uint8_t *machine;  /* [n] 1: a machine wrote it; 0: a human */
    const uint8_t *wanted;   /* [n] 1: takes part; NULL: all do */
    size_t n;
} tdm_scored;

typedef struct tdm_ranking tdm_ranking;

/* Sort those that are wanted; the set is not needed afterwards. Linear in n; 9 bytes a text, while sorting 17.
 * Errors: TDM_EFORMAT for a wanted score that is not finite (the first one's index in the set) and when a class has no
 * text; TDM_EARG for 2^32 texts or more; TDM_ENOMEM. */
tdm_status tdm_ranking_open(const tdm_scored *set, tdm_ranking **out, tdm_err *err);
void tdm_ranking_close(tdm_ranking *r); /* NULL is fine */
size_t tdm_ranking_humans(const tdm_ranking *r);
size_t tdm_ranking_machines(const tdm_ranking *r);

/* ---- values ---- */

enum { TDM_FPRS_MOST = 8 };

typedef struct {
    double threshold;  /* of the values at a threshold; NaN: none, these values are NaN */
    double fprs[TDM_FPRS_MOST]; /* [n_fprs] targets, each in [0, 1] */
    int n_fprs;
} tdm_evaluate_options;

typedef struct {
    int64_t machine_right, machine_wrong; /* true positives, false negatives */
    int64_t human_right, human_wrong;     /* true negatives, false positives */
} tdm_confusion;

/* The largest TPR with FPR <= target, and of the thresholds that have it the highest. */
typedef struct {
    double threshold; /* the smallest score that is called a machine's; +infinity: none is */
    double tpr, fpr;  /* at this threshold; fpr never above the target, both as doubles */
} tdm_operating_point;

typedef struct {
    double auroc;
    double average_precision; /* sum of (R_i - R_{i-1}) P_i */
    double pr_auc;            /* trapezoids under the precision-recall curve, which begins at precision 1 */
    tdm_confusion confusion;  /* at options.threshold; zeros without one */
    double accuracy, balanced_accuracy, precision, recall, f1; /* 0 / 0 is 0 */
    tdm_operating_point at_fpr[TDM_FPRS_MOST]; /* of options.fprs; zeros behind the last */
} tdm_values;

void tdm_evaluate(const tdm_ranking *r, const tdm_evaluate_options *options, tdm_values *out);

tdm_confusion tdm_confusion_at(const tdm_ranking *r, double threshold); /* O(log n); NaN: zeros */
double tdm_accuracy(const tdm_confusion *c);          /* right / all; 0 / 0 is 0 */
double tdm_balanced_accuracy(const tdm_confusion *c); /* mean of TPR and TNR; 0 / 0 is 0 */

/* The threshold of the best balanced accuracy: half way between the two neighbouring scores that it parts (the upper
 * one where no double lies between them), or -infinity, which calls all texts a machine's, or +infinity, which calls
 * none. Of several that are equally good the lowest. */
double tdm_best_threshold(const tdm_ranking *r);

/* ---- curves ---- */

typedef struct {
    double threshold, fpr, tpr;
} tdm_roc_point;

/* The ROC curve from (0, 0), threshold +infinity, to (1, 1), the lowest score. A curve of more than `most` points is
 * thinned: for each left out one is kept that is at most 2 / (most - 1) away, |fpr - fpr'| + |tpr - tpr'|.
 *   points  [most], most >= 2
 * Returns: how many. */
size_t tdm_roc_curve(const tdm_ranking *r, tdm_roc_point *points, size_t most);

/* ---- intervals ---- */

typedef struct {
    int64_t replicates; /* 0: intervals are NaN */
    uint64_t seed;
    double confidence;  /* in (0, 1): 0.95 */
    int threads;        /* 0: one per usable core; changes nothing in a result */
    const tdm_stop *stop; /* borrowed; ends it early. NULL allowed */
} tdm_bootstrap_options;

typedef struct {
    double low, high;
} tdm_interval;

/* NaN: not asked for. */
typedef struct {
    tdm_interval auroc, average_precision, pr_auc, accuracy, balanced_accuracy, precision, recall, f1;
    tdm_interval tpr[TDM_FPRS_MOST]; /* thresholds are found anew in each replicate */
} tdm_intervals;

/* Percentile bootstrap, stratified: each replicate draws as many humans as there are from the humans, and machines from
 * the machines, with replacement, and is evaluated as tdm_evaluate would. Of each class, the n texts in falling order
 * of their scores, draw i takes text floor(n u / 2^64), where u is the first half (i even) or the second (odd) of
 * Philox (seed; i / 2, class, replicate low, replicate high), low word first, class 0: human, 1: machine. So neither
 * threads nor the order of the input matter. A text's chance is off by less than n / 2^64 of itself. Percentiles as
 * numpy's default ("linear").
 * Cost: replicates x n x some ns, on all threads; a byte a text and thread, 128 bytes a replicate.
 * Errors: TDM_EARG for options out of range; TDM_ESTOPPED; TDM_ENOMEM. */
tdm_status tdm_bootstrap(const tdm_ranking *r, const tdm_evaluate_options *options,
                         const tdm_bootstrap_options *boot, tdm_intervals *out, tdm_err *err);

/* ---- calibration: scores that are probabilities of "machine" ---- */

enum { TDM_CALIBRATION_BINS = 10 };

typedef struct {
    struct {
        int64_t n;
        double mean_score; /* NaN where n is 0 */
        double machine;    /* share of machine texts; NaN where n is 0 */
    } bins[TDM_CALIBRATION_BINS]; /* [0, 0.1), ..., [0.9, 1]: bin floor(10 score) */
    double ece;   /* sum of n / N |machine - mean_score| */
    double mce;   /* the largest of these differences */
    double brier; /* mean of (score - machine)^2 */
} tdm_calibration;

/* Of the wanted texts; one class is enough. The order of the texts does not matter.
 * Errors: TDM_EFORMAT for a score outside [0, 1] (the first one's index), and when no text is wanted. */
tdm_status tdm_calibrate(const tdm_scored *set, tdm_calibration *out, tdm_err *err);

#endif
