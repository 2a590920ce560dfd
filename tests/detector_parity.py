"""Compare tandem detect with transformers in f32: token ids, counts and probabilities.

    python3 tests/detector_parity.py --tandem build/tandem --vocab DIR              # small random model
    python3 tests/detector_parity.py --tandem build/tandem --vocab DIR --size base  # the real shape
    python3 tests/detector_parity.py --tandem build/tandem --model DIR              # a folder of yours

--vocab names a folder with the published vocab.json and merges.txt of RoBERTa. Texts of 1 to 2,000
tokens, in every script, with white space of every kind and text that looks like special tokens.
For each mode of --preprocess the ids of all texts must be the same (compared by hash), so must the
token counts, and no probability may differ by more than --tolerance. hf is what the tokenizer of
transformers makes; release and demo are spelled out below from the original code's behaviour.
Needs torch, transformers, tokenizers, numpy.
"""
import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from tokenizers import AddedToken
from transformers import RobertaForSequenceClassification, RobertaTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PYTHON_SPACES = [chr(c) for c in range(0x110000) if chr(c).isspace()]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", ".,;:!?'\"-()[]{}<>/|",
    "àéîõüßçñåø", "абвгдежзийклмнопрстуфхцчшщ", "αβγδεζηθικλμνξοπρ", "的一是不了人我在有他这",
    "あいうえおかきくけこ", "אבגדהוזחטי", "ابتثجحخدذر", "कखगघङच", "😀🎉👍🏽👩‍👧", "\u0301\u200b\u200d\ufeff\u180e½²Ⅷ",
]


# ---- texts ----

def word_list():
    """English words from the docstrings of modules that Python has anyway."""
    import argparse as a, collections, decimal, json as j, logging, os as o, random as r, re, socket
    text = " ".join(d for m in (a, collections, decimal, j, logging, o, r, re, socket)
                    for d in [m.__doc__ or ""] + [getattr(x, "__doc__", None) or ""
                                                  for x in vars(m).values()] if isinstance(d, str))
    return sorted(set(text.split()))


def random_text(rng, words, count):
    """A text of about 10^u tokens, u uniform: 1 to 2,000, short ones as many as long ones."""
    want = int(math.exp(rng.uniform(0, math.log(2000))) + 0.5)
    odd = rng.random() < 0.5
    parts = [rng.choice(PYTHON_SPACES) for _ in range(rng.randrange(3))] if odd else []
    while len(parts) < want:
        kind = rng.random()
        if not odd or kind < 0.6:
            parts.append(rng.choice([" ", " ", " ", "\n", ""]) + rng.choice(words))
        elif kind < 0.8:
            alphabet = rng.choice(ALPHABETS)
            parts.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 6))))
        elif kind < 0.92:
            parts.append("".join(rng.choice(PYTHON_SPACES) for _ in range(rng.randrange(1, 4))))
        else:
            parts.append(rng.choice(SPECIALS + ["<|endoftext|>", "<mas", "</", "<s"]))
    text = "".join(parts)
    while (n := count(text)) > want and len(text) > 1:
        text = text[:max(1, min(len(text) - 1, len(text) * want // n))]
    return text


# ---- preprocessing, spelled out ----

def encode_release(plain, text, context):
    """transformers 2.0 and 2.1 around the original server: strip, then BPE; no special tokens."""
    ids = plain.encode(text.strip(), add_special_tokens=False).ids
    return ids, ids[:context - 2]


def split_on_token(token, text):
    """As in transformers 2.9.1: each part loses the white space at its end."""
    result = []
    parts = text.split(token)
    for i, part in enumerate(parts):
        part = part.rstrip()
        last = i == len(parts) - 1
        if i == 0 and not part:
            result.append(token)
        elif last:
            result += [part] if part else []
        else:
            result += ([part] if part else []) + [token]
    return result


def encode_demo(plain, text, context):
    """transformers 2.9.1: tokenizer.encode adds a space and the specials; the server adds more."""
    if not text[0].isspace():
        text = " " + text
    pieces = [text] if text.strip() else []
    for token in SPECIALS:
        pieces = [q for p in pieces for q in ([p] if p in SPECIALS else split_on_token(token, p))]
    ids = [0]
    for p in pieces:
        ids += ([plain.token_to_id(p)] if p in SPECIALS
                else plain.encode(p, add_special_tokens=False).ids)
    ids += [2]
    return (ids if pieces else []), (ids[:context - 2] if pieces else [])


def encode_hf(tokenizer, text, context):
    whole = tokenizer(text)["input_ids"][1:-1]
    cut = tokenizer(text, truncation=True, max_length=context)["input_ids"]
    assert cut[0] == 0 and cut[-1] == 2
    return whole, cut[1:-1]


def open_tokenizers(folder):
    """One function per mode, from a text to the ids of all its tokens and of those that are used;
    and the context."""
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    # The published tokenizer.json says so; the files of a vocabulary alone cannot.
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True, special=True)})
    plain = RobertaTokenizer.from_pretrained(folder)._tokenizer
    plain.encode_special_tokens = True  # special tokens are text to this one
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        context = json.load(f)["max_position_embeddings"] - 2
    return {"hf": lambda text, context: encode_hf(tokenizer, text, context),
            "release": lambda text, context: encode_release(plain, text, context),
            "demo": lambda text, context: encode_demo(plain, text, context)}, context


