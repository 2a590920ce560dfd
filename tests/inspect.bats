#!/usr/bin/env bats
# tandem inspect: the list, the sums, and every problem named. The checkpoint is written here, with
# zeros as weights: 1 layer, width 64, vocabulary 8, 4 positions.

setup() {
    bats_require_minimum_version 1.5.0
    dir=$BATS_TEST_TMPDIR/model
    mkdir "$dir"
    echo '{"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 64, "vocab_size": 8,
           "n_positions": 4, "bos_token_id": 7, "eos_token_id": 7}' > "$dir/config.json"
    tensors="wte.weight:8,64 wpe.weight:4,64 ln_f.weight:64 ln_f.bias:64
        h.0.ln_1.weight:64 h.0.ln_1.bias:64 h.0.attn.c_attn.weight:64,192 h.0.attn.c_attn.bias:192
        h.0.attn.c_proj.weight:64,64 h.0.attn.c_proj.bias:64 h.0.ln_2.weight:64 h.0.ln_2.bias:64
        h.0.mlp.c_fc.weight:64,256 h.0.mlp.c_fc.bias:256 h.0.mlp.c_proj.weight:256,64
        h.0.mlp.c_proj.bias:64"
}

# write_model NAME:SHAPE...: F32 zeros, one behind the other; a hole in the file
write_model() {
    header='{' at=0 end=0 comma=
    for t in "$@"; do
        shape=${t#*:}
        end=$((at + 4 * $(echo "$shape" | tr , '*')))
        header="$header$comma\"${t%%:*}\":{\"dtype\":\"F32\",\"shape\":[$shape],\"data_offsets\":[$at,$end]}"
        at=$end comma=,
    done
    header="$header}"
    n=${#header}
    {
        printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\\0\\0\\0\\0\\0\\0"
        printf %s "$header"
    } > "$dir/model.safetensors"
    truncate -s +"$end" "$dir/model.safetensors"
}

@test "a complete model: table, parameters and memory" {
    write_model $tensors
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 0 ]
    [[ "$output" =~ "h.0.attn.c_attn.weight  F32   [64, 192] " ]]
    [[ "$output" =~ "tensors      16"$'\n' ]]
    [[ "$output" =~ "gpt2: 1 layers, 1 heads, width 64, feed-forward 256, vocabulary 8, context 4" ]]
    [[ "$output" =~ "parameters   50880" ]]
    [[ "$output" =~ "512 bytes of keys and values for each token" ]]
    [[ "$output" =~ "generate, 64 texts of full length at once: 2.0 MiB of keys and values, 0."[1-9]" MiB of scratch" ]]
}

@test "--json is one object with the same numbers" {
    write_model $tensors h.0.attn.bias:1,1,4,4 h.0.attn.masked_bias:1
    run "$TANDEM" inspect --json "$dir"
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" =~ '"n_tensors": 18, ' ]]
    [[ "$output" =~ '"ignored": 2, "parameters": 50880' ]]
    [[ "$output" =~ '"kv_per_token": 512, "kv_per_text": 2048' ]]
    [[ "$output" =~ '"run_texts": 64, "run_kv": '([0-9]+)', "run_scratch": '[1-9] ]]
    [ "${BASH_REMATCH[1]}" -eq $((64 * 64 * 512)) ] # a page of 64 tokens for each
    [[ "$output" =~ '{"name": "h.0.attn.bias", "dtype": "F32", "shape": [1, 1, 4, 4], "bytes": 64, "file": 0, "use": "ignored"}' ]]
    # f32 weights, and the words a second time as output matrix
    [[ "$output" =~ "\"weights\": $((4 * (50880 + 8 * 64)))," ]]
}

@test "names with transformer. in front" {
    write_model $(for t in $tensors; do echo "transformer.$t"; done) lm_head.weight:8,64
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 0 ]
    [[ "$output" =~ "parameters   50880" ]]
    [[ "$output" =~ "17, 1 of them ignored" ]]
}

