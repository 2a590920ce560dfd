#!/usr/bin/env bats
# tandem eval --matrix and --reference from outside: a folder to a table, as text, JSON, CSV, picture and page. The numbers
# of the first test are worked out by hand; the last test goes from the demo's models to a table.

load eval_refuses

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    mkdir -p table/small table/large
    records .1 .2 .3 .6 > table/small/human.jsonl
    records .9 .8 .4 .7 > table/small/124M.jsonl
    records .6 .2 > table/small/1.5B.jsonl
    records .1 .1 .1 .1 > table/large/human.jsonl
    records .9 .9 .9 .9 > table/large/124M.jsonl
    records .7 .7 .7 .3 > table/large/human-like.jsonl
    records .8 .1 > table/large/human-like.human.jsonl
}

# Records of detect's form with these values of fake.
records() {
    printf '%s\n' "$@" | awk '{ printf "{\"id\": %d, \"fake\": %.9g, \"used_tokens\": %d}\n", NR, $1, 40 * NR }'
}

# n records whose values are $1 to $2.
many() {
    awk -v n="$1" -v from="$2" -v to="$3" 'BEGIN {
        for (i = 0; i < n; i++) printf "{\"id\": %d, \"fake\": %.9g}\n", i, from + (to - from) * (i * 7919 % n) / n
    }'
}

wellformed() {
    ! command -v xmllint > xmllint.path || xmllint --noout "$@"
}

@test "a folder, worked out by hand" {
    run --separate-stderr "$TANDEM" eval --matrix table --bootstrap 0
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    cat > want <<'EOF'
accuracy of fake at 0.5 (%)
rows: detector; columns: texts

       124M   1.5B  human-like
small  75.0   66.7  -
large  100.0  -     66.7

2 to 4 human and 2 to 4 machine texts a cell
EOF
    diff want - <<< "$output"
}

