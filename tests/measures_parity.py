"""Compare every measure of `tandem score` with transformers in fp32, and with the papers and their released code.

    python3 tests/measures_parity.py --tandem build/tandem --vocab-from DIR       # two random models are made
    python3 tests/measures_parity.py --tandem build/tandem --model DIR --observer DIR

End to end: texts in JSON Lines through the program, under several conventions (--bos, --entropy, --stride,
--gltr-buckets), each measure against float64 over the logits of transformers, window by window. Binoculars and
Fast-DetectGPT also against their papers' formulas and the order of operations of their released code, in NumPy.
Exits with 1 when a bar is missed:
  ranks     equal, but where logits are closer than 1e-5 of the row's largest
  measures  max |relative difference| <= 1e-4; those of ranks where such ties lie on either side. Fast-DetectGPT's
            is a difference in standard deviations, which may be 0: there 1e-4 of the larger of it and 1
  records   a result for each text but those of one token with --bos no, which are errors of class too-short;
            the fields that do not need an observer are the same bytes without one
Needs torch, transformers, numpy. DIR: the vocabulary files of GPT-2.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
BAR, TIE = 1e-4, 1e-5
EDGES = (10, 100, 1000)
ROWS = 16  # in float64 at a time: they stay in the cache
MODELS = {"model": "--layers 4 --heads 4 --positions 192 --scale 8 --seed 1",
          "observer": "--layers 3 --heads 3 --positions 256 --scale 6 --seed 2"}
# texts, options of tandem
SETTINGS = [
    ("all", {"bos": "no", "entropy": "all", "gltr-buckets": "top10"}),
    ("all", {"bos": "no", "entropy": "scored", "gltr-buckets": "top11"}),
    ("all", {"bos": "yes", "entropy": "scored", "gltr-buckets": "top10"}),
    ("all", {"bos": "yes", "entropy": "all", "gltr-buckets": "top11"}),
    ("long", {"bos": "yes", "entropy": "all", "gltr-buckets": "top10", "stride": "41"}),
    ("long", {"bos": "no", "entropy": "scored", "gltr-buckets": "top10", "stride": "192"}),
    ("long", {"bos": "yes", "entropy": "scored", "gltr-buckets": "top10", "stride": "0"}),
    ("long", {"bos": "no", "entropy": "all", "gltr-buckets": "top10", "stride": "0"}),
]


# ---- texts ----

def make_texts(n, seed):
    """Of 1 word to some contexts, with some that are no English."""
    rng = random.Random(seed)
    with open(os.path.join(HERE, "../tools/demo/human.jsonl"), encoding="utf-8") as f:
        words = " ".join(json.loads(line)["text"] for line in f).split(" ")
    others = ["a", "the", "!", "I am", "  ", "\n\n", "ünïcödé", "Съешь же ещё этих мягких французских булок",
              "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。", "1,000,000.00 \u20ac \U0001f680\U0001f680", "<html>\t\t</html>"]
    texts = others[:n // 2]
    while len(texts) < n:
        kind = rng.random()
        length = rng.randint(200, 500) if kind < 0.02 else rng.randint(1, 8) if kind < 0.2 else rng.randint(9, 60)
        start = rng.randrange(len(words) - length)
        texts.append(" ".join(words[start:start + length]))
    return texts


# ---- what is to be found ----

def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0]


def dot(a, b):
    return torch.einsum("tv,tv->t", a, b)


def of_rows(p, q, targets):
    """Of each row of logits p [T, V] and q; float64. targets [T], the last may be -1: there is none."""
    at = p.gather(1, targets.clamp(min=0)[:, None])
    slack = TIE * p.abs().amax(1, keepdim=True)
    ln_p, ln_q = torch.log_softmax(p.double(), 1), torch.log_softmax(q.double(), 1)
    of_p, of_q, square = ln_p.exp(), ln_q.exp(), ln_p * ln_p
    entropy, cross = -dot(of_p, ln_p), -dot(of_q, ln_p)
    return {
        "logprob": ln_p.gather(1, targets.clamp(min=0)[:, None])[:, 0],
        "rank": 1 + (p > at).sum(1), "least": 1 + (p > at + slack).sum(1), "most": (p >= at - slack).sum(1),
        "entropy": entropy, "variance": dot(of_p, square) - entropy ** 2,
        "cross": cross, "cross_variance": dot(of_q, square) - cross ** 2, "back": -dot(of_p, ln_q),
    }


def begins(positions, context, stride):
    """The positions at which windows begin: as many as it takes to have them all."""
    at = [0]
    while at[-1] + context < positions:
        at.append(at[-1] + stride)
    return at


def of_text(models, ids, context, stride):
    """Of all positions of a text, that behind the last token included, from the first window that has it."""
    parts, done = [], 0
    targets = torch.tensor([*ids[1:], -1])
    for begin in begins(len(ids), context, stride):
        window = ids[begin:begin + context]
        p, q = (logits_of(m, window) for m in models)
        for row in range(done - begin, len(window), ROWS):
            rows = slice(row, row + ROWS)
            parts.append(of_rows(p[rows], q[rows], targets[begin:begin + len(window)][rows]))
        done = begin + len(window)
    return {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}


def ratio(a, b):
    return a / b if b > 0 else None


def measures(found, n, behind, ranks):
    """The measures of n scored tokens, by the formulas of host/likelihood.h."""
    total = found["logprob"][:n].sum()
    mean = lambda key: found[key][:n + behind].mean()
    log_ranks = np.log(ranks[:n]).sum()
    return {
        "tokens": n, "logprob": total, "mean_logprob": total / n, "ppl": np.exp(-total / n),
        "mean_rank": ranks[:n].mean(), "mean_logrank": log_ranks / n, "entropy": mean("entropy"),
        "lrr": ratio(-total, log_ranks),
        "fast_detect": ratio(total + found["entropy"][:n].sum(), np.sqrt(found["variance"][:n].sum())),
        "binoculars": -total / n / mean("cross"), "binoculars_paper": -total / n / mean("back"),
        "fast_detect_observer": ratio(total + found["cross"][:n].sum(), np.sqrt(found["cross_variance"][:n].sum())),
    }


# ---- the papers, taken literally ----

def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(logits):
    d = logits - logits.max(-1, keepdims=True)
    return d - np.log(np.exp(d).sum(-1, keepdims=True))


def binoculars_of_paper(m1, m2, ids):
    """Hans et al. 2024, equations 2 to 4: log-perplexity by M1 over cross-perplexity, the mean of M1(s)_i . log M2(s)_i.
    Rows of logits before ids[1:]."""
    Y, length = softmax(m1), len(ids) - 1
    log_ppl = -sum(np.log(Y[i, ids[i + 1]]) for i in range(length)) / length
    log_x_ppl = -sum(Y[i] @ np.log(softmax(m2[i])) for i in range(length)) / length
    return log_ppl / log_x_ppl


def binoculars_of_code(performer, observer, ids):
    """As metrics.py of the release goes about it, in the models' float32: the perplexity is of shifted logits, the cross
    entropy of all T rows, the last too."""
    mask = np.ones(len(ids), np.float32)
    ce = -log_softmax(performer[:-1])[np.arange(len(ids) - 1), ids[1:]]
    ppl = (ce * mask[1:]).sum() / mask[1:].sum()
    ce = -(softmax(observer) * log_softmax(performer)).sum(-1)
    x_ppl = (ce * mask).sum() / mask.sum()
    return ppl / x_ppl


def fast_detect_of_paper(scoring, reference, ids):
    """Bao et al. 2024, equations 2 to 5: (log p(x) - mu) / sigma of samples from q, token by token; sigma^2 by its
    definition, the mean squared distance from mu."""
    log_p, q = log_softmax(scoring[:-1]), softmax(reference[:-1])
    mu = (q * log_p).sum(-1)
    sigma2 = (q * (log_p - mu[:, None]) ** 2).sum(-1)
    return (log_p[np.arange(len(ids) - 1), ids[1:]].sum() - mu.sum()) / np.sqrt(sigma2.sum())


def fast_detect_of_code(scoring, reference, ids):
    """As get_sampling_discrepancy_analytic() goes about it, in the models' float32."""
    lprobs_score, probs_ref = log_softmax(scoring[:-1]), softmax(reference[:-1])
    log_likelihood = lprobs_score[np.arange(len(ids) - 1), ids[1:]]
    mean_ref = (probs_ref * lprobs_score).sum(-1)
    var_ref = (probs_ref * np.square(lprobs_score)).sum(-1) - np.square(mean_ref)
    return (log_likelihood.sum(-1) - mean_ref.sum(-1)) / np.sqrt(var_ref.sum(-1))


