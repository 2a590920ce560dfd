#!/bin/sh
# sh tests/coverage.sh: line and branch coverage of tokenizer/, host/ and detector/ by the test suite.
#
# Builds with gcov counters in build-coverage/, runs ctest and prints gcovr's table.
# Needs: gcovr.
set -eu
cd "$(dirname "$0")/.."
cmake -S . -B build-coverage -G Ninja -DTDM_COVERAGE=ON -DBUILD_TESTING=ON >/dev/null
cmake --build build-coverage >/dev/null
find build-coverage -name '*.gcda' -delete
ctest --test-dir build-coverage -j "$(nproc)" >build-coverage/ctest.log || tail -20 build-coverage/ctest.log
gcovr -r . --object-directory build-coverage -f tokenizer/ -f host/ -f detector/ --exclude-unreachable-branches -s