def fnv(ids, state):
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return state


# ---- the comparison ----

def run_tandem(o, folder, path, mode):
    out = os.path.join(os.path.dirname(path), f"{mode}.jsonl")
    command = [o.tandem, "detect", "--model", folder, "--preprocess", mode, "--max-errors", "100%",
               "--json", "--quiet", "--device", "cpu", "--restart", "--out", out, path] + o.option
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    with open(out, encoding="utf-8") as f:
        return {r["id"]: r for r in map(json.loads, f)}, json.loads(done.stdout)


def reference(model, ids_of):
    """Logits of each text alone: no padding, so no doubt about masks."""
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0].double() for ids in ids_of]


def compare(o, folder, model, texts, path, mode, encode, context):
    got, summary = run_tandem(o, folder, path, mode)
    encoded = [encode(t, context) for t in texts]
    judged = [i for i, (_, used) in enumerate(encoded) if used]
    state = 0xCBF29CE484222325
    for i in judged:
        state = fnv([0] + encoded[i][1] + [2, 0xFFFFFFFF], state)
    problems = []
    if sorted(got) != judged:
        problems.append(f"{len(got)} texts judged, want {len(judged)}")
    if summary["token_hash"] != f"{state:016x}":
        problems.append(f"token hash {summary['token_hash']}, want {state:016x}")
    for i in judged:
        counts = [len(encoded[i][0]), len(encoded[i][1])]
        if i in got and [got[i]["all_tokens"], got[i]["used_tokens"]] != counts:
            problems.append(f"text {i}: counts {got[i]['all_tokens']}, {got[i]['used_tokens']}, "
                            f"want {counts}")
    sample = judged if mode == "hf" else judged[:o.other_texts]
    logits = reference(model, [[0] + encoded[i][1] + [2] for i in sample])
    worst_p = worst_logit = 0.0
    fakes = []
    for i, want in zip(sample, logits):
        p = torch.softmax(want, 0)
        fakes.append(float(p[0]))
        worst_p = max(worst_p, abs(got[i]["fake"] - float(p[0])), abs(got[i]["real"] - float(p[1])))
        worst_logit = max(worst_logit, abs(got[i]["logit_fake"] - float(want[0])),
                          abs(got[i]["logit_real"] - float(want[1])))
    fakes.sort()
    tokens = [len(encoded[i][0]) for i in judged]
    print(f"{mode}: {len(judged)} texts of {min(tokens)} to {max(tokens)} tokens, ids and counts "
          f"{'DIFFER' if problems else 'equal'}; {len(sample)} compared, p(fake) from {fakes[0]:.3g} "
          f"to {fakes[-1]:.3g} (median {fakes[len(fakes) // 2]:.3g}): largest difference of "
          f"probability {worst_p:.2e}, of logit {worst_logit:.2e}", flush=True)
    for p in problems[:5]:
        print("  " + p)
    return not problems and worst_p <= o.tolerance


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--tandem", default="build/tandem")
    p.add_argument("--vocab", help="folder with vocab.json and merges.txt")
    p.add_argument("--model", help="model folder; default: one with random weights is made")
    p.add_argument("--size", choices=("small", "base", "large"), default="small")
    p.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32")
    p.add_argument("--texts", type=int, default=1000)
    p.add_argument("--other-texts", type=int, default=100, help="compared in release and demo")
    p.add_argument("--modes", default="hf,release,demo")
    p.add_argument("--tolerance", type=float, default=2e-5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("option", nargs="*", help="behind --: more options for tandem detect")
    o = p.parse_args()
    if not o.model and not o.vocab:
        p.error("give --model or --vocab")
    return o


def make_model(o, folder):
    shape = ["--size", o.size] if o.size != "small" else ["--layers", "3", "--heads", "3"]
    scale = {"small": "8", "base": "3", "large": "2"}[o.size]  # spreads the probabilities
    subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"), "--arch", "roberta",
                    "--pooler", "--scale", scale, "--dtype", o.dtype, "--vocab-from", o.vocab, *shape,
                    folder], check=True)


def main():
    o = options()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        folder = o.model or os.path.join(scratch, "model")
        if not o.model:
            make_model(o, folder)
        encoders, context = open_tokenizers(folder)
        model = RobertaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        rng, words = random.Random(o.seed), word_list()
        count = lambda text: len(encoders["release"](text, context)[0])
        texts = [random_text(rng, words, count) for _ in range(o.texts)]
        path = os.path.join(scratch, "texts.jsonl")
        with open(path, "w", encoding="utf-8") as f:
            for i, t in enumerate(texts):
                f.write(json.dumps({"id": i, "text": t}) + "\n")
        good = [compare(o, folder, model, texts, path, m, encoders[m], context)
                for m in o.modes.split(",")]
    print("passed" if all(good) else "FAILED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
