/* tests/emu/block.cpp - runs the blocks of a grid on a few CPU threads, each block's threads as
 * fibers; barriers; deadlocks. */
#include "tests/emu/block.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <thread>

namespace tdm_emu
{

thread_local Self *self = nullptr;
thread_local Where where;

/* ---- fibers of one block ---- */

void make_ready(Thread *thread)
{
    Block *b = thread->block;
    thread->state = State::ready;
    b->queue[(b->head + b->n_ready++) % MAX_THREADS] = static_cast<uint16_t>(thread->index);
}

/* The first of the queue; with a seed, any. */
static Thread *next_ready(Block *b)
{
    if (b->n_ready == 0)
        return nullptr;
    if (config().seed)
        std::swap(b->queue[b->head],
                  b->queue[(b->head + next_random(&b->random) % b->n_ready) % MAX_THREADS]);
    Thread *t = &b->threads[b->queue[b->head]];
    b->head = (b->head + 1) % MAX_THREADS;
    b->n_ready--;
    return t;
}

/* From `from` to the next ready thread, or to the scheduler when there is none. */
static void switch_from(Block *b, Thread *from, bool ends)
{
    Thread *to = next_ready(b);
    if (to == from) {
        from->state = State::running;
        return;
    }
    if (to)
        to->state = State::running;
    self = to;
    fiber_switch(&from->fiber, to ? &to->fiber : &b->scheduler, ends);
}

void wait(State state, const char *what, Site site)
{
    Thread *t = current();
    t->state = state;
    t->waits_in = what;
    t->site = site;
    switch_from(t->block, t, false);
}

/* ---- barriers ---- */

static void open_barrier(Block *b, const Thread *last)
{
    b->arrived = 0;
    b->interval++;
    b->vote_result = b->vote;
    for (unsigned i = 0; i < b->n_threads; i++)
        if (b->threads[i].state == State::barrier && &b->threads[i] != last)
            make_ready(&b->threads[i]);
}

static bool same_site(Site a, Site b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

void barrier(Site site)
{
    Thread *t = current();
    Block *b = t->block;
    if (b->arrived++ == 0)
        b->barrier_site = site;
    else if (!same_site(site, b->barrier_site))
        fatal(site, "divergent barrier: other threads of the block wait at %s:%d",
              b->barrier_site.file, b->barrier_site.line);
    if (b->arrived + b->n_done == b->n_threads)
        open_barrier(b, t);
    else
        wait(State::barrier, "__syncthreads", site);
}

int barrier_vote(Vote kind, int predicate, Site site)
{
    Block *b = current()->block;
    const int yes = predicate != 0;
    if (b->arrived == 0)
        b->vote = kind == Vote::all;
    if (kind == Vote::any)
        b->vote |= yes;
    else if (kind == Vote::all)
        b->vote &= yes;
    else
        b->vote += yes;
    barrier(site);
    /* No thread passes the next barrier before this one returned. */
    return b->vote_result;
}

/* ---- the life of a block ---- */

static void thread_main()
{
    fiber_entered();
    Thread *t = current();
    Block *b = t->block;
    b->launch->invoke(b->launch->call);
    t->state = State::done;
    b->n_done++;
    lane_exits(t);
    if (b->arrived && b->arrived + b->n_done == b->n_threads)
        open_barrier(b, t);
    switch_from(b, t, true);
    __builtin_unreachable();
}

[[noreturn]] static void report_deadlock(const Block *b)
{
    std::map<std::string, int> waits;
    for (unsigned i = 0; i < b->n_threads; i++) {
        const Thread *t = &b->threads[i];
        if (t->state != State::done)
            waits[std::string(t->waits_in) + " at " + t->site.file + ":" +
                  std::to_string(t->site.line)]++;
    }
    std::string text;
    for (const auto &w : waits)
        text += "\n    " + std::to_string(w.second) + " threads wait in " + w.first;
    fail("deadlock in kernel %s, block (%u,%u,%u): %u of %u threads returned%s", b->launch->name,
         where.block.x, where.block.y, where.block.z, b->n_done, b->n_threads, text.c_str());
}

static void *map_memory(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fail("no memory for the threads of a block");
    return p;
}

Block::Block()
{
    explain_faults();
    fiber_adopt(&scheduler);
    stacks = static_cast<char *>(map_memory(BLOCK_STACKS_BYTES));
    arena = static_cast<unsigned char *>(map_memory(SHARED_ARENA));
    poison(arena, SHARED_ARENA);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        Thread *t = &threads[i];
        t->block = this;
        t->index = i;
        t->lane = i % LANES;
        t->warp = i / LANES;
        char *low = stacks + i * (STACK_BYTES + GUARD);
        mprotect(low, GUARD, PROT_NONE);
        t->fiber.stack = low + GUARD;
        t->fiber.bytes = STACK_BYTES;
    }
}

Block::~Block()
{
    for (Collective *c : unused)
        delete c;
    unpoison(arena, SHARED_ARENA);
    munmap(arena, SHARED_ARENA);
    munmap(stacks, BLOCK_STACKS_BYTES);
}

/* One per CPU thread, kept for all launches. */
static Block *own_block()
{
    thread_local std::unique_ptr<Block> block;
    if (!block)
        block.reset(new Block);
    return block.get();
}

static void start_threads(Block *b)
{
    const dim3 size = b->launch->block;
    for (unsigned i = 0; i < b->n_threads; i++) {
        Thread *t = &b->threads[i];
        t->thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        t->copies.clear();
        t->copy_group = 0;
        t->fenced = false;
        fiber_prepare(&t->fiber, thread_main, i);
        make_ready(t);
    }
}

static void run_block(const Launch &launch, uint32_t launch_id, uint32_t id)
{
    Block *b = own_block();
    const dim3 grid = launch.grid;
    where = {{id % grid.x, id / grid.x % grid.y, id / (grid.x * grid.y)},
             {launch.block.x, launch.block.y, launch.block.z},
             {grid.x, grid.y, grid.z}};
    b->launch = &launch;
    b->launch_id = launch_id;
    b->id = id;
    b->n_threads = launch.block.x * launch.block.y * launch.block.z;
    b->n_done = b->arrived = b->head = b->n_ready = 0;
    b->interval = 1;
    b->random =
        (config().seed * 0x9e3779b97f4a7c15ull) ^ (uint64_t{launch_id} << 32 | id) ^ 1ull << 63;
    warps_start(b);
    shared_start(b);
    race_block_starts(b);
    start_threads(b);
    while (Thread *t = next_ready(b)) {
        t->state = State::running;
        self = t;
        fiber_switch(&b->scheduler, &t->fiber, false);
        self = nullptr;
    }
    if (b->n_done != b->n_threads)
        report_deadlock(b);
    shared_finish(b);
}

/* ---- the pool ---- */

namespace
{

class Pool
{
  public:
    void run(int n, const std::function<void(int)> &f);
    ~Pool();

