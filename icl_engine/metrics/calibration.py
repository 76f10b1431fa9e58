"""`ece`, `brier`, `log_loss`: whether the probabilities that a row's labels are given can be believed.

All three judge the row's distribution. A row without one (unread, withheld before there was one, read from text) gets
the worst that a row can get: what says nothing never scores better than what says something.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.metrics.label import label_of
from icl_engine.protocols import Metric, Sums

Distribution = Mapping[str, float]

FLOOR = 2.0**-52
"""The least probability that `log_loss` tells from 0: the spacing of floats at 1, as in scikit-learn."""


def judged(prediction: Any, target: Any, distribution: Distribution | None) -> tuple[float, bool] | None:
    """The confidence of a row's answer (the largest p), and whether it is right; None without a distribution.

    An answer that was withheld (None, with its distribution) is judged as the likeliest label.

    >>> judged("a", "a", {"a": 0.75, "b": 0.25}), judged(None, "a", {"a": 0.4, "b": 0.6}), judged("a", "a", None)
    ((0.75, True), (0.6, False), None)
    """
    if not distribution:
        return None
    said = max(distribution, key=distribution.__getitem__) if prediction is None else prediction
    return min(1.0, max(distribution.values())), label_of(said) == label_of(target)


class Ece(Metric):
    """The expected calibration error (Guo et al. 2017): how far confidence is from accuracy; lower is better.

    ECE = Σ_b n_b/n · |accuracy of bin b - mean confidence of bin b| over bins of equal width; the confidence is the
    largest p. A row without a distribution adds a gap of 1. It is biased upwards in small runs: of n rows, even perfect
    confidences leave gaps of the order of √(bins / n). Its interval is that of the basic bootstrap (Davison & Hinkley
    1997), 2·ECE less the percentiles: those themselves would be biased twice.

    Args:
        bins: how many bins; a confidence on an edge belongs to the bin below.

    >>> from icl_engine.metrics.tally import Tally
    >>> tally = Tally(Ece())
    >>> for said in ("a", "a", "a", "b"):
    ...     _ = tally.add(said, "a", distribution={said: 0.875, "c": 0.125})
    >>> tally.score().value
    0.125
    """

    use: Literal["ece"] = "ece"
    best: ClassVar[float] = 0.0
    worst: ClassVar[float] = 1.0
    biased: ClassVar[bool] = True
    needs_distribution: ClassVar[bool] = True
    bins: int = Field(default=10, ge=1, le=1000)

    @cached_property
    def _edges(self) -> list[float]:
        return [i / self.bins for i in range(1, self.bins)]

    def counts(
        self, prediction: Any, target: Any, distribution: Distribution | None = None
    ) -> tuple[None, Mapping[str, float]]:
        """The confidence and the right answers of the row's bin."""
        found = judged(prediction, target, distribution)
        if found is None:
            return None, {"rows": 1, "silent": 1}
        confidence, right = found
        b = bisect_left(self._edges, confidence)
        return None, {"rows": 1, "silent": 0, f"confidence {b}": confidence, f"right {b}": int(right)}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The sum of the bins' gaps, over the rows."""
        bins = (name.partition(" ")[2] for name in sums if name.startswith("confidence "))
        gaps = sum((abs(sums[f"confidence {b}"] - sums[f"right {b}"]) for b in bins), start=sums["silent"])
        return gaps / sums["rows"]


class _Rule(Metric):
    """A scoring rule: the mean over rows of a penalty, which is the row's own score."""

    graded: ClassVar[bool] = True
    best: ClassVar[float] = 0.0
    needs_distribution: ClassVar[bool] = True

    def penalty(self, target: str, distribution: Distribution) -> float:
        """Of a row that has a distribution."""
        raise NotImplementedError

    def counts(
        self, prediction: Any, target: Any, distribution: Distribution | None = None
    ) -> tuple[float, Mapping[str, float]]:
        """The row's penalty; the worst without a distribution."""
        own = self.penalty(label_of(target), distribution) if distribution else self.worst
        return own, {"penalty": own, "rows": 1}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The mean penalty."""
        return sums["penalty"] / sums["rows"]


class Brier(_Rule):
    """The mean of Σ_k (p_k - y_k)² (Brier 1950), y_k = 1 for the target, else 0; 0 to 2, lower is better.

    A row without a distribution scores 2. Bootstrap interval. With two labels it is twice the score that is usual for
    the probability of one of them.

    >>> round(Brier().counts("a", "a", {"a": 0.7, "b": 0.2, "c": 0.1})[0], 4)
    0.14
    """

    use: Literal["brier"] = "brier"
    worst: ClassVar[float] = 2.0

    def penalty(self, target: str, distribution: Distribution) -> float:
        """Σ_k (p_k - y_k)² = Σ_k p_k² - 2·p_target + 1."""
        others = sum(p * p for label, p in distribution.items() if label != target)
        return min(self.worst, others + (1.0 - distribution.get(target, 0.0)) ** 2)


class LogLoss(_Rule):
    """The mean of -ln p(target), nats; lower is better. Bootstrap interval.

    A p below 2^-52, and a row without a distribution, count as 2^-52: 36.04 nats, as in scikit-learn. A uniform
    distribution over K labels scores ln K.

    >>> round(LogLoss().counts("a", "a", {"a": 0.5, "b": 0.5})[0], 4)
    0.6931
    """

    use: Literal["log_loss"] = "log_loss"
    worst: ClassVar[float] = -math.log(FLOOR)

    def penalty(self, target: str, distribution: Distribution) -> float:
        """-ln p(target)."""
        return -math.log(min(1.0, max(FLOOR, distribution.get(target, 0.0)))) + 0.0
