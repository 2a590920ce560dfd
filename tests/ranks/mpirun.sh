#!/bin/sh
# Ranks under Open MPI's mpirun by the recipe, four, and two with two devices each: the same bytes as one process; stopped
# by USR1 to mpirun, and gone on with another number.
command -v mpirun >/dev/null || { echo "skipped: mpirun is missing (Debian: openmpi-bin)"; exit 77; }
. "$(dirname "$0")/common.sh"
export OMPI_MCA_plm_rsh_agent= # all on this machine: no ssh
make_references

use_ranks() { # N
    export MPIRUN_OPTIONS="-n $1 --oversubscribe --allow-run-as-root"
}

# shellcheck disable=SC2086 # lists of words
{
    use_ranks 4
    expect_code 0 sh "$recipes/mpirun.sh" $detect >mpirun.log 2>&1
    keep_result judged.jsonl many
    must_equal many one-detect "detect, mpirun -n 4"
    use_ranks 2
    expect_code 0 sh "$recipes/mpirun.sh" $generate --devices 0,1 >mpirun.log 2>&1
    keep_result written.jsonl many
    must_equal many one-generate "generate, mpirun -n 2 with two devices each"

    use_ranks 4
    hold_last 4
    TANDEM=./held.sh sh "$recipes/mpirun.sh" $slow >mpirun.log 2>&1 &
    started=$!
    wait_for_chunk slow.jsonl
    kill -USR1 $started
    go_on
    expect_code 75 wait $started
    started=
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the ranks were stopped"
    use_ranks 3
    expect_code 0 sh "$recipes/mpirun.sh" $slow >mpirun.log 2>&1
    keep_result slow.jsonl many
    must_equal many one-slow "detect, mpirun -n 4 stopped by USR1, gone on with 3"
}
