#!/bin/sh
# sh tests/gpu/emulated.sh BUILD [OUT]: run.sh on the emulated device, with tiny models, to know that the script
# works. BUILD is a build folder without CUDA or with it; the emulated programs are in BUILD/tests/emu.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=$(cd "$1/tests/emu" && pwd)
python=${TDM_GPU_PYTHON:-python3}
call_seconds=570
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What must be has time in one call, whatever the rest does.
awk -v most=$call_seconds '
    /^[a-z]*\(\) \{$/ { part = $1 }
    $1 == "step" && $4 == "must" { sum[part] += $3 }
    END { for (part in sum) if (sum[part] > most) { print part, sum[part], "s of what must be"; bad = 1 }; exit bad }
' "$here/run.sh"

mkdir "$scratch/bin"
for name in row_kernels lay_out attention_kernels sample_kernels stats_kernels backend_cuda backend_memory \
    gemm_rows gemm_shapes rank_kernels backend_ranks emulator; do
    ln -s "$programs/test_${name}_fast" "$scratch/bin/gpu_test_$name"
done
ln -s "$programs/logprobs_fast" "$scratch/bin/logprobs"
ln -s "$programs/ranks_one_fast" "$scratch/bin/ranks_one"
ln -s "$programs/ptx_vectors_fast" "$scratch/bin/ptx_vectors"
ln -s "$programs/tandem_emu_fast" "$scratch/bin/tandem"
TDM_EMU_DEVICES=2 TDM_GPU_SMALL=1 TDM_GPU_BIN=$scratch/bin TDM_GPU_SECONDS=$((10 * call_seconds)) \
    sh "$here/run.sh" "${2:-$scratch/out}" all

# A comparison that cannot be met fails.
command -v "$python" >/dev/null || exit 0
"$python" "$here/agreement_test.py" "$here/../../tools"
"$python" -c 'import torch, transformers' 2>/dev/null || exit 0
compare() { # options
    "$python" "$here/../../tools/compare_hf.py" --tandem "$scratch/bin/tandem" --device cuda --peer-device cpu \
        --jobs detect --detector tiny-detector --texts 2 --words 9 --batches 2 "$@" >"$scratch/compared" 2>&1
}
if compare --most-probability 1e-12 || ! grep '^NOT AS ASKED: .* apart, may be 1.00e-12$' "$scratch/compared"; then
    cat "$scratch/compared"
    exit 1
fi
if compare --most-probability 1 --budget 0 || ! grep '^NOT AS ASKED: .* to compare with nothing$' "$scratch/compared"; then
    cat "$scratch/compared"
    exit 1
fi
