/* tests/emu/block.h - one block under way: its threads, shared memory and what they wait for. */
#ifndef TESTS_EMU_BLOCK_H
#define TESTS_EMU_BLOCK_H

#include <unordered_map>
#include <vector>

#include "tests/emu/emu.h"
#include "tests/emu/fiber.h"

namespace tdm_emu
{

constexpr unsigned MAX_THREADS = 1024, LANES = 32, MAX_WARPS = MAX_THREADS / LANES;
constexpr size_t STACK_BYTES = 128 << 10, GUARD = 4096;
constexpr size_t BLOCK_STACKS_BYTES = (STACK_BYTES + GUARD) * MAX_THREADS;
/* Room for 227 KiB of arrays and their redzones, after a window in which nothing may be touched:
 * the base of dynamic shared memory points there, so that arrays are reached through tdm_carve()
 * alone. */
constexpr size_t SHARED_WINDOW = 256 << 10, SHARED_ARENA = SHARED_WINDOW + (1 << 20);

struct Block;

struct AsyncCopy {
    void *shared;
    const void *global;
    int bytes, group;
    Site site;
};

enum class State : uint8_t { ready, running, barrier, warp, done };

struct Thread : Self {
    Block *block = nullptr;
    Fiber fiber;
    State state = State::ready;
    Site site = {}; /* of what it waits for */
    const char *waits_in = nullptr;
    std::vector<AsyncCopy> copies;
    int copy_group = 0;
    bool fenced = false; /* race checker: called __threadfence() */
    uint32_t fence_interval = 0, fence_clock = 0;
};

struct SharedArray {
    const void *key; /* of a static array; NULL: carved */
    size_t offset, bytes;
    unsigned char *p;
    const char *name;
};

/* Race checker: the accesses of a block that another block may rely on. */
struct Seen {
    uint32_t interval; /* all before this one ... */
    unsigned thread;   /* ... and in it, of this thread, those before this clock */
    uint32_t clock;
};

struct Block {
    Block();
    ~Block();

    const Launch *launch = nullptr;
    uint32_t launch_id = 0, id = 0; /* id: linear index in the grid */
    unsigned n_threads = 0, n_done = 0;
    Fiber scheduler;
    Thread threads[MAX_THREADS];
    char *stacks = nullptr;

    uint16_t queue[MAX_THREADS]; /* ready threads, a ring */
    unsigned head = 0, n_ready = 0;
    uint64_t random = 1;

    unsigned arrived = 0; /* at the barrier */
    Site barrier_site = {};
    int vote = 0, vote_result = 0;

    std::vector<Collective *> open[MAX_WARPS], unused;
    unsigned exited[MAX_WARPS]; /* lanes that returned or never were */

    unsigned char *arena = nullptr;
    size_t arena_used = 0, static_bytes = 0;
    std::vector<SharedArray> arrays;

    /* race checker: number of barriers passed; what lane a knows of lane b, per warp; of other
     * blocks */
    uint32_t interval = 1;
    uint32_t clocks[MAX_WARPS][LANES][LANES];
    std::unordered_map<uint32_t, Seen> seen, pending;
};

inline Thread *current()
{
    return static_cast<Thread *>(self);
}

/* block.cpp */
void make_ready(Thread *thread);
/* Let others run until somebody makes the current thread ready. */
void wait(State state, const char *what, Site site);
/* warp.cpp */
void lane_exits(Thread *thread);
void warps_start(Block *block);
/* shared.cpp */
void shared_start(Block *block);
void shared_finish(Block *block);
bool in_shared_array(const Block *block, const void *p, size_t bytes);
/* race.cpp */
void race_block_starts(Block *block);
void race_warp_syncs(Block *block, unsigned warp, unsigned lanes);

} // namespace tdm_emu

#endif
