#!/usr/bin/env bats
# tandem eval from outside: labelled scores in, an answer out, and everything that can be wrong with scores. Needs no
# model. The numbers of the first test are worked out by hand; tests/test_evaluate*.c has the rest of them.

load eval_refuses

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    records h .1 .2 .3 .6 > human.jsonl
    records m .4 .7 .8 .9 > machine.jsonl
}

# Records of detect's form with these values of fake and ids $1-0, $1-1, ...
records() {
    local name=$1
    shift
    printf '%s\n' "$@" | awk -v name="$name" '{
        printf "{\"id\": \"%s-%d\", \"fake\": %.9g, \"real\": %.9g, \"used_tokens\": %d}\n", name, NR - 1, $1, 1 - $1, 40 * NR
    }'
}

# $1 records of either class ($2: h or m) that overlap.
many() {
    awk -v n="$1" -v name="$2" 'BEGIN {
        shift = name == "m" ? .3 : 0
        for (i = 0; i < n; i++) {
            p = (i * 7919 % 1000) / 1500 + shift
            printf "{\"id\": \"%s-%d\", \"fake\": %.9g, \"real\": %.9g, \"used_tokens\": %d}\n", name, i, p, 1 - p, i * 31 % 510
        }
    }'
}

evaluate() {
    "$TANDEM" eval --human human.jsonl --machine machine.jsonl "$@"
}

# The first value of key $1 in $output.
value() {
    grep -o "\"$1\": [^,}]*" <<< "$output" | head -1 | sed 's/.*: //'
}

# Key $1 in $output is $2.
is() {
    [ "$(value "$1")" = "$2" ] || { echo "$1 is $(value "$1"), want $2"; false; }
}

@test "eight texts, worked out by hand" {
    run --separate-stderr evaluate --json
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == '{"auroc": 0.9375, "accuracy": 0.75, "tpr_at_fpr": [{"fpr": 0.05, "tpr": 0.75, "achieved_fpr": 0, "threshold": 0.7, '* ]]
    [[ $output == *'"confusion": {"machine_right": 3, "machine_wrong": 1, "human_right": 3, "human_wrong": 1}'* ]]
    for pair in humans:4 machines:4 excluded:0 f1:0.75 precision:0.75 field:'"fake"' \
        higher_is:'"machine"' length_field:'"used_tokens"'; do
        is "${pair%%:*}" "${pair#*:}"
    done
    [[ $output == *'"excluded": 0, "threshold": 0.5, "best_threshold": '* ]]
    [[ $output != *[Nn]a[Nn]* ]] && [[ $output != *inf* ]]
    run --separate-stderr evaluate
    [ "$status" -eq 0 ]
    [[ ${lines[0]} == "4 human and 4 machine texts;"* ]]
    [[ ${lines[2]} == fake*machine*"0.9375 ["*"]"*"75.0% ["*"75.0%"*0.7500 ]]
    [[ $output == *"By length (used_tokens)"*"Calibration of fake"* ]]
}

@test "the other probability says the same, with thresholds of its own" {
    run evaluate --field real --json
    [[ $output == '{"auroc": 0.9375, "accuracy": 0.75, "tpr_at_fpr": [{"fpr": 0.05, "tpr": 0.75, "achieved_fpr": 0, "threshold": 0.3, '* ]]
    is higher_is '"human"'
    is machine_right 3
    run evaluate --field real --threshold 0.65 --json # real <= 0.65: fake >= 0.35
    is accuracy 0.875
    is human_wrong 1
    is machine_wrong 0
    records h .15 .25 .35 .65 > human.jsonl
    run evaluate --json
    brier=$(value brier) ece=$(value ece)
    run evaluate --field real --json
    [ "$(printf '%.9f %.9f' "$brier" "$ece")" = "$(printf '%.9f %.9f' "$(value brier)" "$(value ece)")" ]
}

