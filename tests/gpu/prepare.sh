#!/bin/sh
# sh tests/gpu/prepare.sh [FOLDER]: build all that run.sh runs, where no GPU is needed, and pack it into
# FOLDER (build-gpu-pack): programs for sm_90 (TDM_GPU_ARCH=90-real), small libraries, scripts, the commit.
#
# cuBLASLt, NCCL (542 and some 200 MB) and the driver are the GPU machine's own; run.sh looks for the libraries. Needs nvcc,
# nccl.h and what a build of tandem needs.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
pack=${1:-$root/build-gpu-pack}
build=$root/build-gpu
most_mib=64

cmake -S "$root" -B "$build" -G Ninja -DTDM_CUDA=ON -DBUILD_TESTING=ON \
    -DCMAKE_CUDA_ARCHITECTURES="${TDM_GPU_ARCH:-90-real}"
cmake --build "$build" --target tandem logprobs ranks_one gpu_tests

rm -rf "$pack"
mkdir -p "$pack/bin" "$pack/lib" "$pack/tools"
cp "$build/tandem" "$pack/bin"
find "$build/tests/gpu" -maxdepth 1 -type f -perm -u+x -exec cp {} "$pack/bin" \;
strip "$pack"/bin/*
for program in "$pack"/bin/*; do
    ldd "$program"
done | awk '$3 ~ /lib(cjson|utf8proc|cmocka)/ {print $3}' | sort -u | xargs -I{} cp -L {} "$pack/lib"
cp "$root/tools/compare_hf.py" "$root/tools/agreement.py" "$pack/tools"
cp "$root"/tests/gpu/*.sh "$root/tests/gpu/summary.py" "$pack"
git -C "$root" log -1 --format='%H %cI' >"$pack/commit" 2>/dev/null || echo unknown >"$pack/commit"
if ! git -C "$root" diff --quiet HEAD 2>/dev/null; then
    echo "and changes that are not committed" >>"$pack/commit"
fi

mib=$(du -sm "$pack" | cut -f 1)
echo "$pack: $mib MiB, commit $(head -n 1 "$pack/commit")"
if [ "$mib" -ge "$most_mib" ]; then
    echo "prepare.sh: more than $most_mib MiB" >&2
    exit 1
fi
