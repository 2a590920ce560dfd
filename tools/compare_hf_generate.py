"""Speed of tandem generate beside transformers: the same model, f32, all cores, in turn.

    python3 tests/random_checkpoint.py --size 124M --vocab-from VOCABULARY /tmp/model
    python3 tools/compare_hf_generate.py --tandem build/tandem --model /tmp/model

Both write --n documents of --length tokens from <|endoftext|>, drawn at temperature 1 without cuts.
transformers is told not to end before that; random weights end a text once in 50257 tokens, so
tandem does the same work (the tokens are counted). transformers gets each batch size in --batches,
and its best one counts. Time is without loading; memory is the peak of the whole process. Rounds
alternate, so that what else runs on the machine hits both. Needs torch and transformers.
"""
import argparse
import json
import os
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
    p.add_argument("--n", type=int, default=64)
    p.add_argument("--length", type=int, default=128)
    p.add_argument("--batches", default="16,32,64")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return p.parse_args()


def run_tandem(o):
    with tempfile.TemporaryDirectory() as scratch:
        child = subprocess.Popen([o.tandem, "generate", "--model", o.model, "--device", "cpu",
                                  "--threads", str(o.threads), "--n", str(o.n), "--length",
                                  str(o.length), "--json", "--quiet", "--out",
                                  os.path.join(scratch, "out.jsonl")], stdout=subprocess.PIPE)
        summary = json.loads(child.stdout.read())
        usage = os.wait4(child.pid, 0)[2]
    return {"seconds": summary["seconds"], "tokens": summary["tokens"],
            "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


def worker(o):
    """One process of transformers, one batch size: prints what run_tandem returns."""
    import torch
    import transformers
    from transformers import GPT2LMHeadModel
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel.from_pretrained(o.model, dtype=torch.float32).eval()
    size, tokens = int(o.batches), 0
    how = {"do_sample": True, "top_k": 0, "pad_token_id": model.config.eos_token_id}
    with torch.inference_mode():
        model.generate(torch.full((1, 1), model.config.eos_token_id), max_new_tokens=2, **how)
        start = time.monotonic()
        for at in range(0, o.n, size):
            begin = torch.full((min(size, o.n - at), 1), model.config.eos_token_id)
            ids = model.generate(begin, min_new_tokens=o.length, max_new_tokens=o.length,
                                 attention_mask=torch.ones_like(begin), **how)
            tokens += ids.shape[0] * (ids.shape[1] - 1)
        seconds = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "tokens": tokens, "cpu": usage.ru_utime + usage.ru_stime,
                      "mib": usage.ru_maxrss / 1024}))


def run_transformers(o, batch):
    done = subprocess.run([sys.executable, __file__, "--model", o.model, "--threads", str(o.threads),
                           "--n", str(o.n), "--length", str(o.length), "--batches", batch,
                           "--worker"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(name, runs, best=None):
    rate = statistics.median(r["tokens"] / r["seconds"] for r in runs)
    cpu = statistics.median(r["cpu"] for r in runs)
    ratio = f", {rate / best:5.2f} of the best transformers" if best else ""
    print(f"{name:22s} {rate:8.1f} tokens/s  {cpu:7.1f} s of CPU with loading"
          f"  peak {max(r['mib'] for r in runs):6.0f} MiB{ratio}", flush=True)
    return rate


def main():
    o = options()
    if o.worker:
        worker(o)
        return
    ours, theirs = [], {b: [] for b in o.batches.split(",")}
    for _ in range(o.rounds):
        ours.append(run_tandem(o))
        for b in theirs:
            theirs[b].append(run_transformers(o, b))
        ours.append(run_tandem(o))
    print(f"{o.n} documents of {o.length} tokens ({ours[0]['tokens']} written by tandem), {o.threads} "
          f"threads, f32; medians of {o.rounds} rounds ({2 * o.rounds} for tandem)")
    best = max(report(f"transformers batch {b}", runs) for b, runs in theirs.items())
    report("tandem", ours, best)


if __name__ == "__main__":
    main()
