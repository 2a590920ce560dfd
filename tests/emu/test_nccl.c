/* tests/emu/test_nccl.c - the emulated NCCL: several devices in one process, with a thread each or
 * driven by one; ranks that abort, devices that are lost. */
#include <stdlib.h>
#include <threads.h>

#include "tests/emu/control.h"
#include "tests/emu/nccl_ranks.h"
#include "tests/emu/test_emulator.h"

enum { STEPS = 5 };

/* On a rank's thread, where cmocka may not be used: the line that failed. */
#define CHECK(call)                                                                                \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            return __LINE__;                                                                       \
    } while (0)

static void each_rank(rank_work *w, int n, thrd_start_t f)
{
    thrd_t threads[MOST_RANKS];
    for (int r = 0; r < n; r++)
        assert_int_equal(thrd_create(&threads[r], f, &w[r]), thrd_success);
    for (int r = 0; r < n; r++) {
        int failed_line = -1;
        assert_int_equal(thrd_join(threads[r], &failed_line), thrd_success);
        assert_int_equal(failed_line, 0);
    }
}

static int take_out(rank_work *w)
{
    CHECK(cudaMemcpyAsync(w->out, w->all, sizeof w->out, cudaMemcpyDeviceToHost, w->stream));
    return 0;
}

/* ---- gathering: what is sent doubles with every step; kernels before and behind ---- */

static int before(rank_work *w)
{
    CHECK(cudaSetDevice(w->rank));
    CHECK(tdme_scale(w->mine, N, 2, 0, w->stream));
    return 0;
}
static int gather(rank_work *w)
{
    CHECK(ncclAllGather(w->mine, w->all, N, ncclFloat32, w->comm, w->stream));
    return 0;
}
static int behind(rank_work *w)
{
    CHECK(cudaSetDevice(w->rank));
    CHECK(tdme_scale(w->all, w->n * N, 1, 1, w->stream));
    return 0;
}
static int one_step(rank_work *w)
{
    CHECK(before(w));
    CHECK(gather(w));
    CHECK(behind(w));
    return 0;
}

static void expect_gathered(const rank_work *w, int n)
{
    for (int r = 0; r < n; r++)
        for (int i = 0; i < n * N; i++)
            assert_true(w[r].out[i] == (float)((i / N + 1) << STEPS) + 1);
}

static int gathers(void *user)
{
    rank_work *w = user;
    for (int i = 0; i < STEPS; i++)
        CHECK(one_step(w));
    CHECK(take_out(w));
    CHECK(cudaStreamSynchronize(w->stream));
    return 0;
}

