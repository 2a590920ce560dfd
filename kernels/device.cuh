/* kernels/device.cuh - the one CUDA header of every .cu file.
 *
 * Compiled by nvcc it is the toolkit's headers and thin wrappers of PTX instructions. Compiled by a C++
 * compiler with -DTDM_EMU it is tests/emu/device_emu.h, which gives the same names to code that runs on
 * the CPU, one fiber per CUDA thread. So that both work, a kernel has no asm, no <<<>>>, no extern
 * __shared__, no cooperative groups and no CUB; everything of that kind is here.
 *
 * Lanes of a warp do not run in lockstep: what one lane writes to shared memory another reads only after
 * __syncwarp() or __syncthreads(). */
#ifndef KERNELS_DEVICE_CUH
#define KERNELS_DEVICE_CUH

#ifdef TDM_EMU
#include "tests/emu/device_emu.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* Launch. The error is cudaGetLastError()'s, which the launcher returns. */
#define TDM_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                 \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

/* A static array in shared memory: TDM_SHARED(float, sums, [8][32]); */
#define TDM_SHARED(type, name, dims) __shared__ __align__(16) type name dims

/* The dynamic shared memory of the launch, and typed pieces of it:
 *   TDM_SHARED_DYNAMIC(base);
 *   half *keys = tdm_carve<half>(base, offset_in_bytes, count); */
#define TDM_SHARED_DYNAMIC(name) extern __shared__ __align__(128) unsigned char name[]
template <class T> __device__ __forceinline__ T *tdm_carve(unsigned char *base, size_t offset, size_t count)
{
    (void)count;
    return reinterpret_cast<T *>(base + offset);
}

__device__ __forceinline__ unsigned tdm_shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* d += a @ b on the tensor cores; a is 16 x 16 (row), b 16 x 8 (column), d 16 x 8 in f32.
 * Lane l, g = l / 4, t = l % 4. Two 16-bit values per register, the lower index in the low half:
 *   a[0] rows g    columns 2t, 2t+1      a[1] rows g + 8  columns 2t, 2t+1
 *   a[2] rows g    columns 2t+8, 2t+9    a[3] rows g + 8  columns 2t+8, 2t+9
 *   b[0] rows 2t, 2t+1, column g         b[1] rows 2t+8, 2t+9, column g
 *   d[0], d[1] row g, columns 2t, 2t+1   d[2], d[3] row g + 8
 * Source: PTX ISA, "Matrix Fragments for mma.m16n8k16". */
__device__ __forceinline__ void tdm_mma_m16n8k16(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2], half)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void tdm_mma_m16n8k16(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2], __nv_bfloat16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices of 16-bit values from shared memory: lane l gives the address of row l % 8 of
 * matrix l / 8 (16 bytes, 16-byte aligned) and receives in r[i] row l / 4, columns 2 (l % 4) and + 1 of
 * matrix i; transposed: of the transpose of matrix i. */
__device__ __forceinline__ void tdm_ldmatrix_x4(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tdm_shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void tdm_ldmatrix_x4_transposed(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tdm_shared_address(row))
                 : "memory");
}

/* Copy 16 bytes from global to shared memory without waiting; both 16-byte aligned. Of the source only
 * the first `bytes` (0 or 16) are read, the rest becomes zero. Groups are waited for in order:
 * tdm_cp_async_wait<n>() returns when at most n of this thread's groups are still under way. What
 * arrived is visible to the thread that copied it; to others after a barrier. */
__device__ __forceinline__ void tdm_cp_async16(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;\n" ::"r"(tdm_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void tdm_cp_async_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int n> __device__ __forceinline__ void tdm_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(n) : "memory");
}

/* 16 bytes that no other block will read and that this kernel does not write: past the L1. */
__device__ __forceinline__ uint4 tdm_load_once16(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];\n"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* 2^x, within 2 units in the last place; 0 for -infinity. */
__device__ __forceinline__ float tdm_exp2(float x)
{
    float y;
    asm volatile("ex2.approx.ftz.f32 %0,%1;\n" : "=f"(y) : "f"(x));
    return y;
}

#endif
#endif
