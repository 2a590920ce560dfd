/* tools/raid_search.c - the threshold that RAID's evaluator would find, step by step as it does. */
#include <math.h>
#include <stdlib.h>

#include "tools/raid.h"

enum { STEPS_MOST = 50 };

size_t raid_count_below(const double *sorted, size_t n, double value)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sorted[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void raid_sort(double *values, size_t n)
{
    if (n > 1)
        qsort(values, n, sizeof *values, compare);
}

/* 1 - accuracy, in this order: the difference decides whether a target is met. */
static double fpr_at(const double *sorted, size_t n, double threshold)
{
    return 1 - (double)raid_count_below(sorted, n, threshold) / (double)n;
}

/* Of the thresholds tried, with an FPR above 0: the nearest below the target, of equals the lowest; else the nearest above, of
 * equals the highest. NaN where there is none: RAID takes the largest of nothing, and fails. */
static double best_of(const double *thresholds, const double *fprs, int n, double target)
{
    double best = NAN, best_left = 0;
    for (int i = 0; i < n; i++) {
        const double left = target - fprs[i];
        if (!(fprs[i] > 0))
            continue;
        const bool is_under = left >= 0, best_is_under = best_left >= 0;
        const bool is_better = isnan(best)                 ? true
                               : is_under != best_is_under ? is_under
                               : is_under ? left < best_left || (left <= best_left && thresholds[i] < best)
                                          : left > best_left || (left >= best_left && thresholds[i] > best);
        if (is_better) {
            best = thresholds[i];
            best_left = left;
        }
    }
    return best;
}

raid_found raid_search(const double *humans, const double *sorted, size_t n, double target)
{
    double thresholds[STEPS_MOST], fprs[STEPS_MOST];
    double sum = 0, step = 0.5, last_left = 0;
    int tried = 0;
    for (size_t i = 0; i < n; i++)
        sum += humans[i];
    double threshold = sum / (double)n;
    for (;;) {
        const double fpr = fpr_at(sorted, n, threshold), left = target - fpr;
        if (fabs(fpr - target) <= RAID_EPSILON)
            break;
        thresholds[tried] = threshold;
        fprs[tried++] = fpr;
        if (tried > 1 && (left < 0) != (last_left < 0))
            step *= -0.5;
        else if (tried > 1 && fabs(left) - fabs(last_left) > 0.01)
            step *= -1;
        threshold += step;
        last_left = left;
        if (tried == STEPS_MOST) {
            threshold = best_of(thresholds, fprs, tried, target);
            break;
        }
    }
    const double fpr = isnan(threshold) ? NAN : fpr_at(sorted, n, threshold);
    return (raid_found){threshold, fpr, fabs(fpr - target) <= RAID_EPSILON};
}
