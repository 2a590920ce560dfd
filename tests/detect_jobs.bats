#!/usr/bin/env bats
# tandem detect as a job: ended and gone on with, cut into chunks and ranks, compressed. On the null device,
# whose results depend on the tokens of a text alone.

setup() {
    bats_require_minimum_version 1.5.0
    reader=${TDM_READER:-$TDM_SOURCE_DIR/tools/demo/reader}
    [ -f "$reader/config.json" ] || skip "there is no model in $reader"
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
}

# Chunks are small, so that a few records make many of them.
detect() {
    "$TANDEM" detect --model "$reader" --device null --chunk 1KiB "$@"
}

# Lines of $1 texts of many lengths; every 50th line is blank, every 70th record has no id.
many_texts() {
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf i % 70 == 69 ? "{\"text\": \"" : "{\"id\": %d, \"text\": \"", i
            for (k = 0; k <= i * 37 % 90; k++) printf "%sthe word%d", k ? " " : "", (i * k) % 11
            print "\"}"
            if (i % 50 == 49) print ""
        }
    }'
}

# Exit code $1, and a last line on stderr that holds $2.
ends() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr detect "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
}

@test "the same bytes from the null device, from a stream and from a job, for every batch and thread count" {
    many_texts 300 > in.jsonl
    detect --quiet in.jsonl > want.jsonl
    [ "$(wc -l < want.jsonl)" -eq 300 ]
    for options in "" "--batch 1" "--batch 7 --threads 1" "--threads 3" "--chunk 1MiB"; do
        detect --quiet --restart --out out.jsonl $options in.jsonl
        cmp out.jsonl want.jsonl
        detect --quiet $options - < in.jsonl | sed 's/"-:/"in.jsonl:/' | cmp - want.jsonl
    done
    [ ! -e out.jsonl.job ]
    # another text, another result
    sed 's/word7/word8/' in.jsonl > other.jsonl
    detect --quiet other.jsonl | sed 's/"other/"in/' > got.jsonl
    run -1 cmp -s got.jsonl want.jsonl
}

@test "a job that ended early goes on: the same bytes and counts, and nothing is done twice" {
    { many_texts 300; echo '{"text": 5}'; many_texts 100; } > in.jsonl
    detect --quiet --max-errors 1 --json --out want.jsonl in.jsonl > want.json || [ $? -eq 3 ]
    ends 65 "in.jsonl:307: text-type" --out out.jsonl in.jsonl
    [ ! -e out.jsonl ]
    [ -d out.jsonl.job ]
    ends 3 "chunks are done" --max-errors 1 --json --out out.jsonl in.jsonl
    cmp out.jsonl want.jsonl
    cmp out.jsonl.errors.jsonl want.jsonl.errors.jsonl
    [ ! -e out.jsonl.job ]
    counts='"in": [0-9]*, "ok": [0-9]*, "bad": [0-9]*, "skipped": [0-9]*'
    [ "$(grep -o "$counts" <<< "$output")" = "$(grep -o "$counts" want.json)" ]
    [ "$(grep -o "$counts" <<< "$output")" = '"in": 409, "ok": 400, "bad": 1, "skipped": 8' ]
    [ "$(grep -o '"tokens": [0-9]*' <<< "$output")" = "$(grep -o '"tokens": [0-9]*' want.json)" ]
    before=$(sed 's/.*"before": \([0-9]*\).*/\1/' <<< "$output")
    [ "$before" -gt 100 ] && [ "$before" -lt 300 ]
}

