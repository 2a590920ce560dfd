#!/bin/sh
# sh memory.sh short | long: memory does not depend on how much is read, and bombs are refused.
#
# short, a ctest: streams of 20 and of 100 MB through a pipe may differ in their peak by a few MiB; a bomb of 64 MB
# is refused (65). long, by hand (an hour): streams of 1 and 10 GB, plain, gz and zst, with the growth
# between a tenth and the end; bombs of 10 GiB.
#
#   TANDEM=build/tandem SOURCE=. MAKE_RECORDS=build/tests/data/make_records PEAK=build/tests/data/peak \
#       sh tests/data/memory.sh long
set -eu
: "${TANDEM:?}" "${SOURCE:?}" "${MAKE_RECORDS:?}" "${PEAK:?}"
for name in TANDEM SOURCE MAKE_RECORDS PEAK; do
    eval "$name=\$(realpath \"\$$name\")"
done
unset RANK WORLD_SIZE SLURM_PROCID OMPI_COMM_WORLD_RANK PMI_RANK
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
    echo "failed: $*" >&2
    exit 1
}

detect() { # CODE OPTIONS...: of stdin; prints the peak in KiB
    want=$1 got=0
    shift
    "$PEAK" peak "$TANDEM" detect --model "$SOURCE/tools/demo/reader" --device null --quiet --threads 2 \
        --out out "$@" - 2>messages || got=$?
    [ $got -eq "$want" ] || fail "exit code $got, want $want: $(cat messages)"
    cat peak
}

clear() {
    rm -rf out out.job out.errors.jsonl out.manifest.json
}

records() { # BYTES
    "$MAKE_RECORDS" --bytes "$1" --length 200:2000 --seed 9 2>counts
}

# ---- bombs: one line without an end, and many short ones ----

zeros() { # BYTES
    head -c "$1" /dev/zero
}

lines() {
    yes '{"text":"a"}' | head -c "$1"
}

refuse_bomb() { # FILL BYTES COMPRESSOR
    kib=$("$1" "$2" | $3 | detect 65)
    grep -q 'more than 500 times as much' messages || fail "$1 by $3: $(cat messages)"
    clear
    [ "$kib" -lt $limit_kib ] || fail "a bomb of $2 bytes ($1, $3) took $kib KiB"
    echo "bomb of $2 bytes, $1, $3: refused, peak $kib KiB"
}

short() {
    limit_kib=$((256 << 10))
    for compressor in cat "gzip -1"; do
        small=$(records 20000000 | $compressor | detect 0)
        clear
        large=$(records 100000000 | $compressor | detect 0)
        clear
        echo "$compressor: peak $small KiB of 20 MB, $large KiB of 100 MB"
        [ "$large" -lt $limit_kib ] && [ $((large - small)) -lt $((24 << 10)) ] || fail "memory grows with the stream"
    done
    refuse_bomb zeros 64000000 "gzip -9"
    refuse_bomb lines 64000000 "gzip -9"
}

# Resident memory beside what was read, several times a second, until the process is over.
watch() {
    until pid=$(pgrep -n -P "$1" tandem); do sleep 0.05; done
    while rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null) && [ -n "$rss" ]; do
        echo "$(sed -n 's/^rchar: //p' "/proc/$pid/io" 2>/dev/null) $rss"
        sleep 0.2
    done
}

long_stream() { # BYTES COMPRESSOR
    start=$(date +%s)
    records "$1" | $2 | "$PEAK" peak "$TANDEM" detect --model "$SOURCE/tools/demo/reader" --device null --quiet --out out - &
    peak_pid=$!
    watch $peak_pid >samples
    wait $peak_pid || fail "$2, $1 bytes: exit code $?"
    # samples: "BYTES-READ KiB"
    end=$(awk 'NF == 2 {n = $1} END {print n}' samples)
    tenth=$(awk -v end="$end" 'NF == 2 && $1 <= end / 10 && $2 > m {m = $2} END {print m}' samples)
    late=$(awk -v end="$end" 'NF == 2 && $2 > m {m = $2} END {print m}' samples)
    echo "$2, $1 bytes: peak $(cat peak) KiB, $tenth KiB up to a tenth, $late KiB to the end, $(($(date +%s) - start)) s"
    [ "$(wc -l <out)" -eq "$(sed 's/lines \([0-9]*\).*/\1/' counts)" ] || fail "$2: $(wc -l <out) results of $(cat counts)"
    clear
}

long() {
    limit_kib=$((256 << 10))
    for bytes in 1000000000 10000000000; do
        for compressor in cat "gzip -1" "zstd -q -1"; do
            long_stream $bytes "$compressor"
        done
    done
    for fill in zeros lines; do
        refuse_bomb $fill 10737418240 "gzip -9"
        refuse_bomb $fill 10737418240 "zstd -q -3"
    done
}

case ${1:-} in
short | long) "$1" ;;
*) fail "want short or long" ;;
esac
