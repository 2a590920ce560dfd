#!/usr/bin/env bats
# tandem bench, from outside: every part runs at a tiny size and in all three forms. No speed is tested.

bats_require_minimum_version 1.5.0

setup() {
    mkdir "$BATS_TEST_TMPDIR/work"
    cd "$BATS_TEST_TMPDIR/work" || exit 1
    export TMPDIR=$PWD
}

# Every line of $output is a JSON object, the first one the machine.
is_json_lines() {
    head -n 1 <<< "$output" | grep -q '^{"bench": "machine", "part": "'"$1"'", '
    ! grep -v '^{.*}$' <<< "$output"
}

@test "parts without a model: table, CSV and JSON" {
    for part in device gemm kernels ranks evaluate; do
        run --separate-stderr "$TANDEM" bench $part --device cpu --small
        [ "$status" -eq 0 ]
        [[ $output == "cpu "*"; ceilings: "* ]]
        run --separate-stderr "$TANDEM" bench $part --device cpu --small --csv
        [ "$status" -eq 0 ]
        [[ $output == "# cpu "* ]]
        [ "$(tail -n +2 <<< "$output" | tr -cd ',\n' | sort -u | wc -l)" -eq 1 ] # as many commas in every row
        run --separate-stderr "$TANDEM" bench $part --device cpu --small --json
        [ "$status" -eq 0 ]
        is_json_lines $part
    done
}

@test "ranks: what three of them send each other" {
    run --separate-stderr "$TANDEM" bench ranks --tp 3 --device cpu --small --json
    [ "$status" -eq 0 ]
    [ "$(grep -c '"ranks": 3, ' <<< "$output")" -eq 6 ]
    grep -q '"op": "sum", .*"rows": 17, "cols": 128, .*"received": 0.012, ' <<< "$output" # 4/3 of 17 x 128 f32
    grep -q '"op": "join", .*"rows": 17, "cols": 700, .*"received": 0.032, ' <<< "$output" # 2/3 of 17 x 700
}

@test "a made-up model is written, inspected, and the same again" {
    for size in tiny tiny-detector; do
        "$TANDEM" bench model --size $size --out $size
        "$TANDEM" bench model --size $size --out again
        cmp $size/model.safetensors again/model.safetensors
        run "$TANDEM" inspect $size
        [ "$status" -eq 0 ]
    done
    # a word of the vocabulary is one token: " a" .. " z" are its first merges
    run --separate-stderr "$TANDEM" tokenize --quiet --model tiny <<< '{"id": 1, "text": " a b z"}'
    [ "$output" = '{"id": 1, "ids": [256, 257, 281]}' ]
    run --separate-stderr "$TANDEM" bench model --size 99M --out x
    [ "$status" -eq 2 ]
    [[ $stderr == *"--size 99M: want tiny|124M|"* ]]
}

@test "whole jobs: equal tokens at every batch, floors, nothing left behind" {
    run --separate-stderr "$TANDEM" bench generate --size tiny --device cpu --n 5 --length 9 --batch 1,3,auto --small --json
    [ "$status" -eq 0 ]
    is_json_lines generate
    [ "$(grep -o '"hash": "[0-9a-f]*"' <<< "$output" | sort -u | wc -l)" -eq 1 ]
    [ "$(grep -c '"bench": "generate"' <<< "$output")" -eq 3 ]
    grep -q '"batch": "1", .*"mean_batch": [01]\.' <<< "$output"
    [ -z "$(grep '"mean_batch": null' <<< "$output")" ]
    run --separate-stderr "$TANDEM" bench detect --size tiny-detector --device cpu --n 3 --small --json
    [ "$status" -eq 0 ]
    is_json_lines detect
    [[ $output == *'"n": 3, "length": 128, "tokens": 384,'* ]]
    run --separate-stderr "$TANDEM" bench score --size tiny --device cpu --n 2 --length 20 --small --json
    [ "$status" -eq 0 ]
    is_json_lines score
    run --separate-stderr "$TANDEM" bench load --size tiny --device cpu --small --json
    [ "$status" -eq 0 ]
    is_json_lines load
    [ -z "$(grep '"share": null' <<< "$output")" ]
    [ -z "$(ls)" ]
}

