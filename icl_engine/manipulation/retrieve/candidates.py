"""The nearest rows of a query and how alike they are among themselves: what `mmr` and `dpp` choose from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from icl_engine.manipulation.retrieve.knn import Encoded
from icl_engine.manipulation.retrieve.nearest import nearest
from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1_000_000
"""Numbers of vectors held at once: 8 MB, about what a processor's cache takes."""

WIDTH = 384
"""Numbers in a usual vector."""


@dataclass(frozen=True)
class Candidates:
    """The rows nearest to each of b queries, the best first.

    Args:
        places: (b, m), places in the pool; -1 where a query has fewer.
        relevance: (b, m), their similarity to the query.
        alike: (b, m, m), their similarity to each other.
    """

    places: np.ndarray
    relevance: np.ndarray
    alike: np.ndarray


def candidates(
    encoder: Encoder, pool: Encoded, xs: Sequence[Example], own: np.ndarray, m: int, view: View
) -> Iterator[Candidates]:
    """The m nearest rows of each x, some queries at a time."""
    m = min(m, pool.vectors.shape[0])
    found = nearest(encoder.encode(pool.state, xs, view), pool.vectors, m, own)
    size = max(1, BLOCK // (m * (m + WIDTH)))
    while block := list(islice(found, size)):
        yield _together(block, pool.vectors, m)


def _together(found: list[tuple[np.ndarray, np.ndarray]], vectors: Any, m: int) -> Candidates:
    import numpy as np

    places = np.full((len(found), m), -1)
    relevance = np.zeros((len(found), m))
    for i, (rows, similarities) in enumerate(found):
        places[i, : len(rows)], relevance[i, : len(rows)] = rows, similarities
    # In double precision, so that duplicates are duplicates to the last digit.
    if isinstance(vectors, np.ndarray):
        rows = vectors[places].astype(np.float64)
        with _threads().limit(limits=1, user_api="blas"):
            return Candidates(places, relevance, rows @ rows.transpose(0, 2, 1))
    alike = np.empty((len(found), m, m))
    for i, at in enumerate(places):
        some = vectors[at].astype(np.float64)
        alike[i] = (some @ some.T).toarray()
    return Candidates(places, relevance, alike)


@cache
def _threads() -> Any:
    """The threads of matrix products: many small ones wait for each other's threads longer than they work."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
