/* host/cpu_baseline.c - the kernels for any machine: what every x86-64, and every other processor that
 * the compiler can write vector code for, has. */
#include "host/cpu.h"

#define TABLE cpu_table_baseline
#define NAME "baseline"
#define VECTOR_BYTES 16
#define PANEL_VECTORS 2
#define PEAK_SUMS 12
#include "host/cpu_kernels.h"
