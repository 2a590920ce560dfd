/* kernels/comm.h - what the ranks of a tensor-parallel model send each other: the one place that knows NCCL.
 *
 *   TDM_TRY(tdm_comm_open_all(devices, n, comms, err));         // one thread, all ranks
 *   TDM_TRY(tdm_comm_gather(comm, parts, mine, bytes, s, err)); // each rank on its thread, in the same order
 *   tdm_comm_close(comm);
 *
 * Bytes are moved and nothing is added: a sum by NCCL has an order that depends on its algorithm, on how it cuts the data and
 * so on the number of rows. The kernels of ranks.cu add in the order of the ranks.
 * All calls only enqueue, so they can be recorded in a graph (in thread-local mode, after one such call outside). */
#ifndef KERNELS_COMM_H
#define KERNELS_COMM_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"

typedef struct tdm_comm tdm_comm;

/* The communicators of n devices of this process, no device twice; comms [n]. Errors: TDM_ENODEV (NCCL is not built in, is
 * not there, or finds no way between the devices), TDM_ENOMEM. */
tdm_status tdm_comm_open_all(const int *devices, int32_t n, tdm_comm **comms, tdm_err *err);
void tdm_comm_close(tdm_comm *c); /* NULL is fine; after abort too */

/* to [n][bytes] = the `from` [bytes] of all ranks, in their order; from may be to + rank * bytes. */
tdm_status tdm_comm_gather(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err);
/* Part r of `from` [n][bytes] goes to rank r; part r of `to` [n][bytes] comes from rank r. */
tdm_status tdm_comm_exchange(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err);

/* TDM_OK, or what has gone wrong in what was enqueued: TDM_ESTOPPED. Does not wait. */
tdm_status tdm_comm_check(tdm_comm *c, tdm_err *err);
/* End what is under way on this rank, so that its stream goes on: the results are worthless. Only by the rank's thread. */
void tdm_comm_abort(tdm_comm *c);

#endif
