#!/usr/bin/env bats
# tandem score from outside: records in, measures out, and everything that can go wrong on the way. Scores with the
# demo's writer, whose context is 256 tokens (TDM_WRITER, TDM_READER: folders to take instead).

setup() {
    bats_require_minimum_version 1.5.0
    reader=${TDM_READER:-$TDM_SOURCE_DIR/tools/demo/reader}
    writer=${TDM_WRITER:-$TDM_SOURCE_DIR/tools/demo/writer}
    [ -f "$writer/config.json" ] || skip "there is no model in $writer"
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    printf '{"id": 2.50, "text": "And it came to pass"}\n{"text": "in those days"}\n' > good.jsonl
}

score() {
    "$TANDEM" score --model "$writer" --device cpu "$@"
}

# Exit code $1, and a last line on stderr that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr score "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
}

number='-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?'
either="($number|null)"
counts='\[[0-9]+, [0-9]+, [0-9]+, [0-9]+\]'
fields="\"tokens\": [0-9]+, \"logprob\": $number, \"mean_logprob\": $number, \"ppl\": $number, \"mean_rank\": $number"
fields="$fields, \"mean_logrank\": $number, \"entropy\": $number, \"lrr\": $either, \"fast_detect\": $either"
fields="$fields, \"gltr\": $counts, \"all_tokens\": [0-9]+, \"windows\": [0-9]+"
observed="\"binoculars\": $either, \"binoculars_paper\": $either, \"fast_detect_observer\": $either"

# Texts of $1 words, a few tokens each, from word $2 on; each word is the same wherever it stands.
words() {
    awk -v n="$1" -v from="${2:-0}" 'BEGIN {
        split("the of and king house day sons said land Israel people man God came hand", w)
        for (i = from; i < from + n; i++) printf " %s", w[1 + (i * i + int(i / 7)) % 15]
    }'
}

# Lines of $1 texts of many lengths; every 9th is longer than the context.
many_texts() {
    for i in $(seq "$1"); do
        printf '{"id": %d, "text": "%s"}\n' "$i" "$(words $((i % 9 ? 1 + i * 37 % 90 : 300 + i)) "$i")"
    done
}

# The value, or the list without brackets, of a field $1 in each line of stdin.
field() {
    sed -E "s/.*\"$1\": (\[[^]]*\]|[^,}]*)[,}].*/\1/; s/[][,]//g"
}

# Whether expression $1 of awk holds for each line of stdin, of numbers.
holds() {
    awk "function is(a, b) { d = a - b; return d < 0 ? -d <= 2e-8 * (1 + (b < 0 ? -b : b)) : d <= 2e-8 * (1 + (b < 0 ? -b : b)) }
         !($1) { print \"line \" NR \": \" \$0; bad = 1 } END { exit bad || NR == 0 }"
}

@test "one result a record, in order, the id as it was written" {
    run --separate-stderr score good.jsonl
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 2 ]
    [[ ${lines[0]} =~ ^'{"id": 2.50, '$fields}$ ]] || { echo "$output"; false; }
    [[ ${lines[1]} =~ ^'{"id": "good.jsonl:2", '$fields}$ ]]
}

