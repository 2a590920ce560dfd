/* tests/emu/nccl.cpp - NCCL among devices of this process.
 *
 * Operation k of a communicator is a meeting of operation k of all its ranks: when each is first in its
 * stream, one thread moves the bytes for all. Grouped sends and receives are one operation, in which
 * every rank takes part. All state is under streams_lock. */
#include "tests/emu/control.h"
#include "tests/emu/stream.h"

#if __has_include(<nccl.h>)

#include <algorithm>
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

namespace tdm_emu
{

enum CallKind { GATHER, EXCHANGE, N_KINDS };

struct Transfer {
    bool send;
    int peer;
    char *buffer;
    size_t count;
    ncclDataType_t type;
};

/* What one rank asks for. */
struct Call {
    CallKind kind;
    const char *from; /* GATHER, and what is below */
    char *to;
    size_t count;
    ncclDataType_t type;
    std::vector<Transfer> transfers; /* EXCHANGE */
};

struct World;

} // namespace tdm_emu

/* One rank. */
struct ncclComm {
    std::shared_ptr<tdm_emu::World> world;
    int rank, device;
    uint64_t n_called = 0, n_done = 0;
    bool called[tdm_emu::N_KINDS] = {}; /* outside of a capture */
    const char *closed = nullptr;       /* "destroyed" or "aborted" */
};

namespace tdm_emu
{

struct Operation;

/* A communicator. */
struct World {
    int number;
    std::vector<ncclComm *> ranks; /* NULL: has not come yet */
    std::map<uint64_t, std::shared_ptr<Operation>> under_way;
    bool failed = false; /* by TDM_EMU_NCCL_FAIL */
};

struct Operation : Meeting {
    World *world;
    uint64_t number; /* in the communicator, from 0 */
    bool fails;
    std::vector<Call> calls; /* by rank, where streams says that it called */
    struct Caller {
        std::thread::id thread;
        uint64_t group; /* 0: from a graph */
    };
    std::vector<Caller> callers;

    bool is_complete() const override;
    void run() override;
    void end() override;
    std::string missing() const override;
};

/* All there ever were; not destroyed, as the search for leaks asks when the program ends. */
static auto &communicators = *new std::vector<std::unique_ptr<ncclComm>>;
static std::map<std::string, std::shared_ptr<World>> by_id; /* of ncclGetUniqueId */
static int n_worlds;
static long n_collectives, n_begun, n_groups;

void count_collectives_from_here()
{
    n_begun = 0;
}

int open_communicators()
{
    return static_cast<int>(std::count_if(communicators.begin(), communicators.end(),
                                          [](const auto &c) { return !c->closed; }));
}

/* ---- what is said of them ---- */

static size_t type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        fail("NCCL: data type %d is not emulated", static_cast<int>(type));
    }
}

static std::string amount(size_t count, ncclDataType_t type)
{
    static const char *const NAMES[] = {"int8",    "uint8",   "int32",    "uint32",
                                        "int64",   "uint64",  "float16",  "float32",
                                        "float64", "bfloat16", "float8e4m3", "float8e5m2"};
    return std::to_string(count) + " " + NAMES[type];
}

static std::string text_of(const Call &c)
{
    if (c.kind == GATHER)
        return "ncclAllGather of " + amount(c.count, c.type);
    return "an exchange of " + std::to_string(c.transfers.size()) + " ncclSend and ncclRecv";
}

static std::string name_of(const Operation *o)
{
    return "operation " + std::to_string(o->number) + " of communicator " +
           std::to_string(o->world->number);
}

static std::string why_missing(const ncclComm *c)
{
    if (c->closed)
        return std::string(c->closed) + " its communicator";
    return device_state(c->device) == cudaSuccess ? "has not called it" : "has lost its device";
}

std::string Operation::missing() const
{
    if (fails)
        return name_of(this) + " failed (TDM_EMU_NCCL_FAIL)";
    for (size_t r = 0; r < streams.size(); r++)
        if (!streams[r])
            return name_of(this) + ": rank " + std::to_string(r) + " of " +
                   std::to_string(streams.size()) + " " + why_missing(world->ranks[r]);
    return name_of(this) + " waits for other work of its streams";
}

/* ---- one operation ---- */

static std::vector<Transfer> between(const Call &c, bool send, int peer)
{
    std::vector<Transfer> list;
    for (const Transfer &t : c.transfers)
        if (t.send == send && t.peer == peer)
            list.push_back(t);
    return list;
}

