/* tests/gemm_peers.c - our matrix product beside OpenBLAS: same shapes, same machine, turn by turn.
 *
 *   gemm_peers [THREADS [ROUNDS]]
 *
 * Prints for each shape and number of rows the best GFLOP/s of both and their ratio (median of the
 * ratios of neighbouring turns, so that other work on the machine hits both alike). */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/backend.h"

void openblas_set_num_threads(int n);

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float *filled(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (float)(i * 2654435761u % 2048) / 1024 - 1;
    return p;
}

enum { MAX_ROUNDS = 1001 };

static int compare(const tdm_backend *be, int rows, int in, int out, int rounds)
{
    static double ratios[MAX_ROUNDS];
    double best[2] = {1e30, 1e30};
    int status = 1;
    float *x = filled((size_t)rows * (size_t)in), *w = filled((size_t)in * (size_t)out);
    float *y = filled((size_t)rows * (size_t)out);
    tdm_weight *weight = NULL;
    tdm_err err = {0};
    if (!x || !w || !y || tdm_weight_open(be, w, TDM_F32, in, out, TDM_IN_OUT, &weight, &err))
        goto done;
    const tdm_mat xm = {x, rows, in, TDM_F32}, ym = {y, rows, out, TDM_F32};
    for (int i = -1; i < rounds; i++) {
        const double start = seconds();
        if (tdm_linear(be, ym, xm, weight, NULL, TDM_LINEAR, &err))
            goto done;
        const double middle = seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, out, in, 1, x, in, w, out, 0, y,
                    out);
        const double ours = middle - start, theirs = seconds() - middle;
        if (i < 0)
            continue;
        best[0] = ours < best[0] ? ours : best[0];
        best[1] = theirs < best[1] ? theirs : best[1];
        ratios[i] = theirs / ours;
    }
    qsort(ratios, (size_t)rounds, sizeof *ratios, by_value);
    const double flops = 2e-9 * rows * in * (double)out;
    printf("%5d x %5d x %6d  %8.1f %8.1f  %5.2f\n", rows, in, out, flops / best[0],
           flops / best[1], ratios[rounds / 2]);
    status = 0;
done:
    if (status)
        fprintf(stderr, "gemm_peers: %s\n", err.msg[0] ? err.msg : "no memory");
    tdm_weight_close(be, weight);
    free(y);
    free(w);
    free(x);
    return status;
}

int main(int argc, char **argv)
{
    static const int ROWS[] = {1, 8, 64, 512};
    static const int SHAPES[][2] = {{768, 768},   {768, 2304},  {768, 3072},  {3072, 768},
                                    {1024, 4096}, {1600, 6400}, {6400, 1600}, {768, 50257}};
    const int threads = argc > 1 ? atoi(argv[1]) : 1, rounds = argc > 2 ? atoi(argv[2]) : 11;
    tdm_backend be;
    tdm_err err = {0};
    if (threads < 1 || rounds < 1 || rounds > MAX_ROUNDS || tdm_open_cpu(threads, &be, &err)) {
        fprintf(stderr, "gemm_peers: %s\n", err.msg[0] ? err.msg : "bad number");
        return 2;
    }
    openblas_set_num_threads(threads);
    printf("%d threads, %s\n rows x    in x    out      ours OpenBLAS  ratio\n", threads,
           openblas_get_config());
    int status = 0;
    for (size_t i = 0; !status && i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (size_t j = 0; !status && j < sizeof ROWS / sizeof *ROWS; j++)
            status = compare(&be, ROWS[j], SHAPES[i][0], SHAPES[i][1], rounds);
    tdm_backend_close(&be);
    return status;
}
