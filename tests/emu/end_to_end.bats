#!/usr/bin/env bats
# generate, detect and score on the demo models through the emulated device, beside the CPU backend.
#   TANDEM      the program with the CPU backend alone
#   TANDEM_EMU  the same sources with the CUDA backend on the emulated device

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    models=$TDM_SOURCE_DIR/tools/demo
    # 64 prompts of 1 to 13 words
    sed 's/^{"id": \([^,]*\),.*"text": "\([^"\\]*\).*/\1\t\2/' "$models/human.jsonl" | head -n 64 |
        awk -F '\t' '{ n = split($2, w, " "); t = w[1]; for (i = 2; i <= n && i <= 1 + NR % 13; i++) t = t " " w[i]
                       printf "{\"id\": %s, \"text\": \"%s\"}\n", $1, t }' > prompts.jsonl
}

generate_emu() { # DTYPE BATCH OUT OPTIONS...
    local dtype=$1 batch=$2 out=$3
    shift 3
    "$TANDEM_EMU" generate --model "$models/writer" --device cuda --dtype "$dtype" --batch "$batch" \
        --quiet --out "$out" "$@"
}

generate_cpu() { # OUT OPTIONS...
    local out=$1
    shift
    "$TANDEM" generate --model "$models/writer" --device cpu --quiet --out "$out" "$@"
}

different_lines() { # FILE FILE
    diff "$1" "$2" | grep -c '^<' || true
}

@test "greedy text in f32 is the CPU's, at batch 1, 5 and 32" {
    generate_cpu cpu.jsonl --prompts prompts.jsonl --temperature 0 --length 16
    [ "$(wc -l < cpu.jsonl)" -eq 64 ]
    for batch in 1 5 32; do
        generate_emu f32 $batch $batch.jsonl --prompts prompts.jsonl --temperature 0 --length 16
        cmp cpu.jsonl $batch.jsonl
    done
}

@test "greedy text in f16 is the same at batch 1, 5 and 32, and nearly always the CPU's" {
    generate_cpu cpu.jsonl --prompts prompts.jsonl --temperature 0 --length 16
    generate_emu f16 32 32.jsonl --prompts prompts.jsonl --temperature 0 --length 16
    for batch in 1 5; do
        generate_emu f16 $batch $batch.jsonl --prompts prompts.jsonl --temperature 0 --length 16
        cmp 32.jsonl $batch.jsonl
    done
    local other
    other=$(different_lines cpu.jsonl 32.jsonl)
    echo "# f16: $other of 64 documents differ from the CPU's f32" >&3
    [ "$other" -le 6 ]
}

@test "sampled text in f16 does not depend on batch, graphs, slots or the order of events" {
    generate_emu f16 64 64.jsonl --n 24 --length 10 --seed 5 --top-k 40
    for batch in 1 7; do
        TDM_EMU_SEED=$batch generate_emu f16 $batch $batch.jsonl --n 24 --length 10 --seed 5 --top-k 40
        cmp 64.jsonl $batch.jsonl
    done
    generate_emu f16 7 nucleus-7.jsonl --n 12 --length 8 --seed 5 --top-p 0.5:1
    generate_emu f16 12 nucleus-12.jsonl --n 12 --length 8 --seed 5 --top-p 0.5:1
    cmp nucleus-7.jsonl nucleus-12.jsonl
}

@test "samples of one prompt share its pages and are the same as without sharing" {
    # 100 tokens and more: one full page is shared, the next one copied
    sed -n 's/^{"id": [^,]*,.*"text": "\([^"\\]*\).*/\1/p' "$models/human.jsonl" | head -n 40 | tr '\n' ' ' |
        cut -c 1-500 | sed 's/.*/{"id": 1, "text": "&"}/' > long.jsonl
    generate_emu f16 5 together.jsonl --prompts long.jsonl --samples-per-prompt 5 --length 8
    generate_emu f16 1 alone.jsonl --prompts long.jsonl --samples-per-prompt 5 --length 8
    [ "$(wc -l < together.jsonl)" -eq 5 ]
    cmp together.jsonl alone.jsonl
}

