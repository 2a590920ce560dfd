/* kernels/gemm_tune.h - which algorithms of cuBLASLt the table of kernels/gemm.h should name, found
 * out by trying them on the device of the calling thread. For `tandem bench gemm --tune`; never
 * used by a run.
 *
 *   tdm_gemm_tuned tuned;
 *   TDM_TRY(tdm_gemm_tune(&shape, rows, n_rows, 2.0, &tuned, err));
 *   for (int i = 0; i < tuned.n; i++)
 *       fputs(tuned.lines[i].text, stdout);
 *
 * The algorithms are those that the heuristic offers for any of the numbers of rows. One is kept if
 * a row of its result has the same bits for every number of rows that is tried. Those that agree
 * with each other on all bits are a group; the group that is fastest over all numbers of rows wins,
 * and within it the fastest for each range of them. */
#ifndef KERNELS_GEMM_TUNE_H
#define KERNELS_GEMM_TUNE_H

#include "kernels/gemm.h"

enum { TDM_TUNE_ROWS = 16 }; /* numbers of rows at most */

typedef struct {
    int n; /* lines */
    struct {
        int64_t max_rows; /* 0: any number */
        char text[320];   /* of kernels/gemm_table.inc */
    } lines[TDM_GEMM_CHOICES];
    int algorithms, steady, groups; /* offered; with equal row bits; that differ in their bits */
    int chosen;                     /* algorithms in the group that won */
    /* [n_rows] seconds of one product: of the choice, of the fastest steady algorithm of any group,
     * and of the one that is taken without a table */
    double seconds[TDM_TUNE_ROWS], fastest[TDM_TUNE_ROWS], untuned[TDM_TUNE_ROWS];
} tdm_gemm_tuned;

/* Tune one shape.
 *   rows     [n_rows] rising, n_rows <= TDM_TUNE_ROWS: what is timed; the last stands for all
 * larger ones seconds  to spend on timing, about Cost: blocks; about 300 MiB of device memory and
 * what x and y take. Weights come from memory, not from the cache. Random values. Errors:
 * TDM_ENODEV without CUDA; TDM_EARG; TDM_ENOMEM; TDM_EINTERNAL when no algorithm has equal bits. */
tdm_status tdm_gemm_tune(const tdm_gemm_shape *shape, const int64_t *rows, size_t n_rows,
                         double seconds, tdm_gemm_tuned *out, tdm_err *err);

#endif
