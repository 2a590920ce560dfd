/* tests/emu/ranks_test.h - what the tests of several devices share. */
#ifndef TESTS_EMU_RANKS_TEST_H
#define TESTS_EMU_RANKS_TEST_H

#include "host/ranks.h"
#include "kernels/cuda.h"
#include "tests/emu/backend_test.h"

/* Absent on a real device. */
extern void tdm_emu_configure(void) __attribute__((weak));

enum { MOST = 7 };
static const int ALL[MOST] = {0, 1, 2, 3, 4, 5, 6};
static int32_t n_devices;

/* MOST of them where they are emulated. Exit status as require_device's. */
static inline void count_devices(void)
{
    tdm_cuda_device *devices = NULL;
    setenv("TDM_EMU_DEVICES", "7", 1);
    if (tdm_emu_configure)
        tdm_emu_configure();
    require_device();
    ASSERT_OK(tdm_list_cuda(&devices, &n_devices, err));
    free(devices);
}

static inline tdm_backend open_ranks(int32_t n, tdm_dtype dtype)
{
    tdm_backend be;
    const tdm_cuda_options options = {.dtype = dtype, .kv_dtype = dtype};
    ASSERT_OK(tdm_open_cuda_ranks(ALL, n, &options, &be, err));
    assert_int_equal(tdm_rank_count(&be), n);
    assert_int_equal(be.dtype, dtype);
    return be;
}

/* Leave a rank the last `bytes` of its room for messages, so that what goes beyond goes beyond the memory; 0: all of it.
 *   bytes  a multiple of 16 */
static inline void leave_room(const tdm_backend *be, size_t bytes)
{
    cuda_rank *r = &((cuda_backend *)be->self)->rank;
    char *end = (char *)r->staging + r->staging_bytes;
    r->staging_bytes = bytes ? bytes : CUDA_STAGING_BYTES;
    r->staging = end - r->staging_bytes;
}

#endif
