#!/bin/sh
# sh accounting.sh LINES [OPTIONS OF make_records]: a file with exactly 1 % bad lines of 16 kinds, through detect and
# tokenize. Every line must come out as a result, as an error with its line, offset and class, or as blank.
#
# The short form is a ctest. The long one, by hand, has over-long lines beyond the default limit and a nesting
# of a million, and shows what bad lines cost beside a clean file, in CPU time and in turn, since other work may run:
#
#   TANDEM=build/tandem SOURCE=. MAKE_RECORDS=build/tests/data/make_records RATE=yes \
#       sh tests/data/accounting.sh 1000000
set -eu
: "${TANDEM:?}" "${SOURCE:?}" "${MAKE_RECORDS:?}"
for name in TANDEM SOURCE MAKE_RECORDS; do
    eval "$name=\$(realpath \"\$$name\")"
done
lines=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset RANK WORLD_SIZE SLURM_PROCID OMPI_COMM_WORLD_RANK PMI_RANK

fail() {
    echo "failed: $*" >&2
    exit 1
}

"$MAKE_RECORDS" --n "$lines" --seed 8 --bad-every 100 --errors expected "$@" >some_bad.jsonl 2>counts
# "lines 1000 ok 987 bad 10 blank 3 bytes 12345"
read -r _ n_lines _ n_ok _ n_bad _ n_blank _ _ <counts
[ "$n_bad" -eq $((lines / 100)) ] && [ $((n_ok + n_bad + n_blank)) -eq "$n_lines" ] || fail "make_records: $(cat counts)"

run() { # COMMAND MODEL CODE MAX-ERRORS [OPTIONS...]
    command=$1 model=$SOURCE/tools/demo/$2 code=$3 max_errors=$4
    shift 4
    got=0
    "$TANDEM" "$command" --model "$model" "$@" --max-errors "$max_errors" --quiet --out out some_bad.jsonl 2>messages || got=$?
    [ $got -eq "$code" ] || fail "$command --max-errors $max_errors: exit code $got, want $code: $(cat messages)"
}

check() { # COMMAND
    sed 's/.*, "line": \([0-9]*\), "offset": \([0-9]*\), .*"class": "\([a-z0-9-]*\)".*/\1 \2 \3/' out.errors.jsonl >found
    cmp -s expected found || fail "$1: errors: $(diff expected found | head -5)"
    [ "$(wc -l <out)" -eq "$n_ok" ] || fail "$1: $(wc -l <out) results, want $n_ok"
    grep -q "\"in\": $n_lines, \"ok\": $n_ok, \"bad\": $n_bad, \"skipped\": $n_blank" out.manifest.json ||
        fail "$1: counts: $(grep counts out.manifest.json)"
    echo "$1: $n_lines lines = $n_ok results + $n_bad errors of the right line, offset and class + $n_blank blank"
    rm out out.errors.jsonl out.manifest.json
}

limit=${MAX_LINE:+--max-line $MAX_LINE}
# shellcheck disable=SC2086 # a list of words
{
    run detect reader 65 0.9% --device null $limit
    [ ! -e out ] || fail "detect: a result in spite of too many errors"
    run detect reader 3 1.1% --device null $limit # goes on from there
    check detect
    run tokenize reader 3 "$n_bad" $limit
    check tokenize
}
[ -n "${RATE:-}" ] || exit 0

"$MAKE_RECORDS" --n "$lines" --seed 8 "$@" >clean.jsonl 2>/dev/null
cpu_ms() { # FILE: of the whole command, all threads
    "$TANDEM" detect --model "$SOURCE/tools/demo/reader" --device null --quiet --max-errors 2% --out out "$1" || [ $? -eq 3 ]
    rm -f out out.errors.jsonl out.manifest.json
    times >times
    awk 'NR == 2 {split($1, u, /[ms]/); split($2, s, /[ms]/)
        printf "%d\n", (60 * (u[1] + s[1]) + u[2] + s[2]) * 1000}' times
}
clean=0 bad=0
for turn in clean bad bad clean clean bad bad clean; do
    case $turn in
    clean) ms=$(cpu_ms clean.jsonl) clean=$((clean + ms)) ;;
    bad) ms=$(cpu_ms some_bad.jsonl) bad=$((bad + ms)) ;;
    esac
    echo "$turn: $ms ms of CPU time, $((lines * 1000 / ms)) lines/s and core"
done
echo "rate with bad lines / rate of the clean file: $((clean * 1000 / bad)) / 1000"
[ $((clean * 100)) -ge $((bad * 95)) ] || fail "bad lines cost more than 5 %"
