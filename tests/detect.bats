#!/usr/bin/env bats
# tandem detect from outside: records in, probabilities out, and everything that can go wrong on the
# way. Judges with the demo's reader (TDM_READER, TDM_WRITER: folders to take instead).

setup() {
    bats_require_minimum_version 1.5.0
    reader=${TDM_READER:-$TDM_SOURCE_DIR/tools/demo/reader}
    writer=${TDM_WRITER:-$TDM_SOURCE_DIR/tools/demo/writer}
    [ -f "$reader/config.json" ] || skip "there is no model in $reader"
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    printf '{"id": 2.50, "text": "And it came to pass"}\n{"text": "in those days"}\n' > good.jsonl
}

detect() {
    "$TANDEM" detect --model "$reader" --device cpu "$@"
}

# Exit code $1, and a last line on stderr that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr detect "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
}

# What is in the folder besides what setup made.
made() {
    ls -A | grep -vx good.jsonl || true
}

number='-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?'
fields="\"fake\": $number, \"real\": $number, \"logit_fake\": $number, \"logit_real\": $number, \"all_tokens\": [0-9]+, \"used_tokens\": [0-9]+}"

# Lines of $1 random-looking texts of many lengths.
many_texts() {
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf "{\"id\": %d, \"text\": \"", i
            for (k = 0; k <= i * 37 % 90; k++) printf "%sthe word%d", k ? " " : "", (i * k) % 11
            print "\"}"
        }
    }'
}

@test "one result a record, in order, the id as it was written" {
    run --separate-stderr detect good.jsonl
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 2 ]
    [[ ${lines[0]} =~ ^'{"id": 2.50, '$fields$ ]]
    [[ ${lines[1]} =~ ^'{"id": "good.jsonl:2", '$fields$ ]]
}

@test "stdin, several files, no operand, other keys, CRLF and blank lines" {
    run --separate-stderr detect --quiet - < good.jsonl
    [[ ${lines[1]} == '{"id": "-:2", '* ]]
    [ -z "$stderr" ]
    run --separate-stderr detect < good.jsonl
    [[ ${lines[1]} == '{"id": "-:2", '* ]]
    run --separate-stderr detect good.jsonl good.jsonl
    [ "${#lines[@]}" -eq 4 ]
    printf '{"n": [1], "body": "in those days"}\r\n\r\n  \n' > other.jsonl
    run --separate-stderr detect --text-key body --id-key n other.jsonl
    [ "$status" -eq 0 ]
    [[ $output =~ ^'{"id": [1], '$fields$ ]]
}

@test "no records: no results, exit 0" {
    : > empty.jsonl
    run --separate-stderr detect empty.jsonl
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    detect --quiet --out out.jsonl empty.jsonl
    [ -f out.jsonl ] && [ ! -s out.jsonl ]
}

@test "fake and real sum to one; a longer text counts more tokens" {
    detect --quiet good.jsonl | sed 's/.*"fake": \([^,]*\), "real": \([^,]*\),.*/\1 \2/' |
        awk '{ d = $1 + $2 - 1; if (d > 1e-8 || d < -1e-8) exit 1 }'
}

@test "--preprocess: what is stripped and what is counted" {
    printf '{"text": " x "}\n' > x.jsonl
    tokens() {
        detect --quiet --preprocess "$1" x.jsonl | sed 's/.*"all_tokens": \([0-9]*\).*/\1/'
    }
    [ "$(tokens release)" -eq 1 ]
    [ "$(tokens hf)" -gt 1 ]
    [ "$(tokens demo)" -ge 3 ]
}

@test "the same bytes for every batch, thread count and way of reading" {
    many_texts 150 > many.jsonl
    detect --quiet many.jsonl > want.jsonl
    [ "$(wc -l < want.jsonl)" -eq 150 ]
    for options in "--batch 1" "--batch 3 --threads 1" "--batch 64 --threads 3" "--threads 1"; do
        detect --quiet $options many.jsonl | cmp - want.jsonl
    done
    (sleep 0.1; cat many.jsonl) | detect --quiet - | cmp - want.jsonl
    tac many.jsonl | detect --quiet - | tac | cmp - want.jsonl
}

@test "--passthrough keeps the source bytes and appends" {
    printf '%s\n' '{"text":"in those days","x" : [1, {"fake": 2}],  "u":"\u00e9"  }  ' \
        '  {"id": 7, "text": "And"}' > in.jsonl
    run --separate-stderr detect --passthrough in.jsonl
    [ "$status" -eq 0 ]
    # a record without an id gets one
    [[ ${lines[0]} == '{"text":"in those days","x" : [1, {"fake": 2}],  "u":"\u00e9", "id": "in.jsonl:1", "fake": '* ]]
    [[ ${lines[0]} =~ $fields$ ]]
    [[ ${lines[1]} == '  {"id": 7, "text": "And", "fake": '* ]]
    run --separate-stderr detect --passthrough --id-key 'n"r' in.jsonl
    [[ ${lines[1]} == '  {"id": 7, "text": "And", "n\"r": "in.jsonl:2", "fake": '* ]]
    refuses 2 "--id-key fake" --passthrough --id-key fake in.jsonl
}

