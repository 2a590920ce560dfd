/* tests/emu/test_nccl_found.c - bugs in the use of several devices and of NCCL, each in a process
 * of its own, which the emulator has to end with the right line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include "tests/emu/control.h"
#include "tests/emu/nccl_ranks.h"
#include "tests/emu/test_emulator.h"

enum { FOUND = 86 };

static void gather(rank_work *w, size_t count, ncclDataType_t type)
{
    ncclAllGather(w->mine, w->all, count, type, w->comm, w->stream);
}

static void wait_for(rank_work *w)
{
    cudaSetDevice(w->rank);
    cudaStreamSynchronize(w->stream);
}

/* ---- what differs between ranks ---- */

static void other_count(rank_work *w)
{
    ncclGroupStart();
    gather(&w[0], N, ncclFloat32);
    gather(&w[1], N - 1, ncclFloat32);
    ncclGroupEnd();
}

static void other_type(rank_work *w)
{
    ncclGroupStart();
    gather(&w[0], N, ncclFloat32);
    gather(&w[1], N, ncclInt32);
    ncclGroupEnd();
}

static void other_kind(rank_work *w)
{
    ncclGroupStart();
    gather(&w[0], N, ncclFloat32);
    ncclSend(w[1].mine, N, ncclFloat32, 0, w[1].comm, w[1].stream);
    ncclRecv(w[1].all, N, ncclFloat32, 0, w[1].comm, w[1].stream);
    ncclGroupEnd();
}

static void other_step(rank_work *w)
{
    for (int i = 0; i < 3; i++) {
        ncclGroupStart();
        gather(&w[0], N, ncclFloat32);
        gather(&w[1], i < 2 ? N : 1, ncclFloat32);
        ncclGroupEnd();
        wait_for(&w[0]);
    }
}

static void send_more(rank_work *w)
{
    ncclGroupStart();
    for (int r = 0; r < 2; r++) {
        ncclSend(w[r].mine, r ? N : N / 2, ncclFloat32, !r, w[r].comm, w[r].stream);
        ncclRecv(w[r].all, N, ncclFloat32, !r, w[r].comm, w[r].stream);
    }
    ncclGroupEnd();
}

static void receive_nothing(rank_work *w)
{
    ncclGroupStart();
    ncclSend(w[0].mine, N, ncclFloat32, 1, w[0].comm, w[0].stream);
    ncclSend(w[1].mine, N, ncclFloat32, 1, w[1].comm, w[1].stream);
    ncclRecv(w[1].all, N, ncclFloat32, 1, w[1].comm, w[1].stream);
    ncclGroupEnd();
}

static ncclComm_t second[2];

static int gathers_twice(void *user)
{
    rank_work *w = user;
    for (int i = 0; i < 2; i++)
        ncclAllGather(w->mine, w->all, N, ncclFloat32, w->rank == i ? w->comm : second[w->rank],
                      w->stream);
    wait_for(w);
    return 0;
}

static void other_order(rank_work *w)
{
    thrd_t threads[2];
    ncclCommInitAll(second, 2, NULL);
    for (int r = 0; r < 2; r++)
        thrd_create(&threads[r], gathers_twice, &w[r]);
    for (int r = 0; r < 2; r++)
        thrd_join(threads[r], NULL);
}

/* ---- who is missing ---- */

static void missing_rank(rank_work *w)
{
    gather(&w[0], N, ncclFloat32);
    wait_for(&w[0]);
}

static void missing_rank_polled(rank_work *w)
{
    gather(&w[0], N, ncclFloat32);
    while (cudaStreamQuery(w[0].stream) == cudaErrorNotReady)
        ;
}

static void missing_at_start(rank_work *w)
{
    ncclUniqueId id;
    ncclComm_t comm;
    (void)w;
    ncclGetUniqueId(&id);
    ncclCommInitRank(&comm, 2, id, 0);
}

static void joined_from_elsewhere(rank_work *w)
{
    (void)w;
    cudaSetDevice(0);
    ncclCommInitAll(second, 1, (int[]){1});
}