@test "a pipe that a signal ended is read again, and what was done is not done again" {
    many_texts 400 > in.jsonl
    mkfifo pipe
    exec 7<> pipe
    for signal in TERM USR1; do
        "$TANDEM" detect --model "$reader" --device null --chunk 1KiB --out out.jsonl pipe 2> said 7>&- &
        pid=$!
        [ $signal = TERM ] && head -n 200 in.jsonl >&7
        [ $signal = USR1 ] && cat in.jsonl >&7 # what was read before is passed over, the rest is new
        wanted=$([ $signal = TERM ] && echo 20 || echo 100)
        until [ "$(cat out.jsonl.job/*.journal 2> /dev/null | wc -l)" -gt $wanted ]; do sleep 0.02; done
        kill -$signal $pid
        code=0
        wait $pid || code=$?
        [ $code -eq 75 ] || { echo "$signal: exit $code"; cat said; false; }
        [[ $(tail -n 1 said) == *"stopped by signal "*"chunks are done"* ]] || { cat said; false; }
        exec 7>&- 7<> pipe # what was not read is gone
    done
    exec 7>&-
    detect --quiet --out out.jsonl pipe & pid=$!
    cat in.jsonl > pipe
    wait $pid
    detect --quiet in.jsonl | sed 's/"in.jsonl:/"pipe:/' | cmp - out.jsonl
    # a pipe that gives something else is no continuation
    { many_texts 200; echo '{"text": 5}'; } > bad.jsonl
    detect --quiet --out other.jsonl pipe 2> said & pid=$!
    cat bad.jsonl > pipe
    wait $pid || [ $? -eq 65 ]
    sed 's/word3/word4/' bad.jsonl > changed.jsonl
    detect --quiet --max-errors 1 --out other.jsonl pipe 2> said & pid=$!
    cat changed.jsonl > pipe || true
    code=0
    wait $pid || code=$?
    [ $code -eq 78 ] || { echo "exit $code"; cat said; false; }
}

@test "complete: said, exit 0; other settings are refused with the difference; --restart discards" {
    many_texts 50 > in.jsonl
    detect --quiet --out out.jsonl in.jsonl
    stamp=$(stat -c '%i %Y' out.jsonl)
    ends 0 "complete already" --out out.jsonl in.jsonl
    ends 0 "complete already" --batch 3 --threads 1 --max-errors 5 --out out.jsonl in.jsonl
    ends 78 'settings.preprocess is "hf", was "release"' --preprocess hf --out out.jsonl in.jsonl
    ends 78 "settings.passthrough is true, was false" --passthrough --out out.jsonl in.jsonl
    ends 78 'settings.key-prefix is "x_", was ""' --key-prefix x_ --out out.jsonl in.jsonl
    [ "$(stat -c '%i %Y' out.jsonl)" = "$stamp" ]
    detect --quiet --preprocess hf --restart --out out.jsonl in.jsonl
    detect --quiet --preprocess hf in.jsonl | cmp - out.jsonl
    ends 2 "--restart" --restart in.jsonl
}

@test "gz and zst in and out, a folder: the same records" {
    many_texts 200 > all.jsonl
    mkdir -p folder/deep
    head -n 60 all.jsonl > folder/a.jsonl
    sed -n 61,120p all.jsonl | gzip > folder/b.jsonl.gz
    sed -n 121,160p all.jsonl | gzip >> folder/b.jsonl.gz # a second member
    sed -n '161,$p' all.jsonl | zstd -q > folder/deep/c.jsonl.zst
    detect --quiet all.jsonl | sed 's/"id": "[^"]*"/"id": 0/' > want.jsonl
    for out in out.jsonl out.jsonl.gz out.jsonl.zst; do
        detect --quiet --out $out folder
        case $out in *.gz) gzip -dc $out ;; *.zst) zstd -dcq $out ;; *) cat $out ;; esac |
            sed 's/"id": "[^"]*"/"id": 0/' | cmp - want.jsonl
    done
    # one frame or member a chunk: the parts can be joined
    [ "$(zstd -lv out.jsonl.zst 2>&1 | sed -n 's/^Number of frames: //p; s/^# Zstandard Frames: //p' | head -n 1)" -gt 5 ]
    # a named pipe is no job, but compressed all the same
    mkfifo pipe.gz
    gzip -dc < pipe.gz > got.jsonl & pid=$!
    detect --quiet --out pipe.gz all.jsonl
    wait $pid
    sed 's/"id": "[^"]*"/"id": 0/' got.jsonl | cmp - want.jsonl
    gzip -dc folder/b.jsonl.gz | gzip > one.jsonl.gz
    detect --quiet - < one.jsonl.gz | wc -l | grep -qx 98
}

@test "--passthrough through a job: the bytes of the stream" {
    many_texts 120 | sed 's/"}$/",  "more" : [1, {"fake": 2}] } /' > in.jsonl
    detect --quiet --passthrough in.jsonl > want.jsonl
    grep -q '"more" : \[1, {"fake": 2}\], "fake": ' want.jsonl
    detect --quiet --passthrough --out out.jsonl in.jsonl
    cmp out.jsonl want.jsonl
    gzip -k in.jsonl
    detect --quiet --passthrough --out gz.jsonl in.jsonl.gz
    sed 's/"in.jsonl.gz:/"in.jsonl:/' gz.jsonl | cmp - want.jsonl
}

