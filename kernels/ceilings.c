#include "kernels/ceilings.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cuda.h"

enum { WINDOWS = 5 };
static const double WINDOW_SECONDS = 0.02;

typedef struct {
    void *from, *to;
    uint32_t *sums; /* [bytes / TDMK_STREAM_TILE] device */
    size_t bytes;
    cudaStream_t stream;
} streams;

static tdm_status check(cudaError_t error, tdm_err *err)
{
    return cuda_check(error, "ceilings of the device", err);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cudaError_t copy_once(const streams *s)
{
    return tdmk_stream_copy(s->to, s->from, s->bytes, s->stream);
}

static cudaError_t read_once(const streams *s)
{
    return tdmk_stream_read(s->sums, s->from, s->bytes, s->stream);
}

/* Seconds of one call, the best of a few windows: other work only makes them longer. */
static tdm_status time_calls(const streams *s, cudaError_t (*call)(const streams *s), double *best,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    *best = 1e30;
    int calls = 1;
    for (int window = 0; window < WINDOWS;) {
        const double start = seconds();
        for (int i = 0; i < calls; i++)
            TDM_TRY(check(call(s), err));
        TDM_TRY(check(cudaStreamSynchronize(s->stream), err));
        const double spent = seconds() - start;
        if (spent < WINDOW_SECONDS && calls < 1 << 12) {
            calls *= 2; /* too short to be measured; it has warmed up */
            continue;
        }
        *best = spent / calls < *best ? spent / calls : *best;
        window++;
    }
done:
    return st;
}

/* The sum of all words of src, as the read-only stream sees them; that of the first tile is checked
 * here. */
static tdm_status add_up(const streams *s, const void *src, uint32_t *sum, tdm_err *err)
{
    tdm_status st = TDM_OK;
    enum { WORDS = TDMK_STREAM_TILE / sizeof(uint32_t) };
    const size_t n = s->bytes / TDMK_STREAM_TILE;
    uint32_t *sums = calloc(n, sizeof *sums), *tile = calloc(WORDS, sizeof *tile), of_tile = 0;
    TDM_REQUIRE(sums && tile, TDM_ENOMEM, "%zu sums", n);
    TDM_TRY(check(tdmk_stream_read(s->sums, src, s->bytes, s->stream), err));
    TDM_TRY(check(
        cudaMemcpyAsync(sums, s->sums, n * sizeof *sums, cudaMemcpyDeviceToHost, s->stream), err));
    TDM_TRY(check(cudaMemcpyAsync(tile, src, TDMK_STREAM_TILE, cudaMemcpyDeviceToHost, s->stream),
                  err));
    TDM_TRY(check(cudaStreamSynchronize(s->stream), err));
    for (size_t i = 0; i < WORDS; i++)
        of_tile += tile[i];
    TDM_REQUIRE(of_tile == sums[0], TDM_EINTERNAL, "a tile adds up to %08x, its words to %08x",
                (unsigned)sums[0], (unsigned)of_tile);
    *sum = 0;
    for (size_t i = 0; i < n; i++)
        *sum += sums[i];
done:
    free(tile);
    free(sums);
    return st;
}

static tdm_status measure(const streams *s, tdm_ceilings *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    double copy = 0, read = 0;
    uint32_t from = 0, to = 1;
    TDM_TRY(check(tdmk_stream_fill(s->from, s->bytes, s->stream), err));
    TDM_TRY(time_calls(s, copy_once, &copy, err));
    TDM_TRY(time_calls(s, read_once, &read, err));
    TDM_TRY(add_up(s, s->from, &from, err));
    TDM_TRY(add_up(s, s->to, &to, err));
    TDM_REQUIRE(from == to, TDM_EINTERNAL, "a copy adds up to %08x, what was copied to %08x",
                (unsigned)to, (unsigned)from);
    out->copy = 2 * (double)s->bytes / copy;
    out->read = (double)s->bytes / read;
done:
    return st;
}

static tdm_status describe(tdm_ceilings *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int device = 0;
    struct cudaDeviceProp is;
    TDM_TRY(check(cudaGetDevice(&device), err));
    TDM_TRY(check(cudaGetDeviceProperties(&is, device), err));
    TDM_TRY(check(cudaDriverGetVersion(&out->driver), err));
    TDM_TRY(check(cudaRuntimeGetVersion(&out->runtime), err));
    snprintf(out->name, sizeof out->name, "%.63s", is.name);
    out->multiprocessors = is.multiProcessorCount;
    out->memory = is.totalGlobalMem;
    out->cache = (size_t)is.l2CacheSize;
done:
    return st;
}

tdm_status tdm_cuda_ceilings(size_t bytes, tdm_ceilings *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    streams s = {.bytes = bytes};
    *out = (tdm_ceilings){0};
    TDM_REQUIRE(bytes > 0 && bytes % TDMK_STREAM_TILE == 0, TDM_EARG,
                "ceilings over %zu bytes, want a multiple of %d", bytes, TDMK_STREAM_TILE);
    TDM_TRY(describe(out, err));
    TDM_TRY(check(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking), err));
    TDM_TRY(cuda_take(bytes, "words to stream", CUDA_OTHERS, &s.from, err));
    TDM_TRY(cuda_take(bytes, "words to stream", CUDA_OTHERS, &s.to, err));
    TDM_TRY(cuda_take(bytes / TDMK_STREAM_TILE * sizeof *s.sums, "sums of words", CUDA_OTHERS,
                      (void **)&s.sums, err));
    TDM_TRY(measure(&s, out, err));
done:
    if (s.stream)
        cudaStreamDestroy(s.stream);
    cudaFree(s.sums);
    cudaFree(s.to);
    cudaFree(s.from);
    return st;
}