static int gathers_by_graph(void *user)
{
    rank_work *w = user;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
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

static void ranks_gather(thrd_start_t f)
{
    for (int n = 1; n <= MOST_RANKS; n++) {
        rank_work w[MOST_RANKS];
        const long collectives = tdm_emu_collectives();
        open_ranks(w, n);
        each_rank(w, n, f);
        expect_gathered(w, n);
        assert_int_equal(tdm_emu_collectives() - collectives, STEPS);
        close_ranks(w, n);
    }
}

static void a_thread_per_rank_gathers(void **state)
{
    (void)state;
    ranks_gather(gathers);
}

static void graphs_gather(void **state)
{
    (void)state;
    ranks_gather(gathers_by_graph);
}

static void one_thread_gathers_in_groups(void **state)
{
    (void)state;
    static int (*const PARTS[])(rank_work *) = {before, gather, behind};
    for (int n = 1; n <= MOST_RANKS; n++) {
        rank_work w[MOST_RANKS];
        open_ranks(w, n);
        for (int i = 0; i < 3 * STEPS; i++) {
            NCCL(ncclGroupStart());
            for (int r = 0; r < n; r++)
                assert_int_equal(PARTS[i % 3](&w[r]), 0);
            NCCL(ncclGroupEnd());
        }
        for (int r = n; r--;)
            assert_int_equal(take_out(&w[r]), 0);
        for (int r = n; r--;)
            OK(cudaStreamSynchronize(w[r].stream));
        expect_gathered(w, n);
        close_ranks(w, n);
    }
}

/* ---- sending and receiving ---- */

/* Rank a sends rank b the first a + b + 1 of its N, which b puts where it keeps those of a. */
static int exchange(rank_work *w)
{
    CHECK(cudaMemsetAsync(w->all, 0, sizeof w->out, w->stream));
    CHECK(ncclGroupStart());
    for (int peer = 0; peer < w->n; peer++) {
        const size_t count = (size_t)(w->rank + peer + 1);
        CHECK(ncclSend(w->mine, count, ncclFloat32, peer, w->comm, w->stream));
        CHECK(ncclRecv(w->all + peer * N, count, ncclFloat32, peer, w->comm, w->stream));
    }
    CHECK(ncclGroupEnd());
    return 0;
}

/* Once, and once from a graph, on the values doubled. */
static int exchanges(void *user)
{
    rank_work *w = user;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(before(w));
    CHECK(exchange(w));
    CHECK(cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal));
    CHECK(before(w));
    CHECK(exchange(w));
    CHECK(cudaStreamEndCapture(w->stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaGraphLaunch(exec, w->stream));
    CHECK(take_out(w));
    CHECK(cudaStreamSynchronize(w->stream));
    CHECK(cudaGraphExecDestroy(exec));
    return 0;
}

static void ranks_exchange(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST_RANKS; n++) {
        rank_work w[MOST_RANKS];
        open_ranks(w, n);
        each_rank(w, n, exchanges);
        for (int r = 0; r < n; r++)
            for (int i = 0; i < n * N; i++)
                assert_true(w[r].out[i] == (i % N <= r + i / N ? (float)(4 * (i / N + 1)) : 0));
        close_ranks(w, n);
    }
}

/* ---- other ways to open and to gather ---- */

static ncclUniqueId id;

/* By its own call on its thread; gathers in place. */
static int joins_by_id(void *user)
{
    rank_work *w = user;
    int count, device, rank;
    CHECK(cudaSetDevice(w->rank));
    CHECK(ncclCommInitRank(&w->comm, w->n, id, w->rank));
    CHECK(ncclCommCount(w->comm, &count) || count != w->n);
    CHECK(ncclCommCuDevice(w->comm, &device) || device != w->rank);
    CHECK(ncclCommUserRank(w->comm, &rank) || rank != w->rank);
    float *own = w->all + w->rank * N;
    CHECK(cudaMemcpyAsync(own, w->mine, N * sizeof *own, cudaMemcpyDeviceToDevice, w->stream));
    CHECK(ncclAllGather(own, w->all, N, ncclFloat32, w->comm, w->stream));
    CHECK(take_out(w));
    CHECK(cudaStreamSynchronize(w->stream));
    CHECK(ncclCommFinalize(w->comm));
    return 0;
}

static void ranks_join_by_an_id(void **state)
{
    (void)state;
    rank_work w[MOST_RANKS];
    NCCL(ncclGetUniqueId(&id));
    for (int r = 0; r < MOST_RANKS; r++)
        open_rank(&w[r], r, MOST_RANKS, NULL);
    each_rank(w, MOST_RANKS, joins_by_id);
    for (int r = 0; r < MOST_RANKS; r++)
        for (int i = 0; i < MOST_RANKS * N; i++)
            assert_true(w[r].out[i] == (float)(i / N + 1));
    close_ranks(w, MOST_RANKS);
}

static void devices_are_asked_for_once(void **state)
{
    (void)state;
    ncclComm_t comms[MOST_RANKS + 1];
    assert_int_equal(ncclCommInitAll(comms, 2, (int[]){1, 1}), ncclInvalidUsage);
    assert_int_equal(ncclCommInitAll(comms, MOST_RANKS + 1, NULL), ncclInvalidArgument);
    assert_int_equal(ncclCommInitAll(comms, 1, (int[]){MOST_RANKS}), ncclUnhandledCudaError);
}

static int gathers_once(void *user)
{
    rank_work *w = user;
    CHECK(one_step(w));
    CHECK(take_out(w));
    CHECK(cudaStreamSynchronize(w->stream));
    return 0;
}

