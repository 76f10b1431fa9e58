"""`per_label`: the most similar examples of each label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.knn import Similar
from icl_engine.manipulation.retrieve.nearest import nearest
from icl_engine.manipulation.retrieve.ranked import Choice
from icl_engine.protocols import View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Labelled:
    """The rows of one label.

    Args:
        label: as text.
        places: theirs in the pool, ascending.
        vectors: of each.
    """

    label: str
    places: np.ndarray
    vectors: Any


class PerLabel(Similar):
    """The `k` examples of each label that are most similar to the query, so that labels are balanced.

    All are ordered by similarity, labels mixed.

    Args:
        k: how many of each label are shown.

    >>> rows = [("good film", 1), ("good day", 1), ("sad film", 0)]
    >>> pool = [Example(i, {"t": t}, y) for i, (t, y) in enumerate(rows)]
    >>> view, per_label = View(lambda x: x.inputs["t"]), PerLabel(k=1)
    >>> found = per_label.select(per_label.fit(pool, view, seed=0), Example("q", {"t": "a good day"}), view)
    >>> [d.example.id for d in found]
    [1, 2]
    """

    use: Literal["per_label"] = "per_label"

    def index(self, pool: Sequence[Example], view: View, seed: int) -> tuple[Any, list[Labelled]]:
        """What the encoder learned, and the rows of each label.

        Raises:
            TaskError: a label has fewer than `k`.
        """
        import numpy as np

        by_label: dict[str, list[int]] = defaultdict(list)
        for i, x in enumerate(pool):
            by_label[str(x.target)].append(i)
        for label, rows in sorted(by_label.items()):
            if len(rows) < self.k:
                what = f"k is {self.k}, but the train split has {len(rows)} different rows labelled {label!r}"
                raise TaskError(what, key="input.demonstrations.k")
        state = self.encoder.fit(pool, view)
        vectors = self.encoder.encode(state, pool, view)
        return state, [
            Labelled(label, np.array(rows), vectors[np.array(rows)]) for label, rows in sorted(by_label.items())
        ]

    def choose(
        self,
        learned: tuple[Any, list[Labelled]],
        pool: Sequence[Example],
        xs: Sequence[Example],
        own: np.ndarray,
        k: int,
        view: View,
    ) -> list[list[Choice]]:
        """The k nearest of each label, the most similar first."""
        import numpy as np

        state, labels = learned
        queries = self.encoder.encode(state, xs, view)
        chosen: list[list[Choice]] = [[] for _ in xs]
        for group in labels:
            at = np.searchsorted(group.places, own).clip(max=len(group.places) - 1)
            mine = np.where(group.places[at] == own, at, -1)
            for choices, found in zip(chosen, nearest(queries, group.vectors, k, mine), strict=True):
                for n, (i, s) in enumerate(zip(*found, strict=True), start=1):
                    choices.append(Choice(int(group.places[i]), float(s), f"rank {n} of {group.label!r}"))
        return [sorted(choices, key=lambda c: (-c.score, c.place)) for choices in chosen]

    def most(self, choices: list[Choice], k: int, pool: Sequence[Example]) -> list[Choice]:
        """The first k of each label."""
        shown: dict[str, list[Choice]] = defaultdict(list)
        for choice in choices:
            shown[str(pool[choice.place].target)].append(choice)
        kept = {choice.place for several in shown.values() for choice in several[:k]}
        return [choice for choice in choices if choice.place in kept]
