#!/usr/bin/env bats
# tandem generate as a job: killed, stopped, shared, gone on with. The writer of the demo on the null device, which
# makes text up from (seed, document, position); jobs.bats has what all commands have in common.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    prompts 1 40 > prompts.jsonl
}

# Prompts $1 to $2: some without an id, bad ones, blank lines.
prompts() {
    awk -v from="$1" -v to="$2" 'BEGIN {
        for (i = from; i <= to; i++) {
            if (i % 10 == 4) print "{\"id\": " i ", \"text\": \"\"}"
            else if (i % 10 == 6) print "{\"text\": \"there is " i "\"}"
            else if (i % 10 == 8) print ""
            else print "{\"id\": " i ", \"text\": \"in the beginning " i "\"}"
        }
    }'
}

generate() {
    "$TANDEM" generate --model "$TDM_SOURCE_DIR/tools/demo/writer" --device null --length 12 --chunk 4 \
        --progress none --max-errors 100% "$@"
}

from_prompts() {
    generate --prompts prompts.jsonl --samples-per-prompt 3 "$@"
}

# Exit code $1, and a last line on stderr that holds $2.
ends_with() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr generate "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
}

# tandem generate in the background, as $pid, with the handling of signals that a terminal's shell would leave it.
start() {
    env --default-signal=INT,HUP,USR1 "$TANDEM" generate --model "$TDM_SOURCE_DIR/tools/demo/writer" \
        --device null --length 12 --chunk 4 --progress none --max-errors 100% "$@" > printed 2> said 7>&- &
    pid=$!
}

# $pid ends soon, with this exit code.
ends() {
    local code=0
    timeout 20 tail --pid=$pid -f /dev/null || { kill -KILL $pid; echo "it did not end"; }
    wait $pid || code=$?
    [ "$code" -eq "$1" ] || { echo "exit $code"; cat said; false; }
}

# Wait until rank $3 (0) of the job of $1 has committed at least $2 chunks.
committed() {
    local i journal=$1.job/${3:-0}.journal
    for i in $(seq 400); do
        [ -e "$journal" ] && [ "$(wc -l < "$journal")" -gt "$2" ] && return
        sleep 0.05
    done
    echo "no $2 chunks in 20 seconds"
    cat said
    false
}

# Each of these has results and error records like those of $1.
same() {
    local want=$1 file
    shift
    for file in "$@"; do
        cmp "$want" "$file"
        [ ! -e "$want.errors.jsonl" ] || cmp "$want.errors.jsonl" "$file.errors.jsonl"
        [ "$(counts "$want")" = "$(counts "$file")" ]
    done
}

counts() {
    sed -n 's/^ *"counts": //p; s/^ *"tokens": //p' "$1.manifest.json"
}

@test "what stdout gets is what a file gets, whatever the chunk" {
    generate --n 50 > stdout
    for chunk in 1 4 7 50 1000; do
        generate --n 50 --chunk $chunk --out out.$chunk
        cmp stdout out.$chunk
    done
    from_prompts > stdout 2> said || [ $? -eq 3 ]
    for chunk in 1 4 7 50 1000; do
        from_prompts --chunk $chunk --out prompted.$chunk || [ $? -eq 3 ]
        cmp stdout prompted.$chunk
        [ "$(grep -c '^{' said)" -eq "$(wc -l < prompted.$chunk.errors.jsonl)" ]
        # 40 lines, 4 of them bad, 4 blank; 3 documents for each of the rest
        [[ $(counts prompted.$chunk) == '{"in": 104, "ok": 96, "bad": 4, "skipped": 4, '* ]]
    done
}

