"""`batch_calibration`: take out the label prior that the batch itself shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.fits import rows_of
from icl_engine.alignment.statistical.distribution import FLOOR, decide, divide
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading

STEPS = 20
"""Fitted strengths are multiples of 1/20."""

FAR = 2.0
"""A fitted strength further from 1 is told: more is then at work than a prior."""


class BatchCalibration(Aligner):
    """log q(y|x) = log p(y|x) − γ log p̄(y) + const, p̄ the mean of p over a batch of inputs (Zhou et al. 2023).

    The batch needs no labels. In a run it is the run's own rows; elsewhere p̄ is the saved one, else that of `inputs`
    seeded rows of the train split.

    Args:
        inputs: how many unlabelled train inputs stand for the batch outside a run.
        strength: γ: 1 takes the whole prior out, 0 nothing. ``fitted``: of −5, −4.95, …, 5 the one with which most
            train rows are right, of several the one nearest 1 (the authors' adjustable layer, BCL).
        rows: from how many train rows a fitted strength is learned.

    >>> step = BatchCalibration()
    >>> g = step.start()
    >>> for p in ({"a": 0.9, "b": 0.1}, {"a": 0.7, "b": 0.3}):
    ...     g = step.gather(g, p)
    >>> state = step.finish(g)
    >>> step.apply(Reading(value="a", distribution={"a": 0.7, "b": 0.3}), state).value
    'b'
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["batch_calibration"] = "batch_calibration"
    inputs: int = Field(default=128, ge=1)
    strength: Annotated[float, Field(ge=-5, le=5)] | Literal["fitted"] = 1.0
    rows: int = Field(default=128, ge=1)

    def start(self) -> dict[str, Any]:
        """An empty sum."""
        return {"sum": {}, "rows": 0}

    def gather(self, gathered: dict[str, Any], distribution: Mapping[str, float] | None) -> dict[str, Any]:
        """The sum with one more distribution; a row without one adds nothing."""
        if distribution is None:
            return gathered
        total = {label: gathered["sum"].get(label, 0.0) + p for label, p in distribution.items()}
        return {"sum": total, "rows": gathered["rows"] + 1}

    def finish(self, gathered: dict[str, Any], fitted: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """{"prior": label -> p̄, "rows": how many rows it rests on, "strength": γ}; no prior from no row.

        A strength that is yet to be fitted is 1.
        """
        rows = gathered["rows"]
        given = 1.0 if self.strength == "fitted" else self.strength
        prior = {label: p / rows for label, p in gathered["sum"].items()}
        return {"prior": prior, "rows": rows, "strength": fitted["strength"] if fitted else given}

    @property
    def learns(self) -> int:
        """How many labelled rows γ is fitted on; 0 where it is given."""
        return self.rows if self.strength == "fitted" else 0

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """γ by accuracy over a grid, with the p̄ of the same rows.

        >>> step = BatchCalibration(strength="fitted")
        >>> p = {"a": 0.5, "b": 0.5}
        >>> step.fit([Answered("a", p, "b")], {"prior": {"a": 0.75, "b": 0.25}})["strength"]
        1.0
        """
        import numpy as np

        rows = rows_of(answered, self.use)
        logs = np.log(np.maximum(np.array(rows.p), FLOOR))
        prior = np.log([max(state["prior"].get(label, 0.0), FLOOR) for label in rows.labels])
        right = np.array([rows.labels.index(y) for y in rows.targets])

        def hits(twentieths: int) -> int:
            return int(((logs - twentieths / STEPS * prior).argmax(axis=1) == right).sum())

        best = max(range(-5 * STEPS, 5 * STEPS + 1), key=lambda g: (hits(g), -abs(g - STEPS), -g))
        told = [*rows.told]
        if abs(best / STEPS - 1) > FAR:
            told.append(f"strength {best / STEPS:g} is far from 1: by chance, if these rows are few")
        return {"strength": best / STEPS, "rows": len(rows), "told": told}

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Divide by p̄ to the power of γ."""
        if reading.distribution is None or not state["prior"]:
            return reading
        q = divide(reading.distribution, state["prior"], state.get("strength", 1.0))
        return decide(reading, q, "batch_calibration")