@test "stdin, several files, other keys, CRLF and blank lines; no records" {
    run --separate-stderr score --quiet - < good.jsonl
    [[ ${lines[1]} == '{"id": "-:2", '* ]]
    [ -z "$stderr" ]
    run --separate-stderr score good.jsonl good.jsonl
    [ "${#lines[@]}" -eq 4 ]
    printf '{"n": [1], "body": "in those days"}\r\n\r\n  \n' > other.jsonl
    run --separate-stderr score --text-key body --id-key n other.jsonl
    [ "$status" -eq 0 ]
    [[ $output =~ ^'{"id": [1], '$fields}$ ]]
    : > empty.jsonl
    run --separate-stderr score --quiet empty.jsonl
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "what the measures are of one another" {
    many_texts 40 > many.jsonl
    score --quiet --observer "$writer" many.jsonl > got.jsonl
    # 1 tokens, 2 logprob, 3 mean, 4 ppl, 5 mean_logrank, 6 lrr, 7 entropy, 8 fast_detect, 9 binoculars, 10 its paper's,
    # 11 fast_detect_observer: the model as its own observer expects what it is
    for f in tokens logprob mean_logprob ppl mean_logrank lrr entropy fast_detect binoculars binoculars_paper \
        fast_detect_observer; do
        field $f < got.jsonl > $f
    done
    paste tokens logprob mean_logprob ppl mean_logrank lrr entropy fast_detect binoculars binoculars_paper \
        fast_detect_observer | holds 'is($3, $2 / $1) && is(log($4), -$3) && is($6, -$3 / $5) && is($9, -$3 / $7) &&
            is($10, $9) && is($11, $8) && $3 < 0 && $7 > 0'
}

@test "a quotient by zero is null" {
    printf '{"text": "And"}\n' > in.jsonl # the likeliest beginning there is
    run --separate-stderr score --quiet in.jsonl
    [[ $output == *'"mean_rank": 1.0, "mean_logrank": 0.0, '*'"lrr": null, '* ]] || { echo "$output"; false; }
}

@test "white space counts, and what looks like a special token is text" {
    printf '{"text": "And"}\n{"text": "And "}\n{"text": " And"}\n{"text": "And<|endoftext|>"}\n{"text": "\\n"}\n' > in.jsonl
    score --quiet --per-token in.jsonl > got.jsonl
    [ "$(field ids < got.jsonl | sort -u | wc -l)" -eq 5 ]
    eos=$(sed -n 's/.*"eos_token_id": *\([0-9]*\).*/\1/p' "$writer/config.json")
    ! field ids < got.jsonl | grep -qw "$eos"
    # the ids are those of tokenize
    "$TANDEM" tokenize --model "$writer" --quiet in.jsonl | field ids | cmp - <(field ids < got.jsonl)
}

@test "--per-token: as many as are scored; their sums are the totals" {
    many_texts 20 > many.jsonl
    for options in "" "--bos no" "--stride 0"; do
        score --quiet --per-token $options many.jsonl > got.jsonl
        score --quiet $options many.jsonl | sed 's/}$//' | cmp - <(sed 's/, "per_token": .*//' got.jsonl)
        field tokens < got.jsonl > tokens
        for list in ids logprob rank entropy; do
            field $list < got.jsonl | awk '{ print NF }' | cmp - tokens
        done
        for sum in logprob:logprob entropy:entropy rank:mean_rank; do
            # the total stands in front of the list
            sed -E "s/, \"per_token\".*//" got.jsonl | field ${sum#*:} > totals
            sed -E 's/.*"per_token"//' got.jsonl | field ${sum%:*} |
                awk '{ s = 0; for (i = 1; i <= NF; i++) s += $i; printf "%.12g\n", s }' | paste - totals tokens |
                holds "is(\$1 / \$3, \$2 / ($([ $sum = logprob:logprob ] && echo '$3' || echo 1)))"
        done
        # ranks by bucket, counted from 1
        sed -E 's/.*"per_token"//' got.jsonl | field rank | awk '{ a = b = c = d = 0
            for (i = 1; i <= NF; i++) if ($i <= 10) a++; else if ($i <= 100) b++; else if ($i <= 1000) c++; else d++
            print a, b, c, d }' | cmp - <(field gltr < got.jsonl)
    done
    run --separate-stderr score --per-token --observer "$writer" good.jsonl
    lists='"rank": \[[0-9, ]*\], "entropy": \[([^]]*)\], "cross": \[([^]]*)\]}}$'
    [[ ${lines[0]} =~ $lists ]]
    [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ]
}

