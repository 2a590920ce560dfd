"""tandem beside transformers and PyTorch: the same weights and work, on the same device, in turn.

    python3 tools/compare_hf.py --tandem build/tandem --device cpu --gpt2 124M --detector base
    python3 tools/compare_hf.py --tandem build/tandem --device cuda --gpt2 1558M --detector large \\
        --n 512 --length 1024 --batches 64,256 --json compare.json

--gpt2 and --detector are model folders, or sizes that `tandem bench model` writes with random weights.
Jobs (--jobs):
  generate  documents of --length tokens from <|endoftext|>, sampled at temperature 1 and greedy
  detect    texts of words of the vocabulary, from text to probability; and how far those differ
  logprobs  teacher-forced log-probabilities in each dtype (needs --logprobs, a build of
            tests/gpu/logprobs.c): how far f16 is from f32, and both from transformers in f32
  score     texts of a quarter of --length to --length words, from text to all measures of `tandem score`; a peer
            gives log-probability, entropy, its variance and rank of each token, or log-probabilities alone
transformers gets scaled-dot-product attention, the dtype of tandem, every batch size in --batches, on
a GPU also a static cache with compilation at the largest of them, and its best figure counts. Times are without loading. Each
peer has its turn between two of tandem, so that what else runs on the machine hits both. A peer that
fails or has no time left (--budget) is listed as such. Needs torch and transformers.
Exit code 1: --most-logprob or --most-probability is given, and the numbers are further apart than that,
or there was nothing to compare.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers

from agreement import ROUNDING, Agreement

START = time.monotonic()
JOBS = ("generate", "detect", "logprobs", "score")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--tandem", default="build/tandem")
    p.add_argument("--logprobs", help="the program of tests/gpu/logprobs.c")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--gpt2", default="124M", help="folder or size")
    p.add_argument("--detector", default="base", help="folder or size")
    p.add_argument("--jobs", default=",".join(JOBS), help=f"of {','.join(JOBS)}")
    p.add_argument("--n", type=int, default=32, help="documents that tandem writes, or texts to score")
    p.add_argument("--length", type=int, default=128, help="tokens of a document, or words of a text to score")
    p.add_argument("--texts", type=int, default=128, help="texts to detect")
    p.add_argument("--words", default="510", help="words of each; 1-510 draws every length alike")
    p.add_argument("--batches", default="8,32", help="batch sizes that the peers get")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--budget", type=float, default=1e9, help="seconds; peers are skipped after that")
    p.add_argument("--peer-device", choices=("cpu", "cuda"), help="another device for the peers")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--json", metavar="FILE", help="all figures, as JSON")
    p.add_argument("--most-logprob", type=float, metavar="X", help="tandem's log-probabilities may be X roundings "
                   "away from transformers' in f32: "
                   + ", ".join(f"2^{int(np.log2(r))} in {d}" for d, r in ROUNDING.items()))
    p.add_argument("--most-probability", type=float, metavar="X", help="the detector's may be X away")
    o = p.parse_args()
    unknown = set(o.jobs.split(",")) - set(JOBS)
    if unknown:
        p.error(f"--jobs {','.join(sorted(unknown))}: want some of {','.join(JOBS)}")
    o.jobs = o.jobs.split(",")
    o.batches = [int(b) for b in o.batches.split(",")]
    o.peer_device = o.peer_device or o.device
    o.dtype = "f16" if o.device == "cuda" else "f32"
    return o


# ---- results ----

class Report:
    def __init__(self, o):
        self.o, self.rows = o, []
        self.agreement = Agreement(logprob=o.most_logprob, probability=o.most_probability)

    def speed(self, job, who, setting, rate, unit, **more):
        self.rows.append({"job": job, "who": who, "setting": setting, "rate": rate, "unit": unit, **more})
        print(f"{job:16s} {who:13s} {setting:24s} {rate:12.1f} {unit}", flush=True)

    def failed(self, job, setting, why):
        self.rows.append({"job": job, "who": "transformers", "setting": setting, "failed": why})
        print(f"{job:16s} {'transformers':13s} {setting:24s} {why}", flush=True)

    def agree(self, kind, what, ours, theirs, dtype=None):
        """kind: what is asked of them; None: they are apart as they are."""
        more = {}
        if kind == "probability" and theirs is not None:
            more["flips"] = sum((a > 0.5) != (b > 0.5) for a, b in zip(ours, theirs))
        row = self.agreement.add(kind, what, ours, theirs, ROUNDING.get(dtype, 1.0), **more)
        if row:
            extra = "".join(f", {k} {v:g}" for k, v in row.items() if k not in ("what", "mean", "max"))
            print(f"{what}: mean {row['mean']:.2e}, max {row['max']:.2e}{extra}", flush=True)

    def finish(self):
        print()
        for job in dict.fromkeys(r["job"] for r in self.rows):
            rates = {who: [r for r in self.rows if r["job"] == job and r["who"] == who and "rate" in r]
                     for who in ("tandem", "transformers")}
            if not rates["tandem"]:
                continue
            ours = statistics.median(r["rate"] for r in rates["tandem"])
            best = max(rates["transformers"], key=lambda r: r["rate"], default=None)
            line = f"{job:16s} tandem {ours:.1f} {rates['tandem'][0]['unit']}"
            if best:
                line += f", transformers {best['rate']:.1f} ({best['setting']}): {ours / best['rate']:.2f} times"
            print(line)
        if self.o.json:
            with open(self.o.json, "w", encoding="utf-8") as f:
                json.dump({"options": vars(self.o), "torch": torch.__version__,
                           "transformers": transformers.__version__, "peer": device_name(self.o),
                           "rows": self.rows, "agreement": self.agreement.rows,
                           "problems": self.agreement.problems()}, f, indent=1)
                f.write("\n")
        for problem in self.agreement.problems():
            print(f"NOT AS ASKED: {problem}")
        return not self.agreement.problems()


def device_name(o):
    return torch.cuda.get_device_name() if o.peer_device == "cuda" else f"cpu, {o.threads} threads"


class OutOfTime(RuntimeError):
    pass


def out_of_time(*_):
    raise OutOfTime("no time left")


def peer(report, job, setting, work):
    """Run a peer's turn; one that fails or takes too long does not end the comparison."""
    left = report.o.budget - (time.monotonic() - START)
    if left <= 0:
        report.failed(job, setting, "no time left")
        return None
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, min(left, 1e6))
    try:
        return work()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as e:  # out of memory is a RuntimeError
        lines = str(e).strip().splitlines() or [""]
        report.failed(job, setting, f"{type(e).__name__}: {lines[0]}"[:160])
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if report.o.peer_device == "cuda":
            torch.cuda.empty_cache()


