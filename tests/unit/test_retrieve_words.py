"""`bm25` against the formulas of its variants, and `hybrid` against reciprocal rank fusion written out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from icl_engine.manipulation.retrieve import hybrid as module
from icl_engine.manipulation.retrieve.bm25 import Bm25, words
from icl_engine.manipulation.retrieve.hybrid import Hybrid
from icl_engine.manipulation.retrieve.tfidf import TfIdf
from icl_engine.protocols import View
from icl_engine.types import Example

VIEW = View(lambda x: str(x.inputs["t"]))
TEXTS = st.lists(st.text("ab c?", max_size=12), min_size=1, max_size=20, unique=True)

IDF: dict[str, Callable[[int, int], float]] = {
    "lucene": lambda n, df: math.log(1 + (n - df + 0.5) / (df + 0.5)),
    "robertson": lambda n, df: math.log(max(1.0, (n - df + 0.5) / (df + 0.5))),
    "atire": lambda n, df: math.log(n / df),
    "bm25l": lambda n, df: math.log((n + 1) / (df + 0.5)),
    "bm25+": lambda n, df: math.log((n + 1) / df),
}


def tf_part(method: str, tf: int, norm: float, k1: float, delta: float) -> float:
    """norm is 1 - b + b · length / mean length; a text that has not the word may be of any length."""
    norm = norm if tf else 1.0
    if method == "bm25l":
        c = tf / norm
        return (k1 + 1) * (c + delta) / (k1 + c + delta)
    share = tf / (tf + k1 * norm)
    return {"atire": (k1 + 1) * share, "bm25+": (k1 + 1) * share + delta}.get(method, share)


def scores_by_formula(texts: list[str], query: str, method: str, k1: float, b: float, delta: float) -> list[float]:
    counts = [Counter(words(t)) for t in texts]
    mean = sum(map(Counter.total, counts)) / len(counts)
    df = Counter(w for count in counts for w in count)
    return [
        sum(
            IDF[method](len(texts), df[w]) * tf_part(method, count[w], 1 - b + b * count.total() / mean, k1, delta)
            for w in words(query)
            if df[w]
        )
        for count in counts
    ]


def rows(texts: list[str]) -> list[Example]:
    """In the order of their texts, as a pool is."""
    return [Example(i, {"t": t}, "") for i, t in enumerate(sorted(texts))]


@settings(deadline=None)
@given(TEXTS, st.text("ab cd?", max_size=12), st.sampled_from(sorted(IDF)), st.sampled_from([0.0, 0.75, 1.0]))
def test_bm25_is_its_formula(texts: list[str], query: str, method: Any, b: float) -> None:
    pool = rows(texts)
    bm25 = Bm25(k=len(pool), method=method, b=b, k1=1.2, delta=0.7)
    shown = bm25.select(bm25.fit(pool, VIEW, 0), Example("q", {"t": query + " "}), VIEW)
    # A text equal to the query is left out; the pool's texts are numbered in their order.
    kept = [x for x in pool if VIEW(x) != query + " "]
    scores: dict[Any, float] = dict(enumerate(scores_by_formula(sorted(texts), query, method, 1.2, b, 0.7)))
    assert len(shown) == len(kept)
    assert [d.score for d in shown] == pytest.approx([scores[d.example.id] for d in shown], abs=1e-4)
    assert [d.score for d in shown] == pytest.approx(sorted((scores[x.id] for x in kept), reverse=True), abs=1e-4)


@pytest.mark.parametrize("query", ["", "unheard of", "!!"])
def test_a_query_without_a_known_word_gets_the_first_of_the_pool(query: str) -> None:
    bm25 = Bm25(k=3)
    state = bm25.fit(rows([f"row {i}" for i in range(9)]), VIEW, 0)
    shown = bm25.select(state, Example("q", {"t": query}), VIEW)
    assert [(d.example.id, d.score) for d in shown] == [(0, 0.0), (1, 0.0), (2, 0.0)]


def test_a_pool_without_words_gives_its_first() -> None:
    bm25 = Bm25(k=2)
    shown = bm25.select(bm25.fit(rows(["", " ", "  "]), VIEW, 0), Example("q", {"t": "word"}), VIEW)
    assert [d.example.id for d in shown] == [0, 1]


def test_only_what_the_template_shows_is_compared() -> None:
    view = View(lambda x: str(x.id), lambda x: str(x.inputs["t"]))
    bm25 = Bm25(k=1)
    pool = [Example("one", {"t": "tall tree"}), Example("two", {"t": "one"})]
    assert bm25.select(bm25.fit(pool, view, 0), Example("one?", {"t": "one"}), view)[0].example.id == "two"


# -- hybrid


def fused_by_definition(
    rankings: list[list[tuple[Any, float]]], k: int, depth: int, constant: float
) -> dict[Any, float]:
    scores: dict[Any, float] = {}
    for ranking in rankings:
        for rank, (i, score) in enumerate(ranking[:depth], start=1):
            scores[i] = scores.get(i, 0.0) + (1 / (constant + rank) if score > 0 else 0.0)
    return dict(sorted(scores.items(), key=lambda f: (-f[1], f[0]))[:k])


@settings(deadline=None)
@given(TEXTS, st.text("ab cd?", max_size=12), st.integers(1, 4), st.integers(1, 9), st.sampled_from([0, 1, 60]))
def test_hybrid_is_reciprocal_rank_fusion(texts: list[str], query: str, k: int, depth: int, constant: float) -> None:
    pool, x = rows(texts), Example("q", {"t": query})
    k = min(k, len(pool))
    hybrid = Hybrid.model_validate(
        {"use": "hybrid", "k": k, "of": ["bm25", "tfidf"], "depth": depth, "rank_constant": constant}
    )
    shown = hybrid.select(hybrid.fit(pool, VIEW, 0), x, VIEW)
    rankings = [
        [(d.example.id, d.score or 0.0) for d in r.select(r.fit(pool, VIEW, 0), x, VIEW)]
        for r in (Bm25(k=len(pool)), TfIdf(k=len(pool)))
    ]
    assert {d.example.id: d.score for d in shown} == pytest.approx(
        fused_by_definition(rankings, k, max(k, depth), constant)
    )


def test_queries_are_fused_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = rows([f"word {i % 7} of {i % 5} and {i}" for i in range(40)])
    hybrid = Hybrid.model_validate({"use": "hybrid", "k": 3, "of": ["bm25", "tfidf"]})
    state = hybrid.fit(pool, VIEW, 0)
    whole = hybrid.select_many(state, pool, VIEW)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert hybrid.select_many(state, pool, VIEW) == whole


def test_why_names_the_rank_in_each() -> None:
    pool = rows(["a good film", "a bad film", "good rain", "rain again"])
    hybrid = Hybrid.model_validate({"use": "hybrid", "k": 4, "of": ["bm25", {"use": "knn", "encoder": "tfidf"}]})
    shown = hybrid.select(hybrid.fit(pool, VIEW, 0), Example("q", {"t": "good film"}), VIEW)
    assert [d.why for d in shown] == [
        "rank 1 by bm25, 1 by knn",
        "rank 2 by bm25, 2 by knn",
        "rank 3 by bm25, 3 by knn",
        "rank 4 by knn",
    ]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (["bm25", "mmr"], "retrievers that rank by one score: bm25, knn, tfidf"),
        (["bm25", 7], "retrievers that rank by one score"),
        (["bm25", {"use": "tfidf", "k": 4}], "tfidf inside 'of' takes no 'k': write it beside 'of'"),
        (["bm25", {"use": "tfidf", "prefix": "shared", "order": "random"}], "takes no 'order', 'prefix'"),
        (["bm25"], "at least 2 items"),
        (["bm25", {"use": "tfidf", "ngram": 2}], "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_fused_is_said(of: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Hybrid.model_validate({"use": "hybrid", "k": 2, "of": of})


def test_a_spec_keeps_the_keys_of_what_is_fused() -> None:
    spec = {"use": "hybrid", "k": 2, "of": ["bm25", {"use": "knn", "encoder": "tfidf"}]}
    dumped = Hybrid.model_validate(spec).model_dump()["of"]
    assert dumped == [
        {"use": "bm25", "k1": 1.5, "b": 0.75, "method": "lucene", "delta": 0.5},
        {"use": "knn", "encoder": {"use": "tfidf", "ngrams": 1}},
    ]
