#!/bin/sh
# sh mpirun.sh N COMMAND OPTIONS...: N processes by Open MPI 4, each with its own GPU of its machine
#
#   MPIRUN_OPTIONS="--hostfile hosts" sh mpirun.sh 16 detect --model DIR --device cuda --out OUT INPUT...
#
# mpirun only starts them; they need nothing in common but the folder of OUT. USR1 to this script stops all of them in
# order, with 75. TERM and Ctrl-C do too, but mpirun passes them on only after the seconds below, kills what is
# left after as many again, and ends with 1. The same command goes on, with any N.
export OMPI_MCA_odls_base_sigkill_timeout=5
n=$1
shift
# shellcheck disable=SC2086,SC2016 # a list of words; for the shell of each rank
exec mpirun -n "$n" ${MPIRUN_OPTIONS:-} \
    sh -c 'CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK exec sh "$0" "$@"' "$(dirname "$0")/rank.sh" "$@"