def timed(o, work):
    if o.peer_device == "cuda":
        torch.cuda.synchronize()
    start = time.monotonic()
    result = work()
    if o.peer_device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - start, result


# ---- tandem ----

def tandem(o, command, *args):
    """The summary object of one run, with the CPU seconds of its process, loading included."""
    out = subprocess.Popen([o.tandem, command, "--device", o.device, "--threads", str(o.threads),
                            "--json", "--quiet", *args], stdout=subprocess.PIPE)
    text = out.stdout.read()
    _, status, usage = os.wait4(out.pid, 0)
    out.returncode = os.waitstatus_to_exitcode(status)
    if out.returncode:
        sys.exit(f"tandem {command} ended with {out.returncode}")
    return {**json.loads(text), "cpu": usage.ru_utime + usage.ru_stime}


def folder(o, name, scratch):
    """The model folder of an option: it is one, or it is a size."""
    if os.path.isdir(name):
        return name
    path = os.path.join(scratch, name)
    if not os.path.isdir(path):
        subprocess.run([o.tandem, "bench", "model", "--size", name, "--out", path], check=True)
    return path


def torch_dtype(o):
    return torch.float16 if o.peer_device == "cuda" else torch.float32


def load(o, kind, path, dtype):
    return kind.from_pretrained(path, dtype=dtype, attn_implementation="sdpa").to(o.peer_device).eval()


