#!/bin/sh
# Four ranks under Open MPI's mpirun by the recipe: the same bytes as one process; stopped by USR1 to mpirun, and
# gone on with another number.
command -v mpirun >/dev/null || { echo "skipped: mpirun is missing (Debian: openmpi-bin)"; exit 77; }
. "$(dirname "$0")/common.sh"
export MPIRUN_OPTIONS="--oversubscribe --allow-run-as-root"
export OMPI_MCA_plm_rsh_agent= # all on this machine: no ssh
make_references

# shellcheck disable=SC2086 # lists of words
{
    expect_code 0 sh "$recipes/mpirun.sh" 4 $detect >mpirun.log 2>&1
    keep_result judged.jsonl many
    must_equal many one-detect "detect, mpirun -n 4"
    expect_code 0 sh "$recipes/mpirun.sh" 4 $generate >mpirun.log 2>&1
    keep_result written.jsonl many
    must_equal many one-generate "generate, mpirun -n 4"

    sh "$recipes/mpirun.sh" 4 $slow >mpirun.log 2>&1 &
    started=$!
    wait_for_chunk slow.jsonl $started
    kill -USR1 $started
    expect_code 75 wait $started
    started=
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the ranks were stopped"
    expect_code 0 sh "$recipes/mpirun.sh" 3 $slow >mpirun.log 2>&1
    keep_result slow.jsonl many
    must_equal many one-slow "detect, mpirun -n 4 stopped by USR1, gone on with 3"
}
