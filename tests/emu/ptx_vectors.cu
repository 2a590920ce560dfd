/* tests/emu/ptx_vectors.cu - every PTX wrapper on one warp. Built by nvcc it records what the
 * hardware does; built on the emulator it is checked against that. Launches: one block of 32
 * threads. */
#include "tests/emu/ptx_vectors.h"

#include "kernels/device.cuh"

namespace
{

template <class T> __global__ void mma(uint32_t *out, const uint32_t *in)
{
    const uint32_t *p = in + 10 * threadIdx.x;
    const unsigned a[4] = {p[0], p[1], p[2], p[3]}, b[2] = {p[4], p[5]};
    float d[4];
    for (int i = 0; i < 4; i++)
        d[i] = __uint_as_float(p[6 + i]);
    tdm_mma_m16n8k16(d, a, b, T{});
    for (int i = 0; i < 4; i++)
        out[4 * threadIdx.x + i] = __float_as_uint(d[i]);
}

template <bool kTransposed> __global__ void ldmatrix(uint32_t *out, const uint32_t *in)
{
    TDM_SHARED(uint4, rows, [32]);
    unsigned r[4];
    rows[threadIdx.x] = reinterpret_cast<const uint4 *>(in)[threadIdx.x];
    __syncthreads();
    if (kTransposed)
        tdm_ldmatrix_x4_transposed(r, &rows[threadIdx.x]);
    else
        tdm_ldmatrix_x4(r, &rows[threadIdx.x]);
    for (int i = 0; i < 4; i++)
        out[4 * threadIdx.x + i] = r[i];
}

template <int kBytes> __global__ void copy(uint32_t *out, const uint32_t *in)
{
    TDM_SHARED(uint4, rows, [32]);
    tdm_cp_async16(&rows[threadIdx.x], in + 4 * threadIdx.x, kBytes);
    tdm_cp_async_commit();
    tdm_cp_async_wait<0>();
    reinterpret_cast<uint4 *>(out)[threadIdx.x] = rows[threadIdx.x];
}

__global__ void load_once(uint32_t *out, const uint32_t *in)
{
    reinterpret_cast<uint4 *>(out)[threadIdx.x] = tdm_load_once16(in + 4 * threadIdx.x);
}

__global__ void exp_2(uint32_t *out, const uint32_t *in)
{
    out[threadIdx.x] = __float_as_uint(tdm_exp2(__uint_as_float(in[threadIdx.x])));
}

} // namespace

#define LAUNCHER(name, kernel)                                                                     \
    extern "C" cudaError_t name(uint32_t *out, const uint32_t *in, cudaStream_t stream)            \
    {                                                                                              \
        TDM_LAUNCH(kernel, 1, 32, 0, stream, out, in);                                             \
        return cudaGetLastError();                                                                 \
    }
LAUNCHER(tdmv_mma_f16, mma<half>)
LAUNCHER(tdmv_mma_bf16, mma<__nv_bfloat16>)
LAUNCHER(tdmv_ldmatrix, ldmatrix<false>)
LAUNCHER(tdmv_ldmatrix_transposed, ldmatrix<true>)
LAUNCHER(tdmv_copy16, copy<16>)
LAUNCHER(tdmv_copy0, copy<0>)
LAUNCHER(tdmv_load_once, load_once)
LAUNCHER(tdmv_exp2, exp_2)
