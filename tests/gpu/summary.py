"""What run.sh measured, beside what is asked for.

    python3 tests/gpu/summary.py LOGS          # tables from LOGS/*.jsonl
    python3 tests/gpu/summary.py --profile CSV # kernels of an ncu log by their share of the time
"""
import collections
import csv
import glob
import json
import os
import sys

# step, what, field, unit, at least, aim
WANTED = (
    ("generate_bulk", "generate 1558M, 1024 tokens, bulk", "tokens_s", "tokens/s", 19500, 21000),
    ("generate_steady", "the same, twice as many documents", "tokens_s", "tokens/s", 19500, 21000),
    ("generate_tuned", "as many, after tuning", "tokens_s", "tokens/s", 19500, 21000),
    ("generate_one", "generate 1558M, batch 1", "tokens_s", "tokens/s", 550, 830),
    ("generate_one_tuned", "the same, after tuning", "tokens_s", "tokens/s", 550, 830),
    ("generate_124M", "generate 124M, bulk", "tokens_s", "tokens/s", None, None),
    ("detect_large", "detect large, 512 tokens", "texts_s", "texts/s", 1500, 1670),
    ("detect_tuned", "the same, after tuning", "texts_s", "texts/s", 1500, 1670),
    ("detect_base", "detect base, 512 tokens", "texts_s", "texts/s", 4900, 5550),
    ("score", "score 1558M, 1024 tokens", "tokens_s", "tokens/s", 160000, 188000),
    ("score_tuned", "the same, after tuning", "tokens_s", "tokens/s", 160000, 188000),
    ("load", "load 1558M (best round)", "gb_s", "GB/s", None, None),
)


SMALL = os.environ.get("TDM_GPU_SMALL") == "1"


def rows(logs, step):
    path = os.path.join(logs, step + ".jsonl")
    if not os.path.exists(path):
        return [], {}
    objects = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            try:
                objects.append(json.loads(line))
            except ValueError:
                break  # the step was stopped in the middle of a line
    machine = next((o for o in objects if o.get("bench") == "machine"), {})
    return [o for o in objects if o.get("bench") != "machine"], machine


def show(value, digits=1):
    return "-" if value is None else f"{value:,.{digits}f}"


def jobs(logs):
    print(f"{'job':36s} {'measured':>12s} {'unit':9s} {'share':>6s} {'at least':>9s} {'aim':>9s}  hash, texts at once")
    for step, what, field, unit, least, aim in WANTED:
        found = [r for r in rows(logs, step)[0] if r.get(field) is not None]
        if not found:
            print(f"{what:36s} {'not measured':>12s} {unit:9s} {'':6s} {show(least, 0):>9s} {show(aim, 0):>9s}")
            continue
        best = max(found, key=lambda r: r[field])
        mark = "" if least is None or SMALL else "  reached" if best[field] >= least else "  MISSED"
        at_once = f", {show(best['mean_batch'])}" if best.get("mean_batch") else ""
        print(f"{what:36s} {show(best[field]):>12s} {unit:9s} {show(best.get('share'), 3):>6s} "
              f"{show(least, 0):>9s} {show(aim, 0):>9s}  {best.get('hash', '')}{at_once}{mark}")


def kernels(logs):
    found, _ = rows(logs, "kernels")
    if found:
        print("\nkernels: share of the ceiling")
    for r in found:
        print(f"  {r['op']:14s} {r['variant']:14s} {r['shape']:6s} {show(r['median_us'], 2):>12s} us  "
              f"{show(r['gbytes']):>8s} GB/s {show(r['gflops'], 0):>9s} GFLOP/s  {show(r['share'], 3)}")


def ranks(logs):
    found, _ = rows(logs, "ranks_one")
    if found:
        print("\na decoding step alone and as one rank of one (--tp goes that way)")
    for r in found:
        print(f"  {r['model']:6s} {r['texts']:4d} texts  {show(r['plain_us'], 2):>10s} us  {show(r['one_rank_us'], 2):>10s} us  "
              f"x {show(r['ratio'], 3)}  bits {'equal' if r['same_bits'] else 'DIFFER'}")
    found = rows(logs, "ranks")[0] + rows(logs, "tp")[0]
    if found:
        print("\nwhat ranks do together")
    for r in found:
        print(f"  {r['ranks']} of {r['op']:8s} {r['shape']:6s} {r['rows']:5d} x {r['cols']:5d}  "
              f"{show(r['median_us'], 2):>10s} us  {show(r['gb_s']):>8s} GB/s received")


def comparisons(logs):
    for path in sorted(glob.glob(os.path.join(logs, "compare-*.json"))):
        with open(path, encoding="utf-8") as f:
            c = json.load(f)
        print(f"\ncompare {', '.join(c['options']['jobs'])}: peers on {c['peer']}, torch {c['torch']}, "
              f"transformers {c['transformers']}")
        for r in c["rows"]:
            figure = f"{show(r['rate'])} {r['unit']}" if "rate" in r else r["failed"]
            print(f"  {r['job']:16s} {r['who']:13s} {r['setting']:24s} {figure}")
        for a in c["agreement"]:
            more = "".join(f", {k} {v:g}" for k, v in a.items() if k not in ("what", "mean", "max"))
            print(f"  {a['what']}: mean {a['mean']:.2e}, max {a['max']:.2e}{more}")
        for problem in c["problems"]:
            print(f"  NOT AS ASKED: {problem}")


def profile(path):
    """Seconds, calls and rates by kernel."""
    with open(path, encoding="utf-8", errors="replace") as f:
        lines = [line for line in f if line.startswith('"')]
    time, calls = collections.Counter(), collections.Counter()
    rates = collections.defaultdict(list)
    for r in csv.DictReader(lines):
        name, metric = r["Kernel Name"].split("(")[0][:60], r["Metric Name"]
        try:
            value = float(r["Metric Value"].replace(",", ""))
        except ValueError:
            continue
        if metric == "gpu__time_duration.sum":
            time[name] += value
            calls[name] += 1
        else:
            rates[name, metric, r["Metric Unit"]].append(value)
    total = sum(time.values()) or 1
    for name, t in time.most_common(25):
        more = ", ".join(f"{sum(v) / len(v):.1f} {unit}" for (n, _, unit), v in rates.items() if n == name)
        print(f"{100 * t / total:5.1f} %  {calls[name]:4d} calls  {t / calls[name]:12.1f} each  {name}  {more}")


def main():
    if sys.argv[1] == "--profile":
        profile(sys.argv[2])
        return
    logs = sys.argv[1]
    _, machine = rows(logs, "ceilings")
    if machine:
        print(f"{machine['device']}, {machine['dtype']}: product {show(machine['gflop_s'])} GFLOP/s, "
              f"read {show(machine['read_gb_s'])} GB/s, copy {show(machine['copy_gb_s'])} GB/s\n")
    if SMALL:
        print("tiny models on what may be no GPU at all: this shows that the steps work, and no speed\n")
    jobs(logs)
    kernels(logs)
    ranks(logs)
    comparisons(logs)


if __name__ == "__main__":
    main()
