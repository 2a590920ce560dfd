/* tests/emu/test_emulator.h - launchers of test_emulator.cu. */
#ifndef TESTS_EMU_TEST_EMULATOR_H
#define TESTS_EMU_TEST_EMULATOR_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[r] = sum of in[r * n ..] */
cudaError_t tdme_row_sum(float *out, const float *in, int rows, int n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
