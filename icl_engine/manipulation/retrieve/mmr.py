"""`mmr`: similar to the query, unlike each other, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from icl_engine.manipulation.retrieve.candidates import Candidates, candidates
from icl_engine.manipulation.retrieve.knn import Encoded, Similar
from icl_engine.manipulation.retrieve.ranked import Choice
from icl_engine.protocols import View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


class Mmr(Similar):
    """Maximal marginal relevance: each next one is the most similar to the query and the least like those before it.

    argmax over i of λ · sim(x, i) - (1 - λ) · max over those chosen of sim(i, j), among the `candidates` nearest;
    sim = (1 + cosine) / 2, and the maximum over none is 0 (Carbonell and Goldstein 1998).

    Args:
        relevance: λ: 1 is ``knn``, 0 looks only at how unlike they are to each other.
        candidates: how many of the nearest it chooses from, `k` at least.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "good film a", "a good long film"])]
    >>> view, mmr = View(lambda x: x.inputs["t"]), Mmr(k=2)
    >>> [d.example.id for d in mmr.select(mmr.fit(pool, view, seed=0), Example("q", {"t": "one good film"}), view)]
    [0, 2]
    """

    use: Literal["mmr"] = "mmr"
    relevance: float = Field(default=0.5, ge=0, le=1)
    candidates: int = Field(default=50, ge=1)

    def choose(
        self, learned: Encoded, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """Chosen one after the other, for many queries at once."""
        return [
            [
                Choice(int(found.places[i, c]), float(s), f"mmr {n}, rank {c + 1} by {self.encoder.use}")
                for n, (c, s) in enumerate(zip(*chosen, strict=True), start=1)
                if s > float("-inf")
            ]
            for found in candidates(self.encoder, learned, xs, own, max(k, self.candidates), view)
            for i, chosen in enumerate(zip(*marginal(found, k, self.relevance), strict=True))
        ]


def marginal(found: Candidates, k: int, relevance: float) -> tuple[np.ndarray, np.ndarray]:
    """The columns chosen of each row of candidates, and their marginal relevance: two arrays (b, k).

    A value of -inf is of no candidate.
    """
    import numpy as np

    every = np.arange(len(found.places))
    left = np.where(found.places >= 0, relevance * (1 + found.relevance) / 2, -np.inf)
    worst = np.zeros_like(left)
    columns, values = [], []
    for _ in range(min(k, left.shape[1])):
        value = left - (1 - relevance) * worst
        chosen = value.argmax(axis=1)
        columns.append(chosen)
        values.append(value[every, chosen])
        left[every, chosen] = -np.inf
        worst = np.maximum(worst, (1 + found.alike[every, chosen]) / 2)
    return np.stack(columns, axis=1), np.stack(values, axis=1)
