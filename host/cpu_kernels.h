/* host/cpu_kernels.h - makes one table of kernels. The including file, compiled for its instruction
 * set, defines TABLE (the table's name), NAME, VECTOR_BYTES, PANEL_VECTORS (as many as keep CPU_GROUP
 * rows of sums in registers) and PEAK_SUMS (at least twice the latency of a multiply-add in cycles).
 * It exports data alone: a function here would be compiled for a machine that this may not be. */
#include "host/cpu_attention.h"
#include "host/cpu_gemm.h"
#include "host/cpu_norm.h"
#include "host/cpu_stats.h"

static void exponential(float *y, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const size_t left = n - i < LANES ? n - i : LANES;
        store_some(y + i, vec_exp(load_some(y + i, left)), left);
    }
}

/* As many independent multiply-adds as hide their latency, nothing else. */
static float peak(size_t rounds)
{
    const vec x = splat(0.5f);
    vec sums[PEAK_SUMS];
    UNROLL for (int j = 0; j < PEAK_SUMS; j++)
        sums[j] = splat((float)j);
    for (size_t i = 0; i < rounds; i++) {
        UNROLL for (int j = 0; j < PEAK_SUMS; j++)
            sums[j] = sums[j] * x + x;
        __asm__ volatile("" ::: "memory");
    }
    vec total = {0};
    UNROLL for (int j = 0; j < PEAK_SUMS; j++)
        total += sums[j];
    return sum_lanes(total);
}

/* As many loads at a time as hide their latency. */
static float read_all(const float *p, size_t n)
{
    vec sums[4] = {{0}};
    for (size_t i = 0; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLL for (int j = 0; j < 4; j++)
            sums[j] += load(p + i + j * LANES);
    }
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

const cpu_kernels TABLE = {
    .name = NAME,
    .identity = "cpu, " NAME ", " COMPILER,
    .width = PANEL,
    .multiply = multiply,
    .attend = attend,
    .add_norm = add_norm,
    .epilogue = apply_all,
    .exponential = exponential,
    .look_at = look_at,
    .sum_up = sum_up,
    .sum_up_two = sum_up_two,
    .peak = peak,
    .peak_flops = 2 * LANES * PEAK_SUMS,
    .read = read_all,
};
