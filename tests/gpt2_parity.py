"""Compare GPT-2 on the CPU with transformers in fp32, eager attention.

    python3 tests/gpt2_parity.py --build build-cpu            # small models and the 124M shape
    python3 tests/gpt2_parity.py --build build-cpu --large    # and one step of the 1558M shape
    python3 tests/gpt2_parity.py --build build-cpu --model DIR ...   # folders of your own

Needs torch, transformers, numpy, and libtandem.a from a build folder (c_library.py). Exits with 1 when a bar is missed:
  logits    max |difference| over 256 positions (or the context), over the largest |logit|: <= 2e-5
  greedy    a continuation of 200 tokens, identical up to where the reference's two largest logits are
            closer than that tolerance
"""
import argparse
import ctypes as C
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from c_library import INTS, Backend, Config, Err, Mat, ints, open_library

HERE = os.path.dirname(os.path.abspath(__file__))
BAR = 2e-5

# name, options of random_checkpoint.py
SMALL = [
    ("1 head", "--layers 2 --heads 1 --vocab 301 --positions 256 --scale 4"),
    ("3 heads, prefix, odd vocabulary", "--layers 3 --heads 3 --vocab 1009 --positions 256 --prefix --scale 3"),
    ("5 heads, untied", "--layers 3 --heads 5 --vocab 777 --positions 300 --untied --scale 3"),
    ("25 heads", "--layers 2 --heads 25 --vocab 513 --positions 256 --scale 2"),
    ("untied, prefix, masks", "--layers 2 --heads 3 --vocab 999 --positions 256 --untied --prefix --mask-buffers --scale 3"),
    ("odd inner width", "--layers 2 --heads 3 --inner 333 --vocab 500 --positions 256 --scale 3"),
    ("f16 file", "--layers 3 --heads 5 --vocab 1001 --positions 256 --dtype f16 --scale 3"),
    ("bf16 file, two shards", "--layers 3 --heads 3 --vocab 1001 --positions 256 --dtype bf16 --shards 2 --scale 3"),
    ("124M shape", "--size 124M --scale 2"),
]


# ---- the C library ----

class Limits(C.Structure):
    _fields_ = [(n, C.c_int32) for n in ("slots", "pages", "context", "rows", "logits", "top")] + [("cross", C.c_bool)]


class Step(C.Structure):
    _fields_ = [(n, C.c_int32) for n in ("n_rows", "n_seqs", "n_logits")] + [
        (n, INTS) for n in ("tokens", "positions", "starts", "slots", "logit_rows")]