@test "--gltr-buckets top11 counts from 0" {
    many_texts 12 > many.jsonl
    score --quiet --per-token --gltr-buckets top11 many.jsonl > got.jsonl
    sed -E 's/.*"per_token"//' got.jsonl | field rank | awk '{ a = b = c = d = 0
        for (i = 1; i <= NF; i++) if ($i - 1 <= 10) a++; else if ($i - 1 <= 100) b++; else if ($i - 1 <= 1000) c++; else d++
        print a, b, c, d }' | cmp - <(field gltr < got.jsonl)
    run -1 cmp -s <(score --quiet many.jsonl | field gltr) <(field gltr < got.jsonl)
}

@test "--bos no: the first token is read and not scored; alone it is too short" {
    printf '{"id": 1, "text": "And it came"}\n{"id": 2, "text": "And"}\n{"id": 3, "text": "And it"}\n' > in.jsonl
    run --separate-stderr score --quiet --bos no --max-errors 1 in.jsonl
    [ "$status" -eq 3 ]
    [ "${#lines[@]}" -eq 2 ]
    [ "$(field tokens <<< "$output" | tr '\n' ' ')" = "2 1 " ]
    [ "$(field all_tokens <<< "$output" | tr '\n' ' ')" = "3 2 " ]
    [ "${stderr_lines[0]}" = '{"file": "in.jsonl", "line": 2, "offset": 33, "id": 2, "class": "too-short", "detail": "one token, and none before it to score it by (--bos no)"}' ]
    refuses 65 "in.jsonl:2: too-short" --bos no in.jsonl
    refuses 65 "in.jsonl:2: too-short" --bos no --entropy all in.jsonl
    score --quiet in.jsonl | field tokens | tr '\n' ' ' | grep -qx "3 1 2 "
    score --quiet --bos no --max-errors 1 --json --out out.jsonl in.jsonl > said || [ $? -eq 3 ]
    grep -q '"by_class": {"too-short": 1}' said
}

@test "--entropy all: also that behind the last token, in means alone" {
    printf '{"text": "%s"}\n' "$(words 30)" "$(words 300)" "$(words 1)" > in.jsonl
    # one token more in each, which is scored by what stands behind the last one here
    printf '{"text": "%s"}\n' "$(words 31)" "$(words 301)" "$(words 2)" > more.jsonl
    for options in "--bos yes" "--bos no --max-errors 1"; do
        score --quiet $options in.jsonl > scored.jsonl 2> said || [ $? -eq 3 ]
        score --quiet $options --entropy all in.jsonl > all.jsonl 2> said || [ $? -eq 3 ]
        score --quiet $options --per-token more.jsonl > more
        [ "$(wc -l < scored.jsonl)" -eq "$(wc -l < all.jsonl)" ]
        sed -E 's/"entropy": [^,]*/"entropy": 0/' scored.jsonl | cmp - <(sed -E 's/"entropy": [^,]*/"entropy": 0/' all.jsonl)
        sed -E 's/.*"per_token"//' more | field entropy | awk '{ print $NF }' | head -n "$(wc -l < all.jsonl)" > last
        paste <(field tokens < scored.jsonl) <(field entropy < scored.jsonl) last <(field entropy < all.jsonl) |
            holds 'is(($1 * $2 + $3) / ($1 + 1), $4)'
    done
}

@test "the same bytes for every batch, thread count and company" {
    many_texts 60 > many.jsonl
    for options in "" "--observer $writer --entropy all --per-token --gltr 3"; do
        score --quiet $options many.jsonl > want.jsonl
        [ "$(wc -l < want.jsonl)" -eq 60 ]
        for more in "--batch 1 --threads 1" "--batch 3" "--threads 2"; do
            score --quiet $options $more many.jsonl | cmp - want.jsonl
        done
        tac many.jsonl | score --quiet $options - | tac | cmp - want.jsonl
        sed -n 27p many.jsonl | score --quiet $options - | cmp - <(sed -n 27p want.jsonl) # a long one alone
        sed -n 5p many.jsonl | score --quiet $options - | cmp - <(sed -n 5p want.jsonl)
    done
}

