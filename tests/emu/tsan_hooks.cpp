/* tests/emu/tsan_hooks.cpp - what gcc's -fsanitize=thread calls in kernels. libtsan is not linked.
 */
#include "tests/emu/block.h"

extern "C" char __executable_start, _end;

namespace tdm_emu
{

static bool within(const void *p, const void *start, size_t bytes)
{
    return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(start) < bytes;
}

/* Memory that is this thread's alone, or constant: its stack, the launch's arguments, the program.
 */
static bool is_private(const Thread *t, const void *p)
{
    const Launch *l = t->block->launch;
    return within(p, t->fiber.stack, t->fiber.bytes) || within(p, l->call, l->call_bytes) ||
           within(p, &__executable_start, static_cast<size_t>(&_end - &__executable_start));
}

static void access(const void *p, size_t bytes, size_t alignment, bool write, const void *pc)
{
    const Thread *t = current();
    if (!t || is_private(t, p))
        return;
    const Block *b = t->block;
    if (within(p, b->stacks, BLOCK_STACKS_BYTES))
        fail("the stack of another thread is touched at %s", locate(place_of(pc)).c_str());
    if (reinterpret_cast<uintptr_t>(p) % alignment)
        fail("misaligned access of %zu bytes at %s", bytes, locate(place_of(pc)).c_str());
    race_access(p, bytes, write ? Access::write : Access::read, place_of(pc));
}

} // namespace tdm_emu

#define HOOK(name, bytes, alignment, write)                                                        \
    void __tsan_##name(void *p)                                                                    \
    {                                                                                              \
        tdm_emu::access(p, bytes, alignment, write, __builtin_return_address(0));                  \
    }
#define HOOKS(bytes)                                                                               \
    HOOK(read##bytes, bytes, bytes, false)                                                         \
    HOOK(write##bytes, bytes, bytes, true)                                                         \
    HOOK(unaligned_read##bytes, bytes, 1, false)                                                   \
    HOOK(unaligned_write##bytes, bytes, 1, true)                                                   \
    HOOK(volatile_read##bytes, bytes, bytes, false)                                                \
    HOOK(volatile_write##bytes, bytes, bytes, true)

extern "C" {
void __tsan_init()
{
    tdm_emu::race_on = true;
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit()
{
}
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *p, size_t bytes)
{
    tdm_emu::access(p, bytes, 1, false, __builtin_return_address(0));
}
void __tsan_write_range(void *p, size_t bytes)
{
    tdm_emu::access(p, bytes, 1, true, __builtin_return_address(0));
}
}
