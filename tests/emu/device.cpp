/* tests/emu/device.cpp - devices, their properties, and errors. */
#include "tests/emu/control.h"
#include "tests/emu/emu.h"

#include <atomic>
#include <cuda_runtime_api.h>
#include <map>
#include <mutex>
#include <stdio.h>
#include <string.h>

namespace tdm_emu
{

constexpr int VERSION = CUDART_VERSION, MULTIPROCESSORS = 4;

static std::mutex lock;
static std::map<std::pair<int, const void *>, size_t> dynamic_limits; /* by device */
static std::atomic<bool> lost[MAX_DEVICES];
static thread_local cudaError_t last_error = cudaSuccess;
static thread_local int device = 0;

cudaError_t set_error(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

/* What can be asked of a device without a context needs no more than this. */
static cudaError_t driver_state(int ordinal)
{
    if (config().old_driver)
        return cudaErrorInsufficientDriver;
    if (config().devices == 0)
        return cudaErrorNoDevice;
    if (ordinal < 0 || ordinal >= config().devices)
        return cudaErrorInvalidDevice;
    return lost[ordinal] ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t device_state(int ordinal)
{
    const cudaError_t e = driver_state(ordinal);
    return e == cudaSuccess && config().busy[ordinal] ? cudaErrorDevicesUnavailable : e;
}

void lose_device(int which)
{
    for (int d = 0; d < MAX_DEVICES; d++)
        if (which == -1 || which == d)
            lost[d] = true;
}

void find_devices()
{
    for (int d = 0; d < MAX_DEVICES; d++)
        if (lost[d].exchange(false))
            device_memory_forget(d);
    last_error = cudaSuccess;
}

bool any_device_lost()
{
    for (const std::atomic<bool> &l : lost)
        if (l)
            return true;
    return false;
}

int current_device()
{
    return device;
}

size_t dynamic_limit(const void *function, int on)
{
    std::lock_guard<std::mutex> l(lock);
    const auto found = dynamic_limits.find({on, function});
    return found == dynamic_limits.end() ? SHARED_DEFAULT : found->second;
}

constexpr int FIRST_BUS = 0x1a; /* PCI bus of device 0 */

static int attribute(cudaDeviceAttr which, int ordinal)
{
    switch (which) {
    case cudaDevAttrMultiProcessorCount:
        return MULTIPROCESSORS;
    case cudaDevAttrComputeCapabilityMajor:
        return config().cc[ordinal] / 10;
    case cudaDevAttrComputeCapabilityMinor:
        return config().cc[ordinal] % 10;
    case cudaDevAttrPciBusId:
        return FIRST_BUS + ordinal;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrComputeMode:
        return 0;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return SHARED_DEFAULT;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return static_cast<int>(shared_limit(ordinal));
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        return static_cast<int>(shared_limit(ordinal) + 1024);
    case cudaDevAttrWarpSize:
        return 32;
    case cudaDevAttrMaxThreadsPerBlock:
        return 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        return 2048;
    case cudaDevAttrL2CacheSize:
        return 50 << 20;
    case cudaDevAttrMemoryClockRate:
    case cudaDevAttrClockRate:
        return 1000000;
    case cudaDevAttrGlobalMemoryBusWidth:
        return 5120;
    default:
        fail("cudaDeviceGetAttribute: attribute %d is not emulated", static_cast<int>(which));
    }
}

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};
static const ErrorText ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capture has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

static const ErrorText *find_error(cudaError_t error)
{
    for (const ErrorText &e : ERRORS)
        if (e.error == error)
            return &e;
    return nullptr;
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

void tdm_emu_configure(void)
{
    read_config();
    find_devices();
    count_kernels_from_here();
    count_collectives_from_here();
}

const char *cudaGetErrorName(cudaError_t error)
{
    const ErrorText *e = find_error(error);
    return e ? e->name : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    const ErrorText *e = find_error(error);
    return e ? e->text : "unrecognized error code";
}

/* A lost device stays lost. */
cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return lost[device] ? device_state() : e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return lost[device] ? device_state() : last_error;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 0;
    const cudaError_t state = driver_state(0);
    if (state == cudaErrorNoDevice || state == cudaErrorInsufficientDriver)
        return set_error(state);
    *n = config().devices;
    return cudaSuccess;
}

/* Makes the context, as since CUDA 12. A lost device can be taken; what is done with it then fails.
 */
cudaError_t cudaSetDevice(int which)
{
    const cudaError_t e = device_state(which);
    if (e == cudaSuccess || e == cudaErrorLaunchFailure)
        device = which;
    return set_error(e);
}

cudaError_t cudaGetDevice(int *which)
{
    *which = device;
    return set_error(driver_state(device));
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = config().old_driver ? 11040 : config().devices ? VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int ordinal)
{
    const cudaError_t e = driver_state(ordinal);
    if (e == cudaSuccess)
        *value = attribute(which, ordinal);
    return set_error(e);
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int bytes, int ordinal)
{
    const cudaError_t e = driver_state(ordinal);
    if (e == cudaSuccess)
        snprintf(out, static_cast<size_t>(bytes), "0000:%02x:00.0", FIRST_BUS + ordinal);
    return set_error(e);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int ordinal)
{
    const cudaError_t e = driver_state(ordinal);
    if (e != cudaSuccess)
        return set_error(e);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated sm_%d", config().cc[ordinal]);
    p->major = config().cc[ordinal] / 10;
    p->minor = config().cc[ordinal] % 10;
    p->pciBusID = FIRST_BUS + ordinal;
    p->uuid.bytes[0] = static_cast<char>(ordinal + 1);
    p->totalGlobalMem = config().memory[ordinal];
    p->multiProcessorCount = MULTIPROCESSORS;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->sharedMemPerBlock = SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = shared_limit(ordinal);
    p->l2CacheSize = 50 << 20;
    p->memoryBusWidth = 5120;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute which, int value)
{
    TDM_EMU_REQUIRE_STATE();
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    if (which != cudaFuncAttributeMaxDynamicSharedMemorySize)
        fail("cudaFuncSetAttribute: attribute %d is not emulated", static_cast<int>(which));
    if (value < 0 || static_cast<size_t>(value) > shared_limit(device))
        return set_error(cudaErrorInvalidValue);
    std::lock_guard<std::mutex> l(lock);
    const size_t bytes = static_cast<size_t>(value);
    dynamic_limits[{device, function}] = bytes < SHARED_DEFAULT ? SHARED_DEFAULT : bytes;
    return cudaSuccess;
}
}
