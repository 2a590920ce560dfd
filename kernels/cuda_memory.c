/* kernels/cuda_memory.c - memory of the device, and the ways into it and out of it. */
#include <string.h>

#include "kernels/cuda.h"

enum { ALIGNMENT = 256 };
/* What is left to the driver: graphs, modules of kernels that are loaded when first used. */
static const size_t RESERVE = (size_t)512 << 20;

tdm_status cuda_memory_open(cuda_backend *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(cuda_check(
        cudaMallocHost((void **)&c->ring.base, (size_t)CUDA_SEGMENTS * CUDA_SEGMENT_BYTES),
        "pinned memory for uploads", err));
    for (int i = 0; i < CUDA_SEGMENTS; i++)
        TDM_TRY(cuda_check(cudaEventCreateWithFlags(&c->ring.left[i], cudaEventDisableTiming),
                           "event", err));
    for (int i = 0; i < TDM_LANES; i++) {
        TDM_TRY(cuda_check(cudaMallocHost(&c->lanes[i].host, TDM_LANE_BYTES),
                           "pinned memory for results", err));
        TDM_TRY(cuda_check(cudaEventCreateWithFlags(&c->lanes[i].arrived, cudaEventDisableTiming),
                           "event", err));
    }
    TDM_TRY(cuda_take(CUDA_SEGMENT_BYTES, "staging", CUDA_OTHERS, &c->landing, err));
done:
    return st;
}

void cuda_memory_close(cuda_backend *c)
{
    for (int i = 0; i < CUDA_SEGMENTS; i++)
        if (c->ring.left[i])
            (void)cudaEventDestroy(c->ring.left[i]);
    for (int i = 0; i < TDM_LANES; i++) {
        if (c->lanes[i].arrived)
            (void)cudaEventDestroy(c->lanes[i].arrived);
        (void)cudaFreeHost(c->lanes[i].host);
    }
    (void)cudaFreeHost(c->ring.base);
    (void)cudaFree(c->landing);
}

/* ---- taking memory ---- */

size_t cuda_memory(void *self)
{
    (void)self;
    size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    const size_t reserve = total / 16 < RESERVE ? total / 16 : RESERVE;
    return available > reserve ? available - reserve : 1;
}

tdm_status cuda_take(size_t bytes, const char *what, const char *hint, void **out, tdm_err *err)
{
    int device = 0;
    size_t available = 0, total = 0;
    *out = NULL;
    const cudaError_t error = cudaMalloc(out, bytes ? bytes : ALIGNMENT);
    if (error != cudaErrorMemoryAllocation)
        return cuda_check(error, what, err);
    *out = NULL;
    (void)cudaGetLastError();
    (void)cudaGetDevice(&device);
    (void)cudaMemGetInfo(&available, &total);
    return tdm_fail(err, TDM_ENOMEM, "cuda:%d: %s of %.1f MiB, %.1f MiB are free: %s", device, what,
                    (double)bytes / 0x1p20, (double)available / 0x1p20, hint);
}

tdm_status cuda_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    (void)self;
    return cuda_take(bytes, "a buffer", "the model or --batch is too large for it", out, err);
}

void cuda_release(void *self, void *p)
{
    cuda_backend *c = self;
    if (!p)
        return;
    if (c->rank.n)
        cuda_rank_settle(c);
    (void)cudaFree(p); /* waits for what uses it; an error will come out of the next operation */
}

/* ---- into the device ---- */

tdm_status cuda_ring_room(cuda_backend *c, size_t least, void **p, size_t *room, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_ring *r = &c->ring;
    TDM_REQUIRE(!c->capturing, TDM_EARG, "an upload between the beginning and the end of a graph");
    if (CUDA_SEGMENT_BYTES - r->used < least) {
        TDM_TRY(cuda_check(cudaEventRecord(r->left[r->at], c->stream), "upload", err));
        r->at = (r->at + 1) % CUDA_SEGMENTS;
        r->used = 0;
        TDM_TRY(cuda_wait(c, r->left[r->at], "upload", err));
    }
    *p = r->base + (size_t)r->at * CUDA_SEGMENT_BYTES + r->used;
    *room = CUDA_SEGMENT_BYTES - r->used;
done:
    return st;
}

void cuda_ring_filled(cuda_backend *c, size_t bytes)
{
    c->ring.used += (bytes + 15) / 16 * 16; /* segments are a multiple of 16 */
}

tdm_status cuda_upload(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    for (size_t done = 0; done < bytes;) {
        void *staged = NULL;
        size_t n = 0;
        TDM_TRY(cuda_ring_room(c, 1, &staged, &n, err));
        n = n < bytes - done ? n : bytes - done;
        memcpy(staged, (const char *)src + done, n);
        cuda_ring_filled(c, n);
        TDM_TRY(cuda_enqueued(
            c, cudaMemcpyAsync((char *)dst + done, staged, n, cudaMemcpyHostToDevice, c->stream),
            "upload", err));
        done += n;
    }
done:
    return st;
}

/* ---- out of the device ---- */

tdm_status cuda_download(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    if (!bytes)
        return TDM_OK;
    if (c->rank.n) /* for what others take part in, and may fail in */
        TDM_TRY(cuda_wait(c, NULL, "download", err));
    TDM_TRY(cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream),
                       "download", err));
    /* whoever fails now: the copy waits for none of them, and dst is the caller's again behind it */
    TDM_TRY(cuda_check(cudaStreamSynchronize(c->stream), "download", err));
done:
    return st;
}

tdm_status cuda_sync(void *self, tdm_err *err)
{
    return cuda_wait(self, NULL, "waiting for the device", err);
}

tdm_status cuda_fetch_begin(void *self, int lane, const void *src, size_t bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    cuda_lane *l = &c->lanes[lane];
    TDM_REQUIRE(!l->busy, TDM_EARG, "lane %d is under way", lane);
    if (bytes)
        TDM_TRY(cuda_check(cudaMemcpyAsync(l->host, src, bytes, cudaMemcpyDeviceToHost, c->stream),
                           "fetch", err));
    TDM_TRY(cuda_check(cudaEventRecord(l->arrived, c->stream), "fetch", err));
    l->busy = true;
done:
    return st;
}

tdm_status cuda_fetch_end(void *self, int lane, const void **host, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    cuda_lane *l = &c->lanes[lane];
    TDM_REQUIRE(l->busy, TDM_EARG, "lane %d has nothing under way", lane);
    l->busy = false;
    TDM_TRY(cuda_wait(c, l->arrived, "fetch", err));
    *host = l->host;
done:
    return st;
}
