/* tests/emu/fiber.h - stacks that take turns on one CPU thread.
 *
 * A switch saves the six registers that a callee must keep and costs about 12 ns; ucontext makes
 * system calls and costs a microsecond. A fiber stays on the CPU thread that started it. */
#ifndef TESTS_EMU_FIBER_H
#define TESTS_EMU_FIBER_H

#include <stddef.h>

namespace tdm_emu
{

struct Fiber {
    void *sp = nullptr;
    char *stack = nullptr; /* lowest address */
    size_t bytes = 0;
    void *fake_stack = nullptr; /* ASan's */
};

/* The fiber that the calling CPU thread is by itself. */
void fiber_adopt(Fiber *fiber);

/* Let the next switch to `fiber` call entry(), which must not return. `skew` moves the start of the
 * stack by a few cache lines: stacks that start at equal offsets share the sets of the L1. */
void fiber_prepare(Fiber *fiber, void (*entry)(), unsigned skew);

/* To be called first in entry(). */
void fiber_entered();

/* Go on in `to`; returns when something switches back. from_ends: it never will. */
void fiber_switch(Fiber *from, Fiber *to, bool from_ends);

} // namespace tdm_emu

#endif
