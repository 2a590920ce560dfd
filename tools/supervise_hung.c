/* tools/supervise_hung.c - in a file of its own, so that a test can be linked with another. */
#include "tools/supervise_state.h"

const double SUPERVISE_HUNG = 60;
