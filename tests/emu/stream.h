/* tests/emu/stream.h - streams, events, captures and graphs, shared by stream.cpp and graph.cpp. */
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

struct Node {
    const char *what;
    std::function<void()> run;
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
    uint64_t recorded = 0, completed = 0;
    double milliseconds = 0;
    cudaStream_t stream = nullptr; /* of the last record */
    Capture *capture = nullptr;    /* recorded in a capture, after these nodes */
    std::vector<size_t> tips;
};

struct Op {
    const char *what;
    std::function<void()> run;
    std::shared_ptr<EventState> event; /* what a wait waits for, or NULL */
    uint64_t until = 0;
};

extern std::mutex streams_lock;
extern std::vector<Capture *> captures;

cudaStream_t stream_of(cudaStream_t handle);
/* Both with streams_lock held. */
void push(std::unique_lock<std::mutex> &l, cudaStream_t s, Op op);
cudaError_t capture_forbids();

} // namespace tdm_emu

struct CUstream_st {
    int device = 0;
    bool blocking = true;
    std::deque<tdm_emu::Op> ops;
    bool busy = false;
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
