#!/usr/bin/env bats
# Runs that go on, seen from outside: killed, stopped, repeated, shared, refused. tandem tokenize stands for every
# command over records; the vocabulary is the 256 bytes, two merges and <|endoftext|>.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    mkdir model
    printf '#version: 0.2\nh e\nl l\n' > model/merges.txt
    records 1 600 > in.jsonl
}

# Records $1 to $2: now and then one without an id, a bad one, a blank line.
records() {
    awk -v from="$1" -v to="$2" 'BEGIN {
        for (i = from; i <= to; i++) {
            if (i % 50 == 7) print "{\"id\": " i ", \"text\": \"\"}"
            else if (i % 50 == 9) print "{\"text\": \"hello " i "\"}"
            else if (i % 50 == 11) print ""
            else print "{\"id\": " i ", \"text\": \"hello, hello " i "\"}"
        }
    }'
}

tokenize() {
    "$TANDEM" tokenize --model model --max-errors 100% --chunk 1KiB --progress none "$@"
}

# Exit code $1, and a last line on stderr that holds $2.
ends_with() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr tokenize "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
}

# tandem tokenize in the background, as $pid, with the handling of signals that a terminal's shell would leave it.
start() {
    env --default-signal=INT,HUP,USR1 "$TANDEM" tokenize --model model --max-errors 100% --chunk 1KiB \
        --progress none "$@" > printed 2> said 7>&- &
    pid=$!
}

# $pid ends soon, with this exit code.
ends() {
    local code=0
    timeout 20 tail --pid=$pid -f /dev/null || { kill -KILL $pid; echo "it did not end"; }
    wait $pid || code=$?
    [ "$code" -eq "$1" ] || { echo "exit $code"; cat said; false; }
}

# Wait until process 0 of the job of $1 has committed at least $2 chunks.
committed() {
    local i
    for i in $(seq 400); do
        [ -e "$1.job/0.journal" ] && [ "$(wc -l < "$1.job/0.journal")" -gt "$2" ] && return
        sleep 0.05
    done
    echo "no $2 chunks in 20 seconds"
    cat said
    false
}

# Wait until what runs in the background has said $1.
says() {
    local i
    for i in $(seq 400); do
        grep -qF "$1" said && return
        sleep 0.05
    done
    echo "not said in 20 seconds: $1"
    false
}

# Write a file into the named pipe, once somebody reads it.
feed() {
    timeout 20 sh -c 'cat "$0" > pipe' "$1"
}

# What a run that nobody disturbs gives.
make_want() {
    tokenize "$@" --out want.jsonl --quiet --json > want.json || [ $? -eq 3 ]
}

same_as_want() {
    cmp "${1:-out.jsonl}" want.jsonl && cmp "${1:-out.jsonl}.errors.jsonl" want.jsonl.errors.jsonl
}

counts() {
    grep -o -e '"in": .*"by_class": {[^}]*}' -e '"tokens": [0-9]*' "$1"
}

@test "complete, and complete again: exit code 0, the same counts, nothing done" {
    run --separate-stderr tokenize in.jsonl --out out.jsonl --json
    [ "$status" -eq 3 ]
    [[ $output == *'"state": "complete", "in": 600, "ok": 576, "bad": 12, "skipped": 12, '*'"before": 0, '* ]] || { echo "$output"; false; }
    [ "$(ls -A)" = $'in.jsonl\nmodel\nout.jsonl\nout.jsonl.errors.jsonl\nout.jsonl.manifest.json' ]
    local -r first=$output before=$(stat -c '%i %Y' out.jsonl)
    run --separate-stderr tokenize in.jsonl --out out.jsonl --json
    [ "$status" -eq 0 ]
    [[ $stderr == *"out.jsonl: complete already, 588 records, 12 of them bad"* ]] || { echo "$stderr"; false; }
    [ "$(counts - <<< "$output")" = "$(counts - <<< "$first")" ]
    [[ $output == *'"before": 588, '* ]]
    [[ $output != *token_hash* ]]
    [ "$(stat -c '%i %Y' out.jsonl)" = "$before" ]
    printf '{"id": 1, "text": "he"}\n' > good.jsonl
    tokenize good.jsonl --out good.out
    run --separate-stderr tokenize good.jsonl --out good.out
    [ "$status" -eq 0 ]
    [[ $stderr == *"good.out: complete already, 1 records" ]]
    # a pipe may hold something else this time, and nobody looked
    tokenize --out piped.out < <(cat good.jsonl)
    run --separate-stderr tokenize --out piped.out < <(cat in.jsonl)
    [ "$status" -eq 0 ]
    [[ $stderr == *"piped.out: complete already, 1 records; what comes now was not read (--restart reads it)" ]]
}

