# shellcheck shell=sh disable=SC2154,SC2034 # variables that run.sh sets and reads
# tests/gpu/steps.sh - how run.sh runs its steps; read by it with `.`.
#
#   step NAME SECONDS must|may COMMAND...   run, into $logs/NAME.log, for at most so long; go on whatever comes.
#                                           must: the whole run fails when this does.
#                                           `call FUNCTION ...` is a function of work.sh
#   skip NAME WHY                           say that a step was left out
#   collect                                 put everything into $out as it is now
#
# No step starts that has less than a tenth of its time left; one that has less than its time gets the rest.
# $slack multiplies the time of a step. $undone: steps that must be and could not be here, by name.

failed=0
undone=

elapsed() {
    echo $(($(date +%s) - began))
}

note() { # name state seconds detail
    printf '%-28s %-8s %5s s  %s\n' "$1" "$2" "$3" "$4" | tee -a "$logs/steps.txt"
}

skip() {
    note "$1" skipped 0 "$2"
}

step() {
    name=$1 limit=$(($2 * slack)) kind=$3
    shift 3
    left=$((seconds - $(elapsed)))
    if [ "$left" -lt $((limit / 10 + 1)) ]; then
        skip "$name" "no time left"
        [ "$kind" = may ] || failed=1
        return 0
    fi
    [ "$left" -ge "$limit" ] || limit=$left
    if [ "$1" = call ]; then
        shift
        set -- sh "$here/work.sh" "$@"
    fi
    start=$(date +%s)
    code=0
    timeout -k 5 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null || code=$?
    spent=$(($(date +%s) - start))
    case $code in
    0) note "$name" ok "$spent" "" ;;
    77) note "$name" skipped "$spent" "$(tail -n 1 "$logs/$name.log" | cut -c 1-100)" ;;
    124 | 137) note "$name" "timeout" "$spent" "after $limit s" ;;
    *) note "$name" FAILED "$spent" "exit $code: $(tail -n 1 "$logs/$name.log" | cut -c 1-100)" ;;
    esac
    case $kind$code in
    must0 | may*) ;;
    must77) undone="$undone $name" ;;
    *) failed=1 ;;
    esac
    collect
    return 0
}

# Few and small files: the rows of all tables, the table of algorithms, the vectors, and a tar of all logs.
collect() {
    cat "$logs"/*.jsonl 2>/dev/null >"$out/results.jsonl" || true
    for file in gemm_table.inc ptx_golden.txt; do
        [ ! -s "$logs/$file" ] || cp "$logs/$file" "$out/$file"
    done
    tar -C "$logs" -czf "$out/logs.tar.gz" . 2>/dev/null || true
}