@test "orientation: said, fitted, known by the end of a name, and warned about" {
    sed -i 's/"fake"/"judge_fake"/; s/"real"/"oddity"/' human.jsonl machine.jsonl
    run --separate-stderr evaluate --field judge_fake --json
    is higher_is '"machine"'
    [ -z "$stderr" ]
    [[ $output == *'"calibration": {'* ]]
    run --separate-stderr evaluate --field oddity --json
    [ "$status" -eq 0 ]
    is auroc 0.0625
    is suspicious true
    is accuracy null
    [[ $stderr == "tandem eval: warning: AUROC of oddity is 0.0625, below 0.5"*"--orientation" ]]
    run --separate-stderr evaluate --field oddity --orientation human --json
    is auroc 0.9375
    [ -z "$stderr" ]
    many 200 h | sed 's/fake/oddity/; s/real/fake/' > human.jsonl
    many 200 m | sed 's/fake/oddity/; s/real/fake/' > machine.jsonl
    run --separate-stderr evaluate --field oddity --field fake --orientation fit --json
    [ -z "$stderr" ]
    [ "$(grep -o '"higher_is": "[a-z]*"' <<< "$output" | tr '\n' ' ')" = '"higher_is": "machine" "higher_is": "human" ' ]
    refuses 2 "want one of auto, machine, human, fit" --human human.jsonl --machine machine.jsonl --orientation up
}

