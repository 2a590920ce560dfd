/* tests/emu/control.h - what a test may ask of the emulator beyond CUDA's functions. */
#ifndef TESTS_EMU_CONTROL_H
#define TESTS_EMU_CONTROL_H

#ifdef __cplusplus
extern "C" {
#endif

/* Read the TDM_EMU_* environment again; a lost device is there again. While no stream has work. */
void tdm_emu_configure(void);

/* Kernels run so far, and calls of cudaMalloc and cudaHostAlloc. */
long tdm_emu_kernels(void);
long tdm_emu_allocations(void);

#ifdef __cplusplus
}
#endif

#endif
