/* tests/emu/stream.h - streams, events, captures and graphs, shared by progress.cpp, stream.cpp,
 * graph.cpp and nccl.cpp. */
#ifndef TESTS_EMU_STREAM_H
#define TESTS_EMU_STREAM_H

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/emu/emu.h"

namespace tdm_emu
{

/* What several streams do together once each has reached it: a collective of NCCL. All under
 * streams_lock, but run(). */
struct Meeting {
    std::vector<cudaStream_t> streams; /* by rank; NULL: has not called, or will not take part */

    virtual ~Meeting() = default;
    /* Whether every rank is ready, given that their streams are. */
    virtual bool is_complete() const = 0;
    virtual void run() = 0;
    virtual void end() = 0; /* after run() */
    virtual std::string missing() const = 0;
};
/* Take part in the next meeting of a rank. */
using Join = std::function<std::shared_ptr<Meeting>(cudaStream_t)>;

/* Work for a stream. */
struct Work {
    const char *what;
    std::function<void()> run = nullptr;
    Join join = nullptr; /* of a collective */
};

struct Node {
    Work work;
    std::vector<size_t> after;
};

/* A stream capture under way. tips: the nodes that the next work of a stream comes after. */
struct Capture {
    cudaStreamCaptureMode mode;
    std::thread::id owner;
    cudaStream_t origin;
    std::vector<Node> nodes;
    std::map<cudaStream_t, std::vector<size_t>> tips;
    bool broken = false;
};

struct EventState {
    int device = 0;
    uint64_t recorded = 0, completed = 0;
    double milliseconds = 0;
    cudaStream_t stream = nullptr; /* of the last record */
    Capture *capture = nullptr;    /* recorded in a capture, after these nodes */
    std::vector<size_t> tips;
};

struct Op {
    Work work;
    std::shared_ptr<EventState> waits = nullptr, records = nullptr;
    uint64_t number = 0;           /* which record of the event */
    cudaStream_t source = nullptr; /* where the record is that this waits for */
    std::shared_ptr<Meeting> meeting = nullptr;
};

extern std::mutex streams_lock;
extern std::condition_variable moved; /* something that a host may wait for has changed */
extern std::vector<Capture *> captures;

cudaStream_t stream_of(cudaStream_t handle);
cudaStream_t default_stream(int device);

/* ---- graph.cpp; all from here on with streams_lock held ---- */
cudaError_t capture_forbids();

/* ---- progress.cpp ---- */
const std::vector<cudaStream_t> &all_streams();
cudaStream_t open_stream(int device, bool blocking);
/* Work that waits for another rank stays behind, as it would on a GPU, and is done when that comes.
 */
void close_stream(std::unique_lock<std::mutex> &l, cudaStream_t s);
bool is_idle(const CUstream_st *s);
void push(std::unique_lock<std::mutex> &l, cudaStream_t s, Op op);
/* The legacy stream and blocking streams of a device wait for each other. */
void order_with_legacy(std::unique_lock<std::mutex> &l, cudaStream_t s);

/* Run work until done() or the device is lost. target: the stream that matters, NULL: all. */
void drain(std::unique_lock<std::mutex> &l, int device, cudaStream_t target,
           const std::function<bool()> &done);
/* done(), for a host that polls: lets one operation run, so that a loop of polls ends. Where
 * nothing can go on, it leaves the processor to other threads for a moment. */
bool poll(std::unique_lock<std::mutex> &l, cudaStream_t target, const std::function<bool()> &done);
/* Wait for other host threads; fails with what() when they do not come. */
void wait_for_host(std::unique_lock<std::mutex> &l, const std::function<bool()> &done,
                   const std::function<std::string()> &what);

} // namespace tdm_emu

struct CUstream_st {
    int device = 0;
    bool blocking = true;
    std::deque<tdm_emu::Op> ops;
    bool busy = false;      /* the first of them runs */
    bool destroyed = false; /* by its owner; lives until its work is done */
    tdm_emu::Capture *capture = nullptr;
};
struct CUevent_st {
    std::shared_ptr<tdm_emu::EventState> state;
};
struct CUgraph_st {
    std::vector<tdm_emu::Node> nodes;
};
struct CUgraphExec_st {
    std::shared_ptr<const std::vector<tdm_emu::Node>> nodes;
};

#endif
