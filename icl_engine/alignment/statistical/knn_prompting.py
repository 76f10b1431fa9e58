"""`knn_prompting`: the answer of the train rows to which the model answers most alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.fits import rows_of
from icl_engine.alignment.statistical.distribution import FLOOR, decide
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading


class KnnPrompting(Aligner):
    """The vote of the k train rows i with the least KL(p(· | x) ‖ p(· | x_i)), with their targets (Xu et al. 2023).

    p is over the labels; the authors' is over the whole vocabulary. q is the shares of the vote; of labels with as many
    votes, the one with the nearest row wins.

    Args:
        k: how many of the nearest vote.
        rows: how many train rows there are to vote, at most.

    >>> step = KnnPrompting(k=1)
    >>> near, far = {"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 0.6}
    >>> state = step.fit([Answered("a", near, "b"), Answered("b", far, "a")])
    >>> step.apply(Reading(value="a", distribution={"a": 0.8, "b": 0.2}), state).value
    'b'
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["knn_prompting"] = "knn_prompting"
    k: int = Field(default=3, ge=1)
    rows: int = Field(default=256, ge=1)

    @property
    def learns(self) -> int:
        """How many labelled rows are kept."""
        return self.rows

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """{"labels", "anchors": p of each row, in the labels' order, "targets": theirs, "rows", "told"}."""
        rows = rows_of(answered, self.use)
        few = [f"all of {len(rows)} rows vote: k is {self.k}"] if len(rows) <= self.k else []
        anchors = [[float(f"{x:.6g}") for x in p] for p in rows.p]  # a saved program holds them
        told = [*rows.told, *few]
        return {
            "labels": list(rows.labels),
            "anchors": anchors,
            "targets": list(rows.targets),
            "rows": len(rows),
            "told": told,
        }

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Let the nearest vote."""
        if reading.distribution is None:
            return reading
        p = [reading.distribution.get(label, 0.0) for label in state["labels"]]
        nearest = [state["targets"][i] for i in self._nearest(p, state)]
        votes = Counter(nearest)
        value = max(votes, key=votes.__getitem__)  # the first of equals: the nearest
        q = {label: votes[label] / len(nearest) for label in dict.fromkeys([*reading.distribution, *state["labels"]])}
        return decide(reading, q, self.use, value)

    def _nearest(self, p: Sequence[float], state: Any) -> Sequence[int]:
        """The rows with the largest Σ p log p_i, which have the least KL(p ‖ p_i); of equals the first."""
        import numpy as np

        of, logs = self._kept.get("last", (None, None))
        if of is not state:
            logs = np.log(np.maximum(np.array(state["anchors"]), FLOOR))
            self._kept["last"] = state, logs
        likeness = (logs * np.array(p)).sum(axis=1)  # not by BLAS, which may round equal rows differently
        order: list[int] = np.argsort(-likeness, kind="stable").tolist()
        return order[: self.k]

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """The last state, and the log p of its rows: to make them anew for each query takes longer than to search."""
        return {}
