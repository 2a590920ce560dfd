/* tests/emu/graph.cpp - stream capture and graphs. A graph is a set of closures with dependencies;
 * a launch puts them on the stream in a topological order that is not the order of the capture. */
#include "tests/emu/stream.h"

#include <atomic>
#include <cuda_runtime_api.h>
#include <set>

namespace tdm_emu
{

std::vector<Capture *> captures;

/* With streams_lock held. A capture forbids calls that may wait or allocate: to its own thread, and
 * in global mode to every thread. Such a call breaks the capture. */
cudaError_t capture_forbids()
{
    cudaError_t e = cudaSuccess;
    for (Capture *c : captures) {
        if (c->mode == cudaStreamCaptureModeRelaxed)
            continue;
        if (c->mode == cudaStreamCaptureModeGlobal || c->owner == std::this_thread::get_id()) {
            c->broken = true;
            e = cudaErrorStreamCaptureUnsupported;
        }
    }
    return e;
}

cudaError_t capture_allows_unsafe_call()
{
    std::lock_guard<std::mutex> l(streams_lock);
    return capture_forbids();
}

/* The nodes that node `tip` of the capture comes after, itself included. */
static std::set<size_t> joined(const Capture &c, std::vector<size_t> open)
{
    std::set<size_t> seen;
    while (!open.empty()) {
        const size_t i = open.back();
        open.pop_back();
        if (seen.insert(i).second)
            open.insert(open.end(), c.nodes[i].after.begin(), c.nodes[i].after.end());
    }
    return seen;
}

/* Without a seed the node that became ready last goes first. */
static std::vector<size_t> order_of(const std::vector<Node> &nodes, uint64_t random)
{
    std::vector<size_t> waits_for(nodes.size()), ready, order;
    std::vector<std::vector<size_t>> before(nodes.size());
    for (size_t i = 0; i < nodes.size(); i++) {
        const std::set<size_t> after(nodes[i].after.begin(), nodes[i].after.end());
        waits_for[i] = after.size();
        for (size_t a : after)
            before[a].push_back(i);
        if (after.empty())
            ready.push_back(i);
    }
    while (!ready.empty()) {
        const size_t k = config().seed ? next_random(&random) % ready.size() : ready.size() - 1;
        const size_t i = ready[k];
        ready.erase(ready.begin() + static_cast<long>(k));
        order.push_back(i);
        for (size_t n : before[i])
            if (--waits_for[n] == 0)
                ready.push_back(n);
    }
    return order;
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
    TDM_EMU_REQUIRE_STATE();
    if (!s || s == cudaStreamLegacy)
        return set_error(cudaErrorStreamCaptureUnsupported);
    std::lock_guard<std::mutex> l(streams_lock);
    if (s->capture)
        return set_error(cudaErrorIllegalState);
    s->capture = new Capture{mode, std::this_thread::get_id(), s, {}, {}};
    captures.push_back(s->capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    *graph = nullptr;
    TDM_EMU_REQUIRE_STATE();
    std::lock_guard<std::mutex> l(streams_lock);
    Capture *c = s->capture;
    if (!c)
        return set_error(cudaErrorIllegalState);
    if (c->origin != s)
        return set_error(cudaErrorStreamCaptureUnmatched);
    if (c->mode != cudaStreamCaptureModeRelaxed && c->owner != std::this_thread::get_id())
        return set_error(cudaErrorStreamCaptureWrongThread);
    const std::unique_ptr<Capture> ended(c);
    for (const auto &tip : c->tips)
        tip.first->capture = nullptr;
    s->capture = nullptr;
    for (size_t i = 0; i < captures.size(); i++)
        if (captures[i] == c)
            captures.erase(captures.begin() + static_cast<long>(i));
    if (c->broken)
        return set_error(cudaErrorStreamCaptureInvalidated);
    if (joined(*c, c->tips[s]).size() != c->nodes.size())
        return set_error(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{std::move(c->nodes)};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status)
{
    TDM_EMU_REQUIRE_STATE();
    std::lock_guard<std::mutex> l(streams_lock);
    const Capture *c = stream_of(handle)->capture;
    *status = !c          ? cudaStreamCaptureStatusNone
              : c->broken ? cudaStreamCaptureStatusInvalidated
                          : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = nullptr;
    TDM_EMU_REQUIRE_STATE();
    *out = new CUgraphExec_st{std::make_shared<const std::vector<Node>>(graph->nodes)};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return set_error(device_state());
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle)
{
    static std::atomic<uint64_t> n_launches{0};
    TDM_EMU_REQUIRE_STATE_OF(device_of(handle));
    const std::vector<Node> &nodes = *exec->nodes;
    const uint64_t random = (config().seed << 32 | ++n_launches) | 1ull << 63;
    std::unique_lock<std::mutex> l(streams_lock);
    cudaStream_t s = stream_of(handle);
    for (size_t i : order_of(nodes, random))
        push(l, s, {nodes[i].work});
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    if (nodes)
        fail("cudaGraphGetNodes: only the number of nodes is emulated");
    *n = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
}
