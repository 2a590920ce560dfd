#!/usr/bin/env bats
# Watching a run, and knowing beforehand what it will be: --progress json, --metrics-file, --dry-run. With the
# device that computes nothing: what is said about a run does not depend on what computes.

setup() {
    bats_require_minimum_version 1.5.0
    reader=$TDM_SOURCE_DIR/tools/demo/reader
    writer=$TDM_SOURCE_DIR/tools/demo/writer
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
}

detect() {
    "$TANDEM" detect --model "$reader" --device null "$@"
}

generate() {
    "$TANDEM" generate --model "$writer" --device null "$@"
}

# $1 records, each different, of some 40 words more than $3; $2: what comes in front of the text.
some_records() {
    awk -v n="$1" -v before="$2" -v more="$3" 'BEGIN {
        seed = 1
        for (i = 0; i < n; i++) {
            printf "{%s\"text\": \"", before == "" ? "" : before ": " i ", "
            for (k = 0; k < 20 + i % 41 + more; k++) {
                seed = (seed * 69069 + 1) % 4294967296
                printf "%sword%d", k ? " " : "", int(seed / 65536) % 1000
            }
            print "\"}"
        }
    }'
}

# The number of a field in the JSON object $2.
number() {
    grep -o "\"$1\": [0-9.]*" <<< "$2" | head -n 1 | cut -d ' ' -f 2
}

# Whether $1 is $2, give or take $3 (ten) per cent.
is_about() {
    awk -v got="$1" -v want="$2" -v off="${3:-10}" \
        'BEGIN { exit !(got > (1 - off / 100) * want && got < (1 + off / 100) * want) }' ||
        { echo "got $1, want about $2"; false; }
}

# A dry run and then the run itself, both with the arguments given; said and ran are what --json says.
said_and_done() {
    local before after
    before=$(ls -A)
    said=$("$@" --quiet --json --dry-run)
    after=$(ls -A)
    [ "$before" = "$after" ] || { echo "made: $after"; false; }
    ran=$("$@" --quiet --json) || [ "$?" -eq 3 ]
}

# ---- watching ----

@test "--progress json: from start to finish, one object a line" {
    some_records 50 '"id"' > in.jsonl
    echo '["no object"]' >> in.jsonl
    run -3 --separate-stderr detect --max-errors 1 --progress json in.jsonl --out out.jsonl
    events=$(grep '^{' <<< "$stderr")
    [[ $(head -n 1 <<< "$events") == '{"event": "start", "command": "detect", "unit": "texts", "rank": 0, "ranks": 1, "before": 0, "done": 0, '* ]]
    last=$(tail -n 1 <<< "$events")
    [[ $last == '{"event": "finish", '*'"done": 51, '*'"bad": 1, '* ]]
    [ "$(number bytes_done "$last")" -eq "$(wc -c < in.jsonl)" ]
    # the same again: there is nothing to watch
    run -0 --separate-stderr detect --max-errors 1 --progress json in.jsonl --out out.jsonl
    [[ $stderr != *'"event"'* ]]
}

@test "--progress json: a run that fails stops, also after its last record" {
    some_records 50 '"id"' > in.jsonl
    echo '["no object"]' >> in.jsonl
    run -65 --separate-stderr detect --max-errors 1% --progress json in.jsonl --out out.jsonl
    [[ $(grep '^{' <<< "$stderr" | tail -n 1) == '{"event": "stop", '*'"done": 51, '* ]]
    [[ $stderr != *'"finish"'* ]]
}

@test "a job that goes on: what was there before is said, and not counted again" {
    some_records 100 '"id"' > in.jsonl
    run -0 --separate-stderr detect --chunk 1KiB --shard 0/2 --metrics-file run.prom in.jsonl --out out.jsonl
    first=$(sed -n 's/^tandem_records_total{command="detect",rank="0"} //p' run.0.prom)
    [ "$first" -gt 0 ]
    [ "$first" -lt 100 ]
    run -0 --separate-stderr detect --chunk 1KiB --progress json --metrics-file run.prom in.jsonl --out out.jsonl
    [[ $stderr == *'{"event": "start", '*"\"before\": $first, \"done\": $first, "* ]]
    [[ $stderr == *'{"event": "finish", '*"\"before\": $first, \"done\": 100, "* ]]
    grep -qx "tandem_records_before{command=\"detect\",rank=\"0\"} $first" run.prom
    grep -qx "tandem_records_total{command=\"detect\",rank=\"0\"} $((100 - first))" run.prom
    grep -qx 'tandem_up{command="detect",rank="0"} 0' run.prom
    grep -qx 'tandem_finished{command="detect",rank="0"} 1' run.prom
}

