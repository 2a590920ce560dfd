/* tests/emu/test_runtime.c - streams, events, captures, memory and simulated faults. */
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "tests/emu/control.h"
#include "tests/emu/test_device.h"
#include "tests/emu/test_emulator.h"

enum { N = 100 };

static float first_of(const float *device)
{
    float f = 0;
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpy(&f, device, sizeof f, cudaMemcpyDeviceToHost));
    return f;
}

static float *ones(void)
{
    float in[N];
    for (int i = 0; i < N; i++)
        in[i] = 1;
    return on_device(in, sizeof in);
}

static cudaStream_t open_stream(void)
{
    cudaStream_t s = NULL;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static void work_runs_when_somebody_waits(void **state)
{
    (void)state;
    float out = 0;
    float *p = ones();
    cudaStream_t s = open_stream();
    const long before = tdm_emu_kernels();
    OK(tdme_scale(p, N, 2, 1, s));
    OK(cudaMemcpyAsync(&out, p, sizeof out, cudaMemcpyDeviceToHost, s));
    assert_true(out == 0);
    assert_int_equal(tdm_emu_kernels(), before);
    OK(cudaStreamSynchronize(s));
    assert_true(out == 3);
    assert_int_equal(tdm_emu_kernels(), before + 1);
    OK(cudaStreamDestroy(s));
    OK(cudaFree(p));
}

static void an_event_orders_two_streams(void **state)
{
    (void)state;
    float *p = ones();
    cudaStream_t s = open_stream(), t = open_stream();
    cudaEvent_t e;
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    OK(tdme_scale(p, N, 2, 0, s));
    OK(cudaEventRecord(e, s));
    OK(cudaStreamWaitEvent(t, e, 0));
    OK(tdme_scale(p, N, 1, 5, t));
    OK(cudaStreamSynchronize(t));
    assert_true(first_of(p) == 7); /* 2 * 1 + 5, not 2 * (1 + 5) */
    OK(cudaEventSynchronize(e));
    OK(cudaEventQuery(e));
    OK(cudaEventDestroy(e));
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(t));
    OK(cudaFree(p));
}

static void polling_ends(void **state)
{
    (void)state;
    float *p = ones();
    cudaStream_t s = open_stream();
    cudaEvent_t e;
    OK(cudaEventCreate(&e));
    for (int i = 0; i < 5; i++)
        OK(tdme_scale(p, N, 1, 1, s));
    OK(cudaEventRecord(e, s));
    int polls = 0;
    while (cudaEventQuery(e) == cudaErrorNotReady)
        polls++;
    assert_in_range(polls, 1, 10);
    while (cudaStreamQuery(s) == cudaErrorNotReady)
        polls++;
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    assert_true(first_of(p) == 6);
    OK(cudaEventDestroy(e));
    OK(cudaStreamDestroy(s));
    OK(cudaFree(p));
}

/* p = (p * 2) and q = q + 3 side by side, then p = p + 1 after both. */
static cudaGraphExec_t capture_fork(float *p, float *q, cudaStream_t s, cudaStream_t t)
{
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t nodes = 0;
    OK(cudaEventCreate(&fork));
    OK(cudaEventCreate(&join));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(t, fork, 0));
    OK(tdme_scale(p, N, 2, 0, s));
    OK(tdme_scale(q, N, 1, 3, t));
    OK(cudaEventRecord(join, t));
    OK(cudaStreamWaitEvent(s, join, 0));
    OK(tdme_scale(p, N, 1, 1, s));
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphGetNodes(graph, NULL, &nodes));
    assert_int_equal(nodes, 3);
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    return exec;
}

static void a_graph_is_replayed(void **state)
{
    (void)state;
    float *p = ones(), *q = ones();
    cudaStream_t s = open_stream(), t = open_stream();
    const long before = tdm_emu_kernels();
    cudaGraphExec_t exec = capture_fork(p, q, s, t);
    OK(cudaStreamSynchronize(s));
    assert_int_equal(tdm_emu_kernels(), before); /* a capture runs nothing */
    for (int i = 0; i < 3; i++)
        OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    assert_true(first_of(p) == 15); /* 1, 3, 7, 15 */
    assert_true(first_of(q) == 10);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(t));
    OK(cudaFree(p));
    OK(cudaFree(q));
}

