/* tests/emu/shared.cpp - shared memory of a block, and asynchronous copies into it.
 *
 * Every array starts as 0xff (NaN in every float type) and is followed by a redzone: a canary in
 * all builds, poison for ASan, out of bounds for the race checker. */
#include "tests/emu/block.h"

#include <string.h>

namespace tdm_emu
{

constexpr size_t REDZONE = 128;
constexpr unsigned char CANARY = 0xa5;

void shared_start(Block *b)
{
    poison(b->arena, SHARED_WINDOW + b->arena_used + REDZONE);
    b->arrays.clear();
    b->arena_used = b->static_bytes = 0;
}

void shared_finish(Block *b)
{
    for (const SharedArray &a : b->arrays) {
        unpoison(a.p + a.bytes, REDZONE);
        for (size_t i = 0; i < REDZONE; i++)
            if (a.p[a.bytes + i] != CANARY)
                fail(
                    "shared memory: kernel %s, block (%u,%u,%u) wrote %zu bytes past the end of %s "
                    "(%zu bytes)",
                    b->launch->name, where.block.x, where.block.y, where.block.z, i, a.name,
                    a.bytes);
    }
}

/* A static array is aligned to 16 bytes and not more, a piece of dynamic memory as its offset is.
 */
static void *add_array(Block *b, const void *key, size_t offset, size_t bytes, const char *name)
{
    const size_t at =
        ((SHARED_WINDOW + b->arena_used + 127) & ~size_t{127}) + (key ? 16 : offset % 128);
    if (at + bytes + REDZONE > SHARED_ARENA)
        fail("shared memory: too many arrays in kernel %s", b->launch->name);
    unsigned char *p = b->arena + at;
    unpoison(p, bytes + REDZONE);
    memset(p, 0xff, bytes);
    memset(p + bytes, CANARY, REDZONE);
    poison(p + bytes, REDZONE);
    b->arena_used = at + bytes + REDZONE - SHARED_WINDOW;
    b->arrays.push_back({key, offset, bytes, p, name});
    return p;
}

void *shared_static(const void *key, size_t bytes, const char *name)
{
    Block *b = current()->block;
    for (const SharedArray &a : b->arrays)
        if (a.key == key)
            return a.p;
    b->static_bytes += (bytes + 15) & ~size_t{15};
    if (b->static_bytes > SHARED_DEFAULT)
        fail("shared memory: kernel %s has %zu bytes of static arrays, the limit is %zu",
             b->launch->name, b->static_bytes, SHARED_DEFAULT);
    const size_t all = b->static_bytes + b->launch->shared_bytes;
    const size_t dynamic = dynamic_limit(b->launch->function, running_device());
    const size_t most = dynamic == SHARED_DEFAULT ? SHARED_DEFAULT : shared_limit(running_device());
    if (all > most)
        fail("shared memory: kernel %s uses %zu bytes, static and dynamic; the limit is %zu",
             b->launch->name, all, most);
    return add_array(b, key, 0, bytes, name);
}

unsigned char *shared_dynamic()
{
    return current()->block->arena;
}

/* A piece of the launch's dynamic shared memory. A piece may be asked for again and may lie within
 * an earlier one; pieces that overlap in another way cannot be told apart by redzones. */
void *shared_carve(const unsigned char *base, size_t offset, size_t bytes)
{
    Block *b = current()->block;
    offset += static_cast<size_t>(base - b->arena);
    if (offset > b->launch->shared_bytes || bytes > b->launch->shared_bytes - offset)
        fail("tdm_carve: kernel %s takes bytes %zu .. %zu of %zu bytes of dynamic shared memory",
             b->launch->name, offset, offset + bytes, b->launch->shared_bytes);
    for (const SharedArray &a : b->arrays) {
        if (a.key || offset + bytes <= a.offset || a.offset + a.bytes <= offset)
            continue;
        if (a.offset <= offset && offset + bytes <= a.offset + a.bytes)
            return a.p + (offset - a.offset);
        fail("tdm_carve: kernel %s takes bytes %zu .. %zu after %zu .. %zu: pieces may be equal, "
             "disjoint, or parts of an earlier one",
             b->launch->name, offset, offset + bytes, a.offset, a.offset + a.bytes);
    }
    return add_array(b, nullptr, offset, bytes, "a piece of dynamic shared memory");
}

bool in_shared_array(const Block *b, const void *p, size_t bytes)
{
    const unsigned char *q = static_cast<const unsigned char *>(p);
    for (const SharedArray &a : b->arrays)
        if (q >= a.p && q + bytes <= a.p + a.bytes)
            return true;
    return false;
}

/* ---- asynchronous copies ---- */

static void land(const AsyncCopy &c)
{
    race_access(c.shared, 16, Access::write, place_of(c.site));
    memset(c.shared, 0, 16);
    if (c.bytes) {
        race_access(c.global, 16, Access::read, place_of(c.site));
        memcpy(c.shared, c.global, 16);
    }
}

/* The copy may land at once or as late as the wait; in both cases nobody may use the destination in
 * between, so the write is judged here as well. */
void copy_async(void *shared, const void *global, int bytes, Site site)
{
    Thread *t = current();
    if (bytes != 0 && bytes != 16)
        fatal(site, "cp.async: %d bytes, want 0 or 16", bytes);
    if (reinterpret_cast<uintptr_t>(shared) % 16 || !in_shared_array(t->block, shared, 16))
        fatal(site, "cp.async: destination %p is not 16 aligned bytes of shared memory", shared);
    if (reinterpret_cast<uintptr_t>(global) % 16)
        fatal(site, "cp.async: source %p is not 16-byte aligned", global);
    const Allocation *from = bytes ? find_allocation(global) : nullptr;
    if (bytes && (!from || static_cast<const char *>(global) + 16 > from->p + from->bytes))
        fatal(site, "cp.async: source %p is not 16 bytes of device memory", global);
    race_access(shared, 16, Access::write_later, place_of(site));
    const AsyncCopy copy = {shared, global, bytes, t->copy_group, site};
    const Copies mode = config().copies;
    if (mode == Copies::eager || (mode == Copies::random && next_random(&t->block->random) & 1))
        land(copy);
    else
        t->copies.push_back(copy);
}

void copy_async_commit()
{
    current()->copy_group++;
}

void copy_async_wait(int groups_left)
{
    Thread *t = current();
    size_t kept = 0;
    for (const AsyncCopy &c : t->copies) {
        if (c.group < t->copy_group - groups_left)
            land(c);
        else
            t->copies[kept++] = c;
    }
    t->copies.resize(kept);
}

} // namespace tdm_emu
