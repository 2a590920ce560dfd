#!/usr/bin/env bash
# Workers of --devices killed at random moments, until N of them have died, one at a time and two at once: OUT, its errors
# and its manifest must be the bytes of a run without --devices. Prints how long it took until a new worker had opened the job.
#
#   bash tests/crash/workers.sh TANDEM SOURCE N [SEED]
set -eu
export TANDEM=$1 TDM_SOURCE_DIR=$2
n=$3
RANDOM=${4:-1}
folder=$(mktemp -d)
cd "$folder"
. "$TDM_SOURCE_DIR/tests/devices.bash"

finish() {
    code=$?
    end_all
    [ $code -eq 0 ] || { echo "failed: see $folder"; exit $code; }
    cd / && rm -rf "$folder"
}
trap finish EXIT

now() {
    date +%s%N
}

# A careful worker that dies makes a record a bad one, and a device with three deaths is left out, as they should.
is_spared() {
    [ "$(grep -c "worker $1 (.* died" said)" -ge 2 ] ||
        grep "worker $1: " said | tail -n 1 | grep -q "one record at a time"
}

# Kill worker $1 and, unless the run is over before, wait until it has opened the job again: its nanoseconds into `times`.
kill_one() {
    ! is_spared "$1" || return 0
    local lines from
    lines=$(grep -c "worker $1: " said) || return 0
    kill -KILL "$(worker_pid "$1")" 2> /dev/null || return 0
    from=$(now)
    while [ "$(grep -c "worker $1: " said)" -le "$lines" ]; do
        grep -q "worker $1 (.*left out" said && return 0
        kill -0 "$pid" 2> /dev/null || return 0
    done
    echo $(($(now) - from)) >> times
}

# One run with kills all the way, at most two of each device.
one_run() { # WANT COMMAND...
    local want=$1 worker turn
    shift
    rm -rf out*
    start "$@" --devices 0,1,2,3 --out out
    for turn in 1 2; do
        for worker in 2 0 3 1; do
            sleep 0.0$((RANDOM % 10))
            started "$worker" $turn || break 2
            if [ $((RANDOM % 4)) -eq 0 ]; then
                is_spared $(((worker + 1) % 4)) || kill -KILL "$(worker_pid $(((worker + 1) % 4)))" 2> /dev/null || true
            fi
            kill_one "$worker"
        done
    done
    local code=0
    wait "$pid" || code=$?
    pid=
    [ $code -eq 0 ] || [ $code -eq 3 ] || { cat said; echo "exit code $code: $*"; return 1; }
    same "$want" out
    deaths=$((deaths + $(grep -c ' died by signal 9' said || true)))
    careful=$((careful + $(grep -c 'alone, which is bad' said || true)))
    runs=$((runs + 1))
}

{ many_texts 3000; echo 5; many_texts 3000; } | gzip > in.jsonl.gz
many_texts 9000 > all.jsonl
mkdir in && split -n l/7 --additional-suffix .jsonl all.jsonl in/
prompts > prompts.jsonl
from_prompts() { generate --prompts prompts.jsonl --samples-per-prompt 300 --length 100 "$@"; }
bigger --out want.generate 2> log
from_prompts --out want.prompts 2> log || [ $? -eq 3 ]
detect --out want.detect in.jsonl.gz 2> log || [ $? -eq 3 ]
score --out want.score in 2> log
deaths=0 runs=0 careful=0
: > times
while [ $deaths -lt "$n" ]; do
    one_run want.generate bigger
    one_run want.prompts from_prompts
    one_run want.detect detect in.jsonl.gz
    one_run want.score score in
done
[ $careful -eq 0 ] || { echo "$careful records were taken for bad"; exit 1; }
sort -n times | awk -v deaths=$deaths -v runs=$runs '{ t[NR] = $1 / 1e6; all += t[NR] } END {
    printf "workers: %d killed in %d runs, the same bytes; open again after %.0f ms in the mean, %.0f at most\n",
           deaths, runs, all / NR, t[NR] }'
