/* tools/eval_wilson.h - the interval of a share that was counted. */
#ifndef TOOLS_EVAL_WILSON_H
#define TOOLS_EVAL_WILSON_H

#include <math.h>

#include "host/evaluate.h"

/* 95 % interval of k of n > 0 (Wilson 1927): of use where a bootstrap has none, at 0 of n and n of n. */
static inline tdm_interval eval_wilson(double k, double n)
{
    const double z = 1.959963984540054, share = k / n, weight = 1 / (1 + z * z / n);
    const double middle = weight * (share + z * z / (2 * n));
    const double half = weight * z * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    return (tdm_interval){fmax(middle - half, 0), fmin(middle + half, 1)};
}

#endif
