/* tests/emu/stream.cpp - streams and events. Streams are lazy: work runs when something waits for
 * it, in the thread that waits; with a seed, streams advance in a random order. */
#include "tests/emu/stream.h"

#include "tests/emu/control.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cuda_runtime_api.h>
#include <set>

namespace tdm_emu
{

std::mutex streams_lock;
std::condition_variable moved;
static std::mutex gpu; /* one operation at a time */
static CUstream_st legacy[MAX_DEVICES];
static std::vector<cudaStream_t> streams;
static uint64_t stream_random = 1;
static uint64_t n_moves; /* work that came or was done */

const std::vector<cudaStream_t> &all_streams()
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

int device_of(cudaStream_t handle)
{
    return !handle || handle == cudaStreamLegacy ? current_device() : handle->device;
}

/* ---- progress ---- */

static bool is_lost(const CUstream_st *s)
{
    return device_state(s->device) != cudaSuccess;
}

static bool is_idle(const CUstream_st *s)
{
    return s->ops.empty() && !s->busy;
}

static bool has_reached(const CUstream_st *s, const Meeting *m)
{
    return s && !s->busy && !s->ops.empty() && s->ops.front().meeting.get() == m && !is_lost(s);
}

static bool all_reached(const Meeting *m)
{
    for (cudaStream_t s : m->streams)
        if (!has_reached(s, m))
            return false;
    return m->is_complete();
}

/* On a lost device everything is done, without effect. */
static bool is_ready(const CUstream_st *s)
{
    if (s->busy || s->ops.empty())
        return false;
    const Op &op = s->ops.front();
    return is_lost(s) || ((!op.waits || op.waits->completed >= op.number) &&
                          (!op.meeting || all_reached(op.meeting.get())));
}

/* The streams that have to go on before s can. */
static std::vector<cudaStream_t> waits_for(const CUstream_st *s)
{
    std::vector<cudaStream_t> list;
    if (s->busy || s->ops.empty())
        return list;
    const Op &op = s->ops.front();
    if (op.waits)
        list.push_back(op.source);
    if (op.meeting)
        for (cudaStream_t other : op.meeting->streams)
            if (other && other != s && !has_reached(other, op.meeting.get()))
                list.push_back(other);
    if (config().seed && list.size() > 1)
        std::swap(list[0], list[next_random(&stream_random) % list.size()]);
    return list;
}

static std::string waiting(const CUstream_st *s)
{
    const Op &op = s->ops.front();
    return op.meeting ? op.meeting->missing()
                      : std::string(op.work.what) + " on device " + std::to_string(s->device);
}

/* s itself, or a stream that it waits for, if that can go on. path: from the target to s. */
static cudaStream_t find_progress(cudaStream_t s, std::vector<cudaStream_t> *path)
{
    if (is_ready(s))
        return s;
    for (const cudaStream_t p : *path)
        if (p == s)
            fail("streams wait for each other: %s; %s", waiting(path->back()).c_str(),
                 waiting(s).c_str());
    path->push_back(s);
    for (cudaStream_t other : waits_for(s))
        if (cudaStream_t found = find_progress(other, path))
            return found;
    path->pop_back();
    return nullptr;
}

/* target: the stream that matters, NULL: all. */
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
    std::vector<cudaStream_t> path;
    return target ? find_progress(target, &path) : nullptr;
}

static bool others_run()
{
    for (const cudaStream_t s : all_streams())
        if (s->busy)
            return true;
    return false;
}

static void forget_stream(cudaStream_t s)
{
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
}

