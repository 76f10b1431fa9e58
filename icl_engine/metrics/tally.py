"""A metric over a run: the sums it is a function of, kept by units of rows, so that they can be resampled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

from icl_engine.metrics.intervals import percentiles, resampled, wilson
from icl_engine.protocols import Metric, Sums
from icl_engine.types import Score

UNITS = 4096
"""The most units that are kept apart. Rows beyond it join units that are there: a block of rows resamples as a row
does, and neither memory nor the bootstrap's time grows with the run."""

CELLS = 2_000_000
FEWEST = 100
"""The most counts (units times names) that are resampled, and the fewest units."""


class Tally:
    """A metric's running sums.

    What is resampled is a *unit*: one row, or all rows of a cluster where rows were drawn together (the questions about
    one text). Treating such rows as independent makes intervals too narrow.

    Args:
        metric: what is counted.
        seed: of the resampling.
        units: the most units that are kept apart.

    >>> from icl_engine.metrics.accuracy import Accuracy
    >>> tally = Tally(Accuracy())
    >>> [tally.add(p, t) for p, t in (("a", "a"), (None, "a"), ("b", "a"))]
    [1.0, 0.0, 0.0]
    >>> tally.score().value
    0.3333333333333333
    """

    def __init__(self, metric: Metric, seed: int = 0, units: int = UNITS) -> None:
        self.metric, self.seed, self.n = metric, seed, 0
        self._most = units
        self.clustered = False
        self.verdicts = not metric.graded
        """Whether every row so far was right or wrong."""
        self._units: list[dict[str, float]] = []
        self._clusters: dict[Any, int] = {}
        self._right = 0

    def add(
        self, prediction: Any, target: Any, cluster: Any = None, distribution: Mapping[str, float] | None = None
    ) -> float | None:
        """Count one row (prediction None: unreadable). Returns its own score, None where only sets have one."""
        own, counts = self.metric.counts(prediction, target, distribution)
        unit = self._units[self._unit(cluster)]
        for name, amount in counts.items():
            if name in unit:
                unit[name] += amount
            else:  # thousands of units and slices have the same names: one string each
                unit[intern(name)] = amount
        self.n += 1
        self.verdicts = self.verdicts and own is not None
        self._right += own == 1.0
        return own

    def _unit(self, cluster: Any) -> int:
        """The place of a row's unit."""
        if cluster is not None:
            self.clustered = True
            known = self._clusters.get(cluster)
            if known is not None:
                return known
        if len(self._units) >= self._most:
            return _bucket(self.n if cluster is None else cluster, self._most)
        self._units.append({})
        if cluster is not None:
            self._clusters[cluster] = len(self._units) - 1
        return len(self._units) - 1

    @property
    def names(self) -> list[str]:
        """What has been counted."""
        return sorted({name for unit in self._units for name in unit})

    def matrix(self, names: Sequence[str]) -> Any:
        """The counts of each unit, shape (units, names). With very many names, units are joined to bound its size."""
        import numpy as np

        units = min(len(self._units), max(FEWEST, CELLS // max(1, len(names))))
        found = np.zeros((units, len(names)))
        column = {name: i for i, name in enumerate(names)}
        for i, unit in enumerate(self._units):
            row = found[i if units == len(self._units) else _bucket(i, units)]
            for name in unit.keys() & column.keys():
                row[column[name]] += unit[name]
        return found

    def score(self) -> Score:
        """The metric so far, with its 95% interval; the worst with the widest where no row has been counted."""
        lowest, highest = sorted((self.metric.worst, self.metric.best))
        if not self.n:
            return Score(self.metric.worst, (lowest, highest), 0)
        names = self.names
        apart = not self.clustered or len(self._units) == self.n
        if self.verdicts and apart:  # a formula: nothing is resampled, numpy not loaded
            whole = {name: sum(unit.get(name, 0) for unit in self._units) for name in names}
            return Score(float(self.metric.value(whole)), wilson(self._right, self.n), self.n)
        matrix = self.matrix(names)
        whole = dict(zip(names, matrix.sum(axis=0), strict=True))
        value = float(self.metric.value(whole))
        low, high = percentiles(
            resampled(matrix.shape, lambda w: self.metric.value(named(names, w @ matrix), whole), seed=self.seed)
        )
        if high - low < 1e-9 * (highest - lowest):  # units all alike, or one: resampling cannot tell what others may be
            alike, _ = wilson(len(matrix), len(matrix))
            low, high = (alike * value + (1 - alike) * end for end in (lowest, highest))
        elif self.metric.biased:
            low, high = max(lowest, 2 * value - high), min(highest, 2 * value - low)
        # In a handful of rows the percentiles may miss the value itself.
        return Score(value, (min(low, value), max(high, value)), self.n)


def _bucket(key: Any, count: int) -> int:
    """A number below `count` that looks random: data has patterns (every other row is positive), blocks must not."""
    return int.from_bytes(hashlib.blake2b(str(key).encode("utf-8", "replace"), digest_size=8).digest()) % count


def named(names: Sequence[str], sums: Any) -> Sums:
    """Sums of shape (repeats, names) by name."""
    return dict(zip(names, sums.T, strict=True))
