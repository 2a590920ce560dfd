/* tests/emu/test_emulator.h - launchers of test_emulator.cu; each is one small kernel. */
#ifndef TESTS_EMU_TEST_EMULATOR_H
#define TESTS_EMU_TEST_EMULATOR_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[r] = sum of in[r * n ..] */
cudaError_t tdme_row_sum(float *out, const float *in, int rows, int n, cudaStream_t stream);
/* out[i] = out[i] * factor + term */
cudaError_t tdme_scale(float *out, int n, float factor, float term, cudaStream_t stream);
/* Any launch; every thread writes its eight numbers (blockIdx.x/y/z, threadIdx.x/y/z, gridDim.x,
 * blockDim.x) to out[8 * linear thread of the grid]. */
cudaError_t tdme_indices(int *out, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);
/* out[3 * thread ..] = __syncthreads_or, _and, _count of in[thread]; one block of n threads */
cudaError_t tdme_barrier_votes(int *out, const int *in, int n, cudaStream_t stream);
/* out[4 * lane ..] = __shfl_sync, _up, _down, _xor of in[lane] with argument and width; one warp */
cudaError_t tdme_shuffles_i32(int32_t *out, const int32_t *in, int argument, int width,
                              cudaStream_t stream);
cudaError_t tdme_shuffles_f64(double *out, const double *in, int argument, int width,
                              cudaStream_t stream);
/* In the lanes of mask, out[12 * lane ..]: ballot, any, all; unsigned add, min, max; and, or, xor;
 * signed add, min, max. One warp; other lanes return at once. */
cudaError_t tdme_votes(unsigned *out, const unsigned *in, unsigned mask, cudaStream_t stream);
/* Every thread of a grid applies each atomic to values[0 ..]: add, min, max, and, or, exch, cas */
cudaError_t tdme_atomics_i32(int *values, int blocks, int threads, cudaStream_t stream);
cudaError_t tdme_atomics_u64(unsigned long long *values, int blocks, int threads,
                             cudaStream_t stream);
/* *value: atomicInc with this limit by every thread of one block */
cudaError_t tdme_atomic_inc(unsigned *value, unsigned limit, int threads, cudaStream_t stream);
/* d[16, 8] += a[16, 16] @ b[16, 8], all row-major; bf16: of __nv_bfloat16 */
cudaError_t tdme_mma(float *d, const uint16_t *a, const uint16_t *b, int bf16, cudaStream_t stream);
/* out[4 * lane ..]: registers of ldmatrix over the 32 rows of in [32, 8] */
cudaError_t tdme_ldmatrix(unsigned *out, const uint16_t *in, int transposed, cudaStream_t stream);
/* Copies of 16 and 0 bytes, thread by thread, in two groups:
 *   out[0 .. 4 n) the first group, waited for with one group left, out[4 n .. 8 n) zeros */
cudaError_t tdme_copies(int *out, const int *in, int threads, cudaStream_t stream);
/* out[i] by case i of scalar functions; in [4] is 1, 2, 3, 4; see the test */
enum { TDME_SCALARS = 24 };
cudaError_t tdme_scalars(float *out, const float *in, cudaStream_t stream);
/* Uses `bytes` of dynamic shared memory, to the last; allow: after cudaFuncSetAttribute. */
cudaError_t tdme_much_shared(int *out, int bytes, int allow, cudaStream_t stream);
/* The last of `blocks` blocks to finish adds up what all wrote: fence and atomic. */
cudaError_t tdme_last_block(int *sum, int *parts, unsigned *count, int blocks, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
