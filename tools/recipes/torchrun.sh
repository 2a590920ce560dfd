#!/bin/sh
# sh torchrun.sh N COMMAND OPTIONS...: N processes on each machine by torchrun, one for each GPU
#
#   TORCHRUN_OPTIONS="--nnodes 2 --rdzv-backend c10d --rdzv-endpoint host:29400" \
#       sh torchrun.sh 8 detect --model DIR --device cuda --out OUT INPUT...
#
# torchrun starts everything anew when a process fails; what is done stays done. It gives RANK and
# WORLD_SIZE, which tandem takes.
n=$1
shift
# shellcheck disable=SC2086,SC2016 # a list of words; for the shell of each rank
exec "${TORCHRUN:-torchrun}" --nproc-per-node "$n" --max-restarts 100 ${TORCHRUN_OPTIONS:-} --no-python \
    sh -c 'CUDA_VISIBLE_DEVICES=$LOCAL_RANK exec sh "$0" "$@"' "$(dirname "$0")/rank.sh" "$@"
