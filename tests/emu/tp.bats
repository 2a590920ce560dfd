#!/usr/bin/env bats
# --tp on several emulated devices of one process: the program from outside.
#   TANDEM_EMU  the program with the CUDA backend on emulated devices

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here" || exit 1
    demo=$TDM_SOURCE_DIR/tools/demo
    export TDM_EMU_DEVICES=4
    head -n 4 "$demo/human.jsonl" > texts.jsonl
}

# refuses CODE WORDS COMMAND...: this exit code within a minute, one line on stderr that has WORDS, no output
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr timeout 60 "$TANDEM_EMU" "$@" --quiet --out out.jsonl
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ ! -e out.jsonl ]
    rm -rf out.jsonl.job
}

# What --tp auto says that it chose; the folder of --out is not there, so nothing is computed.
chooses() {
    local says=$1
    shift
    run --separate-stderr timeout 60 "$TANDEM_EMU" "$@" --tp auto --out nowhere/out.jsonl
    [ "$status" -eq 73 ] || { echo "exit $status: $stderr"; false; }
    [[ ${stderr_lines[0]} =~ $says ]] || { echo "$stderr"; false; }
}

@test "generate: greedy text of 1, 2 and 3 devices is the same; the job knows how many" {
    for n in 1 2 3; do
        "$TANDEM_EMU" generate --model "$demo/writer" --tp $n --quiet --temperature 0 --n 2 --length 12 --out $n.jsonl
        cmp 1.jsonl $n.jsonl
    done
    grep -q '"identity": "cuda, sm_90, [^"]*, 3 ranks"' 3.jsonl.manifest.json
    ! grep -q ranks 1.jsonl.manifest.json
}

@test "detect and score on 2 devices: what one finds, to rounding; the same twice" {
    numbers() { grep -oE -- '"(fake|logprob|entropy)": -?[0-9.]+' "$1" | sed 's/.* //'; }
    for n in 1 2; do
        "$TANDEM_EMU" detect --model "$demo/reader" --tp $n --quiet texts.jsonl > d$n.jsonl
        "$TANDEM_EMU" score --model "$demo/writer" --tp $n --quiet texts.jsonl > s$n.jsonl
    done
    for f in d s; do
        [ "$(wc -l < ${f}2.jsonl)" -eq 4 ]
        ! cmp -s ${f}1.jsonl ${f}2.jsonl # they do add up otherwise
        paste <(numbers ${f}1.jsonl) <(numbers ${f}2.jsonl) |
            awk '{ d = $1 - $2; if (d * d > 1e-6 * $1 * $1) { print; bad = 1 } } END { exit bad || NR < 4 }'
    done
    TDM_EMU_SEED=5 "$TANDEM_EMU" detect --model "$demo/reader" --tp 2 --quiet --batch 1 texts.jsonl | cmp - d2.jsonl
}

@test "what it says, and devices that are given by their numbers" {
    run --separate-stderr "$TANDEM_EMU" generate --model "$demo/writer" --tp 2 --length 2
    [[ $stderr == *"device: 2 x emulated sm_90 (cuda:0, cuda:1)"* ]] || { echo "$stderr"; false; }
    "$TANDEM_EMU" generate --model "$demo/writer" --temperature 0 --tp 2 --n 2 --length 3 --quiet > here.jsonl
    run --separate-stderr "$TANDEM_EMU" generate --model "$demo/writer" --temperature 0 --devices 3,1 --tp 2 --n 2 \
        --length 3 --out there.jsonl
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [[ $stderr == *"(cuda:3, cuda:1)"* ]] || { echo "$stderr"; false; }
    cmp here.jsonl there.jsonl
}

@test "auto: the fewest devices that have room for a useful batch" {
    local write=(generate --model "$demo/writer" --n 200 --batch 200) read=(detect --model "$demo/reader" texts.jsonl)
    local score=(score --model "$demo/writer" --observer "$demo/writer" texts.jsonl)
    chooses "^tp: 1 of 4 devices, for 15 texts at once: on 1 the weights take 4.1 MiB of 924.0 MiB and leave room for 200$" \
        generate --model "$demo/writer" --n 200
    chooses "^tp: 1 of 4 devices, for 8192 tokens at once: on 1 the weights take 2.2 MiB of 924.0 MiB" "${read[@]}"
    chooses "^tp: 1 of 4 devices, for 8192 tokens at once: on 1 the weights take 8.2 MiB of 924.0 MiB" "${score[@]}"
    export TDM_EMU_MEMORY=180000000
    chooses "^tp: 2 of 4 devices, for 200 texts at once: on 1 the weights .* leave room for 183; on 2 .* for 200$" "${write[@]}"
    export TDM_EMU_MEMORY=100000000 # of which what the ranks send each other takes 32 MB
    chooses "^tp: 3 of 4 devices, for 200 texts at once, which no number of them has room for: on 2 .* for 28; on 3 .* for 66$" \
        "${write[@]}"
    export TDM_EMU_MEMORY=85000000 # two would have less room than one
    chooses "^tp: 1 of 4 devices, for 200 texts .*, which no number .*: on 1 [^;]*$" "${write[@]}"
    export TDM_EMU_MEMORY=60000000 # too little for that, so for more than one
    chooses "^tp: 1 of 4 devices, for 200 texts .*, which no number .*: on 1 .* for 6; on 2: rank [01]: cuda:[01]: " "${write[@]}"
    export TDM_EMU_MEMORY=180000000
    TDM_EMU_BUSY=1 chooses "^tp: 1 of 4 devices, for 200 texts .*: on 1 .* for 183; on 2: .*cuda:1" "${write[@]}"
    TDM_EMU_CC=90,90,80,80 chooses "^tp: 2 of 4 devices" "${write[@]}"
    TDM_EMU_CC=90,80 chooses "^tp: 1 of 4 devices, for 200 texts .*; on 2: devices of different kinds" "${write[@]}"
    TDM_EMU_MEMORY=44000000 refuses 71 "--tp auto, of 4 devices: on 1 the weights take 4.1 MiB of 3.3 MiB and leave no room" \
        "${write[@]}" --tp auto
}

