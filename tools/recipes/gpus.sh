#!/bin/sh
# sh gpus.sh N COMMAND OPTIONS...: N processes on this machine, one for each GPU
#
#   sh gpus.sh 8 detect --model DIR --device cuda --out OUT INPUT...
#
# TERM, Ctrl-C, HUP and USR1 stop all of them in order, twice at once. The exit code is the largest of theirs:
# 75 when they were stopped, and then the same command goes on, with any N.
case ${1:-} in
'' | *[!0-9]* | 0)
    echo "gpus.sh: want the number of processes first: sh gpus.sh N COMMAND OPTIONS..." >&2
    exit 2
    ;;
esac
n=$1
shift
ranks=
trap 'kill -TERM $ranks 2>/dev/null' TERM INT HUP USR1
i=0
while [ $i -lt "$n" ]; do
    CUDA_VISIBLE_DEVICES=$i setsid "${TANDEM:-tandem}" "$@" --shard "$i/$n" &
    ranks="$ranks $!"
    i=$((i + 1))
done
worst=0
for rank in $ranks; do
    wait "$rank"
    code=$?
    while kill -0 "$rank" 2>/dev/null; do # a signal ended the waiting, not the rank
        wait "$rank"
        code=$?
    done
    [ $code -le $worst ] || worst=$code
done
exit $worst