@test "shards: together they are the whole" {
    many_texts 150 > a.jsonl
    many_texts 90 | gzip > b.jsonl.gz
    many_texts 70 > c.jsonl
    many_texts 40 | zstd -q > d.jsonl.zst
    detect --quiet --out want.jsonl a.jsonl b.jsonl.gz c.jsonl d.jsonl.zst
    for i in 2 0; do
        ends 0 "the others have work left" --shard $i/3 --out out.jsonl a.jsonl b.jsonl.gz c.jsonl d.jsonl.zst
        [ ! -e out.jsonl ]
    done
    # the last one may come as part of another number
    ends 0 "chunks are done" --out out.jsonl a.jsonl b.jsonl.gz c.jsonl d.jsonl.zst
    cmp out.jsonl want.jsonl
    [ ! -e out.jsonl.job ]
    # as streams: each record once
    for i in 0 1 2 3; do
        detect --quiet --shard $i/4 a.jsonl b.jsonl.gz c.jsonl d.jsonl.zst
    done | sort | cmp - <(sort want.jsonl)
}

@test "damaged gz and zst: said with the place, what comes before and the next file are judged" {
    many_texts 300 > in.jsonl
    many_texts 1 > one.jsonl
    for kind in gz zst; do
        case $kind in gz) gzip -c in.jsonl ;; zst) zstd -qc in.jsonl ;; esac > whole.jsonl.$kind
        size=$(stat -c %s whole.jsonl.$kind)
        head -c $((size * 2 / 3)) whole.jsonl.$kind > cut.jsonl.$kind
        ends 65 "cut.jsonl.$kind" --out $kind.jsonl one.jsonl cut.jsonl.$kind whole.jsonl.$kind
        [[ $stderr == *damaged*byte* ]] || { echo "$stderr"; false; }
        ends 3 "1 damaged" --max-errors 1 --json --out $kind.jsonl one.jsonl cut.jsonl.$kind whole.jsonl.$kind
        [[ $output =~ '"in": '([0-9]+)', "ok": '([0-9]+)', "bad": 1, "skipped": '([0-9]+), ]]
        [ "${BASH_REMATCH[1]}" -eq $((BASH_REMATCH[2] + 1 + BASH_REMATCH[3])) ]
        [ "${BASH_REMATCH[2]}" -gt 300 ] && [ "$(wc -l < $kind.jsonl)" -eq "${BASH_REMATCH[2]}" ]
        [ "$(wc -l < $kind.jsonl.errors.jsonl)" -eq 1 ]
        grep -q '^{"file": "cut.jsonl.'$kind'", .*"class": "damaged", ' $kind.jsonl.errors.jsonl
        detect --quiet in.jsonl | sed "s/\"in.jsonl:/\"whole.jsonl.$kind:/" > want.jsonl
        tail -n 300 $kind.jsonl | cmp - want.jsonl
    done
}

@test "every class of bad record through a job of many chunks: the same places as from a stream" {
    {
        many_texts 60
        printf '{"text": "\xff"}\n{"text": \n[1]\n{"x": 1}\n{"text": 5}\n{"text": ""}\n'
        many_texts 60
        printf '{"text": " \\n\\u00a0"}\n{"text": "a\\u0000"}\n{"text": "a\tb"}\n'
        printf '{"text": "a", "text": "b"}\n{"text": "\\ud800"}\n{"text": "%04000d"}\n' 0
        many_texts 60
    } > in.jsonl
    for options in "--max-line 3000" "--max-line 3000 --chunk 1MiB" "--max-line 3000 --batch 1"; do
        run --separate-stderr detect --restart --quiet --json --max-errors 100% $options --out out.jsonl in.jsonl
        [ "$status" -eq 3 ]
        [[ $output == *'"in": 195, "ok": 180, "bad": 12, "skipped": 3, '* ]] || { echo "$output"; false; }
        got=$(sed 's/.*"line": \([0-9]*\),.*"class": "\([a-z0-9-]*\)".*/\1 \2/' out.jsonl.errors.jsonl | tr '\n' ' ')
        want="62 utf8 63 json 64 not-object 65 no-text 66 text-type 67 empty"
        want="$want 129 empty 130 nul 131 control 132 duplicate-key 133 utf8 134 line-too-long "
        [ "$got" = "$want" ] || { echo "$got"; false; }
    done
}