# ---- jobs ----

def generate(o, report, scratch):
    path = folder(o, o.gpt2, scratch)
    model = load(o, transformers.GPT2LMHeadModel, path, torch_dtype(o))
    settings = [(batch, "dynamic") for batch in o.batches]
    if o.peer_device == "cuda":
        settings.append((max(o.batches), "static"))  # last: it compiles first
    out = os.path.join(scratch, "documents.jsonl")

    def ours(mode, temperature):
        s = tandem(o, "generate", "--model", path, "--n", str(o.n), "--length", str(o.length),
                   "--temperature", temperature, "--restart", "--out", out)
        report.speed(f"generate {mode}", "tandem", f"n {o.n}", s["tokens"] / s["seconds"], "tokens/s",
                     cpu=s["cpu"], hash=s["token_hash"])

    def theirs(mode, batch, cache):
        begin = torch.full((batch, 1), model.config.eos_token_id, device=o.peer_device)
        more = {"cache_implementation": "static"} if cache == "static" else {}
        more.update({"do_sample": True, "top_k": 0} if mode == "sampled" else {"do_sample": False})

        def run(n):
            return model.generate(begin, attention_mask=torch.ones_like(begin), min_new_tokens=n,
                                  max_new_tokens=n, pad_token_id=model.config.eos_token_id, **more)
        run(o.length if cache == "static" else 2)  # compiles for the size of the cache
        seconds, ids = timed(o, lambda: run(o.length))
        tokens = ids.shape[0] * (ids.shape[1] - 1)
        report.speed(f"generate {mode}", "transformers", f"batch {batch} {cache}", tokens / seconds,
                     "tokens/s")

    limit = model.config.n_positions
    o.length = min(o.length, limit - 1)
    for mode, temperature in (("sampled", "1"), ("greedy", "0")):
        for _ in range(o.rounds):
            ours(mode, temperature)
            for batch, cache in settings:
                peer(report, f"generate {mode}", f"batch {batch} {cache}",
                     lambda m=mode, b=batch, c=cache: theirs(m, b, c))
            ours(mode, temperature)


