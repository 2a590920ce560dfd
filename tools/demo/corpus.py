"""The King James text as passages, and the byte-level BPE trained on it."""

import json
import random
import re
import subprocess
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
CONTEXT = 256  # positions of the writer
VOCABULARY = 2000  # 256 bytes, 1743 merges, <|endoftext|>
SPLITS = {"test": 400, "validation": 250, "reader": 1600}  # passages; all the rest trains the writer


def verses(text_file):
    """(chapter, verse) pairs in order, from a file or, without one, from the program `bible`; lines are like 'Ge1:1 In the ...'."""
    if text_file:
        lines = Path(text_file).read_text("ascii").splitlines()
    else:
        lines = subprocess.run(["bible", "-f", "ge1:1-rev22:21"], check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        chapter, verse = re.fullmatch(r"(\w+\d+):\d+ (.+)", line).groups()
        yield chapter, verse.strip()


def passages(pairs, rng):
    """Runs of consecutive verses of one chapter, one verse a line, of 36 words to somewhat over 160; a short rest joins the run before it."""
    chapters = {}
    for chapter, verse in pairs:
        chapters.setdefault(chapter, []).append(verse)
    for lines in chapters.values():
        runs, words, target = [[]], 0, rng.randint(36, 160)
        for line in lines:
            if words >= target:
                runs.append([])
                words, target = 0, rng.randint(36, 160)
            runs[-1].append(line)
            words += len(line.split())
        if words < 36 and len(runs) > 1:
            rest = runs.pop()
            runs[-1] += rest
        for run in runs:
            yield "\n".join(run)


def split(text_file, seed):
    """{split: [passage]}: a random partition; a passage that occurs twice is kept once."""
    rng = random.Random(seed)
    texts = list(dict.fromkeys(passages(verses(text_file), rng)))
    rng.shuffle(texts)
    parts = {}
    for name, size in SPLITS.items():
        parts[name], texts = texts[:size], texts[size:]
    parts["writer"] = texts
    return parts


def shared(texts, others, words=8):
    """The share of the runs of `words` words of `texts` that occur in `others` too."""
    def runs(text):
        split = text.split()
        return [" ".join(split[i:i + words]) for i in range(len(split) - words + 1)]
    known = {r for text in others for r in runs(text)}
    found = [r in known for text in texts for r in runs(text)]
    return sum(found) / len(found)


def byte_symbols():
    """The 256 byte symbols in id order (not in byte order)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def bpe(vocabulary, merges):
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's regular expression
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_bpe(texts):
    """GPT-2's layout: the bytes, then one id a merge, then <|endoftext|>. Returns (vocabulary, merges)."""
    tokenizer = bpe({}, [])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    strings = byte_symbols() + [a + b for a, b in merges] + [END]
    vocabulary = {s: i for i, s in enumerate(strings)}
    assert len(vocabulary) == len(strings) == VOCABULARY
    return vocabulary, merges


def reader_vocabulary(vocabulary, merges, texts):
    """RoBERTa's layout: specials, the same tokens by falling frequency, <|endoftext|>, <mask>."""
    counts = Counter(t for e in bpe(vocabulary, merges).encode_batch(texts) for t in e.tokens)
    ordinary = sorted((t for t in vocabulary if t != END), key=lambda t: (-counts[t], vocabulary[t]))
    return {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *ordinary, END, "<mask>"])}


def save_bpe(folder, vocabulary, merges, ascii_only):
    """vocab.json and merges.txt; without a vocabulary only the latter, which gives GPT-2's layout of ids by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    if vocabulary:
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=ascii_only), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")


def load_bpe(folder):
    lines = (folder / "merges.txt").read_text("utf-8").split("\n")[1:-1]
    return bpe(json.loads((folder / "vocab.json").read_text("utf-8")), [tuple(line.split(" ")) for line in lines])
