"""The model cards, filled in from a run's figures."""

import math
import statistics
from importlib.metadata import version
from subprocess import run

DATA = """The King James text of the Bible as the Debian package `bible-kjv-text` {package} carries it. Its copyright has expired (the
translation is of 1611; see `/usr/share/doc/bible-kjv-text/copyright`). Only the text is used: no notes, no verse numbers.
A passage is a run of consecutive verses of one chapter, one verse a line. Passages were parted at random:

{parts}

The book repeats itself, so held-out text is not wholly new: of the runs of eight words in the test text, {repeats} occur in
the writer's training text too."""

RECIPE = """    apt install bible-kjv
    python tools/demo/make_models.py

Python packages: {packages}.
All seeds are constants of the script. Training multiplies in bf16 on a CPU; everything measured or sampled comes from the weights as they
are in the file, rounded to f16, in f32 arithmetic."""

WRITER = """---
license: mit
language: en
---
# The demo's writer

A GPT-2 of 1.8 million parameters (3 layers, width 192, 3 heads of 64, context 256, vocabulary 2,000) that writes passages in the manner
of the King James text. It exists so that tandem can be tried without the published weights. A passage starts from `<|endoftext|>` and
ends with it.

## Data and licence

{data}

The writer was trained on the part `writer`; its vocabulary was made from `writer` and `reader`.

## Recipe

{recipe}

This model: {epochs} epochs with AdamW, {minutes}.

## How well

| held-out text | loss, nats per token | perplexity per token |
|---|---|---|
| validation | {validation:.4f} | {validation_ppl:.2f} |
| test | {test:.4f} | {test_ppl:.2f} |

The `<|endoftext|>` that ends a passage counts as a token. On the test text the loss is {bits:.3f} bits per character.

{count} documents of each kind, people's passages cut at {context} tokens as the writer's are: length in tokens, how many did not end, and the
share of their runs of eight words that occur in the writer's training text.

{lengths}

The first test document of each sampling method:

{examples}

## Limits

It knows one book, in the English of 1611, and makes up names, events and doctrine. It strings phrases together well and does not follow
a thought for long. Some of what it writes is the book's own words: see the last column above.
"""

READER = """---
license: mit
language: en
---
# The demo's reader

A RoBERTa classifier of 1.1 million parameters (4 layers, width 128, 2 heads of 64, 254 tokens of text) that says whether a passage was
written by the demo's writer (label 0, Fake) or is from the King James text (label 1, Real). It exists so that tandem can be tried without
the published weights.

## Data and licence

{data}

Neither the writer nor the reader was trained on the part `test`, which is `human.jsonl` in the folder above. Machine text: samples of the
writer's f16 weights at temperature 1, with top-k 40, and with a nucleus whose p is uniform in [0.8, 1) for each document (the token that
crosses p is left out), {train:,} of each for training, {valid} for validation, {count} for the test. People's passages and the writer's are cut
alike, at {context} tokens of the writer, and read alike, as the released detector reads: stripped, the first 254 tokens.

## Recipe

{recipe}

This model: first the encoder is run as a decoder and learns to predict the next token of the `writer` and `reader` text ({pretrain_steps:,}
steps, {pretrain_minutes}); every token teaches, where masked tokens taught too slowly. Then {steps:,} steps on labelled text, every second
time a random window of at least 10 tokens ({minutes}); the state with the best validation accuracy is kept. People's text is that of
`writer` and `reader`, so the writer has seen some of it; the test has none of it.

## How well

{count} test documents of each sampling method against the {people} test passages of people. Balanced accuracy is the mean of the two
accuracies; chance is 50 %. Its standard error here is {error:.1f} points or less.

{rates}

Balanced accuracy when only the first tokens are read:

{by_length}

## Limits

Made for one writer, one book and passages of this length; on any other text its answer means nothing. Untruncated samples at temperature 1
are the hardest for a reader this small: see the table. It is a toy that shows how detection is measured, not a detector to use on people's
writing.
"""


OTHER_WRITER = """---
license: mit
language: en
---
# The demo's {name} writer

A GPT-2 of {parameters:.2f} million parameters ({shape}, context 256, vocabulary 2,000):
the demo's writer once more, with fewer weights. Its text, licence, recipe ({epochs} epochs; this one took {minutes}) and limits
are those of [the large writer](../writer/README.md), and so is its vocabulary: `merges.txt` says all of it, a tokenizer that wants
`vocab.json` finds it there.

| held-out text | loss, nats per token | perplexity per token |
|---|---|---|
| validation | {validation:.4f} | {validation_ppl:.2f} |
| test | {test:.4f} | {test_ppl:.2f} |

{count} documents of each kind, people's passages cut at {context} tokens as the writer's are: length in tokens, how many did not end, and the
share of their runs of eight words that occur in the writer's training text.

{lengths}

The first test document of the nucleus:

{nucleus}
"""

