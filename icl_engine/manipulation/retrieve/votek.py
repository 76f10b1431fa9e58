"""`votek`: rows that many others are near to, spread over the pool; the same for every query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from icl_engine.manipulation.encode import AnyEncoder
from icl_engine.manipulation.retrieve.drawn import ANY, Pick, PickedOnce
from icl_engine.manipulation.retrieve.nearest import nearest
from icl_engine.protocols import View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np

EQUAL = 1e-9
"""Scores this near to each other, as a share, are equal: sums of the same votes in another order."""


class VoteK(PickedOnce):
    """Fast vote-k: representative rows, each far from those before it (Su et al. 2022).

    One after the other the row u with the largest s(u) = Σ ρ^-|{l ∈ L : l ∈ N(v)}| over the rows v not yet chosen with
    u ∈ N(v), where L is what has been chosen and N(v) the `neighbours` nearest to v by cosine. Equal scores: in the
    pool's order. The next one stands in for a query that is itself chosen.

    Args:
        encoder: what makes vectors of texts: ``tfidf``, the name or path of a sentence-transformers model, or a
            mapping with ``use``.
        rho: ρ: how much less a row's vote counts for each of its neighbours that has been chosen.
        neighbours: how many rows each row votes for; all others, where the pool has fewer.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a rose", "a red rose", "red", "a tree", "tall tree"])]
    >>> view, votek = View(lambda x: x.inputs["t"]), VoteK(k=2, neighbours=2)
    >>> [d.why for d in votek.select(votek.fit(pool, view, seed=0), Example("q", {"t": "rose"}), view)]
    ['votek 1, score 3', 'votek 2, score 1.1']
    """

    use: Literal["votek"] = "votek"
    encoder: AnyEncoder = Field(default="tfidf", validate_default=True)
    rho: float = Field(default=10.0, gt=1)
    neighbours: int = Field(default=150, ge=1)

    def pick(self, pool: Sequence[Example], view: View, seed: int) -> tuple[Sequence[Pick], Mapping[str, int]]:
        """The first `k` by votes, and the next."""
        vectors = self.encoder.encode(self.encoder.fit(pool, view), pool, view)
        found = list(islice(voted(neighbourhoods(vectors, self.neighbours), self.rho), self.k + 1))
        picked = [Pick(place, f"votek {n}, score {s:.4g}") for n, (place, s) in enumerate(found[: self.k], start=1)]
        return picked, {ANY: found[self.k][0]} if len(found) > self.k else {}


def neighbourhoods(vectors: Any, n: int) -> np.ndarray:
    """N: for each row the n others nearest to it, (m, n)."""
    import numpy as np

    m = vectors.shape[0]
    found = np.empty((m, min(n, m - 1)), dtype=np.int32)
    if found.size:
        for i, (places, _) in enumerate(nearest(vectors, vectors, found.shape[1], np.arange(m))):
            found[i] = places
    return found


def voted(neighbours: np.ndarray, rho: float) -> Iterator[tuple[int, float]]:
    """Rows in the order in which fast vote-k chooses them, with their scores.

    >>> import numpy as np
    >>> [(u, round(s, 2)) for u, s in voted(np.array([[1], [0], [1], [2]]), 10)]
    [(1, 2.0), (2, 1.0), (0, 0.0), (3, 0.0)]
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    m, n = neighbours.shape
    ends = np.arange(0, m * n + 1, n) if n else np.zeros(m + 1, dtype=np.int64)
    votes = csr_matrix((np.ones(m * n), neighbours.ravel(), ends), shape=(m, m)).T.tocsr()
    weight = np.ones(m)
    left = np.ones(m, dtype=bool)
    for _ in range(m):
        scores = np.where(left, votes @ weight, -1.0)
        highest = scores.max()
        chosen = int(np.argmax(scores >= highest * (1 - EQUAL)))
        yield chosen, float(scores[chosen])
        voters = votes.indices[votes.indptr[chosen] : votes.indptr[chosen + 1]]
        weight[voters] /= rho
        weight[chosen] = 0
        left[chosen] = False