@test "other options, other inputs: 78 with the differences; --restart discards" {
    tokenize in.jsonl --out out.jsonl --quiet || [ $? -eq 3 ]
    cp out.jsonl kept
    ends_with 78 "special-tokens is \"parse\", was \"plain\"" in.jsonl --out out.jsonl --special-tokens parse
    ends_with 78 "text-key is \"body\", was \"text\"" in.jsonl --out out.jsonl --text-key body
    ends_with 78 "chunk is 2048, was 1024" in.jsonl --out out.jsonl --chunk 2KiB
    records 1 700 > in.jsonl
    ends_with 78 "in.jsonl" in.jsonl --out out.jsonl
    cmp out.jsonl kept
    ends_with 3 "records are bad" in.jsonl --out out.jsonl --restart
    make_want in.jsonl
    same_as_want
}

@test "what results do not depend on may differ: --max-errors, --progress, --metrics-file, --json" {
    ends_with 65 "--max-errors 3" in.jsonl --out out.jsonl --max-errors 3
    [ -e out.jsonl.job/manifest.json ]
    ends_with 3 "records are bad" in.jsonl --out out.jsonl --max-errors 12 --metrics-file metrics
    make_want in.jsonl
    same_as_want
    [ -s metrics ]
}

@test "kill -9, and the same command gives the same bytes: a plain file and a pipe" {
    records 601 1200 > more.jsonl
    mkfifo pipe
    exec 7<> pipe # waits for nobody
    start in.jsonl pipe --out out.jsonl
    committed out.jsonl 3
    head -300 more.jsonl >&7
    committed out.jsonl 28 # all of in.jsonl and some of the pipe
    kill -KILL $pid
    ends 137
    [ ! -e out.jsonl ]
    exec 7>&-
    start in.jsonl pipe --out out.jsonl
    feed more.jsonl # what the killed one has not read is gone
    ends 3
    grep -E "out.jsonl.job: going on, [0-9]+ chunks are done" said
    start in.jsonl pipe --out want.jsonl
    feed more.jsonl
    ends 3
    same_as_want
}

@test "a pipe that gives something else the second time: 78" {
    mkfifo pipe
    exec 7<> pipe
    start pipe --out out.jsonl
    cat in.jsonl >&7
    committed out.jsonl 3
    kill -KILL $pid
    ends 137
    exec 7>&-
    start pipe --out out.jsonl
    records 2 700 > other.jsonl
    feed other.jsonl
    ends 78
    grep pipe said
}

@test "a pipe that gives less or more the second time, to the byte where a chunk ends: 78" {
    for i in $(seq 64); do # 32 lines of 32 bytes are a chunk
        printf '%-31s\n' "{\"id\": $i, \"text\": \"$([ "$i" -eq 3 ] || echo hello)\"}"
    done > all.jsonl
    head -n 32 all.jsonl > half.jsonl
    ends_with 65 "--max-errors 1%" --max-errors 1% --out less.jsonl < all.jsonl
    ends_with 78 "-: chunk 0 (text bytes 0 to 1024) is not what it was" --out less.jsonl < half.jsonl
    ends_with 65 "--max-errors 1%" --max-errors 1% --out more.jsonl < half.jsonl
    ends_with 78 "-: chunk 0 (text bytes 0 to 1024) is not what it was" --out more.jsonl < all.jsonl
    tokenize --out less.jsonl < all.jsonl || [ $? -eq 3 ]
    [ "$(wc -l < less.jsonl)" -eq 63 ]
}

@test "killed and resumed: the counts of the whole" {
    make_want in.jsonl
    mkfifo pipe
    exec 7<> pipe
    start in.jsonl pipe --out out.jsonl
    committed out.jsonl 3
    kill -KILL $pid
    ends 137
    exec 7>&-
    start in.jsonl pipe --out out.jsonl --json
    feed /dev/null
    ends 3
    [ "$(counts printed)" = "$(counts want.json)" ]
    run ! grep token_hash printed
    same_as_want
}

@test "one signal ends a job that waits for its input: 75, and the same command goes on" {
    make_want in.jsonl
    mkfifo pipe
    exec 7<> pipe
    for signal in INT TERM HUP USR1; do
        start in.jsonl pipe --out out.jsonl
        committed out.jsonl 20
        [ $signal = INT ] || says "going on"
        kill -$signal $pid
        ends 75
        grep -E "stopped by signal [0-9]+; [0-9]+ chunks are done, the same command again goes on from out.jsonl.job \(stopped\)" said || { cat said; false; }
        [ ! -e out.jsonl ]
    done
    exec 7>&-
    start in.jsonl pipe --out out.jsonl
    feed /dev/null
    ends 3
    same_as_want
}

