#!/usr/bin/env bats
# The committed models of tools/demo: three writers, a reader for each. All of them run, they share one vocabulary, and the
# folder stays small. What they find out together is `sh tools/demo.sh --full`.

setup() {
    bats_require_minimum_version 1.5.0
    demo=$TDM_SOURCE_DIR/tools/demo
    cd "$BATS_TEST_TMPDIR"
}

# The mean of the field $1 over standard input.
mean() {
    sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" | awk '{ sum += $1 } END { print sum / NR }'
}

@test "each writer writes, and its reader tells that from human text" {
    head -n 64 "$demo/human.jsonl" > human
    for size in "" -medium -small; do
        "$TANDEM" generate --model "$demo/writer$size" --n 64 --top-k 40 --seed 1 --quiet --out machine$size
        [ "$(grep -c '"ended": true' machine$size)" -gt 50 ]
        people=$("$TANDEM" detect --model "$demo/reader$size" --quiet human | mean fake)
        machine=$("$TANDEM" detect --model "$demo/reader$size" --quiet machine$size | mean fake)
        echo "reader$size: mean p(fake) of people $people, of writer$size $machine"
        awk -v p="$people" -v m="$machine" 'BEGIN { exit !(p < 0.5 && m > 0.5) }'
    done
    run cmp -s machine-medium machine-small # not one model in two folders
    [ "$status" -eq 1 ]
}

@test "all writers have one vocabulary, with and without vocab.json" {
    "$TANDEM" tokenize --model "$demo/writer" --quiet --out ids "$demo/human.jsonl"
    [ "$(grep -c '' ids)" -eq 400 ]
    for size in -medium -small; do
        "$TANDEM" tokenize --model "$demo/writer$size" --quiet --out ids$size "$demo/human.jsonl"
        cmp ids ids$size
    done
}

@test "the demo is under 12,000,000 bytes, and all of it is in git" {
    files=$(find "$demo" -name __pycache__ -prune -o -type f -print)
    [ "$(echo "$files" | grep -c model.safetensors)" -eq 6 ]
    bytes=$(cat $files | wc -c)
    echo "$bytes bytes"
    [ "$bytes" -lt 12000000 ]
    git -C "$demo" rev-parse 2> /dev/null || skip "not a git checkout"
    git -C "$demo" ls-files --error-unmatch $files
}
