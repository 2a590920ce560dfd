#!/usr/bin/env bats
# tandem tokenize from outside: records in, records out, and everything that can go wrong on the way.
# The vocabulary is the 256 bytes, two merges and <|endoftext|>.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    mkdir model
    printf '#version: 0.2\nh e\nl l\n' > model/merges.txt
    printf '{"id": 1, "text": "hello"}\n{"text": "he"}\n' > good.jsonl
}

tokenize() {
    "$TANDEM" tokenize --model model "$@"
}

# Exit code $1, and a last line on stderr that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr tokenize "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
}

# What is in the folder besides what setup made.
made() {
    ls -A | grep -vx -e model -e good.jsonl || true
}

@test "text to ids and back" {
    run --separate-stderr tokenize good.jsonl
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = '{"id": 1, "ids": [256, 257, 78]}' ]
    [ "${lines[1]}" = '{"id": "good.jsonl:2", "ids": [256]}' ]
    [ "${#lines[@]}" -eq 2 ]
    tokenize good.jsonl --out ids.jsonl --quiet
    run --separate-stderr tokenize --decode ids.jsonl
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = '{"id": 1, "text": "hello"}' ]
    [ "${lines[1]}" = '{"id": "good.jsonl:2", "text": "he"}' ]
}

@test "stdin, several files, and no operand at all" {
    run --separate-stderr tokenize - < good.jsonl
    [ "${lines[1]}" = '{"id": "-:2", "ids": [256]}' ]
    run --separate-stderr tokenize < good.jsonl
    [ "${lines[1]}" = '{"id": "-:2", "ids": [256]}' ]
    run --separate-stderr tokenize good.jsonl good.jsonl
    [ "${#lines[@]}" -eq 4 ]
}

@test "any bytes survive: ids of half a character decode with U+FFFD" {
    printf '{"id": 1, "ids": [127]}\n' > half.jsonl
    run --separate-stderr tokenize --decode half.jsonl
    [ "$status" -eq 0 ]
    [ "$output" = '{"id": 1, "text": "\ufffd"}' ]
}

@test "special tokens are plain text unless asked for" {
    printf '{"id": 1, "text": "<|endoftext|>"}\n' > special.jsonl
    run --separate-stderr tokenize special.jsonl
    [[ $output != *258* ]]
    run --separate-stderr tokenize --special-tokens parse special.jsonl
    [ "$output" = '{"id": 1, "ids": [258]}' ]
}

@test "CRLF, blank lines, a byte order mark, no last newline" {
    printf '\xef\xbb\xbf{"text": "he"}\r\n\r\n\n{"text": "ll"}' > odd.jsonl
    run --separate-stderr tokenize odd.jsonl --json
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = '{"id": "odd.jsonl:1", "ids": [256]}' ]
    [ "${lines[1]}" = '{"id": "odd.jsonl:4", "ids": [257]}' ]
    [[ $stderr == *'"in": 4, "ok": 2, "bad": 0, "skipped": 2'* ]]
}

@test "an empty file is no error" {
    : > empty.jsonl
    run --separate-stderr tokenize empty.jsonl --out out.jsonl
    [ "$status" -eq 0 ]
    [ -e out.jsonl ]
    [ ! -s out.jsonl ]
}

@test "a missing input, model or merge list: 66" {
    refuses 66 "nowhere.jsonl: No such file" good.jsonl nowhere.jsonl --out out.jsonl
    refuses 66 "model: " model --out out.jsonl # a folder without records
    run --separate-stderr "$TANDEM" tokenize --model nowhere good.jsonl
    [ "$status" -eq 66 ]
    [[ $stderr == *nowhere* ]]
    [ -z "$(made)" ]
}

@test "an output that cannot be created: 73" {
    refuses 73 "missing/out.jsonl: its folder cannot be opened: No such file" good.jsonl --out missing/out.jsonl
    refuses 73 "model: is a folder" good.jsonl --out model
    [ -z "$(made)" ]
    echo mine > out.jsonl.job
    refuses 73 "out.jsonl.job" good.jsonl --out out.jsonl
    [ "$(cat out.jsonl.job)" = mine ]
}

@test "a full disk: 74, for stdout and for --out" {
    [ -w /dev/full ] || skip "no /dev/full"
    refuses 74 "/dev/full: writing: No space left on device (i/o)" good.jsonl --out /dev/full
    run --separate-stderr bash -c '"$TANDEM" tokenize --model model good.jsonl > /dev/full'
    [ "$status" -eq 74 ]
    [[ $stderr == *"stdout: writing: No space left on device (i/o)"* ]]
}