static double now_in_milliseconds()
{
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

static void finish_first(cudaStream_t s)
{
    Op &op = s->ops.front();
    if (op.records && op.records->completed < op.number)
        op.records->completed = op.number;
    s->ops.pop_front();
    s->busy = false;
    if (s->destroyed && s->ops.empty())
        forget_stream(s);
}

static void run_alone(std::unique_lock<std::mutex> &l, const std::function<void()> &run)
{
    l.unlock();
    {
        std::lock_guard<std::mutex> one(gpu);
        run();
    }
    l.lock();
}

/* Do the first work of s, which is ready; of a meeting, on all its streams. */
static void execute(std::unique_lock<std::mutex> &l, cudaStream_t s)
{
    const std::shared_ptr<Meeting> meeting = s->ops.front().meeting;
    const bool lost = is_lost(s);
    std::vector<cudaStream_t> taking_part = {s};
    if (meeting && !lost)
        taking_part = meeting->streams;
    else if (meeting)
        std::replace(meeting->streams.begin(), meeting->streams.end(), s, cudaStream_t{});
    for (cudaStream_t t : taking_part)
        t->busy = true;
    const Op &op = s->ops.front(); /* stays where it is while others are added behind it */
    if (meeting && !lost) {
        run_alone(l, [&] { meeting->run(); });
        meeting->end();
    } else if (op.work.run && !lost) {
        run_alone(l, op.work.run);
    }
    if (op.records)
        op.records->milliseconds = now_in_milliseconds();
    for (cudaStream_t t : taking_part)
        finish_first(t);
    n_moves++;
    moved.notify_all();
}

/* ---- waiting ---- */

/* How long nothing has moved. */
class Patience
{
  public:
    explicit Patience(int seconds) : limit_(seconds) {}
    bool is_over()
    {
        if (std::exchange(seen_, n_moves) != n_moves)
            since_ = Clock::now();
        return Clock::now() - since_ > limit_;
    }

  private:
    using Clock = std::chrono::steady_clock;
    std::chrono::seconds limit_;
    Clock::time_point since_ = Clock::now();
    uint64_t seen_ = n_moves;
};

[[noreturn]] static void report_stuck()
{
    std::string text;
    for (const cudaStream_t s : all_streams())
        if (!s->ops.empty() && !s->busy)
            text += (text.empty() ? ": " : "; ") + waiting(s);
    fail("the host waits for stream work that cannot go on%s", text.c_str());
}

/* Device memory is there while a host thread waits and finds work. Between polls it stays, as opening
 * and closing costs more than most work. */
static void hold_memory(bool wanted)
{
    static thread_local bool held = false;
    if (held != wanted)
        wanted ? device_memory_open() : device_memory_close();
    held = wanted;
}

/* Run work until done() or the device is lost. */
template <class F>
static void drain(std::unique_lock<std::mutex> &l, int device, cudaStream_t target, F done)
{
    Patience patience(config().patience);
    while (!done() && device_state(device) == cudaSuccess) {
        cudaStream_t s = choose(target);
        hold_memory(s != nullptr);
        if (s)
            execute(l, s);
        else if (moved.wait_for(l, std::chrono::seconds(1)) == std::cv_status::timeout &&
                 patience.is_over())
            report_stuck();
    }
    hold_memory(false);
}

constexpr std::chrono::milliseconds A_MOMENT(1);

/* For a host that polls: lets one operation run, so that a loop of polls ends. Where nothing can go
 * on, it leaves the processor to other threads for a moment. */
template <class F>
static bool poll(std::unique_lock<std::mutex> &l, cudaStream_t target, F done)
{
    static Patience patience(3 * config().patience);
    cudaStream_t s = done() ? nullptr : choose(target);
    if (s) {
        hold_memory(true);
        execute(l, s);
    } else if (!done() && moved.wait_for(l, A_MOMENT) == std::cv_status::timeout &&
               patience.is_over()) {
        report_stuck();
    }
    if (done())
        hold_memory(false);
    return done();
}

void wait_for_host(std::unique_lock<std::mutex> &l, const std::function<bool()> &done,
                   const std::function<std::string()> &what)
{
    Patience patience(config().patience);
    while (!done())
        if (moved.wait_for(l, std::chrono::seconds(1)) == std::cv_status::timeout &&
            patience.is_over())
            fail("%s", what().c_str());
}

/* ---- new work ---- */

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
        drain(l, s->device, nullptr, others_idle);
    else if (s != default_stream && s->blocking && !is_idle(default_stream))
        drain(l, s->device, default_stream, [&] { return is_idle(default_stream); });
}

void push(std::unique_lock<std::mutex> &l, cudaStream_t s, Op op)
{
    if (Capture *c = s->capture) {
        c->nodes.push_back({std::move(op.work), c->tips[s]});
        c->tips[s] = {c->nodes.size() - 1};
        return;
    }
    order_with_legacy(l, s);
    if (op.work.join)
        op.meeting = op.work.join(s);
    s->ops.push_back(std::move(op));
    n_moves++;
    moved.notify_all();
}

cudaError_t enqueue(cudaStream_t handle, const char *what, std::function<void()> run)
{
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    if (s == &legacy[s->device] && capture_forbids() != cudaSuccess)
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
    const int device = device_of(handle);
    TDM_EMU_REQUIRE_STATE_OF(device);
    std::unique_lock<std::mutex> l(streams_lock);
    if (capture_forbids() != cudaSuccess)
        return set_error(cudaErrorStreamCaptureUnsupported);
    cudaStream_t s = stream_of(handle);
    if (s == &legacy[device])
        order_with_legacy(l, s);
    drain(l, device, s, [&] { return is_idle(s); });
    return set_error(device_state(device));
}

cudaError_t cudaDeviceSynchronize(void)
{
    return synchronize_device(current_device());
}

/* Work that waits for another rank stays behind, as it would on a GPU, and is done when that comes. */
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    std::unique_lock<std::mutex> l(streams_lock);
    if (s->capture)
        return set_error(cudaErrorStreamCaptureUnsupported);
    const int device = s->device;
    while (!is_idle(s)) {
        cudaStream_t next = choose(s);
        hold_memory(next != nullptr);
        if (next)
            execute(l, next);
        else if (others_run())
            moved.wait(l);
        else
            break;
    }
    hold_memory(false);
    s->destroyed = true;
    if (is_idle(s))
        forget_stream(s);
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
                                                  : cudaErrorNotReady;
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
               : cudaErrorNotReady;
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