@test "one signal ends a job that nobody has opened the input of" {
    mkfifo pipe
    start pipe --out out.jsonl
    for i in $(seq 400); do [ -e out.jsonl.job/manifest.json ] && break; sleep 0.05; done
    kill -TERM $pid
    ends 75
}

@test "a second process on the same output: 73, and the first goes on" {
    mkfifo pipe
    exec 7<> pipe
    start in.jsonl pipe --out out.jsonl
    cat in.jsonl >&7
    committed out.jsonl 28 # in.jsonl has 23: the pipe is open
    ends_with 73 "out.jsonl: another process" in.jsonl pipe --out out.jsonl
    ends_with 73 "out.jsonl" in.jsonl pipe --out out.jsonl --shard 1/2
    exec 7>&-
    ends 3
    [ -e out.jsonl ]
}

@test "results compressed by the name of --out, one member or frame a chunk, and read back" {
    make_want in.jsonl
    tokenize in.jsonl --out out.jsonl.gz --quiet || [ $? -eq 3 ]
    gzip -t out.jsonl.gz
    zcat out.jsonl.gz | cmp - want.jsonl
    cmp out.jsonl.gz.errors.jsonl want.jsonl.errors.jsonl
    tokenize in.jsonl --out out.jsonl.zst --quiet || [ $? -eq 3 ]
    tokenize --decode want.jsonl > want.decoded
    for file in out.jsonl.gz out.jsonl.zst; do
        tokenize --decode $file | sed "s/$file:/want.jsonl:/" | cmp - want.decoded
    done
    if command -v zstd > /dev/null; then zstd -dc out.jsonl.zst | cmp - want.jsonl; fi
}

@test "killed and resumed, compressed: the same bytes" {
    mkfifo pipe
    for ending in gz zst; do
        start in.jsonl pipe --out want.$ending
        feed /dev/null
        ends 3
        exec 7<> pipe
        start in.jsonl pipe --out out.$ending
        committed out.$ending 9
        kill -KILL $pid
        ends 137
        exec 7>&-
        start in.jsonl pipe --out out.$ending
        feed /dev/null
        ends 3
        cmp out.$ending want.$ending
    done
    rm pipe
    : > pipe # a file now: other inputs
    ends_with 78 "pipe" in.jsonl pipe --out out.gz
}

@test "a folder of plain, gzip and zstd files, in the order of their names" {
    mkdir -p data/deeper
    records 1 100 > data/a.jsonl
    records 101 200 | gzip > data/b.jsonl.gz
    records 201 300 > data/deeper/c.jsonl
    records 301 400 > data/z.jsonl
    echo 'no records' > data/notes.txt
    cat data/a.jsonl > all.jsonl
    zcat data/b.jsonl.gz >> all.jsonl
    cat data/deeper/c.jsonl data/z.jsonl >> all.jsonl
    tokenize data --out out.jsonl --quiet || [ $? -eq 3 ]
    tokenize all.jsonl --out want.jsonl --quiet || [ $? -eq 3 ]
    grep '"id": [0-9]' out.jsonl > numbered
    grep '"id": [0-9]' want.jsonl | cmp - numbered
    grep -F '"id": "data/b.jsonl.gz:9"' out.jsonl
    [ "$(wc -l < out.jsonl.errors.jsonl)" -eq 8 ]
    grep -F '{"file": "data/deeper/c.jsonl", "line": 57, ' out.jsonl.errors.jsonl
}

@test "two shards: each says what the other has left, the last one joins" {
    make_want in.jsonl
    run --separate-stderr tokenize in.jsonl --out out.jsonl --shard 0/2 --json
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [ ! -e out.jsonl ]
    [[ $stderr == *"tandem tokenize: rank 0 of 2 (--shard)"* ]]
    [[ $stderr == *"out.jsonl: rank 0 of 2 is done, the others have "*" chunks left"* ]] || { echo "$stderr"; false; }
    [[ $output == *'"state": "waiting", '* ]]
    run --separate-stderr tokenize in.jsonl --out out.jsonl --shard 1/2 --json
    [ "$status" -eq 3 ]
    [[ $output == *'"state": "complete", '* ]]
    [ "$(counts - <<< "$output")" = "$(counts want.json)" ]
    same_as_want
    ends_with 0 "complete already" in.jsonl --out out.jsonl --shard 0/2
}

