#!/bin/sh
# sh tests/crash/long.sh [BUILD]: the long form of the crash tests, one line per figure. BUILD is a release build
# (build/); a quarter of an hour on two cores. What kills at random runs on a real disk, in TMPDIR or /var/tmp, too.
set -eu
build=${1:-build}
source=$(cd "$(dirname "$0")/../.." && pwd)
cmake --build "$build" --target crash --target tandem_faults --target tandem >/dev/null
crash() {
    "$build/tests/crash/crash" "$build/tests/crash/tandem_faults" "$source" "$@"
}
crash kill 200
TMPDIR=${TMPDIR:-/var/tmp} crash kill 200
crash points 20 detect-plain generate-gz
crash points 3 detect-gz detect-zst generate-plain generate-zst
crash sites 3
crash sites 3 detect-gz generate-plain
crash full 50
crash damage 500
crash signals 100
crash elastic 50
crash second 20
crash power 10000 4
bash "$source/tests/crash/workers.sh" "$build/tandem" "$source" 50