static std::string sum_of(const std::vector<Transfer> &list)
{
    std::string text;
    for (const Transfer &t : list)
        text += (text.empty() ? "" : " and ") + amount(t.count, t.type);
    return text.empty() ? "nothing" : text;
}

/* What rank a sends b is what b receives. */
static void require_match(const Operation *o, int a, int b)
{
    const auto sent = between(o->calls[static_cast<size_t>(a)], true, b);
    const auto received = between(o->calls[static_cast<size_t>(b)], false, a);
    bool same = sent.size() == received.size();
    for (size_t i = 0; same && i < sent.size(); i++)
        same = sent[i].count == received[i].count && sent[i].type == received[i].type;
    if (!same)
        fail("NCCL: %s: rank %d sends rank %d %s, which receives %s", name_of(o).c_str(), a, b,
             sum_of(sent).c_str(), sum_of(received).c_str());
}

static void require_same(const Operation *o, int a, int b)
{
    const Call &x = o->calls[static_cast<size_t>(a)], &y = o->calls[static_cast<size_t>(b)];
    if (x.kind != y.kind || (x.kind == GATHER && (x.count != y.count || x.type != y.type)))
        fail("NCCL: %s is %s for rank %d, %s for rank %d", name_of(o).c_str(), text_of(x).c_str(),
             a, text_of(y).c_str(), b);
    if (x.kind == EXCHANGE) {
        require_match(o, a, b);
        require_match(o, b, a);
    }
}

/* NCCL may wait for the others in the call of one rank, so a thread that calls for two groups them. */
static void require_group(const Operation *o, int a, int b)
{
    const Operation::Caller &x = o->callers[static_cast<size_t>(a)],
                            &y = o->callers[static_cast<size_t>(b)];
    if (x.group && y.group && x.thread == y.thread && x.group != y.group)
        fail("NCCL: %s: one thread calls for ranks %d and %d, but not in one group",
             name_of(o).c_str(), a, b);
}

bool Operation::is_complete() const
{
    return !fails;
}

static void gather(const std::vector<Call> &calls)
{
    const size_t bytes = calls[0].count * type_bytes(calls[0].type);
    for (const Call &to : calls)
        for (size_t r = 0; r < calls.size(); r++)
            if (to.to + r * bytes != calls[r].from)
                memcpy(to.to + r * bytes, calls[r].from, bytes);
}

static void exchange(const std::vector<Call> &calls)
{
    const int n = static_cast<int>(calls.size());
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            const auto sent = between(calls[static_cast<size_t>(a)], true, b);
            const auto received = between(calls[static_cast<size_t>(b)], false, a);
            for (size_t i = 0; i < sent.size(); i++)
                memcpy(received[i].buffer, sent[i].buffer, sent[i].count * type_bytes(sent[i].type));
        }
}

static void require_buffers(const ncclComm *c, const Call &call);

void Operation::run()
{
    for (size_t r = 0; r < calls.size(); r++)
        require_buffers(world->ranks[r], calls[r]);
    calls[0].kind == GATHER ? gather(calls) : exchange(calls);
}

void Operation::end()
{
    n_collectives++;
    for (ncclComm *c : world->ranks)
        c->n_done++;
    world->under_way.erase(number);
}

/* ---- one call ---- */

struct Range {
    const char *p;
    size_t bytes;
    bool overlaps(const Range &other) const
    {
        return p < other.p + other.bytes && other.p < p + bytes;
    }
};

static void ranges_of(const ncclComm *c, const Call &call, std::vector<Range> *read,
                      std::vector<Range> *written)
{
    for (const Transfer &t : call.transfers)
        (t.send ? read : written)->push_back({t.buffer, t.count * type_bytes(t.type)});
    if (call.kind != GATHER)
        return;
    const size_t bytes = call.count * type_bytes(call.type);
    if (call.from != call.to + static_cast<size_t>(c->rank) * bytes)
        read->push_back({call.from, bytes});
    written->push_back({call.to, bytes * c->world->ranks.size()});
}

static void require_buffers(const ncclComm *c, const Call &call)
{
    std::vector<Range> read, written;
    ranges_of(c, call, &read, &written);
    const std::string what = text_of(call) + " on rank " + std::to_string(c->rank);
    for (const auto *list : {&read, &written})
        for (const Range &r : *list)
            if (r.bytes)
                require_device(r.p, r.bytes, what.c_str(), c->device);
    for (size_t w = 0; w < written.size(); w++) {
        for (const Range &r : read)
            if (written[w].overlaps(r))
                fail("%s: what is read lies in what is written", what.c_str());
        for (size_t other = 0; other < w; other++)
            if (written[w].overlaps(written[other]))
                fail("%s: two results overlap", what.c_str());
    }
}

