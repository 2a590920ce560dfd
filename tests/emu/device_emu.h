/* tests/emu/device_emu.h - kernels/device.cuh for a C++ compiler: CUDA's names on the CPU.
 *
 * Every CUDA thread is a fiber. Everything here must do what nvcc's branch of kernels/device.cuh
 * and CUDA's own functions do; test_emulator.cu holds each against its definition, and golden
 * vectors recorded on a GPU hold the PTX wrappers against the hardware. Atomics on floats are
 * missing on purpose: their order is not fixed. */
#ifndef TESTS_EMU_DEVICE_EMU_H
#define TESTS_EMU_DEVICE_EMU_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <utility>

#include "tests/emu/runtime.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

/* ---- launch, indices, shared memory ---- */
namespace tdm_emu
{

template <class... P> struct Call {
    void (*kernel)(P...);
    std::tuple<P...> args;
    static void invoke(const void *call)
    {
        const Call *c = static_cast<const Call *>(call);
        std::apply(c->kernel, c->args);
    }
    static void destroy(void *call)
    {
        delete static_cast<Call *>(call);
    }
};

template <class... P, class... A>
void launch_kernel(void (*kernel)(P...), const char *name, dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A), "number of kernel arguments");
    static_assert((sizeof(P) + ... + 0) <= 4096, "kernel arguments take at most 4 KiB");
    using C = Call<P...>;
    launch({name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes, C::invoke,
            C::destroy, new C{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(args))...)},
            sizeof(C)},
           stream);
}

TDM_EMU_UNCHECKED inline uint3 thread_index()
{
    return self->thread;
}
TDM_EMU_UNCHECKED inline uint3 block_index()
{
    return where.block;
}
TDM_EMU_UNCHECKED inline uint3 block_size()
{
    return where.block_dim;
}
TDM_EMU_UNCHECKED inline uint3 grid_size()
{
    return where.grid_dim;
}

} // namespace tdm_emu

#define threadIdx (tdm_emu::thread_index())
#define blockIdx (tdm_emu::block_index())
#define blockDim (tdm_emu::block_size())
#define gridDim (tdm_emu::grid_size())
constexpr int warpSize = 32;

#define TDM_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                 \
    tdm_emu::launch_kernel((kernel), #kernel, dim3(grid), dim3(block), (shared_bytes), (stream),   \
                           __VA_ARGS__)

