#!/usr/bin/env bats
# tandem inspect: the list, the sums, and every problem named. The checkpoint is written here, with
# zeros as weights: 1 layer, width 64, vocabulary 8, 4 positions.

setup() {
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

# write_model NAME:SHAPE...: F32 zeros, one behind the other
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
        head -c "$end" /dev/zero
    } > "$dir/model.safetensors"
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
    run "$TANDEM" inspect "$dir/nothing"
    [ "$status" -eq 66 ]
    [ "${#lines[@]}" -eq 1 ]
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
