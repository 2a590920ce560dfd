#!/bin/sh
# sh tests/coverage.sh: line and branch coverage of tokenizer/, host/ and detector/ by the test suite.
#
# Builds with gcov counters in build-coverage/, runs ctest and prints gcovr's table. Exit 1 when a test failed.
# Needs: gcovr.
set -eu
cd "$(dirname "$0")/.."
cmake -S . -B build-coverage -G Ninja -DTDM_COVERAGE=ON -DTDM_CUDA=OFF -DBUILD_TESTING=ON >/dev/null
cmake --build build-coverage >/dev/null
find build-coverage -name '*.gcda' -delete
failed=0
ctest --test-dir build-coverage -j "$(nproc)" >build-coverage/ctest.log || failed=1
[ "$failed" = 0 ] || tail -20 build-coverage/ctest.log >&2
gcovr -r . --object-directory build-coverage -f tokenizer/ -f host/ -f detector/ --exclude-unreachable-branches -s
exit "$failed"
