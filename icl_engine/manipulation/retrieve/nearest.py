"""The most similar vectors, exactly, at the speed of one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BLOCK = 32_000_000
"""Similarities held at once: 128 MB."""

SLACK = 1e-5
"""A matrix product rounds by the shape of its blocks. What is this near to the k-th is looked at again, one by one, so
that a query alone and the same query among others find the same."""


def nearest(queries: Any, pool: Any, k: int, own: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each query the k most similar rows of the pool, by inner product, the best first; equals in the pool's order.

    Args:
        queries: (n, d), an array or a CSR matrix, rows of unit length.
        pool: (m, d), of the same kind.
        k: how many, of m at most.
        own: (n,): the row of the pool that each query must not get, -1 for none.

    Yields:
        Places in the pool, and their similarities, each of k (or one less, where there are no more beside its own).
    """
    import numpy as np

    across = pool.T if isinstance(pool, np.ndarray) else pool.T.tocsr()
    for block in blocks(queries.shape[0], pool.shape[0]):
        some = queries[block]
        similarities = some @ across
        mine = None if own is None else own[block]
        if isinstance(similarities, np.ndarray):
            yield from best(similarities, k, mine, partial(_products, pool, some))
        else:
            yield from best(similarities.toarray(), k, mine)


def blocks(queries: int, rows: int) -> Iterator[slice]:
    """The queries whose similarities to all rows are held at once."""
    size = max(1, BLOCK // max(1, rows))
    return (slice(start, min(start + size, queries)) for start in range(0, queries, size))


def best(
    scores: np.ndarray, k: int, own: np.ndarray | None, again: Callable[[int, np.ndarray], np.ndarray] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each row of scores the places of its k highest, the best first; equals in order of place.

    Args:
        scores: (n, m); what is nobody's to have is overwritten.
        k: how many.
        own: (n,): the place that each row must not get, -1 for none.
        again: (row, places) -> their scores, to the last bit the same whatever block they are in.

    Yields:
        Places and their scores, each of k (or less, where there are no more beside its own).
    """
    import numpy as np

    if own is not None:
        at = np.flatnonzero(own >= 0)
        scores[at, own[at]] = -np.inf
    enough = _floor(scores, k) - SLACK
    for i, row in enumerate(scores):
        found = np.flatnonzero(row >= enough[i])
        likeness = row[found]
        if again is not None:
            likeness = np.where(likeness == -np.inf, likeness, again(i, found))
        first = np.argsort(-likeness, kind="stable")[:k]
        first = first[likeness[first] > -np.inf]
        yield found[first], likeness[first]


def _products(pool: np.ndarray, queries: np.ndarray, i: int, places: np.ndarray) -> np.ndarray:
    """Inner products, each summed by itself."""
    import numpy as np

    return np.asarray(np.einsum("md,d->m", pool[places], queries[i], dtype=np.float64).astype(np.float32))


def _floor(similarities: np.ndarray, k: int) -> np.ndarray:
    """A similarity that at least k of each row reach: the k-th best of the bests of groups, far quicker to find."""
    import numpy as np

    n, m = similarities.shape
    width = min(32, m // (4 * k))
    if width < 2:
        return np.asarray(np.partition(similarities, max(0, m - k), axis=1)[:, max(0, m - k)])
    groups = m // width
    heads = similarities[:, : groups * width].reshape(n, width, groups).max(axis=1)
    return np.asarray(np.partition(heads, groups - k, axis=1)[:, groups - k])
