/* tests/emu/stream.cpp - the functions of CUDA for streams, launches and events. */
#include "tests/emu/stream.h"

#include "tests/emu/control.h"

#include <algorithm>
#include <atomic>
#include <cuda_runtime_api.h>
#include <set>

namespace tdm_emu
{

cudaError_t enqueue(cudaStream_t handle, const char *what, std::function<void()> run)
{
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    if (s == default_stream(s->device) && capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureImplicit);
    push(l, s, {{what, std::move(run)}});
    return cudaSuccess;
}

/* ---- launches ---- */

static cudaError_t check_launch(const Launch &k, int device)
{
    if (device != current_device())
        return cudaErrorInvalidResourceHandle;
    const size_t threads = size_t{k.block.x} * k.block.y * k.block.z;
    if (threads == 0 || threads > 1024 || k.block.z > 64 || k.grid.x == 0 || k.grid.y == 0 ||
        k.grid.z == 0 || k.grid.x > 0x7fffffff || k.grid.y > 65535 || k.grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    return k.shared_bytes > dynamic_limit(k.function, device) ? cudaErrorInvalidValue : cudaSuccess;
}

static std::atomic<long> n_kernels{0};
static long kernels_counted[MAX_DEVICES + 1]; /* by device, then of all */

void count_kernels_from_here()
{
    std::fill(std::begin(kernels_counted), std::end(kernels_counted), 0);
}

static int device_of_kernel;

int running_device()
{
    return device_of_kernel;
}

static void run_launch(const Launch &k, int device)
{
    device_of_kernel = device;
    const Lost lost = config().lost;
    const long of_device = ++kernels_counted[device], of_all = ++kernels_counted[MAX_DEVICES];
    n_kernels++;
    if (lost.kernel && lost.device == -1 && of_all == lost.kernel)
        lose_device(-1);
    else if (lost.device == device && of_device == lost.kernel)
        lose_device(device);
    else
        run_grid(k);
}

void require_loaded(cudaStream_t stream, const void *kernel, const char *what)
{
    static std::set<std::pair<int, const void *>> loaded; /* each device has its own */
    std::lock_guard<std::mutex> l(streams_lock);
    if (loaded.insert({device_of(stream), kernel}).second && stream_of(stream)->capture)
        fail("%s is first used in a capture, which may forbid to load it: run it once before",
             what);
}

void launch(const Launch &k, cudaStream_t stream)
{
    const std::shared_ptr<void> call(k.call, k.destroy);
    const int device = device_of(stream);
    cudaError_t e = device_state(device);
    if (e == cudaSuccess)
        e = check_launch(k, device);
    if (e != cudaSuccess) {
        set_error(e);
        return;
    }
    require_loaded(stream, k.function, k.name);
    enqueue(stream, k.name, [k, call, device] { run_launch(k, device); });
}

cudaError_t synchronize_device(int device)
{
    TDM_EMU_REQUIRE_STATE_OF(device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    drain(l, device, nullptr, [&] {
        for (cudaStream_t s : all_streams())
            if (s->device == device && !is_idle(s))
                return false;
        return true;
    });
    return set_error(device_state(device));
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

long tdm_emu_kernels(void)
{
    return n_kernels;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    *out = nullptr;
    TDM_EMU_REQUIRE_STATE();
    std::lock_guard<std::mutex> l(streams_lock);
    *out = open_stream(current_device(), !(flags & cudaStreamNonBlocking));
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    const int device = device_of(handle);
    TDM_EMU_REQUIRE_STATE_OF(device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    cudaStream_t s = stream_of(handle);
    if (s == default_stream(device))
        order_with_legacy(l, s);
    drain(l, device, s, [&] { return is_idle(s); });
    return set_error(device_state(device));
}

cudaError_t cudaDeviceSynchronize(void)
{
    return synchronize_device(current_device());
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    std::unique_lock<std::mutex> l(streams_lock);
    if (s->capture)
        return set_error(cudaErrorStreamCaptureUnsupported);
    const int device = s->device;
    close_stream(l, s);
    return set_error(device_state(device));
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    const int device = device_of(handle);
    TDM_EMU_REQUIRE_STATE_OF(device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    cudaStream_t s = stream_of(handle);
    return poll(l, s, [&] { return is_idle(s); }) ? set_error(device_state(device))
                                                  : set_error(cudaErrorNotReady);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void *user)
{
    TDM_EMU_REQUIRE_STATE();
    return enqueue(stream, "cudaLaunchHostFunc", [=] { f(user); });
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = nullptr;
    TDM_EMU_REQUIRE_STATE();
    *out = new CUevent_st{std::make_shared<EventState>()};
    (*out)->state->device = current_device();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
    const std::shared_ptr<EventState> e = event->state;
    TDM_EMU_REQUIRE_STATE_OF(e->device);
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    if (s->device != e->device)
        return set_error(cudaErrorInvalidResourceHandle);
    e->capture = s->capture;
    if (s->capture) {
        e->tips = s->capture->tips[s];
        return cudaSuccess;
    }
    e->stream = s;
    const uint64_t number = ++e->recorded;
    push(l, s, {{"cudaEventRecord"}, nullptr, e, number});
    return cudaSuccess;
}

/* The capture in which an event was recorded may have ended since. */
static bool is_live(const Capture *capture)
{
    for (const Capture *c : captures)
        if (c == capture)
            return true;
    return false;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned)
{
    TDM_EMU_REQUIRE_STATE_OF(device_of(handle));
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    const std::shared_ptr<EventState> e = event->state;
    if (e->capture && !is_live(e->capture))
        return set_error(cudaErrorCapturedEvent);
    if (e->capture) {
        if (s->capture && s->capture != e->capture)
            return set_error(cudaErrorStreamCaptureIsolation);
        s->capture = e->capture;
        std::vector<size_t> &tips = s->capture->tips[s];
        tips.insert(tips.end(), e->tips.begin(), e->tips.end());
        return cudaSuccess;
    }
    if (s->capture) {
        s->capture->broken = true;
        return set_error(cudaErrorStreamCaptureIsolation);
    }
    if (e->recorded)
        push(l, s, {{"cudaStreamWaitEvent"}, e, nullptr, e->recorded, e->stream});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const std::shared_ptr<EventState> e = event->state;
    TDM_EMU_REQUIRE_STATE_OF(e->device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    const uint64_t number = e->recorded;
    if (e->completed < number)
        drain(l, e->device, e->stream, [&] { return e->completed >= number; });
    return set_error(device_state(e->device));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const std::shared_ptr<EventState> e = event->state;
    TDM_EMU_REQUIRE_STATE_OF(e->device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    return poll(l, e->stream, [&] { return e->completed >= e->recorded; })
               ? set_error(device_state(e->device))
               : set_error(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop)
{
    TDM_EMU_REQUIRE_STATE();
    std::lock_guard<std::mutex> l(streams_lock);
    for (const cudaEvent_t e : {start, stop})
        if (e->state->recorded == 0 || e->state->completed < e->state->recorded)
            return set_error(cudaErrorNotReady);
    *milliseconds = static_cast<float>(stop->state->milliseconds - start->state->milliseconds);
    return cudaSuccess;
}
}
