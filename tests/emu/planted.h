/* tests/emu/planted.h - the bugs that planted.cu and planted_main.c can be told to have. */
#ifndef TESTS_EMU_PLANTED_H
#define TESTS_EMU_PLANTED_H

#include <cuda_runtime_api.h>

/* Bugs in a kernel, then bugs in host code. */
#define TDM_KERNEL_BUGS(X)                                                                         \
    X(MISSING_BARRIER, "missing-barrier")                                                          \
    X(MISSING_BARRIER_BEFORE_REUSE, "missing-barrier-before-reuse")                                \
    X(SHARED_OUT_OF_BOUNDS, "shared-out-of-bounds")                                                \
    X(DIVERGENT_BARRIER, "divergent-barrier")                                                      \
    X(DEADLOCK, "deadlock")                                                                        \
    X(WEAK_COPY_WAIT, "weak-copy-wait")                                                            \
    X(MISSING_SYNCWARP, "missing-syncwarp")                                                        \
    X(LANE_GONE, "lane-gone")                                                                      \
    X(MISSING_FENCE, "missing-fence")                                                              \
    X(RACE_BETWEEN_BLOCKS, "race-between-blocks")                                                  \
    X(GLOBAL_OUT_OF_BOUNDS, "global-out-of-bounds")                                                \
    X(MISALIGNED_LOAD, "misaligned-load")
#define TDM_HOST_BUGS(X)                                                                           \
    X(HOST_POINTER, "host-pointer")                                                                \
    X(OTHER_DEVICE, "other-device")                                                                \
    X(USE_AFTER_FREE, "use-after-free")                                                            \
    X(NOT_FREED, "not-freed")                                                                      \
    X(DEVICE_POINTER_ON_HOST, "device-pointer-on-host")                                            \
    X(MISSING_SYNC, "missing-sync")                                                                \
    X(MISSING_EVENT_WAIT, "missing-event-wait")                                                    \
    X(MALLOC_IN_CAPTURE, "malloc-in-capture")                                                      \
    X(SYNC_IN_CAPTURE, "sync-in-capture")                                                          \
    X(LOAD_IN_CAPTURE, "load-in-capture")                                                          \
    X(MUCH_SHARED, "much-shared")                                                                  \
    X(MANY_THREADS, "many-threads")

enum {
#define X(name, text) TDM_BUG_##name,
    TDM_KERNEL_BUGS(X) TDM_N_KERNEL_BUGS,
    TDM_BUG_NONE = TDM_N_KERNEL_BUGS,
    TDM_HOST_BUGS(X)
#undef X
};

#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = in[i] for i < n by `threads` threads and `shared_bytes` of dynamic shared memory */
cudaError_t tdmb_copy(float *out, const float *in, int n, int threads, size_t shared_bytes,
                      cudaStream_t stream);
/* What a right kernel makes of in [TDM_PLANTED_IN] (1, 2, 3 ...) is in out [TDM_PLANTED_OUT]: 1, 2,
 * 3
 * ..., whatever the kernel; count is 0 before. bug: a kernel bug or TDM_BUG_NONE for kernel
 * `which`, which is numbered as the bug that it can have. */
enum { TDM_PLANTED_IN = 512, TDM_PLANTED_OUT = 128 };
cudaError_t tdmb_planted(int which, int bug, float *out, const float *in, unsigned *count,
                         cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
