/* tests/emu/stream.cpp - streams and events. Streams are lazy: work runs when something waits for
 * it, in the thread that waits; with a seed, streams advance in a random order. */
#include "tests/emu/stream.h"

#include "tests/emu/control.h"

#include <atomic>
#include <chrono>
#include <cuda_runtime_api.h>
#include <set>

namespace tdm_emu
{

constexpr int MAX_DEVICES = 16;

std::mutex streams_lock;
static std::condition_variable moved;
static std::mutex gpu; /* one operation at a time */
static CUstream_st legacy[MAX_DEVICES];
static std::vector<cudaStream_t> streams;
static uint64_t stream_random = 1;

static const std::vector<cudaStream_t> &all_streams()
{
    if (streams.empty()) {
        stream_random = config().seed * 0x9e3779b97f4a7c15ull | 1;
        for (int d = 0; d < MAX_DEVICES; d++) {
            legacy[d].device = d;
            streams.push_back(&legacy[d]);
        }
    }
    return streams;
}

cudaStream_t stream_of(cudaStream_t handle)
{
    if (handle == cudaStreamPerThread)
        fail("per-thread streams are not emulated");
    return !handle || handle == cudaStreamLegacy ? &legacy[current_device()] : handle;
}

/* ---- progress ---- */

static bool is_ready(const CUstream_st *s)
{
    return !s->busy && !s->ops.empty() &&
           (!s->ops.front().event || s->ops.front().event->completed >= s->ops.front().until);
}

/* s itself, or the stream that it waits for, if that can go on. */
static cudaStream_t find_progress(cudaStream_t s)
{
    for (size_t depth = 0; s && depth <= streams.size(); depth++) {
        if (is_ready(s))
            return s;
        if (s->busy || s->ops.empty() || !s->ops.front().event)
            return nullptr;
        s = s->ops.front().event->stream;
    }
    return nullptr;
}

static cudaStream_t choose(cudaStream_t target)
{
    if (!target || (config().seed && next_random(&stream_random) & 1)) {
        std::vector<cudaStream_t> ready;
        for (cudaStream_t s : all_streams())
            if (is_ready(s))
                ready.push_back(s);
        if (!ready.empty())
            return ready[config().seed ? next_random(&stream_random) % ready.size() : 0];
    }
    return target ? find_progress(target) : nullptr;
}

static void execute(std::unique_lock<std::mutex> &l, cudaStream_t s)
{
    s->busy = true;
    const Op op = std::move(s->ops.front());
    l.unlock();
    if (op.run && device_state() == cudaSuccess) {
        std::lock_guard<std::mutex> one(gpu);
        op.run();
    }
    l.lock();
    s->ops.pop_front();
    s->busy = false;
    moved.notify_all();
}

/* Run work until done() or the device is lost. target: the stream that matters, NULL: all. */
template <class F> static void drain(std::unique_lock<std::mutex> &l, cudaStream_t target, F done)
{
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::seconds patience(20);
    Clock::time_point since = Clock::now();
    bool open = false;
    while (!done() && device_state() == cudaSuccess) {
        if (cudaStream_t s = choose(target)) {
            if (!open)
                device_memory_open();
            open = true;
            execute(l, s);
            since = Clock::now();
        } else if (moved.wait_for(l, std::chrono::seconds(1)) == std::cv_status::timeout &&
                   Clock::now() - since > patience) {
            fail("the host waits for stream work that cannot go on");
        }
    }
    if (open)
        device_memory_close();
}

static bool is_idle(const CUstream_st *s)
{
    return s->ops.empty() && !s->busy;
}

/* The legacy stream and blocking streams of a device wait for each other. */
static void order_with_legacy(std::unique_lock<std::mutex> &l, cudaStream_t s)
{
    const auto others_idle = [&] {
        for (cudaStream_t o : all_streams())
            if (o != s && o->device == s->device && o->blocking && !is_idle(o))
                return false;
        return true;
    };
    cudaStream_t default_stream = &legacy[s->device];
    if (s == default_stream && !others_idle())
        drain(l, nullptr, others_idle);
    else if (s != default_stream && s->blocking && !is_idle(default_stream))
        drain(l, default_stream, [&] { return is_idle(default_stream); });
}

void push(std::unique_lock<std::mutex> &l, cudaStream_t s, Op op)
{
    if (Capture *c = s->capture) {
        c->nodes.push_back({op.what, std::move(op.run), c->tips[s]});
        c->tips[s] = {c->nodes.size() - 1};
        return;
    }
    order_with_legacy(l, s);
    s->ops.push_back(std::move(op));
    moved.notify_all();
}

cudaError_t enqueue(cudaStream_t handle, const char *what, std::function<void()> run)
{
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    if (s == &legacy[s->device] && capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureImplicit);
    push(l, s, {what, std::move(run), nullptr});
    return cudaSuccess;
}

/* ---- launches ---- */

static cudaError_t check_launch(const Launch &k)
{
    const size_t threads = size_t{k.block.x} * k.block.y * k.block.z;
    if (threads == 0 || threads > 1024 || k.block.z > 64 || k.grid.x == 0 || k.grid.y == 0 ||
        k.grid.z == 0 || k.grid.x > 0x7fffffff || k.grid.y > 65535 || k.grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    return k.shared_bytes > dynamic_limit(k.function) ? cudaErrorInvalidValue : cudaSuccess;
}

static std::atomic<long> n_kernels{0}, first_kernel{0};

void count_kernels_from_here()
{
    first_kernel = n_kernels.load();
}

static void run_launch(const Launch &k)
{
    if (++n_kernels - first_kernel == config().lost)
        lose_device();
    else
        run_grid(k);
}

void require_loaded(cudaStream_t stream, const void *kernel, const char *what)
{
    static std::set<const void *> loaded;
    std::lock_guard<std::mutex> l(streams_lock);
    if (loaded.insert(kernel).second && stream_of(stream)->capture)
        fail("%s is first used in a capture, which may forbid to load it: run it once before",
             what);
}

void launch(const Launch &k, cudaStream_t stream)
{
    const std::shared_ptr<void> call(k.call, k.destroy);
    cudaError_t e = device_state();
    if (e == cudaSuccess)
        e = check_launch(k);
    if (e != cudaSuccess) {
        set_error(e);
        return;
    }
    require_loaded(stream, k.function, k.name);
    enqueue(stream, k.name, [k, call] { run_launch(k); });
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
    all_streams();
    cudaStream_t s = new CUstream_st;
    s->device = current_device();
    s->blocking = !(flags & cudaStreamNonBlocking);
    streams.push_back(s);
    *out = s;
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
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    cudaStream_t s = stream_of(handle);
    if (s == &legacy[s->device])
        order_with_legacy(l, s);
    drain(l, s, [&] { return is_idle(s); });
    return set_error(device_state());
}

cudaError_t cudaDeviceSynchronize(void)
{
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    drain(l, nullptr, [&] {
        for (cudaStream_t s : all_streams())
            if (s->device == current_device() && !is_idle(s))
                return false;
        return true;
    });
    return set_error(device_state());
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    std::unique_lock<std::mutex> l(streams_lock);
    if (s->capture)
        return set_error(cudaErrorStreamCaptureUnsupported);
    drain(l, s, [&] { return is_idle(s); });
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] == s) {
            streams.erase(streams.begin() + static_cast<long>(i));
            break;
        }
    }
    delete s;
    return set_error(device_state());
}

