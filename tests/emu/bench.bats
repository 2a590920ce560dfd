#!/usr/bin/env bats
# tandem bench on the emulated device: every part that measures CUDA runs, and tuning chooses by bits.
#   TANDEM_EMU  the program with the CUDA backend on the emulated device

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here" || exit 1
    export TMPDIR=$PWD
}

bench() {
    run --separate-stderr "$TANDEM_EMU" bench "$@" --device cuda --small
    [ "$status" -eq 0 ] || { echo "exit $status: $stderr"; false; }
}

@test "ceilings: the copy adds up, every figure is there" {
    bench device --json
    [[ ${lines[0]} == *'"device": "emulated '*'"dtype": "f16"'* ]]
    ! grep null <<< "$output"
}

@test "kernels and products in every dtype" {
    for dtype in f16 bf16 f32; do
        bench kernels --dtype $dtype --csv
        [ "${#lines[@]}" -eq 26 ]
        bench gemm --dtype $dtype --csv
        [ "${#lines[@]}" -eq 8 ]
    done
}

needs_nccl() {
    ! TDM_EMU_DEVICES=2 "$TANDEM_EMU" bench ranks --tp 2 --device cuda --small 2>&1 | grep -q 'without NCCL' ||
        skip "nccl.h was not found"
}

@test "ranks: one alone and two, in f16" {
    needs_nccl
    for n in 1 2; do
        TDM_EMU_DEVICES=2 bench ranks --tp $n --csv
        [ "${#lines[@]}" -eq 8 ]
    done
    run --separate-stderr "$TANDEM_EMU" bench ranks --tp 2 --device cuda --small
    [ "$status" -eq 69 ]
}

@test "tuning: a line for each shape; none where rows vary" {
    bench gemm --tune --tune-seconds 0.01
    [ "${#lines[@]}" -eq 3 ]
    ! grep -v '^{90, [0-9]*, {128, [0-9]*, TDM_F16, TDM_F\(16\|32\), TDM_[A-Z_]*, \(true\|false\)}, 0, {{.*}}},$' <<< "$output"
    TDM_EMU_GEMM_VARIES=1 run --separate-stderr "$TANDEM_EMU" bench gemm --device cuda --small --tune \
        --tune-seconds 0.01
    [ "$status" -eq 70 ]
    [ -z "$output" ]
    [[ $stderr == *"3 of 3 shapes have no algorithm"* ]]
}

@test "whole jobs: equal tokens at every batch" {
    bench generate --size tiny --n 5 --length 9 --batch 1,3,auto --json
    [ "$(grep -o '"hash": "[0-9a-f]*"' <<< "$output" | sort -u | wc -l)" -eq 1 ]
    bench detect --size tiny-detector --n 3
    bench score --size tiny --n 2 --length 20
    bench load --size tiny
    [ -z "$(ls)" ]
}

@test "whole jobs on two devices" {
    needs_nccl
    export TDM_EMU_DEVICES=2
    bench generate --size tiny --n 3 --length 9 --tp 2
    bench detect --size tiny-detector --n 3 --tp 2
    bench score --size tiny --n 2 --length 20 --tp 2
    [ -z "$(ls)" ]
}