@test "whole jobs on two ranks: the tokens of one" {
    for job in "generate --size tiny --length 9" "detect --size tiny-detector" "score --size tiny --length 20"; do
        # shellcheck disable=SC2086 # a list of words
        for n in 1 2; do
            run --separate-stderr "$TANDEM" bench $job --tp $n --device cpu --n 3 --small --json
            [ "$status" -eq 0 ] || { echo "$stderr"; false; }
            grep -o '"hash": "[0-9a-f]*"' <<< "$output" >> hashes
        done
    done
    [ "$(sort -u hashes | wc -l)" -eq 3 ]
    rm hashes
    run --separate-stderr "$TANDEM" bench score --size tiny --tp 3 --device cpu --small
    [ "$status" -eq 2 ]
    [[ $stderr == *"--tp 3: the model has 2 heads"* ]]
    [ -z "$(ls)" ]
}

@test "options of generate go behind --, and a job that fails is an error" {
    run --separate-stderr "$TANDEM" bench generate --size tiny --device cpu --n 2 --length 5 --small -- --top-k 3
    [ "$status" -eq 0 ]
    run --separate-stderr "$TANDEM" bench generate --size tiny --device cpu --n 2 --small -- --top-k x
    [ "$status" -eq 2 ] # the job's own
    [[ $stderr == *"generate ended with exit code 2 (bad argument)" ]]
    [ -z "$(ls)" ]
}

@test "options that cannot work" {
    refuses() {
        run --separate-stderr "$TANDEM" bench "${@:2}"
        [ "$status" -eq 2 ]
        [[ $stderr == *"$1"* ]] || { echo "$stderr"; false; }
    }
    refuses "want one of --model and --size" generate
    refuses "want one of --model and --size" detect --model x --size base
    refuses "not a detector" detect --size tiny
    refuses "not a GPT-2" generate --size tiny-detector
    refuses "--rows 1,,2" gemm --device cpu --small --rows 1,,2
    refuses "--only frob: no shape begins like this" gemm --device cpu --small --only frob
    refuses "--only frob: no operation begins like this" kernels --device cpu --small --only frob
    refuses "--tune: the product of the CPU has nothing to choose" gemm --device cpu --small --tune
    refuses "--csv and --json: want one of them" device --csv --json
    refuses "--batch 1,: want up to" generate --size tiny --batch 1,
}

@test "a list of batches is checked before anything is measured" {
    for list in 1x 0 65537 auto, 1,,2 automatic; do
        run --separate-stderr "$TANDEM" bench generate --size tiny --device cpu --batch "$list"
        [ "$status" -eq 2 ]
        [[ $stderr == "tandem bench generate: --batch $list: want "* ]]
    done
}

@test "a signal ends the job and removes the model" {
    "$TANDEM" bench generate --size tiny --device cpu --n 1000000 --length 100 --small > out.txt 2> err.txt &
    local bench=$! code=0
    until compgen -G "tandem-bench-*/out.jsonl.job/*.data" > /dev/null; do sleep 0.05; done # it writes
    kill -TERM $bench
    wait $bench || code=$?
    [ $code -eq 75 ]
    [ "$(ls)" = "$(printf 'err.txt\nout.txt')" ]
}

@test "pipeline: every form in and out, every step" {
    "$TANDEM" bench model --size tiny --out writer
    "$TANDEM" bench model --size tiny-detector --out reader
    run --separate-stderr "$TANDEM" bench pipeline --model reader --small --n 20 --json
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    is_json_lines pipeline
    [ "$(grep -c '"form": "plain"' <<< "$output")" -eq 2 ]
    [ "$(grep -c '"form": "gz"\|"form": "zst"' <<< "$output")" -eq 4 ]
    [ "$(grep -c '"records": 20, .*"read_us": [0-9.]*, "tokenise_us": [0-9.]*, .*"on_16": [0-9]*}' <<< "$output")" -eq 6 ]
    run --separate-stderr "$TANDEM" bench pipeline --model writer --n 20 --length 9 --json
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [ "$(grep -c '"run": "generate", .*"records": 20, ' <<< "$output")" -eq 3 ]
    [ -z "$(ls | grep -v 'reader\|writer')" ]
}
