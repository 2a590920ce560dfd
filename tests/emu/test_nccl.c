/* tests/emu/test_nccl.c - the emulated NCCL: several devices in one process, with a thread each or
 * driven by one. */
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "tests/emu/control.h"
#include "tests/emu/test_device.h"
#include "tests/emu/test_emulator.h"

#define NCCL(call) assert_int_equal((call), ncclSuccess)

enum { MOST = 4, N = 24, STEPS = 5 };

/* What a rank works with: mine [N] is what it sends, all [MOST][N] what it gets. */
typedef struct {
    int rank, n;
    ncclComm_t comm;
    cudaStream_t stream;
    float *mine, *all;
    float out[MOST * N];
} rank_work;

static void open_rank(rank_work *w, int rank, int n, ncclComm_t comm)
{
    float in[N];
    *w = (rank_work){.rank = rank, .n = n, .comm = comm};
    for (int i = 0; i < N; i++)
        in[i] = (float)(rank + 1);
    OK(cudaSetDevice(rank));
    OK(cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking));
    w->mine = on_device(in, sizeof in);
    w->all = on_device(NULL, sizeof w->out);
}

static void close_rank(rank_work *w)
{
    OK(cudaSetDevice(w->rank));
    OK(cudaFree(w->mine));
    OK(cudaFree(w->all));
    OK(cudaStreamDestroy(w->stream));
}

/* Every rank on a thread, or one behind the other on this one. */
static void each_rank(rank_work *w, int n, thrd_start_t f)
{
    thrd_t threads[MOST];
    for (int r = 0; r < n; r++)
        assert_int_equal(thrd_create(&threads[r], f, &w[r]), thrd_success);
    for (int r = 0; r < n; r++) {
        int result = 1;
        assert_int_equal(thrd_join(threads[r], &result), thrd_success);
        assert_int_equal(result, 0);
    }
}
#define CHECK(call)                                                                                \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            return __LINE__;                                                                       \
    } while (0)

static void open_ranks(rank_work *w, int n)
{
    ncclComm_t comms[MOST];
    NCCL(ncclCommInitAll(comms, n, NULL));
    for (int r = 0; r < n; r++)
        open_rank(&w[r], r, n, comms[r]);
}

static void close_ranks(rank_work *w, int n)
{
    for (int r = 0; r < n; r++) {
        close_rank(&w[r]);
        if (w[r].comm)
            NCCL(ncclCommDestroy(w[r].comm));
    }
    OK(cudaSetDevice(0));
}

/* ---- one step: my values are doubled, gathered, and the sum of what came is my next value ---- */

static int one_step(rank_work *w)
{
    CHECK(tdme_scale(w->mine, N, 2, 0, w->stream));
    CHECK(ncclAllGather(w->mine, w->all, N, ncclFloat32, w->comm, w->stream));
    CHECK(tdme_scale(w->all, w->n * N, 1, 1, w->stream));
    return 0;
}

static int take_out(rank_work *w)
{
    CHECK(cudaMemcpyAsync(w->out, w->all, sizeof w->out, cudaMemcpyDeviceToHost, w->stream));
    return 0;
}

static void expect_gathered(const rank_work *w, int n, int steps)
{
    for (int r = 0; r < n; r++)
        for (int i = 0; i < n * N; i++)
            assert_true(w[r].out[i] == (float)((i / N + 1) << steps) + 1);
}

static int gathers(void *user)
{
    rank_work *w = user;
    CHECK(cudaSetDevice(w->rank));
    for (int i = 0; i < STEPS; i++)
        CHECK(one_step(w));
    CHECK(take_out(w));
    CHECK(cudaStreamSynchronize(w->stream));
    return 0;
}

static void a_thread_per_rank_gathers(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        rank_work w[MOST];
        const long before = tdm_emu_collectives();
        open_ranks(w, n);
        each_rank(w, n, gathers);
        expect_gathered(w, n, STEPS);
        assert_int_equal(tdm_emu_collectives() - before, STEPS);
        close_ranks(w, n);
    }
}

static void one_thread_gathers_in_groups(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        rank_work w[MOST];
        open_ranks(w, n);
        for (int i = 0; i < STEPS; i++) {
            for (int r = 0; r < n; r++) {
                OK(cudaSetDevice(r));
                OK(tdme_scale(w[r].mine, N, 2, 0, w[r].stream));
            }
            NCCL(ncclGroupStart());
            for (int r = 0; r < n; r++)
                NCCL(ncclAllGather(w[r].mine, w[r].all, N, ncclFloat32, w[r].comm, w[r].stream));
            NCCL(ncclGroupEnd());
            for (int r = 0; r < n; r++) {
                OK(cudaSetDevice(r));
                OK(tdme_scale(w[r].all, n * N, 1, 1, w[r].stream));
            }
        }
        for (int r = n; r--;)
            assert_int_equal(take_out(&w[r]), 0);
        for (int r = n; r--;)
            OK(cudaStreamSynchronize(w[r].stream));
        expect_gathered(w, n, STEPS);
        close_ranks(w, n);
    }
}

static int gathers_by_graph(void *user)
{
    rank_work *w = user;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaSetDevice(w->rank));
    CHECK(one_step(w));
    CHECK(cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal));
    CHECK(one_step(w));
    CHECK(cudaStreamEndCapture(w->stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    for (int i = 1; i < STEPS; i++)
        CHECK(cudaGraphLaunch(exec, w->stream));
    CHECK(take_out(w));
    while (cudaStreamQuery(w->stream) == cudaErrorNotReady)
        ;
    CHECK(cudaGraphExecDestroy(exec));
    return 0;
}

static void graphs_gather(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        rank_work w[MOST];
        open_ranks(w, n);
        each_rank(w, n, gathers_by_graph);
        expect_gathered(w, n, STEPS);
        close_ranks(w, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_per_rank_gathers),
        cmocka_unit_test(one_thread_gathers_in_groups),
        cmocka_unit_test(graphs_gather),
    };
    setenv("TDM_EMU_DEVICES", "4", 1);
    tdm_emu_configure();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
