#!/usr/bin/env bats
# tandem score as a job: ended, killed and gone on with, cut into chunks and ranks, compressed. On the null device, whose
# results depend on the tokens of a text alone, and where the demo's writer works, with it.

setup() {
    bats_require_minimum_version 1.5.0
    writer=${TDM_WRITER:-$TDM_SOURCE_DIR/tools/demo/writer}
    [ -f "$writer/config.json" ] || skip "there is no model in $writer"
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    device=null
}

# Chunks are small, so that a few records make many of them.
score() {
    "$TANDEM" score --model "$writer" --device $device --chunk 1KiB "$@"
}

# Lines of $1 texts of many lengths, some longer than the context; every 50th line is blank, every 70th record has no id.
many_texts() {
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf i % 70 == 69 ? "{\"text\": \"" : "{\"id\": %d, \"text\": \"", i
            words = i % 40 == 13 ? 300 + i : i * 37 % 90
            for (k = 0; k <= words; k++) printf "%sthe word%d", k ? " " : "", (i * k) % 11
            print "\"}"
            if (i % 50 == 49) print ""
        }
    }'
}

# Exit code $1, and on stderr $2.
ends() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr score "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
}

@test "the same bytes from a stream and from a job, for every batch, thread count and chunk" {
    many_texts 200 > in.jsonl
    for given in "" "--observer $writer --per-token --gltr 2 --bos no --entropy all"; do
        score --quiet $given in.jsonl > want.jsonl
        [ "$(wc -l < want.jsonl)" -eq 200 ]
        for options in "" "--batch 1" "--batch 7 --threads 1" "--chunk 1MiB"; do
            score --quiet --restart --out out.jsonl $given $options in.jsonl
            cmp out.jsonl want.jsonl
            score --quiet $given $options - < in.jsonl | sed 's/"-:/"in.jsonl:/' | cmp - want.jsonl
        done
    done
    [ ! -e out.jsonl.job ]
    # another text, another result
    sed 's/word7/word8/' in.jsonl > other.jsonl
    score --quiet $given other.jsonl | sed 's/"other/"in/' > got.jsonl
    run -1 cmp -s got.jsonl want.jsonl
}

@test "a job that ended early goes on: the same bytes and counts, and nothing is done twice" {
    { many_texts 100; echo '{"text": "b"}'; many_texts 100; } > in.jsonl
    score --quiet --bos no --max-errors 1 --json --out want.jsonl in.jsonl > want.json || [ $? -eq 3 ]
    ends 65 "in.jsonl:103: too-short" --bos no --out out.jsonl in.jsonl
    [ ! -e out.jsonl ]
    [ -d out.jsonl.job ]
    run "$TANDEM" inspect out.jsonl.job
    [[ $output == *"tandem score --model DIR --bos no --stride 128 --entropy scored --gltr-buckets top10 --chunk 1024 "* ]] || { echo "$output"; false; }
    ends 3 "chunks are done" --bos no --max-errors 1 --json --out out.jsonl in.jsonl
    cmp out.jsonl want.jsonl
    cmp out.jsonl.errors.jsonl want.jsonl.errors.jsonl
    [ ! -e out.jsonl.job ]
    counts='"in": [0-9]*, "ok": [0-9]*, "bad": [0-9]*, "skipped": [0-9]*, "by_class": {"too-short": 1}'
    [ "$(grep -o "$counts" <<< "$output")" = "$(grep -o "$counts" want.json)" ]
    [ "$(grep -o "$counts" <<< "$output")" = '"in": 205, "ok": 200, "bad": 1, "skipped": 4, "by_class": {"too-short": 1}' ]
    [ "$(grep -o '"tokens": [0-9]*' <<< "$output")" = "$(grep -o '"tokens": [0-9]*' want.json)" ]
    before=$(sed 's/.*"before": \([0-9]*\).*/\1/' <<< "$output")
    [ "$before" -gt 20 ] && [ "$before" -lt 120 ]
}

