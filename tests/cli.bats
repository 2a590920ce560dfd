#!/usr/bin/env bats
# The frame of the command line: help, version, wrong words, wrong values. Needs no model.

# Run tandem; its exit code must be $1, and stderr one line that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$TANDEM" "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ -z "$output" ]
}

setup() {
    bats_require_minimum_version 1.5.0
}

@test "--version and --help go to stdout" {
    run --separate-stderr "$TANDEM" --version
    [ "$status" -eq 0 ]
    [[ $output =~ ^tandem\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    run --separate-stderr "$TANDEM" --help
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    for command in generate detect score eval raid tokenize inspect bench; do
        [[ $output == *"  $command "* ]] || { echo "$command is missing"; false; }
    done
}

@test "no command: usage on stderr, exit 2" {
    run --separate-stderr "$TANDEM"
    [ "$status" -eq 2 ]
    [ -z "$output" ]
    [[ $stderr == Usage:* ]]
}

@test "an unknown command is named, with a suggestion where one is near" {
    refuses 2 "there is no command frobnicate; see" frobnicate
    refuses 2 "there is no command tokenise (did you mean tokenize?)" tokenise
    refuses 2 "there is no command gen (did you mean generate?)" gen
    refuses 2 "there is no command --frob" --frob
}

@test "bench names its parts" {
    refuses 2 "there is no part gem (did you mean gemm?)" bench gem
    run --separate-stderr "$TANDEM" bench
    [ "$status" -eq 2 ]
    [ -z "$output" ]
    run --separate-stderr "$TANDEM" bench --help
    [ "$status" -eq 0 ]
    [[ $output == *"  tokenizer "*"  gemm "* ]]
}

@test "every command has a help text with options, example and exit codes" {
    for command in generate detect score eval tokenize inspect "bench gemm" "bench tokenizer"; do
        run --separate-stderr "$TANDEM" $command --help
        [ "$status" -eq 0 ]
        [ -z "$stderr" ]
        for part in "Usage: tandem $command" "Options:" "Example:" "Exit codes:"; do
            [[ $output == *"$part"* ]] || { echo "$command --help: no $part"; false; }
        done
        run ! grep -n '.\{103,\}' <<< "$output"
    done
}

@test "--help wins over everything, and prints the defaults, not the values given" {
    run --separate-stderr "$TANDEM" tokenize --max-line 5 --nonsense --help
    [ "$status" -eq 0 ]
    [[ $output == *"[default: 8MiB]"* ]]
    run --separate-stderr "$TANDEM" tokenize -h
    [ "$status" -eq 0 ]
}

@test "an unknown option is named, with a suggestion" {
    refuses 2 "there is no option --mdoel (did you mean --model?)" tokenize --mdoel x
    refuses 2 "there is no option --frobnicate (bad argument)" tokenize --frobnicate=3
    refuses 2 "there is no option -q" tokenize -q
    refuses 2 "there is no option -q" tokenize file -q
    refuses 2 "--ma could be" tokenize --ma 3
}

@test "a missing, surplus or empty value" {
    refuses 2 "--model needs a value" tokenize --model
    refuses 2 "--quiet takes no value" tokenize --quiet=yes
    refuses 2 "--model: the value is empty" tokenize --model ""
    refuses 2 "--model DIR is required" tokenize
}

@test "numbers, sizes and choices are parsed whole and checked" {
    for value in 0 -1 12x "" " 5" 5MB 1e3 99999999999999999999 8EiB; do
        refuses 2 "--max-line $value: want a size" tokenize --model x --max-line "$value"
    done
    for value in -1 101% x% % 1.5 "" 1e999 nan% 99999999999999999999; do
        refuses 2 "--max-errors $value: want a number" tokenize --model x --max-errors "$value"
    done
    for value in 0 1025MiB 2GiB x; do
        refuses 2 "--chunk $value: want a size of at least 1 byte and at most 1073741824" \
            tokenize --model x --chunk "$value"
    done
    for value in 0 0.5 -1 x 2e9; do
        refuses 2 "--max-ratio $value: want a number" tokenize --model x --max-ratio "$value"
    done
    refuses 2 "--progress fast: want one of auto, bar, plain, json, none" \
        tokenize --model x --progress fast
    refuses 2 "--special-tokens maybe: want one of plain, parse" \
        tokenize --model x --special-tokens maybe
}

@test "numbers of generate and detect name their limits" {
    refuses 2 "--n 0: want a whole number from 1 to" generate --model x --n 0
    for value in 12x "" nan 1e2 99999999999999999999 " 1"; do
        refuses 2 "--n $value: want a whole number" generate --model x --n "$value"
    done
    for value in -1 x 1.0 18446744073709551616; do
        refuses 2 "--seed $value: want a whole number" generate --model x --seed "$value"
    done
    for value in -1 nan inf 1e999 0x1 "" 1..2 1,5; do
        refuses 2 "--temperature $value: want a number" generate --model x --temperature "$value"
    done
    for value in 0 1.5 -0.1 0.9:0.8 0.8: :0.9 0.8:0.9:1 nan; do
        refuses 2 "--top-p $value: want a number" generate --model x --top-p "$value"
    done
    for value in 0 -3 x 1e9; do
        refuses 2 "--batch $value: want auto or a whole number from 1 to" \
            detect --model x --batch "$value"
    done
}

@test "a full disk under --help and --version" {
    [ -w /dev/full ] || skip "no /dev/full"
    run bash -c '"$TANDEM" --help > /dev/full'
    [ "$status" -eq 74 ]
    [[ $output == *"No space left on device"* ]]
    run bash -c '"$TANDEM" tokenize --help > /dev/full'
    [ "$status" -eq 74 ]
}

@test "an error is one line, whatever is in the name of a file" {
    cd "$BATS_TEST_TMPDIR"
    name=$'two\nlines \e[31m'
    run -66 --separate-stderr "$TANDEM" inspect "$name"
    [ "$stderr" = "tandem inspect: two?lines ?[31m: No such file or directory (no input)" ]
}