static void partner_destroyed(rank_work *w)
{
    ncclCommDestroy(w[1].comm);
    missing_rank(w);
}

static void failed_operation(rank_work *w)
{
    setenv("TDM_EMU_NCCL_FAIL", "1", 1);
    tdm_emu_configure();
    ncclGroupStart();
    gather(&w[0], N, ncclFloat32);
    gather(&w[1], N, ncclFloat32);
    ncclGroupEnd();
    wait_for(&w[0]);
}

/* ---- whose memory, whose stream ---- */

static void memory_of_another_device(rank_work *w)
{
    w[1].mine = w[0].mine;
    other_count(w);
}

static void copy_of_freed_memory(rank_work *w)
{
    cudaFree(w[1].all);
    other_count(w);
}

static void small_buffer(rank_work *w)
{
    gather(&w[0], MOST_RANKS * N, ncclFloat32);
}

static void result_over_input(rank_work *w)
{
    ncclAllGather(w[0].all + 1, w[0].all, N, ncclFloat32, w[0].comm, w[0].stream);
}

static void stream_of_another_device(rank_work *w)
{
    ncclAllGather(w[1].mine, w[1].all, N, ncclFloat32, w[1].comm, w[0].stream);
}

static void two_streams(rank_work *w)
{
    cudaStream_t other;
    cudaSetDevice(0);
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    gather(&w[0], N, ncclFloat32);
    w[0].stream = other;
    gather(&w[0], N, ncclFloat32);
}

/* ---- groups, captures, communicators that are closed ---- */

static void one_thread_without_a_group(rank_work *w)
{
    gather(&w[0], N, ncclFloat32);
    gather(&w[1], N, ncclFloat32);
}

static void group_without_start(rank_work *w)
{
    (void)w;
    ncclGroupEnd();
}

static void first_in_a_capture(rank_work *w)
{
    cudaStreamBeginCapture(w[0].stream, cudaStreamCaptureModeThreadLocal);
    gather(&w[0], N, ncclFloat32);
}

static void destroyed_early(rank_work *w)
{
    gather(&w[0], N, ncclFloat32);
    ncclCommDestroy(w[0].comm);
}

static void used_when_destroyed(rank_work *w)
{
    ncclCommDestroy(w[0].comm);
    gather(&w[0], N, ncclFloat32);
}

static void used_when_aborted(rank_work *w)
{
    ncclCommAbort(w[0].comm);
    gather(&w[0], N, ncclFloat32);
}

static void closed_before_its_graph(rank_work *w, int aborts)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ncclGroupStart();
    gather(&w[0], N, ncclFloat32);
    gather(&w[1], N, ncclFloat32);
    ncclGroupEnd();
    wait_for(&w[0]);
    cudaStreamBeginCapture(w[0].stream, cudaStreamCaptureModeThreadLocal);
    gather(&w[0], N, ncclFloat32);
    cudaStreamEndCapture(w[0].stream, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    if (aborts)
        ncclCommAbort(w[0].comm);
    else
        ncclCommDestroy(w[0].comm);
}

static void destroyed_before_its_graph(rank_work *w)
{
    closed_before_its_graph(w, 0);
}

static void aborted_before_its_graph(rank_work *w)
{
    closed_before_its_graph(w, 1);
}

/* Seen when the program ends, where ASan looks for leaks. */
static void left_open(rank_work *w)
{
    for (int r = 0; r < 2; r++)
        close_rank(&w[r]);
}

#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN(yes, no) yes
#else
#define WITH_ASAN(yes, no) no
#endif

