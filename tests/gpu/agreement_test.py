"""python3 tests/gpu/agreement_test.py TOOLS: cases of TOOLS/agreement.py, which needs no torch."""
import math
import sys

sys.path.insert(0, sys.argv[1])
from agreement import ROUNDING, Agreement  # noqa: E402

# name, most, unit, ours, theirs, problems
CASES = (
    ("equal", 0, 1, [1, 2], [1, 2], 0),
    ("as far as it may be", 1, 0.5, [1.0], [1.5], 0),
    ("too far", 1, 0.49, [1.0, 1.0], [1.0, 1.5], 1),
    ("f16 may be further apart than f32", 1, ROUNDING["f16"], [1.0], [1.0 + 2**-12], 0),
    ("f32 may not", 1, ROUNDING["f32"], [1.0], [1.0 + 2**-12], 1),
    ("nothing is asked", None, 1, [1.0], [9.0], 0),
    ("not a number first", 1, 1, [math.nan, 1.0], [1.0, 1.0], 1),
    ("not a number last", 1, 1, [1.0, math.nan], [1.0, 1.0], 1),
    ("infinite", 1, 1, [math.inf], [1.0], 1),
    ("both infinite", 1, 1, [math.inf], [math.inf], 1),
    ("no peer", 1, 1, [1.0], None, 2),
    ("a value too few", 1, 1, [1.0, 2.0], [1.0], 2),
    ("no values", 1, 1, [], [], 2),
    ("no peer, nothing is asked", None, 1, [1.0], None, 0),
)

failed = 0
for name, most, unit, ours, theirs, want in CASES:
    a = Agreement(logprob=most)
    a.add("logprob", name, ours, theirs, unit)
    if len(a.problems()) != want:
        print(f"{name}: {a.problems()}, want {want} problems")
        failed = 1
never = Agreement(logprob=1, probability=1)
never.add("logprob", "of one kind", [1.0], [1.0])
if never.problems() != ["probability: nothing was compared"]:
    print(f"of another kind: {never.problems()}")
    failed = 1
sys.exit(failed)