@test "what is no score is told with file, line, field and what is there" {
    while IFS='|' read -r line says; do
        { head -2 machine.jsonl; echo "$line"; } > bad.jsonl
        refuses 65 "bad.jsonl:3: $says" --human human.jsonl --machine bad.jsonl
        refuses 65 "bad.jsonl:3: $says" --human bad.jsonl --machine machine.jsonl
    done <<'CASES'
{"id": 3, "fake": NaN}|field "fake" is NaN (bad format)
{"id": 3, "fake": -Infinity, "real": 1}|field "fake" is -Infinity
{"id": 3, "other": Infinity, "fake": 1}|field "other" is Infinity
{"id": 3, "fake": 1e999}|field "fake" is 1e999, which no double can hold
{"id": 3, "fake": null, "used_tokens": 3}|field "fake" is null, want a number
{"id": 3, "fake": "0.5", "used_tokens": 3}|field "fake" is "0.5", want a number
{"id": 3, "fake": true}|field "fake" is true, want a number
{"id": 3, "fake": [0.5]}|field "fake" is [0.5], want a number
{"id": 3, "score": 0.5}|there is no field "fake", but "id", "score"
{}|there is no field "fake", but nothing at all
{"id": "m-0", "fake": 0.5}|id "m-0" stands in line 1 already
{"id": 3, "fake": 0.5|at byte
[0.5]|the line is an array
{"id": 3, "fake": 0.5, "fake": 0.6}|at byte 23: the key "fake" stands twice
CASES
    [ "$(wc -l < bad.jsonl)" -eq 3 ]
}

@test "a record without an id is FILE:LINE; ids are unique in a file, not among files" {
    sed -i 's/"id": "[^"]*", //' human.jsonl
    sed -i 's/"m-/"h-/' machine.jsonl
    cp machine.jsonl again.jsonl
    run --separate-stderr evaluate --machine again.jsonl --json
    [ "$status" -eq 0 ]
    is machines 8
    sed 's/"id"/"nr"/' again.jsonl >> machine.jsonl
    run --separate-stderr evaluate --json
    [ "$status" -eq 0 ]
    sed 's/"id"/"nr"/' again.jsonl again.jsonl > machine.jsonl
    refuses 65 'machine.jsonl:5: id "h-0" stands in line 1 already' --id-key nr --human human.jsonl --machine machine.jsonl
    cat machine.jsonl | "$TANDEM" eval --human human.jsonl --machine - --json > ok.json
    # many ids: the set has grown several times, and still knows the first and the last of them
    many 5000 m > machine.jsonl
    run evaluate --json
    is machines 5000
    { many 5000 m; many 5000 m | tail -1; } > machine.jsonl
    refuses 65 'machine.jsonl:5001: id "m-4999" stands in line 5000 already' --human human.jsonl --machine machine.jsonl
    cat machine.jsonl machine.jsonl > twice.jsonl # every one of them
    run "$TANDEM" eval --human human.jsonl --machine twice.jsonl --max-errors 5002 --json --quiet 2> said.txt
    is excluded 5002
    is machines 5000
    { many 5000 m; many 1 m; } > machine.jsonl
    refuses 65 'machine.jsonl:5001: id "m-0" stands in line 1 already' --human human.jsonl --machine machine.jsonl
}

@test "no record, no class, no file, no side, one file twice" {
    : > empty.jsonl
    printf '\n \n' > blank.jsonl
    refuses 65 "empty.jsonl: holds no record" --human human.jsonl --machine empty.jsonl
    refuses 65 "empty.jsonl: holds no record" --human empty.jsonl --human human.jsonl --machine machine.jsonl
    refuses 65 "blank.jsonl: holds no record" --human blank.jsonl --machine machine.jsonl
    refuses 66 "none.jsonl: No such file" --human human.jsonl --machine none.jsonl
    refuses 2 "there is no --machine" --human human.jsonl
    refuses 2 "there is no --human" --machine human.jsonl
    refuses 2 "there is no --human"
    refuses 2 "machine.jsonl: whose is it?" --human human.jsonl machine.jsonl
    refuses 2 "are one file; a text counts once" --human human.jsonl --machine human.jsonl
    ln machine.jsonl linked.jsonl
    refuses 2 "are one file; a text counts once" --human human.jsonl --machine machine.jsonl --machine linked.jsonl
    sed 's/}/, "by": "human"}/' human.jsonl > labelled.jsonl
    refuses 65 "there is no machine text among 4 records" --label by labelled.jsonl
    [ "$(id -u)" -eq 0 ] && skip "root reads everything"
    chmod a-r human.jsonl
    refuses 66 "human.jsonl: Permission denied" --human human.jsonl --machine machine.jsonl
}

@test "--max-errors: bad records are left out, said and counted" {
    sed -i '2s/.*/{"id": 9, "fake": null}/; 4s/.*/nonsense/' machine.jsonl
    refuses 65 "machine.jsonl:2: field" --human human.jsonl --machine machine.jsonl
    run --separate-stderr evaluate --max-errors 1
    [ "$status" -eq 65 ]
    [ "${#stderr_lines[@]}" -eq 2 ]
    [[ ${stderr_lines[1]} == "tandem eval: machine.jsonl:4: "*"(bad format)" ]]
    for limit in 2 25%; do
        run --separate-stderr evaluate --max-errors $limit --json
        [ "$status" -eq 3 ]
        [ "${stderr_lines[0]}" = 'tandem eval: machine.jsonl:2: field "fake" is null, want a number; left out' ]
        [[ ${stderr_lines[1]} == 'tandem eval: machine.jsonl:4: at byte '*'; left out' ]]
        is excluded 2
        is machines 2
        is humans 4
    done
    run --separate-stderr evaluate --max-errors 24%
    [ "$status" -eq 65 ]
    [ -z "$output" ]
    [[ ${stderr_lines[-1]} == *"2 of 8 records are bad, --max-errors 24%"* ]]
    run evaluate --max-errors 2
    [[ $output == *"; 2 bad records left out;"* ]]
    sed 's/fake/other/' machine.jsonl > others.jsonl
    run --separate-stderr "$TANDEM" eval --human human.jsonl --machine others.jsonl --max-errors 100%
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *"others.jsonl: all of its 4 records are bad"* ]]
}

@test "gz, zst, folders, stdin, blank lines and CRLF" {
    run evaluate --json
    plain=$output
    mkdir h m
    head -2 human.jsonl | gzip > h/1.jsonl.gz
    tail -2 human.jsonl | sed 's/$/\r/' > h/2.jsonl
    { echo; cat machine.jsonl; } | zstd -q > m/all.jsonl.zst
    run --separate-stderr "$TANDEM" eval --human h --machine m --json
    [ "$status" -eq 0 ]
    [ "$output" = "$plain" ]
    run "$TANDEM" eval --human - --machine m --json < human.jsonl
    [ "$output" = "$plain" ]
    truncate -s -5 m/all.jsonl.zst
    run --separate-stderr "$TANDEM" eval --human h --machine m
    [ "$status" -eq 65 ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == *"m/all.jsonl.zst"* ]]
}

