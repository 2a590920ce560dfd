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

/* One number for all devices, or a list by device, whose last holds for those behind it. */
static std::vector<long long> numbers(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    std::vector<long long> list;
    if (!text || !*text)
        return {otherwise};
    for (const char *p = text;; p++) {
        char *end = nullptr;
        list.push_back(strtoll(p, &end, 10));
        if (end == p || list.back() < 0 || (*end && *end != ','))
            fail("%s=%s: want whole numbers, with commas between", name, text);
        p = end;
        if (!*p)
            return list;
    }
}

/* n, or n@d */
static Lost lost_at()
{
    const char *text = getenv("TDM_EMU_LOST"), *at = text ? strchr(text, '@') : nullptr;
    if (!at)
        return {static_cast<long>(number("TDM_EMU_LOST", 0)), -1};
    char *end = nullptr;
    const Lost lost = {strtol(text, nullptr, 10), static_cast<int>(strtol(at + 1, &end, 10))};
    if (lost.kernel < 1 || end == at + 1 || *end || lost.device < 0)
        fail("TDM_EMU_LOST=%s: want the number of a kernel, or KERNEL@DEVICE", text);
    return lost;
}

template <class T> static void by_device(T (&to)[MAX_DEVICES], const std::vector<long long> &list)
{
    for (size_t d = 0; d < MAX_DEVICES; d++)
        to[d] = static_cast<T>(list[d < list.size() ? d : list.size() - 1]);
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
    if (settings.devices > MAX_DEVICES)
        fail("TDM_EMU_DEVICES=%d: at most %d", settings.devices, MAX_DEVICES);
    settings.patience = static_cast<int>(number("TDM_EMU_PATIENCE", 20));
    settings.old_driver = is("TDM_EMU_DRIVER", "old");
    by_device(settings.memory, numbers("TDM_EMU_MEMORY", 1ll << 30));
    by_device(settings.cc, numbers("TDM_EMU_CC", 90));
    by_device(settings.busy, {0});
    for (long long d : numbers("TDM_EMU_BUSY", MAX_DEVICES))
        if (d < MAX_DEVICES)
            settings.busy[d] = true;
    settings.lost = lost_at();
    settings.poison.clear();
    if (getenv("TDM_EMU_POISON"))
        for (long long word : numbers("TDM_EMU_POISON", 0))
            settings.poison.push_back(static_cast<int32_t>(word));
    settings.nccl_fail = static_cast<long>(number("TDM_EMU_NCCL_FAIL", 0));
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
size_t shared_limit(int device)
{
    switch (config().cc[device]) {
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