# Of a rank of GPT-2 XL with so many heads, columns of the feed-forward layer and rows of the vocabulary: bytes of
# weights with f16, tables as in the file.
xl_weights() {
    local E=1600 A=$((64 * $1)) F=$2 V=$3
    local layer=$((4 * 4 * E + 2 * (3 * A * E + 3 * A + A * E + E + F * E + F + F * E + E)))
    echo $((4 * V * E + 2 * V * E + 4 * 1024 * E + 2 * 4 * E + 48 * layer))
}

@test "GPT-2 XL on 1, 2, 4 and 8 GPUs" {
    echo '{"model_type": "gpt2", "n_layer": 48, "n_head": 25, "n_embd": 1600, "vocab_size": 50257,
           "n_positions": 1024, "bos_token_id": 50256, "eos_token_id": 50256}' > "$dir/config.json"
    write_model wte.weight:50257,1600 wpe.weight:1024,1600 ln_f.weight:1600 ln_f.bias:1600 \
        $(for i in $(seq 0 47); do
            for t in ln_1.weight:1600 ln_1.bias:1600 attn.c_attn.weight:1600,4800 attn.c_attn.bias:4800 \
                attn.c_proj.weight:1600,1600 attn.c_proj.bias:1600 ln_2.weight:1600 ln_2.bias:1600 \
                mlp.c_fc.weight:1600,6400 mlp.c_fc.bias:6400 mlp.c_proj.weight:6400,1600 mlp.c_proj.bias:1600; do
                echo h.$i.$t
            done
        done)
    run --separate-stderr "$TANDEM" inspect "$dir"
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [[ "$output" =~ "parameters   1557611200" ]]
    [[ "$output" =~ "on GPUs      f16, 22 texts of full length at once: MiB of each" ]] || { echo "$output"; false; }
    [[ "$output" =~ $'\n                8 ' ]]
    run --separate-stderr "$TANDEM" inspect --json "$dir"
    # heads 13 + 12, 7 + 6 + 6 + 6, 4 + 3 x 7; columns 64 x (50, 25, 13); rows of the vocabulary in blocks of 64
    for want in "1 25 6400 50257" "2 13 3200 25152" "4 7 1600 12608" "8 4 832 6336"; do
        set -- $want
        part="\"gpus\": $1, \"dtype\": \"f16\", \"batch\": 22, \"weights\": $(xl_weights $2 $3 $4), "
        part+="\"kv\": $((22 * 1024 * 48 * $2 * 64 * 2 * 2)), \"scratch\": "
        [[ "$output" == *"$part"* ]] || { echo "$part"; echo "${output#*on_gpus}"; false; }
    done
}

@test "missing, misshapen and foreign tensors are all named, exit 65" {
    write_model ${tensors/h.0.ln_2.bias:64/} score.weight:2,64
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 65 ]
    [[ "$output" =~ "no tensor h.0.ln_2.bias" ]]
    [[ "$output" =~ "tensor score.weight does not belong to this model" ]]
    [[ "$output" =~ "2 problems, the first: " ]]

    write_model ${tensors/wte.weight:8,64/} # wanted as table and as output matrix: one problem
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 65 ]
    [[ "$output" =~ "1 problem, the first: ".*"no tensor wte.weight" ]]

    write_model ${tensors/c_attn.weight:64,192/c_attn.weight:192,64}
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 65 ]
    [[ "$output" =~ "h.0.attn.c_attn.weight: shape [192, 64], want [64, 192]" ]]
}

@test "a single file: the table alone" {
    write_model a:2,3
    run "$TANDEM" inspect "$dir/model.safetensors"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "a  F32   [2, 3]                     24" ]
    [[ ! "$output" =~ "parameters" ]]
}

@test "bad input: one line and the right exit code" {
    run "$TANDEM" inspect
    [ "$status" -eq 2 ]
    run "$TANDEM" inspect "$dir" "$dir"
    [ "$status" -eq 2 ]
    for name in nothing nothing.jsonl.job nothing.manifest.json; do
        run "$TANDEM" inspect "$dir/$name"
        [ "$status" -eq 66 ]
        [ "$output" = "tandem inspect: $dir/$name: No such file or directory (no input)" ]
    done
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 66 ]
    [[ "$output" =~ "neither model.safetensors nor" ]]
    printf short > "$dir/model.safetensors"
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 65 ]
    [[ "$output" =~ "5 bytes, too short for a header" ]]
    echo '{"model_type": "gpt2", "n_head": 11}' > "$dir/config.json"
    run "$TANDEM" inspect "$dir"
    [ "$status" -eq 65 ]
    [[ "$output" =~ "width 768 with 11 heads" ]]
}

