/* tests/emu/nccl_ranks.h - ranks on emulated devices 0, 1, ..., for tests of NCCL. */
#ifndef TESTS_EMU_NCCL_RANKS_H
#define TESTS_EMU_NCCL_RANKS_H

#include <nccl.h>

#include "tests/emu/test_device.h"

#define NCCL(call) assert_int_equal((call), ncclSuccess)

enum { MOST_RANKS = 4, N = 24 };

/* What a rank works with: mine [N] is what it sends, all [MOST_RANKS][N] what it gets. */
typedef struct {
    int rank, n;
    ncclComm_t comm;
    cudaStream_t stream;
    float *mine, *all;
    float out[MOST_RANKS * N];
    int steps;
    ncclResult_t error; /* what NCCL said while the rank waited */
    cudaError_t after;  /* what CUDA said when it was over */
} rank_work;

static inline void open_rank(rank_work *w, int rank, int n, ncclComm_t comm)
{
    float in[N];
    *w = (rank_work){.rank = rank, .n = n, .comm = comm};
    for (int i = 0; i < N; i++)
        in[i] = (float)(rank + 1);
    OK(cudaSetDevice(rank));
    OK(cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking));
    w->mine = (float *)on_device(in, sizeof in);
    w->all = (float *)on_device(NULL, sizeof w->out);
}

static inline void open_ranks(rank_work *w, int n)
{
    ncclComm_t comms[MOST_RANKS];
    NCCL(ncclCommInitAll(comms, n, NULL));
    for (int r = 0; r < n; r++)
        open_rank(&w[r], r, n, comms[r]);
}

static inline void close_rank(rank_work *w)
{
    OK(cudaSetDevice(w->rank));
    OK(cudaFree(w->mine));
    OK(cudaFree(w->all));
    OK(cudaStreamDestroy(w->stream));
}

static inline void close_ranks(rank_work *w, int n)
{
    for (int r = 0; r < n; r++) {
        close_rank(&w[r]);
        if (w[r].comm)
            NCCL(ncclCommDestroy(w[r].comm));
    }
    OK(cudaSetDevice(0));
}

#endif