@test "a file size limit in the middle of the output: 74, and the same command goes on" {
    yes '{"id": 1, "text": "hello hello hello"}' | head -20000 > many.jsonl
    tokenize many.jsonl > want.jsonl
    run --separate-stderr bash -c 'ulimit -f 200; trap "" XFSZ
        exec "$TANDEM" tokenize --model model many.jsonl --out out.jsonl --chunk 64KiB'
    [ "$status" -eq 74 ]
    [[ ${stderr_lines[-1]} == *"out.jsonl.job/"*"File too large"* ]] || { echo "$stderr"; false; }
    [ ! -e out.jsonl ]
    tokenize many.jsonl --out out.jsonl --chunk 64KiB
    cmp want.jsonl out.jsonl
}

@test "a closed pipe: 74 without a word" {
    yes '{"id": 1, "text": "hello hello hello"}' | head -20000 > many.jsonl
    run --separate-stderr bash -c '"$TANDEM" tokenize --model model many.jsonl | head -1; exit ${PIPESTATUS[0]}'
    [ "$status" -eq 74 ]
    [ "${#lines[@]}" -eq 1 ]
    [ -z "$stderr" ] || { echo "$stderr"; false; }
}

# Every class of bad record, one a line, between good ones.
bad_lines() {
    echo '{"id": 1, "text": "good"}'
    printf '{"id": 2, "text": "\xc3\x28"}\n'
    echo '{"id": 3, "text": "\ud800"}'
    echo '{"id": 4, "text": "cut'
    echo '{"id": 5, "text": NaN}'
    echo '["not", "an", "object"]'
    echo '{"id": 7}'
    echo '{"id": 8, "text": 8}'
    echo '{"id": 9, "text": ""}'
    echo '{"id": 10, "text": "a\u0000"}'
    printf '{"id": 11, "text": "a\0b"}\n'
    printf '{"id": 12, "text": "a\tb"}\n'
    echo '{"id": 13, "text": "a", "text": "b"}'
    printf '{"id": 14, "text": "%0600d"}\n' 0
    echo
    echo '{"id": 16, "text": "good"}'
}

@test "each bad record has its class, line, offset and id in OUT.errors.jsonl" {
    bad_lines > bad.jsonl
    run --separate-stderr tokenize bad.jsonl --out out.jsonl --max-line 500 --max-errors 13 --json
    [ "$status" -eq 3 ]
    [ "$(wc -l < out.jsonl)" -eq 2 ]
    [[ $output == *'"in": 16, "ok": 2, "bad": 13, "skipped": 1'* ]]
    [[ $output == *'"utf8": 2, "json": 2, "not-object": 1, "no-text": 1, "text-type": 1, "empty": 1, "nul": 2, "control": 1, "duplicate-key": 1, "line-too-long": 1'* ]]
    [[ $stderr == *"13 of 15 records are bad"*"out.jsonl.errors.jsonl"* ]]
    local line=2 offset
    while read -r class id; do
        offset=$(head -n $((line - 1)) bad.jsonl | wc -c)
        grep -F "{\"file\": \"bad.jsonl\", \"line\": $line, \"offset\": $offset, \"id\": $id, \"class\": \"$class\", \"detail\": \"" \
            out.jsonl.errors.jsonl || { echo "line $line"; cat out.jsonl.errors.jsonl; false; }
        line=$((line + 1))
    done <<< 'utf8 null
utf8 null
json null
json null
not-object null
no-text 7
text-type 8
empty 9
nul null
nul null
control null
duplicate-key null
line-too-long null'
    [ "$line" -eq 15 ]
    [ "$(wc -l < out.jsonl.errors.jsonl)" -eq 13 ]
}

@test "without --out the bad records go to stderr" {
    bad_lines > bad.jsonl
    run --separate-stderr tokenize bad.jsonl --max-line 500 --max-errors 100%
    [ "$status" -eq 3 ]
    [ "${#lines[@]}" -eq 2 ]
    [ "$(grep -c '^{"file": "bad.jsonl", ' <<< "$stderr")" -eq 13 ]
}

@test "--max-errors 0, the default, stops at the first bad record and says how to go on" {
    bad_lines > bad.jsonl
    refuses 65 "bad.jsonl:2: utf8: " bad.jsonl --out out.jsonl
    [[ ${stderr_lines[-1]} == *"--max-errors"* ]]
    [ ! -e out.jsonl ]
}

