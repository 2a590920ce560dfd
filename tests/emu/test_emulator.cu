/* tests/emu/test_emulator.cu - small kernels, each about one thing that the emulator stands in for.
 */
#include "tests/emu/test_emulator.h"

#include "kernels/device.cuh"

namespace
{

constexpr unsigned kAll = 0xffffffffu;

/* grid: rows; block: 128; part: one sum per warp. */
__global__ void __launch_bounds__(128) row_sum(float *out, const float *in, int n)
{
    TDM_SHARED(float, part, [4]);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += in[blockIdx.x * n + i];
    for (int lanes = 16; lanes; lanes /= 2)
        sum += __shfl_xor_sync(kAll, sum, lanes);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}

__global__ void scale(float *out, int n, float factor, float term)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = out[i] * factor + term;
}

__global__ void indices(int *out)
{
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    int *p = out + 8 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
    const unsigned values[8] = {blockIdx.x,  blockIdx.y,  blockIdx.z, threadIdx.x,
                                threadIdx.y, threadIdx.z, gridDim.x,  blockDim.x};
    for (int i = 0; i < 8; i++)
        p[i] = static_cast<int>(values[i]);
}

__global__ void barrier_votes(int *out, const int *in)
{
    const int predicate = in[threadIdx.x];
    out[3 * threadIdx.x] = __syncthreads_or(predicate);
    out[3 * threadIdx.x + 1] = __syncthreads_and(predicate);
    out[3 * threadIdx.x + 2] = __syncthreads_count(predicate);
}

template <class T> __global__ void shuffles(T *out, const T *in, int argument, int width)
{
    const T value = in[threadIdx.x];
    T *p = out + 4 * threadIdx.x;
    p[0] = __shfl_sync(kAll, value, argument, width);
    p[1] = __shfl_up_sync(kAll, value, argument, width);
    p[2] = __shfl_down_sync(kAll, value, argument, width);
    p[3] = __shfl_xor_sync(kAll, value, argument, width);
}

__global__ void votes(unsigned *out, const unsigned *in, unsigned mask)
{
    const unsigned value = in[threadIdx.x];
    const int as_int = static_cast<int>(value);
    unsigned *p = out + 12 * threadIdx.x;
    if (!(mask >> threadIdx.x & 1))
        return;
    p[0] = __ballot_sync(mask, value & 1);
    p[1] = __any_sync(mask, value & 2);
    p[2] = __all_sync(mask, value & 4);
    p[3] = __reduce_add_sync(mask, value);
    p[4] = __reduce_min_sync(mask, value);
    p[5] = __reduce_max_sync(mask, value);
    p[6] = __reduce_and_sync(mask, value);
    p[7] = __reduce_or_sync(mask, value);
    p[8] = __reduce_xor_sync(mask, value);
    p[9] = static_cast<unsigned>(__reduce_add_sync(mask, as_int));
    p[10] = static_cast<unsigned>(__reduce_min_sync(mask, as_int));
    p[11] = static_cast<unsigned>(__reduce_max_sync(mask, as_int));
}

