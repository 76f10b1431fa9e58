"""95% intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Z95 = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927) for a proportion; (0, 1) for no data.

    >>> [round(v, 4) for v in wilson(174, 200)]
    [0.8163, 0.9097]
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Exact at the ends, where rounding would leave the value outside its own interval.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def bootstrap_counts(
    counts: Any, statistic: Callable[[Any], Any], *, seed: int, repeats: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap (Efron 1979) of examples in cells: resampling n examples is one multinomial draw.

    Args:
        counts: how many examples fell into each cell, shape (cells,).
        statistic: of counts of shape (repeats, cells), gives shape (repeats,).
        seed: of the resampling.
        repeats: resamples.
    """
    import numpy as np

    n = int(counts.sum())
    if n == 0:
        return 0.0, 1.0
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=repeats)
    low, high = np.percentile(statistic(draws), [2.5, 97.5])
    return float(low), float(high)
