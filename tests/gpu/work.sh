#!/bin/sh
# tests/gpu/work.sh FUNCTION ARGUMENTS...: a step of run.sh that takes more than one command. Its variables
# come from run.sh's environment. Status 77: what it needs is not there.
# shellcheck disable=SC2154
set -u

environment() {
    nvidia-smi || true
    nvidia-smi -q -d CLOCK,POWER,PERFORMANCE,ECC 2>/dev/null || true
    nvcc --version 2>/dev/null || true
    cat "$here/commit" 2>/dev/null || git -C "$here" log -1 --format='%H %cI' || true
    uname -a
    nproc
    free -m
    $python -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)' || true
    ldd "$tandem"
    "$tandem" --version
}

models() { # sizes
    for size in "$@"; do
        [ -d "$work/$size" ] || "$tandem" bench model --size "$size" --out "$work/$size" || return 1
    done
    du -sm "$work"/*
}

# bench NAME PART OPTIONS...: the rows go to NAME.jsonl too
bench() {
    file=$logs/$1.jsonl
    shift
    # shellcheck disable=SC2086 # none or one word
    "$tandem" bench "$@" --device cuda $bench_small --json >"$file" || { code=$?; cat "$file"; return "$code"; }
    cat "$file"
}

write() { # model length batch documents
    "$tandem" generate --model "$work/$1" --device cuda --seed 3 --length "$2" --batch "$3" --n "$4" \
        --top-k 40 --quiet >"$work/written-$3.jsonl"
}

# What is written at one batch begins with what is written at the batch before it in the list.
same_documents() { # model length batch:documents...
    model=$1 length=$2 before=
    shift 2
    for run in "$@"; do
        batch=${run%:*} n=${run#*:}
        write "$model" "$length" "$batch" "$n" || return 1
        [ -z "$before" ] || head -n "$before_n" "$work/written-$batch.jsonl" | cmp - "$before" || return 1
        before=$work/written-$batch.jsonl before_n=$n
    done
    echo "$model, $length tokens, batch:documents $*: equal bytes"
}

# The same documents at every batch, over several pages, up to the whole context, with graphs and without.
invariance() { # model
    # shellcheck disable=SC2086 # lists
    same_documents "$1" "$same_length" $same && same_documents "$1" "$long_length" $long || return 1
    mv "$before" "$work/with-graphs.jsonl"
    export TDM_SYNC=1
    write "$1" "$long_length" "$batch" "$n" &&
        cmp "$work/written-$batch.jsonl" "$work/with-graphs.jsonl" || return 1
    echo "without graphs: equal bytes"
}

# Texts of made-up words: as many each, or (0) 1 to 200.
some_texts_file() { # texts words
    awk -v texts="$1" -v words="$2" 'BEGIN {
        for (i = 0; i < texts; i++) {
            text = ""
            for (k = 0; k <= (words ? words - 1 : i * 37 % 200); k++)
                text = text sprintf(" %c%c%c", 97 + (i + k) % 26, 97 + i * k % 26, 97 + k * k % 26)
            printf "{\"id\": %d, \"text\": \"%s\"}\n", i, text
        }
    }' >"$work/some.jsonl"
}

# The same texts alone and among others.
detector_invariance() { # model
    some_texts_file 48 0
    "$tandem" detect --model "$work/$1" --device cuda --quiet "$work/some.jsonl" >"$work/all.judged" ||
        return 1
    for at in 1 17 48; do
        sed -n "${at}p" "$work/some.jsonl" >"$work/one.jsonl"
        "$tandem" detect --model "$work/$1" --device cuda --quiet "$work/one.jsonl" >"$work/one.judged" ||
            return 1
        sed -n "${at}p" "$work/all.judged" | cmp - "$work/one.judged" || return 1
    done
    echo "$1: three texts alone and among 48: equal bytes"
}

with_nccl() { # program
    [ -x "$bin/$1" ] || { echo "built without NCCL"; return 77; }
    "$bin/$1"
}

# One rank, which goes through NCCL, in recorded graphs: the bits of the backend alone; and what it costs.
ranks_one() { # models
    export NCCL_DEBUG=VERSION NCCL_DEBUG_FILE="$logs/nccl.log"
    for model in "$@"; do
        for texts in $few_texts; do
            code=0
            "$bin/ranks_one" cuda f16 "$work/$model" "$texts" "$steps" "$rounds" >"$work/one.json" || code=$?
            [ $code -ne 69 ] || return 77 # NCCL is not to be had, as it says
            sed "s/{/{\"model\": \"$model\", /" "$work/one.json" | tee -a "$logs/ranks_one.jsonl"
            [ $code -eq 0 ] || return $code
        done
    done
    cat "$logs/nccl.log" 2>/dev/null || true
}

# Workers on real devices: one that is killed, all that there are, one that is not there.
devices() { # model
    written="generate --model $work/$1 --seed 4 --top-k 40 $killed --progress none"
    # shellcheck disable=SC2086 # lists of words
    {
        "$tandem" $written --device cuda --out "$work/undisturbed" || return 1
        "$tandem" $written --devices 0 --out "$work/killed" 2>"$work/said" &
        first=$!
        until [ -s "$work/killed.job/0.journal" ]; do
            kill -0 $first || { cat "$work/said"; return 1; }
        done
        kill -KILL "$(sed -n 's/.*worker 0: .*process \([0-9]*\).*/\1/p' "$work/said" | tail -n 1)"
        wait $first || { cat "$work/said"; return 1; }
        cat "$work/said"
        grep 'died by signal 9' "$work/said" && cmp "$work/killed" "$work/undisturbed" || return 1
        "$tandem" $written --devices all --out "$work/all" 2>&1 && cmp "$work/all" "$work/undisturbed" || return 1
        code=0
        "$tandem" $written --devices 0,99 --out "$work/refused" || code=$?
        [ $code -eq 69 ]
    }
}

