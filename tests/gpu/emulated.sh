#!/bin/sh
# sh tests/gpu/emulated.sh BUILD [OUT]: run.sh on the emulated device, with tiny models, to know that the script
# works. BUILD is a build folder without CUDA or with it; the emulated programs are in BUILD/tests/emu.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=$(cd "$1/tests/emu" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
for name in row_kernels attention_kernels sample_kernels stats_kernels backend_cuda backend_memory gemm_rows \
    emulator; do
    ln -s "$programs/test_${name}_fast" "$scratch/bin/gpu_test_$name"
done
ln -s "$programs/test_gemm_shapes_fast" "$scratch/bin/gpu_test_gemm_shapes"
ln -s "$programs/logprobs_fast" "$scratch/bin/logprobs"
ln -s "$programs/ptx_vectors_fast" "$scratch/bin/ptx_vectors"
ln -s "$programs/tandem_emu_fast" "$scratch/bin/tandem"
TDM_GPU_SMALL=1 TDM_GPU_BIN=$scratch/bin sh "$here/run.sh" "${2:-$scratch/out}" all
