"""`abstain`: no answer where the model is not sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from icl_engine.alignment.fits import counted, left_out
from icl_engine.alignment.text import quoted
from icl_engine.errors import TaskError
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading

NEVER = 2.0
"""A threshold that no probability reaches."""


class Abstain(Aligner):
    """The answer where max p ≥ θ, else none (status ``abstained``): selective prediction (Geifman & El-Yaniv 2017).

    Give one of the two keys. `rows` goes with `accuracy`.

    Args:
        below: θ.
        accuracy: θ is the lowest at which, of the train rows that are answered, at least this share is right.
        rows: from how many train rows θ is learned.

    >>> step = Abstain(below=0.8)
    >>> [step.apply(Reading(value="a", distribution={"a": p, "b": 1 - p})).status for p in (0.9, 0.7)]
    ['ok', 'abstained']
    """

    kind: ClassVar[Kind] = "statistical"
    decides: ClassVar[bool] = True

    use: Literal["abstain"] = "abstain"
    below: float | None = Field(default=None, gt=0, le=1)
    accuracy: float | None = Field(default=None, gt=0, le=1)
    rows: int = Field(default=256, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.below is None) == (self.accuracy is None):
            raise ValueError("give either below (a probability) or accuracy (of what is answered)")
        return self

    @property
    def learns(self) -> int:
        """How many labelled rows θ is fitted on; 0 where it is given."""
        return self.rows if self.accuracy is not None else 0

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """{"below": θ, "coverage": the share of rows that it answers, "rows", "told"}.

        >>> rows = [Answered("a", {"a": p, "b": 1 - p}, y) for p, y in ((0.9, "a"), (0.8, "a"), (0.6, "b"))]
        >>> fitted = Abstain(accuracy=1.0).fit(rows)
        >>> fitted["below"], fitted["told"][-1]
        (0.8, '2 of 3 train rows are answered, those with p from 0.8')
        """
        goal = 1.0 if self.accuracy is None else self.accuracy
        sure = sorted((-max(a.distribution.values()), a.value != a.target) for a in answered if a.distribution)
        if not sure:
            raise TaskError(f"{self.use} needs a distribution, and none of {counted(len(answered))} has one")
        threshold, covered, wrong = NEVER, 0, 0
        for n, (p, mistaken) in enumerate(sure, 1):
            wrong += mistaken
            if n < len(sure) and sure[n][0] == p:  # rows as sure as each other are answered together
                continue
            if n - wrong >= goal * n:
                threshold, covered = -p, n
        told = [*left_out(len(answered), len(sure), "no distribution")]
        rows = counted(len(sure))
        if covered:
            told.append(f"{covered} of {rows} are answered, those with p from {threshold:.3g}")
        else:
            told.append(f"nothing is answered: at no p are {goal:.0%} of {rows} right")
        return {"below": threshold, "coverage": covered / len(answered), "rows": len(sure), "told": told}

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Keep the answer, or not."""
        if reading.distribution is None:
            return reading
        threshold = self.below if self.below is not None else state["below"]
        p = max(reading.distribution.values())
        if p >= threshold:
            return reading
        limit = "nothing is sure enough" if threshold == NEVER else f"below {threshold:.3g}"
        note = f"{self.use}: {quoted(reading.value)} with p {p:.3g}, {limit}"
        return replace(reading, value=None, status="abstained", trace=(*reading.trace, note))