static cudaError_t try_malloc(cudaStream_t s)
{
    void *p;
    (void)s;
    return cudaMalloc(&p, 64);
}
static cudaError_t try_sync(cudaStream_t s)
{
    return cudaStreamSynchronize(s);
}
static cudaError_t try_device_sync(cudaStream_t s)
{
    (void)s;
    return cudaDeviceSynchronize();
}
static cudaError_t try_legacy_stream(cudaStream_t s)
{
    (void)s;
    return cudaMemcpyAsync(&(int){0}, &(int){1}, sizeof(int), cudaMemcpyHostToHost, NULL);
}

static void a_capture_forbids_waiting_and_allocating(void **state)
{
    (void)state;
    static cudaError_t (*const TRIES[])(cudaStream_t) = {try_malloc, try_sync, try_device_sync,
                                                         try_legacy_stream};
    cudaStream_t s = open_stream();
    for (size_t i = 0; i < sizeof TRIES / sizeof *TRIES; i++) {
        cudaGraph_t graph;
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        assert_int_not_equal(TRIES[i](s), cudaSuccess);
        assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        cudaGetLastError();
    }
    OK(cudaStreamDestroy(s));
}

static int malloc_in_thread(void *result)
{
    void *p = NULL;
    *(cudaError_t *)result = cudaMalloc(&p, 64);
    return p ? cudaFree(p) : 0;
}

/* A capture in global mode is broken by another thread's cudaMalloc, one in thread-local mode not.
 */
static void capture_modes_differ(void **state)
{
    (void)state;
    cudaStream_t s = open_stream();
    for (int global = 0; global < 2; global++) {
        cudaError_t result = cudaErrorUnknown;
        cudaGraph_t graph = NULL;
        thrd_t other;
        OK(cudaStreamBeginCapture(s, global ? cudaStreamCaptureModeGlobal
                                            : cudaStreamCaptureModeThreadLocal));
        assert_int_equal(thrd_create(&other, malloc_in_thread, &result), thrd_success);
        thrd_join(other, NULL);
        assert_int_equal(result, global ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
        assert_int_equal(cudaStreamEndCapture(s, &graph),
                         global ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
        if (graph)
            OK(cudaGraphDestroy(graph));
    }
    cudaGetLastError();
    OK(cudaStreamDestroy(s));
}

static void a_fork_must_be_joined(void **state)
{
    (void)state;
    float *p = ones();
    cudaStream_t s = open_stream(), t = open_stream();
    cudaEvent_t fork;
    cudaGraph_t graph;
    OK(cudaEventCreate(&fork));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(t, fork, 0));
    OK(tdme_scale(p, N, 2, 0, t));
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
    cudaGetLastError();
    OK(cudaEventDestroy(fork));
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(t));
    OK(cudaFree(p));
}

static void memory_is_counted_and_starts_as_nan(void **state)
{
    (void)state;
    size_t free_before, free_now, total;
    float f;
    void *p;
    OK(cudaMemGetInfo(&free_before, &total));
    const long calls = tdm_emu_allocations();
    for (size_t bytes = 8; bytes <= 8 << 20; bytes *= 1024) {
        p = on_device(NULL, bytes);
        OK(cudaMemGetInfo(&free_now, &total));
        assert_int_equal(free_before - free_now, bytes);
        OK(cudaMemcpy(&f, (char *)p + bytes - sizeof f, sizeof f, cudaMemcpyDeviceToHost));
        assert_true(f != f);
        OK(cudaFree(p));
    }
    assert_int_equal(tdm_emu_allocations() - calls, 3);
    OK(cudaMemGetInfo(&free_now, &total));
    assert_int_equal(free_now, free_before);
    assert_int_equal(cudaMalloc(&p, total + 1), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    OK(cudaGetLastError());
}

static void rows_are_copied_with_a_pitch(void **state)
{
    (void)state;
    char in[3][8] = {"abcdefg", "hijklmn", "opqrstu"}, out[3][8];
    void *p = on_device(NULL, sizeof in);
    cudaStream_t s = open_stream();
    OK(cudaMemsetAsync(p, '.', sizeof in, s));
    OK(cudaMemcpy2DAsync(p, 8, in, 8, 3, 3, cudaMemcpyHostToDevice, s));
    OK(cudaStreamSynchronize(s));
    take_back(out, p, sizeof out);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(out[i], in[i], 3);
        assert_memory_equal(out[i] + 3, ".....", 5);
    }
    OK(cudaStreamDestroy(s));
}