@test "a result comes before the next record is sent" {
    mkfifo to from
    exec 7<> to 8<> from # read and write: waits for nobody
    "$TANDEM" detect --model "$reader" --device cpu to --quiet > from 2> said 7>&- 8>&- &
    pid=$!
    for i in 1 2 3; do
        echo '{"id": '$i', "text": "And it came to pass"}' >&7
        read -r -t 20 line <&8
        [[ $line =~ ^'{"id": '$i', '$fields$ ]]
    done
    exec 7>&-
    wait $pid
    [ ! -s said ]
}

@test "one signal ends a run that waits for its input" {
    mkfifo pipe
    exec 7<> pipe
    for signal in INT TERM HUP USR1; do
        env --default-signal=INT,HUP "$TANDEM" detect --model "$reader" --device cpu pipe \
            --out out.jsonl 2> said 7>&- &
        pid=$!
        until grep -q '^device' said; do sleep 0.05; done
        sleep 0.5
        kill -$signal $pid
        code=0
        wait $pid || code=$?
        [ $code -eq 75 ] || { echo "$signal: exit $code"; cat said; false; }
        [[ $(tail -n 1 said) == "tandem detect: stopped by signal "[0-9]*" (stopped)" ]] || { cat said; false; }
        [ "$(made)" = $'pipe\nsaid' ]
    done
}

