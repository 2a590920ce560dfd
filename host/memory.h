/* host/memory.h - how much memory this process may still take. */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include <stddef.h>

/* Bytes that can be had without swapping and without being killed: MemAvailable of the system, or
 * less where a control group (version 2 or 1) of the process, or one above it, limits it. What a
 * group holds of files that nobody reads any more counts as free, since it is given up first.
 * Returns 0 where the system does not say, and otherwise at least 1. Cost: reads a few small files. */
size_t tdm_available_memory(void);

/* The same of a system whose /proc and /sys lie under root, for tests. */
size_t tdm_available_memory_under(const char *root);

#endif
