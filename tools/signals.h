/* tools/signals.h - an orderly end on SIGINT and SIGTERM.
 *
 *   const volatile sig_atomic_t *stop = signals_catch();
 *   while (!*stop) ...
 *
 * The first signal sets *stop to its number; a second one finds the default action and kills. */
#ifndef TOOLS_SIGNALS_H
#define TOOLS_SIGNALS_H

#include <signal.h>

const volatile sig_atomic_t *signals_catch(void);

#endif
