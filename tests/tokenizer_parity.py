#!/usr/bin/env python3
"""Compare the tokenizer with HF tokenizers, the reference, for GPT-2 and RoBERTa.

  python3 tests/tokenizer_parity.py --lib build/libtandem.a --model gpt2=../shared/data/gpt2 \
      --model roberta=../shared/data/roberta --texts /tmp/texts --golden tests/golden

Random strings (every plane, all white space, apostrophes, digits, marks, emoji, words, special
tokens) and the files of a folder, each as plain text and with special tokens parsed, and decoded
again. A folder holds merges.txt or vocab.bpe, and for RoBERTa vocab.json. --golden writes the
reference's ids of 200 strings to tokenizer_NAME.txt, which tests/test_tokenizer_golden.c replays.
Needs tokenizers, transformers, gcc. Exit code 1 when anything differs.
"""
import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

from tokenizers import AddedToken, Tokenizer
from transformers import GPT2TokenizerFast, RobertaTokenizerFast

PARSE = 1  # TDM_BPE_PARSE_SPECIAL
BATCH = 2000
CUT = 65536  # bytes of a text that are compared at once, up to the next line feed

SPACES = [chr(c) for c in (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
                           0x2029, 0x202F, 0x205F, 0x3000)]
NEARLY_SPACES = [chr(c) for c in (0, 0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060,
                                  0xFEFF)]
SUFFIXES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'l", "'v", "'", "''", "\u2019s"]
SPECIALS = ["<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", " <mask>", "<|endoftext",
            "<mask", "<", "<<s>", "madeupword0001"]
WORDS = "the of and Hello world isn t HTTPServer naïve Zürich Straße привет мир 日本語 中文 한국어 " \
        "नमस्ते สวัสดี שלום مرحبا ελληνικά tokenizer antidisestablishmentarianism e\u0301 ﬁ ⅷ ½ ²".split()
EMOJI = ["🙂", "👍🏽", "🇮🇳", "👨‍👩‍👧", "❤️", "🏴\U000e0067\U000e0062\U000e007f"]


class Ids(ctypes.Structure):
    _fields_ = [("p", ctypes.POINTER(ctypes.c_int32)), ("len", ctypes.c_size_t),
                ("cap", ctypes.c_size_t)]


class Buf(ctypes.Structure):
    _fields_ = [("p", ctypes.POINTER(ctypes.c_char)), ("len", ctypes.c_size_t),
                ("cap", ctypes.c_size_t)]


class Err(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("msg", ctypes.c_char * 512)]


class Ours:
    """The C library, through ctypes."""

    def __init__(self, lib, folder):
        self.lib, self.err, self.ids, self.buf = lib, Err(), Ids(), Buf()
        self.bpe = ctypes.c_void_p()
        self.check(lib.tdm_bpe_open_dir(folder.encode(), ctypes.byref(self.bpe),
                                        ctypes.byref(self.err)))

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.err.msg.decode())

    def encode(self, data, flags):
        self.ids.len = 0
        self.check(self.lib.tdm_bpe_encode(self.bpe, data, ctypes.c_size_t(len(data)), flags,
                                           ctypes.byref(self.ids), ctypes.byref(self.err)))
        return self.ids.p[:self.ids.len]

    def decode_last(self):
        self.buf.len = 0
        self.check(self.lib.tdm_bpe_decode(self.bpe, self.ids.p, ctypes.c_size_t(self.ids.len),
                                           ctypes.byref(self.buf), ctypes.byref(self.err)))
        return self.buf.p[:self.buf.len]


def load_library(archive):
    """Link the static library to a shared one that ctypes can open."""
    path = os.path.join(tempfile.mkdtemp(prefix="tandem-"), "libtandem.so")
    subprocess.run(["gcc", "-shared", "-o", path, "-Wl,--whole-archive", archive,
                    "-Wl,--no-whole-archive", "-lutf8proc", "-lcjson", "-lm", "-lpthread", "-lz",
                    "-lzstd", "-lcrypto", "-lxxhash"], check=True)
    return ctypes.CDLL(path)


def random_character(rng):
    kind = rng.random()
    if kind < 0.3:
        return chr(rng.randrange(0x20, 0x7F))
    if kind < 0.4:
        return chr(rng.randrange(0, 0x3000))
    plane = rng.choice((0, 0, 0, 1, 1, 2, 3, 14, rng.randrange(17)))
    c = plane << 16 | rng.randrange(0x10000)
    return chr(c) if not 0xD800 <= c < 0xE000 else "\uFFFD"


def make_tables():
    classes = {"M": [], "N": [], "L": []}
    for c in range(0x32000):
        kind = unicodedata.category(chr(c))[0]
        if kind in classes:
            classes[kind].append(chr(c))
    return classes


def random_string(rng, classes):
    makers = (
        lambda: random_character(rng),
        lambda: rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 3, 9)),
        lambda: " " * rng.choice((1, 1, 2, 5)),
        lambda: rng.choice(NEARLY_SPACES),
        lambda: rng.choice(SUFFIXES),
        lambda: rng.choice(WORDS),
        lambda: rng.choice(EMOJI),
        lambda: rng.choice(SPECIALS),
        lambda: rng.choice(classes["M"]),
        lambda: rng.choice(classes["N"]),
        lambda: rng.choice(classes["L"]) * rng.choice((1, 1, 7)),
        lambda: str(rng.randrange(10 ** rng.randrange(1, 8))),
        lambda: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(1, 14))),
        lambda: rng.choice("!?.,;:-_=+*/\\\"()[]{}<>|~^%$#@&") * rng.randrange(1, 5),
        lambda: rng.choice("ab \n\u00e9\u65e5") * rng.randrange(1, 80),
    )
    chosen = rng.sample(makers, rng.randrange(1, 5))
    return "".join(rng.choice(chosen)() for _ in range(rng.randrange(0, 24)))


