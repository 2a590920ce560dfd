/* tests/emu/progress.cpp - how streams advance. They are lazy: work runs when something waits for
 * it, in the thread that waits, which also runs the streams that its own waits for; with a seed,
 * streams advance in a random order. */
#include "tests/emu/stream.h"

#include <algorithm>
#include <chrono>

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

cudaStream_t default_stream(int device)
{
    return &legacy[device];
}

cudaStream_t open_stream(int device, bool blocking)
{
    all_streams();
    cudaStream_t s = new CUstream_st;
    s->device = device;
    s->blocking = blocking;
    streams.push_back(s);
    return s;
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

bool is_idle(const CUstream_st *s)
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
    explicit Patience(int seconds) : limit_(seconds)
    {
    }
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

/* Device memory is there while a host thread waits and finds work. Between polls it stays, as
 * opening and closing costs more than most work. */
static void hold_memory(bool wanted)
{
    static thread_local bool held = false;
    if (held != wanted)
        wanted ? device_memory_open() : device_memory_close();
    held = wanted;
}

void drain(std::unique_lock<std::mutex> &l, int device, cudaStream_t target,
           const std::function<bool()> &done)
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

bool poll(std::unique_lock<std::mutex> &l, cudaStream_t target, const std::function<bool()> &done)
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

void close_stream(std::unique_lock<std::mutex> &l, cudaStream_t s)
{
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

void order_with_legacy(std::unique_lock<std::mutex> &l, cudaStream_t s)
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
        op.meeting = std::exchange(op.work.join, nullptr)(s);
    s->ops.push_back(std::move(op));
    n_moves++;
    moved.notify_all();
}

} // namespace tdm_emu
