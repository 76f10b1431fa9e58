"""`bm25`: the examples that share the query's rare words, as search engines rank them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from icl_engine.manipulation.encode.tfidf import WORD
from icl_engine.manipulation.retrieve.nearest import best, blocks
from icl_engine.manipulation.retrieve.ranked import Choice, Ranked
from icl_engine.protocols import View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


class Bm25(Ranked):
    """The `k` examples with the highest BM25 score for the query's words (Robertson and Zaragoza 2009), by bm25s.

    Σ over the query's words w of idf(w) · tf / (tf + k1 · (1 - b + b · length / mean length)), as Lucene has it:
    idf = ln(1 + (N - df + ½) / (df + ½)). Words are lower-cased; signs count as words. Equal scores, so those of a
    query without a known word: in the pool's order.

    Args:
        k1: how slowly a word that is repeated stops counting more.
        b: how much a long text's words count less; 0: not at all.
        method: the variant: ``lucene``, ``robertson`` (idf at least 0), ``atire``, ``bm25l`` or ``bm25+``.
        delta: what ``bm25l`` and ``bm25+`` add for a word; the others do not use it.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "a bad film", "a wet day"])]
    >>> view, bm25 = View(lambda x: x.inputs["t"]), Bm25(k=1)
    >>> bm25.select(bm25.fit(pool, view, seed=0), Example("q", {"t": "what a wet film"}), view)[0].example.id
    2
    """

    use: Literal["bm25"] = "bm25"
    k1: float = Field(default=1.5, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)
    method: Literal["lucene", "robertson", "atire", "bm25l", "bm25+"] = "lucene"
    delta: float = Field(default=0.5, ge=0)

    def index(self, pool: Sequence[Example], view: View, seed: int) -> Any:
        """Each word's score in each text that has it; None where no text has a word."""
        import logging

        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to tell every index that it builds
        vocabulary: dict[str, int] = {}
        texts = [[vocabulary.setdefault(w, len(vocabulary)) for w in words(text)] for text in view.texts(pool)]
        if not vocabulary:
            return None
        learned = bm25s.BM25(k1=self.k1, b=self.b, delta=self.delta, method=self.method, csc_backend="scipy")
        learned.index((texts, vocabulary), create_empty_token=False, show_progress=False)
        return learned

    def choose(
        self, learned: Any, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k with the highest scores."""
        import numpy as np

        chosen = []
        for block in blocks(len(xs), len(pool)):
            scores = np.zeros((block.stop - block.start, len(pool)), dtype=np.float32)
            for i, text in enumerate(view.texts(xs[block]) if learned is not None else ()):
                known = learned.get_tokens_ids(words(text))
                if known:
                    scores[i] = learned.get_scores_from_ids(known)
            chosen += [
                [
                    Choice(int(at), float(s), f"rank {n} by bm25")
                    for n, (at, s) in enumerate(zip(*found, strict=True), 1)
                ]
                for found in best(scores, k, own[block])
            ]
        return chosen


def words(text: str) -> list[str]:
    """The words and signs of a text, in lower case.

    >>> words("Is it Ann's?")
    ['is', 'it', 'ann', "'", 's', '?']
    """
    return re.findall(WORD, text.lower())
