#!/usr/bin/env bats
# --device, --dtype and --kv-dtype where no CUDA device can be used: devices are hidden, so that this
# holds on every machine and in every build.

setup() {
    bats_require_minimum_version 1.5.0
    export CUDA_VISIBLE_DEVICES=
    model=$TDM_SOURCE_DIR/tools/demo/writer
}

# Run generate with these options; its exit code must be $1, and stderr one line that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$TANDEM" generate --model "$model" --length 4 --quiet "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ -z "$output" ]
}

# Why CUDA cannot be used, as stderr says it for the device that the message may name as $1.
no_cuda() {
    local reasons="this build has no CUDA backend|there is no CUDA device|there is no NVIDIA driver"
    reasons="$reasons|there (is|are) [0-9]+ CUDA device|the driver is made for CUDA"
    [[ ${stderr_lines[-1]} =~ ^"tandem "[a-z]+": cuda"("${1#cuda}")?": "($reasons|.*cudaErrorInsufficientDriver) ]] ||
        { echo "$stderr"; false; }
}

@test "CUDA asked for by name and not usable: exit 69" {
    for device in cuda:0 cuda:12 cuda; do
        refuses 69 "(no device)" --device $device
        no_cuda ${device/%cuda/cuda:0}
    done
}

@test "auto takes the CPU and says why it is not CUDA" {
    run --separate-stderr "$TANDEM" generate --model "$model" --length 4
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cpu (cuda"* ]] || { echo "$stderr"; false; }
    run --separate-stderr "$TANDEM" generate --model "$model" --length 4 --device cpu --dtype f32 --kv-dtype f32
    [ "$status" -eq 0 ]
    [[ ${stderr_lines[0]} == "device: cpu" ]] || { echo "$stderr"; false; }
}

@test "what the CPU cannot do is refused" {
    refuses 2 "--dtype f16: the CPU computes in f32 alone" --device cpu --dtype f16
    refuses 2 "--dtype bf16: the CPU computes in f32 alone" --dtype bf16
    refuses 2 "--kv-dtype f16: the CPU computes in f32 alone" --device cpu --kv-dtype f16
}

@test "a word that is no device or dtype is refused" {
    refuses 2 "--device gpu: want auto, cpu, cuda, cuda:N or null" --device gpu
    refuses 2 "--device cuda:: want" --device cuda:
    refuses 2 "--device cuda:-1: want" --device cuda:-1
    refuses 2 "--device cuda:1x: want" --device cuda:1x
    refuses 2 "--device cuda:12345: want" --device cuda:12345
    refuses 2 "--dtype e4m3" --dtype e4m3
    refuses 2 "--kv-dtype int8" --kv-dtype int8
}

@test "detect has no cache and no --kv-dtype" {
    run --separate-stderr "$TANDEM" detect --model "$TDM_SOURCE_DIR/tools/demo/reader" --kv-dtype f16 x
    [ "$status" -eq 2 ]
    [[ $stderr == *"there is no option --kv-dtype"* ]]
}
