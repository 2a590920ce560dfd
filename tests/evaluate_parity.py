"""Compare host/evaluate.h with scikit-learn, NumPy and SciPy.

    python3 tests/evaluate_parity.py --build build-cpu            # agreement
    python3 tests/evaluate_parity.py --build build-cpu --speed    # and seconds beside scikit-learn, same arrays

Random sets of 2 to 3,000 scores: with and without ties, constant, tiny, unbalanced, huge and subnormal, of one class, with
NaN and infinities. Needs scikit-learn, scipy, numpy, and libtandem.a from a build folder (c_library.py). Exits with 1
when a bar is missed:
  values     each |difference| to scikit-learn <= 1e-12; thresholds and points of the ROC curve equal; FPR never above target
  refused    what scikit-learn cannot judge either is refused, with the index of the score that is no number
  bootstrap  intervals against NumPy with the same draws, each replicate judged by scikit-learn: <= 1e-12
  and against scipy.stats.bootstrap (percentile, draws of its own): <= 4 standard errors of both intervals' ends
"""
import argparse
import ctypes as C
import sys
import tempfile
import time
import warnings

import numpy as np
import scipy.stats
import sklearn
from sklearn import metrics

from c_library import Err, open_library

BAR = 1e-12
FPRS = [0, 0.001, 0.01, 0.05, 0.1, 1 / 3, 0.5, 1]
F64, I64 = C.c_double, C.c_int64


class Scored(C.Structure):
    _fields_ = [("scores", C.c_void_p), ("machine", C.c_void_p), ("wanted", C.c_void_p), ("n", C.c_size_t)]


class Options(C.Structure):
    _fields_ = [("threshold", F64), ("fprs", F64 * 8), ("n_fprs", C.c_int)]


class Point(C.Structure):
    _fields_ = [("threshold", F64), ("tpr", F64), ("fpr", F64)]


class RocPoint(C.Structure):
    _fields_ = [("threshold", F64), ("fpr", F64), ("tpr", F64)]


class Values(C.Structure):
    _fields_ = [(n, F64) for n in ("auroc", "average_precision", "pr_auc")] + [
        ("confusion", I64 * 4)] + [
        (n, F64) for n in ("accuracy", "balanced_accuracy", "precision", "recall", "f1")] + [("at_fpr", Point * 8)]


class Bootstrap(C.Structure):
    _fields_ = [("replicates", I64), ("seed", C.c_uint64), ("confidence", F64), ("threads", C.c_int), ("stop", C.c_void_p)]


NAMES = ["auroc", "average_precision", "pr_auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1"]


class Intervals(C.Structure):
    _fields_ = [(n, F64 * 2) for n in NAMES] + [("tpr", (F64 * 2) * 8)]


class Bin(C.Structure):
    _fields_ = [("n", I64), ("mean_score", F64), ("machine", F64)]


class Calibration(C.Structure):
    _fields_ = [("bins", Bin * 10), ("ece", F64), ("mce", F64), ("brier", F64)]


class Refused(Exception):
    pass


class Tandem:
    """The calls of host/evaluate.h."""

    def __init__(self, lib):
        self.lib = lib
        lib.tdm_best_threshold.restype = F64
        lib.tdm_roc_curve.restype = C.c_size_t

    def _must(self, status, err):
        if status:
            raise Refused(err.msg.decode())

    def open(self, scores, machine):
        assert scores.dtype == np.float64 and machine.dtype == np.uint8
        err, out = Err(), C.c_void_p()
        given = Scored(scores.ctypes.data, machine.ctypes.data, None, len(scores))
        self._must(self.lib.tdm_ranking_open(C.byref(given), C.byref(out), C.byref(err)), err)
        return out

    def evaluate(self, ranking, threshold):
        values, options = Values(), Options(threshold, (F64 * 8)(*FPRS), 8)
        self.lib.tdm_evaluate(ranking, C.byref(options), C.byref(values))
        return values

    def roc(self, ranking, most):
        points = (RocPoint * most)()
        n = self.lib.tdm_roc_curve(ranking, points, C.c_size_t(most))
        return np.array([(p.threshold, p.fpr, p.tpr) for p in points[:n]]).T

    def bootstrap(self, ranking, threshold, replicates, seed, confidence=0.95):
        err, out, options = Err(), Intervals(), Options(threshold, (F64 * 8)(*FPRS), 8)
        how = Bootstrap(replicates, seed, confidence, 0, None)
        self._must(self.lib.tdm_bootstrap(ranking, C.byref(options), C.byref(how), C.byref(out), C.byref(err)), err)
        return np.array([list(getattr(out, n)) for n in NAMES] + [list(t) for t in out.tpr])

    def calibrate(self, scores, machine):
        err, out = Err(), Calibration()
        given = Scored(scores.ctypes.data, machine.ctypes.data, None, len(scores))
        self._must(self.lib.tdm_calibrate(C.byref(given), C.byref(out), C.byref(err)), err)
        return out