def literal(models, ids, behind):
    """(field of the result, formula, value) of a text that fits the context: by the code where what is behind the last
    token counts, else by the paper."""
    p, q = (logits_of(m, ids).numpy() for m in models)
    if behind:
        yield "fast_detect", "Fast-DetectGPT, code, one model", fast_detect_of_code(p, p, ids)
        yield "fast_detect_observer", "Fast-DetectGPT, code, two models", fast_detect_of_code(p, q, ids)
        yield "binoculars", "Binoculars, code (--entropy all)", binoculars_of_code(p, q, ids)
    else:
        p, q = p.astype(np.float64), q.astype(np.float64)
        yield "fast_detect", "Fast-DetectGPT, paper, one model", fast_detect_of_paper(p, p, ids)
        yield "fast_detect_observer", "Fast-DetectGPT, paper, two models", fast_detect_of_paper(p, q, ids)
        yield "binoculars_paper", "Binoculars, paper (--entropy scored)", binoculars_of_paper(p, q, ids)


# ---- comparing ----

class Report:
    def __init__(self):
        self.worst, self.strictly, self.problems, self.tokens, self.other_ranks = {}, {}, [], 0, 0

    def number(self, name, ours, theirs, where, also=()):
        """One of theirs and also must be met; those may lie on either side of ours."""
        values = [theirs, *also]
        if ours is None or None in values:
            if ours is not None or None not in values:
                self.problem(f"{name}: {ours}, want {values}", where)
            return
        low, high = min(values), max(values)
        apart = max(low - ours, ours - high, 0.0)
        least = 1.0 if name.lower().startswith("fast") else 1e-300
        off = apart / max(abs(theirs), least)
        self.worst[name] = max(self.worst.get(name, 0.0), off)
        if least == 1.0 and abs(theirs) < 1:
            self.strictly[name] = max(self.strictly.get(name, 0.0), apart / abs(theirs))
        if not off <= BAR:
            self.problem(f"{name}: {ours}, want {theirs}", where)

    def problem(self, what, where):
        self.problems.append(f"{where}: {what}")

    def finish(self):
        print(f"{self.tokens} tokens, {self.other_ranks} of another rank, each within a tie")
        for name, off in self.worst.items():
            strictly = f", {self.strictly[name]:.1e} of itself" if name in self.strictly else ""
            print(f"  {name:38s} {off:.1e}{strictly}")
        for problem in self.problems[:20]:
            print(f"NOT AS ASKED: {problem}")
        if len(self.problems) > 20:
            print(f"... {len(self.problems) - 20} more")
        return not self.problems


