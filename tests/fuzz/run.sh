#!/bin/sh
# sh tests/fuzz/run.sh [EXECUTIONS [TARGET...]]: the long form of the fuzz tests.
#
# Builds the libFuzzer targets with clang under ASan and UBSan in build-fuzz/ and runs each from its
# committed corpus (default 10,000,000 executions). A crash, a leak, a hang of more than a second or
# more than 2 GiB of memory stops the run and leaves the input in build-fuzz/. What the fuzzer learns
# goes into build-fuzz/found/TARGET; `-merge=1` of libFuzzer turns it into a small corpus.
# Needs: clang, libclang-rt-14-dev.
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-10000000}
[ $# -eq 0 ] || shift
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls fuzz_*.c | sed 's/\.c$//')
cd build-fuzz
for target in "$@"; do
    mkdir -p "found/$target"
    echo "== $target: $runs executions"
    ASAN_OPTIONS=detect_leaks=1 "tests/$target" -runs="$runs" -timeout=1 -rss_limit_mb=2048 \
        -print_final_stats=1 -max_len=1024 "found/$target" "../tests/fuzz/corpus/$target" \
        >"$target.log" 2>&1 || {
        tail -40 "$target.log"
        exit 1
    }
    grep -E 'number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb' "$target.log"
done
