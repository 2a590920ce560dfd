#!/bin/sh
# sh mpirun.sh COMMAND OPTIONS...: one process on each machine by Open MPI 4, with a worker for each GPU
#
#   MPIRUN_OPTIONS="--hostfile hosts --map-by ppr:1:node" \
#       sh mpirun.sh detect --model DIR --devices all --out OUT INPUT...
#
# mpirun only starts them; they need nothing in common but the folder of OUT. USR1 to this script stops all of them in
# order, with 75. TERM and Ctrl-C do too, but mpirun passes them on only after the seconds below, kills what is
# left after as many again, and ends with 1. The same command goes on, with any number of machines.
export OMPI_MCA_odls_base_sigkill_timeout=5
# Unless it is told otherwise, mpirun ties a process, and with it all of its workers, to one core.
# shellcheck disable=SC2086 # a list of words
exec mpirun --bind-to none ${MPIRUN_OPTIONS:---map-by ppr:1:node} sh "$(dirname "$0")/rank.sh" "$@"
