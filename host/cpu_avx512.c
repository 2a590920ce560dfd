/* host/cpu_avx512.c - the kernels for x86-64-v4: 32 registers of 16 floats. */
#include "host/cpu.h"

#ifdef __AVX512VL__
#define TABLE cpu_table_avx512
#define NAME "avx512"
#define VECTOR_BYTES 64
#define PANEL_VECTORS 4
#define PEAK_SUMS 12
#include "host/cpu_kernels.h"
#else
const cpu_kernels cpu_table_avx512 = {0};
#endif