# ---- the same by scikit-learn ----

def reference(scores, machine, threshold):
    """NAMES, then the TPR at each of FPRS; and the operating points as (threshold, tpr, fpr)."""
    called = scores >= threshold
    precision, recall, _ = metrics.precision_recall_curve(machine, scores)
    fpr, tpr, thresholds = metrics.roc_curve(machine, scores, drop_intermediate=False)
    points = []
    for target in FPRS:
        best = tpr[fpr <= target].max()
        at = np.argmax((tpr == best) & (fpr <= target))
        points.append((thresholds[at], best, fpr[at]))
    values = [metrics.roc_auc_score(machine, scores), metrics.average_precision_score(machine, scores),
              metrics.auc(recall, precision), metrics.accuracy_score(machine, called),
              metrics.balanced_accuracy_score(machine, called),
              metrics.precision_score(machine, called, zero_division=0),
              metrics.recall_score(machine, called, zero_division=0),
              metrics.f1_score(machine, called, zero_division=0)]
    return np.array(values + [p[1] for p in points]), points, (fpr, tpr, thresholds)


def philox(counters, key):
    """Philox4x32-10 of [n, 4] counters."""
    c = counters.astype(np.uint64)
    low = np.uint64(0xffffffff)
    k = [key & 0xffffffff, key >> 32]
    for _ in range(10):
        p0, p1 = c[:, 0] * np.uint64(0xD2511F53), c[:, 2] * np.uint64(0xCD9E8D57)
        c = np.stack([(p1 >> np.uint64(32)) ^ c[:, 1] ^ np.uint64(k[0]), p1 & low,
                      (p0 >> np.uint64(32)) ^ c[:, 3] ^ np.uint64(k[1]), p0 & low], 1)
        k = [(k[0] + 0x9E3779B9) & 0xffffffff, (k[1] + 0xBB67AE85) & 0xffffffff]
    return c


def draws(n, which, replicate, seed):
    """The texts, of n of a class in falling order, that a replicate draws."""
    blocks = (n + 1) // 2
    counters = np.zeros((blocks, 4), np.uint64)
    counters[:, 0], counters[:, 1], counters[:, 2] = np.arange(blocks), which, replicate & 0xffffffff
    counters[:, 3] = replicate >> 32
    words = philox(counters, seed).reshape(-1, 2)[:n]
    return np.array([((int(h) << 32 | int(w)) * n) >> 64 for w, h in words])


def reference_bootstrap(scores, machine, threshold, replicates, seed):
    human, made = -np.sort(-scores[machine == 0]), -np.sort(-scores[machine == 1])
    labels = np.repeat([0, 1], [len(human), len(made)])
    rows = [reference(np.concatenate([human[draws(len(human), 0, k, seed)], made[draws(len(made), 1, k, seed)]]),
                      labels, threshold)[0] for k in range(replicates)]
    return np.percentile(np.array(rows), [2.5, 97.5], axis=0).T


# ---- sets ----

def random_set(rng, i):
    """Scores, labels and what is odd about them."""
    kind = ("plain", "ties", "few levels", "constant", "tiny", "unbalanced", "extreme", "saturated", "one class",
            "not finite")[i % 10]
    n = int(rng.integers(2, 6)) if kind == "tiny" else int(rng.integers(10, 3000))
    share = {"unbalanced": float(rng.choice([0.01, 0.99]))}.get(kind, float(rng.uniform(0.1, 0.9)))
    machine = (rng.random(n) < share).astype(np.uint8)
    machine[rng.permutation(n)[:2]] = [0, 1]
    scores = rng.normal(size=n) + machine * rng.uniform(-1, 2)
    if kind in ("ties", "tiny"):
        scores = np.round(scores, 1)
    elif kind == "few levels":
        scores = np.round(scores) * 0.0 + np.round(scores)  # -0 and 0 both
        scores[rng.random(n) < 0.1] = -0.0
    elif kind == "constant":
        scores[:] = scores[0]
    elif kind == "extreme":
        scores = scores * 10.0 ** rng.choice([-320, -300, 300, 307], n)
    elif kind == "saturated":
        scores = (1 / (1 + np.exp(-20 * scores))).astype(np.float32).astype(np.float64)
    elif kind == "one class":
        machine[:] = i // 10 % 2
    elif kind == "not finite":
        scores[rng.integers(0, n)] = rng.choice([np.nan, np.inf, -np.inf])
    return kind, scores, machine