@test "complete: said, exit 0, before the weights are read" {
    cp -r "$TDM_SOURCE_DIR/tools/demo/writer" model
    generate --n 20 --out out.jsonl
    run --separate-stderr generate --n 20 --out out.jsonl --json
    [ "$status" -eq 0 ]
    [[ $stderr == *"out.jsonl: complete already, 20 records"* ]] || { echo "$stderr"; false; }
    [[ $stderr != *"batch: "* ]] # the plan, behind the weights
    [[ $output == '{"command": "generate", "state": "complete", "in": 20, "ok": 20, '* ]]
    [ "$(ls -A)" = $'model\nout.jsonl\nout.jsonl.manifest.json\nprompts.jsonl' ]
}

@test "the differences are listed: 78" {
    generate --n 20 --out out.jsonl
    ends_with 78 'n is 21, was 20' --n 21 --out out.jsonl
    ends_with 78 'seed is 18446744073709551615, was 0' --n 20 --out out.jsonl --seed 18446744073709551615
    ends_with 78 'first-id is 1, was 0' --n 20 --out out.jsonl --first-id 1
    ends_with 78 'length is 13, was 12' --n 20 --out out.jsonl --length 13
    ends_with 78 'temperature is 0.7, was 1' --n 20 --out out.jsonl --temperature 0.7
    ends_with 78 'top-k is 40, was 0' --n 20 --out out.jsonl --top-k 40
    ends_with 78 'top-p[0] is 0.8, was 1' --n 20 --out out.jsonl --top-p 0.8:1
    ends_with 78 'nucleus is "hf", was "openai"' --n 20 --out out.jsonl --nucleus hf
    ends_with 78 'chunk is 5, was 4' --n 20 --out out.jsonl --chunk 5
    ends_with 78 'settings.n is 21, was 20; settings.seed is 1, was 0' --n 21 --out out.jsonl --seed 1
    ends_with 78 'settings.max-line is 8388608, was not there' --prompts prompts.jsonl --out out.jsonl
    # what text does not depend on
    generate --n 20 --out out.jsonl --batch 3 --threads 2
    # a model whose file is another one
    cp -r "$TDM_SOURCE_DIR/tools/demo/writer" model
    ends_with 0 "" --n 20 --out out.jsonl --model model
    echo >> model/config.json
    ends_with 78 'was 633' --n 20 --out out.jsonl --model model
    ends_with 0 "batch: 20" --n 20 --out out.jsonl --seed 1 --restart # not: complete already
    generate --n 20 --seed 1 | cmp - out.jsonl
}

@test "other prompts, or other samples of them: 78" {
    from_prompts --out out.jsonl || [ $? -eq 3 ]
    ends_with 78 'samples-per-prompt is 2, was 3' --prompts prompts.jsonl --samples-per-prompt 2 --out out.jsonl
    ends_with 78 'text-key is "body", was "text"' --prompts prompts.jsonl --samples-per-prompt 3 --out out.jsonl \
        --text-key body
    sed -i 's/beginning 1"/beginning 0"/' prompts.jsonl
    ends_with 78 'prompts.jsonl' --prompts prompts.jsonl --samples-per-prompt 3 --out out.jsonl
}

@test "files that can grow no more, at several places; the same bytes afterwards, plain and compressed" {
    for ending in jsonl jsonl.gz jsonl.zst; do
        generate --n 400 --out want.$ending
        from_prompts --samples-per-prompt 9 --out prompted.$ending || [ $? -eq 3 ]
        for most in 1 2 3 5 9 17; do # KiB of a file
            (ulimit -f $most; generate --n 400 --out out.$ending 2> said) && false || [ $? -eq 74 ]
            grep 'File too large' said
            generate --n 400 --out out.$ending
            same want.$ending out.$ending
            (ulimit -f $most; from_prompts --samples-per-prompt 9 --out after.$ending 2> said) || true
            from_prompts --samples-per-prompt 9 --out after.$ending || [ $? -eq 3 ]
            same prompted.$ending after.$ending
            rm out.$ending* after.$ending*
        done
    done
    zcat want.jsonl.gz | cmp - want.jsonl
    zstd -dcq want.jsonl.zst | cmp - want.jsonl
}