OTHER_READER = """---
license: mit
language: en
---
# The reader of the demo's {name} writer

The demo's reader once more, trained on what the {name} writer ([its card](../writer-{name}/README.md)) writes instead of the large one. Text,
licence, shape, recipe and limits are those of [the large writer's reader](../reader/README.md); both started from the same pretrained
encoder, and training took {minutes}. {train:,} samples of each method for training, {valid} for validation, {count} for the test.

{count} test documents of each sampling method of the {name} writer against the {people} test passages of people. Balanced accuracy is the mean
of the two accuracies; chance is 50 %. Its standard error here is {error:.1f} points or less.

{rates}

Balanced accuracy when only the first tokens are read:

{by_length}

How well each reader does on each writer is what `sh tools/demo.sh --full` measures.
"""


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows))


def percent(share):
    return f"{100 * share:.1f} %"


def minutes(seconds):
    return f"{seconds / 60:.0f} minutes of one core"


def lengths(kinds, by_heart):
    return table(["", "mean", "10 %", "median", "90 %", "not ended", "in training text"], (
        [name, f"{statistics.mean(r['length'] for r in records):.0f}",
         *(f"{statistics.quantiles([r['length'] for r in records], n=10)[i]:.0f}" for i in (0, 4, 8)),
         percent(sum(not r["ended"] for r in records) / len(records)), percent(by_heart[name])] for name, records in kinds.items()))


def example(method, record):
    name = f"{method}, p = {record['p']:.3f}" if "p" in record else method
    return f"{name}:\n\n" + "\n".join(f"> {line}  " for line in record["text"].strip().split("\n"))


def shape(layers, width, inner):
    heads = "1 head" if width == 64 else f"{width // 64} heads"
    return f"{layers} layer{'s' * (layers > 1)}, width {width}, {heads} of 64" + (f", feed-forward layer of {inner}" if inner else "")


def write(out, size, figures):
    """The two cards of a size ("" is the large one)."""
    package = run(["dpkg-query", "-W", "-f", "${Version}", "bible-kjv-text"], capture_output=True, text=True, check=True).stdout
    parts, samples, tests, losses, seconds, rates = (figures[k] for k in ("parts", "samples", "tests", "losses", "seconds", "rates"))
    shared = {
        "recipe": RECIPE.format(packages=", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "tokenizers", "safetensors"))),
        "data": DATA.format(package=package, repeats=percent(figures["by heart"]["people"]), parts=table(
            ["part", "passages", "words"], ([n, f"{len(t):,}", f"{sum(len(x.split()) for x in t):,}"] for n, t in parts.items()))),
        "context": figures["context"], "count": samples["test"], "name": size[1:],
    }
    examples = {name: example(name, records[0]) for name, records in tests.items() if name != "people"}
    (out / f"writer{size}" / "README.md").write_text((OTHER_WRITER if size else WRITER).format(
        **shared, **losses, **{f"{name}_ppl": math.exp(loss) for name, loss in losses.items()}, bits=figures["bits"],
        shape=shape(*figures["shape"]), parameters=figures["parameters"] / 1e6,
        epochs=figures["epochs"], minutes=minutes(seconds["writer"]), lengths=lengths(tests, figures["by heart"]),
        examples="\n\n".join(examples.values()), nucleus=examples["nucleus"]))
    longest, people = rates[max(rates)], len(parts["test"])
    worst = min(r["balanced"] for r in longest.values())
    (out / f"reader{size}" / "README.md").write_text((OTHER_READER if size else READER).format(
        **shared, train=samples["reader"], valid=samples["validation"], people=people,
        pretrain_steps=figures["pretrain steps"], pretrain_minutes=minutes(seconds["pretraining"]),
        steps=figures["reader steps"], minutes=minutes(seconds["reader"]), error=100 * math.sqrt(worst * (1 - worst) / people / 2),
        rates=table(["sampling", "accuracy on fake", "accuracy on real", "balanced accuracy", "AUROC"], (
            [method, percent(r["fake"]), percent(r["real"]), percent(r["balanced"]), f"{r['auroc']:.3f}"] for method, r in longest.items())),
        by_length=table(["tokens read", *longest], (
            [n if n < max(rates) else "all", *(percent(r["balanced"]) for r in by.values())] for n, by in rates.items()))))