@test "who does not read the results stops the reading, and memory with it" {
    mkfifo from
    exec 8<> from
    record='{"text": "And it came to pass in those days"}'
    yes "$record" 2> /dev/null |
        "$TANDEM" detect --model "$reader" --device cpu --batch 1 - > from 2> said 8>&- &
    pid=$!
    read -r -t 20 line <&8 # the weights have been read
    loaded=$(sed -n 's/^rchar: //p' /proc/$pid/io)
    before=-1 calm=0
    for i in $(seq 240); do # until the pipe and the windows are full
        read_so_far=$(sed -n 's/^rchar: //p' /proc/$pid/io)
        [ "$read_so_far" -eq "$before" ] && calm=$((calm + 1)) || calm=0
        [ $calm -lt 4 ] || break
        before=$read_so_far
        sleep 0.25
    done
    rss=$(awk '/^VmHWM/ { print $2 }' /proc/$pid/status)
    kill -TERM $pid
    code=0
    wait $pid || code=$?
    [ $code -eq 75 ] || { echo "exit $code"; cat said; false; }
    [ "$(tail -n 1 said)" = "tandem detect: stopped by signal 15 (stopped)" ] || { cat said; false; }
    [ $calm -eq 4 ]
    # 4 windows of 4096 records at most; results of more than 64 bytes in a pipe of 64 KiB; a read ahead
    most=$(((4 * 4096 + 1024) * (${#record} + 1) + (1 << 20)))
    [ $((read_so_far - loaded)) -lt $most ] || { echo "read $((read_so_far - loaded)), at most $most"; false; }
    [ "$rss" -lt 300000 ]
}

@test "an input that breaks in the middle of a window: what came before it is judged" {
    mkfifo pipe
    exec 7<> pipe
    cp good.jsonl gone.jsonl
    "$TANDEM" detect --model "$reader" --device cpu pipe good.jsonl gone.jsonl > got.jsonl 2> said 7>&- &
    pid=$!
    # the files have been checked, and the pipe is open: without a writer ever, it would be waited for. Before it is
    # tandem, the process is a shell that has the pipe too
    until [[ $(readlink /proc/$pid/exe) == "$(readlink -f "$TANDEM")" &&
        $(readlink /proc/$pid/fd/*) == *"$PWD/pipe"* ]]; do sleep 0.05; done
    rm gone.jsonl
    exec 7>&-
    code=0
    wait $pid || code=$?
    [ $code -eq 66 ] || { echo "exit $code"; cat said; false; }
    [ "$(wc -l < got.jsonl)" -eq 2 ]
    [[ $(tail -n 1 said) == *gone.jsonl* ]] || { cat said; false; }
}

@test "a slow reader of the results gets them all, in order" {
    many_texts 400 > many.jsonl
    detect --quiet many.jsonl > want.jsonl
    detect --quiet --batch 1 many.jsonl | while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in *7,*) sleep 0.002 ;; esac
    done | cmp - want.jsonl
}

@test "an error far from the end: what came before it is there" {
    { many_texts 300; printf '{"text": 5}\n'; many_texts 300; } > in.jsonl
    detect --quiet --batch 1 in.jsonl > got.jsonl 2> said && status=0 || status=$?
    [ "$status" -eq 65 ]
    [ "$(wc -l < got.jsonl)" -eq 300 ]
    many_texts 300 | detect --quiet - | cmp - got.jsonl
}

@test "--passthrough: a key that is there already is a collision; --key-prefix avoids it" {
    printf '{"text": "And", "fake": 1}\n{"text": "And", "\\u0072eal": 1}\n' > in.jsonl
    refuses 65 '"fake" is there already' --passthrough in.jsonl
    run --separate-stderr detect --passthrough --max-errors 2 --out out.jsonl in.jsonl
    [ "$status" -eq 3 ]
    [ "$(grep -c '"class": "collision"' out.jsonl.errors.jsonl)" -eq 2 ]
    run --separate-stderr detect --passthrough --key-prefix 'd"' in.jsonl
    [ "$status" -eq 0 ]
    [[ ${lines[0]} == '{"text": "And", "fake": 1, "id": "in.jsonl:1", "d\"fake": '* ]]
    run --separate-stderr detect in.jsonl
    [ "$status" -eq 0 ]
}

@test "every class of bad record, listed with its place, and the good ones judged" {
    {
        printf '{"id": 1, "text": "And"}\n'
        printf '{"text": "\xff"}\n{"text": \n[1]\n{"x": 1}\n{"text": 5}\n{"text": ""}\n'
        printf '{"text": " \\n\\u00a0"}\n{"text": "a\\u0000"}\n{"text": "a\tb"}\n'
        printf '{"text": "a", "text": "b"}\n{"text": "\\ud800"}\n'
        printf '{"text": "%0200d"}\n' 0
        printf '{"id": 2, "text": "And", "real": 0}\n{"id": 3, "text": "And"}\n'
    } > in.jsonl
    run --separate-stderr detect --passthrough --max-line 100 --max-errors 100% --out out.jsonl in.jsonl
    [ "$status" -eq 3 ]
    [ "$(wc -l < out.jsonl)" -eq 2 ]
    want="2 utf8 3 json 4 not-object 5 no-text 6 text-type 7 empty 8 empty 9 nul 10 control"
    want="$want 11 duplicate-key 12 utf8 13 line-too-long 14 collision "
    got=$(sed 's/.*"line": \([0-9]*\),.*"class": "\([a-z0-9-]*\)".*/\1 \2/' out.jsonl.errors.jsonl |
        tr '\n' ' ')
    [ "$got" = "$want" ] || { echo "$got"; false; }
    [[ ${stderr_lines[-1]} == *"13 of 15 records are bad"*"2 empty"*"out.jsonl.errors.jsonl"* ]]
}

@test "--max-errors: at once for a number, at the end for a percentage; no OUT then" {
    printf '{"text": " "}\n{"text": "And"}\n{"text": " "}\n{"text": "it"}\n' > in.jsonl
    refuses 65 "in.jsonl:1: empty" --out out.jsonl in.jsonl
    [ ! -e out.jsonl ]
    refuses 65 "in.jsonl:3: empty" --max-errors 1 --out out.jsonl in.jsonl
    refuses 65 "max-errors 49%" --max-errors 49% --out out.jsonl in.jsonl
    [ ! -e out.jsonl ]
    run --separate-stderr detect --max-errors 2 --out out.jsonl in.jsonl
    [ "$status" -eq 3 ]
    run --separate-stderr detect --max-errors 50% --restart --out out.jsonl in.jsonl
    [ "$status" -eq 3 ]
    [ "$(wc -l < out.jsonl)" -eq 2 ]
}

@test "bad options" {
    refuses 2 "--preprocess modern: want one of release, hf, demo" --preprocess modern good.jsonl
    refuses 2 "--batch 0" --batch 0 good.jsonl
    refuses 2 "--threads -1" --threads -1 good.jsonl
    refuses 2 "--dtype f16" --dtype f16 good.jsonl
    refuses 69 "(no device)" --device cuda:99 good.jsonl
    [[ ${stderr_lines[-1]} =~ "detect: cuda"(":99")?": "(this build|there is|there are|the driver|CUDA driver) ]] ||
        { echo "$stderr"; false; }
}

@test "a model that is missing, or is no detector" {
    run --separate-stderr "$TANDEM" detect good.jsonl
    [ "$status" -eq 2 ]
    run --separate-stderr "$TANDEM" detect --model nowhere good.jsonl
    [ "$status" -eq 66 ]
    [[ ${stderr_lines[-1]} == *nowhere/config.json* ]]
    [ -f "$writer/config.json" ] || skip "there is no model in $writer"
    run --separate-stderr "$TANDEM" detect --model "$writer" --out out.jsonl good.jsonl
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *"$writer"*"GPT-2"* ]]
    [ -z "$(made)" ]
}

@test "a model whose files are damaged" {
    cp -r "$reader" model
    chmod -R u+w model
    head -c 1000 "$reader/model.safetensors" > model/model.safetensors
    run --separate-stderr "$TANDEM" detect --model model good.jsonl
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *model.safetensors* ]]
    cp "$reader/model.safetensors" model/
    rm model/vocab.json
    run --separate-stderr "$TANDEM" detect --model model good.jsonl
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *vocab.json* ]]
    cp "$reader/vocab.json" model/
    sed 's/"hidden_act": *"gelu"/"hidden_act": "relu"/' "$reader/config.json" > model/config.json
    run --separate-stderr "$TANDEM" detect --model model good.jsonl
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *hidden_act* ]]
}

