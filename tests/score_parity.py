"""Compare teacher-forced scoring on the CPU with transformers in fp32, eager attention.

    python3 tests/score_parity.py --build build-cpu                  # small random models
    python3 tests/score_parity.py --build build-cpu --model DIR --observer DIR

For each token of random texts of 2 tokens to one more than the context, packed together: log-probability,
entropy and variance against a softmax in float64 over the logits of transformers, the rank, what a second
model of one layer (--observer: a folder) adds, and the likeliest tokens. Needs torch, transformers, numpy, and
libtandem.a from a build folder (c_library.py). Exits with 1 when a bar is missed:
  values  max |difference| over the largest |logit|: <= 2e-5 (variances: of a square, over the largest |log p| too)
  ranks   between the numbers of logits that are larger by more than that, and by more than minus that
"""
import argparse
import ctypes as C
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from transformers import GPT2LMHeadModel

from c_library import INTS, Backend, Config, Err, open_library

HERE = os.path.dirname(os.path.abspath(__file__))
BAR, TOP = 2e-5, 5
SMALL = [
    ("1 head", "--layers 2 --heads 1 --vocab 301 --positions 256 --scale 4"),
    ("3 heads, odd vocabulary", "--layers 3 --heads 3 --vocab 1009 --positions 256 --prefix --scale 3"),
    ("5 heads, untied, f16 file", "--layers 3 --heads 5 --vocab 777 --positions 300 --untied --dtype f16 --scale 3"),
    ("the published vocabulary", "--layers 2 --heads 2 --vocab 50257 --positions 128 --scale 3"),
]


class Options(C.Structure):
    _fields_ = [("rows", C.c_int32), ("logits", C.c_int32), ("observer", C.c_void_p), ("top", C.c_int32)]


class Text(C.Structure):
    _fields_ = [("ids", INTS), ("n", C.c_int32), ("stats", C.c_void_p), ("cross", C.c_void_p), ("top", C.c_void_p),
                ("skip", C.c_int32)]


STAT = np.dtype([("logprob", "f4"), ("entropy", "f4"), ("variance", "f4"), ("rank", "i4")])
CROSS = np.dtype([("cross", "f4"), ("variance", "f4"), ("back", "f4")])
LIKELIEST = np.dtype([("id", "i4"), ("logprob", "f4")])


def score(lib, folder, observer_folder, texts, rows):
    """What is found out about each text, as arrays of STAT, CROSS and LIKELIEST."""
    err, backend, scorer = Err(), Backend(), C.c_void_p()

    def must(status):
        if status:
            sys.exit(f"tandem: {err.msg.decode()}")

    def load(name):
        checkpoint, model, config = C.c_void_p(), C.c_void_p(), Config()
        must(lib.tdm_config_load(name.encode(), C.byref(config), e))
        must(lib.tdm_checkpoint_open(name.encode(), C.byref(checkpoint), e))
        must(lib.gpt2_open(C.byref(backend), checkpoint, C.byref(config), True, C.byref(model), e))
        lib.tdm_checkpoint_close(checkpoint)
        return model

    e = C.byref(err)
    must(lib.tdm_open_cpu(0, C.byref(backend), e))
    model, observer = load(folder), load(observer_folder)
    must(lib.tdm_scorer_open(model, C.byref(Options(rows, 100, observer, TOP)), C.byref(scorer), e))
    found = [(np.zeros(len(t) - 1, STAT), np.zeros(len(t) - 1, CROSS), np.zeros((len(t) - 1, TOP), LIKELIEST))
             for t in texts]
    given = (Text * len(texts))(*[Text((C.c_int32 * len(t))(*t), len(t), *(part.ctypes.data for part in parts))
                                  for t, parts in zip(texts, found)])
    lib.tdm_scorer_run.argtypes = [C.c_void_p, C.c_void_p, C.c_size_t, C.c_void_p]
    must(lib.tdm_scorer_run(scorer, given, len(texts), e))
    lib.tdm_scorer_close(scorer)
    lib.gpt2_close(model)
    lib.gpt2_close(observer)
    lib.tdm_backend_close(C.byref(backend))
    return found


