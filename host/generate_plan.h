/* host/generate_plan.h - inside generate: from options to the limits of a batch. */
#ifndef HOST_GENERATE_PLAN_H
#define HOST_GENERATE_PLAN_H

#include "host/batch.h"
#include "host/generate.h"

/* What a batch for o->batch and o->pages takes, of texts of up to `context` tokens. */
tdm_batch_limits tdm_generate_limits(const tdm_backend *be, const tdm_generate_options *o,
                                     int32_t context);

#endif