def make_texts(vocabulary, n, low, high, file):
    """Words of the vocabulary that stay one token when they are joined by spaces; low to high of them."""
    with open(vocabulary, encoding="utf-8") as f:
        words = sorted(t[1:] for t in json.load(f) if t[0] == "\u0120" and t[1:].isascii()
                       and t[1:].isalpha() and t[1:].islower())
    rng = random.Random(1)
    texts = [" ".join(rng.choice(words) for _ in range(rng.randint(low, high))) for _ in range(n)]
    with open(file, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    return texts


def detect(o, report, scratch):
    path = folder(o, o.detector, scratch)
    tokenizer = transformers.RobertaTokenizer.from_pretrained(path)
    model = load(o, transformers.RobertaForSequenceClassification, path, torch.float32)
    file, out = os.path.join(scratch, "texts.jsonl"), os.path.join(scratch, "judged.jsonl")
    low, _, high = o.words.partition("-")
    texts = make_texts(os.path.join(path, "vocab.json"), o.texts, int(low), int(high or low), file)
    longest = model.config.max_position_embeddings - 2

    def ours():
        s = tandem(o, "detect", "--model", path, "--preprocess", "hf", "--restart", "--out", out, file)
        report.speed("detect", "tandem", f"{len(texts)} texts", len(texts) / s["seconds"], "texts/s",
                     tokens=s["tokens"], cpu=s["cpu"])
        with open(out, encoding="utf-8") as f:
            return [json.loads(line)["fake"] for line in f]

    def judge(texts, batch):
        """From texts to probabilities: batches of texts sorted by length and padded."""
        fake = [0.0] * len(texts)
        encoded = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
        for at in range(0, len(order), batch):
            some = order[at:at + batch]
            padded = tokenizer.pad({"input_ids": [encoded[i] for i in some]}, return_tensors="pt")
            logits = model(**padded.to(o.peer_device)).logits.double()
            for i, p in zip(some, torch.softmax(logits, -1)[:, 0].tolist()):
                fake[i] = p
        return fake

    def theirs(batch):
        model(**tokenizer(["warm up"] * batch, return_tensors="pt").to(o.peer_device))
        seconds, _ = timed(o, lambda: judge(texts, batch))
        report.speed("detect", "transformers", f"batch {batch}", len(texts) / seconds, "texts/s")

    torch.backends.cuda.matmul.allow_tf32 = False
    some = texts[:512]  # agreement comes first: there is always time for it
    report.agree("probability", f"probability, tandem {o.dtype} against transformers f32", ours()[:len(some)],
                 peer(report, "detect", "f32", lambda: judge(some, min(o.batches))))
    model.to(torch_dtype(o))
    for _ in range(o.rounds):
        for batch in o.batches:
            peer(report, "detect", f"batch {batch}", lambda b=batch: theirs(b))
        ours()


def random_texts(o, model, scratch):
    n, length = 8, min(o.length, model.config.n_positions)
    ids = torch.randint(0, model.config.vocab_size, (n, length), generator=torch.Generator().manual_seed(1))
    file = os.path.join(scratch, "ids.jsonl")
    with open(file, "w", encoding="utf-8") as f:
        for row in ids.tolist():
            f.write(json.dumps({"ids": row}) + "\n")
    return ids, file


def logprobs(o, report, scratch):
    """Agreement of the log-probabilities that a text's own tokens get."""
    if not o.logprobs:
        report.failed("logprobs", "", "--logprobs is not given")
        return
    path = folder(o, o.gpt2, scratch)
    model = load(o, transformers.GPT2LMHeadModel, path, torch.float32)
    ids, file = random_texts(o, model, scratch)

    def ours(dtype):
        done = subprocess.run([o.logprobs, o.device, dtype, path, file], stdout=subprocess.PIPE, check=True)
        return np.frombuffer(done.stdout, dtype=np.float32).astype(float)

    def theirs():
        rows = [torch.log_softmax(model(row[None].to(o.peer_device)).logits[0, :-1].double(), -1)
                .gather(1, row[1:, None].to(o.peer_device)).flatten().cpu() for row in ids]
        return torch.cat(rows).numpy()

    dtypes = ("f32", "f16", "bf16") if o.device == "cuda" else ("f32",)
    of_tandem = {d: ours(d) for d in dtypes}
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = peer(report, "logprobs", "f32", theirs)
    for d in dtypes:
        report.agree("logprob", f"logprob, tandem {d} against transformers f32", of_tandem[d], exact, d)
        if d != "f32":
            report.agree(None, f"logprob, tandem {d} against tandem f32", of_tandem[d], of_tandem["f32"])
    if o.peer_device == "cuda" and exact is not None:
        model.half()
        half = peer(report, "logprobs", "f16", theirs)
        report.agree(None, "logprob, transformers f16 against transformers f32",
                     half if half is not None else [], exact)


def gpt2_vocabulary(path, scratch):
    """vocab.json of a folder, or written from merges.txt as GPT-2's own was: bytes, merges, <|endoftext|>."""
    file = os.path.join(path, "vocab.json")
    if not os.path.exists(file):
        shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        symbols = [*map(chr, shown), *(chr(256 + i) for i in range(256 - len(shown)))]
        with open(os.path.join(path, "merges.txt"), encoding="utf-8") as f:
            merges = [line.rstrip("\n").replace(" ", "") for line in f if not line.startswith("#version")]
        file = os.path.join(scratch, "vocab.json")
        with open(file, "w", encoding="utf-8") as f:
            json.dump({t: i for i, t in enumerate([*symbols, *merges, "<|endoftext|>"])}, f)
    return file


def token_measures(logits, ids, all_measures):
    """Of each token behind the first: [..., 4] or its log-probability alone [..., 1]; float32."""
    lp, targets = torch.log_softmax(logits[:, :-1].float(), -1), ids[:, 1:, None]
    given = lp.gather(2, targets)
    if not all_measures:
        return given
    p = lp.exp()
    entropy = -(p * lp).sum(-1)
    variance = (p * lp * lp).sum(-1) - entropy ** 2
    return torch.stack([given[..., 0], entropy, variance, 1 + (lp > given).sum(-1)], -1)


def score(o, report, scratch):
    path = folder(o, o.gpt2, scratch)
    model = load(o, transformers.GPT2LMHeadModel, path, torch.float32)
    vocabulary = gpt2_vocabulary(path, scratch)
    tokenizer = transformers.GPT2TokenizerFast(vocab=vocabulary, merges=os.path.join(path, "merges.txt"))
    longest = min(o.length, model.config.n_positions - 8)  # a text's first word may be some tokens
    file, out = os.path.join(scratch, "to_score.jsonl"), os.path.join(scratch, "scored.jsonl")
    texts = make_texts(vocabulary, o.n, max(longest // 4, 1), longest, file)
    eos = model.config.eos_token_id

    def ours():
        s = tandem(o, "score", "--model", path, "--bos", "yes", "--restart", "--out", out, file)
        report.speed("score", "tandem", f"{len(texts)} texts", s["tokens"] / s["seconds"], "tokens/s", cpu=s["cpu"])
        with open(out, encoding="utf-8") as f:
            return [json.loads(line)["mean_logprob"] for line in f]

    def measure(some, batch, all_measures):
        """From texts to a mean log-probability each: texts sorted by length and padded; and tokens."""
        means, tokens = [0.0] * len(some), 0
        encoded = [[eos, *ids] for ids in tokenizer(some)["input_ids"]]
        order = sorted(range(len(some)), key=lambda i: -len(encoded[i]))
        for at in range(0, len(order), batch):
            rows = order[at:at + batch]
            width = len(encoded[rows[0]])
            ids = torch.tensor([encoded[i] + [eos] * (width - len(encoded[i])) for i in rows]).to(o.peer_device)
            mask = torch.tensor([[1] * len(encoded[i]) + [0] * (width - len(encoded[i])) for i in rows])
            alone = {} if len(rows) == 1 else {"attention_mask": mask.to(o.peer_device)}
            found = token_measures(model(ids, **alone).logits, ids, all_measures).cpu()
            for i, row in zip(rows, found):
                n = len(encoded[i]) - 1
                means[i] = row[:n].double().mean(0)[0].item()
                tokens += n
        return means, tokens

    def theirs(batch, all_measures):
        measure(["warm up"] * batch, batch, all_measures)
        seconds, (_, tokens) = timed(o, lambda: measure(texts, batch, all_measures))
        report.speed("score", "transformers", f"batch {batch}{'' if all_measures else ', logprob alone'}",
                     tokens / seconds, "tokens/s")

    torch.backends.cuda.matmul.allow_tf32 = False
    some = texts[:32]
    report.agree(None, f"mean log-probability, tandem {o.dtype} against transformers f32", ours()[:len(some)],
                 peer(report, "score", "f32", lambda: measure(some, min(o.batches), True)[0]))
    model.to(torch_dtype(o))
    for _ in range(o.rounds):
        for batch in o.batches:
            for all_measures in (True, False):
                peer(report, "score", f"batch {batch}", lambda b=batch, a=all_measures: theirs(b, a))
            ours()


def main():
    o = options()
    transformers.logging.set_verbosity_error()
    with contextlib.suppress(AttributeError):
        transformers.logging.disable_progress_bar()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    report = Report(o)
    print(f"tandem on {o.device} in {o.dtype}; torch {torch.__version__}, transformers "
          f"{transformers.__version__} on {device_name(o)}\n")
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        for job in JOBS:
            if job in o.jobs:
                globals()[job](o, report, scratch)
                if o.peer_device == "cuda":
                    torch.cuda.empty_cache()
    return report.finish()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
