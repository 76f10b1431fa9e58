"""`tfidf`: words weighed by how rare they are in the pool. Needs no model and no extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

WORD = r"(?u)\w+|[^\w\s]"
"""A word or a sign: a question mark tells a question."""


class TfIdf(Encoder):
    """Word weights: (1 + ln tf) · (ln((1 + N) / (1 + df)) + 1), scaled to unit length.

    tf counts the word in the text, df the texts of the pool that have it, N is the size of the pool (Salton and Buckley
    1988, as scikit-learn smooths it). Words that the pool does not have count nothing.

    Args:
        ngrams: words in a row that count as one too, up to so many.

    >>> pool = [Example(0, {"t": "good film"}), Example(1, {"t": "bad film"})]
    >>> view, encoder = View(lambda x: x.inputs["t"]), TfIdf()
    >>> vectors = encoder.encode(encoder.fit(pool, view), [*pool, Example("q", {"t": "a good one"})], view)
    >>> [round(float(s), 2) for s in (vectors @ vectors.T).toarray()[2]]
    [0.81, 0.0, 1.0]
    """

    use: Literal["tfidf"] = "tfidf"
    ngrams: Literal[1, 2, 3] = 1

    def fit(self, pool: Sequence[Example], view: View) -> Any:
        """The vocabulary and its weights."""
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        learner = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, self.ngrams), sublinear_tf=True, dtype=np.float32)
        try:
            return learner.fit(view.texts(pool))
        except ValueError:  # no text has a word
            return None

    def encode(self, state: Any, xs: Sequence[Example], view: View) -> Any:
        """A sparse row for each."""
        import numpy as np
        from scipy.sparse import csr_matrix

        if state is None or not xs:
            return csr_matrix((len(xs), 1), dtype=np.float32)
        return state.transform(view.texts(xs)) if xs else csr_matrix((0, len(state.vocabulary_)), dtype=np.float32)
