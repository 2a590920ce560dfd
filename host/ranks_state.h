/* host/ranks_state.h - inside ranks.c, for its tests. */
#ifndef HOST_RANKS_STATE_H
#define HOST_RANKS_STATE_H

#include "host/backend.h"

/* How long ranks may stay away once one has failed; 30 seconds at first. be stands for several. */
void tdm_ranks_set_patience(const tdm_backend *be, int32_t milliseconds);

#endif