@test "killed, and gone on with: the same bytes, on the null device and with the writer" {
    many_texts 150 > in.jsonl
    mkfifo pipe
    for device in null cpu; do
        score --quiet --observer "$writer" in.jsonl | sed 's/"in.jsonl:/"pipe:/' > want.jsonl
        exec 7<> pipe # what is killed reads from a pipe that has not ended
        for lines in 60 120; do
            "$TANDEM" score --model "$writer" --observer "$writer" --device $device --chunk 1KiB --quiet \
                --out out.jsonl pipe 2> said 7>&- &
            pid=$!
            head -n $lines in.jsonl >&7
            wanted=$((lines / 4))
            until [ "$(cat out.jsonl.job/*.journal 2> /dev/null | wc -l)" -gt $wanted ]; do sleep 0.02; done
            kill -KILL $pid
            wait $pid || true
            exec 7>&- 7<> pipe # what was not read is gone
        done
        exec 7>&-
        done_before=$(cat out.jsonl.job/*.journal | wc -l)
        [ "$done_before" -gt 30 ]
        score --quiet --observer "$writer" --json --out out.jsonl pipe > said.json & pid=$!
        cat in.jsonl > pipe
        wait $pid
        cmp out.jsonl want.jsonl
        [ "$(sed 's/.*"before": \([0-9]*\).*/\1/' said.json)" -gt 30 ]
        rm out.jsonl*
    done
}

@test "complete: said, exit 0; changed conventions are refused with the difference" {
    many_texts 30 > in.jsonl
    score --quiet --out out.jsonl in.jsonl
    stamp=$(stat -c '%i %Y' out.jsonl)
    ends 0 "complete already" --out out.jsonl in.jsonl
    ends 0 "complete already" --batch 3 --threads 1 --max-errors 5 --stride 128 --out out.jsonl in.jsonl
    ends 78 'settings.bos is "no", was "yes"' --bos no --out out.jsonl in.jsonl
    ends 78 'settings.stride is 0, was 128' --stride 0 --out out.jsonl in.jsonl
    ends 78 'settings.entropy is "all", was "scored"' --entropy all --out out.jsonl in.jsonl
    ends 78 'settings.gltr-buckets is "top11", was "top10"' --gltr-buckets top11 --out out.jsonl in.jsonl
    ends 78 'settings.per-token is true, was false' --per-token --out out.jsonl in.jsonl
    ends 78 'settings.gltr is 5, was null' --gltr 5 --out out.jsonl in.jsonl
    ends 78 'settings.passthrough is true, was false' --passthrough --out out.jsonl in.jsonl
    ends 78 'settings.key-prefix is "x_", was ""' --key-prefix x_ --out out.jsonl in.jsonl
    ends 78 'settings.conventions.observer is true, was false' --observer "$writer" --out out.jsonl in.jsonl
    [ "$(stat -c '%i %Y' out.jsonl)" = "$stamp" ]
    manifest='"settings": {"bos": "yes", "stride": 128, "entropy": "scored", "gltr-buckets": "top10", "per-token": false, "gltr": null, "passthrough": false, "key-prefix": "", "conventions": {"rank-base": 1, "logarithm": "natural", "observer": false}'
    grep -qF "$manifest" out.jsonl.manifest.json || { cat out.jsonl.manifest.json; false; }
    score --quiet --bos no --restart --max-errors 1 --out out.jsonl in.jsonl
    score --quiet --bos no in.jsonl | cmp - out.jsonl
}

@test "an observer of other weights does not go on with a job" {
    cp -r "$writer" observer
    chmod -R u+w observer
    { many_texts 60; echo '{"text": 5}'; many_texts 60; } > in.jsonl
    ends 65 "text-type" --observer observer --out out.jsonl in.jsonl
    ends 78 'settings.conventions.observer is false, was true' --out out.jsonl in.jsonl
    touch observer/* # another time is another file only if it holds something else
    ends 65 "chunks are done" --observer observer --out out.jsonl in.jsonl
    run "$TANDEM" inspect out.jsonl.job
    [[ $output == *"tandem score --model DIR --observer DIR --bos yes "* ]] || { echo "$output"; false; }
    size=$(stat -c %s observer/model.safetensors)
    printf '\x01' | dd of=observer/model.safetensors bs=1 seek=$((size - 2)) conv=notrunc status=none
    ends 78 'observer[2].sha256 is ' --max-errors 1 --observer observer --out out.jsonl in.jsonl
    # nor is it taken for complete
    cp "$writer/model.safetensors" observer
    ends 3 "chunks are done" --max-errors 1 --observer observer --out out.jsonl in.jsonl
    printf '\x01' | dd of=observer/model.safetensors bs=1 seek=$((size - 2)) conv=notrunc status=none
    ends 78 'observer[2].sha256 is ' --max-errors 1 --observer observer --out out.jsonl in.jsonl
}

@test "gz and zst in and out, a folder: the same records" {
    many_texts 120 > all.jsonl
    mkdir -p folder/deep
    head -n 40 all.jsonl > folder/a.jsonl
    sed -n 41,80p all.jsonl | gzip > folder/b.jsonl.gz
    sed -n '81,$p' all.jsonl | zstd -q > folder/deep/c.jsonl.zst
    score --quiet all.jsonl | sed 's/"id": "[^"]*"/"id": 0/' > want.jsonl
    for out in out.jsonl out.jsonl.gz out.jsonl.zst; do
        score --quiet --out $out folder
        case $out in *.gz) gzip -dc $out ;; *.zst) zstd -dcq $out ;; *) cat $out ;; esac |
            sed 's/"id": "[^"]*"/"id": 0/' | cmp - want.jsonl
    done
}

@test "--passthrough through a job: the bytes of the stream" {
    many_texts 80 | sed 's/"}$/",  "more" : [1, {"ppl": 2}] } /' > in.jsonl
    score --quiet --passthrough in.jsonl > want.jsonl
    grep -q '"more" : \[1, {"ppl": 2}\], "tokens": ' want.jsonl
    score --quiet --passthrough --out out.jsonl in.jsonl
    cmp out.jsonl want.jsonl
}

@test "shards: together they are the whole" {
    many_texts 90 > a.jsonl
    many_texts 50 | gzip > b.jsonl.gz
    many_texts 40 > c.jsonl
    score --quiet --out want.jsonl a.jsonl b.jsonl.gz c.jsonl
    for i in 2 0; do
        ends 0 "the others have " --shard $i/3 --out out.jsonl a.jsonl b.jsonl.gz c.jsonl
        [ ! -e out.jsonl ]
    done
    # the last one may come as part of another number
    ends 0 "chunks are done" --out out.jsonl a.jsonl b.jsonl.gz c.jsonl
    cmp out.jsonl want.jsonl
    for i in 0 1 2 3; do
        score --quiet --shard $i/4 a.jsonl b.jsonl.gz c.jsonl
    done | sort | cmp - <(sort want.jsonl)
}

@test "progress counts records, however many windows they take" {
    many_texts 60 > in.jsonl
    run --separate-stderr score --progress json --metrics-file run.prom --out out.jsonl in.jsonl
    [ "$status" -eq 0 ]
    [[ ${stderr_lines[-1]} == '{"event": "finish", "command": "score", "unit": "texts", '*'"done": 60, '* ]] || { echo "$stderr"; false; }
    grep -qx 'tandem_records_total{command="score",rank="0"} 60' run.prom
    tokens=$(sed -n 's/^tandem_tokens_total{command="score",rank="0"} //p' run.prom)
    score --quiet --json --restart --out out.jsonl in.jsonl | grep -q "\"tokens\": $tokens,"
}
