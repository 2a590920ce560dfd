/* kernels/element.cuh - the element types of activations, caches and tables, and 16 bytes of them.
 *
 * Arithmetic is f32; these convert at the border, rounding to nearest even. */
#ifndef KERNELS_ELEMENT_CUH
#define KERNELS_ELEMENT_CUH

#include "host/dtype.h"
#include "kernels/device.cuh"

__device__ __forceinline__ float tdm_float(float x)
{
    return x;
}
__device__ __forceinline__ float tdm_float(half x)
{
    return __half2float(x);
}
__device__ __forceinline__ float tdm_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <class T> __device__ __forceinline__ T tdm_round(float x);
template <> __device__ __forceinline__ float tdm_round<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ half tdm_round<half>(float x)
{
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 tdm_round<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* 16 bytes of T, moved as one load or store. */
template <class T> struct alignas(16) tdm_pack {
    static constexpr int N = 16 / sizeof(T);
    T v[N];
};

/* Call f<T>() for a dtype of the host side; anything else is cudaErrorInvalidValue. In a launcher:
 *   TDM_DISPATCH(dtype, T, { TDM_LAUNCH(kernel<T>, ...); }); */
#define TDM_DISPATCH(dtype, T, ...)                                                                \
    switch (dtype) {                                                                               \
    case TDM_F32: {                                                                                \
        using T = float;                                                                           \
        __VA_ARGS__                                                                                \
    } break;                                                                                       \
    case TDM_F16: {                                                                                \
        using T = half;                                                                            \
        __VA_ARGS__                                                                                \
    } break;                                                                                       \
    case TDM_BF16: {                                                                               \
        using T = __nv_bfloat16;                                                                   \
        __VA_ARGS__                                                                                \
    } break;                                                                                       \
    default:                                                                                       \
        return cudaErrorInvalidValue;                                                              \
    }

#endif
