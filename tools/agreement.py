"""How far two lists of numbers are apart, and whether that is too far. For tools/compare_hf.py.

    a = Agreement(logprob=32, probability=None)      # what is asked of each kind; None: nothing
    row = a.add("logprob", "f16 against f32", ours, theirs, unit=ROUNDING["f16"])
    a.problems()                                     # a line for each thing that is not as asked

A kind of which something is asked must have been compared: nothing to compare with is a problem.
"""
import math
import statistics

# What one rounding changes a number by, relative. In f32 the sums of thousands of products lose more than
# the roundings of what is stored: 2^4 of its own.
ROUNDING = {"f32": 2.0**-20, "f16": 2.0**-11, "bf16": 2.0**-8}


class Agreement:
    def __init__(self, **most):
        self.most = {kind: value for kind, value in most.items() if value is not None}
        self.compared = set()
        self.rows, self.found = [], []

    def add(self, kind, what, ours, theirs, unit=1.0, **more):
        """Compare; the largest difference may be `most` units. kind None: for information.
        Returns the row, or None when there is nothing to compare."""
        asked = self.most.get(kind)
        if theirs is None or len(ours) == 0 or len(ours) != len(theirs):
            count = "nothing" if theirs is None else f"{len(theirs)} values"
            if asked is not None:
                self.found.append(f"{what}: {len(ours)} values to compare with {count}")
            return None
        apart = [abs(float(a) - float(b)) for a, b in zip(ours, theirs)]
        largest = math.nan if any(map(math.isnan, apart)) else max(apart)
        row = {"what": what, "mean": statistics.fmean(apart), "max": largest, "values": len(apart), **more}
        if asked is not None:
            row["most"] = asked * unit
            if not largest <= row["most"]:
                self.found.append(f"{what}: {largest:.2e} apart, may be {row['most']:.2e}")
        self.compared.add(kind)
        self.rows.append(row)
        return row

    def problems(self):
        return self.found + [f"{kind}: nothing was compared" for kind in self.most
                             if kind not in self.compared]