@test "labels: true, 1, machine and fake against false, 0, human and real; others by --machine-label" {
    run evaluate --json
    plain=$output
    for pair in true:false 1:0 '"machine":"human"' '"fake":"real"'; do
        sed "s/}/, \"by\": ${pair#*:}}/" human.jsonl > all.jsonl
        sed "s/}/, \"by\": ${pair%%:*}}/" machine.jsonl >> all.jsonl
        run --separate-stderr "$TANDEM" eval --label by all.jsonl --json
        [ "$status" -eq 0 ] || { echo "$pair: $stderr"; false; }
        [ "$output" = "$plain" ]
    done
    run "$TANDEM" eval --label by --json < all.jsonl
    [ "$output" = "$plain" ]
    sed -i 's/"real"}/"webtext"}/; s/"fake"}/"gpt2-xl"}/' all.jsonl
    refuses 65 'all.jsonl:1: field "by" is "webtext", want true, 1, "machine" or "fake"' --label by all.jsonl
    run "$TANDEM" eval --label by --machine-label gpt2-xl all.jsonl --json
    [ "$output" = "$plain" ]
    sed -i 's/"gpt2-xl"}/17}/' all.jsonl
    run "$TANDEM" eval --label by --machine-label 17 all.jsonl --json
    [ "$output" = "$plain" ]
    sed -i '1s/, "by": [^}]*//' all.jsonl
    refuses 65 'all.jsonl:1: there is no field "by", but "id", "fake", "real", "used_tokens"' --label by all.jsonl
    refuses 2 "--machine-label means nothing without --label" --machine-label x --human human.jsonl --machine machine.jsonl
}