# ---- jobs, with the device that computes nothing ----

job() {
    "$TANDEM" detect --model "$TDM_SOURCE_DIR/tools/demo/reader" --device null --quiet "$@"
}

# $1 records, the third of them bad.
records() {
    cd "$BATS_TEST_TMPDIR"
    awk -v n="$1" 'BEGIN {
        for (i = 1; i <= n; i++)
            print i == 3 ? "[]" : "{\"id\": " i ", \"text\": \"one word after another, " i "\"}"
    }' > "in file.jsonl"
}

@test "a job: what is done, what is left, and what to type" {
    records 100
    run -0 job "in file.jsonl" --chunk 500 --max-errors 1 --key-prefix "it's " --shard 0/2 --out out.jsonl
    for name in out.jsonl.job out.jsonl.job/ out.jsonl; do
        run -0 "$TANDEM" inspect $name
        [ "${lines[0]}" = "job         out.jsonl.job: detect, not complete" ]
        [[ "$output" =~ "chunks      "([0-9]+)" of "([0-9]+)" ("[0-9]+"%), "([0-9]+)" left" ]]
        [ "${BASH_REMATCH[1]}" -gt 0 ]
        [ $((BASH_REMATCH[1] + BASH_REMATCH[3])) -eq "${BASH_REMATCH[2]}" ]
        [[ "$output" =~ "            in file.jsonl: ${BASH_REMATCH[0]#chunks      }" ]]
        [[ "$output" =~ "rank        0: "[1-9][0-9]*" chunks, no process" ]]
        [[ "$output" =~ "records     "[0-9]+": "[0-9]+" ok, "[01]" bad" ]]
    done
    run -0 "$TANDEM" inspect --json out.jsonl.job
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" =~ ^'{"path": "out.jsonl", "command": "detect", "complete": false, ' ]]
    [[ "$output" =~ '"ranks": [{"rank": 0, ' ]]
    # what it says is taken by a shell, and by the job
    run -0 "$TANDEM" inspect out.jsonl.job
    model="$TDM_SOURCE_DIR/tools/demo/reader"
    command=${lines[-1]/ --model DIR / --model '"$model"' --max-errors 1 }
    run -3 eval "${command/tandem/'"$TANDEM"'}"
    run -0 "$TANDEM" inspect out.jsonl
    [[ "$output" =~ "records     100: 99 ok, 1 bad (1 not-object), 0 skipped" ]]
}

@test "a job: inputs that look like options" {
    records 100
    mv -- "in file.jsonl" -k.jsonl
    run -0 job --chunk 500 --max-errors 1 --shard 0/2 --out out.jsonl -- -k.jsonl
    run -0 "$TANDEM" inspect out.jsonl.job
    [[ "${lines[-1]}" =~ " --out out.jsonl -- -k.jsonl"$ ]]
}

@test "a job of generate: its options come back" {
    cd "$BATS_TEST_TMPDIR"
    generate() {
        "$TANDEM" generate --model "$TDM_SOURCE_DIR/tools/demo/writer" --device null --quiet "$@"
    }
    run -0 generate --n 300 --seed 18446744073709551615 --top-p 0.5:0.98765432101 --shard 0/2 --out out.jsonl
    run -0 "$TANDEM" inspect out.jsonl.job
    [[ "${lines[-1]}" =~ " --n 300 --seed 18446744073709551615 ".*" --temperature 1 ".*" --top-p 0.5:0.98765432101 " ]]
    [[ ! "${lines[-1]}" =~ --length ]]
    command=${lines[-1]/tandem generate --model DIR/generate}
    run -0 $command
    [ "$(wc -l < out.jsonl)" -eq 300 ]
    printf '{"text": "Once"}\n{"text": "Upon"}\n' > prompts.jsonl
    run -0 generate --prompts prompts.jsonl --samples-per-prompt 65 --shard 1/2 --out more.jsonl
    run -0 "$TANDEM" inspect more.jsonl.job
    [[ "${lines[-1]}" =~ " --samples-per-prompt 65 ".*" --out more.jsonl --prompts prompts.jsonl"$ ]]
    run -0 ${lines[-1]/tandem generate --model DIR/generate}
    [ "$(wc -l < more.jsonl)" -eq 130 ]
}

