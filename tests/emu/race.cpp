/* tests/emu/race.cpp - which accesses of a kernel have no order.
 *
 * Every two bytes of shared and device memory remember the last write and the last two readers. Two
 * accesses of one block are ordered by a barrier between them (interval), by __syncwarp (a vector
 * clock per lane), or by being one thread's. Accesses of two blocks are ordered by a fence and an
 * atomic operation on the side of the first, and an atomic operation on the same address and a
 * fence on the side of the second. Shuffles, votes, mma and ldmatrix order nothing. */
#include "tests/emu/block.h"

#include <string.h>
#include <sys/mman.h>

namespace tdm_emu
{

bool race_on = false;

struct Record {
    uint32_t launch, block, interval, clock, place;
    uint16_t thread;
    uint8_t bytes; /* which of the cell's two */
    bool atomic;
};
constexpr size_t CELL = 2;
struct Cell {
    Record write, readers[2];
};

static Cell *shared_shadow;
/* What a release made known, by address of the atomic; of one launch. */
static std::unordered_map<const void *, std::unordered_map<uint32_t, Seen>> released;
static uint32_t released_launch;

void race_block_starts(Block *b)
{
    if (!race_on)
        return;
    memset(b->clocks, 0, sizeof b->clocks[0] * ((b->n_threads + LANES - 1) / LANES));
    b->seen.clear();
    b->pending.clear();
}

/* Each lane of the group knows all that any of them knew, and gets a new clock of its own. */
void race_warp_syncs(Block *b, unsigned warp, unsigned lanes)
{
    if (!race_on)
        return;
    uint32_t all[LANES] = {};
    uint32_t(&clocks)[LANES][LANES] = b->clocks[warp];
    for (unsigned l = 0; l < LANES; l++) {
        if (!(lanes >> l & 1))
            continue;
        for (unsigned k = 0; k < LANES; k++)
            all[k] = all[k] > clocks[l][k] ? all[k] : clocks[l][k];
        all[l] = all[l] > clocks[l][l] + 1 ? all[l] : clocks[l][l] + 1;
    }
    for (unsigned l = 0; l < LANES; l++)
        if (lanes >> l & 1)
            memcpy(clocks[l], all, sizeof all);
}

/* ---- order between blocks ---- */

static void learn(std::unordered_map<uint32_t, Seen> *what, uint32_t block, Seen news)
{
    Seen &known = (*what)[block];
    if (known.interval < news.interval ||
        (known.interval == news.interval && known.clock < news.clock))
        known = news;
}

void fence()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    Thread *t = current();
    if (!race_on)
        return;
    Block *b = t->block;
    t->fenced = true;
    t->fence_interval = b->interval;
    t->fence_clock = ++b->clocks[t->warp][t->lane][t->lane];
    for (const auto &p : b->pending)
        learn(&b->seen, p.first, p.second);
    b->pending.clear();
}

void atomic_access(const void *p, size_t bytes, Site site)
{
    Thread *t = current();
    if (!race_on || !t)
        return;
    Block *b = t->block;
    race_access(p, bytes, Access::atomic, place_of(site));
    if (released_launch != b->launch_id)
        released.clear();
    released_launch = b->launch_id;
    for (const auto &r : released[p])
        learn(&b->pending, r.first, r.second);
    if (!t->fenced)
        return;
    learn(&released[p], b->id, {t->fence_interval, t->index, t->fence_clock});
    for (const auto &s : b->seen)
        learn(&released[p], s.first, s.second);
}

/* ---- order of two accesses ---- */

/* Shared memory of an earlier block is another memory at the same address. */
static bool ordered(const Record &r, const Thread *t, bool atomic, bool is_shared)
{
    const Block *b = t->block;
    if (r.launch != b->launch_id || (atomic && r.atomic))
        return true;
    if (r.block != b->id) {
        const auto s = b->seen.find(r.block);
        return is_shared || (s != b->seen.end() &&
                             (r.interval < s->second.interval ||
                              (r.interval == s->second.interval && r.thread == s->second.thread &&
                               r.clock < s->second.clock)));
    }
    return r.thread == t->index || r.interval != b->interval ||
           (r.thread / LANES == t->warp && b->clocks[t->warp][t->lane][r.thread % LANES] > r.clock);
}