/* Polling lets one operation run, so that a loop of polls ends. */
cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    cudaStream_t s = stream_of(handle);
    bool polled = false;
    drain(l, s, [&] { return is_idle(s) || std::exchange(polled, true); });
    return is_idle(s) ? set_error(device_state()) : cudaErrorNotReady;
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
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    const std::shared_ptr<EventState> e = event->state;
    e->capture = s->capture;
    if (s->capture) {
        e->tips = s->capture->tips[s];
        return cudaSuccess;
    }
    e->stream = s;
    const uint64_t number = ++e->recorded;
    push(l, s,
         {"cudaEventRecord",
          [=] {
              const auto now = std::chrono::steady_clock::now().time_since_epoch();
              std::lock_guard<std::mutex> inner(streams_lock);
              e->completed = number;
              e->milliseconds = std::chrono::duration<double, std::milli>(now).count();
          },
          nullptr});
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
    TDM_EMU_REQUIRE_STATE();
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
        push(l, s, {"cudaStreamWaitEvent", nullptr, e, e->recorded});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    const std::shared_ptr<EventState> e = event->state;
    const uint64_t number = e->recorded;
    if (number)
        drain(l, e->stream, [&] { return e->completed >= number; });
    return set_error(device_state());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    TDM_EMU_REQUIRE_STATE();
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    const std::shared_ptr<EventState> e = event->state;
    bool polled = false;
    if (e->recorded)
        drain(l, e->stream,
              [&] { return e->completed >= e->recorded || std::exchange(polled, true); });
    return e->completed >= e->recorded ? set_error(device_state()) : cudaErrorNotReady;
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
