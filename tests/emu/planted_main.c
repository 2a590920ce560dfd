/* tests/emu/planted_main.c - runs planted.cu and a few calls of the runtime, with one bug.
 *
 *   planted_fast [bug]      without an argument: no bug
 *   planted_fast --list     the names of the bugs
 *
 * Exit status: 0 right results; 3 wrong ones or an error from CUDA; what the emulator or a
 * sanitizer ends with where they found the bug. */
#include "tests/emu/planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = TDM_PLANTED_IN, OUT = TDM_PLANTED_OUT, WRONG = 3, COPIED = 64 };

static const char *const NAMES[] = {
#define X(name, text) [TDM_BUG_##name] = text,
    TDM_KERNEL_BUGS(X) TDM_HOST_BUGS(X)
#undef X
};
enum { N_BUGS = sizeof NAMES / sizeof *NAMES };

static int bug = TDM_BUG_NONE;

/* Without a search for leaks, which would say more than what went wrong. */
static _Noreturn void give_up(void)
{
    fflush(stdout);
    _Exit(WRONG);
}

static void ok(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    printf("CUDA error: %s: %s\n", what, cudaGetErrorName(e));
    give_up();
}
#define OK(call) ok((call), #call)

static void expect(const float *out, int n, const char *what)
{
    for (int i = 0; i < n; i++)
        if (out[i] != (float)(i + 1)) {
            printf("wrong result: %s, element %d is %g\n", what, i, (double)out[i]);
            give_up();
        }
}

typedef struct {
    cudaStream_t stream, other;
    float *in, *out;
    unsigned *count;
    float result[OUT];
} work;

static void open_work(work *w)
{
    float in[IN];
    for (int i = 0; i < IN; i++)
        in[i] = (float)(i + 1);
    OK(cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&w->other, cudaStreamNonBlocking));
    OK(cudaMalloc((void **)&w->in, sizeof in));
    OK(cudaMalloc((void **)&w->out, sizeof w->result));
    OK(cudaMalloc((void **)&w->count, sizeof *w->count));
    OK(cudaMemcpy(w->in, in, sizeof in, cudaMemcpyHostToDevice));
}

static void close_work(work *w)
{
    OK(cudaFree(w->in));
    if (bug != TDM_BUG_NOT_FREED)
        OK(cudaFree(w->out));
    OK(cudaFree(w->count));
    OK(cudaStreamDestroy(w->stream));
    OK(cudaStreamDestroy(w->other));
}

static void run_kernels(work *w)
{
    for (int which = 0; which < TDM_N_KERNEL_BUGS; which++) {
        OK(cudaMemsetAsync(w->out, 0xff, sizeof w->result, w->stream));
        OK(cudaMemsetAsync(w->count, 0, sizeof *w->count, w->stream));
        OK(tdmb_planted(which, bug, w->out, w->in, w->count, w->stream));
        OK(cudaMemcpyAsync(w->result, w->out, sizeof w->result, cudaMemcpyDeviceToHost, w->stream));
        OK(cudaStreamSynchronize(w->stream));
        expect(w->result, OUT, NAMES[which]);
    }
}

static void run_streams(work *w)
{
    cudaEvent_t done;
    memset(w->result, 0, sizeof w->result);
    OK(cudaMemset(w->out, 0xff, sizeof w->result));
    OK(cudaDeviceSynchronize());
    OK(cudaEventCreate(&done));
    OK(tdmb_copy(w->out, w->in, OUT, 32, 0, w->stream));
    OK(cudaEventRecord(done, w->stream));
    if (bug != TDM_BUG_MISSING_EVENT_WAIT)
        OK(cudaStreamWaitEvent(w->other, done, 0));
    OK(cudaMemcpyAsync(w->result, w->out, sizeof w->result, cudaMemcpyDeviceToHost, w->other));
    if (bug != TDM_BUG_MISSING_SYNC)
        OK(cudaStreamSynchronize(w->other));
    expect(w->result, OUT, "streams");
    if (bug == TDM_BUG_DEVICE_POINTER_ON_HOST)
        expect(w->out, 1, "a device pointer");
    OK(cudaEventDestroy(done));
}

static void run_capture(work *w)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    void *p = NULL;
    OK(cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal));
    OK(tdmb_copy(w->out, w->in, OUT, 32, 0, w->stream));
    if (bug == TDM_BUG_MALLOC_IN_CAPTURE)
        OK(cudaMalloc(&p, COPIED));
    if (bug == TDM_BUG_SYNC_IN_CAPTURE)
        OK(cudaStreamSynchronize(w->stream));
    OK(cudaStreamEndCapture(w->stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphLaunch(exec, w->stream));
    OK(cudaStreamSynchronize(w->stream));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaGraphDestroy(graph));
}

/* Memory of device 0, by a kernel of another one: a fault on a GPU without access to its peers. */
static void copy_on_device_1(float *out, const float *in)
{
    OK(cudaSetDevice(1));
    OK(tdmb_copy(out, in, OUT, 32, 0, NULL));
    OK(cudaDeviceSynchronize());
    OK(cudaSetDevice(0));
}

static void run_memory(work *w)
{
    float *extra, *on_host = malloc(sizeof w->result);
    OK(cudaMalloc((void **)&extra, sizeof w->result));
    memset(on_host, 0, sizeof w->result);
    OK(tdmb_copy(extra, bug == TDM_BUG_HOST_POINTER ? on_host : w->in, OUT, 32, 0, w->stream));
    OK(cudaStreamSynchronize(w->stream));
    if (bug == TDM_BUG_OTHER_DEVICE)
        copy_on_device_1(w->out, w->in);
    if (bug == TDM_BUG_USE_AFTER_FREE)
        OK(cudaFree(extra));
    OK(tdmb_copy(w->out, extra, OUT, 32, 0, w->stream));
    OK(cudaMemcpyAsync(w->result, w->out, sizeof w->result, cudaMemcpyDeviceToHost, w->stream));
    OK(cudaStreamSynchronize(w->stream));
    if (bug != TDM_BUG_HOST_POINTER) /* the values would be wrong on no GPU: there is a fault */
        expect(w->result, OUT, "memory");
    free(on_host);
    if (bug != TDM_BUG_USE_AFTER_FREE)
        OK(cudaFree(extra));
}

static void run_limits(work *w)
{
    OK(tdmb_copy(w->out, w->in, OUT, bug == TDM_BUG_MANY_THREADS ? 1025 : 1024,
                 bug == TDM_BUG_MUCH_SHARED ? (48 << 10) + 16 : 48 << 10, w->stream));
    OK(cudaStreamSynchronize(w->stream));
}

int main(int argc, char **argv)
{
    work w;
    for (int i = 0; i < N_BUGS; i++) {
        if (argc > 1 && NAMES[i] && !strcmp(argv[1], "--list"))
            puts(NAMES[i]);
        if (argc > 1 && NAMES[i] && !strcmp(argv[1], NAMES[i]))
            bug = i;
    }
    if (argc > 1 && bug == TDM_BUG_NONE)
        return strcmp(argv[1], "--list") ? 2 : 0;
    open_work(&w);
    run_kernels(&w);
    if (bug != TDM_BUG_LOAD_IN_CAPTURE)
        run_streams(&w);
    run_capture(&w);
    run_memory(&w);
    run_limits(&w);
    close_work(&w);
    puts("right results");
    return 0;
}