@test "several fields: results in their order, a CSV row for each part" {
    sed -i 's/"real"/"re,al \\"x\\""/' human.jsonl machine.jsonl
    run --separate-stderr evaluate --field 're,al "x"' --field fake --json --csv out.csv
    [ "$status" -eq 0 ]
    [[ $output == '{"results": [{"auroc": 0.0625, '*'}, {"auroc": 0.9375, '*'}]}' ]]
    [ "$(grep -c '^"re,al ""x""",' out.csv)" -eq "$(grep -c '^fake,' out.csv)" ]
    [ "$(head -1 out.csv | cut -d, -f1-10)" = "field,part,from,to,higher_is,threshold,humans,machines,auroc,auroc_low" ]
    [ "$(grep '^fake,all,' out.csv | cut -d, -f2-9)" = "all,,,machine,0.5,4,4,0.9375" ]
    [ "$(grep '^fake,length,' out.csv | cut -d, -f3,4,7,8 | tr '\n' ' ')" = "0,50,1,1 50,100,1,1 100,200,2,2 200,400,0,0 400,,0,0 " ]
    [ "$(awk -F, '/^fake,/ || NR == 1 {print NF}' out.csv | sort -u | wc -l)" -eq 1 ]
    refuses 65 'human.jsonl:1: there is no field "lrr"' --field fake --field lrr --human human.jsonl --machine machine.jsonl
}

@test "neither the order of files and lines nor the threads matter" {
    many 3000 h > human.jsonl
    many 3000 m > machine.jsonl
    run evaluate --json --bootstrap 50 --threads 1
    plain=$output
    sort -R --random-source=<(yes) human.jsonl > shuffled.jsonl
    head -1000 machine.jsonl > 1.jsonl
    tail -n +1001 machine.jsonl > 2.jsonl
    run "$TANDEM" eval --machine 2.jsonl --machine 1.jsonl --human shuffled.jsonl --json --bootstrap 50 --threads 3
    [ "$output" = "$plain" ]
    run evaluate --json --bootstrap 50 --seed 1
    [ "$output" != "$plain" ]
    is auroc "$(grep -o '"auroc": [^,]*' <<< "$plain" | head -1 | cut -d' ' -f2)"
}

@test "a fitted threshold is judged on the other part, and can be given again" {
    many 3000 h > human.jsonl
    many 3000 m > machine.jsonl
    run evaluate --json --bootstrap 0
    threshold=$(value best_threshold)
    fitted=$(value fitted_on) judged=$(value judged_on)
    [ $((fitted + judged)) -eq 6000 ]
    [ "$fitted" -gt 2800 ] && [ "$fitted" -lt 3200 ]
    output=${output#*'"best": {'}
    best=$(value balanced_accuracy)
    [ $(($(value machine_right) + $(value machine_wrong) + $(value human_right) + $(value human_wrong))) -eq "$judged" ]
    [ "$judged" -ne "$fitted" ]
    run evaluate --json --bootstrap 0 --threshold "$threshold"
    [[ $output == *'"excluded": 0, "threshold": '"$threshold,"* ]]
    awk -v all="$(value balanced_accuracy)" -v part="$best" 'BEGIN { exit !(all - part < .05 && part - all < .05) }'
    run evaluate --json --bootstrap 0 --validation 0.1
    [ "$(value fitted_on)" -lt 800 ]
    refuses 2 "--threshold 0.5: of which of 2 fields?" --threshold 0.5 --field fake --field real --human human.jsonl --machine machine.jsonl
    # a part without one of the classes
    records h .1 > human.jsonl
    records m .9 > machine.jsonl
    run --separate-stderr evaluate --json
    [ "$status" -eq 0 ]
    [[ $stderr == *"warning: too few texts to fit a threshold of fake"* ]]
    is best_threshold null
    [[ $output == *'"best": null'* ]]
    refuses 65 "too few records to fit an orientation" --orientation fit --human human.jsonl --machine machine.jsonl
}

@test "lengths: the field that all records have, --length-field, --buckets" {
    run evaluate --json --buckets 100
    [[ $output == *'"buckets": [{"from": 0, "to": 100, "humans": 2, "machines": 2, "auroc": '*'}, {"from": 100, "to": null, '* ]]
    run evaluate --json --buckets 80,160 # where lengths are
    [ "$(grep -o '"to": [^,]*, "humans": [0-9]*' <<< "$output" | tr '\n' ' ')" = '"to": 80, "humans": 1 "to": 160, "humans": 2 "to": null, "humans": 1 ' ]
    run evaluate --json --buckets none
    [[ $output == *'"buckets": []'* ]]
    sed 's/used_tokens/tokens/' machine.jsonl > tokens.jsonl
    for order in "--human human.jsonl --machine tokens.jsonl" "--machine machine.jsonl --human tokens.jsonl"; do
        run --separate-stderr "$TANDEM" eval $order --json
        [ "$status" -eq 0 ]
        [[ $stderr == "tandem eval: "*".jsonl:1: its length is "*"tokens, that of others "*"tokens: none is used"* ]]
        is length_field null
        [[ $output == *'"buckets": []'* ]]
    done
    refuses 65 'tokens.jsonl:1: there is no field "used_tokens"' --length-field used_tokens --human human.jsonl --machine tokens.jsonl
    sed -i '2s/80/-80/' machine.jsonl
    refuses 65 'machine.jsonl:2: field "used_tokens" is -80, want a length' --length-field used_tokens --human human.jsonl --machine machine.jsonl
    for list in 0 1.5 50,50 100,50 x "" 50,; do
        refuses 2 "--buckets" --buckets "$list" --human human.jsonl --machine machine.jsonl
    done
    for list in -0.1 1.1 x 0.1, 0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9; do
        refuses 2 "--fpr" --fpr "$list" --human human.jsonl --machine machine.jsonl
    done
}

@test "a field that is named like a probability and is none" {
    sed -i 's/0.9,/1.9,/' machine.jsonl
    run --separate-stderr evaluate --json
    [ "$status" -eq 0 ]
    [[ $stderr == *"warning: fake is from 0.1 to 1.9, no probability"* ]]
    is accuracy null
    [[ $output == *'"calibration": null'* ]]
    run --separate-stderr evaluate --quiet
    [ -z "$stderr" ]
}

@test "equal scores everywhere: no threshold helps, and nothing is NaN" {
    records h .5 .5 .5 .5 .5 .5 .5 .5 > human.jsonl
    records m .5 .5 .5 .5 .5 .5 .5 .5 > machine.jsonl
    run --separate-stderr evaluate --json
    [ "$status" -eq 0 ]
    is auroc 0.5
    is tpr 0
    [[ $output != *[Nn]a[Nn]* ]] && [[ $output != *inf* ]]
    run evaluate
    [[ $output != *nan* ]] && [[ $output != *inf* ]]
}

@test "the JSON is read by the project's own reader" {
    evaluate --json > 1.jsonl
    evaluate --json --field real > 2.jsonl
    evaluate --json --field fake --field real > both.json
    run --separate-stderr "$TANDEM" eval --field auroc --human 1.jsonl --machine 2.jsonl --json
    [ "$status" -eq 0 ]
    refuses 65 'both.json:1: there is no field "auroc", but "results"' --field auroc --human 1.jsonl --machine both.json
}

@test "files are written whole or not at all, and checked before anything is read" {
    echo before > out.csv
    refuses 65 "human.jsonl:1" --field lrr --csv out.csv --human human.jsonl --machine machine.jsonl
    [ "$(cat out.csv)" = before ]
    for option in csv html svg; do
        refuses 73 "none/out" --$option none/out --human human.jsonl --machine nothing-here.jsonl
    done
    refuses 73 ": is a folder" --csv . --human human.jsonl --machine machine.jsonl
    refuses 73 "out.csv: is no folder" --svg out.csv --human human.jsonl --machine machine.jsonl
    ln -s out.csv link.csv
    evaluate --csv link.csv --html out.html --svg pictures > table.txt
    [ -L link.csv ]
    [[ $(head -1 out.csv) == field,part,* ]]
    ls pictures > names
    diff names - <<< $'calibration-fake.svg\nhistogram-fake.svg\nlengths.svg\nroc.svg'
    grep -q "<svg" out.html
    [ -z "$(ls | grep tmp)" ]
    evaluate --csv /dev/stdout --quiet | grep -q ^field,part
    [ -c /dev/null ]
    evaluate --csv /dev/null > again.txt
    [ -c /dev/null ]
    cmp table.txt again.txt
}

@test "what is read is not written, and no file is written twice" {
    cp human.jsonl before
    refuses 2 "human.jsonl and human.jsonl are one file; results would replace it" --csv human.jsonl --human human.jsonl --machine machine.jsonl
    ln human.jsonl link
    refuses 2 "are one file; results would replace it" --html link --human human.jsonl --machine machine.jsonl
    mkdir folder
    mv machine.jsonl folder
    refuses 2 "are one file; results would replace it" --html folder/machine.jsonl --human human.jsonl --machine folder
    cmp human.jsonl before
    refuses 2 "--csv and --html: both to out" --csv out --html out --human human.jsonl --machine folder
    refuses 2 "--field fake: given twice" --field fake --field fake --human human.jsonl --machine folder
    refuses 2 'pictures of "a b" and "a_b" would have one name' --field 'a b' --field a_b --svg out --human human.jsonl --machine folder
    refuses 2 "--label by: of which files?" --label by --human human.jsonl --machine folder
}

@test "a full disk" {
    [ -w /dev/full ] || skip "no /dev/full"
    run bash -c '"$TANDEM" eval --human human.jsonl --machine machine.jsonl > /dev/full'
    [ "$status" -eq 74 ]
    refuses 74 "/dev/full: writing: No space left" --csv /dev/full --human human.jsonl --machine machine.jsonl
}

@test "a signal ends it with 75, and leaves nothing" {
    mkfifo pipe
    "$TANDEM" eval --human human.jsonl --machine pipe --csv out.csv > out.txt 2> err.txt &
    exec 7> pipe # waits until it reads
    kill -TERM $!
    code=0
    wait $! || code=$?
    exec 7>&-
    [ "$code" -eq 75 ]
    grep -q "stopped by signal 15" err.txt
    [ ! -s out.txt ] && [ ! -e out.csv ]
}