@test "as CSV and JSON, and the same a second time" {
    run --separate-stderr "$TANDEM" eval --matrix table --metric auroc --bootstrap 100 --csv cells.csv --json
    [ "$status" -eq 0 ]
    [[ $output == '{"title": "AUROC of fake", '* ]]
    [[ $output == *'"rows": ["small", "large"], "columns": ["124M", "1.5B", "human-like"], "confidence": 0.95, '* ]]
    [ "$(head -n 2 cells.csv | cut -d, -f1-4,7-)" = "table,row,column,value,humans,machines,excluded,higher_is
AUROC of fake,small,124M,0.9375,4,4,0,machine" ]
    [ "$(grep -c . cells.csv)" -eq 7 ]
    grep -qx 'AUROC of fake,small,human-like,,,,,,,' cells.csv
    cp cells.csv first.csv
    "$TANDEM" eval --matrix table --metric auroc --bootstrap 100 --csv cells.csv --threads 1 --json > again.json
    cmp first.csv cells.csv
    [ "$output" = "$(cat again.json)" ]
}

@test "every metric" {
    for file in table/*/*.jsonl; do
        case $file in *human.jsonl) many 60 0 .6 ;; *) many 40 .3 1 ;; esac > "$file"
    done
    for metric in accuracy balanced best auroc tpr; do
        run --separate-stderr "$TANDEM" eval --matrix table --metric $metric --bootstrap 20 --fpr 0.05
        [ "$status" -eq 0 ] || { echo "$stderr"; false; }
        echo "${lines[0]}" >> titles
    done
    diff titles - <<'EOF'
accuracy of fake at 0.5 (%) [95 % bootstrap interval]
balanced accuracy of fake at 0.5 (%) [95 % bootstrap interval]
balanced accuracy of fake, threshold fitted on 50 % of the texts (%) [95 % bootstrap interval]
AUROC of fake (%) [95 % bootstrap interval]
true positive rate of fake at a false positive rate of 5 % (%) [95 % bootstrap interval]
EOF
}

@test "the picture and the page hold the table, the published ones and nothing that runs" {
    mkdir 'table/<script>alert(1)<'
    records .1 .2 > 'table/<script>alert(1)</human.jsonl'
    records .8 .9 > 'table/<script>alert(1)</124M.jsonl'
    run --separate-stderr "$TANDEM" eval --matrix table --bootstrap 50 --svg pictures --html page.html --reference transfer
    [ "$status" -eq 0 ]
    [ "$(ls pictures)" = $'matrix-2.svg\nmatrix.svg' ]
    wellformed pictures/matrix.svg pictures/matrix-2.svg page.html
    grep -q '&lt;script&gt;alert(1)&lt;' page.html
    [ -z "$(grep -i '<script\|href=\|src=\|@import\|url(' page.html pictures/matrix.svg)" ]
    grep -q 'Measured here' page.html
    grep -q 'Published, not measured here' page.html
    [ "$(grep -c '<svg ' page.html)" -eq 2 ]
    cp page.html first.html
    "$TANDEM" eval --matrix table --bootstrap 50 --svg pictures --html page.html --reference transfer > text
    cmp first.html page.html
}

@test "what a run leaves beside its results is no column, and a compressed file is one" {
    records .1 .2 .3 .6 > table/small/124M.jsonl.errors.jsonl
    echo '{}' > table/small/124M.jsonl.manifest.json
    mkdir table/OUT.job table/small/OUT.job table/.cache
    gzip table/small/1.5B.jsonl
    run --separate-stderr "$TANDEM" eval --matrix table --bootstrap 0
    [ "$status" -eq 0 ]
    [ "${lines[2]}" = "       124M   1.5B  human-like" ]
}

@test "bad records: one ends it with file and line, or is counted" {
    echo '{"id": 9, "fake": "x"}' >> table/large/124M.jsonl
    refuses 65 'table/large/124M.jsonl:5' --matrix table
    run --separate-stderr "$TANDEM" eval --matrix table --bootstrap 0 --max-errors 1
    [ "$status" -eq 3 ]
    [[ $output == *"1 bad records left out, over all cells"* ]]
    [[ $stderr == *"table/large/124M.jsonl:5"* ]]
}

@test "folders that are no table are refused" {
    refuses 66 'nowhere: ' --matrix nowhere
    mkdir empty
    refuses 66 'empty: has no ROW/COLUMN.jsonl' --matrix empty
    mkdir empty/row
    refuses 66 'empty/row: a row without COLUMN.jsonl' --matrix empty
    cp table/small/124M.jsonl empty/row/124M.jsonl
    refuses 66 'empty/row/124M.jsonl: there is no human.jsonl beside it' --matrix empty
    cp table/small/124M.jsonl empty/124M.jsonl
    refuses 66 'empty/124M.jsonl: is in no row' --matrix empty
    gzip -k table/small/124M.jsonl
    refuses 65 'are both the same cell' --matrix table
}

@test "a metric that needs more than there is" {
    refuses 2 'used_tokens has no threshold of its own' --matrix table --field used_tokens
    refuses 65 'there is no' --matrix table --field nothing
    refuses 2 '--matrix: of which of 2 fields?' --matrix table --field fake --field used_tokens
}

@test "the published tables" {
    run --separate-stderr "$TANDEM" eval --reference
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    [ "$(grep -c '^source: ' <<< "$output")" -eq 7 ]
    [ "$(grep -c 'Not known: ' <<< "$output")" -eq 7 ]
    run --separate-stderr "$TANDEM" eval --reference transfer
    [ "${lines[3]}" = "124M  99.3  96.6  90.9  79.3" ]
    [ "$("$TANDEM" eval --reference --json | grep -o '"title"' | grep -c .)" -eq 7 ]
    "$TANDEM" eval --reference tfidf length --csv both.csv > text
    [ "$(grep -c ^accuracy both.csv)" -eq 20 ] # every cell of each, empty ones too
    grep -qx 'accuracy of TF-IDF on 1542M by length of text,5000 and more,top-k 40,0.927,,,,,,' both.csv
    refuses 2 "--field means nothing with --reference" --reference --field lrr
    refuses 2 "--bootstrap means nothing with --reference" --reference tfidf --bootstrap 10
    refuses 2 'there is no published table tranfer; there are transfer, tfidf' --reference tranfer
}

@test "from the demo's models to a table" {
    reader=$TDM_SOURCE_DIR/tools/demo/reader writer=$TDM_SOURCE_DIR/tools/demo/writer
    [ -f "$reader/config.json" ] || skip "there is no model in $reader"
    mkdir -p whole/demo
    "$TANDEM" generate --model "$writer" --device cpu --n 12 --length 60 --top-k 40 --quiet --out texts.jsonl
    "$TANDEM" detect --model "$reader" --device cpu --quiet --out whole/demo/top-k-40.jsonl texts.jsonl
    head -n 12 "$TDM_SOURCE_DIR/tools/demo/human.jsonl" > human.jsonl
    "$TANDEM" detect --model "$reader" --device cpu --quiet --out whole/demo/human.jsonl human.jsonl
    run --separate-stderr "$TANDEM" eval --matrix whole --bootstrap 50 --html page.html
    [ "$status" -eq 0 ]
    [ "${lines[2]%% *}" = "" ]
    [[ ${lines[3]} =~ ^demo\ +[0-9.]+\ \[[0-9.]+,\ [0-9.]+\]$ ]]
    [[ $output == *"12 human and 12 machine texts a cell"* ]]
    wellformed page.html
}
