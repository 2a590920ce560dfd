#!/bin/sh
# sh torchrun.sh COMMAND OPTIONS...: one process on each machine by torchrun, with a worker for each GPU
#
#   TORCHRUN_OPTIONS="--nnodes 2 --rdzv-backend c10d --rdzv-endpoint host:29400" \
#       sh torchrun.sh detect --model DIR --devices all --out OUT INPUT...
#
# torchrun starts everything anew when a process fails; what is done stays done. It gives RANK and
# WORLD_SIZE, which tandem takes.
# Without -- it would take options of tandem for its own.
# shellcheck disable=SC2086 # a list of words
exec "${TORCHRUN:-torchrun}" --nproc-per-node 1 --max-restarts 100 ${TORCHRUN_OPTIONS:-} --no-python -- \
    sh "$(dirname "$0")/rank.sh" "$@"
