/* tests/emu/report.cpp - an error that the emulator found: one message, then the program ends.
 *
 * It ends with _exit(): fibers and lazy streams are left where they are. */
#include "tests/emu/block.h"

#include <link.h>
#include <map>
#include <mutex>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <utility>

namespace tdm_emu
{

static std::mutex lock;

[[noreturn]] static void end(const char *place, const char *format, va_list args)
{
    lock.lock(); /* for good: one message */
    fflush(stdout);
    fprintf(stderr, "emulator: %s", place);
    vfprintf(stderr, format, args);
    if (const Thread *t = current())
        fprintf(stderr, " [kernel %s, block (%u,%u,%u), thread (%u,%u,%u)]", t->block->launch->name,
                where.block.x, where.block.y, where.block.z, t->thread.x, t->thread.y, t->thread.z);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(EXIT_FOUND);
}

void fatal(Site site, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    end((std::string(site.file) + ":" + std::to_string(site.line) + ": ").c_str(), format, args);
}

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    end("", format, args);
}

/* ---- faults, where no sanitizer explains them ---- */

#ifndef TDM_EMU_ASAN
static void on_fault(int signal, siginfo_t *info, void *)
{
    const char *p = static_cast<const char *>(info->si_addr);
    if (const Thread *t = current()) {
        const Block *b = t->block;
        const bool in_stacks = p >= b->stacks && p < b->stacks + BLOCK_STACKS_BYTES;
        if (in_stacks)
            fail("a thread's stack of %zu bytes is full", STACK_BYTES);
        fail(in_device_arena(p) ? "%p is freed device memory, or was never allocated"
                                : "fault at %p",
             info->si_addr);
    }
    if (in_device_arena(p))
        fail("the host touches device memory at %p", info->si_addr);
    ::signal(signal, SIG_DFL);
    raise(signal);
}

/* Of the calling CPU thread; fibers may fault because their stack is full, so on a stack of its
 * own. */
void explain_faults()
{
    static thread_local char stack[64 << 10];
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}
#else
void explain_faults()
{
}
#endif

/* ---- places: an offset into the program, or a call site by number ---- */

constexpr uint32_t IS_SITE = 1u << 31;

static std::map<std::pair<const char *, int>, uint32_t> site_numbers;
static std::vector<Site> sites;

static uintptr_t load_bias()
{
    static const uintptr_t bias = [] {
        uintptr_t b = 0;
        dl_iterate_phdr(
            [](dl_phdr_info *info, size_t, void *out) {
                *static_cast<uintptr_t *>(out) = info->dlpi_addr;
                return 1; /* the program itself comes first */
            },
            &b);
        return b;
    }();
    return bias;
}

uint32_t place_of(const void *pc)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - load_bias());
}

uint32_t place_of(Site site)
{
    if (!race_on)
        return 0;
    const auto inserted = site_numbers.insert(
        {{site.file, site.line}, IS_SITE | static_cast<uint32_t>(sites.size())});
    if (inserted.second)
        sites.push_back(site);
    return inserted.first->second;
}

/* The innermost inlined function that is not the emulator's own header. */
static std::string addr2line(uint32_t offset)
{
    char exe[512], command[640], text[1024];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%x 2>/dev/null", exe, offset - 1);
    std::string found = "an unknown place";
    FILE *f = popen(command, "r");
    while (f && fgets(text, sizeof text, f)) {
        found = text;
        found = found.substr(0, found.find_first_of("\n "));
        if (found.find("device_emu.h") == std::string::npos)
            break;
    }
    if (f)
        pclose(f);
    return found;
}

std::string locate(uint32_t place)
{
    if (!(place & IS_SITE))
        return addr2line(place);
    const Site site = sites[place & ~IS_SITE];
    return std::string(site.file) + ":" + std::to_string(site.line);
}

} // namespace tdm_emu
