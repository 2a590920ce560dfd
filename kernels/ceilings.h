/* kernels/ceilings.h - how fast the memory of the CUDA device is, for `tandem bench`: the ceilings
 * that every other speed is printed beside. Names no CUDA type. Thread safety: none; what
 * tdm_open_cuda says. */
#ifndef KERNELS_CEILINGS_H
#define KERNELS_CEILINGS_H

#include <stddef.h>

#include "host/err.h"

typedef struct {
    char name[64];       /* as the driver gives it */
    int driver, runtime; /* CUDA versions: 13000 is 13.0 */
    int multiprocessors;
    size_t memory, cache; /* bytes of the device, of its second-level cache */
    double copy, read;    /* bytes a second; copy counts those read and those written */
} tdm_ceilings;

/* Measure the device of the calling thread: that of its last tdm_open_cuda.
 *   bytes  of each of the two buffers, a multiple of 32 KiB; many times the cache for true figures
 * The buffers hold random words; each figure is the best of a few windows of 20 ms or more, and
 * both kernels are checked: the copy must add up to what was copied. Cost: blocks; allocates twice
 * `bytes` of device memory for the time of the call. Errors: TDM_ENODEV without CUDA; TDM_EARG for
 * bytes; TDM_ENOMEM; TDM_EINTERNAL for a wrong sum. */
tdm_status tdm_cuda_ceilings(size_t bytes, tdm_ceilings *out, tdm_err *err);

#endif
