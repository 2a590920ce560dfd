#!/usr/bin/env bats
# tandem raid from outside: RAID's CSV in, a submission and its results out, and everything that submitters get wrong.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
}

HEADER=id,adv_source_id,source_id,model,decoding,repetition_penalty,attack,domain,title,prompt,generation

raid() {
    "$TANDEM" raid "$@"
}

# Exit code $1, and output or stderr that holds $2.
says() {
    local code=$1 says=$2
    shift 2
    run raid "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $output"; false; }
    [[ $output == *"$says"* ]] || { echo "$output"; false; }
}

# Four rows, with everything that a field of RAID may hold.
small_csv() {
    cat <<END
$HEADER
h1,h1,h1,human,,,none,books,"A ""title"", quoted",,"It said:
""no"", and left."
m1,m1,h1,gpt2,greedy,no,none,books,t,"Write
it",plain text
m2,m1,h1,gpt2,greedy,no,homoglyph,books,t,p,"línea, ""x"""

m3,m3,h1,gpt-4,sampling,no,none,books,t,p,last
END
}

# train.csv of $1 sources in two domains, and predictions of them by an awk expression $2 of m (1: machine) and u in [0, 1).
labelled() {
    awk -v n="$1" -v header="$HEADER" 'BEGIN {
        srand(7); OFS = ","; print header > "train.csv"; printf "[" > "predictions.json"
        for (d = 0; d < 2; d++) for (i = 0; i < n; i++) for (k = 0; k < 4; k++) {
            m = k > 1; a = k % 2 ? "whitespace" : "none"; id = "id-" d "-" i "-" k; u = rand()
            print id, "s", "s" i, m ? "gpt2" : "human", m ? "greedy" : "", m ? "no" : "", a, d ? "news" : "books", "t", "", "\"text, " i "\"" > "train.csv"
            printf "%s{\"id\": \"%s\", \"score\": %.9g}", d + i + k ? ", " : "", id, '"$2"' > "predictions.json"
        }
        print "]" > "predictions.json" }'
}

@test "records: every field comes through, whatever it holds" {
    small_csv > train.csv
    run --separate-stderr raid records train.csv
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 4 ]
    [ "${lines[0]}" = '{"id": "h1", "text": "It said:\n\"no\", and left.", "label": "human", "adv_source_id": "h1", "source_id": "h1", "model": "human", "decoding": null, "repetition_penalty": null, "attack": "none", "domain": "books", "title": "A \"title\", quoted", "prompt": null}' ]
    [[ ${lines[1]} == '{"id": "m1", "text": "plain text", "label": "machine", '*'"prompt": "Write\nit"}' ]]
    [[ ${lines[2]} == '{"id": "m2", "text": "l\u00ednea, \"x\"", '* ]]
    [[ ${lines[3]} == '{"id": "m3", "text": "last", "label": "machine", '* ]]
}

@test "records: the test set has no label" {
    printf 'id,generation\na,"x, y"\nb,\n' > test.csv
    run --separate-stderr raid records test.csv
    [ "$output" = '{"id": "a", "text": "x, y"}
{"id": "b", "text": ""}' ]
}

@test "records: the same bytes from a file, stdin, gz, zst, small chunks and two processes" {
    { small_csv; for i in $(seq 200); do printf 'x%d,s,s,gpt2,greedy,no,none,news,t,"p\n%d","text ""%d""\r\n"\n' $i $i $i; done; } > train.csv
    gzip -k train.csv && zstd -q -k train.csv
    raid records train.csv --quiet > want
    [ "$(wc -l < want)" -eq 204 ]
    raid records < train.csv --quiet | cmp - want
    raid records train.csv.gz --quiet | cmp - want
    raid records train.csv.zst --quiet | cmp - want
    raid records train.csv --out a.jsonl --chunk 100 --quiet && cmp a.jsonl want
    raid records train.csv.gz --out b.jsonl --chunk 333 --quiet && cmp b.jsonl want
    raid records train.csv --out c.jsonl --chunk 512 --quiet --shard 0/2
    raid records train.csv --out c.jsonl --chunk 512 --quiet --shard 1/2 && cmp c.jsonl want
    raid records train.csv --out d.jsonl.zst --quiet && zstdcat d.jsonl.zst | cmp - want
    raid records train.csv train.csv --quiet | cmp - <(cat want want)
    run --separate-stderr "$TANDEM" inspect a.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *204* ]]
}

