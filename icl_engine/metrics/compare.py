"""Two runs over the same rows: is the difference more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icl_engine.metrics.intervals import chunks, percentiles, resampled
from icl_engine.metrics.tally import Tally, named

REPEATS = 10_000
"""Resamples for a comparison: the interval's ends have a Monte Carlo error of about 3% of the standard error."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired comparison of B with A in one metric.

    Args:
        difference: value of B − value of A.
        ci95: of the difference, by the paired bootstrap.
        p: two-sided probability of a difference at least as large, were the runs equally good.
        test: what gave p: ``mcnemar`` or ``randomisation``.
        only_a: rows that only A got right; None where rows are not right or wrong.
        only_b: rows that only B got right.
    """

    difference: float
    ci95: tuple[float, float]
    p: float
    test: str
    only_a: int | None = None
    only_b: int | None = None


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact McNemar test (1947): two-sided binomial p over the rows that exactly one of two runs got right.

    p = min(1, 2 · Σ_{i ≤ min(b, c)} C(b + c, i) / 2^(b + c))

    >>> round(mcnemar(2, 9), 6), mcnemar(0, 0)
    (0.06543, 1.0)
    """
    import numpy as np

    n, least = only_a + only_b, min(only_a, only_b)
    if only_a == only_b:
        return 1.0
    # The largest term by its logarithm, the others by their ratios to it: exact, and nothing overflows.
    i, down = np.arange(least), np.arange(least, 0, -1)
    peak = math.fsum(np.log((n - i) / (i + 1))) - n * math.log(2)
    return float(min(1.0, 2 * math.exp(peak) * (1 + np.cumprod(down / (n - down + 1)).sum())))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values: the chance of even one false alarm among the comparisons stays below α.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def compare(a: Tally, b: Tally, verdicts: tuple[int, int] | None = None, *, seed: int = 0) -> Comparison:
    """B against A, whose rows were added in the same order and with the same clusters.

    The interval is the percentile interval of the paired bootstrap (Efron & Tibshirani 1993). p is McNemar's where rows
    are right or wrong and independent, else that of approximate randomisation (Noreen 1989): each unit's results change
    hands with probability 1/2. Unlike a p-value read off the bootstrap it keeps its level in small runs.

    Args:
        a: the first run's sums.
        b: the second run's sums.
        verdicts: how many rows only A and only B got right; None where rows are not right or wrong.
        seed: of the resampling.
    """
    names_a, names_b = a.names, b.names
    of_a, of_b = a.matrix(names_a), b.matrix(names_b)
    if len(of_a) != len(of_b):  # so many names that units were joined: join both alike
        names_a = names_b = sorted({*names_a, *names_b})
        of_a, of_b = a.matrix(names_a), b.matrix(names_b)
    whole_a = dict(zip(names_a, of_a.sum(axis=0), strict=True))
    whole_b = dict(zip(names_b, of_b.sum(axis=0), strict=True))
    difference = float(b.metric.value(whole_b)) - float(a.metric.value(whole_a))

    def gap(weights: Any) -> Any:
        """One resample for both: that is what pairs them."""
        value_a = a.metric.value(named(names_a, weights @ of_a), whole_a)
        return b.metric.value(named(names_b, weights @ of_b), whole_b) - value_a

    low, high = percentiles(resampled(_widest(of_a, of_b), gap, seed=seed, repeats=REPEATS))
    ci95 = (min(low, difference), max(high, difference))
    if verdicts is not None and not a.clustered:
        return Comparison(difference, ci95, mcnemar(*verdicts), "mcnemar", *verdicts)
    only_a, only_b = verdicts or (None, None)
    return Comparison(difference, ci95, _randomised(a, b, difference, seed), "randomisation", only_a, only_b)


def _widest(of_a: Any, of_b: Any) -> tuple[int, int]:
    return len(of_a), max(of_a.shape[1], of_b.shape[1])


def _randomised(a: Tally, b: Tally, difference: float, seed: int) -> float:
    """p = (1 + #{|gap after changing hands| ≥ |gap|}) / (1 + repeats)."""
    import numpy as np

    names = sorted({*a.names, *b.names})
    of_a, of_b = a.matrix(names), b.matrix(names)
    rng = np.random.default_rng(seed + 1)
    as_large = 0
    for size in chunks(of_a.shape, REPEATS):
        kept = rng.integers(0, 2, size=(size, len(of_a)), dtype=np.int8)
        sums_a, sums_b = kept @ of_a + (1 - kept) @ of_b, kept @ of_b + (1 - kept) @ of_a
        gaps = b.metric.value(named(names, sums_b)) - a.metric.value(named(names, sums_a))
        as_large += int((np.abs(gaps) >= abs(difference) - 1e-12).sum())
    return (1 + as_large) / (1 + REPEATS)