/* ---- faults, by environment ---- */

static void set(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    tdm_emu_configure();
}

static void no_device_and_an_old_driver(void **state)
{
    (void)state;
    int n;
    void *p;
    set("TDM_EMU_DEVICES", "0");
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_int_equal(cudaMalloc(&p, 8), cudaErrorNoDevice);
    set("TDM_EMU_DEVICES", "3");
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 3);
    assert_int_equal(cudaSetDevice(3), cudaErrorInvalidDevice);
    set("TDM_EMU_DEVICES", NULL);
    set("TDM_EMU_DRIVER", "old");
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    OK(cudaDriverGetVersion(&n));
    assert_true(n < CUDART_VERSION);
    set("TDM_EMU_DRIVER", NULL);
}

static void another_device_by_environment(void **state)
{
    (void)state;
    struct cudaDeviceProp prop;
    int shared;
    size_t free_bytes, total;
    set("TDM_EMU_CC", "86");
    set("TDM_EMU_MEMORY", "1000000");
    OK(cudaGetDeviceProperties(&prop, 0));
    OK(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    OK(cudaMemGetInfo(&free_bytes, &total));
    assert_int_equal(prop.major * 10 + prop.minor, 86);
    assert_int_equal(shared, 99 << 10);
    assert_int_equal(total, 1000000);
    set("TDM_EMU_CC", NULL);
    set("TDM_EMU_MEMORY", NULL);
}

static void a_lost_device_stays_lost(void **state)
{
    (void)state;
    float *p = ones();
    float out = 0;
    cudaStream_t s = open_stream();
    set("TDM_EMU_LOST", "2");
    for (int i = 0; i < 3; i++)
        OK(tdme_scale(p, N, 2, 0, s)); /* nothing runs before somebody waits */
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemcpy(&out, p, sizeof out, cudaMemcpyDeviceToHost),
                     cudaErrorLaunchFailure);
    assert_int_equal(tdme_scale(p, N, 2, 0, s), cudaErrorLaunchFailure);
    assert_true(out == 0);
    assert_int_equal(cudaStreamDestroy(s), cudaErrorLaunchFailure);
    set("TDM_EMU_LOST", NULL); /* there again, without what it held */
    assert_int_equal(tdm_emu_device_bytes(0), 0);
}

/* ---- several devices ---- */

static void devices_differ_by_environment(void **state)
{
    (void)state;
    static const char *const BUS[] = {"0000:1a:00.0", "0000:1b:00.0", "0000:1c:00.0"};
    static const size_t MEMORY[] = {1000000, 2000000, 2000000};
    set("TDM_EMU_DEVICES", "3");
    set("TDM_EMU_CC", "90,80");
    set("TDM_EMU_MEMORY", "1000000,2000000");
    for (int d = 0; d < 3; d++) {
        struct cudaDeviceProp prop;
        size_t free_bytes, total;
        char bus[16];
        OK(cudaSetDevice(d));
        OK(cudaGetDeviceProperties(&prop, d));
        OK(cudaDeviceGetPCIBusId(bus, sizeof bus, d));
        void *p = on_device(NULL, (size_t)d * 100 + 8);
        OK(cudaMemGetInfo(&free_bytes, &total));
        assert_int_equal(prop.major, d ? 8 : 9);
        assert_int_equal(total, MEMORY[d]);
        assert_int_equal(prop.totalGlobalMem, total);
        assert_int_equal(tdm_emu_device_bytes(d), d * 100 + 8);
        assert_int_equal(free_bytes, total - tdm_emu_device_bytes(d));
        assert_string_equal(bus, BUS[d]);
        OK(cudaSetDevice((d + 1) % 3));
        OK(cudaFree(p)); /* from wherever */
        assert_int_equal(tdm_emu_device_bytes(d), 0);
    }
    OK(cudaSetDevice(0));
    set("TDM_EMU_CC", NULL);
    set("TDM_EMU_MEMORY", NULL);
    set("TDM_EMU_DEVICES", NULL);
}