class Worst:
    """The worst difference of each thing that is compared."""

    def __init__(self):
        self.of = {}
        self.good = True

    def see(self, name, difference, bar=BAR):
        self.of[name] = max(self.of.get(name, 0.0), float(difference))
        self.good = self.good and difference <= bar

    def must(self, condition, why):
        if not condition:
            print("FAILED:", why)
            self.good = False

    def say(self, title):
        print(f"{title}: " + "  ".join(f"{k} {v:.1e}" for k, v in self.of.items()) +
              ("  ok" if self.good else "  FAILED"), flush=True)


def expect_refusal(tandem, worst, kind, scores, machine):
    bad = np.flatnonzero(~np.isfinite(scores))
    want = f"score {bad[0]} is " if len(bad) else "none of "
    try:
        tandem.lib.tdm_ranking_close(tandem.open(scores, machine))
        worst.must(False, f"{kind}: not refused")
    except Refused as e:
        worst.must(want in str(e), f"{kind}: {e}")


def compare_set(tandem, worst, scores, machine, threshold):
    want, points, (fpr, tpr, thresholds) = reference(scores, machine, threshold)
    ranking = tandem.open(scores, machine)
    got = tandem.evaluate(ranking, threshold)
    for k, name in enumerate(NAMES):
        worst.see(name, abs(getattr(got, name) - want[k]))
    for target, point, p in zip(FPRS, points, got.at_fpr):
        worst.see("tpr", abs(p.tpr - point[1]))
        worst.see("fpr", abs(p.fpr - point[2]))
        worst.must(p.threshold == point[0], f"threshold {p.threshold} at FPR {target}, want {point[0]}")
        worst.must(np.mean(scores[machine == 0] >= p.threshold) <= target, f"FPR above {target}")
    tn, fp, fn, tp = metrics.confusion_matrix(machine, scores >= threshold, labels=[0, 1]).ravel()
    worst.must(list(got.confusion) == [tp, fn, tn, fp], "confusion")
    best = tandem.lib.tdm_best_threshold(ranking)
    worst.see("best", abs(metrics.balanced_accuracy_score(machine, scores >= best) - ((tpr + 1 - fpr) / 2).max()))
    curve = tandem.roc(ranking, len(scores) + 1)
    worst.must(np.array_equal(curve, np.array([thresholds, fpr, tpr])), "ROC curve")
    tandem.lib.tdm_ranking_close(ranking)


def compare_calibration(tandem, worst, rng, machine):
    p = np.round(rng.random(len(machine)), int(rng.integers(1, 17)))
    got = tandem.calibrate(p, machine)
    worst.see("brier", abs(got.brier - metrics.brier_score_loss(machine, p, pos_label=1, labels=[0, 1])))
    bins = np.minimum((p * 10).astype(int), 9)
    gaps, shares = np.zeros(10), np.bincount(bins, minlength=10) / len(p)
    for b in np.unique(bins):
        gaps[b] = abs(machine[bins == b].mean() - p[bins == b].mean())
        worst.see("bins", abs(got.bins[b].mean_score - p[bins == b].mean()))
        worst.see("bins", abs(got.bins[b].machine - machine[bins == b].mean()))
    worst.see("ece", abs(got.ece - (gaps * shares).sum()))
    worst.see("mce", abs(got.mce - gaps.max()))


def compare_values(tandem, n_sets, seed):
    worst, rng, kinds = Worst(), np.random.default_rng(seed), {}
    for i in range(n_sets):
        kind, scores, machine = random_set(rng, i)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind in ("one class", "not finite"):
            expect_refusal(tandem, worst, kind, scores, machine)
            continue
        compare_set(tandem, worst, scores, machine, float(rng.choice(scores)))
        compare_calibration(tandem, worst, rng, machine)
    worst.say(f"{n_sets} sets ({', '.join(f'{n} {k}' for k, n in kinds.items())})")
    return worst.good


def compare_draws(tandem, n_sets, replicates, seed):
    worst, rng, done = Worst(), np.random.default_rng(seed + 1), 0
    for i in range(10 * n_sets):
        kind, scores, machine = random_set(rng, i)
        if kind in ("one class", "not finite") or done == n_sets:
            continue
        done += 1
        threshold, key = float(rng.choice(scores)), int(rng.integers(0, 2 ** 63))
        ranking = tandem.open(scores, machine)
        got = tandem.bootstrap(ranking, threshold, replicates, key)
        tandem.lib.tdm_ranking_close(ranking)
        want = reference_bootstrap(scores, machine, threshold, replicates, key)
        for k in range(len(got)):
            worst.see(NAMES[k] if k < len(NAMES) else "tpr", np.abs(got[k] - want[k]).max())
    worst.say(f"bootstrap, {done} sets of {replicates} replicates, the same draws")
    return worst.good


