/* tests/emu/collective.cpp - operation k of a communicator is a meeting of operation k of all its
 * ranks: when each is first in its stream, one thread moves the bytes for all. Grouped sends and
 * receives are one operation, in which every rank takes part. */
#if __has_include(<nccl.h>)
#include "tests/emu/collective.h"

#include "tests/emu/control.h"

#include <string.h>

namespace tdm_emu
{

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

static long n_collectives, n_begun;

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
    static const char *const NAMES[] = {"int8",    "uint8",    "int32",      "uint32",
                                        "int64",   "uint64",   "float16",    "float32",
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
    if (c->closed != Closed::no)
        return c->closed == Closed::aborted ? "aborted" : "destroyed its communicator";
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

/* NCCL may wait for the others in the call of one rank, so a thread that calls for two groups them.
 */
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
                memcpy(received[i].buffer, sent[i].buffer,
                       sent[i].count * type_bytes(sent[i].type));
        }
}

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

void require_buffers(const ncclComm *c, const Call &call)
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

void scribble(const ncclComm *c, const Call &call)
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

std::shared_ptr<Meeting> join(ncclComm *c, const Call &call, uint64_t group, cudaStream_t s)
{
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

void leave(ncclComm *c)
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

} // namespace tdm_emu

extern "C" long tdm_emu_collectives(void)
{
    std::lock_guard<std::mutex> l(tdm_emu::streams_lock);
    return tdm_emu::n_collectives;
}

void tdm_emu::count_collectives_from_here()
{
    n_begun = 0;
}
#endif
