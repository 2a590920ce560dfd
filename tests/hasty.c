/* tandem_hasty: tandem that takes a worker for hung after a second instead of a minute. */
#include "tools/supervise_state.h"

const double SUPERVISE_HUNG = 1;
