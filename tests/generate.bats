#!/usr/bin/env bats
# tandem generate from outside. The model is written here, with zeros as weights: every token is
# equally probable, and the greedy one is id 0, "!". Vocabulary: 256 bytes, "th", <|endoftext|>.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    model=$BATS_TEST_TMPDIR/model
    mkdir "$model"
    printf '#version: 0.2\nt h\n' > "$model/merges.txt"
    echo '{"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 64, "vocab_size": 258,
           "n_positions": 1024, "bos_token_id": 257, "eos_token_id": 257}' > "$model/config.json"
    write_weights wte.weight:258,64 wpe.weight:1024,64 ln_f.weight:64 ln_f.bias:64 \
        h.0.ln_1.weight:64 h.0.ln_1.bias:64 h.0.attn.c_attn.weight:64,192 \
        h.0.attn.c_attn.bias:192 h.0.attn.c_proj.weight:64,64 h.0.attn.c_proj.bias:64 \
        h.0.ln_2.weight:64 h.0.ln_2.bias:64 h.0.mlp.c_fc.weight:64,256 h.0.mlp.c_fc.bias:256 \
        h.0.mlp.c_proj.weight:256,64 h.0.mlp.c_proj.bias:64
    printf '{"id": 1.50, "text": "Once"}\n{"text": "upon"}\n' > prompts.jsonl
}

# write_weights NAME:SHAPE...: one safetensors file of F32 zeros
write_weights() {
    local header='{' at=0 end=0 comma= shape byte size bytes=
    for t in "$@"; do
        shape=${t#*:}
        end=$((at + 4 * $(echo "$shape" | tr , '*')))
        header="$header$comma\"${t%%:*}\":{\"dtype\":\"F32\",\"shape\":[$shape],\"data_offsets\":[$at,$end]}"
        at=$end comma=,
    done
    header="$header}"
    size=${#header}
    for byte in 1 2 3 4 5 6 7 8; do
        bytes="$bytes\\x$(printf %02x $((size & 255)))"
        size=$((size >> 8))
    done
    {
        printf "$bytes"
        printf %s "$header"
        head -c "$end" /dev/zero
    } > "$model/model.safetensors"
}

# The last weight becomes NaN.
spoil() {
    local file=$model/model.safetensors
    printf '\x00\x00\xc0\x7f' |
        dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 4)) conv=notrunc status=none
}

generate() {
    "$TANDEM" generate --model "$model" --device cpu "$@"
}

# Exit code $1, nothing on stdout, a last line on stderr that holds $2, and nothing left behind.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr generate "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ -z "$output" ]
    [[ ${stderr_lines[-1]} == *"$says"* ]] || { echo "$stderr"; false; }
    [ "$(ls -A)" = prompts.jsonl ] || { ls -A; false; }
}

@test "documents in the order of their ids, as records of the dataset" {
    run --separate-stderr generate --n 5 --first-id 255000 --length 20 --batch 2
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 5 ]
    for i in 0 1 2 3 4; do
        [[ ${lines[i]} =~ ^'{"id": 25500'$i', "ended": '(true|false)', "length": '[0-9]+', "text": "'.*'"}'$ ]]
    done
    [[ $stderr == *"device: cpu"*"batch: 2, 2 pages of 64 tokens (0.1 MiB)"*"tandem generate: 5 documents in "*" tokens/s" ]]
    [ "${#stderr_lines[@]}" -eq 3 ]
}

@test "greedy is the lowest id of the largest logit" {
    run --separate-stderr generate --temperature 0 --length 7 --quiet
    [ "$output" = '{"id": 0, "ended": false, "length": 7, "text": "!!!!!!!"}' ]
    [ -z "$stderr" ]
}

@test "the whole context is 1024 new tokens" {
    run --separate-stderr generate --temperature 0 --quiet
    [[ $output == '{"id": 0, "ended": false, "length": 1024, "text": "!!'* ]]
}

@test "the same bytes with any batch and any threads" {
    generate --n 40 --seed 7 --top-k 100 --top-p 0.8:1.0 --batch 1 --threads 1 --quiet > one
    for how in "3 1" "7 2" "64 3" "auto 2"; do
        set -- $how
        generate --n 40 --seed 7 --top-k 100 --top-p 0.8:1.0 --batch $1 --threads $2 --quiet > other
        cmp one other
    done
    generate --n 40 --seed 8 --top-k 100 --top-p 0.8:1.0 --quiet > other
    run cmp -s one other
    [ "$status" -eq 1 ]
    grep -qE '", "p": 0\.[89][0-9]*\}$' one
}