@test "detector probabilities in f16 and bf16 are the CPU's within the type's rounding" {
    head -n 48 "$models/human.jsonl" > texts.jsonl
    "$TANDEM" detect --model "$models/reader" --device cpu --quiet --out cpu.jsonl texts.jsonl
    for dtype in f32:1e-5 f16:1e-3 bf16:1e-2; do
        "$TANDEM_EMU" detect --model "$models/reader" --device cuda --dtype ${dtype%:*} --quiet \
            --out ${dtype%:*}.jsonl texts.jsonl
        paste cpu.jsonl ${dtype%:*}.jsonl |
            sed 's/[^\t]*"fake": \([0-9.e+-]*\)[^\t]*/\1/g' |
            awk -v type=${dtype%:*} -v most=${dtype#*:} '
                { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
                END { printf "# %s: largest difference of p(fake) %.2g of %g, %d texts\n", type, worst, most, n
                      exit !(n == 48 && worst <= most) }' >&3
    done
}

# Texts of 1 to some hundred words; the last does not fit the context.
texts_to_score() {
    sed -n 's/^{"id": \([^,]*\),.*"text": "\([^"\\]*\).*/\1\t\2/p' "$models/human.jsonl" | head -n 13 |
        awk -F '\t' '{ n = split($2, w, " "); t = w[1]; for (i = 2; i <= n && i <= NR * NR; i++) t = t " " w[i]
                       all = all " " t; printf "{\"id\": %s, \"text\": \"%s\"}\n", $1, t }
                     END { printf "{\"id\": \"all\", \"text\": \"%s\"}\n", all }'
}

score() { # PROGRAM OUT OPTIONS...
    local program=$1 out=$2
    shift 2
    "$program" score --model "$models/writer" --observer "$models/writer-small" --stride 100 --quiet --out "$out" \
        "$@" texts.jsonl
}

measures() { # FILE
    sed 's/.*"mean_logprob": \([^,]*\), .*"entropy": \([^,]*\), .*"fast_detect": \([^,]*\), .*"binoculars": \([^,]*\), "binoculars_paper": \([^,]*\), "fast_detect_observer": \([^,}]*\)}/\1 \2 \3 \4 \5 \6/' "$1"
}

@test "scores in f32, f16 and bf16 are the CPU's within the type's rounding" {
    texts_to_score > texts.jsonl
    score "$TANDEM" cpu.jsonl --device cpu
    [ "$(grep -c '"windows": 1' cpu.jsonl)" -eq 13 ] && [ "$(wc -l < cpu.jsonl)" -eq 14 ]
    for dtype in f32:1e-5 f16:2e-3 bf16:2e-2; do
        score "$TANDEM_EMU" ${dtype%:*}.jsonl --device cuda --dtype ${dtype%:*}
        paste <(measures cpu.jsonl) <(measures ${dtype%:*}.jsonl) | awk -v type=${dtype%:*} -v most=${dtype#*:} '
            NF == 12 { for (i = 1; i <= 6; i++) { d = ($i - $(i + 6)) / (1 + ($i < 0 ? -$i : $i)); if (d < 0) d = -d
                                                  if (d > worst) worst = d; n++ } }
            END { printf "# %s: largest difference of a measure %.2g of %g, %d values\n", type, worst, most, n
                  exit !(n == 84 && worst <= most) }' >&3
    done
}

@test "scores in f16 do not depend on the batch, on what else is asked or on the order of events" {
    texts_to_score > texts.jsonl
    score "$TANDEM_EMU" whole.jsonl --device cuda --dtype f16
    TDM_EMU_SEED=5 score "$TANDEM_EMU" small.jsonl --device cuda --dtype f16 --batch 1
    cmp whole.jsonl small.jsonl
    score "$TANDEM_EMU" likeliest.jsonl --device cuda --dtype f16 --batch 2 --gltr 3
    sed 's/"request": .*\]\]\]}, "tokens"/"tokens"/' likeliest.jsonl | cmp whole.jsonl
}
