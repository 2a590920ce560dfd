/* tests/emu/control.h - what a test may ask of the emulator beyond CUDA's functions. */
#ifndef TESTS_EMU_CONTROL_H
#define TESTS_EMU_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Read the TDM_EMU_* environment again; lost devices are there again, empty. While no stream has work. */
void tdm_emu_configure(void);

/* Kernels run so far, calls of cudaMalloc and cudaHostAlloc, collectives of NCCL that were run. */
long tdm_emu_kernels(void);
long tdm_emu_allocations(void);
long tdm_emu_collectives(void);

/* Device memory that is allocated now. */
size_t tdm_emu_device_bytes(int device);

#ifdef __cplusplus
}
#endif

#endif