def batches_of_strings(n, seed):
    rng, classes = random.Random(seed), make_tables()
    for start in range(0, n, BATCH):
        yield [random_string(rng, classes) for _ in range(min(BATCH, n - start))]


def batches_of_texts(folder):
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            with open(os.path.join(root, name), "rb") as f:
                data = f.read()
            batch, at = [], 0
            while at < len(data):
                feed = data.find(b"\n", min(at + CUT, len(data)))
                end = feed + 1 if feed >= 0 else len(data)
                try:
                    batch.append(data[at:end].decode())
                except UnicodeDecodeError:
                    pass  # the reference takes valid text only
                at = end
                if len(batch) == 100:
                    yield batch
                    batch = []
            yield batch


def show(text):
    return ascii(text if len(text) <= 200 else text[:200] + "...")


def compare(name, ours, theirs, plain, batch, counts):
    for flags, reference in ((0, plain), (PARSE, theirs)):
        for text, encoding in zip(batch, reference.encode_batch(batch, add_special_tokens=False)):
            data = text.encode()
            ids = ours.encode(data, flags)
            counts["bytes"] += len(data)
            counts["tokens"] += len(ids)
            if ids != encoding.ids:
                counts["wrong"] += 1
                if counts["wrong"] <= 20:
                    print(f"{name} flags {flags}: {show(text)}\n  ours   {ids[:60]}\n"
                          f"  theirs {encoding.ids[:60]}")
            # <mask> swallows white space, so parsed text does not always come back.
            if flags == 0 and ours.decode_last() != data:
                counts["undecoded"] += 1
                print(f"{name}: does not decode: {show(text)}")


def symbols():
    """The characters that files write bytes as, in GPT-2's order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(c) for c in (*printable, *range(0x100, 0x100 + 256 - len(printable)))]


def first_of(folder, *names):
    paths = [os.path.join(folder, name) for name in names]
    return next((path for path in paths if os.path.exists(path)), None)


def open_reference(folder):
    """HF's tokenizer, and the same one with special tokens as plain text."""
    merges = first_of(folder, "merges.txt", "vocab.bpe")
    vocab = first_of(folder, "vocab.json", "encoder.json")
    if vocab:
        with open(vocab, encoding="utf-8") as f:
            ids = json.load(f)
    else:
        with open(merges, encoding="utf-8") as f:
            lines = [line.rstrip("\n") for line in f]
        merged = [line.replace(" ", "") for line in lines[lines[0].startswith("#version"):]]
        ids = {token: i for i, token in enumerate([*symbols(), *merged, "<|endoftext|>"])}
        vocab = os.path.join(tempfile.mkdtemp(prefix="tandem-"), "vocab.json")
        with open(vocab, "w", encoding="utf-8") as f:
            json.dump(ids, f)
    if "<s>" in ids:
        # The published roberta-base says lstrip; transformers 5 no longer adds it by itself.
        mask = AddedToken("<mask>", lstrip=True, special=True)
        fast = RobertaTokenizerFast(vocab=vocab, merges=merges, mask_token=mask).backend_tokenizer
    else:
        fast = GPT2TokenizerFast(vocab=vocab, merges=merges).backend_tokenizer
    plain = Tokenizer(fast.model)
    plain.pre_tokenizer = fast.pre_tokenizer
    return fast, plain


def write_golden(path, theirs, plain):
    """Text in hexadecimal, ids of plain text, ids with special tokens parsed."""
    rng, classes = random.Random(20), make_tables()
    texts = ["", "In the beginning God created the heaven and the earth.",
             "Hello world, it's 1,000 times! We'll see; they'RE not.\n\n  Indeed.\t\r\n",
             "a <mask> b</s><s><|endoftext|>", " ".join(WORDS), "".join(EMOJI), "".join(SPACES)]
    while len(texts) < 200:
        text = random_string(rng, classes)
        if len(text) <= 40:
            texts.append(text)
    with open(path, "w", encoding="ascii") as f:
        for text in texts:
            rows = (" ".join(map(str, t.encode(text, add_special_tokens=False).ids))
                    for t in (plain, theirs))
            print(text.encode().hex(), *rows, sep="\t", file=f)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", default="build/libtandem.a")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--strings", type=int, default=1000000)
    parser.add_argument("--texts", help="folder of UTF-8 files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--golden", metavar="FOLDER")
    options = parser.parse_args()
    if options.texts and not os.path.isdir(options.texts):
        parser.error(f"{options.texts} is no folder")

    lib = load_library(options.lib)
    wrong = 0
    for name, folder in (model.split("=", 1) for model in options.model):
        ours = Ours(lib, folder)
        theirs, plain = open_reference(folder)
        if options.golden:
            write_golden(os.path.join(options.golden, f"tokenizer_{name}.txt"), theirs, plain)
        sources = {}
        if options.strings:
            sources[f"{options.strings} strings, seed {options.seed}"] = (
                batches_of_strings(options.strings, options.seed))
        if options.texts:
            sources[options.texts] = batches_of_texts(options.texts)
        for source, batches in sources.items():
            counts = {"bytes": 0, "tokens": 0, "wrong": 0, "undecoded": 0}
            start = time.time()
            for batch in batches:
                compare(name, ours, theirs, plain, batch, counts)
            print(f"{name}, {source}: {counts['wrong']} mismatches, {counts['undecoded']} not "
                  f"decoded; {counts['bytes'] / 2e6:.1f} MB, twice (plain and parsed); "
                  f"{counts['tokens']} tokens, {time.time() - start:.0f} s", flush=True)
            wrong += counts["wrong"] + counts["undecoded"]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
