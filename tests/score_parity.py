"""Compare teacher-forced scoring on the CPU with transformers in fp32, eager attention.

    python3 tests/score_parity.py --build build-cpu                  # small random models
    python3 tests/score_parity.py --build build-cpu --model DIR ...  # folders of your own

For each token of random texts of 2 tokens to one more than the context, packed together: log-probability,
entropy and variance against a softmax in float64 over the logits of transformers, and the rank. Needs torch,
transformers, numpy, and libtandem.a from a build folder (c_library.py). Exits with 1 when a bar is missed:
  values  max |difference| over the largest |logit|: <= 2e-5 (variance: of a square, over the largest |log p| too)
  rank    between the numbers of logits that are larger by more than that, and by more than minus that
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
BAR = 2e-5
SMALL = [
    ("1 head", "--layers 2 --heads 1 --vocab 301 --positions 256 --scale 4"),
    ("3 heads, odd vocabulary", "--layers 3 --heads 3 --vocab 1009 --positions 256 --prefix --scale 3"),
    ("5 heads, untied, f16 file", "--layers 3 --heads 5 --vocab 777 --positions 300 --untied --dtype f16 --scale 3"),
    ("the published vocabulary", "--layers 2 --heads 2 --vocab 50257 --positions 128 --scale 3"),
]


class Options(C.Structure):
    _fields_ = [("rows", C.c_int32), ("logits", C.c_int32)]


class Text(C.Structure):
    _fields_ = [("ids", INTS), ("n", C.c_int32), ("stats", C.c_void_p)]


STAT = np.dtype([("logprob", "f4"), ("entropy", "f4"), ("variance", "f4"), ("rank", "i4")])


def score(lib, folder, texts, rows):
    """The statistics of each text, as arrays of STAT."""
    err, backend, config = Err(), Backend(), Config()
    checkpoint, model, scorer = C.c_void_p(), C.c_void_p(), C.c_void_p()

    def must(status):
        if status:
            sys.exit(f"tandem: {err.msg.decode()}")

    name, e = folder.encode(), C.byref(err)
    must(lib.tdm_open_cpu(0, C.byref(backend), e))
    must(lib.tdm_config_load(name, C.byref(config), e))
    must(lib.tdm_checkpoint_open(name, C.byref(checkpoint), e))
    must(lib.gpt2_open(C.byref(backend), checkpoint, C.byref(config), True, C.byref(model), e))
    must(lib.tdm_scorer_open(model, C.byref(Options(rows, 100)), C.byref(scorer), e))
    stats = [np.zeros(len(t) - 1, STAT) for t in texts]
    given = (Text * len(texts))(*[Text((C.c_int32 * len(t))(*t), len(t), s.ctypes.data)
                                  for t, s in zip(texts, stats)])
    lib.tdm_scorer_run.argtypes = [C.c_void_p, C.c_void_p, C.c_size_t, C.c_void_p]
    must(lib.tdm_scorer_run(scorer, given, len(texts), e))
    lib.tdm_scorer_close(scorer)
    lib.gpt2_close(model)
    lib.tdm_checkpoint_close(checkpoint)
    lib.tdm_backend_close(C.byref(backend))
    return stats


def compare(lib, name, folder, n_texts, seed):
    """Print the worst errors of a model; whether all bars are met."""
    reference = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    vocab, context = reference.config.vocab_size, reference.config.n_positions
    rng = np.random.default_rng(seed)
    lengths = [2, context, context + 1] + [int(rng.integers(2, context + 1)) for _ in range(n_texts - 3)]
    texts = [[int(v) for v in rng.integers(0, vocab, n)] for n in lengths]
    worst, tokens, other_ranks, good = dict.fromkeys(("logprob", "entropy", "variance"), 0.0), 0, 0, True
    for text, stats in zip(texts, score(lib, folder, texts, 2 * context)):
        with torch.inference_mode():
            logits = reference(torch.tensor([text[:-1]])).logits[0].double().numpy()
        targets = np.array(text[1:])
        top, at = np.abs(logits).max(), logits[np.arange(len(targets)), targets]
        lp = logits - logits.max(1, keepdims=True)
        lp -= np.log(np.exp(lp).sum(1, keepdims=True))
        p = np.exp(lp)
        entropy = -(p * lp).sum(1)
        want = {"logprob": lp[np.arange(len(targets)), targets], "entropy": entropy,
                "variance": (p * lp * lp).sum(1) - entropy ** 2}
        for key in worst:
            scale = top * (max(1.0, np.abs(lp).max()) if key == "variance" else 1.0)
            worst[key] = max(worst[key], float(np.abs(stats[key] - want[key]).max() / scale))
        above = logits - at[:, None]
        least, most = 1 + (above > BAR * top).sum(1), (above > -BAR * top).sum(1)
        good = good and bool(((stats["rank"] >= least) & (stats["rank"] <= most)).all())
        other_ranks += int((stats["rank"] != 1 + (above > 0).sum(1)).sum())
        tokens += len(targets)
    good = good and all(w <= BAR for w in worst.values())
    print(f"{name:28s} {tokens:6d} tokens  " + "  ".join(f"{k} {w:.1e}" for k, w in worst.items()) +
          f"  other ranks {other_ranks}  {'ok' if good else 'FAILED'}", flush=True)
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", action="append", default=[])
    p.add_argument("--texts", type=int, default=24)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    transformers.logging.disable_progress_bar()
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        lib = open_library(o.build, scratch)
        for folder in o.model:
            good = compare(lib, folder, folder, o.texts, o.seed) and good
        for i, (name, options) in enumerate(SMALL if not o.model else []):
            folder = os.path.join(scratch, str(i))
            subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"), *options.split(),
                            folder], check=True, stdout=subprocess.DEVNULL)
            good = compare(lib, name, folder, o.texts, o.seed) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