@test "windows: how many, and each token once" {
    for n in 1 255 256 257 300 384 385 512 513 1000; do
        printf '{"id": %d, "text": "%s"}\n' $n "$(words $n)"
    done > in.jsonl
    # one token a word: or the counts below are of something else
    score --quiet --per-token in.jsonl > got.jsonl
    paste <(field id < got.jsonl) <(field all_tokens < got.jsonl) <(field tokens < got.jsonl) |
        holds '$1 == $2 && $2 == $3'
    # tokens 1 .. 256 in the first, 128 more in each that follows
    paste <(field id < got.jsonl) <(field windows < got.jsonl) |
        holds '$2 == 1 + ($1 > 256 ? int(($1 - 256 + 127) / 128) : 0)'
    score --quiet --stride 100 in.jsonl | field windows | paste <(field id < got.jsonl) - |
        holds '$2 == 1 + ($1 > 256 ? int(($1 - 256 + 99) / 100) : 0)'
    # without <|endoftext|> there is one position less, with the last one's entropy one more
    score --quiet --stride 256 --bos no --max-errors 1 in.jsonl 2> said | field windows | paste <(field id < got.jsonl | tail -n +2) - |
        holds '$2 == int(($1 - 1 + 255) / 256)'
    score --quiet --stride 256 --bos no --entropy all --max-errors 1 in.jsonl 2> said | field windows |
        paste <(field id < got.jsonl | tail -n +2) - | holds '$2 == int(($1 + 255) / 256)'
    # the first window of context tokens alone
    score --quiet --stride 0 in.jsonl | tee cut.jsonl | field tokens | paste <(field id < got.jsonl) - |
        holds '$2 == ($1 > 255 ? 255 : $1)'
    score --quiet --stride 0 --bos no --max-errors 1 in.jsonl 2> said | field tokens | paste <(field id < got.jsonl | tail -n +2) - |
        holds '$2 == ($1 > 256 ? 255 : $1 - 1)'
    [ "$(field windows < cut.jsonl | sort -u)" = 1 ]
    paste <(field id < got.jsonl) <(field all_tokens < cut.jsonl) | holds '$1 == $2'
    score --quiet --json --out out.jsonl in.jsonl | grep -q '"windows": 26[,}]'
}

@test "windows: each is what the model says of that part alone" {
    # ids are <|endoftext|> and 400 words: the second window begins at word 128 (from 1), scores from word 257 on, the
    # third at word 256 and scores from word 385 on
    given="--quiet --per-token --gltr 2 --observer $writer -"
    printf '{"text": "%s"}\n' "$(words 400)" | score $given > long
    printf '{"text": "%s"}\n' "$(words 256)" | score $given > first
    printf '{"text": "%s"}\n' "$(words 257 127)" | score --bos no $given > second
    printf '{"text": "%s"}\n' "$(words 145 255)" | score --bos no $given > third
    for list in logprob rank entropy cross pred_topk; do
        for part in long first second third; do
            sed -E 's/.*"per_token"//' $part | field $list | tr ' ' '\n' > $part.$list
            [ $list != pred_topk ] || sed 's/.*"pred_topk": //; s/, "tokens": .*//; s/\]\], \[\[/\n/g; s/[]}[]//g' $part > $part.$list
        done
        [ "$(wc -l < long.$list)" -eq 400 ]
        { cat first.$list; tail -n +129 second.$list; tail -n +129 third.$list; } | cmp - long.$list
    done
}

@test "--observer: three more measures" {
    run --separate-stderr score --observer "$writer" good.jsonl
    [ "$status" -eq 0 ]
    [[ ${lines[0]} =~ ^'{"id": 2.50, '$fields', '$observed}$ ]] || { echo "$output"; false; }
}