  private:
    void work(const std::function<void(int)> &f, int n);
    void loop();

    std::mutex lock_;
    std::condition_variable begin_, end_;
    std::vector<std::thread> threads_;
    const std::function<void(int)> *f_ = nullptr; /* of the round; NULL once its caller ran out */
    std::atomic<int> next_{0};
    int n_ = 0, busy_ = 0;
    uint64_t round_ = 0;
    bool stop_ = false;
};

void Pool::work(const std::function<void(int)> &f, int n)
{
    for (int i; (i = next_++) < n;)
        f(i);
}

void Pool::loop()
{
    std::unique_lock<std::mutex> l(lock_);
    for (uint64_t seen = 0;;) {
        begin_.wait(l, [&] { return (f_ && round_ != seen) || stop_; });
        if (stop_)
            return;
        seen = round_;
        const std::function<void(int)> &f = *f_; /* lives until busy_ is 0 again */
        const int n = n_;
        busy_++;
        l.unlock();
        work(f, n);
        l.lock();
        if (--busy_ == 0)
            end_.notify_all();
    }
}

/* The caller works too, and does not wait for threads that did not wake up in time to help. One
 * round at a time: callers hold a lock. */
void Pool::run(int n, const std::function<void(int)> &f)
{
    std::unique_lock<std::mutex> l(lock_);
    while (static_cast<int>(threads_.size()) < config().workers - 1)
        threads_.emplace_back([this] { loop(); });
    f_ = &f;
    n_ = n;
    next_ = 0;
    round_++;
    l.unlock();
    begin_.notify_all();
    work(f, n);
    l.lock();
    f_ = nullptr;
    end_.wait(l, [&] { return busy_ == 0; });
}

Pool::~Pool()
{
    {
        std::lock_guard<std::mutex> l(lock_);
        stop_ = true;
    }
    begin_.notify_all();
    for (std::thread &t : threads_)
        t.join();
}

Pool pool;
std::mutex one_at_a_time;

} // namespace

void run_parallel(int n, const std::function<void(int)> &f)
{
    std::lock_guard<std::mutex> l(one_at_a_time);
    if (n <= 1 || config().workers <= 1) {
        for (int i = 0; i < n; i++)
            f(i);
        return;
    }
    pool.run(n, f);
}

void run_grid(const Launch &launch)
{
    static std::atomic<uint32_t> launches{0};
    const uint32_t launch_id = ++launches;
    const uint32_t n = launch.grid.x * launch.grid.y * launch.grid.z;
    std::vector<uint32_t> order(n);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    uint64_t random = (config().seed << 32 | launch_id) | 1ull << 63;
    for (uint32_t i = n; config().seed && i > 1; i--)
        std::swap(order[i - 1], order[next_random(&random) % i]);
    if (race_on) { /* the shadow of global memory is not made for two at once */
        for (uint32_t id : order)
            run_block(launch, launch_id, id);
        return;
    }
    run_parallel(static_cast<int>(n),
                 [&](int i) { run_block(launch, launch_id, order[static_cast<size_t>(i)]); });
}

} // namespace tdm_emu
