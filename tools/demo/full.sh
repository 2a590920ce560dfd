# shellcheck shell=sh disable=SC2154 # tandem, models and show are from demo.sh
# Sourced by demo.sh --full: the questions of GPT-2's release, in miniature.
#
# Three writers write with three sampling methods; the reader of each writer judges all of it (tandem detect),
# and each writer, as a scorer, says how probable it finds all of it (tandem score); tandem eval makes tables of
# that and sets the published ones beside them. Results stay in build/demo/full/:
#
#   texts/WRITER.METHOD.jsonl      corpora
#   measured/MODEL/TEXTS.jsonl     what a reader or scorer says of them, and of human text
#   tables/TABLE/ROW/COLUMN.jsonl  the same files, as tandem eval --matrix reads them
#   *.html                         each table as a page, the published one too
out=build/demo/full
documents=1000
methods="temperature-1 top-k-40 nucleus"
sizes="0.2M 0.5M 1.8M" # weights of a writer; its reader is called the same
large=1.8M
measures="logprob mean_logprob mean_rank mean_logrank entropy lrr fast_detect fast_detect_observer binoculars fake"

folder() { # KIND SIZE: of a model
    case $2 in 0.2M) size_name=-small ;; 0.5M) size_name=-medium ;; *) size_name= ;; esac
    echo "$models/$1$size_name"
}

heading() {
    printf '\n== %s\n' "$1"
    shift
    printf '%s\n' "$@"
}

write_all() {
    seed=0
    mkdir -p $out/texts
    for size in $sizes; do
        for method in $methods; do
            case $method in top-k-40) options="--top-k 40" ;; nucleus) options="--top-p 0.8:1" ;; *) options= ;; esac
            seed=$((seed + 1))
            # shellcheck disable=SC2086 # a list of words
            $tandem generate --model "$(folder writer "$size")" --n $documents --seed $seed $options --quiet \
                --out $out/texts/"$size.$method".jsonl
            printf '%s, %s:\n' "$size" "$method"
            show $out/texts/"$size.$method".jsonl | head -n 2
        done
    done
    cp "$models"/human.jsonl $out/texts/human.jsonl
}

measure() { # NAME COMMAND...: what a reader or scorer says of all texts
    results=$out/measured/$1
    shift
    mkdir -p "$results"
    for texts in "$out"/texts/*.jsonl; do
        "$@" --quiet --out "$results/${texts##*/}" "$texts"
    done
}

cell() { # TABLE NAME COLUMN TEXTS: what NAME says of TEXTS, and of human text, is a cell of TABLE
    mkdir -p $out/tables/"$1/$2"
    ln $out/measured/"$2/$4".jsonl $out/tables/"$1/$2/$3".jsonl
    ln $out/measured/"$2"/human.jsonl $out/tables/"$1/$2/$3".human.jsonl
}

make_tables() {
    for row in $sizes; do
        for column in $sizes; do
            cell transfer reader-"$row" "$column" "$column.nucleus"
            cell zero-shot-t1 scorer-"$row" "$column" "$column.temperature-1"
            cell zero-shot-k40 scorer-"$row" "$column" "$column.top-k-40"
        done
        for column in $methods; do
            cell sampling reader-"$row" "$column" "$row.$column"
            cell sampling-$large reader-"$row" "$column" "$large.$column"
        done
    done
}

# One row for each measure of one scorer, and its reader: a table is of one field, so each gets the same name.
make_measures() {
    for row in $measures; do
        mkdir -p $out/tables/measures/"$row"
        case $row in fake) name=reader-$large ;; *) name=both ;; esac
        for texts in human $methods; do
            case $texts in human) from=human ;; *) from=$large.$texts ;; esac
            sed 's/^{"id": \([0-9]*\),.* "'"$row"'": \([^,}]*\).*/{"id": \1, "measure": \2}/' \
                $out/measured/$name/"$from".jsonl >$out/tables/measures/"$row/$texts".jsonl
        done
    done
}

