#!/usr/bin/env python3
"""Time tandem, tiktoken and HF tokenizers on the same text in the same run, and check the ids.

  python3 tools/compare_tokenizers.py --tandem build/tandem --data ../shared/data/gpt2 texts/*.txt

--data holds vocab.bpe and encoder.json (GPT-2). The text is cut into documents as `tandem bench
tokenizer` cuts it, and must be UTF-8. Each library runs with one thread and with all cores. The
others get the documents as Python strings and give lists of Python ints, as they are used; tandem
gets bytes and gives arrays. Exit code 1 when the ids differ. Needs numpy, tiktoken, tokenizers.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import time

DOCUMENT_BYTES = 16384  # as in tools/bench_tokenizer.c
# GPT-2's pattern, possessive as tiktoken prefers it; the matches are the same.
PATTERN = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")


def cut_documents(data):
    at = 0
    while at < len(data):
        end = len(data)
        if end - at > DOCUMENT_BYTES:
            end = data.find(b"\n", at + DOCUMENT_BYTES) + 1 or len(data)
        yield data[at:end].decode()
        at = end


def hash_ids(all_ids):
    """hash_id of tools/bench_tokenizer.c, summed."""
    import numpy as np
    total = 0
    for document, ids in enumerate(all_ids):
        x = (np.uint64(document << 32) | np.arange(len(ids), dtype=np.uint64)) + np.uint64(1)
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.asarray(ids, dtype=np.uint64)
        x = (x ^ x >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
        total += int((x ^ x >> np.uint64(33)).sum(dtype=np.uint64))
    return f"{total % 2 ** 64:016x}"


def symbol_bytes():
    """How vocab.bpe writes bytes: {character: byte}."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def open_tiktoken(data):
    import tiktoken
    of = symbol_bytes()
    with open(os.path.join(data, "encoder.json"), encoding="utf-8") as f:
        ranks = {bytes(of[c] for c in token): i for token, i in json.load(f).items()
                 if token != "<|endoftext|>"}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": 50256})


def open_hf(data):
    from tokenizers import Tokenizer, models, pre_tokenizers
    hf = Tokenizer(models.BPE.from_file(os.path.join(data, "encoder.json"),
                                        os.path.join(data, "vocab.bpe")))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return hf


def run_others(name, threads, data, files):
    """In a process of its own, so that the number of threads can be set; prints seconds and hash."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    documents = []
    for path in files:
        with open(path, "rb") as f:
            documents += cut_documents(f.read())
    if name == "tiktoken":
        encoding = open_tiktoken(data)
        start = time.perf_counter()
        ids = (encoding.encode_ordinary_batch(documents, num_threads=threads) if threads > 1
               else [encoding.encode_ordinary(d) for d in documents])
    else:
        hf = open_hf(data)
        start = time.perf_counter()
        ids = [e.ids for e in hf.encode_batch_fast(documents, add_special_tokens=False)]
    print(time.perf_counter() - start, hash_ids(ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default="build/tandem")
    parser.add_argument("--data", default="../shared/data/gpt2")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    if options.run:
        return run_others(options.run, options.threads, options.data, options.files)

    size = sum(os.path.getsize(path) for path in options.files)
    rows, hashes = [], {}
    for name in ("tiktoken", "tokenizers"):
        for threads in sorted({1, options.threads}):
            words = subprocess.run(
                [sys.executable, __file__, "--run", name, "--threads", str(threads), "--data",
                 options.data, *options.files], check=True, capture_output=True, text=True).stdout.split()
            rows.append((name, "", threads, float(words[0])))
            hashes[f"{name}, {threads} threads"] = words[1]
    bench = subprocess.run(
        [options.tandem, "bench", "tokenizer", "--csv", "--threads", str(options.threads), "--merges",
         os.path.join(options.data, "vocab.bpe"), *options.files],
        check=True, capture_output=True, text=True).stdout.splitlines()
    for row in csv.DictReader(line for line in bench if not line.startswith("#")):
        rows.append(("tandem", row["pass"], int(row["threads"]), float(row["seconds"])))
    hashes["tandem"] = bench[-1].split()[-1]

    base = {threads: seconds for name, _, threads, seconds in rows if name == "tiktoken"}
    print(f"{size / 1e6:.1f} MB of text")
    print(f"{'library':<12}{'pass':<6}{'threads':>7}{'seconds':>10}{'MB/s':>9}{'x tiktoken':>12}")
    for name, kind, threads, seconds in rows:
        print(f"{name:<12}{kind:<6}{threads:>7}{seconds:>10.3f}{size / seconds / 1e6:>9.1f}"
              f"{base[threads] / seconds:>12.1f}")
    same = len(set(hashes.values())) == 1
    print("all ids agree" if same else f"IDS DIFFER: {hashes}", "hash", hashes["tandem"])
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