@test "a rank of two that is done; one process alone does the rest" {
    make_want in.jsonl
    tokenize in.jsonl --out out.jsonl --shard 1/2 --quiet || [ $? -eq 3 ]
    ends_with 3 "records are bad" in.jsonl --out out.jsonl
    same_as_want
}

@test "ranks by the environment; a stream for each; what ranks cannot share" {
    make_want in.jsonl
    for rank in 0 1 2; do
        SLURM_PROCID=$rank SLURM_STEP_NUM_TASKS=3 tokenize in.jsonl --quiet > part.$rank 2> bad.$rank || [ $? -eq 3 ]
    done
    cat part.? | sort > together
    sort want.jsonl | cmp - together
    cat bad.? | sort > together
    sort want.jsonl.errors.jsonl | cmp - together
    ends_with 2 "stdin: 2 processes cannot read the same stream" --shard 0/2 < in.jsonl
    ends_with 2 "--restart with 2 processes" in.jsonl --out out.jsonl --shard 0/2 --restart
    ends_with 2 "--restart: stdout is a stream" in.jsonl --restart
    ends_with 2 "--shard 2/2: want I/N" in.jsonl --shard 2/2
    export RANK=3 WORLD_SIZE=three
    ends_with 2 "RANK=3 and WORLD_SIZE=three: want" in.jsonl
}

@test "damaged input: what comes before it is there, one error says where, 65 by default" {
    gzip -k in.jsonl
    head -c -400 in.jsonl.gz > cut.jsonl.gz
    ends_with 65 "(byte 0); bad record 12, --max-errors 11" cut.jsonl.gz --out out.jsonl --max-errors 11
    ends_with 3 "1 damaged" cut.jsonl.gz in.jsonl --out both.jsonl
    grep '"class": "damaged"' both.jsonl.errors.jsonl
    run --separate-stderr tokenize in.jsonl
    tail -n "${#lines[@]}" both.jsonl | cmp - <(printf '%s\n' "$output")
}

@test "a bad record of a file far down: the message ends with its place" {
    local -r down=$(printf 'd%.0s' {1..200})
    mkdir -p "$down/$down"
    echo 'no record' > "$down/$down/in.jsonl"
    ends_with 65 "d/in.jsonl:1: json: at byte 0: " "$down" --out out.jsonl --max-errors 0
}

@test "--max-ratio: text that is far larger than its file is taken for damage" {
    head -c 20M /dev/zero | tr '\0' '\n' | gzip > blank.jsonl.gz
    ends_with 65 "blank.jsonl.gz:" blank.jsonl.gz --max-errors 0 --chunk 1MiB
    ends_with 0 "" blank.jsonl.gz --max-errors 0 --max-ratio 2000 --chunk 1MiB --json
    [[ $stderr == *'"skipped": 20971520,'* ]]
}

@test "an output that is an input, or an input twice" {
    cp in.jsonl both.jsonl
    ends_with 2 "both.jsonl" both.jsonl --out both.jsonl
    cmp both.jsonl in.jsonl
    tokenize in.jsonl in.jsonl --out out.jsonl --quiet || [ $? -eq 3 ]
    make_want in.jsonl
    cat want.jsonl want.jsonl | cmp - out.jsonl
}

@test "a link to the output stays one" {
    mkdir elsewhere
    ln -s elsewhere/target.jsonl out.jsonl
    : > elsewhere/target.jsonl
    tokenize in.jsonl --out out.jsonl --restart --quiet || [ $? -eq 3 ]
    [ -L out.jsonl ]
    make_want in.jsonl
    cmp elsewhere/target.jsonl want.jsonl
}

@test "--json of a run that fails: what it did, and why it ended; none of one that did not begin" {
    printf '{"text": "he"}\n{"text": 3}\n' > two.jsonl
    run --separate-stderr tokenize two.jsonl --max-errors 0 --out out.jsonl --json
    [ "$status" -eq 65 ]
    [[ $output == '{"command": "tokenize", "state": "failed", "error": "two.jsonl:2: text-type: field \"text\" is a number'*'"in": 2, "ok": 1, "bad": 1, "skipped": 0, '* ]] || { echo "$output"; false; }
    [[ ${stderr_lines[-1]} == *"(bad format)" ]]
    run --separate-stderr tokenize nothing.jsonl --out out.jsonl --json
    [ "$status" -eq 66 ]
    [ -z "$output" ]
}
