"""Speed of tandem detect beside transformers: the same texts, f32, all cores, in turn.

    python3 tools/compare_hf_detect.py --tandem build/tandem --model DIR --texts 256

DIR holds a detector with its vocabulary; tests/random_checkpoint.py makes one of the real shape.
Texts of 1 to 510 tokens, every length as likely as any other. transformers gets batches of texts
sorted by length and padded, of each size in --batches, and its best one counts. Time is from text
to probabilities, without loading; so are the CPU seconds, which tell more than the clock on a machine
that others use too; memory is the peak of the whole process. Rounds alternate, so that what else runs
on the machine hits both. Needs torch and transformers.
"""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--tandem", default="build/tandem")
    p.add_argument("--model", required=True)
    p.add_argument("--texts", type=int, default=256)
    p.add_argument("--batches", default="1,4,8,16,32")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    return p.parse_args()


def make_texts(o, path):
    """Words of the vocabulary that stay one token when they are joined by spaces."""
    with open(os.path.join(o.model, "vocab.json"), encoding="utf-8") as f:
        words = sorted(t[1:] for t in json.load(f) if t[0] == "\u0120" and t[1:].isascii()
                       and t[1:].isalpha() and t[1:].islower())
    rng = random.Random(o.seed)
    with open(path, "w", encoding="utf-8") as f:
        for i in range(o.texts):
            text = " ".join(rng.choice(words) for _ in range(rng.randint(1, 510)))
            f.write(json.dumps({"id": i, "text": text}) + "\n")


def run_tandem(o, path, out):
    child = subprocess.Popen([o.tandem, "detect", "--model", o.model, "--device", "cpu", "--threads",
                              str(o.threads), "--preprocess", "hf", "--json", "--quiet", "--out", out,
                              path], stdout=subprocess.PIPE)
    summary = json.loads(child.stdout.read())
    usage = os.wait4(child.pid, 0)[2]
    with open(out, encoding="utf-8") as f:
        records = [json.loads(line) for line in f]
    return {"seconds": summary["seconds"], "tokens": summary["tokens"],
            "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024,
            "fake": [r["fake"] for r in records]}


def worker(o):
    """One process of transformers, one batch size: prints what run_tandem returns."""
    import torch
    import transformers
    from transformers import RobertaForSequenceClassification, RobertaTokenizer
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(o.threads)
    tokenizer = RobertaTokenizer.from_pretrained(o.model)
    model = RobertaForSequenceClassification.from_pretrained(o.model, dtype=torch.float32).eval()
    size = int(o.batches)
    with open(o.worker, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    fake, tokens = [0.0] * len(texts), 0
    with torch.inference_mode():
        model(**tokenizer(["warm up"], return_tensors="pt"))
        start, cpu = time.monotonic(), time.process_time()
        encoded = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
        order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
        for at in range(0, len(order), size):
            batch = order[at:at + size]
            tokens += sum(len(encoded[i]) for i in batch)
            padded = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt")
            for i, p in zip(batch, torch.softmax(model(**padded).logits, -1)):
                fake[i] = float(p[0])
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "tokens": tokens, "cpu": cpu, "mib": mib, "fake": fake}))


def run_transformers(o, path, batch):
    done = subprocess.run([sys.executable, __file__, "--model", o.model, "--threads", str(o.threads),
                           "--batches", batch, "--worker", path], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(name, runs, best=None):
    seconds = statistics.median(r["seconds"] for r in runs)
    cpu = statistics.median(r["cpu"] for r in runs)
    texts, tokens = len(runs[0]["fake"]), runs[0]["tokens"]
    ratio = f"; best transformers / tandem: {best[0] / seconds:.2f}, CPU {best[1] / cpu:.2f}" if best else ""
    print(f"{name:22s} {seconds:8.2f} s {texts / seconds:7.2f} texts/s {tokens / seconds:8.0f} tokens/s"
          f"  CPU {cpu:7.2f} s  peak {max(r['mib'] for r in runs):6.0f} MiB{ratio}", flush=True)
    return seconds, cpu


def main():
    o = options()
    if o.worker:
        worker(o)
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "texts.jsonl")
        make_texts(o, path)
        loading = run_tandem(o, os.devnull, os.path.join(scratch, "none"))["cpu"]
        ours, theirs = [], {b: [] for b in o.batches.split(",")}
        for _ in range(o.rounds):
            ours.append(run_tandem(o, path, path + ".out"))
            for b in theirs:
                theirs[b].append(run_transformers(o, path, b))
            ours.append(run_tandem(o, path, path + ".out"))
    for r in ours:
        r["cpu"] -= loading
    print(f"{o.texts} texts, {ours[0]['tokens']} tokens, {o.threads} threads, f32; medians of "
          f"{o.rounds} rounds ({2 * o.rounds} for tandem)")
    rows = [report(f"transformers batch {b}", runs) for b, runs in theirs.items()]
    best = min(seconds for seconds, _ in rows), min(cpu for _, cpu in rows)
    report("tandem", ours, best)
    worst = max(abs(a - b) for a, b in zip(ours[0]["fake"], next(iter(theirs.values()))[0]["fake"]))
    print(f"largest difference of probability {worst:.2e}")


if __name__ == "__main__":
    main()
