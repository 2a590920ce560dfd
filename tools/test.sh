#!/bin/sh
# sh tools/test.sh [--no-install]: build tandem and run every test, twice.
#
# First the release build in build/, then the same tests under AddressSanitizer and UBSan in
# build-asan/. With CI=true in the environment warnings are errors and clang must compile the tree
# without a warning too. Missing Debian packages are installed first (root or sudo) unless
# --no-install is given.

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

if [ "${CI:-}" = true ]; then
    cmake -S . -B build-clang -G Ninja -DCMAKE_C_COMPILER=clang -DTDM_WERROR=ON -DBUILD_TESTING=ON \
        -DTDM_CUDA=OFF
    cmake --build build-clang
fi
