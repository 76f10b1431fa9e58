"""A paired comparison of two runs next to scipy's bootstrap of the same rows, in one run.

    python benchmarks/compare.py [--rows 872 10000 100000] [--repeats 3]

Both draw 10,000 resamples of right-or-wrong rows; ours also counts the rows, scores both runs and gives McNemar's p.
Prints seconds (median over repeats), peak memory, and ratios. scipy comes with the extra ``dev``.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from scipy.stats import bootstrap

from icl_engine.metrics.accuracy import Accuracy
from icl_engine.metrics.compare import REPEATS, compare
from icl_engine.metrics.tally import Tally

Runs = tuple[list[bool], list[bool]]


def runs(rows: int) -> Runs:
    """Two runs that agree on four rows in five."""
    rng = np.random.default_rng(0)
    right = rng.random(rows) < 0.75
    other = np.where(rng.random(rows) < 0.2, rng.random(rows) < 0.8, right)
    return right.tolist(), other.tolist()


def ours(a: list[bool], b: list[bool]) -> object:
    """Count and compare, as `icl compare` does."""
    of_a, of_b = Tally(Accuracy()), Tally(Accuracy())
    for right_a, right_b in zip(a, b, strict=True):
        of_a.add("x" if right_a else "y", "x")
        of_b.add("x" if right_b else "y", "x")
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    return compare(of_a, of_b, (only_a, only_b))


def scipys(a: list[bool], b: list[bool]) -> object:
    """The percentile interval of the mean difference; in batches, or memory would grow with rows times resamples."""
    gaps = np.array(b, dtype=float) - np.array(a, dtype=float)
    batch = max(1, 4_000_000 // len(gaps))
    return bootstrap((gaps,), np.mean, n_resamples=REPEATS, method="percentile", batch=batch, random_state=0)


def measured(work: Callable[[list[bool], list[bool]], object], given: Runs, repeats: int) -> tuple[float, float]:
    """Median seconds, and peak MB."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work(*given)
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    work(*given)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return statistics.median(seconds), peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[872, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'rows':>8}  {'ours s':>8} {'MB':>6}  {'scipy s':>8} {'MB':>6}  {'scipy / ours':>12}")
    for rows in options.rows:
        given = runs(rows)
        (s, mb), (s2, mb2) = measured(ours, given, options.repeats), measured(scipys, given, options.repeats)
        print(f"{rows:>8}  {s:>8.2f} {mb:>6.0f}  {s2:>8.2f} {mb2:>6.0f}  {s2 / s:>12.1f}")


if __name__ == "__main__":
    main()
