"""Slices: the metrics of a run for each value of a field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from icl_engine.metrics.label import OTHERS, short_label
from icl_engine.metrics.tally import Tally
from icl_engine.protocols import Metric

KEPT = 50
"""Values of a field that are told apart; the rest are counted as one."""

UNITS = 256
"""The most units that a slice's tally keeps apart: 51 tallies of a field must take little memory, and little time to
resample. An interval's width is then off by about 4% (1/√(2·256))."""


class Slices:
    """Each metric for each value of each field, counted in one pass.

    Args:
        fields: whose values are told apart.
        metrics: what is counted of each.
        seed: of the resampling.
        kept: the most values of a field that are told apart, those that come first.

    >>> from icl_engine.metrics.accuracy import Accuracy
    >>> slices = Slices(["lang"], [Accuracy()])
    >>> for lang, p, t in (("en", "a", "a"), ("en", "b", "b"), ("de", "a", "b")):
    ...     slices.add({"lang": lang}, p, t)
    >>> found = slices.record()["lang"]
    >>> {value: (metrics["accuracy"]["value"], metrics["accuracy"]["n"]) for value, metrics in found.items()}
    {'en': (1.0, 2), 'de': (0.0, 1)}
    """

    def __init__(self, fields: Iterable[str], metrics: Sequence[Metric], seed: int = 0, kept: int = KEPT) -> None:
        self.metrics, self.seed, self.kept = tuple(metrics), seed, kept
        self._tallies: dict[str, dict[str, tuple[Tally, ...]]] = {field: {} for field in fields}

    def add(
        self,
        inputs: Mapping[str, Any],
        prediction: Any,
        target: Any,
        cluster: Any = None,
        distribution: Mapping[str, float] | None = None,
    ) -> None:
        """Count one row in the slice of its value of each field; a field it does not have is null."""
        for field, slices in self._tallies.items():
            for tally in self._slice(slices, inputs.get(field)):
                tally.add(prediction, target, cluster, distribution)

    def _slice(self, slices: dict[str, tuple[Tally, ...]], value: Any) -> tuple[Tally, ...]:
        label = short_label(value)
        found = slices.get(label)
        if found is None and len(slices) - (OTHERS in slices) >= self.kept:
            label = OTHERS
            found = slices.get(label)
        if found is None:
            found = slices[label] = tuple(Tally(metric, self.seed, UNITS) for metric in self.metrics)
        return found

    def record(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """As JSON: field -> value -> metric -> `value`, `ci95`, `n`; values with the most rows first, others last."""
        return {field: self._field(slices) for field, slices in self._tallies.items()}

    def _field(self, slices: Mapping[str, tuple[Tally, ...]]) -> dict[str, dict[str, dict[str, Any]]]:
        def order(value: str) -> tuple[bool, int]:
            return value == OTHERS, -max((tally.n for tally in slices[value]), default=0)

        return {value: {t.metric.title: _scored(t) for t in slices[value]} for value in sorted(slices, key=order)}


def _scored(tally: Tally) -> dict[str, Any]:
    score = tally.score()
    return {"value": score.value, "ci95": list(score.ci95), "n": score.n}
