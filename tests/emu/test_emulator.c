/* tests/emu/test_emulator.c - the emulator against CUDA's definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/emu/test_emulator.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

enum { ROWS = 3, WIDTH = 200 };

static void a_kernel_runs_when_the_host_waits(void **state)
{
    (void)state;
    float in[ROWS * WIDTH], out[ROWS] = {0}, want[ROWS] = {0};
    for (int i = 0; i < ROWS * WIDTH; i++) {
        in[i] = (float)(i % 13);
        want[i / WIDTH] += in[i];
    }
    void *device_in, *device_out;
    cudaStream_t stream;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaMalloc(&device_in, sizeof in));
    OK(cudaMalloc(&device_out, sizeof out));
    OK(cudaMemcpyAsync(device_in, in, sizeof in, cudaMemcpyHostToDevice, stream));
    OK(tdme_row_sum(device_out, device_in, ROWS, WIDTH, stream));
    OK(cudaMemcpyAsync(out, device_out, sizeof out, cudaMemcpyDeviceToHost, stream));
    assert_true(out[0] == 0.0f); /* streams are lazy */
    OK(cudaStreamSynchronize(stream));
    for (int r = 0; r < ROWS; r++)
        assert_true(out[r] == want[r]);
    OK(cudaFree(device_in));
    OK(cudaFree(device_out));
    OK(cudaStreamDestroy(stream));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_runs_when_the_host_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