/* The first rank's stream is gone before the second calls. */
static void work_outlives_its_stream(void **state)
{
    (void)state;
    rank_work w[2];
    open_ranks(w, 2);
    assert_int_equal(one_step(&w[0]), 0);
    assert_int_equal(take_out(&w[0]), 0);
    OK(cudaStreamDestroy(w[0].stream));
    each_rank(&w[1], 1, gathers_once);
    OK(cudaDeviceSynchronize());
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 2 * N; i++)
            assert_true(w[r].out[i] == (i < N ? 3 : 5));
    OK(cudaStreamCreateWithFlags(&w[0].stream, cudaStreamNonBlocking));
    close_ranks(w, 2);
}

/* ---- what goes wrong ---- */

static void set(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    tdm_emu_configure();
}

/* As a rank has to that may be left alone: looks for errors while it waits, and then aborts. */
static int gathers_with_care(void *user)
{
    rank_work *w = user;
    cudaError_t e = cudaErrorNotReady;
    for (int i = 0; i < w->steps; i++)
        if (one_step(w) != 0) /* the device may be lost already, by what another thread ran */
            break;
    take_out(w);
    while (e == cudaErrorNotReady && w->error == ncclSuccess) {
        e = cudaStreamQuery(w->stream);
        CHECK(ncclCommGetAsyncError(w->comm, &w->error));
    }
    CHECK(ncclCommAbort(w->comm));
    w->comm = NULL;
    w->after = cudaStreamSynchronize(w->stream);
    return cudaStreamDestroy(w->stream) != w->after;
}

/* What two ranks come to; steps of the second. */
static void expect_errors(int steps, ncclResult_t first, ncclResult_t second, cudaError_t after)
{
    rank_work w[2];
    open_ranks(w, 2);
    w[0].steps = STEPS;
    w[1].steps = steps;
    each_rank(w, 2, gathers_with_care);
    assert_int_equal(w[0].error, first);
    assert_int_equal(w[1].error, second);
    assert_int_equal(w[0].after, cudaSuccess);
    assert_int_equal(w[1].after, after);
    assert_true(w[0].out[0] != w[0].out[0]); /* what an aborted rank finds */
    set("TDM_EMU_LOST", NULL);
    set("TDM_EMU_NCCL_FAIL", NULL);
    for (int r = 0; r < 2; r++) {
        OK(cudaSetDevice(r));
        OK(cudaStreamCreateWithFlags(&w[r].stream, cudaStreamNonBlocking));
        if (w[r].after != cudaSuccess) /* lost, with its memory */
            w[r].mine = w[r].all = NULL;
    }
    close_ranks(w, 2);
}

static void a_rank_that_aborts_is_seen(void **state)
{
    (void)state;
    expect_errors(STEPS - 1, ncclRemoteError, ncclSuccess, cudaSuccess);
}

/* The second device has two kernels a step. */
static void a_lost_device_is_seen(void **state)
{
    (void)state;
    set("TDM_EMU_LOST", "6@1");
    expect_errors(STEPS, ncclRemoteError, ncclUnhandledCudaError, cudaErrorLaunchFailure);
}

static void a_failed_operation_is_seen(void **state)
{
    (void)state;
    set("TDM_EMU_NCCL_FAIL", "3");
    expect_errors(STEPS, ncclSystemError, ncclSystemError, cudaSuccess);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_per_rank_gathers),
        cmocka_unit_test(graphs_gather),
        cmocka_unit_test(one_thread_gathers_in_groups),
        cmocka_unit_test(ranks_exchange),
        cmocka_unit_test(ranks_join_by_an_id),
        cmocka_unit_test(devices_are_asked_for_once),
        cmocka_unit_test(work_outlives_its_stream),
        cmocka_unit_test(a_rank_that_aborts_is_seen),
        cmocka_unit_test(a_lost_device_is_seen),
        cmocka_unit_test(a_failed_operation_is_seen),
    };
    set("TDM_EMU_DEVICES", "4");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
