/* tests/emu/test_device.h - device memory in a test: a copy goes there, a kernel runs, it comes
 * back. */
#ifndef TESTS_EMU_TEST_DEVICE_H
#define TESTS_EMU_TEST_DEVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#define OK(call) assert_int_equal((call), cudaSuccess)

/* Device memory with these bytes; from NULL: as cudaMalloc left it. */
static inline void *on_device(const void *from, size_t bytes)
{
    void *p = NULL;
    OK(cudaMalloc(&p, bytes));
    if (from)
        OK(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

/* Copy back, after all that runs on the device, and free. */
static inline void take_back(void *to, void *device, size_t bytes)
{
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpy(to, device, bytes, cudaMemcpyDeviceToHost));
    OK(cudaFree(device));
}

#endif
