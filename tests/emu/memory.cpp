/* tests/emu/memory.cpp - device and pinned memory.
 *
 * Device memory is one reservation of addresses, accessible only while the emulated GPU runs, so
 * that a host that follows a device pointer faults; what was freed stays closed and is not used
 * again for a while. New memory is 0xff, NaN in every float type; a large allocation (the pages of
 * a KV cache) is a private view of a file of 0xff, so that what is never touched costs nothing. */
#include "tests/emu/control.h"
#include "tests/emu/emu.h"

#include <atomic>
#include <cuda_runtime_api.h>
#include <deque>
#include <map>
#include <mutex>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>

namespace tdm_emu
{

/* Before and after an allocation, which so is aligned to 256 bytes and not more. */
constexpr size_t REDZONE = 256;
constexpr size_t RESERVED = size_t{1} << 38, PAGE = 4096;
constexpr size_t LARGE = size_t{1} << 20, PATTERN = size_t{4} << 20;
constexpr size_t KEPT_BACK = size_t{64}
                             << 20; /* bytes of freed memory that are not used again yet */
static std::mutex lock;
static char *arena;
static size_t arena_used;
static std::map<const char *, Allocation> allocations;
static size_t device_used[MAX_DEVICES];
static int times_open;
struct Freed {
    char *p;
    size_t room;
};
static std::deque<Freed> kept_back;
static size_t kept_back_bytes;
static std::multimap<size_t, char *> reusable; /* by room */
static std::unordered_map<void *, size_t> pinned;
static long n_allocations;
static std::atomic<uint64_t> generation{1}; /* of `allocations` */

static int pattern_file()
{
    static const int file = [] {
        const int f = memfd_create("tdm-emu-pattern", MFD_CLOEXEC);
        if (f < 0 || ftruncate(f, PATTERN) != 0)
            fail("no memory for device memory");
        void *p = mmap(nullptr, PATTERN, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
        if (p == MAP_FAILED)
            fail("no memory for device memory");
        memset(p, 0xff, PATTERN);
        munmap(p, PATTERN);
        return f;
    }();
    return file;
}

static size_t room_for(size_t bytes)
{
    return (REDZONE + bytes + REDZONE + PAGE - 1) / PAGE * PAGE;
}

/* Make fresh or used room, whole pages, writable and 0xff. */
static void make_ff(char *p, size_t room)
{
    unpoison(p, room);
    mprotect(p, room, PROT_READ | PROT_WRITE);
    if (room <= LARGE) {
        memset(p, 0xff, room);
        return;
    }
    for (size_t at = 0; at < room; at += PATTERN) {
        const size_t n = room - at < PATTERN ? room - at : PATTERN;
        if (mmap(p + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                 pattern_file(), 0) == MAP_FAILED)
            fail("no memory for device memory");
    }
}

/* Of live allocations; what was freed stays closed. Neighbours go together. */
static void protect(int protection)
{
    char *start = nullptr, *end = nullptr;
    for (const auto &entry : allocations) {
        char *p = entry.second.p - REDZONE;
        if (p != end) {
            mprotect(start, static_cast<size_t>(end - start), protection);
            start = p;
        }
        end = p + room_for(entry.second.bytes);
    }
    mprotect(start, static_cast<size_t>(end - start), protection);
}

void device_memory_open()
{
    std::lock_guard<std::mutex> l(lock);
    if (times_open++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

void device_memory_close()
{
    std::lock_guard<std::mutex> l(lock);
    if (--times_open == 0)
        protect(PROT_NONE);
}

bool in_device_arena(const void *p)
{
    const char *q = static_cast<const char *>(p);
    return arena && q >= arena && q < arena + RESERVED;
}

static Allocation *find(const void *p)
{
    const char *q = static_cast<const char *>(p);
    auto after = allocations.upper_bound(q);
    if (after == allocations.begin())
        return nullptr;
    Allocation *a = &std::prev(after)->second;
    return q < a->p + a->bytes ? a : nullptr;
}

/* Kernels ask for every access, and mostly for what they asked for last. */
Allocation *find_allocation(const void *p)
{
    thread_local Allocation *last = nullptr;
    thread_local uint64_t last_generation = 0;
    const char *q = static_cast<const char *>(p);
    if (last && last_generation == generation && q >= last->p && q < last->p + last->bytes)
        return last;
    std::lock_guard<std::mutex> l(lock);
    last_generation = generation;
    last = find(p);
    return last;
}

void require_device(const void *p, size_t bytes, const char *what, int device)
{
    const Allocation *a = find_allocation(p);
    if (!a || bytes > static_cast<size_t>(a->p + a->bytes - static_cast<const char *>(p)))
        fail("%s: %zu bytes at %p are not within one allocation of device memory", what, bytes, p);
    if (device != -1 && a->device != device)
        fail("%s: %p is memory of device %d, used on device %d", what, p, a->device, device);
}

static char *find_room(size_t room)
{
    const auto found = reusable.find(room);
    if (found != reusable.end()) {
        char *p = found->second;
        reusable.erase(found);
        return p;
    }
    if (!arena)
        arena = static_cast<char *>(
            mmap(nullptr, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (arena == MAP_FAILED || room > RESERVED - arena_used)
        fail("the addresses for device memory are used up");
    char *p = arena + arena_used;
    arena_used += room;
    return p;
}

static Allocation *allocate(size_t bytes, int device)
{
    if (bytes > config().memory[device] - device_used[device])
        return nullptr;
    const size_t room = room_for(bytes);
    char *start = find_room(room), *p = start + REDZONE;
    make_ff(start, room);
    if (!times_open)
        mprotect(start, room, PROT_NONE);
    poison(start, REDZONE);
    poison(p + bytes, room - REDZONE - bytes);
    device_used[device] += bytes;
    generation++;
    Allocation *a = &allocations[p];
    *a = {p, bytes, device, nullptr, 0};
    return a;
}

static void forget(Allocation *a)
{
    char *const start = a->p - REDZONE;
    const size_t room = room_for(a->bytes);
    mprotect(start, room, PROT_NONE);
    if (room > LARGE)
        madvise(start, room, MADV_DONTNEED);
    poison(start, room);
    race_forget(a);
    device_used[a->device] -= a->bytes;
    generation++; /* first: another thread may be looking at what it found last */
    allocations.erase(a->p);
    kept_back.push_back({start, room});
    for (kept_back_bytes += room; kept_back_bytes > KEPT_BACK; kept_back.pop_front()) {
        kept_back_bytes -= kept_back.front().room;
        reusable.insert({kept_back.front().room, kept_back.front().p});
    }
}

void device_memory_forget(int device)
{
    std::lock_guard<std::mutex> l(lock);
    for (auto i = allocations.begin(); i != allocations.end();) {
        Allocation *a = &i->second;
        ++i;
        if (a->device == device)
            forget(a);
    }
}

#ifdef TDM_EMU_ASAN
/* What a program did not free, found when it ends as programs do. */
struct LeakCheck {
    ~LeakCheck()
    {
        if (any_device_lost())
            return;
        if (open_communicators())
            fail("%d communicators of NCCL were not destroyed", open_communicators());
        if (!allocations.empty())
            fail("%zu allocations of device memory were not freed; one has %zu bytes",
                 allocations.size(), allocations.begin()->second.bytes);
        if (!pinned.empty())
            fail("%zu allocations of pinned memory were not freed; one has %zu bytes",
                 pinned.size(), pinned.begin()->second);
    }
};
static LeakCheck leak_check;
#endif

/* Host or device, and in bounds, as the kind of copy says. */
static cudaError_t check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    const bool to_device = in_device_arena(to), from_device = in_device_arena(from);
    if (to_device)
        require_device(to, bytes, "cudaMemcpy: destination");
    if (from_device)
        require_device(from, bytes, "cudaMemcpy: source");
    if (kind == cudaMemcpyDefault)
        return cudaSuccess;
    const bool want_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool want_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device != want_to || from_device != want_from)
        fail("cudaMemcpy: the pointers do not fit the kind of copy, %d", static_cast<int>(kind));
    return cudaSuccess;
}

/* Whether these bytes hold the words of TDM_EMU_POISON, one behind the other. */
static bool is_poison(const void *from, size_t bytes)
{
    const std::vector<int32_t> &words = config().poison;
    const size_t want = words.size() * sizeof words[0];
    const char *p = static_cast<const char *>(from);
    for (size_t at = 0; want && at + want <= bytes; at += sizeof words[0])
        if (memcmp(p + at, words.data(), want) == 0)
            return true;
    return false;
}

static void copy_row(void *to, const void *from, size_t bytes, int device)
{
    if (in_device_arena(to) && !in_device_arena(from) && is_poison(from, bytes))
        lose_device(device);
    else
        memmove(to, from, bytes);
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

long tdm_emu_allocations(void)
{
    std::lock_guard<std::mutex> l(lock);
    return n_allocations;
}

size_t tdm_emu_device_bytes(int device)
{
    std::lock_guard<std::mutex> l(lock);
    return device_used[device];
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = nullptr;
    TDM_EMU_REQUIRE_STATE();
    TDM_EMU_REQUIRE_NO_CAPTURE();
    if (bytes == 0)
        return cudaSuccess;
    std::lock_guard<std::mutex> l(lock);
    n_allocations++;
    Allocation *a = allocate(bytes, current_device());
    if (!a)
        return set_error(cudaErrorMemoryAllocation);
    *p = a->p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    const Allocation *of = find_allocation(p);
    const int device = of ? of->device : current_device();
    TDM_EMU_REQUIRE_STATE_OF(device);
    TDM_EMU_REQUIRE_NO_CAPTURE();
    const cudaError_t e = synchronize_device(device);
    if (e != cudaSuccess)
        return e;
    std::lock_guard<std::mutex> l(lock);
    Allocation *a = find(p);
    if (!a || a->p != p)
        fail("cudaFree: %p is not the start of an allocation of device memory", p);
    forget(a);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    TDM_EMU_REQUIRE_STATE();
    std::lock_guard<std::mutex> l(lock);
    *total = config().memory[current_device()];
    *free_bytes = *total - device_used[current_device()];
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = nullptr;
    TDM_EMU_REQUIRE_STATE();
    TDM_EMU_REQUIRE_NO_CAPTURE();
    if (posix_memalign(p, PAGE, bytes ? bytes : 1) != 0)
        return set_error(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    std::lock_guard<std::mutex> l(lock);
    pinned[*p] = bytes;
    n_allocations++;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

/* When the device is lost, too: it is host memory. The error is returned all the same. */
cudaError_t cudaFreeHost(void *p)
{
    if (!p)
        return cudaSuccess;
    TDM_EMU_REQUIRE_NO_CAPTURE();
    const cudaError_t e = cudaDeviceSynchronize();
    std::lock_guard<std::mutex> l(lock);
    if (!pinned.erase(p))
        fail("cudaFreeHost: %p was not allocated by cudaHostAlloc", p);
    free(p);
    return e;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    TDM_EMU_REQUIRE_STATE();
    if (bytes == 0)
        return cudaSuccess;
    const cudaError_t e = check_copy(to, from, bytes, kind);
    if (e != cudaSuccess)
        return set_error(e);
    const int device = device_of(stream);
    return enqueue(stream, "cudaMemcpyAsync", [=] {
        check_copy(to, from, bytes, kind);
        copy_row(to, from, bytes, device);
    });
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    TDM_EMU_REQUIRE_STATE();
    if (width > to_pitch || width > from_pitch)
        return set_error(cudaErrorInvalidPitchValue);
    if (width == 0 || height == 0)
        return cudaSuccess;
    check_copy(to, from, width, kind);
    const int device = device_of(stream);
    return enqueue(stream, "cudaMemcpy2DAsync", [=] {
        for (size_t row = 0; row < height; row++) {
            char *t = static_cast<char *>(to) + row * to_pitch;
            const char *f = static_cast<const char *>(from) + row * from_pitch;
            check_copy(t, f, width, kind);
            copy_row(t, f, width, device);
        }
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    TDM_EMU_REQUIRE_NO_CAPTURE();
    const cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return e == cudaSuccess ? cudaStreamSynchronize(nullptr) : e;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    TDM_EMU_REQUIRE_STATE();
    if (bytes == 0)
        return cudaSuccess;
    require_device(p, bytes, "cudaMemset");
    return enqueue(stream, "cudaMemsetAsync", [=] {
        require_device(p, bytes, "cudaMemset");
        memset(p, value, bytes);
    });
}

/* Does not wait, and the legacy stream is not ordered with non-blocking streams. */
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    TDM_EMU_REQUIRE_NO_CAPTURE();
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
}