static const struct {
    void (*run)(rank_work *);
    const char *says; /* "": not found */
} BUGS[] = {
    {other_count, "operation 0 of communicator 0 is ncclAllGather of 24 float32 for rank 0, "
                  "ncclAllGather of 23 float32 for rank 1"},
    {other_type, "is ncclAllGather of 24 float32 for rank 0, ncclAllGather of 24 int32 for rank 1"},
    {other_kind, "is ncclAllGather of 24 float32 for rank 0, an exchange of 2"},
    {other_step, "operation 2 of communicator 0 is ncclAllGather of 24 float32 for rank 0"},
    {send_more, "rank 0 sends rank 1 12 float32, which receives 24 float32"},
    {receive_nothing, "rank 0 sends rank 1 24 float32, which receives nothing"},
    {other_order, "streams wait for each other: operation 0 of communicator"},
    {missing_rank, "cannot go on: operation 0 of communicator 0: rank 1 of 2 has not called it"},
    {missing_rank_polled, "operation 0 of communicator 0: rank 1 of 2 has not called it"},
    {missing_at_start, "ncclCommInitRank: rank 1 of 2 has not come"},
    {joined_from_elsewhere, "ncclCommInitAll: the thread is on device 0, which is none of the communicator's"},
    {partner_destroyed, "rank 1 of 2 destroyed its communicator"},
    {failed_operation, "operation 0 of communicator 0 failed (TDM_EMU_NCCL_FAIL)"},
    {memory_of_another_device, "is memory of device 0, used on device 1"},
    {copy_of_freed_memory, "are not within one allocation of device memory"},
    {small_buffer, "are not within one allocation of device memory"},
    {result_over_input, "what is read lies in what is written"},
    {stream_of_another_device, "rank 1 of communicator 0 is on device 1, the stream on device 0"},
    {two_streams, "operation 1 of communicator 0: rank 0 uses two streams at a time"},
    {one_thread_without_a_group, "one thread calls for ranks 0 and 1, but not in one group"},
    {group_without_start, "ncclGroupEnd: without ncclGroupStart"},
    {first_in_a_capture, "ncclAllGather is first used by rank 0 in a capture"},
    {destroyed_early, "operation 0 of rank 0 of communicator 0 is still under way"},
    {used_when_destroyed, "ncclAllGather: the communicator was destroyed"},
    {used_when_aborted, "ncclAllGather: the communicator was aborted"},
    {destroyed_before_its_graph,
     "ncclCommDestroy: a graph with operations of rank 0 of communicator 0"},
    {aborted_before_its_graph,
     "ncclCommAbort: a graph with operations of rank 0 of communicator 0"},
    {left_open, WITH_ASAN("2 communicators of NCCL were not destroyed", "")},
};
enum { N_BUGS = sizeof BUGS / sizeof *BUGS };

/* ---- */

typedef struct {
    pid_t process;
    int text; /* what it writes to stderr */
} child;

static child start(size_t bug)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const child c = {fork(), ends[0]};
    if (c.process == 0) {
        rank_work w[2];
        dup2(ends[1], STDERR_FILENO);
        open_ranks(w, 2);
        BUGS[bug].run(w);
        exit(0);
    }
    close(ends[1]);
    return c;
}

static void expect_found(size_t bug, child c)
{
    char text[4000];
    size_t n = 0;
    int status = 0;
    for (ssize_t more; (more = read(c.text, text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)more;
    text[n] = 0;
    close(c.text);
    assert_int_equal(waitpid(c.process, &status, 0), c.process);
    if (!strstr(text, BUGS[bug].says))
        fail_msg("bug %zu: want '%s', got status %d, '%s'", bug, BUGS[bug].says, status, text);
    assert_int_equal(WEXITSTATUS(status), *BUGS[bug].says ? FOUND : 0);
    assert_true(n == 0 || strchr(text, '\n') == text + n - 1); /* one line */
}

static void every_bug_is_found(void **state)
{
    (void)state;
    child children[N_BUGS];
    for (size_t i = 0; i < N_BUGS; i++)
        children[i] = start(i);
    for (size_t i = 0; i < N_BUGS; i++)
        expect_found(i, children[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_bug_is_found)};
    setenv("TDM_EMU_DEVICES", "2", 1);
    setenv("TDM_EMU_PATIENCE", "0", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
