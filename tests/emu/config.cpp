/* tests/emu/config.cpp - the emulator's settings. */
#include "tests/emu/emu.h"

#include <stdlib.h>
#include <string.h>
#include <thread>

namespace tdm_emu
{

static Config settings;

static long long number(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return otherwise;
    char *end = nullptr;
    const long long value = strtoll(text, &end, 10);
    if (*end || value < 0)
        fail("%s=%s: want a whole number", name, text);
    return value;
}

static bool is(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text && strcmp(text, value) == 0;
}

static Copies copies_mode()
{
    const char *text = getenv("TDM_EMU_COPIES");
    if (!text)
        return settings.seed ? Copies::random : Copies::lazy;
    if (strcmp(text, "lazy") == 0)
        return Copies::lazy;
    if (strcmp(text, "eager") == 0)
        return Copies::eager;
    if (strcmp(text, "random") == 0)
        return Copies::random;
    fail("TDM_EMU_COPIES=%s: want lazy, eager or random", text);
}

void read_config()
{
    settings.seed = static_cast<uint64_t>(number("TDM_EMU_SEED", 0));
    const long cores = static_cast<long>(std::thread::hardware_concurrency());
    settings.workers = static_cast<int>(number("TDM_EMU_WORKERS", cores < 1 ? 1 : cores));
    settings.devices = static_cast<int>(number("TDM_EMU_DEVICES", 1));
    settings.old_driver = is("TDM_EMU_DRIVER", "old");
    settings.memory = static_cast<size_t>(number("TDM_EMU_MEMORY", 1ll << 30));
    settings.cc = static_cast<int>(number("TDM_EMU_CC", 90));
    settings.lost = static_cast<long>(number("TDM_EMU_LOST", 0));
    settings.copies = copies_mode();
    settings.gemm_varies = number("TDM_EMU_GEMM_VARIES", 0) != 0;
}

const Config &config()
{
    static const bool once = (read_config(), true);
    (void)once;
    return settings;
}

/* Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
size_t shared_limit()
{
    switch (config().cc) {
    case 75:
        return 64 * 1024;
    case 80:
    case 87:
        return 163 * 1024;
    case 86:
    case 89:
    case 120:
        return 99 * 1024;
    default:
        return 227 * 1024;
    }
}

} // namespace tdm_emu
