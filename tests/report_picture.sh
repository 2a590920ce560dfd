#!/bin/sh
# Pictures of the report of tandem eval, to be looked at: light and dark, as wide as a desk and as narrow as a telephone.
# By hand. Needs a built tandem, awk and chromium (apt-get install chromium fonts-dejavu); xmllint where it is there.
#
#   sh tests/report_picture.sh build/tandem /tmp/report        made-up scores
#   sh tests/report_picture.sh build/tandem /tmp/report FILE.html...   pages that are there already
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
tandem=$1
folder=$2
shift 2
mkdir -p "$folder"

# SEED TEXTS SHIFT: scores of a detector, normal about SHIFT on the scale of logits, surer of long texts
scores() {
    awk -v seed="$1" -v n="$2" -v shift="$3" 'BEGIN {
        srand(seed)
        for (i = 0; i < n; i++) {
            tokens = 8 + int(rand() * 500)
            z = shift + 1.6 * sqrt(-2 * log(1 - rand())) * cos(6.2831853 * rand())
            z *= 0.3 + (tokens < 300 ? tokens : 300) / 300
            fake = 1 / (1 + exp(-z))
            printf "{\"id\": %d, \"fake\": %.9f, \"logit_real\": %.6f, \"noise\": %.6f, \"used_tokens\": %d}\n", \
                i, fake, -z / 2, rand(), tokens
        }
    }'
}

pages() {
    for row in small medium large; do
        mkdir -p "$folder/scores/$row"
        scores 1 400 -2 >"$folder/scores/$row/human.jsonl"
    done
    for column in small medium large; do
        scores 2 1000 1.5 >"$folder/scores/small/$column.jsonl"
        scores 3 1000 2 >"$folder/scores/medium/$column.jsonl"
    done
    scores 4 1000 0.6 >"$folder/scores/large/large.jsonl"
    scores 5 1000 2.6 >"$folder/scores/large/small.jsonl"
    "$tandem" eval --human "$folder/scores/large/human.jsonl" --machine "$folder/scores/large/large.jsonl" --field fake \
        --field logit_real --field noise --html "$folder/fields.html" >/dev/null
    "$tandem" eval --matrix "$folder/scores" --html "$folder/tables.html" --reference >/dev/null
}

# PAGE NAME WIDTH SCHEME
shoot() {
    blink=1
    [ "$4" = light ] || blink=0
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --blink-settings=preferredColorScheme=$blink \
        --window-size="$3,6000" --screenshot="$folder/$2-$3-$4.png" "file://$1" 2>/dev/null
    echo "$folder/$2-$3-$4.png"
}

if [ $# -eq 0 ]; then
    pages
    set -- "$folder/fields.html" "$folder/tables.html"
fi
for page; do
    page=$(realpath "$page")
    ! command -v xmllint >/dev/null || xmllint --noout "$page"
    for scheme in light dark; do
        for width in 1400 640; do
            shoot "$page" "$(basename "$page" .html)" $width $scheme
        done
    done
done