@test "kill -9 while prompts come through a pipe: what is committed is read again and not written again" {
    from_prompts --prompts prompts.jsonl --out want.jsonl || [ $? -eq 3 ]
    sed 's/"prompts.jsonl:/"pipe:/; s/"file": "prompts.jsonl"/"file": "pipe"/' < want.jsonl > named
    mkfifo pipe
    for killed_at in 3 9 14; do
        exec 7<> pipe # waits for nobody
        start --prompts pipe --samples-per-prompt 3 --out out.jsonl
        head -$((killed_at * 4 / 3 + 4)) prompts.jsonl >&7
        committed out.jsonl $killed_at
        kill -KILL $pid
        ends 137
        [ ! -e out.jsonl ]
        exec 7>&-
    done
    start --prompts pipe --samples-per-prompt 3 --out out.jsonl
    cat prompts.jsonl > pipe # waits for the reader
    ends 3
    grep -E "out.jsonl.job: going on, [0-9]+ chunks are done" said
    cmp named out.jsonl
    [ "$(counts want.jsonl)" = "$(counts out.jsonl)" ]
}

@test "other prompts through the pipe the second time: 78" {
    mkfifo pipe
    exec 7<> pipe
    start --prompts pipe --out out.jsonl
    head -20 prompts.jsonl >&7
    committed out.jsonl 2
    kill -KILL $pid
    ends 137
    exec 7>&-
    start --prompts pipe --out out.jsonl
    sed 's/beginning 2"/beginning 0"/' prompts.jsonl > pipe
    ends 78
    grep 'pipe: chunk 0 is not what it was when the job began' said
}

@test "a signal ends a run that waits for a prompt: 75, and the same command goes on" {
    mkfifo pipe
    for step in "INT 16 2" "TERM 24 4" "HUP 32 6" "USR1 40 8"; do # lines, chunks
        set -- $step
        exec 7<> pipe
        start --prompts pipe --out out.jsonl
        head -$2 prompts.jsonl >&7
        committed out.jsonl $3
        kill -$1 $pid
        ends 75
        grep -E 'stopped by signal [0-9]+; [0-9]+ chunks are done, the same command again goes on from out.jsonl.job' said
        exec 7>&-
    done
    start --prompts pipe --out out.jsonl
    cat prompts.jsonl > pipe
    ends 3
    generate --prompts prompts.jsonl --out want.jsonl || [ $? -eq 3 ]
    sed 's/"prompts.jsonl:/"pipe:/' want.jsonl | cmp - out.jsonl
}

@test "shards of documents and of prompts, in any order, with bad prompts and blank lines" {
    generate --n 150 --out want.jsonl
    from_prompts --out prompted.jsonl || [ $? -eq 3 ]
    for ranks in "0 1" "2 0 1" "4 3 2 1 0" "39 $(seq -s ' ' 0 38)"; do
        n=$(wc -w <<< "$ranks")
        for rank in $ranks; do
            generate --n 150 --out out.jsonl --shard $rank/$n
            from_prompts --out share.jsonl --shard $rank/$n || [ $? -eq 3 ]
        done
        same want.jsonl out.jsonl
        same prompted.jsonl share.jsonl
        rm out.jsonl* share.jsonl*
    done
}

@test "a rank is killed, another number of ranks goes on" {
    from_prompts --out want.jsonl || [ $? -eq 3 ]
    (ulimit -f 3; from_prompts --out out.jsonl --shard 1/2) || true
    [ ! -e out.jsonl ]
    for rank in 1 2 0; do
        from_prompts --out out.jsonl --shard $rank/3 || [ $? -eq 3 ]
    done
    same want.jsonl out.jsonl
}

@test "a second process of the same rank: 73" {
    mkfifo pipe
    exec 7<> pipe
    start --prompts pipe --out out.jsonl
    head -20 prompts.jsonl >&7
    committed out.jsonl 2
    ends_with 73 "out.jsonl" --prompts pipe --out out.jsonl
    exec 7>&-
    ends 3
}