@test "prompts: samples of each, their ids, and the prompt's id as it was written" {
    run --separate-stderr generate --prompts prompts.jsonl --samples-per-prompt 2 --length 3 --temperature 0
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = '{"id": 0, "ended": false, "length": 3, "text": "!!!", "prompt_id": 1.50}' ]
    [ "${lines[1]}" = '{"id": 1, "ended": false, "length": 3, "text": "!!!", "prompt_id": 1.50}' ]
    [ "${lines[2]}" = '{"id": 2, "ended": false, "length": 3, "text": "!!!", "prompt_id": "prompts.jsonl:2"}' ]
    [ "${#lines[@]}" -eq 4 ]
    run --separate-stderr generate --prompts - --length 3 --temperature 0 --quiet < prompts.jsonl
    [[ ${lines[1]} == *'"prompt_id": "-:2"}' ]]
}

@test "a bad prompt is an error record, and the others are written" {
    { cat prompts.jsonl; echo '{"text": 3}'; printf '{"text": "%1025s"}\n' x; } > more.jsonl
    rm prompts.jsonl
    run --separate-stderr generate --prompts more.jsonl --length 2 --out out.jsonl --max-errors 2 --json
    [ "$status" -eq 3 ]
    [ "$(wc -l < out.jsonl)" -eq 2 ]
    [[ $output == '{"command": "generate", "state": "complete", "in": 4, "ok": 2, "bad": 2, '* ]]
    [[ $(sed -n 1p out.jsonl.errors.jsonl) == *'"line": 3, '*'"class": "text-type"'* ]]
    [[ $(sed -n 2p out.jsonl.errors.jsonl) == *'"line": 4, '*'"class": "prompt-too-long"'*'1025 tokens, the context has 1024'* ]]
}

@test "bad prompts beyond --max-errors end the run, and there is no output" {
    run --separate-stderr generate --prompts /dev/stdin --length 2 --out out.jsonl <<< '{"text": 3}'
    [ "$status" -eq 65 ]
    [[ ${stderr_lines[-1]} == *"max-errors"* ]] || { echo "$stderr"; false; }
    [ "$(ls -A)" = prompts.jsonl ] # nothing was done, nothing stays
}

@test "--out appears whole; --json is one object on stdout" {
    run --separate-stderr generate --n 3 --length 5 --out out.jsonl --json --quiet
    [ "$status" -eq 0 ]
    [ "$(wc -l < out.jsonl)" -eq 3 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output =~ '"ok": 3, "bad": 0'.*'"tokens": '[0-9]+.*'"token_hash": "'[0-9a-f]{16}'"}'$ ]]
    [ "$(ls -A)" = $'out.jsonl\nout.jsonl.manifest.json\nprompts.jsonl' ]
}

@test "values out of range: exit 2, the value and the limit" {
    refuses 2 "0" --n 0
    refuses 2 "-1" --temperature -1
    refuses 2 "1e-09" --temperature 1e-9
    refuses 2 "-5" --top-k -5
    refuses 2 "0" --top-p 0
    refuses 2 "1.5" --top-p 1.5
    refuses 2 "0.9:0.8" --top-p 0.9:0.8
    refuses 2 "1025, want 1 to 1024" --length 1025
    refuses 2 "--length" --length 0
    refuses 2 "--samples-per-prompt" --samples-per-prompt 0
    refuses 2 "65537" --batch 65537
    refuses 2 "--nucleus" --nucleus other
    refuses 2 "prompts go with --prompts" file.jsonl
}

@test "files that are not there" {
    refuses 66 "nowhere" --prompts nowhere.jsonl
    model=$PWD/absent
    refuses 66 "absent"
}

@test "an output that cannot be created is said before any work" {
    refuses 73 "no/such/folder" --out no/such/folder/out.jsonl
}

@test "a full disk" {
    [ -c /dev/full ] || skip "no /dev/full"
    run generate --n 3 --length 5 --out /dev/full
    [ "$status" -eq 74 ]
}

@test "a closed pipe ends the run quietly" {
    run bash -c '"$0" generate --model "$1" --device cpu --n 2000 --length 50 --quiet 2> err | head -n 1; echo ${PIPESTATUS[0]}' "$TANDEM" "$model"
    [[ ${lines[0]} == '{"id": 0, '* ]]
    [ "${lines[1]}" -ne 0 ]
    [ ! -s err ]
}

@test "a signal ends the run: exit 75, no output, and what is done is kept" {
    for signal in INT TERM HUP USR1; do
        # not the function: the signal must reach tandem, not a shell
        env --default-signal=INT,HUP,USR1 "$TANDEM" generate --model "$model" --device cpu --n 1000000 --length 40 \
            --out out.jsonl 2> err &
        pid=$!
        # a chunk more than the run before has done
        until [ "$(cat out.jsonl.job/0.journal 2> err2 | wc -l)" -gt "${chunks:-1}" ]; do sleep 0.05; done
        kill -$signal $pid
        code=0
        wait $pid || code=$?
        [ $code -eq 75 ] || { echo "$signal: $code"; cat err; false; }
        grep -q 'stopped' err
        chunks=$(wc -l < out.jsonl.job/0.journal)
        rm err err2
        [ "$(ls -A)" = $'out.jsonl.job\nprompts.jsonl' ]
    done
}

