"""`batch_calibration`: take out the label prior that the batch itself shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.statistical.distribution import decide, divide
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class BatchCalibration(Aligner):
    """log q(y|x) = log p(y|x) − log p̄(y) + const, p̄ the mean of p over a batch of unlabelled inputs (Zhou et al. 2023).

    In a run the batch is the run's own rows; elsewhere it is the saved p̄, else `inputs` seeded rows of the train split.

    Args:
        inputs: how many unlabelled train inputs stand for the batch outside a run.

    >>> step = BatchCalibration()
    >>> g = step.start()
    >>> for p in ({"a": 0.9, "b": 0.1}, {"a": 0.7, "b": 0.3}):
    ...     g = step.gather(g, p)
    >>> state = step.finish(g)
    >>> step.apply(Reading(value="a", distribution={"a": 0.7, "b": 0.3}), state).value
    'b'
    """

    kind: ClassVar[Kind] = "statistical"

    use: Literal["batch_calibration"] = "batch_calibration"
    inputs: int = Field(default=128, ge=1)

    def start(self) -> dict[str, Any]:
        """An empty sum."""
        return {"sum": {}, "rows": 0}

    def gather(self, gathered: dict[str, Any], distribution: Mapping[str, float]) -> dict[str, Any]:
        """The sum with one more distribution."""
        total = {label: gathered["sum"].get(label, 0.0) + p for label, p in distribution.items()}
        return {"sum": total, "rows": gathered["rows"] + 1}

    def finish(self, gathered: dict[str, Any]) -> dict[str, Any]:
        """{"prior": label -> p̄, "rows": how many rows it rests on}; no prior from no row."""
        rows = gathered["rows"]
        return {"prior": {label: p / rows for label, p in gathered["sum"].items()}, "rows": rows}

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Divide by p̄."""
        if reading.distribution is None or not state["prior"]:
            return reading
        return decide(reading, divide(reading.distribution, state["prior"]), "batch_calibration")