[[noreturn]] static void report(const char *what, const char *memory, const Record &earlier,
                                uint32_t place)
{
    fail("race: %s in %s memory at %s; earlier by thread %u of block %u at %s", what, memory,
         locate(place).c_str(), earlier.thread, earlier.block, locate(earlier.place).c_str());
}

static void judge(const Cell &c, const Record &now, Access access, bool is_shared)
{
    const char *memory = is_shared ? "shared" : "global";
    const Thread *t = current();
    const bool atomic = access == Access::atomic;
    if (c.write.bytes & now.bytes && !ordered(c.write, t, atomic, is_shared))
        report(access == Access::read ? "read after write" : "write after write", memory, c.write,
               now.place);
    if (access == Access::read)
        return;
    for (const Record &r : c.readers)
        if (r.bytes & now.bytes && !ordered(r, t, atomic, is_shared))
            report("write after read", memory, r, now.place);
}

static void record(Cell *c, const Record &now, Access access)
{
    if (access == Access::write_later)
        return;
    if (access != Access::read) {
        c->write = now;
        return;
    }
    Record &last = c->readers[0];
    if (last.thread != now.thread || last.block != now.block || last.launch != now.launch)
        c->readers[1] = last;
    last = now;
}

static void check(Cell *cells, size_t offset, size_t bytes, Access access, uint32_t place,
                  bool is_shared)
{
    const Thread *t = current();
    const Block *b = t->block;
    Record now = {b->launch_id,
                  b->id,
                  b->interval,
                  b->clocks[t->warp][t->lane][t->lane],
                  place,
                  static_cast<uint16_t>(t->index),
                  0,
                  access == Access::atomic};
    for (size_t at = offset; at < offset + bytes;) {
        Cell *c = &cells[at / CELL];
        const size_t first = at % CELL;
        const size_t n = bytes - (at - offset) < CELL - first ? 1 : CELL - first;
        now.bytes = static_cast<uint8_t>(((1u << n) - 1) << first);
        at += n;
        if (is_shared && access == Access::read &&
            (c->write.launch != b->launch_id || c->write.block != b->id))
            fail("uninitialised read of shared memory at %s", locate(place).c_str());
        judge(*c, now, access, is_shared);
        record(c, now, access);
    }
}

/* ---- which memory ---- */

static Cell *shadow_of(Allocation *a)
{
    if (!a->shadow) {
        a->shadow_bytes = (a->bytes / CELL + 1) * sizeof(Cell);
        a->shadow = mmap(nullptr, a->shadow_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (a->shadow == MAP_FAILED)
            fail("no memory for the race checker");
    }
    return static_cast<Cell *>(a->shadow);
}

void race_forget(Allocation *a)
{
    if (a->shadow)
        munmap(a->shadow, a->shadow_bytes);
    a->shadow = nullptr;
}

static void check_shared(const void *p, size_t bytes, Access access, uint32_t place)
{
    const Block *b = current()->block;
    if (!in_shared_array(b, p, bytes))
        fail("out of bounds: %zu bytes of shared memory at %s", bytes, locate(place).c_str());
    if (!shared_shadow)
        shared_shadow = static_cast<Cell *>(
            mmap(nullptr, SHARED_ARENA / CELL * sizeof(Cell), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    check(shared_shadow, static_cast<size_t>(static_cast<const unsigned char *>(p) - b->arena),
          bytes, access, place, true);
}

void race_access(const void *p, size_t bytes, Access access, uint32_t place)
{
    if (!race_on)
        return;
    const Block *b = current()->block;
    if (static_cast<size_t>(static_cast<const unsigned char *>(p) - b->arena) < SHARED_ARENA) {
        check_shared(p, bytes, access, place);
        return;
    }
    Allocation *a = find_allocation(p);
    if (!a || static_cast<const char *>(p) + bytes > a->p + a->bytes)
        fail("out of bounds: %zu bytes at %p, which are not in live device memory, at %s", bytes, p,
             locate(place).c_str());
    if (a->device != running_device())
        fail("memory of device %d, used by a kernel of device %d at %s", a->device,
             running_device(), locate(place).c_str());
    check(shadow_of(a), static_cast<size_t>(static_cast<const char *>(p) - a->p), bytes, access,
          place, false);
}

} // namespace tdm_emu