@test "a document is written while the next prompt is still to come" {
    mkfifo to from
    exec 7<> to 8<> from # read and write: waits for nobody
    "$TANDEM" generate --model "$model" --device cpu --prompts to --length 3 --temperature 0 \
        --quiet > from 2> err 7>&- 8>&- &
    pid=$!
    for i in 0 1 2; do
        echo '{"id": "p'$i'", "text": "Once"}' >&7
        read -r -t 20 line <&8
        [ "$line" = '{"id": '$i', "ended": false, "length": 3, "text": "!!!", "prompt_id": "p'$i'"}' ]
    done
    exec 7>&-
    wait $pid
    [ ! -s err ]
}

@test "logits that are not finite are a bad document without a file" {
    spoil
    refuses 65 "h.0.mlp.c_proj.bias" # the check of the weights, which the flag switches off
    refuses 65 "document 7: non-finite: " --skip-weight-check --n 3 --first-id 7
    run --separate-stderr generate --skip-weight-check --n 2 --first-id 7 --quiet --max-errors 2
    [ "$status" -eq 3 ]
    [ -z "$output" ]
    want='"class": "non-finite", "detail": "a logit behind token 1 is not a finite number"}'
    [ "${stderr_lines[0]}" = '{"file": null, "line": null, "offset": null, "id": 7, '"$want" ]
    [ "${stderr_lines[1]}" = '{"file": null, "line": null, "offset": null, "id": 8, '"$want" ]
    run --separate-stderr generate --skip-weight-check --prompts prompts.jsonl --max-errors 2 --quiet
    [ "$status" -eq 3 ]
    [[ ${stderr_lines[0]} == '{"file": "prompts.jsonl", "line": 1, "offset": 0, "id": 1.50, "class": "non-finite"'* ]]
}

@test "options that would do nothing" {
    refuses 2 "--n means nothing with --prompts" --prompts prompts.jsonl --n 5
    refuses 2 "--samples-per-prompt means nothing without --prompts" --samples-per-prompt 2
    refuses 2 "--text-key means nothing without --prompts" --text-key text
    refuses 2 "--id-key means nothing without --prompts" --n 2 --id-key id
    refuses 2 "--max-line means nothing without --prompts" --max-line 5MiB
    refuses 2 "--max-ratio means nothing without --prompts" --max-ratio 9
}

@test "ids end at 2^63 - 1, also for prompts" {
    run --separate-stderr generate --prompts prompts.jsonl --length 1 --quiet \
        --first-id 9223372036854775805
    [ "$status" -eq 0 ]
    [[ ${lines[1]} == '{"id": 9223372036854775806, '* ]]
    refuses 2 "9223372036854775807 and 1 documents" --first-id 9223372036854775807
    run --separate-stderr generate --prompts prompts.jsonl --length 1 --first-id 9223372036854775806
    [ "$status" -eq 2 ]
    [[ ${stderr_lines[-1]} == *"first-id 9223372036854775806: document 1 has no id"* ]]
}

@test "a tokenizer of another size is refused with both numbers" {
    sed -i 's/"vocab_size": 258/"vocab_size": 300/' "$model/config.json"
    refuses 65 "the tokenizer has 258 tokens, config.json says 300"
}

@test "a model that is not a GPT-2" {
    echo '{"model_type": "roberta", "architectures": ["RobertaForSequenceClassification"],
           "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 64,
           "intermediate_size": 64, "vocab_size": 300, "max_position_embeddings": 20,
           "type_vocab_size": 1, "layer_norm_eps": 1e-05, "hidden_act": "gelu", "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}' > "$model/config.json"
    refuses 65 "GPT-2"
}

@test "weights that are not finite name the tensor" {
    spoil
    refuses 65 "h.0.mlp.c_proj.bias"
}

@test "a batch that there is no memory for: the numbers, and nothing is left" {
    [ "$(awk '/MemAvailable/ {print $2}' /proc/meminfo)" -lt 70000000 ] || skip "more than 70 GB of memory"
    run -71 "$TANDEM" generate --model "$TDM_SOURCE_DIR/tools/demo/writer" --n 100000 --batch 65536 --out o
    [[ $output == *"batch 65536 takes "*" MiB beside the weights, "*" MiB are available; --batch "[1-9]*" fits"* ]]
    [ ! -e o ]
}
