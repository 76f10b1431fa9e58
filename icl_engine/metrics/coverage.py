"""The coverage-accuracy table: how right a run is if it answers only where it is sure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from icl_engine.metrics.calibration import judged
from icl_engine.metrics.intervals import wilson
from icl_engine.metrics.label import label_of

LEVELS = (1.0, 0.9, 0.8, 0.7, 0.5, 0.25)
"""Shares of the rows that the table has a line for."""

GRAIN = 100
"""Bins per unit of log-odds: rows in a bin differ by 1% in odds, and are answered together."""

SUREST = 2.0**-40
"""Confidences closer to 0 or 1 are one bin."""


class Coverage:
    """Rows by confidence, counted in one pass and in bounded memory: for every threshold, what is right at or above it.

    The bins are even in log-odds, ln(c / (1 - c)), since models are mostly very sure: 0.99 and 0.999 are far apart.
    Rows without a confidence are answered after all others.

    Args:
        thresholds: confidences that the table has a line for as well, counted exactly.

    >>> coverage = Coverage(thresholds=[0.9])
    >>> for confidence, right in ((0.99, True), (0.95, True), (0.8, False), (0.7, True), (None, False)):
    ...     coverage.add(confidence, right)
    >>> [(row["n"], row["coverage"], row["accuracy"]) for row in coverage.record()["rows"]][:4]
    [(5, 1.0, 0.6), (5, 1.0, 0.6), (4, 0.8, 0.75), (4, 0.8, 0.75)]
    >>> coverage.record()["thresholds"][0]["accuracy"]
    1.0
    """

    def __init__(self, thresholds: Iterable[float] = ()) -> None:
        self._bins: dict[int, list[float]] = {}
        self._silent = [0, 0]
        self._asked: dict[float, list[int]] = {t: [0, 0] for t in thresholds}

    def add(self, confidence: float | None, right: bool) -> None:
        """Count one row."""
        if confidence is None:
            self._silent[0] += 1
            self._silent[1] += right
            return
        cell = self._bins.setdefault(_bin(confidence), [0, 0, confidence])
        cell[0] += 1
        cell[1] += right
        cell[2] = min(cell[2], confidence)
        for threshold, counts in self._asked.items():
            if confidence >= threshold:
                counts[0] += 1
                counts[1] += right

    def add_row(self, prediction: Any, target: Any, distribution: Mapping[str, float] | None) -> None:
        """Count one row by its distribution: the confidence is the largest p.

        An answer that was withheld counts as the likeliest label: the table says what it would have been worth.
        """
        found = judged(prediction, target, distribution)
        if found is None:
            self.add(None, prediction is not None and label_of(prediction) == label_of(target))
        else:
            self.add(*found)

    def merge(self, other: Coverage) -> None:
        """Count what another, with the same thresholds, has counted."""
        self._silent = [a + b for a, b in zip(self._silent, other._silent, strict=True)]
        for at, (n, right, least) in other._bins.items():
            cell = self._bins.setdefault(at, [0, 0, least])
            cell[:] = [cell[0] + n, cell[1] + right, min(cell[2], least)]
        for threshold, (n, right) in other._asked.items():
            counts = self._asked[threshold]
            counts[:] = [counts[0] + n, counts[1] + right]

    @property
    def n(self) -> int:
        """Rows."""
        return self._silent[0] + sum(int(cell[0]) for cell in self._bins.values())

    @property
    def confident(self) -> bool:
        """Whether any row had a confidence: else there is nothing to tell."""
        return bool(self._bins)

    def _steps(self) -> list[tuple[int, int, float | None]]:
        """(rows, right, least confidence) of each bin, the surest first; rows without a confidence last."""
        bins = [(int(n), int(right), least) for _, (n, right, least) in sorted(self._bins.items(), reverse=True)]
        n, right = self._silent
        return [*bins, *([(n, right, None)] if n else [])]

    def record(self) -> dict[str, Any]:
        """As JSON: `rows` for `LEVELS` of coverage, the `thresholds` asked for, and `aurc`.

        Each line has the `threshold` at or above which a row is answered (null: all are), the share of rows answered
        (`coverage`), how many these are (`n`), their `accuracy` and its 95% interval (Wilson); null where none is.
        """
        total, steps = self.n, self._steps()
        return {
            "n": total,
            "rows": [_line(*_reached(steps, level * total), total) for level in LEVELS] if total else [],
            "thresholds": [_line(n, right, t, total) for t, (n, right) in self._asked.items()],
            "aurc": _aurc([(n, right) for n, right, _ in steps]) if total else None,
        }


def _bin(confidence: float) -> int:
    c = min(1.0 - SUREST, max(SUREST, confidence))
    return round(GRAIN * math.log(c / (1.0 - c)))


def _reached(steps: Sequence[tuple[int, int, float | None]], wanted: float) -> tuple[int, int, float | None]:
    """The first bins that hold as many rows as wanted: their rows, how many are right, the least confidence."""
    n = right = 0
    least: float | None = None
    for count, hits, confidence in steps:
        if n >= wanted - 1e-9:
            break
        n, right, least = n + count, right + hits, confidence
    return n, right, least


def _line(n: int, right: int, threshold: float | None, total: int) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "coverage": n / total if total else None,
        "accuracy": right / n if n else None,
        "ci95": list(wilson(right, n)) if n else None,
        "n": n,
    }


def _aurc(steps: Sequence[tuple[int, int]]) -> float:
    """The area under the risk-coverage curve (Geifman & El-Yaniv 2017): the mean over i of the risk of the i surest.

    Rows of one bin are equally sure: of each, the bin's share of errors is taken, its mean over all their orders.
    """
    n = area = wrong = 0.0
    for count, right in steps:
        share = (count - right) / count
        # Σ_{j ≤ count} (wrong + share·j) / (n + j), with share·j = share·(n + j) - share·n
        harmonic = math.fsum(1.0 / (n + j) for j in range(1, count + 1))
        area += share * count + (wrong - share * n) * harmonic
        n, wrong = n + count, wrong + count - right
    return area / n