@test "an observer that does not fit" {
    refuses 66 "nowhere/config.json" --observer nowhere good.jsonl
    if [ -f "$reader/config.json" ]; then
        refuses 65 "$reader: not a GPT-2, which --observer needs" --observer "$reader" good.jsonl
    fi
    cp -r "$writer" other
    chmod -R u+w other
    rm other/vocab.json
    { head -n -2 "$writer/merges.txt"; tail -n 2 "$writer/merges.txt" | tac; } > other/merges.txt
    refuses 65 "--observer other: not the vocabulary of $writer: token 1997 is " --observer other good.jsonl
    cp "$writer/merges.txt" other
    score --quiet --observer other good.jsonl > got.jsonl # GPT-2's own ids need no vocab.json
    sed 's/"n_\(positions\|ctx\)": *256/"n_\1": 128/' "$writer/config.json" > other/config.json
    refuses 65 "--observer other: a context of 128 tokens, $writer has 256" --observer other good.jsonl
    [ ! -e out.jsonl ]
}

@test "--passthrough keeps the source bytes and appends; collisions; --key-prefix" {
    printf '%s\n' '{"text":"in those days","x" : [1, {"ppl": 2}],  "u":"\u00e9"  }  ' '{"id": 7, "text": "And"}' > in.jsonl
    run --separate-stderr score --passthrough in.jsonl
    [ "$status" -eq 0 ]
    [[ ${lines[0]} == '{"text":"in those days","x" : [1, {"ppl": 2}],  "u":"\u00e9", "id": "in.jsonl:1", "tokens": '* ]]
    [[ ${lines[1]} =~ ^'{"id": 7, "text": "And", '$fields}$ ]]
    refuses 2 "--id-key gltr" --passthrough --id-key gltr in.jsonl
    printf '{"text": "And", "windows": 1}\n' > in.jsonl
    refuses 65 '"windows" is there already' --passthrough in.jsonl
    run --separate-stderr score --passthrough --key-prefix s_ in.jsonl
    [ "$status" -eq 0 ]
    [[ $output == '{"text": "And", "windows": 1, "id": "in.jsonl:1", "s_tokens": '*'"s_windows": 1}' ]]
    # names that are not written are nobody's
    printf '{"id": 1, "text": "And", "binoculars": 1, "result": 1, "per_token": 1}\n' > in.jsonl
    score --quiet --passthrough in.jsonl | grep -q '"per_token": 1, "tokens": '
    refuses 65 '"per_token" is there already' --passthrough --per-token in.jsonl
}