@test "missing input: named, before any work, nothing made" {
    refuses 66 "nowhere.jsonl" --out out.jsonl good.jsonl nowhere.jsonl
    [ -z "$(made)" ]
}

@test "an output that cannot be created" {
    refuses 73 "nowhere/out.jsonl" --out nowhere/out.jsonl good.jsonl
}

@test "a full disk" {
    [ -c /dev/full ] || skip "there is no /dev/full"
    refuses 74 "/dev/full" --out /dev/full good.jsonl
    run --separate-stderr bash -c '"$TANDEM" detect --model "$0" good.jsonl > /dev/full' "$reader"
    [ "$status" -eq 74 ]
}

@test "a closed pipe: exit 74 without a word" {
    many_texts 300 > many.jsonl
    run --separate-stderr bash -c \
        '"$TANDEM" detect --model "$0" --device cpu --quiet many.jsonl | true; exit ${PIPESTATUS[0]}' \
        "$reader"
    [ "$status" -eq 74 ]
    [ -z "$stderr" ]
}

@test "a signal: exit 75, and no OUT" {
    for signal in INT TERM USR1; do
        env --default-signal=INT "$TANDEM" detect --model "$reader" --device cpu --out out.jsonl - 2> said \
            < <(yes '{"text": "And it came to pass in those days"}' 2> /dev/null) &
        pid=$!
        until grep -q '^device' said; do kill -0 $pid; done # it hears signals, and its input has no end
        sleep 0.5
        kill -$signal $pid
        status=0
        wait $pid || status=$?
        [ "$status" -eq 75 ] || { echo "$signal: exit $status"; cat said; false; }
        [[ $(tail -n 1 said) == "tandem detect: stopped by signal "[0-9]*" (stopped)" ]] || { cat said; false; }
        [ "$(made)" = said ] || [ "$(made)" = $'out.jsonl.job\nsaid' ] # with a chunk or without
    done
}

@test "--json: one object, on stdout when the data goes to a file, else on stderr" {
    run --separate-stderr detect --json --quiet --out out.jsonl good.jsonl
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == '{"command": "detect", '*'"ok": 2, "bad": 0'*'"tokens": '* ]]
    [ -z "$stderr" ]
    run --separate-stderr detect --json --quiet good.jsonl
    [ "${#lines[@]}" -eq 2 ]
    [[ $stderr == '{"command": "detect", '* ]]
}

@test "golden: what transformers said about 20 texts, in all three modes" {
    golden=$TDM_SOURCE_DIR/tests/golden
    [ -f "$golden/detector_model.sha256" ] || skip "tests/golden/detector.py has not been run"
    [ "$(sha256sum < "$reader/model.safetensors" | cut -c1-64)" = \
        "$(cut -c1-64 "$golden/detector_model.sha256")" ] ||
        { [ -n "$TDM_READER" ] && skip "another model"; echo "run tests/golden/detector.py"; false; }
    for mode in hf release demo; do
        detect --quiet --preprocess $mode "$golden/detector_texts.jsonl" > got.jsonl
        [ "$(wc -l < got.jsonl)" -eq 20 ]
        # probabilities within 2e-5, logits within 1e-4, everything else equal
        paste -d '\n' got.jsonl "$golden/detector_$mode.jsonl" | tr -d '{}",:' | awk '
            NR % 2 { split($0, got); next }
            { for (i = 1; i <= NF; i++) {
                d = got[i] - $i
                allowed = i == 4 || i == 6 ? 2e-5 : i == 8 || i == 10 ? 1e-4 : 0
                if (NF != 14 || d > allowed || d < -allowed || (i % 2 && got[i] != $i)) {
                    print "line " NR / 2 ": " got[i] ", want " $i; bad = 1
                } } }
            END { exit bad }' || { echo "$mode"; false; }
    done
}
