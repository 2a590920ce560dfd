/* kernels/cuda_open.c - which device, whether it will do, and what its errors mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda.h"

enum { LEAST_CAPABILITY = 80 }; /* sm_80: cp.async, bf16 on the tensor cores */

tdm_status cuda_status(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return TDM_OK;
    case cudaErrorMemoryAllocation:
        return TDM_ENOMEM;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorSystemNotReady:
    case cudaErrorStartupFailure:
    case cudaErrorStubLibrary:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
        return TDM_ENODEV;
    case cudaErrorInvalidValue: /* what a launcher refuses, or what the driver refuses at once: */
    case cudaErrorInvalidConfiguration: /* the device is none the worse for it */
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorSharedObjectInitFailed:
    case cudaErrorNotPermitted:
    case cudaErrorNotSupported:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
        return TDM_EINTERNAL;
    default:
        return TDM_ESTOPPED;
    }
}

tdm_status cuda_check(cudaError_t error, const char *what, tdm_err *err)
{
    const tdm_status st = cuda_status(error);
    int device = 0;
    if (st == TDM_OK)
        return TDM_OK;
    (void)cudaGetDevice(&device);
    (void)cudaGetLastError(); /* or the next operation is blamed */
    if (st != TDM_ESTOPPED)
        return tdm_fail(err, st, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
    return tdm_fail(err, st, "the device was lost: %s: %s (%s, cuda:%d)", what, cudaGetErrorString(error),
                    cudaGetErrorName(error), device);
}

tdm_status cuda_enqueued(const cuda_backend *c, cudaError_t error, const char *what, tdm_err *err)
{
    if (error == cudaSuccess && c->sync_each && !c->capturing)
        return cuda_wait(c, NULL, what, err);
    return cuda_check(error, what, err);
}

/* ---- opening ---- */

static tdm_status check_driver(cudaError_t error, tdm_err *err)
{
    int driver = 0, runtime = 0;
    tdm_status st = TDM_OK;
    (void)cudaGetLastError();
    TDM_REQUIRE(error != cudaErrorNoDevice, TDM_ENODEV, "cuda: there is no CUDA device");
    TDM_REQUIRE(error == cudaErrorInsufficientDriver, TDM_ENODEV, "cuda: %s (%s)",
                cudaGetErrorString(error), cudaGetErrorName(error));
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    TDM_REQUIRE(driver > 0, TDM_ENODEV, "cuda: there is no NVIDIA driver");
    st = tdm_fail(err, TDM_ENODEV,
                  "cuda: the driver is made for CUDA %d.%d, this program needs %d.%d",
                  driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
done:
    return st;
}

tdm_status cuda_count(int *count, tdm_err *err)
{
    const cudaError_t error = cudaGetDeviceCount(count);
    if (error != cudaSuccess)
        return check_driver(error, err);
    return *count > 0 ? TDM_OK : tdm_fail(err, TDM_ENODEV, "cuda: there is no CUDA device");
}

/* Make the device that of the thread. */
static tdm_status occupy(int device, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cudaError_t error = cudaSetDevice(device);
    if (error == cudaSuccess)
        error = cudaFree(NULL); /* CUDA 12.0 and later: done already */
    TDM_REQUIRE(error != cudaErrorDevicesUnavailable, TDM_ENODEV, "cuda:%d is busy: another program has it to itself",
                device);
    TDM_TRY(cuda_check(error, "taking the device", err));
done:
    return st;
}

/* Whether the device is there and can run these kernels; makes it that of the thread. */
static tdm_status take_device(cuda_backend *c, int device, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct cudaDeviceProp properties;
    int count = 0;
    TDM_TRY(cuda_count(&count, err));
    TDM_REQUIRE(device >= 0 && device < count, TDM_ENODEV, "cuda:%d: there %s %d CUDA device%s",
                device, count == 1 ? "is" : "are", count, count == 1 ? ", number 0" : "s, from 0");
    TDM_TRY(
        cuda_check(cudaGetDeviceProperties(&properties, device), "properties of the device", err));
    TDM_REQUIRE(10 * properties.major + properties.minor >= LEAST_CAPABILITY, TDM_ENODEV,
                "cuda:%d: %s has compute capability %d.%d, the kernels need %d.%d", device,
                properties.name, properties.major, properties.minor, LEAST_CAPABILITY / 10,
                LEAST_CAPABILITY % 10);
    TDM_TRY(occupy(device, err));
    snprintf(c->name, sizeof c->name, "cuda:%d %.64s, sm_%d%d, %.1f GiB, %s", device,
             properties.name, properties.major, properties.minor,
             (double)properties.totalGlobalMem / 0x1p30, tdm_dtype_name(c->dtype));
done:
    return st;
}

/* The heuristic of cuBLASLt looks at the multiprocessors too. */
static tdm_status identify(cuda_backend *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct cudaDeviceProp properties;
    char products[96];
    TDM_TRY(cuda_check(cudaGetDeviceProperties(&properties, c->device), "properties of the device", err));
    tdm_gemm_identity(c->gemm, products, sizeof products);
    snprintf(c->identity, sizeof c->identity, "cuda, sm_%d%d, %d multiprocessors, %s, cache %s",
             properties.major, properties.minor, properties.multiProcessorCount, products,
             tdm_dtype_name(c->kv_dtype));
done:
    return st;
}

void cuda_close(void *self)
{
    cuda_backend *c = self;
    if (!c)
        return;
    if (c->rank.n && !cuda_rank_close(c))
        return;
    if (c->stream)
        (void)cudaStreamSynchronize(c->stream); /* what is under way uses the memory below */
    cuda_memory_close(c);
    tdm_gemm_close(c->gemm);
    if (c->stream)
        (void)cudaStreamDestroy(c->stream);
    (void)cudaGetLastError();
    free(c);
}

tdm_status tdm_open_cuda(const tdm_cuda_options *options, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *sync = getenv("TDM_SYNC");
    *out = (tdm_backend){0};
    cuda_backend *c = calloc(1, sizeof *c);
    TDM_REQUIRE(c, TDM_ENOMEM, "cuda backend");
    c->device = options->device;
    c->dtype = options->dtype;
    c->kv_dtype = options->kv_dtype;
    c->sync_each = sync && !strcmp(sync, "1");
    TDM_TRY(take_device(c, options->device, err));
    TDM_TRY(
        cuda_check(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "stream", err));
    TDM_TRY(tdm_gemm_open(c->stream, &c->gemm, err));
    TDM_TRY(cuda_memory_open(c, err));
    TDM_TRY(identify(c, err));
    c->ops = cuda_ops;
    if (options->no_graphs || c->sync_each)
        c->ops.graph_begin = NULL;
    *out = (tdm_backend){.ops = &c->ops, .self = c, .dtype = c->dtype, .device = c->name,
                         .identity = c->identity};
    c = NULL;
done:
    cuda_close(c);
    return st;
}
