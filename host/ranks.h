/* host/ranks.h - several backends that hold one model together (tensor parallelism), each with a thread of its own.
 *
 *   TDM_TRY(tdm_open_cuda_ranks(devices, 2, &options, &be, err)); // or tdm_open_cpu_ranks
 *   TDM_TRY(gpt2_open(&be, ...));                                 // as with one backend
 *   tdm_backend_close(&be);
 *
 * What a model does is done on every rank, by the same code at the same time, each on its share of the weights:
 *   attention   by heads: rank r has the columns of its heads in q, k and v, and the rows of the output matrix that
 *               read them
 *   feed-forward by columns of the first matrix, in units of 64, and the same rows of the second
 *   vocabulary  by rows, in blocks of a multiple of 64 that are equal on all ranks; the last may be short, or empty
 * The output matrices leave a part of a sum on each rank: tdm_sum_ranks, twice a layer and once behind the embedding. Norms,
 * biases of those matrices (rank 0 adds them), positions and small heads are on every rank. All ranks draw the same
 * token from the same logits: nothing is sent for it, and what they drew is compared.
 *
 * The models do that by tdm_each_rank, so whoever uses a model need not know. Bits depend on the number of ranks, which
 * is part of the backend's identity; they do not depend on anything else that is new.
 *
 * Thread safety: as of a backend. */
#ifndef HOST_RANKS_H
#define HOST_RANKS_H

#include <stdatomic.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/err.h"

enum { TDM_MOST_RANKS = 64 };

typedef struct tdm_ranks tdm_ranks;

/* ---- shares ---- */

typedef struct {
    int32_t first, n;
} tdm_share;

/* The share of rank `rank` of n_ranks in `units` things: as even as can be, the first ranks have one more.
 * n_ranks 0: everything. */
tdm_share tdm_share_of(int32_t units, int32_t rank, int32_t n_ranks);

/* What a rank has of a model of `heads` heads, an inner width F and a vocabulary V. */
typedef struct {
    tdm_share heads;
    tdm_share inner; /* columns; in units of 64, what is left over belongs to the last unit */
    tdm_share words; /* rows of the table, columns of the logits; n may be 0 */
    int32_t block;   /* columns of the output matrix of every rank: words.n, filled up with zeros; alone: V */
} tdm_part;
tdm_part tdm_part_of(int32_t heads, int32_t inner, int32_t vocab, int32_t rank, int32_t n_ranks);

/* ---- opening ---- */

/* Opens the backend of one rank, on the rank's thread.
 *   failed  not 0 once another rank failed: whoever waits for other ranks ends waiting then, with TDM_ESTOPPED.
 *           Valid until the backend is closed */
typedef tdm_status (*tdm_rank_open)(void *ctx, int32_t rank, const atomic_int *failed, tdm_backend *out, tdm_err *err);

/* Open n backends at the same time, each on its thread, as one. *out has their name, dtype, identity (with
 * ", N ranks" behind it where N > 1) and memory (the least of theirs); of its operations only close, memory, download and sync are
 * there, and its device says what all are. `stop` of *out is handed on to the ranks.
 *   device  for people; copied
 * Errors: TDM_EARG for n < 1 or n > TDM_MOST_RANKS, or ranks that differ in dtype or identity; those of open, of the first
 * rank that failed; TDM_ENOMEM. */
tdm_status tdm_ranks_open(int32_t n, tdm_rank_open open, void *ctx, const char *device, tdm_backend *out,
                          tdm_err *err);

/* ---- for the models ---- */

/* 1 for a backend that stands alone. */
int32_t tdm_rank_count(const tdm_backend *be);
/* The backend of a rank: be itself where it stands alone. Its operations are for its own thread. */
const tdm_backend *tdm_rank_backend(const tdm_backend *be, int32_t rank);

typedef tdm_status (*tdm_rank_call)(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err);

/* call(ctx, backend of the rank, rank) on every rank's thread at the same time; returns when all have returned. A backend
 * that stands alone calls on the caller's thread.
 * Where some ranks fail, those that wait for them are ended; then no rank can be used any more, and every later call
 * returns TDM_ESTOPPED. Where all fail alike (a bad argument: the same sentence on each, and not TDM_ESTOPPED), they
 * can. Ranks that do not return within 30 seconds behind the first failure are given up: their memory and thread are left to
 * the end of the process.
 * Errors: that of the rank that failed first, with "rank 1: " in front where the ranks died of it; not in front of a stop. */
tdm_status tdm_each_rank(const tdm_backend *be, tdm_rank_call call, void *ctx, tdm_err *err);

/* Of work that meets no other rank (loading): set once a rank has failed, which is the one that tdm_each_rank tells of, or
 * when be->stop is. Alone that is be->stop. */
const struct tdm_stop *tdm_ranks_stop(const tdm_backend *be);

/* release(ctx, backend of the rank, rank) on every rank's thread, also on ranks that cannot be used any more: to give back
 * memory. False: a rank was given up; what it may still touch must be left to the end of the process too. */
typedef void (*tdm_rank_release)(void *ctx, const tdm_backend *be, int32_t rank);
bool tdm_release_ranks(const tdm_backend *be, tdm_rank_release release, void *ctx);

/* n ranks on the CPU, for trying out what n GPUs would compute: no faster, and no memory is saved.
 *   threads  of each rank; 0: the cores divided by n */
tdm_status tdm_open_cpu_ranks(int32_t n, int threads, tdm_backend *out, tdm_err *err);

#endif