class Tandem:
    def __init__(self, lib, folder, rows):
        self.lib, self.err = lib, Err()
        self.backend, self.config = Backend(), Config()
        self.checkpoint, self.model, self.run = C.c_void_p(), C.c_void_p(), C.c_void_p()
        name = folder.encode()
        self.must(lib.tdm_open_cpu(0, C.byref(self.backend), C.byref(self.err)))
        self.must(lib.tdm_config_load(name, C.byref(self.config), C.byref(self.err)))
        self.must(lib.tdm_checkpoint_open(name, C.byref(self.checkpoint), C.byref(self.err)))
        self.must(lib.gpt2_open(C.byref(self.backend), self.checkpoint, C.byref(self.config), True,
                                C.byref(self.model), C.byref(self.err)))
        context = self.config.n_context
        limits = Limits(2, 2 * ((context + 63) // 64), context, rows, rows)
        self.must(lib.gpt2_run_open(self.model, C.byref(limits), C.byref(self.run), C.byref(self.err)))

    def must(self, status):
        if status:
            sys.exit(f"tandem: {self.err.msg.decode()}")

    def logits(self, tokens, first, slot=0):
        """Feed tokens at positions first, first + 1, ...; the logits of each."""
        n = len(tokens)
        step = Step(n, 1, n, ints(tokens), ints(range(first, first + n)), ints([0, n]), ints([slot]),
                    ints(range(n)))
        out = Mat()
        self.must(self.lib.gpt2_forward(self.run, C.byref(step), C.byref(out), C.byref(self.err)))
        p = C.cast(out.p, C.POINTER(C.c_float))
        stride = out.stride or out.cols
        return np.ctypeslib.as_array(p, (n, stride))[:, :self.config.n_vocab].copy()

    def close(self):
        self.lib.gpt2_run_close(self.run)
        self.lib.gpt2_close(self.model)
        self.lib.tdm_checkpoint_close(self.checkpoint)
        self.lib.tdm_backend_close(C.byref(self.backend))


# ---- comparisons ----

def reference(folder):
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def compare_logits(ours, theirs, tokens):
    want = theirs(torch.tensor([tokens])).logits[0].numpy()
    got = ours.logits(tokens, 0)
    alone = np.concatenate([ours.logits([t], i, slot=1) for i, t in enumerate(tokens[:32])])
    if not np.array_equal(alone, got[:32]):
        return float("inf"), want
    return float(np.abs(got - want).max() / np.abs(want).max()), want


def compare_greedy(ours, theirs, prompt, n):
    """Tokens that agree, and why it ended: at a difference, a tie of the reference, or the end."""
    row = ours.logits(prompt, 0)[-1]
    out = theirs(torch.tensor([prompt]), use_cache=True)
    for i in range(n):
        want = out.logits[0, -1]
        top = torch.topk(want, 2)
        a, b = int(row.argmax()), int(top.indices[0])
        if a != b:
            gap = float(top.values[0] - top.values[1]) / float(want.abs().max())
            return i, "a tie of the reference" if gap <= BAR else "DIFFERENT"
        row = ours.logits([a], len(prompt) + i)[-1]
        out = theirs(torch.tensor([[b]]), past_key_values=out.past_key_values, use_cache=True)
    return n, "the end"


def check(lib, why, folder, greedy=200, positions=256):
    theirs = reference(folder)
    random = np.random.default_rng(1)
    config = theirs.config
    n = min(positions, config.n_positions)
    ours = Tandem(lib, folder, n)
    off, want = compare_logits(ours, theirs, random.integers(0, config.vocab_size, n).tolist())
    m = min(greedy, config.n_positions - 8)
    same, end = compare_greedy(ours, theirs, random.integers(0, config.vocab_size, 8).tolist(), m)
    ours.close()
    passed = off <= BAR and end != "DIFFERENT"
    print(f"{'ok  ' if passed else 'FAIL'} {why}: logits off by {off:.2e} of {np.abs(want).max():.3g} "
          f"over {n} positions; greedy {same} of {m} tokens, then {end}", flush=True)
    return passed


def check_large(lib, folder):
    """The 1558M shape: one step of 4 tokens. One model in memory at a time."""
    tokens = [50256, 11, 262, 1]
    ours = Tandem(lib, folder, 4)
    got = ours.logits(tokens, 0)
    ours.close()
    with torch.no_grad():
        want = reference(folder)(torch.tensor([tokens])).logits[0].numpy()
    off = float(np.abs(got - want).max() / np.abs(want).max())
    print(f"{'ok  ' if off <= BAR else 'FAIL'} 1558M shape: logits off by {off:.2e}", flush=True)
    return off <= BAR


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--build", required=True, metavar="DIR", help="build folder with libtandem.a")
    p.add_argument("--large", action="store_true", help="the 1558M shape too: 7 GB of disk and memory")
    p.add_argument("--only", help="only the small models whose name holds this")
    p.add_argument("--model", nargs="*", default=[], metavar="DIR", help="model folders to compare")
    o = p.parse_args()
    torch.set_grad_enabled(False)
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        lib = open_library(o.build, folder)
        for model in o.model:
            passed &= check(lib, model, model)
        for why, options in [] if o.model else SMALL + [("1558M shape", "--size 1558M")] * o.large:
            if o.only and o.only not in why:
                continue
            out = os.path.join(folder, "model")
            subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"),
                            *options.split(), out], check=True)
            passed &= check_large(lib, out) if "1558M" in why else check(lib, why, out)
            shutil.rmtree(out)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