@test "--max-errors N stops at once, P% at the end; the same command with more goes on" {
    bad_lines > bad.jsonl
    refuses 65 "bad.jsonl:14: line-too-long: " bad.jsonl --max-line 500 --max-errors 12
    refuses 65 "13 of 15 records are bad, --max-errors 86%" bad.jsonl --max-line 500 --max-errors 86%
    local -r same="bad.jsonl --out out.jsonl --max-line 500 --chunk 40"
    refuses 65 "bad.jsonl:14: line-too-long: " $same --max-errors 12
    refuses 65 "bad.jsonl:14: line-too-long: " $same --max-errors 12 # those that are committed count
    refuses 65 "13 of 15 records are bad" $same --max-errors 86%
    [ ! -e out.jsonl ]
    run --separate-stderr tokenize $same --max-errors 87% --json
    [ "$status" -eq 3 ]
    [[ $output == *'"in": 16, "ok": 2, "bad": 13, "skipped": 1,'* ]] || { echo "$output"; false; }
    [ "$(wc -l < out.jsonl)" -eq 2 ]
    [ "$(wc -l < out.jsonl.errors.jsonl)" -eq 13 ]
}

@test "ids that are no ids" {
    printf '{"id": 1, "ids": [1, 2, 999]}\n{"id": 2, "ids": [1, -2]}\n{"id": 3, "ids": "x"}\n{"id": 4}\n{"id": 5, "ids": []}\n' > bad.jsonl
    run --separate-stderr tokenize --decode bad.jsonl --out out.jsonl --max-errors 5
    [ "$status" -eq 3 ]
    grep -F '"id": 1, "class": "text-type", "detail": "ids[2] is 999, the vocabulary ends at 258"' out.jsonl.errors.jsonl
    grep -F '"id": 2, "class": "text-type", "detail": "ids[1] ' out.jsonl.errors.jsonl
    grep -F '"id": 3, "class": "text-type"' out.jsonl.errors.jsonl
    grep -F '"id": 4, "class": "no-text"' out.jsonl.errors.jsonl
    grep -F '"id": 5, "class": "empty"' out.jsonl.errors.jsonl
}

@test "other field names" {
    printf '{"nr": 5, "body": "he"}\n' > keys.jsonl
    run --separate-stderr tokenize keys.jsonl --text-key body --id-key nr
    [ "$output" = '{"id": 5, "ids": [256]}' ]
}

@test "--progress and --quiet" {
    run --separate-stderr tokenize good.jsonl --progress json
    [[ ${stderr_lines[-1]} == '{"event": "finish", "command": "tokenize", "unit": "records", '*'"done": 2,'* ]]
    run --separate-stderr tokenize good.jsonl --progress none
    [ -z "$stderr" ]
    run --separate-stderr tokenize good.jsonl --quiet
    [ -z "$stderr" ]
    run --separate-stderr tokenize good.jsonl
    [[ $stderr == "tandem tokenize: 2 records in 0:00, "* ]]
}

@test "--json: alone on stdout when the data goes to a file" {
    run --separate-stderr tokenize good.jsonl --out out.jsonl --json
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == '{"command": "tokenize", "state": "complete", "in": 2, "ok": 2, "bad": 0, "skipped": 0, "by_class": {}, "before": 0, "seconds": '*', "tokens": 4, '*'"token_hash": "'* ]]
}

@test "--out that names stdout or a device: the summary goes to stderr, no errors file is promised" {
    printf '{"text": "he"}\n{"text": 1}\n' > bad.jsonl
    run --separate-stderr bash -c \
        '"$TANDEM" tokenize --model model bad.jsonl --out /dev/stdout --json --max-errors 1 | cat'
    [ "$output" = '{"id": "bad.jsonl:1", "ids": [256]}' ]
    [[ $stderr == *'{"command": "tokenize", "state": "stream", "in": 2,'* ]]
    [[ $stderr != *errors.jsonl* ]]
    run --separate-stderr tokenize bad.jsonl --out /dev/null --json --max-errors 1
    [ -z "$output" ]
    [[ $stderr == *'{"command": "tokenize", "state": "stream", "in": 2,'* ]]
    [[ $stderr != *errors.jsonl* ]]
}