def compare_tokens(report, got, found, ids, n, where):
    per = got["per_token"]
    if per["ids"] != ids[1:]:
        report.problem(f"other tokens: {per['ids'][:8]}..., want {ids[1:9]}...", where)
        return
    ranks = np.array(per["rank"])
    report.tokens += n
    report.other_ranks += int((ranks != found["rank"][:n]).sum())
    if ((ranks < found["least"][:n]) | (ranks > found["most"][:n])).any():
        report.problem("a rank beyond a tie", where)
    for key in ("logprob", "entropy", "cross"):
        off = np.abs(np.array(per[key]) / found[key][:n] - 1).max()
        report.worst[f"{key} of a token"] = max(report.worst.get(f"{key} of a token", 0.0), off)
        if not off <= BAR:
            report.problem(f"{key} of a token", where)


def buckets(ranks, base):
    return [int(c) for c in np.bincount(np.searchsorted(EDGES, ranks - 1 + base, side="left"), minlength=4)]


def compare(report, got, models, ids, context, stride, setting, known, where):
    """known: what of_text found about such ids under other settings."""
    behind, cut = setting["entropy"] == "all", stride == 0 and len(ids) > context
    ids = ids[:context] if cut else ids
    n, key = len(ids) - 1, (tuple(ids), stride)
    found = known[key] = known[key] if key in known else of_text(models, ids, context, stride)
    compare_tokens(report, got, found, ids, n, where)
    want = measures(found, n, behind, found["rank"].astype(float))
    sides = [measures(found, n, behind, found[key].astype(float)) for key in ("least", "most")]
    for name, value in want.items():
        also = [side[name] for side in sides] if name in ("mean_rank", "mean_logrank", "lrr") else []
        report.number(name, got[name], value, where, also)
    if len(begins(n + behind, context, stride)) != got["windows"]:
        report.problem(f"{got['windows']} windows", where)
    # counted by hand from the ranks that were compared above
    if got["gltr"] != buckets(np.array(got["per_token"]["rank"]), setting["gltr-buckets"] == "top10"):
        report.problem(f"gltr {got['gltr']}", where)
    if setting["bos"] == "no" and len(ids) <= context:
        for field, name, value in literal(models, ids, behind):
            report.number(name, got[field], float(value), where)


# ---- the program ----

