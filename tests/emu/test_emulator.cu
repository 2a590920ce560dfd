/* tests/emu/test_emulator.cu - small kernels, each about one thing that the emulator stands in for.
 */
#include "kernels/device.cuh"
#include "tests/emu/test_emulator.h"

namespace
{

/* grid: rows; block: 128; part: one sum per warp. */
__global__ void __launch_bounds__(128) row_sum(float *out, const float *in, int n)
{
    TDM_SHARED(float, part, [4]);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += in[blockIdx.x * n + i];
    for (int lanes = 16; lanes; lanes /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}

} // namespace

extern "C" cudaError_t tdme_row_sum(float *out, const float *in, int rows, int n,
                                    cudaStream_t stream)
{
    TDM_LAUNCH(row_sum, rows, 128, 0, stream, out, in, n);
    return cudaGetLastError();
}
