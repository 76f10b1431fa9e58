"""What retrievers that choose for each query share: the pool's order, duplicates, leakage, shared sets, states."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.ranked import canonical
from icl_engine.protocols import View
from icl_engine.registry import resolve
from icl_engine.types import Example

VIEW = View(lambda x: " ".join(str(x.inputs["t"]).lower().split()))
KINDS: tuple[dict[str, Any], ...] = (
    {"use": "bm25"},
    {"use": "tfidf"},
    {"use": "knn", "encoder": "tfidf"},
    {"use": "mmr", "candidates": 6},
    {"use": "dpp", "candidates": 6},
    {"use": "hybrid", "of": ["bm25", "tfidf"]},
    {"use": "bm25", "prefix": "shared", "groups": 3},
    {"use": "dpp", "prefix": "shared", "groups": 3},
    {"use": "cluster"},
    {"use": "votek", "neighbours": 3},
    {"use": "complexity", "field": "t"},
)
POOLS = st.lists(st.tuples(st.text("abAB .", max_size=8), st.sampled_from("xyz")), min_size=1, max_size=14)


def examples(found: Sequence[tuple[str, Any]]) -> list[Example]:
    return [Example(i, {"t": t}, y) for i, (t, y) in enumerate(found)]


def made(spec: dict[str, Any], k: int) -> Any:
    return resolve("retriever", spec["use"]).model_validate({**spec, "k": k})


@settings(deadline=None, max_examples=60)
@given(POOLS, st.sampled_from(KINDS), st.integers(1, 5), st.text("abAB .", max_size=8), st.randoms())
def test_never_the_query_never_twice_and_k_where_there_are_k(
    found: list[tuple[str, str]], spec: dict[str, Any], k: int, query: str, rng: random.Random
) -> None:
    pool, retriever = examples(found), made(spec, k)
    different = {VIEW(x) for x in pool}
    if len(different) < k:
        with pytest.raises(TaskError, match=f"k is {k}, but the train split has {len(different)} different rows"):
            retriever.fit(pool, VIEW, 0)
        return
    state = retriever.fit(pool, VIEW, 0)
    xs = [Example("query", {"t": query}), *pool]
    shown = retriever.select_many(state, xs, VIEW)
    for x, demonstrations in zip(xs, shown, strict=True):
        keys = [VIEW(d.example) for d in demonstrations]
        assert len(set(keys)) == len(keys) == min(k, len(different - {VIEW(x)}))
        assert VIEW(x) not in keys
    assert [retriever.select(state, x, VIEW) for x in xs] == shown
    again = retriever.restore(json.loads(json.dumps(retriever.dump(state))), VIEW)
    assert retriever.select_many(again, xs, VIEW) == shown
    shuffled = retriever.fit(rng.sample(pool, len(pool)), VIEW, 0)
    assert retriever.select_many(shuffled, xs, VIEW) == shown


# -- duplicates


def test_of_duplicates_the_one_with_the_most_frequent_label_stands_for_all() -> None:
    pool = examples([("a", "x"), ("b", "y"), ("A", "y"), (" a", "y"), ("b", "x")])
    rows, places = canonical(pool, VIEW)
    assert [(VIEW(x), x.target) for x in rows] == [("a", "y"), ("b", "x")]
    assert places == {"a": 0, "b": 1}


def test_duplicates_that_differ_only_in_their_id_are_chosen_alike() -> None:
    pool = [Example(i, {"t": "same"}, "x") for i in (3, 1, 2)]
    assert {canonical(random.Random(s).sample(pool, 3), VIEW)[0][0].id for s in range(9)} == {1}


# -- shared sets

WORDS = ("film", "rain", "tree", "bread")
POOL = examples([(f"{WORDS[i % 4]} {WORDS[i % 4]} number {i}", "xy"[i % 2]) for i in range(80)])


@pytest.mark.parametrize("spec", [s for s in KINDS if s["use"] not in ("cluster", "votek", "complexity")])
def test_a_group_is_shown_one_set(spec: dict[str, Any]) -> None:
    retriever = made({**spec, "prefix": "shared", "groups": 4}, 3)
    assert retriever.shares
    state = retriever.fit(POOL, VIEW, 0)
    queries = [Example(f"q{i}", {"t": f"the {WORDS[i % 4]} of {i}00"}) for i in range(40)]
    sets = [tuple(d.example.id for d in shown) for shown in retriever.select_many(state, queries, VIEW)]
    assert len(set(sets)) <= 4
    assert len(set(sets)) >= 3
    assert all(sets[i] == sets[i % 4] for i in range(40))


def test_a_query_of_its_groups_set_gets_the_one_in_reserve() -> None:
    retriever = made({"use": "tfidf", "prefix": "shared", "groups": 4}, 3)
    state = retriever.fit(POOL, VIEW, 0)
    sets = Counter(tuple(d.example.id for d in shown) for shown in retriever.select_many(state, POOL, VIEW))
    common = {i for ids, n in sets.items() if n > 1 for i in ids}
    for x in POOL:
        shown = [d.example.id for d in retriever.select(state, x, VIEW)]
        assert len(shown) == 3
        assert x.id not in shown
        assert len(common & set(shown)) >= 2


def test_another_seed_groups_otherwise() -> None:
    spec = {"use": "tfidf", "prefix": "shared", "groups": 9}
    chosen = {
        str(
            [[d.example.id for d in s] for s in made(spec, 2).select_many(made(spec, 2).fit(POOL, VIEW, n), POOL, VIEW)]
        )
        for n in range(4)
    }
    assert len(chosen) > 1
