/* tools/signals.h - an orderly end on SIGINT, SIGTERM, SIGHUP and SIGUSR1, with which Slurm says that time runs out.
 *
 *   const tdm_stop *stop = signals_catch();
 *   while (!tdm_stopped(stop)) ...
 *
 * The first signal sets the flag to its number; a second one, of whatever kind, kills. A signal that
 * the process inherited as ignored stays so: nohup keeps its meaning. */
#ifndef TOOLS_SIGNALS_H
#define TOOLS_SIGNALS_H

#include <sys/types.h>

#include "host/stop.h"

const tdm_stop *signals_catch(void);

/* From now on signals count only if that process sent them, SIGTERM also where it was inherited as ignored, and a second one
 * kills no more. A worker of --devices hears of them from the first process, while what a terminal or a launcher sends to
 * all processes of a group reaches it too. */
void signals_only_from(pid_t sender);

#endif
