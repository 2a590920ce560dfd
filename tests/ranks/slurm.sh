#!/bin/sh
# Four tasks under a real Slurm by the recipe: the same bytes as one process. A batch job whose tasks get USR1 in
# the middle queues itself again and ends with the same bytes; one that is cancelled is continued by the next.
cluster=$(cd "$(dirname "$0")" && pwd)/cluster.sh
. "$(dirname "$0")/common.sh"
. "$cluster"
start_cluster
make_references

state_of() { # JOB: "COMPLETED 0:0", and how often it was started again
    scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p; s/.*Restarts=\([0-9]*\).*ExitCode=\([0-9:]*\).*/\1 \2/p' | tr '\n' ' '
}

is_over() {
    case $(state_of "$1") in
    PENDING* | RUNNING* | COMPLETING* | "") false ;;
    esac
}

is_pending() {
    case $(state_of "$1") in
    PENDING*) ;;
    *) false ;;
    esac
}

must_be() { # JOB STATE
    [ "$(state_of "$1")" = "$2 " ] || fail "job $1: $(state_of "$1"), want $2"
}

# shellcheck disable=SC2086 # lists of words
{
    # ---- tasks of a step ----
    expect_code 3 srun --ntasks=4 "$TANDEM" $detect >srun.log 2>&1
    keep_result judged.jsonl many
    must_equal many one-detect "detect, srun -n 4"
    expect_code 0 srun --ntasks=4 "$TANDEM" $generate >srun.log 2>&1
    keep_result written.jsonl many
    must_equal many one-generate "generate, srun -n 4"

    # ---- the batch job, stopped by USR1: it queues itself again ----
    job=$(sbatch --parsable --cpus-per-task=2 "$recipes/slurm.sbatch" $slow)
    wait_until 120 "a chunk of slow.jsonl" test -s slow.jsonl.job/0.journal
    scancel --signal=USR1 "$job"
    wait_until 120 "the job in the queue again" is_pending "$job"
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the tasks were stopped"
    scontrol update JobId="$job" StartTime=now+3 # it would be minutes; a node refuses a job that it just ended
    wait_until 300 "the end of the job" is_over "$job"
    must_be "$job" "COMPLETED 1 0:0"
    grep -q 'going on' tandem-"$job".log || fail "nothing was done before the stop"
    keep_result slow.jsonl many
    must_equal many one-slow "detect, slurm.sbatch stopped by USR1 and queued again"

    # ---- cancelled, and another job with other tasks goes on ----
    job=$(sbatch --parsable --cpus-per-task=2 "$recipes/slurm.sbatch" $slow)
    wait_until 120 "a chunk of slow.jsonl" test -s slow.jsonl.job/0.journal
    scancel "$job"
    wait_until 120 "the end of the job" is_over "$job"
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the job was cancelled"
    job=$(sbatch --parsable --ntasks=3 --cpus-per-task=2 "$recipes/slurm.sbatch" $slow)
    wait_until 300 "the end of the job" is_over "$job"
    must_be "$job" "COMPLETED 0 0:0"
    keep_result slow.jsonl many
    must_equal many one-slow "detect, cancelled with 4 tasks, gone on with 3"
}