static void work_belongs_to_a_device(void **state)
{
    (void)state;
    set("TDM_EMU_DEVICES", "2");
    float *p = ones();
    cudaStream_t first = open_stream();
    cudaEvent_t e;
    OK(cudaEventCreate(&e));
    OK(cudaSetDevice(1));
    cudaStream_t second = open_stream();
    assert_int_equal(tdme_scale(p, N, 2, 0, first), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(e, second), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    OK(cudaSetDevice(0));
    OK(tdme_scale(p, N, 2, 0, first));
    OK(cudaEventRecord(e, first));
    OK(cudaStreamWaitEvent(second, e, 0)); /* may be of another device */
    OK(cudaStreamSynchronize(second));
    OK(cudaEventQuery(e));
    OK(cudaEventDestroy(e));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
    OK(cudaFree(p));
    set("TDM_EMU_DEVICES", NULL);
}

static void a_busy_device_is_refused(void **state)
{
    (void)state;
    struct cudaDeviceProp prop;
    int n, now = -1;
    set("TDM_EMU_DEVICES", "3");
    set("TDM_EMU_BUSY", "1,2");
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 3);
    OK(cudaGetDeviceProperties(&prop, 1));
    assert_int_equal(cudaSetDevice(1), cudaErrorDevicesUnavailable);
    assert_int_equal(cudaSetDevice(2), cudaErrorDevicesUnavailable);
    OK(cudaGetDevice(&now));
    assert_int_equal(now, 0);
    cudaGetLastError();
    OK(cudaDeviceSynchronize());
    set("TDM_EMU_BUSY", NULL);
    set("TDM_EMU_DEVICES", NULL);
}

/* Device 1 is lost at its second kernel, or when it is sent the words 7, 8; device 0 lives on. */
static void one_device_is_lost(void **state)
{
    (void)state;
    static const int32_t WORDS[2][4] = {{6, 7, 9, 8}, {6, 7, 8, 9}};
    for (int poison = 0; poison < 2; poison++) {
        float *p[2];
        cudaStream_t s[2];
        set("TDM_EMU_DEVICES", "2");
        set(poison ? "TDM_EMU_POISON" : "TDM_EMU_LOST", poison ? "7,8" : "2@1");
        for (int d = 0; d < 2; d++) {
            OK(cudaSetDevice(d));
            p[d] = ones();
            s[d] = open_stream();
            OK(tdme_scale(p[d], N, 2, 0, s[d]));
            OK(cudaMemcpyAsync(p[d], WORDS[0], sizeof WORDS[0], cudaMemcpyHostToDevice, s[d]));
            OK(cudaStreamSynchronize(s[d]));
        }
        OK(poison ? cudaMemcpyAsync(p[1], WORDS[1], sizeof WORDS[1], cudaMemcpyHostToDevice, s[1])
                  : tdme_scale(p[1], N, 2, 0, s[1]));
        assert_int_equal(cudaStreamSynchronize(s[1]), cudaErrorLaunchFailure);
        assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
        assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
        OK(cudaSetDevice(0));
        cudaGetLastError();
        OK(tdme_scale(p[0], N, 2, 0, s[0]));
        OK(cudaStreamSynchronize(s[0]));
        assert_int_equal(cudaSetDevice(1), cudaErrorLaunchFailure);
        assert_int_equal(cudaStreamDestroy(s[1]), cudaErrorLaunchFailure);
        OK(cudaSetDevice(0));
        OK(cudaStreamDestroy(s[0]));
        OK(cudaFree(p[0]));
        set("TDM_EMU_POISON", NULL);
        set("TDM_EMU_LOST", NULL);
        assert_int_equal(tdm_emu_device_bytes(1), 0);
        set("TDM_EMU_DEVICES", NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_runs_when_somebody_waits),
        cmocka_unit_test(an_event_orders_two_streams),
        cmocka_unit_test(polling_ends),
        cmocka_unit_test(a_graph_is_replayed),
        cmocka_unit_test(a_capture_forbids_waiting_and_allocating),
        cmocka_unit_test(capture_modes_differ),
        cmocka_unit_test(a_fork_must_be_joined),
        cmocka_unit_test(memory_is_counted_and_starts_as_nan),
        cmocka_unit_test(rows_are_copied_with_a_pitch),
        cmocka_unit_test(no_device_and_an_old_driver),
        cmocka_unit_test(another_device_by_environment),
        cmocka_unit_test(a_lost_device_stays_lost),
        cmocka_unit_test(devices_differ_by_environment),
        cmocka_unit_test(work_belongs_to_a_device),
        cmocka_unit_test(a_busy_device_is_refused),
        cmocka_unit_test(one_device_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