def compare_scipy(tandem, seed, resamples=10000):
    worst, rng = Worst(), np.random.default_rng(seed + 2)
    human, made = rng.normal(size=150), rng.normal(size=120) + 0.8
    scores, machine = np.concatenate([human, made]), np.repeat([0, 1], [150, 120]).astype(np.uint8)

    def auroc(h, m, axis=-1):
        ranks = scipy.stats.rankdata(np.concatenate([h, m], axis=axis), axis=axis)[..., h.shape[axis]:]
        n, k = h.shape[axis], m.shape[axis]
        return (ranks.sum(axis=axis) - k * (k + 1) / 2) / (n * k)

    def balanced(h, m, axis=-1):
        return ((h < 0.4).mean(axis=axis) + (m >= 0.4).mean(axis=axis)) / 2

    ranking = tandem.open(scores, machine)
    got = tandem.bootstrap(ranking, 0.4, resamples, 12345)
    tandem.lib.tdm_ranking_close(ranking)
    for name, statistic in (("auroc", auroc), ("balanced_accuracy", balanced)):
        r = scipy.stats.bootstrap((human, made), statistic, n_resamples=resamples, method="percentile", batch=1000,
                                  vectorized=True, rng=np.random.default_rng(seed))
        # of a percentile: sqrt(q (1 - q) / resamples) / density, the density that of a normal; of two: sqrt 2 times that
        error = np.sqrt(2 * 0.025 * 0.975 / resamples) / scipy.stats.norm.pdf(1.96) * r.standard_error
        ends = np.array([r.confidence_interval.low, r.confidence_interval.high])
        grain = 0.5 / 150 + 0.5 / 120 if name == "balanced_accuracy" else 0  # a step of what is counted
        worst.see(name, np.abs(got[NAMES.index(name)] - ends).max() / (error + grain / 4), 4)
    worst.say(f"against scipy.stats.bootstrap, {resamples} replicates, in standard errors")
    return worst.good


# ---- speed ----

def best_of(n, work):
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def compare_speed(tandem, sizes):
    print(f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}; seconds, best of 3")
    print(f"{'scores':>9} {'rounded':>8} {'tandem':>9} {'sklearn':>9} {'times':>6} {'replicate':>10} {'sklearn':>9} "
          f"{'times':>6}")
    for n in sizes:
        for digits in (None, 4):
            rng = np.random.default_rng(n)
            machine = (rng.random(n) < 0.5).astype(np.uint8)
            p = 1 / (1 + np.exp(-rng.normal(size=n) - 0.5 * machine))
            scores = p if digits is None else np.round(p, digits)

            def ours():
                ranking = tandem.open(scores, machine)
                tandem.evaluate(ranking, 0.5)
                tandem.lib.tdm_ranking_close(ranking)

            def theirs():
                reference(scores, machine, 0.5)

            def their_replicate():
                parts = [np.flatnonzero(machine == c) for c in (0, 1)]
                drawn = np.concatenate([rng.choice(p, len(p)) for p in parts])
                reference(scores[drawn], machine[drawn], 0.5)

            rounds, replicates = (3 if n < 10 ** 7 else 1), max(2, min(1000, 2 * 10 ** 7 // n))
            a, b = best_of(3, ours), best_of(rounds, theirs)
            ranking = tandem.open(scores, machine)
            c = best_of(rounds, lambda: tandem.bootstrap(ranking, 0.5, replicates, 1)) / replicates
            tandem.lib.tdm_ranking_close(ranking)
            d = best_of(rounds, their_replicate)
            print(f"{n:9d} {'no' if digits is None else digits:>8} {a:9.4f} {b:9.4f} {b / a:6.1f} {c:10.5f} {d:9.4f} "
                  f"{d / c:6.1f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--sets", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--speed", action="store_true")
    p.add_argument("--sizes", type=int, nargs="+", default=[10 ** 4, 10 ** 6, 10 ** 7])
    o = p.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        tandem = Tandem(open_library(o.build, scratch))
        good = compare_values(tandem, o.sets, o.seed)
        good = compare_draws(tandem, max(o.sets // 50, 1), 100, o.seed) and good
        good = compare_scipy(tandem, o.seed) and good
        if o.speed:
            compare_speed(tandem, o.sizes)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
