/* tests/emu/ptx_vectors.h - one launcher for every PTX wrapper of kernels/device.cuh, one warp
 * each. */
#ifndef TESTS_EMU_PTX_VECTORS_H
#define TESTS_EMU_PTX_VECTORS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Words are 32 bits, lane by lane:
 *   mma            in [32][10]: a[4], b[2], d[4]; out [32][4]
 *   ldmatrix       in [32][4]: row of 16 bytes; out [32][4]
 *   copy           in [32][4], out [32][4]: through shared memory, by copies of `bytes` (16 or 0)
 *   load_once      in [32][4], out [32][4]
 *   exp2           in [32], out [32] */
typedef cudaError_t tdmv_launcher(uint32_t *out, const uint32_t *in, cudaStream_t stream);
tdmv_launcher tdmv_mma_f16, tdmv_mma_bf16, tdmv_ldmatrix, tdmv_ldmatrix_transposed, tdmv_copy16,
    tdmv_copy0, tdmv_load_once, tdmv_exp2;

#ifdef __cplusplus
}
#endif

#endif