@test "records: bad rows are named and counted, and the rest is there" {
    { small_csv; printf 'm4,too few\nm5,s,s,gpt2,,,none,books,t,p,a "quote" inside\n,s,s,gpt2,,,none,books,t,p,no id\n'
      printf 'm6,s,s,,,,none,books,t,p,no model\nm7,s,s,gpt2,,,none,books,t,p,\xff\nm8,s,s,gpt2,,,none,books,t,p,good\n'; } > train.csv
    run --separate-stderr raid records train.csv --out o.jsonl
    [ "$status" -eq 65 ]
    [ ! -e o.jsonl ]
    run --separate-stderr raid records train.csv --out o.jsonl --max-errors 5
    [ "$status" -eq 3 ]
    [[ $stderr == *"5 of 10 records are bad: 1 utf8, 4 csv"* ]]
    [ "$(wc -l < o.jsonl)" -eq 5 ]
    run cat o.jsonl.errors.jsonl
    [[ ${lines[0]} == '{"file": "train.csv", "line": 9, '*'"class": "csv", "detail": "row 5: 2 fields, want 11"}' ]]
    [[ ${lines[1]} == *'"line": 10, '*'row 6, line 10, byte '*': a quote inside a field without quotes"}' ]]
    [[ ${lines[2]} == *'"line": 11, '*'row 7: column id is empty"}' ]]
    [[ ${lines[3]} == *'row 8: column model is empty"}' ]]
    [[ ${lines[4]} == *'"class": "utf8"'*'row 9, line 13, byte '* ]]
    grep -q '"skipped": 1' o.jsonl.manifest.json
}

@test "records: a run that ended goes on, and ends with the same bytes" {
    { small_csv; for i in $(seq 500); do printf 'x%d,s,s,gpt2,greedy,no,none,news,t,"p\n","text %d"\n' $i $i; done; } > train.csv
    sed -i 's/^x400,s,/x400,/' train.csv
    raid records train.csv --out whole.jsonl --max-errors 1 --quiet --chunk 256 || [ $? -eq 3 ]
    run raid records train.csv --out parts.jsonl --quiet --chunk 256
    [ "$status" -eq 65 ]
    [ -d parts.jsonl.job ]
    run raid records train.csv --out parts.jsonl --max-errors 1 --chunk 256
    [ "$status" -eq 3 ]
    [[ $output == *"going on"* ]]
    cmp parts.jsonl whole.jsonl
    cmp parts.jsonl.errors.jsonl whole.jsonl.errors.jsonl
}

@test "records: a quote that is never closed says where it began" {
    { small_csv; printf 'm4,s,s,gpt2,,,none,books,t,p,"open\n'; for i in 5 6 7 8 9; do echo "m$i,s,s,gpt2,,,none,books,t,p,x"; done; } > train.csv
    says 65 "row 5: the quote at line 9, byte" records train.csv
    says 65 "is not closed before the end of the file" records train.csv
    says 65 "in quotes that begin at line 9, byte" records train.csv --max-line 150
}

@test "records: files that are not RAID's" {
    printf 'a,b\n1,2\n' > f.csv
    says 65 "f.csv: line 1: there is no column id" records f.csv
    printf 'id,text\n1,2\n' > f.csv
    says 65 "there is no column generation" records f.csv
    printf 'id,generation,label\n1,2,3\n' > f.csv
    says 65 "there is a column label" records f.csv
    printf 'id,generation,id\n1,2,3\n' > f.csv
    says 65 'columns 1 and 3 are both named "id"' records f.csv
    : > f.csv
    says 65 "f.csv: is empty" records f.csv
    says 66 "nowhere.csv" records nowhere.csv
}

