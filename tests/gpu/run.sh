#!/bin/sh
# sh tests/gpu/run.sh OUT [first|second|third|all]: everything that is to be shown on a GPU, in steps of which each has
# its own time limit and its own log; see README.md.
#
# Environment: TDM_GPU_BIN folder with the programs (bin/ beside this script, as prepare.sh packs it; else
# build-gpu/, which is built if need be); TDM_GPU_SECONDS for each call (570); TDM_GPU_SMALL=1 tiny
# models and shapes, which the emulated device can do; TDM_GPU_PYTHON (python3).
# Exit code: 0; 1 when a step that is about correctness failed, ran out of time or had none left.
# shellcheck disable=SC2034,SC2154,SC2086,SC2317 # variables of work.sh and steps.sh; numbers; called by name
set -u
set -a # work.sh, which is a process of its own, sees all of it

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: run.sh OUT [first|second|third|all]}
case ${2:-all} in
first | second | third) parts=$2 ;;
all) parts='first second third' ;;
*) echo "run.sh: $2: want first, second, third or all" >&2; exit 2 ;;
esac
seconds=${TDM_GPU_SECONDS:-570}
python=${TDM_GPU_PYTHON:-python3}
small=
[ "${TDM_GPU_SMALL:-}" != 1 ] || small=yes
began=$(date +%s)
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/tandem-gpu-XXXXXX") || exit 1
logs=$work/logs
mkdir "$logs"
export TMPDIR="$work" TDM_REQUIRE_CUDA=1 PYTHONUNBUFFERED=1
watcher=
trap '[ -z "$watcher" ] || kill "$watcher" 2>/dev/null; rm -rf "$work"' EXIT
# shellcheck source=tests/gpu/steps.sh
. "$here/steps.sh"

# ---- the programs ----

tools=$here/tools
if [ -n "${TDM_GPU_BIN:-}" ]; then
    bin=$TDM_GPU_BIN
elif [ -x "$here/bin/tandem" ]; then
    bin=$here/bin
else
    root=$(cd "$here/../.." && pwd)
    bin=$work/bin
    mkdir "$bin"
    build() {
        cmake -S "$root" -B "$root/build-gpu" -G Ninja -DTDM_CUDA=ON \
            -DCMAKE_CUDA_ARCHITECTURES="${TDM_GPU_ARCH:-native}" &&
            cmake --build "$root/build-gpu" --target tandem logprobs ranks_one gpu_tests &&
            cp "$root/build-gpu/tandem" "$bin" &&
            find "$root/build-gpu/tests/gpu" -maxdepth 1 -type f -perm -u+x -exec cp {} "$bin" \;
    }
    build >"$logs/build.log" 2>&1 || { tail -n 20 "$logs/build.log"; exit 1; }
fi
[ -d "$tools" ] || tools=$here/../../tools
tandem=$bin/tandem

# cuBLASLt and NCCL: the toolkit's, or those of Python packages.
libraries=$here/lib
for place in /usr/local/cuda/lib64 \
    $($python -c 'import nvidia, os; print(*(os.path.join(p, d, "lib") for p in nvidia.__path__ for d in ("cu13", "cublas", "nccl")))' 2>/dev/null); do
    [ ! -e "$place/libcublasLt.so.13" ] && [ ! -e "$place/libnccl.so.2" ] || libraries=$libraries:$place
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# ---- sizes ----

# same, long: what is written at each batch, as batch:documents.
if [ -n "$small" ]; then
    writer=tiny writer2=tiny reader=tiny-detector reader2=tiny-detector
    bulk_n=6 bulk_length=12 one_n=2 one_length=12 texts=8 texts2=8 score_n=3
    same='1:2 7:6 64:10 10:10' same_length=12 long='1:1 3:3' long_length=70
    bench_small=--small tune_seconds=0.05 peers='--n 4 --length 12 --texts 6 --words 40'
    few=2 some=2 lots=2 rows=1,17 slack=10
    tp_of='2' few_texts='1 3' steps=4 rounds=3 killed='--n 60 --length 8 --batch 8 --chunk 4'
else
    writer=1558M writer2=124M reader=large reader2=base
    bulk_n=908 bulk_length=1024 one_n=2 one_length=1024 texts=8000 texts2=20000 score_n=512
    same='1:4 7:64 64:512 512:512' same_length=200 long='1:2 64:64' long_length=1024
    bench_small='' tune_seconds=2 peers='--n 256 --length 1024 --texts 4096'
    few=8,16,32 some=64,256 lots=32,128,512 slack=1
    rows=1,2,4,8,16,32,64,96,128,256,512,768,1024,1536,2048
    tp_of='2 4 8' few_texts='1 64' steps=30 rounds=31 killed='--n 4096 --length 200 --batch 256 --chunk 32'
fi

# ---- three parts ----

