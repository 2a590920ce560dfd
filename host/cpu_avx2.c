/* host/cpu_avx2.c - the kernels for x86-64-v3: 16 registers of 8 floats. */
#include "host/cpu.h"

#ifdef __AVX2__
#define TABLE cpu_table_avx2
#define NAME "avx2"
#define VECTOR_BYTES 32
#define PANEL_VECTORS 2
#define PEAK_SUMS 12
#include "host/cpu_kernels.h"
#else
const cpu_kernels cpu_table_avx2 = {0};
#endif