@test "predictions: the array, digit by digit, whatever the order of the fields" {
    printf '{"fake": 0.123456789, "id": "a"}\n{"id": "b", "fake": 1}\n{"id": "c\\u00e9", "fake": 1.5e-07, "real": 1}\n' > judged.jsonl
    run --separate-stderr raid predictions judged.jsonl --field fake
    [ "$status" -eq 0 ]
    [ "$output" = '[{"id": "a", "score": 0.123456789},
 {"id": "b", "score": 1},
 {"id": "c\u00e9", "score": 1.5e-07}]' ]
    [[ $stderr == *"3 predictions"* ]]
    raid predictions judged.jsonl --out p.json --quiet
    [ "$(cat p.json)" = "$output" ]
}

@test "predictions: fields that point the other way are turned, and it is said" {
    printf '{"id": "a", "real": 0.25, "ppl": 12.5, "mine": 3, "logit_real": -2.5}\n{"id": "b", "real": 1, "ppl": 0, "mine": -4, "logit_real": 0}\n' > s.jsonl
    run --separate-stderr raid predictions s.jsonl --field real
    [[ $output == *'"a", "score": 0.75}'*'"b", "score": 0}'* ]]
    [[ $stderr == *"a higher real is rather a human: the score is 1 - real"* ]]
    run --separate-stderr raid predictions s.jsonl --field ppl
    [[ $output == *'"score": -12.5}'*'"score": 0}'* ]]
    [[ $stderr == *"the score is -ppl"* ]]
    run --separate-stderr raid predictions s.jsonl --field logit_real
    [[ $output == *'"score": 2.5}'* ]]
    run --separate-stderr raid predictions s.jsonl --field ppl --orientation machine
    [[ $output == *'"score": 12.5}'* ]]
    says 2 "which way it points is not known; say --orientation" predictions s.jsonl --field mine
    run --separate-stderr raid predictions s.jsonl --field mine --orientation human
    [[ $output == *'"score": -3}'*'"score": 4}'* ]]
    printf '{"id": "a", "real": 1.5}\n' > s.jsonl
    says 65 "s.jsonl: line 1, byte 0: real is 1.5, want a probability" predictions s.jsonl --field real
}

@test "predictions: what cannot be sent ends it, with its place, and leaves nothing" {
    good='{"id": "a", "fake": 0.5}'
    while IFS='|' read -r bad why; do
        printf '%s\n%s\n' "$good" "$bad" > s.jsonl
        says 65 "s.jsonl: line 2, byte 25: $why" predictions s.jsonl --out p.json
        [ -z "$(ls | grep -v s.jsonl)" ]
    done <<'END'
{"id": "a", "fake": 0.7}|id "a" stands twice, first in record 1
{"id": "b", "fake": null}|id "b": fake is null, want a number
{"id": "b", "fake": "0.5"}|id "b": fake is "0.5", want a number
{"id": "b", "fake": NaN}|
{"id": "b", "fake": 1e999}|
{"id": "b"}|id "b": there is no field fake
{"fake": 0.5}|there is no id
{"id": 7, "fake": 0.5}|the id is 7, want a string
[1]|
END
    : > s.jsonl
    says 65 "there is no record" predictions s.jsonl
    says 66 "nowhere.jsonl" predictions nowhere.jsonl
    printf '%s\n' "$good" > s.jsonl
    says 73 "nowhere" predictions s.jsonl --out nowhere/p.json
}

@test "check: a submission that is fine" {
    labelled 100 'm + u'
    cat > metadata.json <<'END'
{"date_released": "2024-05-25", "detector_name": "x", "contact_info": "a@b.c", "website": null, "github_link": "https://example.com"}
END
    run raid check predictions.json --data train.csv --metadata metadata.json
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "0 errors, 0 warnings" ]
    [[ $output == *"fine: 800 predictions, each with its own id and a finite score"* ]]
    [[ $output == *"fine: the scores point the right way: AUROC 1.0000"* ]]
    run raid check predictions.json --data train.csv --json
    [[ $output == '{"predictions": 800, "errors": 0, "warnings": 0,'* ]]
    raid records train.csv --out train.jsonl --quiet
    run raid check predictions.json --data train.jsonl
    [ "$status" -eq 0 ]
}