@test "streams of several ranks: each writes its own chunks" {
    generate --n 50 > want
    for rank in 0 1 2; do
        generate --n 50 --shard $rank/3 > part.$rank
        [ -s part.$rank ]
    done
    sort -t ' ' -k 2n part.? | cmp - want
}

@test "prompts from gzip, zstd, a folder and stdin are the same prompts" {
    sed '/^$/d; /{"text"/d' prompts.jsonl > numbered.jsonl
    generate --prompts numbered.jsonl --out want.jsonl || [ $? -eq 3 ]
    gzip -k numbered.jsonl
    zstd -qk numbered.jsonl
    mkdir folder
    head -11 numbered.jsonl > folder/a.jsonl
    tail -n +12 numbered.jsonl | gzip > folder/b.jsonl.gz
    for file in numbered.jsonl.gz numbered.jsonl.zst folder; do
        generate --prompts $file --out out.jsonl || [ $? -eq 3 ]
        cmp want.jsonl out.jsonl
        [ "$(counts want.jsonl)" = "$(counts out.jsonl)" ]
        rm out.jsonl*
        for rank in 1 0; do
            generate --prompts $file --out out.jsonl --shard $rank/2 || [ $? -eq 3 ]
        done
        cmp want.jsonl out.jsonl
        rm out.jsonl*
    done
    generate --prompts - --out out.jsonl < numbered.jsonl || [ $? -eq 3 ]
    cmp want.jsonl out.jsonl
    ends_with 2 "stdin: 2 processes cannot read the same stream" --prompts - --shard 0/2 < numbered.jsonl
}

@test "no prompts at all: an empty file, complete" {
    printf '\n \n' > none.jsonl
    for options in "" "--shard 1/2" "--shard 0/2"; do
        generate --prompts none.jsonl --out out.jsonl $options
    done
    [ -e out.jsonl ] && [ ! -s out.jsonl ]
    [[ $(counts out.jsonl) == '{"in": 2, "ok": 0, "bad": 0, "skipped": 2, '* ]]
}

@test "too many bad prompts: 65; with more allowed the run goes on" {
    from_prompts --out want.jsonl || [ $? -eq 3 ]
    ends_with 65 "--max-errors 2" --prompts prompts.jsonl --samples-per-prompt 3 --out out.jsonl --max-errors 2
    [ -e out.jsonl.job ]
    ends_with 65 "--max-errors 3%" --prompts prompts.jsonl --samples-per-prompt 3 --out out.jsonl --max-errors 3%
    ends_with 3 "4 of 100 records are bad: 4 empty" --prompts prompts.jsonl --samples-per-prompt 3 --out out.jsonl \
        --max-errors 4
    same want.jsonl out.jsonl
}

@test "a damaged file of prompts: what is in front of the damage is written" {
    prompts 1 800 | grep beginning | gzip > whole.jsonl.gz
    head -c 1500 whole.jsonl.gz > cut.jsonl.gz
    ends_with 3 "1 damaged" --prompts cut.jsonl.gz --out out.jsonl
    [ "$(wc -l < out.jsonl)" -gt 20 ]
    generate --prompts whole.jsonl.gz | head -n "$(wc -l < out.jsonl)" | cmp - out.jsonl
    for rank in 2 0 1; do
        generate --prompts cut.jsonl.gz --out share.jsonl --shard $rank/3 || [ $? -eq 3 ]
    done
    same out.jsonl share.jsonl
}

@test "numbers of documents that are far too many for a job" {
    ends_with 2 "1000000000000000 chunks, want at most 4294967296 in a job" --n 1000000000000000 --chunk 1 \
        --out out.jsonl
    [ ! -e out.jsonl.job ]
    # a stream has no such limit
    run bash -c '"$0" generate --model "$1" --device null --n 1000000000000000 --length 3 --batch 8 --quiet | head -n 3' \
        "$TANDEM" "$TDM_SOURCE_DIR/tools/demo/writer"
    [ "${#lines[@]}" -eq 3 ]
}