@test "a file that is opened never takes the place of a closed stderr or stdout" {
    mkfifo results
    printf '{"text": "good"}\n{"text": 5}\n' > mixed.jsonl
    cat results > got &
    run bash -c "'$TANDEM' tokenize --model model --max-errors 1 --out results mixed.jsonl 2>&-"
    wait
    [ "$status" -eq 74 ] # the error record cannot be said
    [ "$(grep -c ids got)" -eq 1 ]
    [ "$(wc -l < got)" -eq 1 ]
    run bash -c "'$TANDEM' tokenize --model model mixed.jsonl >&- 2>&-"
    [ "$status" -eq 74 ]
    run bash -c "'$TANDEM' tokenize --model model <&-"
    [ "$status" -eq 74 ]
    "$TANDEM" tokenize --model model --max-errors 1 --out all.jsonl mixed.jsonl --json <&- >&- 2>&- || [ $? -eq 3 ]
    [ "$(wc -l < all.jsonl)" -eq 1 ]
}

@test "the token hash knows where a record ends" {
    printf '{"text": "hell"}\n{"text": "he"}\n' > one.jsonl
    printf '{"text": "he"}\n{"text": "llhe"}\n' > two.jsonl
    hash() {
        tokenize "$1" --json --quiet 2>&1 >/dev/null | sed 's/.*"token_hash": "\(.*\)".*/\1/'
    }
    [ "$(hash one.jsonl)" != "$(hash two.jsonl)" ]
}

# tandem tokenize of the pipe, with the handling of signals that a terminal's shell would leave it.
start() {
    env --default-signal=INT,HUP,USR1 "$TANDEM" tokenize --model model "$@" 2> said 7>&- &
    pid=$!
}

# $pid ends soon, with one of these exit codes.
ends() {
    local code=0
    timeout 20 tail --pid=$pid -f /dev/null || { kill -KILL $pid; echo "it did not end"; }
    wait $pid || code=$?
    [[ " $* " == *" $code "* ]] || { echo "exit $code"; cat said; false; }
}

@test "one signal ends a run whose output nobody takes" {
    mkfifo pipe
    exec 7<> pipe
    yes '{"id": 1, "text": "hello hello hello"}' | head -20000 > many.jsonl
    start many.jsonl --out pipe
    until grep -q '^SigCgt:.*[4-7c-f]...$' /proc/$pid/status; do kill -0 $pid; done # it hears it
    sleep 0.5
    kill -TERM $pid
    ends 75
    grep -F "(stopped)" said
}

@test "a signal that was ignored stays ignored" {
    mkfifo pipe
    env --ignore-signal=HUP "$TANDEM" tokenize --model model pipe --out out.jsonl 2> said &
    pid=$!
    exec 7> pipe
    kill -HUP $pid
    cat good.jsonl >&7
    exec 7>&-
    ends 0
    [ "$(wc -l < out.jsonl)" -eq 2 ]
}

@test "a second signal, of whatever kind, kills" {
    mkfifo pipe
    exec 7<> pipe
    yes '{"id": 1, "text": "hello hello hello"}' | head -20000 > many.jsonl
    start many.jsonl --out pipe
    sleep 0.5
    kill -STOP $pid
    kill -TERM $pid
    kill -HUP $pid
    kill -CONT $pid
    ends 129 143 # 128 + the number of the one that came second
}

@test "a result comes before the next record is sent" {
    mkfifo to from
    exec 7<> to 8<> from # read and write: waits for nobody
    "$TANDEM" tokenize --model model to --quiet > from 2> said 7>&- 8>&- &
    pid=$!
    for i in 1 2 3; do
        printf '{"id": %d, "text": "he"}\n\n' $i >&7
        read -r -t 20 line <&8
        [ "$line" = '{"id": '$i', "ids": [256]}' ]
    done
    printf '{"id": 4, "te' >&7
    sleep 0.1
    printf 'xt": "ll"}\n' >&7
    read -r -t 20 line <&8
    [ "$line" = '{"id": 4, "ids": [257]}' ]
    exec 7>&-
    ends 0
    [ ! -s said ]
}

@test "on a terminal an error record does not stand behind the bar" {
    command -v script > /dev/null || skip "script is not there"
    { yes '{"text": "hello hello hello"}' | head -300000; echo '{"text": 1}'; echo '{"text": "he"}'; } > bad.jsonl
    TERM=xterm script -qec '"$TANDEM" tokenize --model model bad.jsonl --progress bar --max-errors 1 > /dev/null' \
        /dev/null < /dev/null > seen || true
    grep -q $'records (' seen # the bar was there
    grep -q $'\r\033\\[K{"file": "bad.jsonl"' seen
}
