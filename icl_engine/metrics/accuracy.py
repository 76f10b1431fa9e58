"""`accuracy` and `exact_match`: the share of right answers."""

from __future__ import annotations

from typing import Any, Literal

from icl_engine.metrics.label import label_of
from icl_engine.metrics.row import RowMetric


class Accuracy(RowMetric):
    """The share of examples whose prediction equals the target, both in canonical form; Wilson's interval.

    An unreadable answer counts as wrong.

    >>> [Accuracy().counts(p, t)[0] for p, t in (("a", "a"), (None, "a"), ("b", "a"))]
    [1.0, 0.0, 0.0]
    """

    use: Literal["accuracy"] = "accuracy"

    def row(self, prediction: Any, target: Any) -> float:
        """1 where they are equal."""
        return float(prediction == target)


class ExactMatch(RowMetric):
    """The share of examples whose prediction is the target, but for outer white space; Wilson's interval.

    What is no text is compared as JSON. An unreadable answer counts as wrong.
    """

    use: Literal["exact_match"] = "exact_match"

    def row(self, prediction: Any, target: Any) -> float:
        """1 where their texts are equal."""
        return float(label_of(prediction).strip() == label_of(target).strip())
