/* tools/signals.h - an orderly end on SIGINT, SIGTERM and SIGHUP.
 *
 *   const volatile sig_atomic_t *stop = signals_catch();
 *   while (!*stop) ...
 *
 * The first signal sets *stop to its number; a second one, of whatever kind, kills. A signal that the
 * process inherited as ignored stays so: nohup keeps its meaning. */
#ifndef TOOLS_SIGNALS_H
#define TOOLS_SIGNALS_H

#include <signal.h>

const volatile sig_atomic_t *signals_catch(void);

#endif
