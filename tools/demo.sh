#!/bin/sh
# sh tools/demo.sh [--full] [--no-install]: tandem from a bare Debian 12 machine to a judged corpus.
#
# Builds tandem in build/ (with CUDA where there is a GPU), lets the small writer of tools/demo/ write
# a corpus with three sampling methods, lets the small reader judge it beside human text that neither
# has seen, and prints how often the reader was right. Missing Debian packages are installed first
# (root or sudo) unless --no-install is given. Results stay in build/demo/.
#
# With --full instead the experiment of GPT-2's release in miniature: three writers, their readers, three
# sampling methods; which reader finds which writer, which sampling hides best, what log-probabilities alone
# say, beside the published tables. Minutes on two cores; see tools/demo/full.sh.

full=no
for argument in "$@"; do
    shift
    case $argument in
    --full) full=yes ;;
    *) set -- "$@" "$argument" ;;
    esac
done
. "$(dirname "$0")/setup.sh"

cuda=OFF
compiler=
if [ -e /dev/nvidia0 ] || command -v nvidia-smi >/dev/null; then
    cuda=AUTO
    compiler=g++
fi
# shellcheck disable=SC2086 # a list of words
tdm_install $BUILD_PACKAGES $compiler
[ -f build/build.ninja ] || cmake --preset release -DBUILD_TESTING=OFF -DTDM_CUDA=$cuda
cmake --build build --target tandem

tandem=build/tandem
models=tools/demo
out=build/demo
documents=400
mkdir -p $out

field() { # NAME: the number behind "NAME": in each line
    sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p"
}

show() { # FILE: the first text of a file, readable
    head -n 1 "$1" | sed 's/.*"text": "//; s/"\(, "p": [0-9.]*\)\{0,1\}}$//; s/\\"/"/g; s/\\n/\
/g' | fold -s -w 92 | sed 's/^/    /'
}

write() { # NAME OPTIONS...: write a corpus and show the beginning of it
    name=$1
    shift
    printf '\n== %s: tandem generate --n %s %s\n' "$name" "$documents" "$*"
    $tandem generate --model $models/writer --n $documents --seed 1 --restart --out $out/"$name".jsonl "$@"
    show $out/"$name".jsonl
}

judge() { # NAME FILE: add p(fake) to each record
    $tandem detect --model $models/reader --quiet --restart --out $out/"$1".detect.jsonl "$2"
}

if [ $full = yes ]; then
    . tools/demo/full.sh
    exit
fi

write temperature-1
write top-k-40 --top-k 40
write nucleus --top-p 0.8:1

printf '\n== human text that neither model has seen: %s/human.jsonl\n' $models
show $models/human.jsonl

printf '\n== tandem detect on all four\n'
judge human $models/human.jsonl
real=$(field fake <$out/human.detect.jsonl | awk '$1 < 0.5 { n++ } END { printf "%.6f", n / NR }')
printf '%-15s %9s %12s %15s %10s\n' text documents 'judged fake' 'mean p(fake)' accuracy
for name in human temperature-1 top-k-40 nucleus; do
    [ $name = human ] || judge $name $out/$name.jsonl
    field fake <$out/$name.detect.jsonl | awk -v name=$name -v real="$real" '
        { sum += $1; fake += $1 >= 0.5 }
        END {
            printf "%-15s %9d %11.1f%% %15.3f", name, NR, 100 * fake / NR, sum / NR
            if (name != "human") printf " %9.1f%%", 50 * (fake / NR + real)
            printf "\n"
        }'
done
cat <<EOF

accuracy: half the share of machine texts judged fake plus half the share of human texts judged
real (1 - judged fake of the first row). The models are toys: they show that everything works and in
which direction sampling moves the difficulty, not what the published models reach.
EOF