def run(o, folders, texts, setting, observer, scratch):
    """Results and errors by id."""
    given, out = os.path.join(scratch, "texts.jsonl"), os.path.join(scratch, "scored.jsonl")
    with open(given, "w", encoding="utf-8") as f:
        for number, text in texts.items():
            f.write(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n")
    options = [word for key, value in setting.items() for word in (f"--{key}", value)]
    second = ["--observer", folders["observer"]] if observer else []
    done = subprocess.run([o.tandem, "score", "--model", folders["model"], *second, *options, "--per-token", "--quiet",
                           "--max-errors", str(len(texts)), "--restart", "--out", out, given])
    if done.returncode not in (0, 3):
        sys.exit(f"tandem score ended with {done.returncode}")
    errors = {}
    if os.path.exists(out + ".errors.jsonl"):
        with open(out + ".errors.jsonl", encoding="utf-8") as f:
            errors = {e["id"]: e for e in map(json.loads, f)}
    with open(out, encoding="utf-8") as f:
        lines = f.readlines()
    return {json.loads(line)["id"]: line for line in lines}, errors


def check_alone(report, o, folders, texts, setting, with_observer, scratch):
    """Without an observer the same fields have the same bytes."""
    lines, _ = run(o, folders, texts, setting, False, scratch)
    for number, line in lines.items():
        both, alone = json.loads(with_observer[number], parse_float=str), json.loads(line, parse_float=str)
        for fields in (both, both["per_token"]):
            for key in ("binoculars", "binoculars_paper", "fast_detect_observer", "cross"):
                fields.pop(key, None)
        if both != alone:
            report.problem("other results without an observer", f"text {number}")


def make_folders(o, scratch):
    if o.model:
        return {"model": o.model, "observer": o.observer}
    folders = {kind: os.path.join(scratch, kind) for kind in MODELS}
    for kind, options in MODELS.items():
        subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"), *options.split(), "--vocab-from",
                        o.vocab_from, folders[kind]], check=True, stdout=subprocess.DEVNULL)
    return folders


def load(folders):
    first = lambda folder, *names: next(path for name in names if os.path.exists(path := os.path.join(folder, name)))
    tokenizer = GPT2TokenizerFast(vocab=first(folders["model"], "vocab.json", "encoder.json"),
                                  merges=first(folders["model"], "merges.txt", "vocab.bpe"))
    models = [GPT2LMHeadModel.from_pretrained(folders[kind], dtype=torch.float32, attn_implementation="eager").eval()
              for kind in ("model", "observer")]
    return tokenizer, models


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--tandem", default="build/tandem")
    p.add_argument("--vocab-from", metavar="DIR")
    p.add_argument("--model", metavar="DIR")
    p.add_argument("--observer", metavar="DIR")
    p.add_argument("--texts", type=int, default=500)
    p.add_argument("--settings", type=int, default=len(SETTINGS), help="only the first N conventions")
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    if not (o.model and o.observer) and not o.vocab_from:
        p.error("want --vocab-from, or --model and --observer")
    return o


def main():
    o = options()
    transformers.logging.disable_progress_bar()
    report, known, texts = Report(), {}, dict(enumerate(make_texts(o.texts, o.seed)))
    with tempfile.TemporaryDirectory() as scratch:
        folders = make_folders(o, scratch)
        tokenizer, models = load(folders)
        context, eos = models[0].config.n_positions, models[0].config.eos_token_id
        ids = {number: tokenizer(text)["input_ids"] for number, text in texts.items()}
        for which, setting in SETTINGS[:o.settings]:
            chosen = {i: t for i, t in texts.items() if which == "all" or len(ids[i]) > context}
            stride = int(setting.get("stride", (context + 1) // 2))
            lines, errors = run(o, folders, chosen, setting, True, scratch)
            name = " ".join(f"--{key} {value}" for key, value in setting.items())
            for i in chosen:
                given = [eos] * (setting["bos"] == "yes") + ids[i]
                if len(given) < 2:
                    if i in lines or errors.get(i, {}).get("class") != "too-short":
                        report.problem("want an error of class too-short", f"text {i}, {name}")
                elif i not in lines:
                    report.problem(f"no result: {errors.get(i)}", f"text {i}, {name}")
                else:
                    compare(report, json.loads(lines[i]), models, given, context, stride, setting, known,
                            f"text {i}, {name}")
            print(f"{name}: {len(lines)} results, {len(errors)} errors, {len(report.problems)} problems so far", flush=True)
        check_alone(report, o, folders, chosen, setting, lines, scratch)
    return report.finish()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