/* What an aborted rank finds. */
static void scribble(const ncclComm *c, const Call &call)
{
    std::vector<Range> read, written;
    ranges_of(c, call, &read, &written);
    for (const Range &w : written)
        memset(const_cast<char *>(w.p), 0xff, w.bytes);
}

static Operation *operation_of(ncclComm *c, uint64_t number)
{
    World *w = c->world.get();
    std::shared_ptr<Operation> &o = w->under_way[number];
    if (!o) {
        o = std::make_shared<Operation>();
        o->world = w;
        o->number = number;
        o->fails = ++n_begun == config().nccl_fail;
        w->failed = w->failed || o->fails;
        o->streams.resize(w->ranks.size());
        o->calls.resize(w->ranks.size());
        o->callers.resize(w->ranks.size());
    }
    return o.get();
}

/* Rank c's part of its next operation. */
static std::shared_ptr<Meeting> join(ncclComm *c, const Call &call, uint64_t group, cudaStream_t s)
{
    if (c->closed && strcmp(c->closed, "destroyed") == 0)
        fail("NCCL: a graph uses rank %d of communicator %d, which was destroyed", c->rank,
             c->world->number);
    if (c->closed)
        return nullptr;
    const uint64_t number = c->n_called++;
    Operation *o = operation_of(c, number);
    const auto before = c->world->under_way.find(number - 1);
    const size_t rank = static_cast<size_t>(c->rank);
    if (before != c->world->under_way.end() && before->second->streams[rank] &&
        before->second->streams[rank] != s)
        fail("NCCL: %s: rank %d uses two streams at a time, which is not emulated",
             name_of(o).c_str(), c->rank);
    o->streams[rank] = s;
    o->calls[rank] = call;
    o->callers[rank] = {std::this_thread::get_id(), group};
    for (size_t r = 0; r < o->streams.size(); r++)
        if (r == rank ? call.kind == EXCHANGE : o->streams[r] != nullptr) {
            require_same(o, static_cast<int>(r), c->rank);
            require_group(o, static_cast<int>(r), c->rank);
        }
    return c->world->under_way[number];
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
    push(l, s,
         {{what, [c, call] { scribble(c, call); },
           [c, call, group](cudaStream_t stream) { return join(c, call, group, stream); }}});
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
    const uint64_t number = static_cast<uint64_t>(++n_groups);
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

static const char *closed(ncclComm_t c)
{
    std::lock_guard<std::mutex> l(streams_lock);
    for (const auto &known : communicators)
        if (known.get() == c)
            return c->closed;
    return "never made";
}

static void require_open(ncclComm_t c, const char *what)
{
    if (const char *how = closed(c))
        fail("%s: the communicator was %s", what, how);
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

/* Take the rank out of what it has under way; its operations then go on alone. */
static void leave(ncclComm *c)
{
    for (auto &entry : c->world->under_way) {
        cudaStream_t &s = entry.second->streams[static_cast<size_t>(c->rank)];
        for (size_t i = s && s->busy ? 1 : 0; s && i < s->ops.size(); i++)
            if (s->ops[i].meeting == entry.second)
                s->ops[i].meeting = nullptr;
        s = nullptr;
    }
    moved.notify_all();
}

static ncclResult_t async_error(const ncclComm *c)
{
    if (device_state(c->device) != cudaSuccess)
        return ncclUnhandledCudaError;
    if (c->world->failed)
        return ncclSystemError;
    for (const ncclComm *other : c->world->ranks)
        if (other && other != c && ((other->closed && strcmp(other->closed, "aborted") == 0) ||
                           device_state(other->device) != cudaSuccess))
            return ncclRemoteError;
    return ncclSuccess;
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

long tdm_emu_collectives(void)
{
    std::lock_guard<std::mutex> l(streams_lock);
    return n_collectives;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const TEXTS[] = {
        "no error",          "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
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
    c->closed = "destroyed";
    leave(c);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t c)
{
    require_open(c, "ncclCommAbort");
    std::lock_guard<std::mutex> l(streams_lock);
    c->closed = "aborted";
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
