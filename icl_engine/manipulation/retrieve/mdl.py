"""`mdl`: among several sets of similar examples, the one under which the model is surest of its answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from icl_engine.asking import side_by_side
from icl_engine.errors import TaskError
from icl_engine.manipulation.order import entropy
from icl_engine.manipulation.retrieve.knn import Encoded, Similar
from icl_engine.manipulation.retrieve.ranked import Choice, Index
from icl_engine.protocols import Ask, Steps, View
from icl_engine.types import Demonstration, Example, Prompt

if TYPE_CHECKING:
    import numpy as np

Shown = tuple[Demonstration, ...]


class Mdl(Similar):
    """The set C with the lowest entropy of the model's label distribution: argmin_C H(p(y | C, x)).

    Wu et al. (2023), *Self-Adaptive In-Context Learning*: `sets` sets of `k` are drawn by seed from the `candidates`
    most similar examples (the first is the `k` most similar), and the model is asked with each of them. So a row takes
    `sets` questions for label scores; that with the chosen set is not asked again.

    Args:
        candidates: how many of the most similar examples the sets are drawn from.
        sets: how many sets are tried.

    >>> Mdl(k=4).sets
    10
    """

    use: Literal["mdl"] = "mdl"
    candidates: int = Field(default=30, ge=1)
    sets: int = Field(default=10, ge=1)

    def choose(
        self, learned: Encoded, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k most similar to each."""
        return learned.nearest(self.encoder, xs, own, k, view)

    @property
    def reach(self) -> int:
        """The neighbourhood."""
        return max(self.k, self.candidates)

    def propose_many(self, state: Index, xs: Sequence[Example], view: View) -> list[Shown]:
        """The neighbourhood of each."""
        return self.best_many(state, xs, self.reach, view)

    def pick(self, proposed: Shown, key: str, fitting: Callable[[Shown], Prompt], ask: Ask) -> Steps[Shown]:
        """The set of lowest entropy; of equals the one drawn first."""
        drawn = self._drawn(proposed, key)
        readings = yield from side_by_side([ask(fitting(shown), "candidate", "") for shown in drawn])
        found = []
        for n, reading in enumerate(readings):
            if reading.distribution is None:
                raise TaskError(
                    "mdl chooses by label distributions; use a verbalizer that reads scores", key="input.demonstrations"
                )
            found.append((entropy(reading.distribution.values()), n))
        best, n = min(found)
        why = f"set {n + 1} of {len(drawn)}, H = {best:.4f}"
        return tuple(Demonstration(d.example, f"{d.why}, {why}", d.score) for d in drawn[n])

    def _drawn(self, proposed: Shown, key: str) -> list[Shown]:
        """Different sets, each the best first."""
        rng, size = random.Random(key), min(self.k, len(proposed))
        sets = {tuple(range(size)): None}
        for _ in range(10 * self.sets):  # there may be fewer different sets than are wanted
            if len(sets) == self.sets:
                break
            sets.setdefault(tuple(sorted(rng.sample(range(len(proposed)), size))))
        return [tuple(proposed[i] for i in places) for places in sets]
