/* tests/emu/emu.h - what the parts of the emulator share. */
#ifndef TESTS_EMU_EMU_H
#define TESTS_EMU_EMU_H

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

#include "tests/emu/runtime.h"

#ifdef TDM_EMU_ASAN
extern "C" void __asan_poison_memory_region(void const volatile *p, size_t bytes);
extern "C" void __asan_unpoison_memory_region(void const volatile *p, size_t bytes);
#endif

namespace tdm_emu
{

/* ---- config.cpp: the environment, read once (README.md lists it) ---- */
enum class Copies { lazy, eager, random };
constexpr int MAX_DEVICES = 16;
struct Lost {
    long kernel; /* counted from 1; 0: never */
    int device;  /* the one that counts and is lost; -1: all */
};
struct Config {
    uint64_t seed; /* 0: first come, first served */
    int workers;   /* CPU threads that run blocks */
    int devices;
    bool old_driver;
    int patience; /* seconds that a host waits for work that cannot go on */
    size_t memory[MAX_DEVICES];
    int cc[MAX_DEVICES];    /* compute capability, 90 for 9.0 */
    bool busy[MAX_DEVICES]; /* belongs to another program */
    Lost lost;
    std::vector<int32_t> poison; /* a device that is sent this is lost; empty: none */
    long nccl_fail;              /* this collective fails, counted from 1; 0: none */
    Copies copies;
    bool gemm_varies;
};
const Config &config();
void read_config();
/* Shared memory per block: without and with cudaFuncAttributeMaxDynamicSharedMemorySize. */
constexpr size_t SHARED_DEFAULT = 48 * 1024;
size_t shared_limit(int device);

/* xorshift64*; the state must not be 0. */
inline uint32_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return static_cast<uint32_t>((*state * 0x2545f4914f6cdd1dull) >> 32);
}

/* ---- report.cpp ---- */
constexpr int EXIT_FOUND =
    86; /* the exit status of a program in which the emulator found an error */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Let a fault of the calling CPU thread be reported. */
void explain_faults();
/* A place in a kernel, from an instruction of the program or from a call site, and its file:line.
 */
uint32_t place_of(const void *pc);
uint32_t place_of(Site site);
std::string locate(uint32_t place);

/* ---- block.cpp ---- */
void run_grid(const Launch &launch);
/* Call f(i) for i of 0 .. n - 1 on the CPU threads of the pool. */
void run_parallel(int n, const std::function<void(int)> &f);

/* ---- memory.cpp ---- */
struct Allocation {
    char *p;
    size_t bytes;
    int device;
    void *shadow; /* the race checker's, or NULL */
    size_t shadow_bytes;
};
/* The live device allocation that holds p, or NULL. Valid until it is freed. */
Allocation *find_allocation(const void *p);
bool in_device_arena(const void *p);
/* Device memory is there only between these, which count. */
void device_memory_open();
void device_memory_close();
/* What is left on a device that was lost, which nobody can free. */
void device_memory_forget(int device);
/* Fail unless [p, p + bytes) lies in one live allocation of the device (-1: of any). */
void require_device(const void *p, size_t bytes, const char *what, int device = -1);

/* ---- device.cpp ---- */
/* Remember an error for cudaGetLastError() and return it. */
cudaError_t set_error(cudaError_t error);
/* What every call of the runtime returns first: no device, old driver, device lost or busy. */
int current_device();
cudaError_t device_state(int device = current_device());
/* -1: all */
void lose_device(int device);
void find_devices();
bool any_device_lost();
#define TDM_EMU_REQUIRE_STATE() TDM_EMU_REQUIRE_STATE_OF(current_device())
#define TDM_EMU_REQUIRE_STATE_OF(device)                                                           \
    do {                                                                                           \
        const cudaError_t state_ = device_state(device);                                           \
        if (state_ != cudaSuccess)                                                                 \
            return set_error(state_);                                                              \
    } while (0)
size_t dynamic_limit(const void *function, int device);

/* ---- stream.cpp ---- */
/* Work for a stream; in a capture it becomes a node. */
cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<void()> run);
int device_of(cudaStream_t stream);
/* Of the kernel that runs. */
int running_device();
/* Wait for all work of a device. */
cudaError_t synchronize_device(int device);

/* CUDA loads a kernel when it is first used, which a capture may forbid: fails if the stream is in
 * one. kernel: any address that stands for it. */
void require_loaded(cudaStream_t stream, const void *kernel, const char *what);
/* Let TDM_EMU_LOST and TDM_EMU_NCCL_FAIL count from now on. */
void count_kernels_from_here();
void count_collectives_from_here();
/* Communicators that were neither destroyed nor aborted. */
int open_communicators();
/* cudaSuccess, or the error for a call that a capture forbids, which it invalidates. */
cudaError_t capture_allows_unsafe_call();
#define TDM_EMU_REQUIRE_NO_CAPTURE()                                                               \
    do {                                                                                           \
        const cudaError_t allowed_ = capture_allows_unsafe_call();                                 \
        if (allowed_ != cudaSuccess)                                                               \
            return set_error(allowed_);                                                            \
    } while (0)

/* ---- race.cpp: does nothing unless kernels were compiled with the hooks ---- */
extern bool race_on;
enum class Access { read, write, atomic, write_later };
/* write_later: an asynchronous copy, which may land from now on. Judged, not recorded. */
void race_access(const void *p, size_t bytes, Access access, uint32_t place);
void race_forget(Allocation *allocation);

inline void poison(const void *p, size_t bytes)
{
#ifdef TDM_EMU_ASAN
    __asan_poison_memory_region(p, bytes);
#else
    (void)p, (void)bytes;
#endif
}
inline void unpoison(const void *p, size_t bytes)
{
#ifdef TDM_EMU_ASAN
    __asan_unpoison_memory_region(p, bytes);
#else
    (void)p, (void)bytes;
#endif
}

} // namespace tdm_emu

#endif
