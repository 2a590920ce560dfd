#!/bin/sh
# Plant each bug and see which build finds it.
#   bugs.sh FOLDER [SEEDS]    FOLDER holds planted_fast, planted_asan and planted_race; SEEDS: 10
# Prints one line a bug: what each build says in the order of first come, first served, and where that
# is nothing, with how many of SEEDS random orders it fails. Compared with what is expected below:
#   line    the emulator's or ASan's message names planted.cu:LINE
#   found   a message without a line: a canary, a leak, a pointer of the wrong side
#   wrong   wrong results          error  an error code from CUDA
#   seeds   wrong results in some orders of threads
#   missed  nothing
set -u
folder=${1:?the folder of the planted programs}
seeds=${2:-10}
status=0

outcome() # of one run: build, bug, seed
{
    text=$(TDM_EMU_DEVICES=2 TDM_EMU_SEED=$3 "$folder/planted_$1" "$2" 2>&1)
    code=$?
    case $text in
    *"emulator: "*planted.cu:[0-9]*) echo line ;;
    *AddressSanitizer*planted.cu:[0-9]* | *planted.cu:[0-9]*"runtime error"*) echo line ;;
    *"emulator: "* | *AddressSanitizer*) echo found ;;
    *"wrong result"*) echo wrong ;;
    *"CUDA error"*) echo error ;;
    *) if [ $code -eq 0 ]; then echo missed; else echo "exit $code"; fi ;;
    esac
}

verdict() # of all runs: build, bug
{
    first=$(outcome "$1" "$2" 0)
    if [ "$first" != missed ]; then
        echo "$first"
        return
    fi
    seed=1
    while [ "$seed" -le "$seeds" ]; do
        if [ "$(outcome "$1" "$2" "$seed")" != missed ]; then
            echo seeds
            return
        fi
        seed=$((seed + 1))
    done
    echo missed
}

for build in fast asan race; do
    if ! TDM_EMU_SEED=1 "$folder/planted_$build" >/dev/null; then
        echo "planted_$build fails without a bug"
        exit 1
    fi
done
printf '%-30s %-7s %-7s %-7s\n' bug fast asan race
while read -r bug fast asan race; do
    got="$(verdict fast "$bug") $(verdict asan "$bug") $(verdict race "$bug")"
    printf '%-30s %-7s %-7s %-7s' "$bug" $got
    if [ "$got" = "$fast $asan $race" ]; then
        echo
    else
        echo "  <- want $fast $asan $race"
        status=1
    fi
done <<END
missing-barrier                 wrong   wrong   line
missing-barrier-before-reuse    wrong   wrong   line
shared-out-of-bounds            found   line    line
divergent-barrier               line    line    line
deadlock                        line    line    line
weak-copy-wait                  wrong   wrong   line
missing-syncwarp                missed  missed  line
lane-gone                       line    line    line
missing-fence                   missed  missed  line
race-between-blocks             missed  missed  line
global-out-of-bounds            missed  line    line
misaligned-load                 missed  line    missed
host-pointer                    missed  missed  line
other-device                    missed  missed  line
use-after-free                  found   line    line
not-freed                       missed  found   missed
device-pointer-on-host          found   found   found
missing-sync                    wrong   wrong   wrong
missing-event-wait              wrong   wrong   wrong
malloc-in-capture               error   error   error
sync-in-capture                 error   error   error
load-in-capture                 found   found   found
much-shared                     error   error   error
many-threads                    error   error   error
END
[ "$("$folder/planted_fast" --list | wc -l)" -eq 24 ] || { echo "a bug has no line in this table"; status=1; }
exit $status
