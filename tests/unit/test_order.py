"""In which order demonstrations stand: what every order keeps, and what each promises."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.errors import TaskError
from icl_engine.manipulation.order import (
    MEASURES,
    arranged,
    candidates,
    entropy,
    global_entropy,
    local_entropy,
    order_of,
)
from icl_engine.manipulation.retrieve.random import Random
from icl_engine.manipulation.retrieve.tfidf import TfIdf
from icl_engine.protocols import EntropyOrder
from icl_engine.types import Demonstration, Example, Reading

Shown = tuple[Demonstration, ...]
NAMES: list[Any] = ["as_retrieved", "similarity", "random", "label_interleaved"]


def found(labels: str, scores: list[float] | None = None) -> Shown:
    """Demonstrations with these labels, the best first."""
    falling = sorted(scores, reverse=True) if scores is not None else [None] * len(labels)
    return tuple(
        Demonstration(Example(i, {}, y), score=s) for i, (y, s) in enumerate(zip(labels, falling, strict=True))
    )


@st.composite
def sets(draw: st.DrawFn) -> Shown:
    labels = draw(st.text("abc", max_size=8))
    scored = st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels))
    return found(labels, draw(st.none() | scored))


def labels_of(shown: Shown) -> list[str]:
    return [str(d.example.target) for d in shown]


@given(sets(), st.sampled_from(NAMES), st.integers(0, 5))
def test_an_order_shows_the_same_demonstrations(shown: Shown, order: Any, seed: int) -> None:
    assert Counter(map(id, arranged(shown, order, seed))) == Counter(map(id, shown))


@given(st.text("ab", max_size=8), st.data())
def test_the_most_similar_stands_last(labels: str, data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels)))
    shown = arranged(found(labels, scores), "similarity", 0)
    assert [d.score for d in shown] == sorted(scores)
    if shown:
        assert shown[-1].example.id == 0  # of equally similar ones the one found first


@given(sets(), st.integers(0, 3))
def test_a_random_order_depends_on_the_set_and_the_seed_alone(shown: Shown, seed: int) -> None:
    again = tuple(Demonstration(d.example, "for another query", d.score) for d in shown)
    ids = [[d.example.id for d in arranged(s, "random", seed)] for s in (shown, again)]
    assert ids[0] == ids[1]


def test_seeds_give_different_random_orders() -> None:
    shown = found("abcdefgh")
    assert len({tuple(d.example.id for d in arranged(shown, "random", seed)) for seed in range(20)}) == 20


@given(sets())
def test_labels_take_turns(shown: Shown) -> None:
    """The first round shows every label once, the next those that have more, and so on; the best round is nearest."""
    ordered = arranged(shown, "label_interleaved", 0)
    scored = bool(shown) and shown[0].score is not None
    labels = labels_of(ordered)[::-1] if scored else labels_of(ordered)
    left = Counter(labels)
    at = 0
    while left := Counter({label: n for label, n in left.items() if n}):
        turn = labels[at : at + len(left)]
        assert set(turn) == set(left)
        at += len(turn)
        left.subtract(turn)


def test_no_two_neighbours_share_a_label_where_labels_are_balanced() -> None:
    shown = arranged(found("aaabbb"), "label_interleaved", 0)
    assert all(a != b for a, b in pairwise(labels_of(shown)))


def test_an_order_by_entropy_is_an_order_of_ranks_also_of_fewer() -> None:
    shown = found("abc")
    assert [d.example.id for d in arranged(shown, EntropyOrder(), 0, (2, 0, 1))] == [2, 0, 1]
    assert [d.example.id for d in arranged(shown[:2], EntropyOrder(), 0, (2, 0, 1))] == [0, 1]


@pytest.mark.parametrize(
    ("k", "most", "count"), [(3, 24, 6), (4, 24, 24), (5, 24, 24), (1, 2, 1), (0, 2, 1), (8, 2, 2)]
)
def test_candidates_are_different_orders_that_of_the_ranks_first(k: int, most: int, count: int) -> None:
    tried = candidates(k, most, seed=3)
    assert tried[0] == tuple(range(k))
    assert len(set(tried)) == len(tried) == count
    assert all(sorted(order) == list(range(k)) for order in tried)
    assert tried == candidates(k, most, seed=3)
    if count == math.factorial(k):
        assert set(tried) == set(permutations(range(k)))


def test_entropies_by_their_formulas() -> None:
    said = [
        Reading(value="a", distribution={"a": 0.9, "b": 0.1}),
        Reading(value="b", distribution={"a": 0.2, "b": 0.8}),
    ]
    assert global_entropy(said) == pytest.approx(math.log(2))
    assert local_entropy(said) == pytest.approx((entropy([0.9, 0.1]) + entropy([0.2, 0.8])) / 2)
    assert global_entropy([*said, Reading(status="unparsed")]) == pytest.approx(math.log(2))
    assert global_entropy([Reading(status="unparsed")]) == 0
    assert set(MEASURES) == {"global", "local"}


def test_what_has_no_similarity_is_not_ordered_by_it() -> None:
    assert order_of(Random(k=2)) == "as_retrieved"
    assert order_of(TfIdf(k=2)) == "similarity"
    assert order_of(TfIdf(k=2, order="entropy")) == EntropyOrder()
    with pytest.raises(TaskError, match="random does not tell how similar"):
        order_of(Random(k=2, order="similarity"))