# What must be comes first, and its limits add up to less than a call's time (emulated.sh adds them). Then how fast.
first() {
    step tests_kernels 20 must "$bin/gpu_test_row_kernels"
    step tests_lay_out 15 must "$bin/gpu_test_lay_out"
    step tests_attention 40 must "$bin/gpu_test_attention_kernels"
    step tests_sample 20 must "$bin/gpu_test_sample_kernels"
    step tests_stats 20 must "$bin/gpu_test_stats_kernels"
    step tests_backend 30 must "$bin/gpu_test_backend_cuda"
    step tests_memory 20 must "$bin/gpu_test_backend_memory"
    step tests_gemm_rows 30 must "$bin/gpu_test_gemm_rows"
    step tests_rank_kernels 10 must "$bin/gpu_test_rank_kernels"
    step tests_backend_ranks 25 must call with_nccl gpu_test_backend_ranks
    step tests_emulator 15 must "$bin/gpu_test_emulator"
    step tests_gemm_shapes 90 must "$bin/gpu_test_gemm_shapes"
    step vectors 10 may call vectors
    step ceilings 20 must call bench ceilings device
    step models 80 must call models "$writer" "$reader" "$reader2"
    step invariance 110 must call invariance "$writer"
    step invariance_detector 25 must call detector_invariance "$reader2"
    step generate_bulk 120 may call bench generate_bulk generate --model "$work/$writer" --n $bulk_n \
        --length $bulk_length --batch auto
    step generate_one 40 may call bench generate_one generate --model "$work/$writer" --n $one_n \
        --length $one_length --batch 1
    step detect_large 40 may call bench detect_large detect --model "$work/$reader" --n $texts
    step detect_base 40 may call bench detect_base detect --model "$work/$reader2" --n $texts2
    step score 40 may call bench score score --model "$work/$writer" --n $score_n
    step load 40 may call bench load load --model "$work/$writer"
    step generate_steady 180 may call bench generate_steady generate --model "$work/$writer" \
        --n $((2 * bulk_n)) --length $bulk_length --batch auto
    step kernels 60 may call bench kernels kernels
    step tune 150 may call tune
}

# What one GPU can show of several; transformers beside it.
second() {
    step models_to_compare 90 must call models "$writer" "$writer2" "$reader" "$reader2"
    step ranks_one 80 must call ranks_one "$writer" "$writer2"
    step devices 60 must call devices "$writer2"
    step ranks 30 may call bench ranks ranks
    step tp 60 may call several "$writer2"
    step compare_logprobs 90 must call compare 80 logprobs "$writer" "$reader2" $few
    step compare_detect_large 90 must call compare 60 detect "$writer2" "$reader" $lots
    step compare_detect_base 60 must call compare 40 detect "$writer2" "$reader2" $lots
    step compare_logprobs_124M 60 must call compare 50 logprobs "$writer2" "$reader2" $few
    step compare_score 60 may call compare 45 score "$writer" "$reader2" $few
    step compare_generate 220 may call compare 170 generate "$writer" "$reader2" $some
}

# The sanitizers; after tuning; where the time goes.
third() {
    step tiny_model 5 must call models tiny
    step memcheck 90 must call sanitize memcheck
    step racecheck 90 must call sanitize racecheck
    step synccheck 60 must call sanitize synccheck
    step initcheck 60 must call sanitize initcheck
    step models_tuned 90 must call models "$writer" "$writer2" "$reader"
    step generate_tuned 120 may call bench generate_tuned generate --model "$work/$writer" --n $bulk_n \
        --length $bulk_length --batch auto
    step generate_one_tuned 40 may call bench generate_one_tuned generate --model "$work/$writer" \
        --n $one_n --length $one_length --batch 1
    step detect_tuned 40 may call bench detect_tuned detect --model "$work/$reader" --n $texts
    step score_tuned 40 may call bench score_tuned score --model "$work/$writer" --n $score_n
    step profile_generate 60 may call profile profile_generate "$tandem" generate --model "$work/$writer" \
        --device cuda --n 64 --length 64 --batch 64 --quiet --out /dev/null
    step profile_texts 5 may call some_texts_file 600 510
    step profile_detect 40 may call profile profile_detect "$tandem" detect --model "$work/$reader" \
        --device cuda --quiet "$work/some.jsonl" --out /dev/null
    step gemm 90 may call bench gemm gemm --rows $rows
    step generate_124M 60 may call bench generate_124M generate --model "$work/$writer2" --n $bulk_n \
        --length $bulk_length --batch auto
}

# ---- all of it ----

echo "tests/gpu/run.sh, $parts; $tandem" | tee "$logs/steps.txt"
step environment 30 may call environment
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used \
        --format=csv -l 2 >"$logs/clocks.csv" 2>&1 &
    watcher=$!
fi
for one in $parts; do
    $one
done

collect
$python "$here/summary.py" "$logs" >"$logs/summary.txt" 2>&1 || tail -n 3 "$logs/summary.txt"
cp "$logs/summary.txt" "$logs/steps.txt" "$out"
collect
echo
cat "$logs/summary.txt"
[ -z "$undone" ] || echo "left out, what they need is not here:$undone"
echo "$(elapsed) s in all; $([ "$failed" = 0 ] && echo correct || echo NOT CORRECT, see the steps above)"
exit "$failed"