@test "--metrics-file: every line is one that Prometheus reads, and no other file is left" {
    some_records 50 '"id"' > in.jsonl
    run -0 detect --quiet --metrics-file run.prom in.jsonl --out out.jsonl
    [ -z "$output" ]
    run -1 grep -vE '^(# (HELP|TYPE) tandem_[a-z_]+ .+|tandem_[a-z_]+\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\} [0-9.e+]+)$' run.prom
    # each sample has its two lines in front
    [ "$(grep -c '^# HELP' run.prom)" -eq "$(grep -vc '^#' run.prom)" ]
    [ "$(grep -c '^# TYPE' run.prom)" -eq "$(grep -vc '^#' run.prom)" ]
    grep -q 'tandem_info{command="detect",rank="0",ranks="1",unit="texts",version="[0-9.]*"} 1' run.prom
    [ "$(ls)" = "$(printf '%s\n' in.jsonl out.jsonl out.jsonl.manifest.json run.prom)" ]
}

@test "--metrics-file: a failed run says so; a name that cannot be written is refused" {
    echo '["no object"]' > in.jsonl
    run -65 detect --metrics-file run.prom in.jsonl --out out.jsonl
    grep -qx 'tandem_finished{command="detect",rank="0"} 0' run.prom
    grep -qx 'tandem_up{command="detect",rank="0"} 0' run.prom
    run -73 detect --metrics-file missing/run.prom in.jsonl
    [[ ${lines[-1]} == *"missing/run.prom"* ]]
    mkfifo pipe
    run -73 detect --metrics-file pipe in.jsonl
    [ -p pipe ]
}

@test "--metrics-file: never in place of an input or of OUT" {
    some_records 50 '"id"' > in.jsonl
    cp in.jsonl before.jsonl
    run -73 detect --metrics-file in.jsonl in.jsonl --out out.jsonl
    [[ ${lines[-1]} == *"in.jsonl is there and holds something else (cannot create)" ]]
    cmp in.jsonl before.jsonl
    [ ! -e out.jsonl.job ]
    run -0 detect --quiet --metrics-file ./out.jsonl in.jsonl --out out.jsonl
    [ "$(wc -l < out.jsonl)" -eq 50 ]
}

@test "generate and tokenize are watched in the same way" {
    run -0 --separate-stderr generate --n 3 --progress json --metrics-file run.prom --out out.jsonl
    [[ $stderr == *'{"event": "start", "command": "generate", "unit": "documents", '*'"total": 3, '* ]]
    [[ $stderr == *'{"event": "finish", '*'"done": 3, "total": 3, '* ]]
    grep -qx 'tandem_records_expected{command="generate",rank="0"} 3' run.prom
    some_records 5 '"id"' > in.jsonl
    run -0 --separate-stderr "$TANDEM" tokenize --model "$writer" --progress json --metrics-file run.prom \
        in.jsonl --out ids.jsonl
    [[ $stderr == *'{"event": "finish", "command": "tokenize", '*'"done": 5, '* ]]
    grep -qx 'tandem_records_total{command="tokenize",rank="0"} 5' run.prom
}

# ---- beforehand ----

@test "--dry-run: of little input all is known, and nothing is made" {
    { some_records 300 '"id"'; echo '["no object"]'; } > in.jsonl
    said_and_done detect in.jsonl --max-errors 1 --chunk 10KiB --out out.jsonl
    [[ $said == *'"exact": true'* ]]
    [ "$(number records "$said")" -eq 301 ]
    [ "$(number bad "$said")" -eq 1 ]
    [ "$(number results "$said")" -eq 300 ]
    [ "$(number tokens "$said")" -eq "$(number tokens "$ran")" ]
    [ "$(number chunks "$said")" -eq "$(grep -o '"chunks": [0-9]*,' out.jsonl.manifest.json | head -n 1 | tr -dc 0-9)" ]
    [ "$(number out_bytes "$said")" -eq "$(wc -c < out.jsonl)" ]
    [[ $said == *'"fits": true'* ]]
}

@test "--dry-run: with --passthrough, and without ids" {
    some_records 300 > in.jsonl
    said_and_done detect --passthrough in.jsonl --out out.jsonl
    [ "$(number out_bytes "$said")" -eq "$(wc -c < out.jsonl)" ]
}