# zeros HEADS INNER: a folder of that name with a writer of one layer, all of whose weights are zeros
zeros() {
    local E=$((64 * $1)) F=$2 at=0 header= t shape size V P
    V=$(grep -o '"vocab_size": [0-9]*' "$demo/writer/config.json" | grep -o '[0-9]*')
    P=$(grep -o '"n_positions": [0-9]*' "$demo/writer/config.json" | grep -o '[0-9]*')
    mkdir zeros && cp "$demo"/writer/*.txt "$demo"/writer/vocab.json zeros
    sed "s/\"n_head\": 3/\"n_head\": $1/; s/\"n_embd\": 192/\"n_embd\": $E, \"n_inner\": $F/; s/\"n_layer\": [0-9]*/\"n_layer\": 1/" \
        "$demo/writer/config.json" | grep -v '"n_inner": null' > zeros/config.json
    for t in wte.weight:$V,$E wpe.weight:$P,$E {ln_f,h.0.ln_1,h.0.ln_2}.{weight,bias}:$E h.0.attn.c_attn.weight:$E,$((3 * E)) \
        h.0.attn.c_attn.bias:$((3 * E)) h.0.attn.c_proj.weight:$E,$E h.0.attn.c_proj.bias:$E h.0.mlp.c_fc.weight:$E,$F \
        h.0.mlp.c_fc.bias:$F h.0.mlp.c_proj.weight:$F,$E h.0.mlp.c_proj.bias:$E; do
        shape=${t#*:} size=$((2 * ${shape/,/*}))
        header+=",\"${t%:*}\":{\"dtype\":\"F16\",\"shape\":[$shape],\"data_offsets\":[$at,$((at + size))]}"
        at=$((at + size))
    done
    { printf '\0\020\0\0\0\0\0\0'; printf '%-4096s' "{${header#,}}"; } > zeros/model.safetensors
    truncate -s $((8 + 4096 + at)) zeros/model.safetensors
}

@test "auto: no more devices than have 64 columns of the feed-forward layer each" {
    zeros 4 128
    export TDM_EMU_MEMORY=170000000
    chooses "^tp: 2 of 4 devices, .* no number of them has room for: " generate --model zeros --n 2000 --batch 2000
    TDM_EMU_MEMORY=1000000000 refuses 2 "4 ranks, the model's feed-forward layer has 2 times 64 columns" \
        generate --model zeros --length 2 --tp 4
}

@test "auto where there is no device: the CPU" {
    export TDM_EMU_DEVICES=0
    run --separate-stderr "$TANDEM_EMU" generate --model "$demo/writer" --tp auto --length 2
    [ "$status" -eq 0 ]
    [[ $stderr == *"device: cpu (cuda: there is no CUDA device)"* ]] || { echo "$stderr"; false; }
    refuses 69 "--tp 2: cuda: there is no CUDA device" generate --model "$demo/writer" --tp 2 --length 2
    refuses 69 "there is no CUDA device" generate --model "$demo/writer" --tp auto --device cuda --length 2
}

@test "more ranks than heads or devices, devices of different kinds, busy or too small: one line" {
    local write=(generate --model "$demo/writer" --length 2)
    refuses 2 "--tp 4: the model has 3 heads" "${write[@]}" --tp 4
    refuses 2 "--device cuda:1 is one device" "${write[@]}" --tp 2 --device cuda:1
    TDM_EMU_DEVICES=2 refuses 69 "--tp 3: the machine has 2 CUDA devices" "${write[@]}" --tp 3
    TDM_EMU_CC=90,80 refuses 2 "sm_80" "${write[@]}" --tp 2
    TDM_EMU_BUSY=1 refuses 69 "cuda:1" "${write[@]}" --tp 2
    TDM_EMU_BUSY=1 refuses 69 "cuda:1" detect --model "$demo/reader" --tp 2 texts.jsonl
    TDM_EMU_MEMORY=60000000 refuses 71 "MiB are free" "${write[@]}" --tp 2
}

@test "a device that is lost ends the run: exit 75, one line, and nobody waits" {
    for at in 1 30 400; do
        TDM_EMU_LOST=$at@1 refuses 75 "rank 1: " generate --model "$demo/writer" --tp 2 --n 6 --batch 2 --length 20
    done
    TDM_EMU_LOST=8@0 refuses 75 "rank 0: " detect --model "$demo/reader" --tp 2 texts.jsonl
    TDM_EMU_LOST=20@1 refuses 75 "rank 1: " score --model "$demo/writer" --tp 2 texts.jsonl
    TDM_EMU_NCCL_FAIL=20 refuses 75 "NCCL" generate --model "$demo/writer" --tp 2 --n 6 --length 20
}
