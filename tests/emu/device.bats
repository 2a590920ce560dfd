#!/usr/bin/env bats
# Devices that are missing, too old, too small or lost: one clear line, the right exit code, no output
# file. The emulated device plays them.
#   TANDEM_EMU  the program with the CUDA backend on the emulated device

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    models=$TDM_SOURCE_DIR/tools/demo
}

# Run generate with these options; its exit code must be $1, and stderr one line that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$TANDEM_EMU" generate --model "$models/writer" --quiet --out out.jsonl \
        --length 4 "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ -z "$output" ]
    [ ! -e out.jsonl ]
    rm -rf out.jsonl.job # what was committed, and would not agree with the next one's options
}

@test "the device that was taken is named, with its memory and the dtype" {
    run --separate-stderr "$TANDEM_EMU" generate --model "$models/writer" --length 2 --out out.jsonl
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cuda:0 "*", sm_90, 1.0 GiB, f16"* ]] || { echo "$stderr"; false; }
    run --separate-stderr "$TANDEM_EMU" generate --model "$models/writer" --length 2 --out bf16.jsonl \
        --device cuda --dtype bf16 --kv-dtype f32
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cuda:0 "*", bf16"* ]] || { echo "$stderr"; false; }
}

@test "no device: exit 69; auto takes the CPU and says why" {
    export TDM_EMU_DEVICES=0
    refuses 69 "cuda: there is no CUDA device" --device cuda
    refuses 69 "cuda: there is no CUDA device" --device cuda:1
    run --separate-stderr "$TANDEM_EMU" generate --model "$models/writer" --length 4 --out out.jsonl
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cpu (cuda: there is no CUDA device)"* ]] || { echo "$stderr"; false; }
    rm out.jsonl out.jsonl.manifest.json
    refuses 2 "--dtype f16: the CPU computes in f32 alone" --dtype f16
    refuses 2 "there is no CUDA device" --kv-dtype f16
}

@test "an old driver: exit 69 with both versions; auto takes the CPU" {
    export TDM_EMU_DRIVER=old
    refuses 69 "the driver is made for CUDA 11.4, this program needs 1" --device cuda
    run --separate-stderr "$TANDEM_EMU" generate --model "$models/writer" --length 4 --out out.jsonl
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cpu (cuda: the driver is made for CUDA 11.4"* ]] || { echo "$stderr"; false; }
}

@test "a device that is too old: exit 69 with its name and compute capability" {
    export TDM_EMU_CC=75
    refuses 69 "has compute capability 7.5, the kernels need 8.0" --device cuda
    refuses 69 "cuda:0: emulated sm_75" --device cuda:0
}

@test "a device number that is not there: exit 69 with how many there are" {
    refuses 69 "cuda:3: there is 1 CUDA device, number 0" --device cuda:3
    TDM_EMU_DEVICES=2 refuses 69 "cuda:2: there are 2 CUDA devices, from 0" --device cuda:2
    TDM_EMU_DEVICES=2 "$TANDEM_EMU" generate --model "$models/writer" --quiet --length 2 --device cuda:1
}

@test "too little memory: exit 71 with what is needed, what is free and what would help" {
    TDM_EMU_MEMORY=1000000 refuses 71 "1.0 MiB are free" --device cuda
    TDM_EMU_MEMORY=39500000 refuses 71 "a weight of" --device cuda
    TDM_EMU_MEMORY=60000000 refuses 71 "MiB" --device cuda --batch 4000 --n 4000 --length 250
    # not the CPU in silence
    TDM_EMU_MEMORY=1000000 refuses 71 "are free"
}

@test "a device lost in the middle: exit 75, at the first kernel and later; no output file" {
    for kernel in 1 40 200 1000; do
        TDM_EMU_LOST=$kernel refuses 75 "the device was lost" --device cuda --n 9 --batch 3 --length 40
    done
    TDM_EMU_LOST=30 TDM_SYNC=1 refuses 75 "the device was lost" --device cuda --n 3
    head -n 6 "$models/human.jsonl" > texts.jsonl
    TDM_EMU_LOST=8 run --separate-stderr "$TANDEM_EMU" detect --model "$models/reader" --device cuda \
        --quiet --out out.jsonl texts.jsonl
    [ "$status" -eq 75 ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"the device was lost"* ]]
    [ ! -e out.jsonl ]
    TDM_EMU_LOST=1 run --separate-stderr "$TANDEM_EMU" bench device --device cuda --small
    [ "$status" -eq 75 ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"the device was lost: ceilings"* ]]
}

@test "graphs of many texts: what they launch was run before" {
    "$TANDEM_EMU" generate --model "$models/writer" --device cuda --quiet --n 20 --length 2 --batch 20 \
        --out out.jsonl
    [ "$(wc -l < out.jsonl)" -eq 20 ]
}

@test "TDM_SYNC=1 gives the same text" {
    "$TANDEM_EMU" generate --model "$models/writer" --device cuda --quiet --n 3 --length 8 --out a.jsonl
    TDM_SYNC=1 "$TANDEM_EMU" generate --model "$models/writer" --device cuda --quiet --n 3 --length 8 \
        --out b.jsonl
    cmp a.jsonl b.jsonl
}