@test "--dry-run: much input, plain and compressed, from a part of it" {
    mkdir in
    some_records 68000 '"id"' > in/a.jsonl
    some_records 40000 '"number"' > in/b.jsonl
    some_records 20000 '"id"' 60 | gzip -1 > in/c.jsonl.gz
    some_records 20000 '"id"' 60 | zstd -q > in/d.jsonl.zst
    [ "$(cat in/* | wc -c)" -gt $((32 << 20)) ] # more than is simply read
    said_and_done detect in --out out.jsonl
    [[ $said == *'"exact": false'* ]]
    is_about "$(number records "$said")" 148000
    is_about "$(number text_bytes "$said")" "$(cat in/a.jsonl in/b.jsonl <(zcat in/c.jsonl.gz) <(zstdcat in/d.jsonl.zst) | wc -c)"
    is_about "$(number tokens "$said")" "$(number tokens "$ran")" 3
    is_about "$(number out_bytes "$said")" "$(wc -c < out.jsonl)"
    said=$(detect in --out out.gz --quiet --json --dry-run)
    is_about "$(number out_bytes "$said")" "$(gzip -6 < out.jsonl | wc -c)"
}

@test "--dry-run: documents, and documents for prompts" {
    said_and_done generate --n 2000 --length 60 --out out.jsonl.gz
    [ "$(number results "$said")" -eq 2000 ]
    [ "$(number chunks "$said")" -eq 32 ]
    is_about "$(number tokens "$said")" "$(number tokens "$ran")"
    is_about "$(number out_bytes "$said")" "$(wc -c < out.jsonl.gz)"
    some_records 200 '"id"' > prompts.jsonl
    said_and_done generate --prompts prompts.jsonl --samples-per-prompt 3 --length 20 --out more.jsonl
    [ "$(number results "$said")" -eq 600 ]
    is_about "$(number tokens "$said")" "$(number tokens "$ran")"
    is_about "$(number out_bytes "$said")" "$(wc -c < more.jsonl)"
    # more than the trial gets through
    said=$(generate --quiet --dry-run --json --prompts prompts.jsonl --samples-per-prompt 100000 --length 20)
    [ "$(number results "$said")" -eq 20000000 ]
    is_about "$(number tokens "$said")" $(($(number tokens "$ran") * 20000000 / 600))
}

@test "--dry-run: as text; what does not fit" {
    some_records 20 '"id"' > in.jsonl
    run -0 --separate-stderr detect --dry-run in.jsonl --out out.jsonl
    [ "${lines[0]}" = "tandem detect, dry run: nothing is written" ]
    [[ $output == *"records   20, 0 of them bad"* ]]
    [[ $output == *" in 1 chunk; "*" are free in ."* ]]
    [[ $output != *warning* ]]
    run -0 --separate-stderr generate --dry-run --n 1000000000000000 --out /tmp/out.jsonl
    [[ $output == *"are free in /tmp"$'\n'"warning   that does not fit: free "* ]]
    [[ $(generate --quiet --dry-run --json --n 1000000000000000 --out out.jsonl) == *'"fits": false'* ]]
}

@test "--dry-run: the first of several ranks speaks for all" {
    some_records 20 '"id"' > in.jsonl
    run -0 --separate-stderr detect --dry-run --shard 0/3 in.jsonl --out out.jsonl
    [[ $output == *"ranks     3, each "* ]]
    run -0 detect --quiet --dry-run --shard 2/3 in.jsonl --out out.jsonl
    [ -z "$output" ]
    run -0 generate --quiet --dry-run --shard 2/3 --out out.jsonl
    [ -z "$output" ]
}

@test "--dry-run: refused" {
    run -2 --separate-stderr detect --dry-run - < /dev/null
    [[ ${stderr_lines[-1]} == *"stdin can be read only once"* ]]
    some_records 2 > in.jsonl
    run -73 --separate-stderr detect --dry-run in.jsonl --out missing/out.jsonl
    [[ ${stderr_lines[-1]} == *"missing: "* ]]
    mkdir folder
    run -73 --separate-stderr detect --dry-run in.jsonl --out folder
    [[ ${stderr_lines[-1]} == *": folder: is a folder (cannot create)" ]]
    run -2 --separate-stderr detect --dry-run --shard 3/3 in.jsonl
    run -66 --separate-stderr detect --dry-run missing.jsonl
}