table() { # PAGE TABLE OPTIONS...: print it, and make a page of it
    page=$out/$1.html
    cells=$out/tables/$2
    shift 2
    echo
    # 3: some texts have no value; the table counts them
    $tandem eval --matrix "$cells" --html "$page" --quiet "$@" || [ $? = 3 ]
}

rm -rf $out
mkdir -p $out

heading "$documents documents of 3 writers with 3 sampling methods (tandem generate); how each begins"
write_all
echo "human:"
show "$models"/human.jsonl | head -n 2

heading "3 readers judge them all, and 400 human passages (tandem detect); 3 scorers measure them (tandem score)"
for size in $sizes; do
    measure reader-"$size" "$tandem" detect --model "$(folder reader "$size")"
    measure scorer-"$size" "$tandem" score --model "$(folder writer "$size")"
done
measure both "$tandem" score --model "$(folder writer $large)" --observer "$(folder writer 0.5M)"
make_tables
make_measures

heading "Transfer: which reader finds which writer. Nucleus samples; tandem detect" \
    "row: a reader, after the writer that it was trained on; column: the writer of the texts"
table transfer transfer --metric balanced --reference transfer

heading "Sampling: which method hides a machine. Each writer before its own reader; tandem detect" \
    "row: the reader of a writer, and what that writes. Published: classifiers of words, one for each cell"
table sampling sampling --metric balanced --reference tfidf

heading "Sampling: the same for the largest writer, $large, before each reader" \
    "row: a reader, trained on a mix of the three methods. Published: readers of one method each"
table sampling-$large sampling-$large --metric balanced --reference transfer-sampling

for zero_shot in t1 k40; do
    case $zero_shot in t1) method="temperature 1" ;; *) method="top-k 40" ;; esac
    heading "Zero-shot, $method: a threshold on the log-probability of a text; tandem score" \
        "row: the scorer; column: the writer of the texts; the direction is fitted too. Published: the other way round"
    table zero-shot-$zero_shot-total zero-shot-$zero_shot --field logprob --metric best --orientation fit
    table zero-shot-$zero_shot zero-shot-$zero_shot --field mean_logprob --metric best --orientation fit \
        --reference zero-shot-$zero_shot
done

heading "Zero-shot: every measure of one scorer, $large, on what it wrote itself; fake: its reader's" \
    "column: sampling method; the direction is fitted; the observer is 0.5M" \
    "lrr is 0 / 0 where every token was the likeliest; such a text is left out"
table measures measures --field measure --metric auroc --orientation fit --max-errors 1%
cat <<EOF

== What carries over from toys, and what does not

Pages: $out/*.html

As published:
- The reader of the smallest writer does worse the larger the writer of the texts is; that of the largest
  does about equally well on all, and no other reader's worst cell is as good. On average it is not the best,
  neither here nor there.
- A larger writer is harder to find for the reader trained on it, and temperature 1 hides better than top-k
  40.
- At temperature 1 a threshold finds a small writer the better, the larger the scorer is. At top-k 40 a
  writer is, nearly always, its own best scorer, and a somewhat larger one does much worse.

Not as published:
- The level of every figure. The readers have 1.1 million weights and learnt from 6,000 machine texts and
  one book in the English of 1611; the published ones have 100 to 300 times as many weights and learnt from
  far more text.
- The release calls nucleus samples the hardest for its readers. Here those at temperature 1 are, by far.
- The published readers did better than the published thresholds. Here the writer itself, as a scorer, beats
  its reader: see fast_detect and fake in the last table. The reader is too small to learn all that the
  writer knows.
- At temperature 1 all published scorers found machine text less likely than human text. Here that holds
  where the scorer is larger than the writer; otherwise the writer's text is the more likely one. At top-k
  40 the published direction holds but for the largest scorer on the smallest writer.
- The published thresholds are on the total log-probability. Here that says mostly how long a text is, ten
  tokens or 256, and the mean does far better: see the two tables of each kind.

What the intervals do not cover: one writer and one reader of each size were trained, once. They say how
much other texts would move a figure, not how much another training run would. The same 400 human passages
stand in all cells.
EOF
