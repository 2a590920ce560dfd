/* tools/ranks.h - which process of how many this is: from --shard, or from what launched it.
 *
 *   TDM_TRY(ranks_find(common->shard, &rank, &source, err));
 *
 * In this order: --shard I/N; RANK and WORLD_SIZE (torchrun); OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE
 * (mpirun); PMI_RANK and PMI_SIZE; SLURM_PROCID and SLURM_STEP_NUM_TASKS, which exist together only inside a step
 * (srun). RANK and SLURM_PROCID alone mean nothing. A Kubernetes indexed job passes
 * --shard $JOB_COMPLETION_INDEX/N. None of them: 0 of 1. */
#ifndef TOOLS_RANKS_H
#define TOOLS_RANKS_H

#include "host/chunk.h"
#include "host/err.h"

/* shard   text of --shard, NULL: not given
 * source  for people: "--shard", "RANK and WORLD_SIZE", ...; NULL when nothing says so
 * Errors: TDM_EARG names the option or the variables, the value, and what is wanted: 0 <= I < N <= 1,000,000. */
tdm_status ranks_find(const char *shard, tdm_rank *rank, const char **source, tdm_err *err);

#endif