template <class T> __global__ void atomics(T *values)
{
    const T id = static_cast<T>(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(&values[0], id);
    atomicMin(&values[1], id);
    atomicMax(&values[2], id);
    atomicAnd(&values[3], ~(static_cast<T>(1) << id % 31));
    atomicOr(&values[4], static_cast<T>(1) << id % 31);
    atomicExch(&values[5], id);
    atomicCAS(&values[6], static_cast<T>(0), id + 1);
}

__global__ void atomic_inc(unsigned *value, unsigned limit)
{
    atomicInc(value, limit);
}

/* One warp; fragments as kernels/device.cuh describes them. */
template <class T> __global__ void mma(float *d, const uint16_t *a, const uint16_t *b)
{
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const auto pair = [](uint16_t low, uint16_t high) {
        return low | static_cast<unsigned>(high) << 16;
    };
    unsigned left[4], right[2];
    float sum[4];
    for (int i = 0; i < 4; i++) {
        const uint16_t *p = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
        left[i] = pair(p[0], p[1]);
        sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    }
    for (int i = 0; i < 2; i++) {
        const uint16_t *p = b + (2 * t + i * 8) * 8 + g;
        right[i] = pair(p[0], p[8]);
    }
    tdm_mma_m16n8k16(sum, left, right, T{});
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

__global__ void load_matrices(unsigned *out, const uint16_t *in, int transposed)
{
    TDM_SHARED(uint16_t, rows, [32][8]);
    unsigned r[4];
    for (int i = 0; i < 8; i++)
        rows[threadIdx.x][i] = in[threadIdx.x * 8 + i];
    __syncthreads();
    if (transposed)
        tdm_ldmatrix_x4_transposed(r, rows[threadIdx.x]);
    else
        tdm_ldmatrix_x4(r, rows[threadIdx.x]);
    for (int i = 0; i < 4; i++)
        out[4 * threadIdx.x + i] = r[i];
}

/* shared: 8 ints per thread. A thread reads what it copied, so it needs no barrier. */
__global__ void copies(int *out, const int *in)
{
    TDM_SHARED_DYNAMIC(base);
    int *first = tdm_carve<int>(base, 0, 4 * blockDim.x);
    int *second = tdm_carve<int>(base, 16 * blockDim.x, 4 * blockDim.x);
    const int at = 4 * threadIdx.x, n = 4 * blockDim.x;
    tdm_cp_async16(first + at, in + at, 16);
    tdm_cp_async_commit();
    tdm_cp_async16(second + at, in + at, 0);
    tdm_cp_async_commit();
    tdm_cp_async_wait<1>();
    for (int i = 0; i < 4; i++)
        out[at + i] = first[at + i];
    tdm_cp_async_wait<0>();
    for (int i = 0; i < 4; i++)
        out[n + at + i] = second[at + i];
}

__global__ void scalars(float *out, const float *in)
{
    const uint4 words = tdm_load_once16(in);
    const float values[TDME_SCALARS] = {
        static_cast<float>(words.x == 0x3f800000u && words.w == 0x40800000u),
        tdm_exp2(3.0f),
        tdm_exp2(-INFINITY),
        tdm_exp2(-140.0f),
        tdm_exp2(0.5f),
        static_cast<float>(__umulhi(0x80000000u, 6u)),
        static_cast<float>(__popc(0xf0f0u)),
        static_cast<float>(__clz(1)),
        static_cast<float>(__clz(0)),
        static_cast<float>(__ffs(8)),
        static_cast<float>(__ffs(0)),
        __int_as_float(0x3f800000),
        __uint_as_float(0xc0000000u),
        static_cast<float>(__float_as_int(1.0f) == 0x3f800000),
        static_cast<float>(__float_as_uint(-0.0f) == 0x80000000u),
        rsqrtf(4.0f),
        static_cast<float>(min(-1, 2)),
        static_cast<float>(max(3u, 2u)),
        fmaxf(NAN, 2.0f),
        __half2float(
            __hfma2(__floats2half2_rn(2, 3), __floats2half2_rn(4, 5), __floats2half2_rn(1, 1)).y),
        __bfloat162float(
            __hfma(__float2bfloat16_rn(2), __float2bfloat16_rn(3), __float2bfloat16_rn(1))),
        __half2float(__float2half_rn(2049.0f)),
        __bfloat162float(__float2bfloat16_rn(257.0f)),
        __fdividef(1.0f, 4.0f),
    };
    for (int i = 0; i < TDME_SCALARS; i++)
        out[i] = values[i];
}

__global__ void much_shared(int *out, int bytes)
{
    TDM_SHARED_DYNAMIC(base);
    int *all = tdm_carve<int>(base, 0, bytes / sizeof(int));
    all[bytes / sizeof(int) - 1] = 7;
    *out = all[bytes / sizeof(int) - 1];
}

/* block: 32. The fence makes the part visible before the count does; the count says who is last. */
__global__ void last_block(int *sum, int *parts, unsigned *count)
{
    if (threadIdx.x != 0)
        return;
    parts[blockIdx.x] = blockIdx.x + 1;
    __threadfence();
    if (atomicInc(count, gridDim.x - 1) != gridDim.x - 1)
        return;
    __threadfence();
    int all = 0;
    for (unsigned i = 0; i < gridDim.x; i++)
        all += parts[i];
    *sum = all;
}

} // namespace

#define LAUNCH(kernel, ...)                                                                        \
    TDM_LAUNCH(kernel, __VA_ARGS__);                                                               \
    return cudaGetLastError()

extern "C" {

cudaError_t tdme_row_sum(float *out, const float *in, int rows, int n, cudaStream_t stream)
{
    LAUNCH(row_sum, rows, 128, 0, stream, out, in, n);
}
cudaError_t tdme_scale(float *out, int n, float factor, float term, cudaStream_t stream)
{
    LAUNCH(scale, (n + 31) / 32, 32, 0, stream, out, n, factor, term);
}
cudaError_t tdme_indices(int *out, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream)
{
    LAUNCH(indices, grid, block, shared_bytes, stream, out);
}
cudaError_t tdme_barrier_votes(int *out, const int *in, int n, cudaStream_t stream)
{
    LAUNCH(barrier_votes, 1, n, 0, stream, out, in);
}
cudaError_t tdme_shuffles_i32(int32_t *out, const int32_t *in, int argument, int width,
                              cudaStream_t stream)
{
    LAUNCH(shuffles<int32_t>, 1, 32, 0, stream, out, in, argument, width);
}
cudaError_t tdme_shuffles_f64(double *out, const double *in, int argument, int width,
                              cudaStream_t stream)
{
    LAUNCH(shuffles<double>, 1, 32, 0, stream, out, in, argument, width);
}
cudaError_t tdme_votes(unsigned *out, const unsigned *in, unsigned mask, cudaStream_t stream)
{
    LAUNCH(votes, 1, 32, 0, stream, out, in, mask);
}
cudaError_t tdme_atomics_i32(int *values, int blocks, int threads, cudaStream_t stream)
{
    LAUNCH(atomics<int>, blocks, threads, 0, stream, values);
}
cudaError_t tdme_atomics_u64(unsigned long long *values, int blocks, int threads,
                             cudaStream_t stream)
{
    LAUNCH(atomics<unsigned long long>, blocks, threads, 0, stream, values);
}
cudaError_t tdme_atomic_inc(unsigned *value, unsigned limit, int threads, cudaStream_t stream)
{
    LAUNCH(atomic_inc, 1, threads, 0, stream, value, limit);
}
cudaError_t tdme_mma(float *d, const uint16_t *a, const uint16_t *b, int bf16, cudaStream_t stream)
{
    if (bf16)
        TDM_LAUNCH(mma<__nv_bfloat16>, 1, 32, 0, stream, d, a, b);
    else
        TDM_LAUNCH(mma<half>, 1, 32, 0, stream, d, a, b);
    return cudaGetLastError();
}
cudaError_t tdme_ldmatrix(unsigned *out, const uint16_t *in, int transposed, cudaStream_t stream)
{
    LAUNCH(load_matrices, 1, 32, 0, stream, out, in, transposed);
}
cudaError_t tdme_copies(int *out, const int *in, int threads, cudaStream_t stream)
{
    LAUNCH(copies, 1, threads, 32 * static_cast<size_t>(threads), stream, out, in);
}
cudaError_t tdme_scalars(float *out, const float *in, cudaStream_t stream)
{
    LAUNCH(scalars, 1, 1, 0, stream, out, in);
}
cudaError_t tdme_much_shared(int *out, int bytes, int allow, cudaStream_t stream)
{
    const void *kernel = reinterpret_cast<const void *>(much_shared);
    const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               allow ? bytes : 48 << 10);
    if (e != cudaSuccess)
        return e;
    LAUNCH(much_shared, 1, 1, bytes, stream, out, bytes);
}
cudaError_t tdme_last_block(int *sum, int *parts, unsigned *count, int blocks, cudaStream_t stream)
{
    LAUNCH(last_block, blocks, 32, 0, stream, sum, parts, count);
}
}
