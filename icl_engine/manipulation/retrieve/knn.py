"""`knn`: the most similar examples by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from icl_engine.manipulation.encode import AnyEncoder
from icl_engine.manipulation.retrieve.nearest import nearest
from icl_engine.manipulation.retrieve.ranked import Choice, Ranked
from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Encoded:
    """A pool as vectors.

    Args:
        state: what the encoder learned of the pool.
        vectors: (m, d), rows of unit length.
    """

    state: Any
    vectors: Any

    @staticmethod
    def of(encoder: Encoder, pool: Sequence[Example], view: View) -> Encoded:
        """The pool as an encoder sees it."""
        state = encoder.fit(pool, view)
        return Encoded(state, encoder.encode(state, pool, view))

    def nearest(
        self, encoder: Encoder, xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k rows most similar to each x, the best first."""
        queries = encoder.encode(self.state, xs, view)
        return [
            [
                Choice(int(i), float(s), f"rank {n} by {encoder.use}")
                for n, (i, s) in enumerate(zip(*found, strict=True), start=1)
            ]
            for found in nearest(queries, self.vectors, k, own)
        ]


class Similar(Ranked):
    """A retriever that compares vectors.

    Args:
        encoder: what makes vectors of texts: ``tfidf``, the name or path of a sentence-transformers model, or a
            mapping with ``use``.
    """

    encoder: AnyEncoder = Field(default="tfidf", validate_default=True)

    def index(self, pool: Sequence[Example], view: View, seed: int) -> Any:
        """The pool as vectors."""
        return Encoded.of(self.encoder, pool, view)

    def grouping(self) -> Encoder:
        """The same vectors."""
        return self.encoder

    def vectors(self, learned: Any, pool: Sequence[Example], view: View) -> tuple[Any, Any]:
        """Those that are there, where the whole pool's are kept together."""
        if isinstance(learned, Encoded):
            return learned.state, learned.vectors
        return super().vectors(learned, pool, view)


class Knn(Similar):
    """The `k` examples most similar to the query: cosine of sentence embeddings (Liu et al. 2022, KATE).

    Args:
        encoder: what makes vectors of texts: the name or path of a sentence-transformers model (it needs the extra
            ``dense``), ``tfidf``, or a mapping with ``use``.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "a bad film", "rain again"])]
    >>> view, knn = View(lambda x: x.inputs["t"]), Knn(k=2, encoder="tfidf")
    >>> [d.example.id for d in knn.select(knn.fit(pool, view, seed=0), Example("q", {"t": "good, good film"}), view)]
    [0, 1]
    """

    use: Literal["knn"] = "knn"
    encoder: AnyEncoder = Field(default="all-MiniLM-L6-v2", validate_default=True)

    def choose(
        self, learned: Encoded, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k most similar to each."""
        return learned.nearest(self.encoder, xs, own, k, view)