def load_reference(folder):
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def logits_and_logprobs(reference, ids):
    """In float64, [len(ids), V] each."""
    with torch.inference_mode():
        logits = reference(torch.tensor([ids])).logits[0].double().numpy()
    lp = logits - logits.max(1, keepdims=True)
    return logits, lp - np.log(np.exp(lp).sum(1, keepdims=True))


def top_agrees(top, lp, slack):
    """Whether each of the likeliest is at its place, give or take `slack`, and none comes twice."""
    at = np.take_along_axis(lp, top["id"], 1)
    good = all(len(set(row)) == TOP for row in top["id"].tolist())
    for place in range(TOP):
        larger = (lp > at[:, place, None] + slack).sum(1)
        at_least = (lp >= at[:, place, None] - slack).sum(1)
        good = good and bool(((larger <= place) & (at_least > place)).all())
    return good


def compare(lib, name, folder, observer_folder, n_texts, seed):
    """Print the worst errors of a model; whether all bars are met."""
    reference, observer = load_reference(folder), load_reference(observer_folder)
    vocab, context = reference.config.vocab_size, reference.config.n_positions
    rng = np.random.default_rng(seed)
    lengths = [2, context, context + 1] + [int(rng.integers(2, context + 1)) for _ in range(n_texts - 3)]
    texts = [[int(v) for v in rng.integers(0, vocab, n)] for n in lengths]
    worst, tokens, other_ranks, good = {}, 0, 0, True
    for text, (stats, cross, likeliest) in zip(texts, score(lib, folder, observer_folder, texts, 2 * context)):
        logits, lp = logits_and_logprobs(reference, text[:-1])
        observed, lq = logits_and_logprobs(observer, text[:-1])
        targets = np.array(text[1:])
        largest, at = max(np.abs(logits).max(), np.abs(observed).max()), logits[np.arange(len(targets)), targets]
        p, q = np.exp(lp), np.exp(lq)
        entropy, surprise = -(p * lp).sum(1), -(q * lp).sum(1)
        pairs = {"logprob": (stats["logprob"], lp[np.arange(len(targets)), targets]),
                 "entropy": (stats["entropy"], entropy),
                 "variance": (stats["variance"], (p * lp * lp).sum(1) - entropy ** 2),
                 "cross": (cross["cross"], surprise),
                 "cross variance": (cross["variance"], (q * lp * lp).sum(1) - surprise ** 2),
                 "back": (cross["back"], -(p * lq).sum(1)),
                 "top": (likeliest["logprob"], np.take_along_axis(lp, likeliest["id"], 1))}
        for key, (ours, theirs) in pairs.items():
            scale = largest * (max(1.0, np.abs(lp).max()) if "variance" in key else 1.0)
            worst[key] = max(worst.get(key, 0.0), float(np.abs(ours - theirs).max() / scale))
        above = logits - at[:, None]
        least, most = 1 + (above > BAR * largest).sum(1), (above > -BAR * largest).sum(1)
        good = good and bool(((stats["rank"] >= least) & (stats["rank"] <= most)).all())
        good = good and top_agrees(likeliest, lp, BAR * largest)
        other_ranks += int((stats["rank"] != 1 + (above > 0).sum(1)).sum())
        tokens += len(targets)
    good = good and all(w <= BAR for w in worst.values())
    print(f"{name:28s} {tokens:6d} tokens  " + "  ".join(f"{k} {w:.1e}" for k, w in worst.items()) +
          f"  other ranks {other_ranks}  {'ok' if good else 'FAILED'}", flush=True)
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", help="a folder of your own, with --observer")
    p.add_argument("--observer", help="of the same vocabulary, and at least the same context")
    p.add_argument("--texts", type=int, default=24)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    if (o.model is None) != (o.observer is None):
        p.error("--model and --observer go together")
    transformers.logging.disable_progress_bar()
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        lib = open_library(o.build, scratch)
        if o.model:
            good = compare(lib, o.model, o.model, o.observer, o.texts, o.seed)
        for i, (name, options) in enumerate(SMALL if not o.model else []):
            folder, observer = (os.path.join(scratch, f"{kind}{i}") for kind in ("model", "observer"))
            for where, more in ((folder, []), (observer, ["--layers", "1", "--heads", "2", "--seed", "1"])):
                subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"), *options.split(), *more,
                                where], check=True, stdout=subprocess.DEVNULL)
            good = compare(lib, name, folder, observer, o.texts, o.seed) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
