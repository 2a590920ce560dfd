#!/bin/sh
# Tasks under a real Slurm, by the recipe: the same bytes as one process. A batch job of one task with two devices that gets
# USR1 in the middle, which Slurm sends to the workers too, queues itself again and ends with the same bytes; one
# that is cancelled is continued by the next.
cluster=$(cd "$(dirname "$0")" && pwd)/cluster.sh
. "$(dirname "$0")/common.sh"
. "$cluster"
start_cluster
make_references

node="--gpus-per-node=4 --cpus-per-task=2" # what the machine of cluster.sh has, by its word
# Seconds of work for two workers, to be stopped in the middle.
many_texts="generate --model $SOURCE/tools/demo/writer --device null --length 30 --n 500000 --progress none --out texts.jsonl"

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

    expect_code 0 srun --ntasks=2 "$TANDEM" $generate --devices 0,1 >srun.log 2>&1
    keep_result written.jsonl many
    must_equal many one-generate "generate, srun -n 2 with two devices each"

    # ---- the batch job, stopped by USR1: it queues itself again ----
    expect_code 0 "$TANDEM" $many_texts 2>one.log
    keep_result texts.jsonl one-texts
    job=$(sbatch --parsable $node "$recipes/slurm.sbatch" $many_texts --devices 0,1)
    wait_until 120 "a chunk of texts.jsonl" test -s texts.jsonl.job/0.journal
    scancel --signal=USR1 "$job"
    wait_until 120 "the job in the queue again" is_pending "$job"
    [ ! -e texts.jsonl ] || fail "texts.jsonl is there although the task was stopped"
    grep -q 'stopped by signal' tandem-"$job".log || fail "the task did not end in order"
    scontrol update JobId="$job" StartTime=now+3 # it would be minutes; a node refuses a job that it just ended
    wait_until 300 "the end of the job" is_over "$job"
    must_be "$job" "COMPLETED 1 0:0"
    grep -q 'going on' tandem-"$job".log || fail "nothing was done before the stop"
    keep_result texts.jsonl many
    must_equal many one-texts "generate, slurm.sbatch with two devices stopped by USR1 and queued again"

    # ---- cancelled, and another job with other tasks goes on ----
    hold_last 4
    job=$(TANDEM=./held.sh sbatch --parsable $node --ntasks-per-node=4 "$recipes/slurm.sbatch" $slow)
    wait_for_chunk slow.jsonl
    scancel "$job" # which sends CONT too
    wait_until 120 "the end of the job" is_over "$job"
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the job was cancelled"
    job=$(sbatch --parsable $node --ntasks-per-node=3 "$recipes/slurm.sbatch" $slow)
    wait_until 300 "the end of the job" is_over "$job"
    must_be "$job" "COMPLETED 0 0:0"
    keep_result slow.jsonl many
    must_equal many one-slow "detect, cancelled with 4 tasks, gone on with 3"
}
