/* host/dtype.h - the number formats of weights and activations. */
#ifndef HOST_DTYPE_H
#define HOST_DTYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum { TDM_F32, TDM_F16, TDM_BF16 } tdm_dtype;

static inline size_t tdm_dtype_size(tdm_dtype t)
{
    return t == TDM_F32 ? 4 : 2;
}

const char *tdm_dtype_name(tdm_dtype t); /* "f32", "f16", "bf16" */

/* Widen n values to f32, exactly: subnormals, infinities and the bits of NaNs too.
 *   dst  [n]
 *   src  [n] values of `type`; need not be aligned; may not overlap dst */
void tdm_to_f32(float *dst, const void *src, tdm_dtype type, size_t n);

/* Round n values to the nearest of `type`, ties to even; too large: infinity; NaN stays NaN.
 *   dst  [n] values of `type`; need not be aligned; may be src */
void tdm_from_f32(void *dst, tdm_dtype type, const float *src, size_t n);

/* Index of the first NaN or infinity among n values, or n. src need not be aligned. */
size_t tdm_first_not_finite(const void *src, tdm_dtype type, size_t n);

#endif
