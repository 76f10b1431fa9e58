"""What metrics that are a mean over rows share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_engine.protocols import Metric, Sums


class RowMetric(Metric):
    """A metric that gives each row a score and a run their mean."""

    def row(self, prediction: Any, target: Any) -> float:
        """The score of a readable answer, 0 (wrong) to 1 (right)."""
        raise NotImplementedError

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[float, Mapping[str, float]]:
        """The row's score; an unreadable answer scores 0."""
        score = 0.0 if prediction is None else self.row(prediction, target)
        return score, {"score": score, "rows": 1}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The mean score."""
        return sums["score"] / sums["rows"]
