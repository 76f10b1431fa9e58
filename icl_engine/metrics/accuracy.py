"""`accuracy` and `exact_match`: the share of right answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from icl_engine.metrics.intervals import wilson
from icl_engine.protocols import Metric
from icl_engine.types import Score


class Accuracy(Metric):
    """The share of examples whose prediction equals the target, both in canonical form; Wilson's interval.

    An unreadable answer counts as wrong.

    >>> tally = Accuracy().tally()
    >>> [tally.add(p, t) for p, t in (("a", "a"), (None, "a"), ("b", "a"))]
    [1.0, 0.0, 0.0]
    >>> tally.score().value
    0.3333333333333333
    """

    use: Literal["accuracy"] = "accuracy"

    def tally(self, seed: int = 0) -> _Share:
        """An empty count."""
        return _Share(lambda prediction, target: bool(prediction == target))


class ExactMatch(Metric):
    """The share of examples whose prediction is the target, but for outer white space; Wilson's interval."""

    use: Literal["exact_match"] = "exact_match"

    def tally(self, seed: int = 0) -> _Share:
        """An empty count."""
        return _Share(lambda prediction, target: str(prediction).strip() == str(target).strip())


class _Share:
    def __init__(self, right: Callable[[Any, Any], bool]) -> None:
        self._right = right
        self._successes = self._n = 0

    def add(self, prediction: Any, target: Any) -> float:
        success = prediction is not None and self._right(prediction, target)
        self._n += 1
        self._successes += success
        return float(success)

    def score(self) -> Score:
        value = self._successes / self._n if self._n else 0.0
        return Score(value, wilson(self._successes, self._n), self._n)