@test "--gltr: what GLTR's page reads" {
    printf '{"id": 1, "text": "And\\n\\u201cit\\u201d \\u2013 \\u00e9"}\n' > in.jsonl
    ln -s "$writer" gpt2-small
    run --separate-stderr score --model gpt2-small/ --quiet --gltr 2 --per-token in.jsonl
    [ "$status" -eq 0 ]
    [[ $output == '{"id": 1, "request": {"project": "gpt2-small", "text": "And\n\u201cit\u201d \u2013 \u00e9"}, "result": {"bpe_strings": ['* ]]
    # bytes: 0A is a break and a space, E2 a space, 80 as it is, 9C and 9D quotes, behind a space E2 a dash
    want='"<|endoftext|>", "And", "\u010a ", " ", "\u0122", "\u201c", "it", " ", "\u0122", "\u201d", "\u0120", " ", "\u0122", "\u0135", "\u0120", "\u00c3", "\u00a9"'
    lists='"bpe_strings": \[([^]]*)\], "real_topk": (.*), "pred_topk": (.*)\}, "tokens": ([0-9]+), '
    [[ $output =~ $lists ]]
    [ "${BASH_REMATCH[1]}" = "$want" ] || { echo "${BASH_REMATCH[1]}"; false; }
    real=${BASH_REMATCH[2]} pred=${BASH_REMATCH[3]} tokens=${BASH_REMATCH[4]}
    [ "$tokens" -eq 16 ]
    # ranks from 0 and probabilities in 5 decimals
    tr -d '[],' <<< "$real" | tr ' ' '\n' | paste - - > real
    [ "$(wc -l < real)" -eq "$tokens" ]
    paste real <(field logprob <<< "${output#*per_token}" | tr ' ' '\n') <(field rank <<< "${output#*per_token}" | tr ' ' '\n') |
        awk '{ d = $2 - exp($3); if ($1 != $4 - 1 || d > 0.0000051 || d < -0.0000051 || length($2) > 7) { print; bad = 1 } } END { exit bad }'
    # two likeliest each, the first of which is what a rank of 0 names
    pairs=$(grep -o '\["[^"]*", [0-9.e-]*\]' <<< "$pred")
    [ "$(wc -l <<< "$pairs")" -eq $((2 * tokens)) ]
    sed 's/.*, //; s/]//' <<< "$pairs" | paste - - | holds '$1 >= $2 && $2 >= 0 && $1 + $2 <= 1.00001'
    paste real <(sed 's/.*, //; s/]//' <<< "$pairs" | paste - -) | holds '$1 == 0 ? $2 == $3 : $1 == 1 ? $2 == $4 : 1'
    # without <|endoftext|> the first string is that of the token that is not scored
    run --separate-stderr score --quiet --gltr 1 --bos no good.jsonl
    [[ ${lines[1]} == *'"bpe_strings": ["in", "\u0120those", "\u0120days"], "real_topk": [['[0-9]*', '[0-9.e-]*'], ['[0-9]*', '[0-9.e-]*']], "pred_topk": [[["'* ]] || { echo "${lines[1]}"; false; }
}

@test "every class of bad record, listed with its place, and the good ones scored" {
    {
        printf '{"id": 1, "text": "And"}\n'
        printf '{"text": "\xff"}\n{"text": \n[1]\n{"x": 1}\n{"text": 5}\n{"text": ""}\n'
        printf '{"text": " \\n\\u00a0"}\n{"text": "a\\u0000"}\n{"text": "a\tb"}\n'
        printf '{"text": "a", "text": "b"}\n{"text": "\\ud800"}\n'
        printf '{"text": "%0200d"}\n' 0
        printf '{"id": 2, "text": "And it", "ppl": 0}\n{"id": 3, "text": "And it"}\n'
    } > in.jsonl
    run --separate-stderr score --bos no --passthrough --max-line 100 --max-errors 100% --out out.jsonl in.jsonl
    [ "$status" -eq 3 ]
    [ "$(wc -l < out.jsonl)" -eq 2 ] # white space alone is a text
    want="1 too-short 2 utf8 3 json 4 not-object 5 no-text 6 text-type 7 empty 9 nul 10 control"
    want="$want 11 duplicate-key 12 utf8 13 line-too-long 14 collision "
    got=$(sed 's/.*"line": \([0-9]*\),.*"class": "\([a-z0-9-]*\)".*/\1 \2/' out.jsonl.errors.jsonl | tr '\n' ' ')
    [ "$got" = "$want" ] || { echo "$got"; false; }
    [[ ${stderr_lines[-1]} == *"13 of 15 records are bad"*"1 too-short"*"out.jsonl.errors.jsonl"* ]]
}

@test "a logit that is not finite is a bad record, of the model or of the observer" {
    cp -r "$writer" broken
    chmod -R u+w broken
    # the last bytes of the file are weights: f16 NaN
    size=$(stat -c %s broken/model.safetensors)
    for i in $(seq 64); do printf '\x00\x7e'; done | dd of=broken/model.safetensors bs=1 seek=$((size - 128)) conv=notrunc status=none
    run --separate-stderr score --model broken good.jsonl
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *"not finite"* || ${stderr_lines[-1]} == *nan* ]] || { echo "$stderr"; false; }
    run --separate-stderr score --model broken --skip-weight-check --max-errors 2 --quiet good.jsonl
    [ "$status" -eq 3 ] && [ -z "$output" ]
    [[ ${stderr_lines[0]} == *'"line": 1, "offset": 0, "id": 2.50, "class": "non-finite", "detail": "a logit is not a finite number"}' ]]
    [ "${#stderr_lines[@]}" -eq 2 ]
    run --separate-stderr score --observer broken --skip-weight-check --max-errors 2 --quiet good.jsonl
    [ "$status" -eq 3 ] && [ -z "$output" ]
    [[ ${stderr_lines[1]} == *'"class": "non-finite"'* ]]
}