@test "a job at work is seen, and not disturbed" {
    records 10
    mkfifo pipe
    job - --max-errors 1 --out out.jsonl < pipe 3>&- &
    exec 9> pipe
    cat "in file.jsonl" >&9
    until "$TANDEM" inspect out.jsonl.job 2> said | grep -q "rank        0: 0 chunks, at work"; do
        kill -0 $! # it has not ended
    done
    run -0 "$TANDEM" inspect out.jsonl.job
    [[ ! "$output" =~ "to go on" ]]
    exec 9>&-
    wait $! || [ $? -eq 3 ]
    run -0 "$TANDEM" inspect out.jsonl
    [[ "$output" =~ "verified    all is what out.jsonl.manifest.json says" ]]
}

@test "what a job made is verified" {
    records 100
    run -3 job "in file.jsonl" --max-errors 1 --out out.jsonl
    run -0 "$TANDEM" inspect out.jsonl
    [ "${lines[0]}" = "job         out.jsonl: detect, complete" ]
    [[ "$output" =~ "output      out.jsonl, $(wc -c < out.jsonl) bytes, SHA-256 $(sha256sum < out.jsonl | cut -c 1-64)" ]]
    [[ "$output" =~ "errors      out.jsonl.errors.jsonl, " ]]
    [ "${lines[-1]}" = "verified    all is what out.jsonl.manifest.json says" ]
    [[ $("$TANDEM" inspect --json out.jsonl) == *'"verified": true, "problems": []}' ]]
    run -0 "$TANDEM" inspect out.jsonl.manifest.json # reads no data
    [ "${lines[0]}" = "job         out.jsonl: detect, complete" ]
    [[ ! "$output" =~ verified ]]
    run -0 "$TANDEM" inspect out.jsonl.job # which is gone, and why
    [ "${lines[0]}" = "job         out.jsonl: detect, complete" ]

    cp out.jsonl good
    printf X | dd of=out.jsonl bs=1 seek=9 conv=notrunc 2> said # one byte is another one
    run -65 "$TANDEM" inspect out.jsonl
    [[ "$output" =~ "problem     out.jsonl has SHA-256 $(sha256sum < out.jsonl | cut -c 1-64), its manifest says $(sha256sum < good | cut -c 1-64)" ]]
    [[ "$output" =~ "1 problem, the first: out.jsonl has SHA-256 " ]]
    echo >> out.jsonl
    rm out.jsonl.errors.jsonl
    run -65 "$TANDEM" inspect --json out.jsonl
    [[ "$output" =~ '"verified": false, "problems": ["out.jsonl has '$(wc -c < out.jsonl)' bytes, its manifest says '$(wc -c < good)'", "out.jsonl.errors.jsonl is missing"]}' ]]
    rm out.jsonl
    run -65 "$TANDEM" inspect out.jsonl
    [[ "$output" =~ "2 problems, the first: out.jsonl is missing" ]]
    run -0 "$TANDEM" inspect out.jsonl.manifest.json
}

@test "a job that is none" {
    cd "$BATS_TEST_TMPDIR"
    mkdir empty.job
    run -66 "$TANDEM" inspect empty.job
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" =~ "empty.job: no job: it has no manifest.json" ]]
    run -66 "$TANDEM" inspect missing.job
    [ "${#lines[@]}" -eq 1 ]
    echo '{"half":' > x.manifest.json
    run -65 "$TANDEM" inspect x.manifest.json
    [ "${#lines[@]}" -eq 1 ]
    echo '{"a": 1}' > x.manifest.json
    run -65 "$TANDEM" inspect x.manifest.json
    [[ "$output" =~ "x.manifest.json: not the manifest of a finished job" ]]
}
