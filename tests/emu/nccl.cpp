/* tests/emu/nccl.cpp - the functions of NCCL, among devices of this process. All state is under
 * streams_lock. */
#include "tests/emu/emu.h"

#if __has_include(<nccl.h>)
#include "tests/emu/collective.h"

#include <algorithm>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

namespace tdm_emu
{

/* All there ever were; not destroyed, as the search for leaks asks when the program ends. */
static auto &communicators = *new std::vector<std::unique_ptr<ncclComm>>;
static std::map<std::string, std::shared_ptr<World>> by_id; /* of ncclGetUniqueId */
static int n_worlds;
static uint64_t n_groups;

int open_communicators()
{
    return static_cast<int>(std::count_if(communicators.begin(), communicators.end(),
                                          [](const auto &c) { return c->closed == Closed::no; }));
}

static const char *kind_name(CallKind kind)
{
    return kind == GATHER ? "ncclAllGather" : "ncclSend or ncclRecv";
}

/* With streams_lock held. */
static ncclResult_t enqueue_call(std::unique_lock<std::mutex> &l, ncclComm *c, const Call &call,
                                 uint64_t group, cudaStream_t handle)
{
    const char *what = kind_name(call.kind);
    if (device_state(c->device) != cudaSuccess)
        return ncclUnhandledCudaError;
    if (device_of(handle) != c->device)
        fail("%s: rank %d of communicator %d is on device %d, the stream on device %d", what,
             c->rank, c->world->number, c->device, device_of(handle));
    cudaStream_t s = stream_of(handle);
    if (s->capture && !c->called[call.kind])
        fail("%s is first used by rank %d in a capture, where its connections cannot be made: call "
             "it once before",
             what, c->rank);
    if (!s->capture)
        c->called[call.kind] = true;
    else
        group = 0;
    require_buffers(c, call);
    const std::shared_ptr<int> recorded = s->capture ? c->recorded : nullptr;
    push(l, s,
         {{what, [c, call] { scribble(c, call); },
           [c, call, group, recorded](cudaStream_t stream) {
               return join(c, call, group, stream);
           }}});
    return ncclSuccess;
}

/* ---- groups ---- */

struct Grouped {
    ncclComm *c;
    Call call;
    cudaStream_t stream;
};
struct Group {
    int depth = 0;
    std::vector<Grouped> calls;
    std::vector<ncclComm *> initialised;
};
static thread_local Group group;

static ncclResult_t end_group(std::unique_lock<std::mutex> &l)
{
    const Group ended = std::move(group);
    group = Group();
    const uint64_t number = ++n_groups;
    for (const Grouped &g : ended.calls) {
        const ncclResult_t e = enqueue_call(l, g.c, g.call, number, g.stream);
        if (e != ncclSuccess)
            return e;
    }
    return ncclSuccess;
}

/* Sends and receives of a rank come together in one call. */
static ncclResult_t add(ncclComm_t c, Call call, cudaStream_t stream)
{
    std::unique_lock<std::mutex> l(streams_lock);
    Grouped *open = nullptr;
    for (Grouped &g : group.calls)
        if (g.c == c && g.call.kind == EXCHANGE && call.kind == EXCHANGE)
            open = &g;
    if (!open)
        group.calls.push_back({c, std::move(call), stream});
    else if (open->stream == stream)
        open->call.transfers.push_back(call.transfers[0]);
    else
        fail("NCCL: rank %d sends and receives on two streams in one group, which is not emulated",
             c->rank);
    return group.depth ? ncclSuccess : end_group(l);
}

/* ---- communicators ---- */

static void require_open(ncclComm_t c, const char *what)
{
    static const char *const HOW[] = {"", "destroyed", "aborted"};
    std::lock_guard<std::mutex> l(streams_lock);
    const bool known = std::any_of(communicators.begin(), communicators.end(),
                                   [c](const auto &k) { return k.get() == c; });
    if (!known || c->closed != Closed::no)
        fail("%s: the communicator was %s", what,
             known ? HOW[static_cast<int>(c->closed)] : "never made");
}

static ncclComm *new_rank(const std::shared_ptr<World> &w, int rank, int device)
{
    communicators.emplace_back(new ncclComm);
    ncclComm *c = communicators.back().get();
    c->world = w;
    c->rank = rank;
    c->device = device;
    w->ranks[static_cast<size_t>(rank)] = c;
    return c;
}

static std::shared_ptr<World> new_world(int n)
{
    auto w = std::make_shared<World>();
    w->number = n_worlds++;
    w->ranks.resize(static_cast<size_t>(n));
    return w;
}

static void wait_for_ranks(std::unique_lock<std::mutex> &l, const World *w)
{
    const auto first_missing = [w] {
        return std::find(w->ranks.begin(), w->ranks.end(), nullptr) - w->ranks.begin();
    };
    const long n = static_cast<long>(w->ranks.size());
    wait_for_host(
        l, [&] { return first_missing() == n; },
        [&] {
            return "ncclCommInitRank: rank " + std::to_string(first_missing()) + " of " +
                   std::to_string(n) + " has not come";
        });
}

/* NCCL waits until no graph can call for the communicator any more. */
static void require_no_graph(const ncclComm *c, const char *what)
{
    if (c->recorded.use_count() > 1)
        fail("%s: a graph with operations of rank %d of communicator %d is still there", what,
             c->rank, c->world->number);
}

/* NCCL ends by making the device of the thread current again: where nothing else is done there, that takes a context. */
static void require_own_device(int n, const int *devices)
{
    const int now = current_device();
    if (devices ? std::find(devices, devices + n, now) == devices + n : now >= n)
        fail("ncclCommInitAll: the thread is on device %d, which is none of the communicator's: it takes memory there",
             now);
}

static ncclResult_t async_error(const ncclComm *c)
{
    if (device_state(c->device) != cudaSuccess)
        return ncclUnhandledCudaError;
    if (c->world->failed)
        return ncclSystemError;
    for (const ncclComm *other : c->world->ranks)
        if (other && other != c &&
            (other->closed == Closed::aborted || device_state(other->device) != cudaSuccess))
            return ncclRemoteError;
    return ncclSuccess;
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const TEXTS[] = {
        "no error",
        "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "internal error - please report this issue to the NCCL developers",
        "invalid argument (run with NCCL_DEBUG=WARN for details)",
        "invalid usage (run with NCCL_DEBUG=WARN for details)",
        "remote process exited or there was a network error",
        "NCCL operation in progress"};
    return result >= 0 && result < ncclNumResults ? TEXTS[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int n_ids = 0;
    std::lock_guard<std::mutex> l(streams_lock);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "emulated %d", ++n_ids);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int n, ncclUniqueId id, int rank)
{
    *out = nullptr;
    if (n < 1 || rank < 0 || rank >= n)
        return ncclInvalidArgument;
    if (device_state() != cudaSuccess)
        return ncclUnhandledCudaError;
    std::unique_lock<std::mutex> l(streams_lock);
    std::shared_ptr<World> &w = by_id[id.internal];
    if (!w)
        w = new_world(n);
    if (w->ranks.size() != static_cast<size_t>(n) || w->ranks[static_cast<size_t>(rank)])
        fail("ncclCommInitRank: rank %d of %d does not fit what other ranks said", rank, n);
    for (const ncclComm *other : w->ranks)
        if (other && other->device == current_device())
            fail("ncclCommInitRank: ranks %d and %d are both on device %d", other->rank, rank,
                 other->device);
    *out = new_rank(w, rank, current_device());
    moved.notify_all();
    if (group.depth)
        group.initialised.push_back(*out);
    else
        wait_for_ranks(l, (*out)->world.get());
    return ncclSuccess;
}

ncclResult_t ncclCommInitAll(ncclComm_t *out, int n, const int *devices)
{
    if (n < 1 || n > config().devices)
        return ncclInvalidArgument;
    for (int r = 0; r < n; r++) {
        const int device = devices ? devices[r] : r;
        if (device_state(device) != cudaSuccess)
            return ncclUnhandledCudaError;
        for (int other = 0; devices && other < r; other++)
            if (devices[other] == device)
                return ncclInvalidUsage;
    }
    require_own_device(n, devices);
    std::lock_guard<std::mutex> l(streams_lock);
    const std::shared_ptr<World> w = new_world(n);
    for (int r = 0; r < n; r++)
        out[r] = new_rank(w, r, devices ? devices[r] : r);
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    require_open(c, "ncclCommFinalize");
    std::lock_guard<std::mutex> l(streams_lock);
    if (c->n_done != c->n_called && async_error(c) == ncclSuccess)
        fail("ncclCommFinalize, ncclCommDestroy: operation %llu of rank %d of communicator %d is "
             "still under way",
             static_cast<unsigned long long>(c->n_done), c->rank, c->world->number);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    require_open(c, "ncclCommDestroy");
    ncclCommFinalize(c);
    std::lock_guard<std::mutex> l(streams_lock);
    require_no_graph(c, "ncclCommDestroy");
    c->closed = Closed::destroyed;
    leave(c);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t c)
{
    require_open(c, "ncclCommAbort");
    std::lock_guard<std::mutex> l(streams_lock);
    require_no_graph(c, "ncclCommAbort");
    c->closed = Closed::aborted;
    leave(c);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *result)
{
    require_open(c, "ncclCommGetAsyncError");
    std::lock_guard<std::mutex> l(streams_lock);
    *result = async_error(c);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t c, int *n)
{
    require_open(c, "ncclCommCount");
    *n = static_cast<int>(c->world->ranks.size());
    return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t c, int *device)
{
    require_open(c, "ncclCommCuDevice");
    *device = c->device;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t c, int *rank)
{
    require_open(c, "ncclCommUserRank");
    *rank = c->rank;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (group.depth == 0)
        fail("ncclGroupEnd: without ncclGroupStart");
    if (--group.depth)
        return ncclSuccess;
    std::unique_lock<std::mutex> l(streams_lock);
    for (const ncclComm *c : group.initialised)
        wait_for_ranks(l, c->world.get());
    return end_group(l);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t c, cudaStream_t stream)
{
    require_open(c, "ncclAllGather");
    return add(c,
               {GATHER, static_cast<const char *>(from), static_cast<char *>(to), count, type, {}},
               stream);
}

static ncclResult_t transfer(const char *what, bool send, void *buffer, size_t count,
                             ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream)
{
    require_open(c, what);
    if (peer < 0 || static_cast<size_t>(peer) >= c->world->ranks.size())
        return ncclInvalidArgument;
    const Transfer t = {send, peer, static_cast<char *>(buffer), count, type};
    return add(c, {EXCHANGE, nullptr, nullptr, 0, type, {t}}, stream);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream)
{
    return transfer("ncclSend", true, const_cast<void *>(from), count, type, peer, c, stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream)
{
    return transfer("ncclRecv", false, to, count, type, peer, c, stream);
}
}

#else

void tdm_emu::count_collectives_from_here()
{
}
int tdm_emu::open_communicators()
{
    return 0;
}

#endif
