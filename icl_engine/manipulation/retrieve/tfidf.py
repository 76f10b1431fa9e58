"""`tfidf`: the examples that share the query's rare words. The light default: no model, no extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from icl_engine.manipulation.encode.tfidf import TfIdf as Words
from icl_engine.manipulation.retrieve.knn import Encoded
from icl_engine.manipulation.retrieve.ranked import Choice, Ranked
from icl_engine.protocols import View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


class TfIdf(Ranked):
    """The `k` examples whose words are most like the query's: cosine of tf-idf weights.

    Args:
        ngrams: words in a row that count as one too, up to so many.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "a bad film", "a wet day"])]
    >>> view, tfidf = View(lambda x: x.inputs["t"]), TfIdf(k=1)
    >>> tfidf.select(tfidf.fit(pool, view, seed=0), Example("q", {"t": "what a wet film"}), view)[0].example.id
    2
    """

    use: Literal["tfidf"] = "tfidf"
    ngrams: Literal[1, 2, 3] = 1

    def grouping(self) -> Words:
        """The same weights."""
        return Words(ngrams=self.ngrams)

    def vectors(self, learned: Encoded, pool: Sequence[Example], view: View) -> tuple[Any, Any]:
        """Those that are there."""
        return learned.state, learned.vectors

    def index(self, pool: Sequence[Example], view: View, seed: int) -> Encoded:
        """The pool's words, weighed."""
        return Encoded.of(Words(ngrams=self.ngrams), pool, view)

    def choose(
        self, learned: Encoded, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k most similar to each."""
        return learned.nearest(Words(ngrams=self.ngrams), xs, own, k, view)
