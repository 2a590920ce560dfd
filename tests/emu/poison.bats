#!/usr/bin/env bats
# Records with which a device dies, among others, on emulated devices: the others are done as ever, and these are listed.
# A device is lost when it is sent the tokens of " qux".
#   TANDEM_EMU  the program with the CUDA backend on the emulated device

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    export TDM_EMU_DEVICES=2 TDM_EMU_MEMORY=100000000
    reader=$TDM_SOURCE_DIR/tools/demo/reader-small
    writer=$TDM_SOURCE_DIR/tools/demo/writer-small
}

# Lines of $1 short texts, of which those with the numbers that follow are poisonous.
texts() {
    awk -v n="$1" -v bad=" ${*:2} " 'BEGIN {
        for (i = 0; i < n; i++) {
            word = index(bad, " " i " ") ? "qux" : "beginning"
            printf "{\"id\": %d, \"text\": \"in the %s was the word %d\"}\n", i, word, i * 7 % 11
        }
    }'
}

detect() {
    "$TANDEM_EMU" detect --model "$reader" --chunk 256 --progress none "$@"
}

score() {
    "$TANDEM_EMU" score --model "$writer" --chunk 256 --progress none "$@"
}

generate() {
    "$TANDEM_EMU" generate --model "$writer" --length 4 --chunk 4 --batch 4 --progress none "$@"
}

# What one device that dies of nothing makes of it, as all.jsonl: COMMAND ARGUMENTS...
on_one() {
    "$@" --device cuda --quiet --out all.jsonl
}

# The command itself, on devices that die.
with_poison() { # MODEL COMMAND ARGUMENTS...
    local ids
    ids=$(echo '{"text": " qux"}' | "$TANDEM_EMU" tokenize --quiet --model "$1" | sed 's/.*\[\(.*\)\]}/\1/; s/ //g')
    [[ $ids == *,* ]]
    TDM_EMU_POISON=$ids run -"$code" --separate-stderr "${@:2}" --out out.jsonl
}

# out.jsonl is all.jsonl without the records of these ids, and they are what is listed.
all_but() {
    local ids=$*
    grep -v -E "\"id\": (${ids// /|})," all.jsonl | cmp - out.jsonl
    [ ! -e out.jsonl.job ]
    [ "$(sed 's/.*"id": \([0-9]*\), "class": "device-fault", "detail": "4 workers died with it, the last .*"}$/\1/' \
        out.jsonl.errors.jsonl | paste -sd ' ')" = "$ids" ]
    grep -q '"by_class": {"device-fault": '$#'}' out.jsonl.manifest.json
}

@test "detect: one poisonous record, which --max-errors decides about" {
    texts 24 9 > in.jsonl
    on_one detect in.jsonl
    code=65 with_poison "$reader" detect --devices 0,1 in.jsonl
    [[ $stderr == *"in.jsonl:10: device-fault: 4 workers died with it, the last "*"bad record 1, --max-errors 0"* ]]
    [ ! -e out.jsonl ]
    code=3 with_poison "$reader" detect --devices 0,1 --max-errors 1 in.jsonl
    all_but 9
    [[ $stderr == *"with one record alone, which is bad now"* ]]
    [[ $stderr == *"1 of 24 records are bad: 1 device-fault; see out.jsonl.errors.jsonl"* ]]
    grep -q '^{"file": "in.jsonl", "line": 10, "offset": '"$(head -n 9 in.jsonl | wc -c)"', "id": 9, ' out.jsonl.errors.jsonl
}

@test "detect: poisonous records in one chunk and in the next ones, the first and the last, on one device" {
    texts 24 0 6 7 8 11 23 > in.jsonl
    on_one detect in.jsonl
    code=3 with_poison "$reader" detect --devices 1 --max-errors 6 in.jsonl
    all_but 0 6 7 8 11 23
}

@test "detect: bad records of other classes keep their place among them" {
    texts 12 4 6 | sed '5s/.*/&\nnot JSON/' > in.jsonl
    on_one detect --max-errors 1 in.jsonl || [ $? -eq 3 ]
    code=3 with_poison "$reader" detect --devices 0,1 --max-errors 3 in.jsonl
    grep -v -E '"id": (4|6),' all.jsonl | cmp - out.jsonl
    [ "$(sed 's/.*"line": \([0-9]*\).*"class": "\([a-z-]*\)".*/\1 \2/' out.jsonl.errors.jsonl)" = "5 device-fault
6 json
8 device-fault" ]
}

@test "score: two poisonous records" {
    texts 16 5 12 > in.jsonl
    on_one score in.jsonl
    code=3 with_poison "$writer" score --devices 0,1 --max-errors 2 in.jsonl
    all_but 5 12
}

@test "generate: every document of a poisonous prompt" {
    texts 8 2 > in.jsonl
    on_one generate --prompts in.jsonl --samples-per-prompt 2
    code=3 with_poison "$writer" generate --devices 0,1 --prompts in.jsonl --samples-per-prompt 2 --max-errors 2
    grep -v '"prompt_id": 2}' all.jsonl | cmp - out.jsonl
    [ "$(grep -c '"line": 3, .*"id": 2, "class": "device-fault"' out.jsonl.errors.jsonl)" -eq 2 ]
    [ "$(wc -l < out.jsonl.errors.jsonl)" -eq 2 ]
}

@test "a device that dies of everything is left out, and no record is blamed for it" {
    texts 24 > in.jsonl
    on_one detect in.jsonl
    TDM_EMU_LOST=3@1 run -0 --separate-stderr detect --devices 0,1 --out out.jsonl in.jsonl
    cmp all.jsonl out.jsonl
    [ ! -e out.jsonl.errors.jsonl ]
    TDM_EMU_LOST=3 run -75 --separate-stderr detect --devices 0 --max-errors 100% --out none.jsonl in.jsonl
    [[ $stderr == *"no device is left"* ]]
}
