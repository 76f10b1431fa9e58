"""`dpp`: a set that is near the query and spread out, by a determinant."""

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

NOTHING = 1e-9
"""A gain this small, as a share of a row's own weight, is rounding: the row says nothing new."""


class Dpp(Similar):
    """A determinantal point process over the `candidates` nearest: the set with the largest determinant, greedily.

    L_ij = r_i · S_ij · r_j with S = (1 + cosine) / 2, rel = (1 + cosine to the query) / 2 and
    r = exp((rel - max rel) / (2 · `scale`)) (Ye et al. 2023, CEIL); greedy maximum a posteriori by an incremental
    Cholesky factor (Chen et al. 2018). What is chosen is ordered by similarity to the query; where nothing adds to the
    determinant any more, the most similar follow.

    Args:
        candidates: how many of the nearest it chooses from, `k` at least.
        scale: the smaller, the more likeness to the query counts against spread.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "good film a", "a good long film"])]
    >>> view, dpp = View(lambda x: x.inputs["t"]), Dpp(k=2)
    >>> [d.example.id for d in dpp.select(dpp.fit(pool, view, seed=0), Example("q", {"t": "one good film"}), view)]
    [0, 2]
    """

    use: Literal["dpp"] = "dpp"
    candidates: int = Field(default=100, ge=1)
    scale: float = Field(default=0.1, gt=0)

    def choose(
        self, learned: Encoded, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The greedy sets of many queries at once."""
        return [
            [
                Choice(int(found.places[i, c]), float(found.relevance[i, c]), self._why(columns, int(c)))
                for c in sorted(columns)
                if found.places[i, c] >= 0
            ]
            for found in candidates(self.encoder, learned, xs, own, max(k, self.candidates), view)
            for i, columns in enumerate(greedy(*kernel(found, self.scale), k).tolist())
        ]

    def _why(self, columns: list[int], column: int) -> str:
        return f"dpp {columns.index(column) + 1}, rank {column + 1} by {self.encoder.use}"


def kernel(found: Candidates, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """L, (b, m, m), and which columns hold a candidate, (b, m)."""
    import numpy as np

    there = found.places >= 0
    relevance = np.where(there, (1 + found.relevance) / 2, -np.inf)
    weights = np.exp((relevance - relevance.max(axis=1, keepdims=True, initial=0.0)) / (2 * scale))
    kernels = 1 + found.alike
    kernels *= weights[:, :, None] / 2
    kernels *= weights[:, None, :]
    return kernels, there


def greedy(kernels: np.ndarray, there: np.ndarray, k: int) -> np.ndarray:
    """For each kernel the k columns that one after the other multiply the determinant the most: (b, k).

    gain_i = L_ii - |c_i|², and choosing j appends (L_ji - c_j · c_i) / √gain_j to every c_i. Equal gains: the first
    column. Columns without a gain follow in their order, those without a candidate last.
    """
    import numpy as np

    b, m, _ = kernels.shape
    k = min(k, m)
    every = np.arange(b)
    weight = np.einsum("bmm->bm", kernels)
    gains = np.where(there, weight, -np.inf)
    factor = np.zeros((b, m, k))
    # Below every gain, yet in the order of the columns.
    rest = np.where(there, -1.0 - np.arange(m), -2.0 - 2 * m)
    chosen = np.empty((b, k), dtype=np.int64)
    for n in range(k):
        value = np.where(gains > NOTHING * weight, gains, rest)
        at = chosen[:, n] = value.argmax(axis=1)
        gain = gains[every, at]
        mine = factor[every, at]
        row = kernels[every, at] - np.matmul(factor[:, :, :n], mine[:, :n, None])[:, :, 0]
        grows = gain > NOTHING * weight[every, at]
        row *= np.where(grows, 1 / np.sqrt(np.where(grows, gain, 1.0)), 0.0)[:, None]
        factor[:, :, n] = row
        gains = gains - row**2
        gains[every, at] = -np.inf
        rest[every, at] = -np.inf
    return chosen
