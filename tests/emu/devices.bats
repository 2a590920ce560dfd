#!/usr/bin/env bats
# --devices on emulated devices: which there are, and what becomes of a run when some are lost.
#   TANDEM_EMU  the program with the CUDA backend on the emulated device

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    export TDM_EMU_DEVICES=2 TDM_EMU_MEMORY=100000000
    awk 'BEGIN { for (i = 0; i < 24; i++)
        printf "{\"id\": %d, \"text\": \"in the beginning was the word %d\"}\n", i, i * 7 % 11 }' > in.jsonl
}

detect() {
    "$TANDEM_EMU" detect --model "$TDM_SOURCE_DIR/tools/demo/reader-small" --chunk 256 --progress none "$@" in.jsonl
}

generate() {
    "$TANDEM_EMU" generate --model "$TDM_SOURCE_DIR/tools/demo/writer" --n 4 --length 2 --chunk 2 --progress none "$@"
}

same() {
    cmp want "$1"
    cmp want.manifest.json "$1.manifest.json"
    [ ! -e "$1.job" ] && [ ! -e "$1.errors.jsonl" ]
}

@test "the bytes of one device, for all of them and for some" {
    detect --device cuda --quiet --out want
    TDM_EMU_DEVICES=3 run -0 --separate-stderr detect --devices all --json --out all
    same all
    [[ $stderr == *"worker 2: cuda:2 emulated"* ]] || { echo "$stderr"; false; }
    [[ $output == *'"workers": [{"devices": [0], '*'{"devices": [1], '*'{"devices": [2], '* ]]
    run -0 --separate-stderr detect --devices 1 --device cuda --out one
    same one
    [[ $stderr == *"worker 0: cuda:1 emulated"* && $stderr != *"cuda:0"* ]] || { echo "$stderr"; false; }
}

@test "a device that is lost: its chunk is done again by whoever is free" {
    detect --device cuda --quiet --out want
    TDM_EMU_LOST=30@1 run -0 --separate-stderr detect --devices 1,0 --out once
    same once
    [[ $stderr == *"worker 0 (cuda:1) died with an error: the device was lost: "*"(fault 1, 3 are too many)"* ]] || { echo "$stderr"; false; }
}

@test "devices that are lost for good are left out; where all are, 75 and one line behind their deaths; run again it goes on" {
    detect --device cuda --quiet --out want
    TDM_EMU_LOST=1 run -75 --separate-stderr detect --devices 0,1 --json --out out
    [ "$(grep -c 'died with an error: .*; with [0-9]* faults it is left out' <<< "$stderr")" -eq 2 ] || { echo "$stderr"; false; }
    [[ ${stderr_lines[-1]} == *"no device is left, each had 3 faults or more; worker "*"(stopped)" ]] || { echo "$stderr"; false; }
    TDM_EMU_LOST=1 run -75 --separate-stderr detect --devices 0,1 --quiet --out out
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    detect --devices 0,1 --quiet --out out
    same out
}

@test "workers of two devices each: the bytes of --tp 2" {
    export TDM_EMU_DEVICES=4
    generate --device cuda --tp 2 --quiet --out want
    run -0 --separate-stderr generate --devices 3,0,2,1 --tp 2 --json --out out
    same out
    [[ $output == *'"workers": [{"devices": [3, 0], '*'{"devices": [2, 1], '* ]] || { echo "$output"; false; }
}

# Exit code $1, one line that holds $2.
refused() {
    local code=$1 says=$2
    shift 2
    run "-$code" --separate-stderr detect "$@" --out out
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [ ! -e out.job ]
}

@test "devices that are not there, or of different kinds, and none at all" {
    refused 69 "there is no device 7, only 2 of them (from 0)" --devices 0,7
    TDM_EMU_CC=90,80 refused 2 "device 0 is emulated sm_90, sm_90, and device 1 is emulated sm_80, sm_80" --devices all
    TDM_EMU_DEVICES=0 refused 69 "there is no CUDA device" --devices all
    refused 2 "2 devices, --tp 3 wants a multiple of 3" --devices all --tp 3
    refused 2 "device 1 is listed twice" --devices 1,0,1
}

@test "a device that another program has to itself is left out" {
    detect --device cuda --quiet --out want
    TDM_EMU_BUSY=0 run -0 --separate-stderr detect --devices all --out out
    same out
    [[ $stderr == *"worker 0 (cuda:0) died with an error: cuda:0 is busy"*"with 3 faults it is left out"* ]] || { echo "$stderr"; false; }
}