# Where there are several GPUs: the same bytes every time, and what it gains.
several() { # model
    : >"$logs/tp.jsonl"
    for n in $tp_of; do
        for again in 1 2; do
            code=0
            "$tandem" generate --model "$work/$1" --device cuda --tp "$n" --seed 4 --n 8 --length 64 --quiet --restart \
                --out "$work/tp-$again" 2>"$work/said" || code=$?
            [ $code -ne 69 ] || { cat "$work/said"; [ "$n" -gt 2 ] && return 0; return 77; }
            [ $code -eq 0 ] || { cat "$work/said"; return $code; }
        done
        cmp "$work/tp-1" "$work/tp-2" || return 1
        # shellcheck disable=SC2086 # none or one word
        "$tandem" bench ranks --device cuda --tp "$n" $bench_small --json >>"$logs/tp.jsonl" || return 1
    done
    cat "$logs/tp.jsonl"
}

vectors() {
    [ -x "$bin/ptx_vectors" ] || { echo "no ptx_vectors among the programs"; return 77; }
    [ -z "$small" ] || { echo "an emulator records nothing: only hardware is golden"; return 77; }
    "$bin/ptx_vectors" --record "$logs/ptx_golden.txt" && "$bin/ptx_vectors" --check "$logs/ptx_golden.txt"
}

tune() {
    # shellcheck disable=SC2086
    "$tandem" bench gemm --device cuda --tune --tune-seconds $tune_seconds --rows $rows $bench_small \
        >"$logs/gemm_table.inc"
}

# Our kernels under every tool; under memcheck cuBLASLt, graphs and a whole job too. Some machines refuse
# every tool: a small program tells.
sanitize() { # tool
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there"; return 77; }
    [ -e "$work/probe.log" ] ||
        compute-sanitizer "$bin/ptx_vectors" --record "$work/probe" >"$work/probe.log" 2>&1
    ! grep -i 'not supported' "$work/probe.log" || return 77
    tests='gpu_test_row_kernels gpu_test_lay_out gpu_test_sample_kernels gpu_test_stats_kernels
        gpu_test_attention_kernels gpu_test_rank_kernels'
    [ "$1" != memcheck ] || tests="$tests gpu_test_backend_cuda gpu_test_backend_ranks"
    for test in $tests; do
        [ -x "$bin/$test" ] || continue # needs NCCL
        compute-sanitizer --tool "$1" --error-exitcode 9 "$bin/$test" || return 1
    done
    [ "$1" = memcheck ] || return 0
    [ ! -s "$logs/ranks_one.jsonl" ] || # there is NCCL
        compute-sanitizer --tool memcheck --error-exitcode 9 "$bin/ranks_one" cuda f16 "$work/tiny" 3 4 2 || return 1
    compute-sanitizer --tool memcheck --error-exitcode 9 "$tandem" generate --model "$work/tiny" \
        --device cuda --n 3 --length 9 --batch 2 --quiet --out /dev/null
}

# Where the time of a job goes, kernel by kernel, and what the kernels reach. Metrics that one pass can
# give: no kernel is run twice, so nothing of the memory need be saved and restored.
profile() { # name command...
    command -v ncu >/dev/null || { echo "ncu is not there"; return 77; }
    name=$1
    shift
    ncu --clock-control none --cache-control none --csv --launch-skip 2000 --launch-count 600 \
        --metrics gpu__time_duration.sum,dram__bytes.sum.per_second \
        --log-file "$logs/$name.csv" "$@" || return 1
    $python "$here/summary.py" --profile "$logs/$name.csv"
}

# One job of compare_hf.py; its figures are one object for the summary. What may be apart: log-probabilities 32
# roundings, a sum over all layers; probabilities what is promised.
compare() { # seconds job gpt2 detector batches
    budget=$1
    shift
    $python -c 'import torch, transformers' || { echo "torch and transformers are not there"; return 77; }
    peer_device=
    [ -z "$small" ] || peer_device='--peer-device cpu'
    case $1 in
    logprobs) most='--most-logprob 32' ;;
    detect) most='--most-probability 1e-3' ;;
    *) most= ;;
    esac
    name=$logs/compare-$1-$2-$3
    code=0
    # shellcheck disable=SC2086
    $python "$tools/compare_hf.py" --tandem "$tandem" --logprobs "$bin/logprobs" --device cuda $peer_device \
        --budget "$budget" --json "$name.json" --jobs "$1" --gpt2 "$work/$2" --detector "$work/$3" \
        --batches "$4" $peers $most || code=$?
    [ ! -e "$name.json" ] ||
        $python -c 'import json, sys; print(json.dumps({"bench": "compare", **json.load(open(sys.argv[1]))}))' \
            "$name.json" >"$name.jsonl"
    return "$code"
}

"$@"
