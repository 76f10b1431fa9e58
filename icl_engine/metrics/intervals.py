"""Intervals and resampling: Wilson's interval, the bootstrap over units of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

Z95 = 1.959963984540054
REPEATS = 2_000
"""Resamples for an interval: its ends have a Monte Carlo error of about 6% of the standard error."""

_CELLS = 4_000_000
"""Draws held at once: bounds the memory of resampling."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval (1927) for a proportion; (0, 1) for no data.

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


def resampled(shape: tuple[int, int], statistic: Callable[[Any], Any], *, seed: int, repeats: int = REPEATS) -> Any:
    """The bootstrap distribution (Efron 1979) of a statistic of units drawn with replacement, shape (repeats,).

    Args:
        shape: how many units there are, and of how many counts each the statistic is made.
        statistic: of weights of shape (repeats, units), how often each unit was drawn; gives shape (repeats,).
        seed: of the resampling.
        repeats: resamples.
    """
    import numpy as np

    rng, units = np.random.default_rng(seed), shape[0]

    def weights(size: int) -> Any:
        drawn = rng.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        return np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)

    return np.concatenate([statistic(weights(size)) for size in chunks(shape, repeats)])


def percentiles(values: Any) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def chunks(shape: tuple[int, int], repeats: int) -> Iterator[int]:
    """Sizes that add up to `repeats`, each small enough to hold that many weights and sums at once."""
    most = max(1, _CELLS // max(1, *shape))
    for start in range(0, repeats, most):
        yield min(most, repeats - start)
