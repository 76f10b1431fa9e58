"""`cluster`: one of each kind of row in the pool, the same for every query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Literal

from pydantic import Field

from icl_engine.manipulation.encode import AnyEncoder
from icl_engine.manipulation.retrieve.drawn import ANY, Pick, PickedOnce
from icl_engine.manipulation.retrieve.kmeans import clusters
from icl_engine.protocols import View
from icl_engine.types import Example


class Cluster(PickedOnce):
    """The row nearest to the centre of each of `k` clusters by k-means (the choice of Zhang et al. 2022, Auto-CoT).

    Largest cluster first. For a query that is one of them the second nearest of its cluster stands in. Where the pool
    has fewer than `k` different vectors, the next of the largest clusters follow.

    Args:
        encoder: what makes vectors of texts: ``tfidf``, the name or path of a sentence-transformers model, or a
            mapping with ``use``.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["red rose", "red red rose", "a tall tree", "a tree"])]
    >>> view, cluster = View(lambda x: x.inputs["t"]), Cluster(k=2)
    >>> [d.why for d in cluster.select(cluster.fit(pool, view, seed=0), Example("q", {"t": "rose"}), view)]
    ['middle of cluster 1 (2 rows)', 'middle of cluster 2 (2 rows)']
    """

    use: Literal["cluster"] = "cluster"
    encoder: AnyEncoder = Field(default="tfidf", validate_default=True)

    def pick(self, pool: Sequence[Example], view: View, seed: int) -> tuple[Sequence[Pick], Mapping[str, int]]:
        """The middles, and the second nearest of each cluster."""
        found = clusters(self.encoder.encode(self.encoder.fit(pool, view), pool, view), self.k, seed)
        picked = [Pick(rows[0], f"middle of cluster {n} ({len(rows)} rows)") for n, rows in enumerate(found, start=1)]
        # The second of every cluster, then the third of every cluster, and so on.
        further = (i for i in chain.from_iterable(zip_longest(*(rows[1:] for rows in found))) if i is not None)
        own = {i: n for n, rows in enumerate(found, start=1) for i in rows} if len(found) < self.k else {}
        while len(picked) < self.k:
            place = next(further)
            picked.append(Pick(place, f"near the middle of cluster {own[place]}"))
        taken = {p.place for p in picked}
        spare = {str(n): rows[1] for n, rows in enumerate(found) if len(rows) > 1 and rows[1] not in taken}
        last = next(further, None)
        return picked, spare if last is None else {**spare, ANY: last}
