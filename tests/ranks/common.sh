# Sourced by the tests of this folder: input of many chunks in a folder of their own, what one process
# makes of it, and the comparison.
#
#   . "$(dirname "$0")/common.sh"
#   expect_code 3 "$TANDEM" $detect
#
# Wants TANDEM (the program), TANDEM_FAULTS (tests/crash), SOURCE (the tree) and MAKE_RECORDS in the environment. A test
# that ends with 77 was skipped, and says why.
set -eu
: "${TANDEM:?}" "${TANDEM_FAULTS:?}" "${SOURCE:?}" "${MAKE_RECORDS:?}"
export TANDEM
unset RANK WORLD_SIZE SLURM_PROCID SLURM_STEP_NUM_TASKS OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE
recipes=$SOURCE/tools/recipes
reader=$SOURCE/tools/demo/reader
detect="detect --model $reader --device null --max-errors 1% --chunk 64KiB --quiet --out judged.jsonl in"
generate="generate --model $SOURCE/tools/demo/writer --device null --length 30 --n 3000 --seed 7 --quiet --out written.jsonl"
# To be stopped in the middle: the small model itself.
slow="detect --model $reader --device cpu --threads 1 --chunk 16KiB --progress none --out slow.jsonl slow"

skip() {
    echo "skipped: $*"
    exit 77
}

fail() {
    echo "failed: $*" >&2
    exit 1
}

stop_launcher() { # cluster.sh has one
    :
}

clean_up() {
    code=$?
    trap - EXIT
    if [ $code -ne 0 ] && [ $code -ne 77 ]; then
        cat "$folder"/*.log "$folder"/*/*.log >&2 2>/dev/null || true
    fi
    stop_launcher
    for pid in ${started:-}; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait
    cd /
    rm -rf "$folder"
    exit $code
}
folder=$(mktemp -d)
started= # processes that must not outlive the test
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"

# Plain and compressed files, in folders, with bad records of every kind, blank lines and CRLF.
make_input() {
    mkdir -p in/more
    "$MAKE_RECORDS" --n 3400 --length 50:500 --seed 1 --bad-every 200 --handful 1 --long 9000000 --deep 5000 >in/a.jsonl
    "$MAKE_RECORDS" --n 500 --length 50:500 --seed 2 --bad-every 250 --handful 0 --no-ids | gzip >in/b.jsonl.gz
    "$MAKE_RECORDS" --n 900 --length 50:500 --seed 3 --no-ids >in/c.jsonl
    "$MAKE_RECORDS" --n 300 --length 50:500 --seed 4 | gzip >in/more/d.jsonl.gz
    "$MAKE_RECORDS" --n 40 --length 50:500 --seed 5 >in/more/e.jsonl
    mkdir slow
    "$MAKE_RECORDS" --n 2000 --length 50:500 --seed 6 >slow/a.jsonl
    "$MAKE_RECORDS" --n 500 --length 50:500 --seed 7 | gzip >slow/b.jsonl.gz
} 2>make.log

# What is left of a run: OUT, its errors, and the lines of its manifest that count and sum up.
keep_result() { # OUT FOLDER
    [ ! -e "$1.job" ] || fail "$1.job is still there"
    rm -rf "$2"
    mkdir "$2"
    mv "$1" "$2/out"
    [ ! -e "$1.errors.jsonl" ] || mv "$1.errors.jsonl" "$2/errors"
    grep -e '"counts":' -e '"tokens":' -e '"chunks":' -e '"out":' "$1.manifest.json" >"$2/manifest"
    rm "$1.manifest.json"
}

must_equal() { # FOLDER OF-ONE-PROCESS WHAT
    diff -r "$1" "$2" >diff.log || fail "$3: not what one process makes"
    echo "same bytes: $3"
}

# Ends with the code of the last process; codes of a run with bad records are 3.
expect_code() { # CODE COMMAND...
    want=$1
    shift
    got=0
    "$@" || got=$?
    [ $got -eq "$want" ] || fail "exit code $got, want $want: $*"
}

# shellcheck disable=SC2086 # lists of words
make_references() {
    make_input
    expect_code 3 "$TANDEM" $detect 2>one.log
    keep_result judged.jsonl one-detect
    expect_code 0 "$TANDEM" $generate 2>one.log
    keep_result written.jsonl one-generate
    expect_code 0 "$TANDEM" $slow 2>one.log
    keep_result slow.jsonl one-slow
}

# tandem, but that the last of N ranks stands still where it would write its first result, until go_on. The job cannot
# be over before, however fast the others are.
hold_last() { # N
    cat >held.sh <<END
#!/bin/sh
rank=\${OMPI_COMM_WORLD_RANK:-\${SLURM_PROCID:-\${RANK:?}}}
[ "\$rank" -eq $(($1 - 1)) ] || exec "$TANDEM" "\$@"
echo \$\$ >held.pid
TDM_FAULT=pwrite:1:stop exec "$TANDEM_FAULTS" "\$@"
END
    chmod 755 held.sh
    rm -f held.pid
}

# Until another rank has a chunk of OUT.job on the disk and the last one stands still.
wait_for_chunk() { # OUT
    until { [ -s "$1.job/0.journal" ] || [ -s "$1.job/1.journal" ]; } && grep -q '^State:.T' "/proc/$(cat held.pid)/status"; do
        [ ! -s held.pid ] || kill -0 "$(cat held.pid)" || fail "the last rank of $1 was over before it could be held"
        sleep 0.02
    done 2>held.log
}

# Once the signal has reached it.
go_on() {
    until grep -q '^ShdPnd:.*[1-9a-f]' "/proc/$(cat held.pid)/status"; do
        sleep 0.02
    done
    kill -CONT "$(cat held.pid)"
}
