/* tests/emu/runtime.h - what device_emu.h asks of the emulator while a kernel runs.
 *
 * Kernels are compiled with instrumentation (ASan, UBSan, the access hooks of the race checker),
 * the emulator is not. So that no instrumented copy of a standard template ends up in the emulator,
 * this header and device_emu.h use none but <tuple> and <utility>. */
#ifndef TESTS_EMU_RUNTIME_H
#define TESTS_EMU_RUNTIME_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

/* A function that looks after its accesses itself: the race checker does not see them. */
#define TDM_EMU_UNCHECKED __attribute__((no_sanitize_thread))

namespace tdm_emu
{

/* Where in a kernel something was called; the builtins name the caller when used as a default. */
struct Site {
    const char *file;
    int line;
};
#define TDM_EMU_SITE tdm_emu::Site site = {__builtin_FILE(), __builtin_LINE()}

/* The CUDA thread that runs now on this CPU thread; NULL on the host side. */
struct Self {
    uint3 thread;
    unsigned lane, warp, index;
};
struct Where {
    uint3 block, block_dim, grid_dim;
};
extern thread_local Self *self __attribute__((tls_model("initial-exec")));
extern thread_local Where where __attribute__((tls_model("initial-exec")));

/* One launch: `call` holds the kernel and its arguments. */
struct Launch {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t shared_bytes;
    void (*invoke)(const void *call);
    void (*destroy)(void *call);
    void *call;
    size_t call_bytes;
};
void launch(const Launch &launch, cudaStream_t stream);

void barrier(Site site);
enum class Vote { any, all, count };
int barrier_vote(Vote vote, int predicate, Site site);

/* A warp collective: lanes deposit, the last one to arrive completes, all go on. What a lane put in
 * lies in `in`, for every lane of `mask`. release() after the last look. */
enum class Kind {
    sync,
    shuffle,
    ballot,
    reduce_add,
    reduce_min,
    reduce_max,
    reduce_and,
    reduce_or,
    reduce_xor,
    mma,
    ldmatrix
};
struct Collective {
    Kind kind;
    int detail; /* must be equal in all lanes: size, shuffle mode, signedness */
    unsigned mask, arrived, readers;
    Site site;
    alignas(16) unsigned char in[32][48];
    unsigned result;  /* ballot, reduce */
    float out[32][4]; /* mma */
};
struct MmaInput {
    unsigned a[4], b[2];
    float d[4];
};
Collective *collect(Kind kind, int detail, unsigned mask, const void *in, size_t bytes, Site site);
void release(Collective *c);

void *shared_static(const void *key, size_t bytes, const char *name);
unsigned char *shared_dynamic();
void *shared_carve(const unsigned char *base, size_t offset, size_t bytes);

void copy_async(void *shared, const void *global, int bytes, Site site);
void copy_async_commit();
void copy_async_wait(int groups_left);

void load_matrices(unsigned (&r)[4], const void *row, bool transposed, Site site);
void fence();
/* Tell the race checker of an atomic operation, which the hooks of the compiler do not show. */
void atomic_access(const void *p, size_t bytes, Site site);

[[noreturn]] void fatal(Site site, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace tdm_emu

#endif
