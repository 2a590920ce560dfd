#!/bin/sh
# sh tools/test.sh [--no-install]: build tandem and run every test, twice.
#
# First the release build in build/, then the same tests under AddressSanitizer and UBSan in
# build-asan/, then what runs in threads under ThreadSanitizer in build-tsan/. With CI=true in the
# environment warnings are errors and clang must compile the tree without a warning too. Missing Debian
# packages are installed first (root or sudo) unless --no-install is given.

. "$(dirname "$0")/setup.sh"

werror=OFF
extra=
if [ "${CI:-}" = true ]; then
    werror=ON
    extra=clang
fi
# shellcheck disable=SC2086 # lists of words
tdm_install $BUILD_PACKAGES $TEST_PACKAGES $extra

jobs=$(nproc)

check() { # preset
    cmake --preset "$1" -DBUILD_TESTING=ON -DTDM_WERROR=$werror
    cmake --build --preset "$1"
    ctest --test-dir "$2" --output-on-failure -j "$jobs"
}

check release build
check asan build-asan

# What runs in threads, under ThreadSanitizer: loops, the pipeline, ranks, and whole jobs, whose kernels are
# too slow in this build for the rest.
cmake -S . -B build-tsan -G Ninja -DCMAKE_C_FLAGS="-fsanitize=thread -Wno-tsan" -DBUILD_TESTING=ON -DTDM_CUDA=OFF \
    -DTDM_WERROR=$werror
cmake --build build-tsan --target test_pipeline test_threads test_ranks_group test_cpu_ranks tandem
build-tsan/tests/test_pipeline
build-tsan/tests/test_threads
build-tsan/tests/test_ranks_group
build-tsan/tests/test_cpu_ranks
for options in "--threads 3" "--threads 2 --batch 1" "--threads 1 --tp 2"; do
    # shellcheck disable=SC2086 # a list of words
    build-tsan/tandem detect --model tools/demo/reader --device cpu $options --restart --out build-tsan/judged.jsonl \
        tests/golden/detector_texts.jsonl
done
build-tsan/tandem generate --model tools/demo/writer --device cpu --threads 3 --n 3 --length 20 \
    --restart --out build-tsan/written.jsonl
build-tsan/tandem generate --model tools/demo/writer --device cpu --threads 1 --tp 3 --n 3 --length 20 \
    --restart --out build-tsan/written-together.jsonl
build-tsan/tandem generate --model tools/demo/writer --device null --n 3000 --length 20 --chunk 4 \
    --restart --out build-tsan/chunks.jsonl
build-tsan/tandem generate --model tools/demo/writer --device null --devices 0,1 --n 3000 --length 20 --chunk 4 \
    --restart --out build-tsan/chunks-of-two.jsonl
build-tsan/tandem score --model tools/demo/writer --observer tools/demo/writer --device null --chunk 4KiB \
    --restart --out build-tsan/scored.jsonl tools/demo/human.jsonl

if [ "${CI:-}" = true ]; then
    cmake -S . -B build-clang -G Ninja -DCMAKE_C_COMPILER=clang -DTDM_WERROR=ON -DBUILD_TESTING=ON \
        -DTDM_CUDA=OFF
    cmake --build build-clang
fi