@test "check: forms that stop RAID's evaluator" {
    while IFS='|' read -r text why; do
        printf '%s' "$text" > p.json
        says 65 "error: $why" check p.json
    done <<'END'
|p.json: is empty
{"id": ["a"], "score": [1]}|p.json: byte 0: want an array
{"id": "a", "score": 1}|p.json: byte 0: want an array [{"id": ..., "score": ...}, ...], found an object (of JSON Lines,
[]|p.json: the array is empty
[0.5, 0.7]|2 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 is no object
[{"id": "a"}]|1 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 has no score
[{"id": "a", "score": "0.5"}]|1 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 the score is no number
[{"id": 5, "score": 0.5}]|1 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 the id is no string
[{"id": "a", "score": 0.5, "model": "x"}]|1 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 has a key "model"
[{"id": "a", "score": NaN}, {"id": "b", "score": null}, {"id": "NaN,", "score": -Infinity}]|3 scores are NaN, infinite or null, and RAID leaves out every group with one: "a" in item 1; "b" in item 2; "NaN," in item 3
[{"id": "a", "score": 1}, {"id": "a", "score": 2}]|1 ids stand there again, which stops the evaluator: "a" in item 2
[{"id": "a", "score": 1}|p.json: byte 24: the file ends behind item 1, without ]
[{"id": "a", "score": 1|p.json: the file ends in the middle of item 1, which begins at byte 1
[{"id": "a", "score": 1},]|p.json: byte 25: there is no item behind the last comma
[{"id": "a", "score": 1} {"id": "b", "score": 2}]|p.json: byte 25: want a comma behind item 1
[{"id": "a", "score": 1}] x|p.json: byte 26: the file goes on behind the array
[{"id": "a", "score": 1.}]|1 items are no {"id": "...", "score": NUMBER}, which stops the evaluator: item 1 at byte 1 is no JSON
END
}

@test "check: strings do not end an item, wherever they stand" {
    printf '[ {"id": "a]},{[\\"", "score": 1},\n{"score": 2.5, "id": "\\\\"} , {"id":"c","score":3} ]\n' > p.json
    printf 'id,generation\n"a]},{[""",x\n\\,x\nc,x\n' > d.csv
    run raid check p.json --data d.csv
    [ "$status" -eq 3 ]
    [[ $output == *"fine: 3 predictions"*"warning: d.csv: 3 texts, and the test set has 672000"*"fine: the ids are those of d.csv"* ]]
}

@test "check: ids beside the data" {
    printf 'id,generation\na,x\nb,x\nc,x\nd,x\ne,x\n' > d.csv
    printf '[{"id": "a", "score": 1}, {"id": "z", "score": 2}, {"id": "y", "score": 3}]' > p.json
    run raid check p.json --data d.csv
    [ "$status" -eq 65 ]
    [[ $output == *"error: 4 texts of the data have no prediction, and RAID leaves out every group with one: b; c; d; ..."* ]]
    [[ $output == *'warning: 2 predictions are of texts that are not in the data: "z" in item 2; "y" in item 3'* ]]
}

@test "check: the set without attacks is not the test set" {
    awk 'BEGIN { printf "["; for (i = 0; i < 56000; i++) printf "%s{\"id\": \"%d\", \"score\": 0.%d}", i ? ",\n" : "", i, i; print "]" }' > p.json
    says 65 "error: p.json: 56000 texts are those of test_none.csv" check p.json
}

@test "check: scores without digits, of two values, of one, and half turned" {
    labelled 300 'm ? int(u * 50) / 100 + 0.5 : int(u * 60) / 100'
    says 3 "warning: only 100 different scores among 2400" check predictions.json --data train.csv
    [[ $output == *"RAID's search for an FPR of 0.01 ends at"*"and it gives no accuracy"* ]]
    labelled 50 'm'
    says 65 "error: only 2 different scores: no threshold parts them" check predictions.json --data train.csv
    labelled 50 '1'
    says 65 "error: only 1 different score: no threshold" check predictions.json --data train.csv
    labelled 300 '1 - (m ? u : 1.2 * u)'
    says 3 "scores are outside [0, 1], which RAID allows, and most are inside" check predictions.json
    labelled 300 '5 * u + m - 3'
    run raid check predictions.json
    [[ $output != *"outside"* ]]
}

@test "check: scores that point the wrong way" {
    labelled 100 '-m + u'
    says 65 "error: the scores point the wrong way: AUROC 0.0" check predictions.json --data train.csv
}

@test "check: a domain without human texts" {
    labelled 100 'm + u'
    sed -i '/news/s/,human,,,none/,gpt2,,,none/' train.csv
    says 65 "error: domain news: no human text without an attack has a score; RAID's evaluator fails there too" check predictions.json --data train.csv
}

@test "check: keys of metadata.json" {
    printf '[{"id": "a", "score": 1}, {"id": "b", "score": 2}, {"id": "c", "score": 3}]' > p.json
    while IFS='|' read -r level text why; do
        printf '%s' "$text" > metadata.json
        run raid check p.json --metadata metadata.json
        [[ $output == *"$level: metadata.json: $why"* ]] || { echo "$output"; false; }
    done <<'END'
fine|{"date_released": "2024-05-25", "detector_name": "x", "contact_info": "y"}|the keys and values that RAID reads
error|{"date_released": "2024-05-25", "detector_name": "x", "contact": "y"}|RAID does not know the key "contact", and stops at it
error|{"date_released": "2024-05-25", "detector_name": "x", "contact_inf": "y"}|RAID does not know the key "contact_inf", and stops at it (did you mean contact_info?)
error|{"date_released": "2024-05-25", "contact_info": "y"}|there is no detector_name
error|{"date_released": "2024-05-25", "detector_name": 5, "contact_info": "y"}|detector_name is no string
error|{"date_released": "2024-05-25", "detector_name": "x", "contact_info": ""}|contact_info is empty
warning|{"date_released": "May 2024", "detector_name": "x", "contact_info": "y"}|date_released is no date
warning|{"date_released": "2024-05-25", "detector_name": "x", "contact_info": "y", "website": "Link to Homepage (Optional) e.g."}|website is still that of the template
error|{"date_released": "2024-05-25", |is no JSON
error|["date_released"]|is no object
END
    says 66 "nowhere.json" check p.json --metadata nowhere.json
}

@test "eval: thresholds by domain and results by group" {
    labelled 100 'm ? 0.4 + u : u'
    run --separate-stderr raid eval predictions.json --data train.csv
    [ "$status" -eq 0 ]
    [[ ${lines[0]} == "domain "*"RAID's search"* ]]
    [[ $output == *"all "*" 400 "*"attack "*"whitespace "*"model "*"gpt2 "* ]]
    run --separate-stderr raid eval predictions.json --data train.csv --fpr 0.1 --json
    [[ $output == '{"scores": ['*'"model": "all", "decoding": "all", "repetition_penalty": "all", "attack": "all", "accuracy": {"0.1": {"tp": '* ]]
    [[ $output == *'"exact_fpr": {"0.1": {"books": 0.'*'"news": 0.'* ]]
    raid records train.csv --out train.jsonl --quiet
    raid eval predictions.json --data train.jsonl --fpr 0.1 --json | cmp - <(echo "$output")
    raid eval predictions.json --data train.csv --csv groups.csv > /dev/null
    head -n 1 groups.csv | grep -qx 'domain,attack,model,decoding,repetition_penalty,texts,auroc,tpr_0.05,raid_tpr_0.05,tpr_0.01,raid_tpr_0.01'
    [ "$(wc -l < groups.csv)" -eq 73 ]
}

# Two human and two machine scores a domain, by hand.
@test "eval: figures by hand" {
    printf '%s\n' id,model,domain h1,human,d h2,human,d m1,a,d m2,b,d > train.csv
    printf '[{"id": "h1", "score": 0.1}, {"id": "h2", "score": 0.6}, {"id": "m1", "score": 0.6}, {"id": "m2", "score": 0.9}]' > p.json
    run --separate-stderr raid eval p.json --data train.csv --fpr 0.5 --json
    # RAID's mean 0.35 has an FPR of 0.5; the smallest machine score with at most that is 0.6
    [[ $output == *'"thresholds": {"0.5": {"d": 0.34999999999999998}}'* ]]
    [[ $output == *'"exact_thresholds": {"0.5": {"d": 0.59999999999999998}}'*'"exact_fpr": {"0.5": {"d": 0.5}}'* ]]
    # m1 wins one pair and ties one, m2 wins both
    [[ $output == *'"model": "a", '*'"auroc": 0.75}'*'"model": "b", '*'"auroc": 1}'*'"model": "all", '*'"auroc": 0.875}'* ]]
    # a human text of another domain, below all: all domains together have three pairs for each machine text
    printf '%s\n' h3,human,e >> train.csv
    sed -i 's/\[/[{"id": "h3", "score": -1}, /' p.json
    run --separate-stderr raid eval p.json --data train.csv --fpr 0.5 --json
    [[ $output == *'{"domain": "d", "model": "b", '*'"auroc": 1}'*'{"domain": "all", "model": "a", '*'"auroc": 0.83333333333333337}'*'{"domain": "all", "model": "b"'* ]]
    # a score for all: thresholds above it have an FPR of 0 and are none for RAID, those below have one of 1
    printf '[{"id": "h1", "score": 1}, {"id": "h2", "score": 1}, {"id": "m1", "score": 1}, {"id": "m2", "score": 1}, {"id": "h3", "score": 1}]' > p.json
    run --separate-stderr raid eval p.json --data train.csv --json
    [[ $output == *'"accuracy": {"0.05": null, "0.01": null}, "exact": {"0.05": {"tp": 0, "fn": 1, "accuracy": 0}'* ]]
    [[ $output == *'"fpr": {"0.05": {"d": 1, "e": 1}'*'"exact_thresholds": {"0.05": {"d": null, "e": null}'* ]]
}

@test "eval: groups with a text without a score are left out, and it is said" {
    labelled 100 'm ? 0.4 + u : u'
    sed -i 's/, {"id": "id-1-7-2", "score": [^}]*}//; s/\[/[{"id": "other", "score": 1}, /' predictions.json
    run --separate-stderr raid eval predictions.json --data train.csv
    [ "$status" -eq 0 ]
    [[ $stderr == *"1 of 800 texts of train.csv have no score: groups with one of them are left out"* ]]
    [[ $stderr == *"1 predictions are of texts that are not in train.csv"* ]]
    [[ $output == *"domain "*"news "*"left out: scores are missing"* ]]
}

@test "eval: what it cannot work with" {
    labelled 20 'm + u'
    printf 'id,generation\na,x\n' > test.csv
    says 65 "test.csv: has no column model, so no labels" eval predictions.json --data test.csv
    printf 'id,model,domain\na,human,b\na,gpt2,b\n' > twice.csv
    says 65 'twice.csv: line 3, byte 26: id "a" stands twice' eval predictions.json --data twice.csv
    printf 'id,model\na,human\n' > f.csv
    says 65 "there is a column model and no column domain" eval predictions.json --data f.csv
    printf '[{"id": "id-0-0-0", "score": 1}, {"id": "id-0-0-0", "score": 1}]' > p.json
    says 65 'p.json: item 2, byte 33: id "id-0-0-0" stands twice' eval p.json --data train.csv
    printf '[{"id": "id-0-0-0"}]' > p.json
    says 65 "p.json: item 1, byte 1: has no score" eval p.json --data train.csv
    says 2 "--fpr x: want a number above 0 and at most 1" eval predictions.json --data train.csv --fpr 0.5,x
    says 2 "--fpr 0: want a number above 0" eval predictions.json --data train.csv --fpr 0
    cp train.csv before.csv
    ln train.csv link.csv
    for out in train.csv link.csv predictions.json; do
        says 2 "would replace what is read" eval predictions.json --data train.csv --csv $out
    done
    cmp train.csv before.csv
    says 2 "want one predictions.json, got 0" eval --data train.csv
    says 2 "--data" eval predictions.json
    says 2 "there is no step evl (did you mean eval?)" evl
}