#define TDM_SHARED(type, name, dims)                                                               \
    typedef type name##_shared_type dims;                                                          \
    static char name##_shared_key;                                                                 \
    name##_shared_type &name = *static_cast<name##_shared_type *>(                                 \
        tdm_emu::shared_static(&name##_shared_key, sizeof(name##_shared_type), #name))
#define TDM_SHARED_DYNAMIC(name) unsigned char *const name = tdm_emu::shared_dynamic()
template <class T> inline T *tdm_carve(unsigned char *base, size_t offset, size_t count)
{
    return static_cast<T *>(tdm_emu::shared_carve(base, offset, count * sizeof(T)));
}

/* ---- barriers, fences, warp collectives ---- */
inline void __syncthreads(TDM_EMU_SITE)
{
    tdm_emu::barrier(site);
}
inline int __syncthreads_or(int predicate, TDM_EMU_SITE)
{
    return tdm_emu::barrier_vote(tdm_emu::Vote::any, predicate, site);
}
inline int __syncthreads_and(int predicate, TDM_EMU_SITE)
{
    return tdm_emu::barrier_vote(tdm_emu::Vote::all, predicate, site);
}
inline int __syncthreads_count(int predicate, TDM_EMU_SITE)
{
    return tdm_emu::barrier_vote(tdm_emu::Vote::count, predicate, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, TDM_EMU_SITE)
{
    tdm_emu::release(tdm_emu::collect(tdm_emu::Kind::sync, 0, mask, nullptr, 0, site));
}
inline void __threadfence()
{
    tdm_emu::fence();
}
[[noreturn]] inline void __trap(TDM_EMU_SITE)
{
    tdm_emu::fatal(site, "__trap()");
}

namespace tdm_emu
{

enum class Shuffle { index, up, down, exclusive_or };

/* The lane that `from` reads, or -1: a lane outside of its segment reads itself. */
inline int shuffle_source(Shuffle mode, int lane, int arg, int width)
{
    const int first = lane & ~(width - 1);
    int from = lane;
    switch (mode) {
    case Shuffle::index:
        return first | (arg & (width - 1));
    case Shuffle::up:
        from = lane - arg;
        break;
    case Shuffle::down:
        from = lane + arg;
        break;
    case Shuffle::exclusive_or:
        from = lane ^ arg;
        break;
    }
    /* xor may reach lower segments, the others stay within theirs */
    const bool inside = from < first + width && (from >= first || mode == Shuffle::exclusive_or);
    return inside ? from : lane;
}

template <class T>
TDM_EMU_UNCHECKED T shuffle(Shuffle mode, unsigned mask, T value, int arg, int width, Site site)
{
    static_assert(sizeof(T) <= 8, "CUDA shuffles values of at most 8 bytes");
    const int detail = (static_cast<int>(mode) << 8) | (width << 16) | static_cast<int>(sizeof(T));
    if (width <= 0 || width > 32 || (width & (width - 1)))
        fatal(site, "shuffle: width %d, want 1, 2, 4, 8, 16 or 32", width);
    const int from = shuffle_source(mode, static_cast<int>(self->lane), arg, width);
    Collective *c = collect(Kind::shuffle, detail, mask, &value, sizeof(T), site);
    if (!(c->mask >> from & 1))
        fatal(site, "shuffle: reads lane %d, which is not in mask %08x", from, mask);
    memcpy(static_cast<void *>(&value), c->in[from], sizeof(T));
    release(c);
    return value;
}

TDM_EMU_UNCHECKED inline unsigned vote(Kind kind, int detail, unsigned mask, unsigned value,
                                       Site site)
{
    Collective *c = collect(kind, detail, mask, &value, sizeof value, site);
    const unsigned result = c->result;
    release(c);
    return result;
}

} // namespace tdm_emu

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, TDM_EMU_SITE)
{
    return tdm_emu::shuffle(tdm_emu::Shuffle::index, mask, value, lane, width, site);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, TDM_EMU_SITE)
{
    return tdm_emu::shuffle(tdm_emu::Shuffle::up, mask, value, static_cast<int>(delta), width,
                            site);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, TDM_EMU_SITE)
{
    return tdm_emu::shuffle(tdm_emu::Shuffle::down, mask, value, static_cast<int>(delta), width,
                            site);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, TDM_EMU_SITE)
{
    return tdm_emu::shuffle(tdm_emu::Shuffle::exclusive_or, mask, value, lanes, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, TDM_EMU_SITE)
{
    return tdm_emu::vote(tdm_emu::Kind::ballot, 0, mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, TDM_EMU_SITE)
{
    return tdm_emu::vote(tdm_emu::Kind::ballot, 1, mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, TDM_EMU_SITE)
{
    return tdm_emu::vote(tdm_emu::Kind::ballot, 2, mask, predicate != 0, site) == mask;
}

/* __reduce_*_sync of unsigned and int (detail 1). */
#define TDM_EMU_REDUCE(name)                                                                       \
    inline unsigned __reduce_##name##_sync(unsigned mask, unsigned value, TDM_EMU_SITE)            \
    {                                                                                              \
        return tdm_emu::vote(tdm_emu::Kind::reduce_##name, 0, mask, value, site);                  \
    }
#define TDM_EMU_REDUCE_SIGNED(name)                                                                \
    inline int __reduce_##name##_sync(unsigned mask, int value, TDM_EMU_SITE)                      \
    {                                                                                              \
        return static_cast<int>(tdm_emu::vote(tdm_emu::Kind::reduce_##name, 1, mask,               \
                                              static_cast<unsigned>(value), site));                \
    }
TDM_EMU_REDUCE(add)
TDM_EMU_REDUCE(min)
TDM_EMU_REDUCE(max)
TDM_EMU_REDUCE(and)
TDM_EMU_REDUCE(or)
TDM_EMU_REDUCE(xor)
TDM_EMU_REDUCE_SIGNED(add)
TDM_EMU_REDUCE_SIGNED(min)
TDM_EMU_REDUCE_SIGNED(max)

/* ---- atomics ---- */
namespace tdm_emu
{

template <class T, class F> TDM_EMU_UNCHECKED T read_modify_write(T *p, Site site, F change)
{
    atomic_access(p, sizeof(T), site);
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, change(old), false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
    }
    return old;
}

} // namespace tdm_emu

#define TDM_EMU_ATOMIC(name, T, expression)                                                        \
    inline T name(T *p, T value, TDM_EMU_SITE)                                                     \
    {                                                                                              \
        return tdm_emu::read_modify_write(                                                         \
            p, site, [value](T old) TDM_EMU_UNCHECKED { return static_cast<T>(expression); });     \
    }
#define TDM_EMU_ATOMICS(T)                                                                         \
    TDM_EMU_ATOMIC(atomicAdd, T, old + value)                                                      \
    TDM_EMU_ATOMIC(atomicMin, T, old < value ? old : value)                                        \
    TDM_EMU_ATOMIC(atomicMax, T, old > value ? old : value)                                        \
    TDM_EMU_ATOMIC(atomicAnd, T, old &value)                                                       \
    TDM_EMU_ATOMIC(atomicOr, T, old | value)                                                       \
    TDM_EMU_ATOMIC(atomicExch, T, ((void)old, value))                                              \
    inline T atomicCAS(T *p, T compare, T value, TDM_EMU_SITE)                                     \
    {                                                                                              \
        return tdm_emu::read_modify_write(p, site, [compare, value](T old) TDM_EMU_UNCHECKED {     \
            return old == compare ? value : old;                                                   \
        });                                                                                        \
    }
TDM_EMU_ATOMICS(int)
TDM_EMU_ATOMICS(unsigned)
TDM_EMU_ATOMICS(unsigned long long)
TDM_EMU_ATOMIC(atomicInc, unsigned, old >= value ? 0u : old + 1)

/* ---- scalar functions that the toolkit declares for nvcc alone ---- */
inline float __expf(float x)
{
    return expf(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __clz(int x)
{
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
template <class To, class From> inline To tdm_emu_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline float __int_as_float(int x)
{
    return tdm_emu_bits<float>(x);
}
inline float __uint_as_float(unsigned x)
{
    return tdm_emu_bits<float>(x);
}
inline int __float_as_int(float x)
{
    return tdm_emu_bits<int>(x);
}
inline unsigned __float_as_uint(float x)
{
    return tdm_emu_bits<unsigned>(x);
}
template <class T> __forceinline__ T __ldg(const T *p)
{
    return *p;
}

#define TDM_EMU_MINMAX(T)                                                                          \
    inline T min(T a, T b)                                                                         \
    {                                                                                              \
        return a < b ? a : b;                                                                      \
    }                                                                                              \
    inline T max(T a, T b)                                                                         \
    {                                                                                              \
        return a > b ? a : b;                                                                      \
    }
TDM_EMU_MINMAX(int)
TDM_EMU_MINMAX(unsigned)
TDM_EMU_MINMAX(long)
TDM_EMU_MINMAX(unsigned long)
TDM_EMU_MINMAX(long long)
TDM_EMU_MINMAX(unsigned long long)
inline float min(float a, float b)
{
    return fminf(a, b);
}
inline float max(float a, float b)
{
    return fmaxf(a, b);
}

inline half __hfma(half a, half b, half c)
{
    return __float2half_rn(static_cast<float>(
        static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c)));
}
inline half2 __hfma2(half2 a, half2 b, half2 c)
{
    return half2{__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{
    return __float2bfloat16_rn(fmaf(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __nv_bfloat162{__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

/* ---- the PTX wrappers of kernels/device.cuh ---- */
namespace tdm_emu
{

/* Source: PTX ISA, "Matrix Fragments for mma.m16n8k16"; sums in f32. */
TDM_EMU_UNCHECKED inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                  bool bf16, Site site)
{
    MmaInput in;
    memcpy(in.a, a, sizeof in.a);
    memcpy(in.b, b, sizeof in.b);
    memcpy(in.d, d, sizeof in.d);
    Collective *c = collect(Kind::mma, bf16, 0xffffffffu, &in, sizeof in, site);
    memcpy(d, c->out[self->lane], sizeof d);
    release(c);
}

} // namespace tdm_emu

inline void tdm_mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], half,
                             TDM_EMU_SITE)
{
    tdm_emu::mma(d, a, b, false, site);
}
inline void tdm_mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             __nv_bfloat16, TDM_EMU_SITE)
{
    tdm_emu::mma(d, a, b, true, site);
}
inline void tdm_ldmatrix_x4(unsigned (&r)[4], const void *row, TDM_EMU_SITE)
{
    tdm_emu::load_matrices(r, row, false, site);
}
inline void tdm_ldmatrix_x4_transposed(unsigned (&r)[4], const void *row, TDM_EMU_SITE)
{
    tdm_emu::load_matrices(r, row, true, site);
}
inline void tdm_cp_async16(void *shared, const void *global, int bytes, TDM_EMU_SITE)
{
    tdm_emu::copy_async(shared, global, bytes, site);
}
inline void tdm_cp_async_commit()
{
    tdm_emu::copy_async_commit();
}
template <int n> inline void tdm_cp_async_wait()
{
    tdm_emu::copy_async_wait(n);
}
__forceinline__ uint4 tdm_load_once16(const void *p)
{
    return *static_cast<const uint4 *>(p);
}
/* ex2.approx.ftz: subnormal results are flushed to zero, the sign of the operand does not matter.
 */
inline float tdm_exp2(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

#endif
