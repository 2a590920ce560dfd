/* tests/emu/fiber.cpp - the switch, for x86-64, and what ASan has to be told about it. */
#include "tests/emu/fiber.h"

#include <pthread.h>

#ifndef __x86_64__
#error "the emulator's fiber switch is written for x86-64"
#endif

#ifdef TDM_EMU_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
extern "C" void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom,
                                                size_t *bytes);
#endif

extern "C" void tdm_emu_switch(void **save_sp, void *to_sp);
asm(R"(
    .text
    .globl tdm_emu_switch
    .type tdm_emu_switch, @function
tdm_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size tdm_emu_switch, . - tdm_emu_switch
)");

namespace tdm_emu
{

void fiber_adopt(Fiber *fiber)
{
    pthread_attr_t attributes;
    void *stack = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &fiber->bytes);
    pthread_attr_destroy(&attributes);
    fiber->stack = static_cast<char *>(stack);
}

void fiber_prepare(Fiber *fiber, void (*entry)(), unsigned skew)
{
    enum { SAVED_REGISTERS = 6, LINE = 64, SKEWS = 32 };
    void **sp = reinterpret_cast<void **>(fiber->stack + fiber->bytes - LINE -
                                          static_cast<size_t>(skew % SKEWS) * LINE);
    *--sp = nullptr; /* entry() finds the stack as after a call, and nowhere to return to */
    *--sp = reinterpret_cast<void *>(entry);
    for (int i = 0; i < SAVED_REGISTERS; i++)
        *--sp = nullptr;
    fiber->sp = sp;
    fiber->fake_stack = nullptr;
}

void fiber_entered()
{
#ifdef TDM_EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void fiber_switch(Fiber *from, Fiber *to, bool from_ends)
{
#ifdef TDM_EMU_ASAN
    __sanitizer_start_switch_fiber(from_ends ? nullptr : &from->fake_stack, to->stack, to->bytes);
#else
    (void)from_ends;
#endif
    tdm_emu_switch(&from->sp, to->sp);
#ifdef TDM_EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

} // namespace tdm_emu
