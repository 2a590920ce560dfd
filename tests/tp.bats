#!/usr/bin/env bats
# --tp on the CPU: several ranks hold a model together. On devices: emu/tp.bats.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here" || exit 1
    demo=$TDM_SOURCE_DIR/tools/demo
}

# refuses CODE WORDS COMMAND...: this exit code, one line on stderr that has WORDS, nothing on stdout
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$TANDEM" "$@" --quiet
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ -z "$output" ]
}

write() {
    "$TANDEM" generate --model "$demo/writer" --device cpu --quiet --temperature 0 --n 3 --length 24 --chunk 1 "$@"
}

# near A B: all numbers of the one are those of the other, to 1e-5
near() {
    numbers() { grep -oE -- '-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?' "$1"; }
    paste <(numbers "$1") <(numbers "$2") |
        awk '{ d = $1 - $2; m = $1 < 0 ? -$1 : $1; if (d * d > 1e-10 * (1 + m) * (1 + m)) { print; bad = 1 } }
             END { exit bad || NR < 20 }'
}

@test "greedy text is the same on 1, 2 and 3 ranks, and the ranks are part of what results depend on" {
    write --out 1.jsonl
    for n in 2 3; do
        write --tp $n --out $n.jsonl
        cmp 1.jsonl $n.jsonl
        grep -q "\"identity\": \"cpu, [^\"]*, $n ranks\"" $n.jsonl.manifest.json
    done
    ! grep -q ranks 1.jsonl.manifest.json
}

@test "a job that was interrupted goes on with the same number of ranks alone" {
    printf '{"id": "a", "text": "And"}\nno JSON\n{"id": "b", "text": "The"}\n' > prompts.jsonl
    prompted() {
        "$TANDEM" generate --model "$demo/writer" --device cpu --quiet --temperature 0 --length 8 --chunk 1 \
            --prompts prompts.jsonl --out some.jsonl "$@"
    }
    run --separate-stderr prompted --tp 2 # ends at the bad one
    [ "$status" -eq 65 ] || { echo "exit $status: $stderr"; false; }
    run --separate-stderr prompted --tp 3 --max-errors 1
    [ "$status" -eq 78 ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"engine.identity is "*", 3 ranks\", was "*", 2 ranks\""* ]] || { echo "$stderr"; false; }
    run --separate-stderr prompted --max-errors 1
    [ "$status" -eq 78 ]
    run --separate-stderr prompted --tp 2 --max-errors 1
    [ "$status" -eq 3 ]
    [ "$(wc -l < some.jsonl)" -eq 2 ]
}

@test "detect and score: the same to rounding, and in the same order" {
    head -n 4 "$demo/human.jsonl" > texts.jsonl
    for n in 1 2; do
        "$TANDEM" detect --model "$demo/reader" --device cpu --tp $n --quiet texts.jsonl > d$n.jsonl
        "$TANDEM" score --model "$demo/writer" --device cpu --tp $n --quiet texts.jsonl > s$n.jsonl
    done
    [ "$(wc -l < d2.jsonl)" -eq 4 ]
    [ "$(wc -l < s2.jsonl)" -eq 4 ]
    near d1.jsonl d2.jsonl
    near s1.jsonl s2.jsonl
}

@test "what it says: the device has its ranks, auto is one on the CPU and on none" {
    run --separate-stderr "$TANDEM" generate --model "$demo/writer" --device cpu --tp 3 --length 2
    [[ $stderr == *"device: cpu, 3 ranks"* ]] || { echo "$stderr"; false; }
    run --separate-stderr "$TANDEM" generate --model "$demo/writer" --device cpu --tp auto --length 2
    [[ $stderr == *"tp: 1: ranks on the CPU share its memory"*"device: cpu"* ]] || { echo "$stderr"; false; }
    run --separate-stderr "$TANDEM" generate --model "$demo/writer" --device null --tp auto --length 2
    [[ $stderr == *"tp: 1: the null device holds no weights"* ]] || { echo "$stderr"; false; }
}

@test "--dry-run tries the ranks out" {
    run --separate-stderr "$TANDEM" generate --model "$demo/writer" --device cpu --tp 2 --n 4 --length 6 --dry-run
    [ "$status" -eq 0 ]
    [[ $output == *"documents 4"*"2 ranks of cpu"* ]] || { echo "$output"; false; }
    run --separate-stderr "$TANDEM" detect --model "$demo/reader" --device cpu --tp 2 --dry-run "$demo/human.jsonl"
    [ "$status" -eq 0 ]
    [[ $output == *"2 ranks of cpu"* ]] || { echo "$output"; false; }
}

@test "no number of ranks, too many, or for a device that has none: one line, exit 2" {
    for tp in 0 -1 65 2x 1.5 "" many; do
        refuses 2 "--tp" generate --model "$demo/writer" --device cpu --tp "$tp"
    done
    refuses 2 "--tp 65: want auto or a whole number from 1 to 64" detect --model "$demo/reader" --tp 65 x.jsonl
    refuses 2 "--tp 4: the model has 3 heads" generate --model "$demo/writer" --device cpu --tp 4
    refuses 2 "--tp 3: the model has 2 heads" detect --model "$demo/reader" --device cpu --tp 3 "$demo/human.jsonl"
    refuses 2 "--tp 2: the observer has 1 head" score --model "$demo/writer" --observer "$demo/writer-small" --device cpu --tp 2 "$demo/human.jsonl"
    refuses 2 "--tp 2: the null device has no weights to share" generate --model "$demo/writer" --device null --tp 2
    refuses 2 "--device cuda:1 is one device" generate --model "$demo/writer" --device cuda:1 --tp 2
    refuses 2 "--device cuda:1 is one device" generate --model "$demo/writer" --device cuda:1 --tp auto
    refuses 2 "--dtype f16: the CPU computes in f32 alone" generate --model "$demo/writer" --device cpu --tp 2 --dtype f16
    refuses 66 "nowhere" generate --model nowhere --device cpu --tp 2
}
