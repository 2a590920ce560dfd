#!/bin/sh
# Ranks without a launcher: tandem started by shell loops with what torchrun, PMI and Kubernetes would set, also with
# several devices each; stopped and continued with another number.
. "$(dirname "$0")/common.sh"
make_references

# ---- the variables of torchrun and of PMI, all at once, in any order ----

# shellcheck disable=SC2086 # lists of words
by_variables() { # NAME-OF-RANK NAME-OF-SIZE COMMAND...
    rank_name=$1 size_name=$2
    shift 2
    ranks=
    for rank in 2 0 3 1; do
        env "$rank_name=$rank" "$size_name=4" sh "$recipes/rank.sh" "$@" 2>"rank-$rank.log" &
        ranks="$ranks $!"
    done
    started=$ranks
    for rank in $ranks; do
        expect_code 0 wait "$rank"
    done
    started=
}

for names in "RANK WORLD_SIZE" "PMI_RANK PMI_SIZE"; do
    # shellcheck disable=SC2086
    {
        by_variables $names $detect
        keep_result judged.jsonl many
        must_equal many one-detect "detect, 4 ranks by $names"
        by_variables $names $generate
        keep_result written.jsonl many
        must_equal many one-generate "generate, 4 ranks by $names"
    }
done

# ---- Kubernetes: the recipe's own command, one index after the other ----

sed -n '/^        - |$/,/^        resources:/p' "$recipes/kubernetes.yaml" | sed '1d;$d' |
    sed "s:/usr/local/share/tandem:$recipes:; s:--device cuda:--device null --chunk 64KiB:" |
    sed "s:/data/reader:$reader:; s:/data/judged:judged:; s:/data/texts:in:" >pod.sh
grep -q 'rank.sh detect .*--device null' pod.sh || fail "kubernetes.yaml: its command is not found"
for index in 3 1 0 2 7 6 5 4; do
    export JOB_COMPLETION_INDEX=$index
    expect_code 0 sh pod.sh 2>"pod-$index.log"
done
keep_result judged.jsonl many
must_equal many one-detect "detect, kubernetes.yaml, one index after the other"

# ---- two machines with two GPUs each; three without, stopped and gone on with one ----

# The largest exit code of the processes in $started.
expect_worst() { # CODE
    worst=0
    for rank in $started; do
        code=0
        wait "$rank" || code=$?
        [ $code -le $worst ] || worst=$code
    done
    started=
    [ $worst -eq "$1" ] || fail "the processes ended with $worst at most, want $1"
}

# shellcheck disable=SC2086 # lists of words
{
    for shard in 0 1; do
        "$TANDEM" $detect --devices 0,1 --shard $shard/2 2>"shard-$shard.log" &
        started="$started $!"
    done
    expect_worst 3
    keep_result judged.jsonl many
    must_equal many one-detect "detect, --shard I/2 with two devices each"

    hold_last 3
    for shard in 0 1 2; do
        RANK=$shard ./held.sh $slow --shard $shard/3 2>"shard-$shard.log" &
        started="$started $!"
    done
    wait_for_chunk slow.jsonl
    kill -TERM $started || true # those that are not held may be done already
    go_on
    expect_worst 75
    [ ! -e slow.jsonl ] || fail "slow.jsonl is there although the ranks were stopped"
    expect_code 0 "$TANDEM" $slow 2>one.log
    grep -q 'going on' one.log || fail "nothing was done before the stop"
    keep_result slow.jsonl many
    must_equal many one-slow "detect, 3 ranks stopped by TERM, gone on with one"
}
