/* kernels/cuda.h - what the files of the CUDA backend share. Nobody else includes this. */
#ifndef KERNELS_CUDA_H
#define KERNELS_CUDA_H

#include <cuda_runtime_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/backend.h"
#include "kernels/comm.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

/* Pinned memory that uploads pass through, so that the caller need not wait for the device:
 * segments are filled one after the other, and one is used again when the event recorded on leaving
 * it has come to pass. */
enum { CUDA_SEGMENTS = 8, CUDA_SEGMENT_BYTES = 4 << 20 };
typedef struct {
    char *base;                      /* [CUDA_SEGMENTS][CUDA_SEGMENT_BYTES] */
    cudaEvent_t left[CUDA_SEGMENTS]; /* the last copy out of the segment */
    int at;                          /* the segment that is being filled */
    size_t used;                     /* bytes of it */
} cuda_ring;

typedef struct {
    void *host; /* [TDM_LANE_BYTES], pinned */
    cudaEvent_t arrived;
    bool busy; /* between begin and end */
} cuda_lane;

/* What makes a backend one of several ranks (host/ranks.h). */
enum { CUDA_STAGING_BYTES = 32 << 20 };
typedef struct cuda_meeting cuda_meeting; /* where the threads of all ranks wait for each other */
typedef struct {
    int32_t number, n;        /* which of how many; 0 of 0: alone */
    const atomic_int *failed; /* not 0: another rank failed */
    cuda_meeting *meeting;
    tdm_comm *comm; /* NULL until the devices are joined */
    void *staging;  /* on the device: what the other ranks sent */
    size_t staging_bytes;
    bool dead; /* given up */
} cuda_rank;

typedef struct {
    int device;
    tdm_dtype dtype, kv_dtype;
    bool sync_each; /* wait after every operation, so that an error names the one that caused it */
    bool capturing;
    cuda_rank rank;
    cudaStream_t stream;
    tdm_gemm *gemm;
    cuda_ring ring;
    cuda_lane lanes[TDM_LANES];
    void
        *landing; /* [CUDA_SEGMENT_BYTES] on the device: rows of a weight as they are in the file */
    char name[128], identity[160];
    tdm_graph *graphs; /* those that are open */
    tdm_ops ops;
} cuda_backend;

/* A weight [padded, in] in act, rows out .. padded - 1 zeros, and its plans once they are made. */
typedef struct {
    tdm_weight shape;
    void *p;
    int plans[2][2][2]; /* [y is f32 and act is not][GELU][bias]; -1: not yet */
} cuda_weight;

typedef struct {
    tdm_kv shape;
    tdmk_cache cache;
    size_t page_bytes;
} cuda_kv;

/* ---- backend_cuda.c ---- */

extern const tdm_ops cuda_ops;

/* ---- cuda_open.c ---- */

void cuda_close(void *self); /* NULL is fine */

/* What an error of the runtime is to the caller. TDM_ESTOPPED: nothing on the device can be used
 * any more. */
tdm_status cuda_status(cudaError_t error);

/* TDM_OK, or the error in words; clears it. `what` says what was tried. */
tdm_status cuda_check(cudaError_t error, const char *what, tdm_err *err);

/* How many devices there are, at least one; or why none can be used. */
tdm_status cuda_count(int *count, tdm_err *err);

/* cuda_check for work that was just enqueued; waits for it where sync_each is set. */
tdm_status cuda_enqueued(const cuda_backend *c, cudaError_t error, const char *what, tdm_err *err);

/* ---- cuda_memory.c ---- */

tdm_status cuda_memory_open(cuda_backend *c, tdm_err *err);
void cuda_memory_close(cuda_backend *c); /* what was opened, if anything */

/* A hint where nothing that the user chose is large. */
#define CUDA_OTHERS "see with nvidia-smi whether other programs use the device"

/* Memory of the current device. On failure the message has what is needed, what is free, and
 * `hint`. */
tdm_status cuda_take(size_t bytes, const char *what, const char *hint, void **out, tdm_err *err);