@test "bad options" {
    refuses 2 "--bos maybe: want one of yes, no" --bos maybe good.jsonl
    refuses 2 "--entropy none: want one of scored, all" --entropy none good.jsonl
    refuses 2 "--gltr-buckets top9" --gltr-buckets top9 good.jsonl
    refuses 2 "--stride 257: the context of $writer is 256" --stride 257 good.jsonl
    refuses 2 "--stride -1" --stride -1 good.jsonl
    refuses 2 "--gltr 0" --gltr 0 good.jsonl
    refuses 2 "--gltr 65" --gltr 65 good.jsonl
    refuses 2 "--threads -1" --threads -1 good.jsonl
    refuses 69 "(no device)" --device cuda:99 good.jsonl
    run --separate-stderr "$TANDEM" score good.jsonl
    [ "$status" -eq 2 ]
}

@test "a model that is missing, is a detector, or damaged" {
    refuses 66 nowhere/config.json --model nowhere good.jsonl
    if [ -f "$reader/config.json" ]; then
        refuses 65 "$reader: not a GPT-2, which score needs" --model "$reader" --out out.jsonl good.jsonl
    fi
    cp -r "$writer" model
    chmod -R u+w model
    head -c 1000 "$writer/model.safetensors" > model/model.safetensors
    refuses 65 model.safetensors --model model good.jsonl
    cp "$writer/model.safetensors" model
    head -n -1 "$writer/merges.txt" > model/merges.txt
    rm model/vocab.json
    refuses 65 "model: the tokenizer has 1999 tokens, config.json says 2000" --model model good.jsonl
    [ "$(ls | sort | tr '\n' ' ')" = "good.jsonl model " ]
}

@test "missing input, an output that cannot be created, a full disk" {
    refuses 66 nowhere.jsonl --out out.jsonl good.jsonl nowhere.jsonl
    refuses 73 nowhere/out.jsonl --out nowhere/out.jsonl good.jsonl
    [ "$(ls)" = good.jsonl ]
    [ -c /dev/full ] || skip "there is no /dev/full"
    refuses 74 /dev/full --out /dev/full good.jsonl
}

@test "a result comes before the next record is sent; one signal ends the wait" {
    mkfifo to from
    exec 7<> to 8<> from # read and write: waits for nobody
    "$TANDEM" score --model "$writer" --device cpu to --quiet > from 2> said 7>&- 8>&- &
    pid=$!
    for i in 1 2 3; do
        echo '{"id": '$i', "text": "And it came to pass"}' >&7
        read -r -t 20 line <&8
        [[ $line =~ ^'{"id": '$i', '$fields}$ ]]
    done
    kill -TERM $pid
    code=0
    wait $pid || code=$?
    [ $code -eq 75 ] || { echo "exit $code"; cat said; false; }
    [ "$(cat said)" = "tandem score: stopped by signal 15 (stopped)" ] || { cat said; false; }
}

@test "--json: one object, with the windows" {
    run --separate-stderr score --json --quiet --out out.jsonl good.jsonl
    [ "$status" -eq 0 ]
    [[ $output == '{"command": "score", "state": "complete", '*'"ok": 2, "bad": 0'*'"tokens": 8, '*'"windows": 2, "cpu_seconds": {'* ]] || { echo "$output"; false; }
    [ -z "$stderr" ]
}