/* Pinned memory for at least `least` <= CUDA_SEGMENT_BYTES bytes.
 *   p, room  where it is and how much, until the next call; call cuda_ring_filled with what was
 * used */
tdm_status cuda_ring_room(cuda_backend *c, size_t least, void **p, size_t *room, tdm_err *err);
void cuda_ring_filled(cuda_backend *c, size_t bytes);

size_t cuda_memory(void *self);
tdm_status cuda_alloc(void *self, size_t bytes, void **out, tdm_err *err);
void cuda_release(void *self, void *p);
tdm_status cuda_upload(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
tdm_status cuda_download(void *self, void *dst, const void *src, size_t bytes, tdm_err *err);
tdm_status cuda_sync(void *self, tdm_err *err);
tdm_status cuda_fetch_begin(void *self, int lane, const void *src, size_t bytes, tdm_err *err);
tdm_status cuda_fetch_end(void *self, int lane, const void **host, tdm_err *err);

/* ---- cuda_graph.c ---- */

tdm_status cuda_graph_begin(void *self, tdm_err *err);
tdm_status cuda_graph_end(void *self, tdm_graph **graph, tdm_err *err);
tdm_status cuda_graph_run(void *self, const tdm_graph *graph, tdm_err *err);
void cuda_graph_close(void *self, tdm_graph *graph);
/* Those that are open can be closed, and nothing else. A communicator cannot be closed before them. */
void cuda_graphs_end(cuda_backend *c);

/* ---- cuda_ranks.c ---- */

/* Wait for an event, or (NULL) for all that was enqueued. A rank polls, and waits no longer once another one has
 * failed or something is wrong between the devices: TDM_ESTOPPED. */
tdm_status cuda_wait(const cuda_backend *c, cudaEvent_t event, const char *what, tdm_err *err);

/* A meeting of n ranks, with `users` of 1; take makes one more, leave one less, and the last frees it. */
tdm_status cuda_meeting_open(int32_t n, cuda_meeting **out, tdm_err *err);
cuda_meeting *cuda_meeting_take(cuda_meeting *m);
void cuda_meeting_leave(cuda_meeting *m); /* NULL is fine */

/* Wait on the host until all ranks are here; TDM_ESTOPPED where one has failed. A backend that stands alone, and a
 * rank that records a graph, goes on at once. Before and behind whatever makes a device wait for another one: the driver
 * may hold up a thread that takes memory, or loads a kernel, until all devices of the process are idle, and none may
 * wait then for what that thread is still to launch. */
tdm_status cuda_meet(const cuda_backend *c, tdm_err *err);

/* Send the first messages of a rank, after which no message needs its peers' threads. */
tdm_status cuda_rank_connect(cuda_backend *c, tdm_err *err);

/* The two ways of a sum, of the same bits: all parts to all ranks; or slices of them, of which each rank adds up one
 * and sends the sum to all. y as in sum_ranks. */
tdm_status cuda_sum_gathered(cuda_backend *c, tdm_mat y, tdm_err *err);
tdm_status cuda_sum_exchanged(cuda_backend *c, tdm_mat y, tdm_err *err);

tdm_status cuda_sum_ranks(void *self, tdm_mat y, tdm_err *err);
tdm_status cuda_join_ranks(void *self, tdm_mat y, tdm_mat x, tdm_err *err);
void cuda_give_up(void *self);

/* Wait for all that was enqueued; where it does not come to an end, give up, and it does. */
void cuda_rank_settle(cuda_backend *c);

/* What of a rank is closed before the stream. false: the device does not answer, and all of the backend is to be left. */
bool cuda_rank_close(cuda_backend *c);

/* ---- cuda_load.c: weights and caches ---- */

tdm_status cuda_weight_open(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                            tdm_layout layout, tdm_weight **w, tdm_err *err);
void cuda_weight_close(void *self, tdm_weight *w);
size_t cuda_kv_page_bytes(void *self, int32_t layers, int32_t heads);
tdm_status cuda_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages,
                        int32_t text_pages, tdm_kv **kv, tdm_err *err);
void cuda_kv_close(void *self, tdm_kv *kv);
tdm_status cuda_kv_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err);

#endif
