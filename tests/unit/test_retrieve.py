"""`random` and `fixed`: seeds, balance, stand-ins, duplicates, and states that survive JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.fixed import Fixed
from icl_engine.manipulation.retrieve.random import Random
from icl_engine.protocols import View
from icl_engine.types import Demonstration, Example

STRANGER = Example("query", {"t": "?"})


who = View(lambda x: str(x.inputs["t"]).strip().lower())


def rows(n: int, labels: Sequence[Any] = "ab") -> list[Example]:
    return [Example(i, {"t": f"t{i}"}, labels[i % len(labels)]) for i in range(n)]


def ids(shown: Sequence[Demonstration]) -> list[int | str]:
    return [d.example.id for d in shown]


def draw(retriever: Random, pool: Sequence[Example], seed: int = 0, x: Example = STRANGER) -> tuple[Demonstration, ...]:
    return retriever.select(retriever.fit(pool, who, seed), x, who)


def twin(x: Example) -> Example:
    return Example("query", {"t": f" {x.inputs['t'].upper()} "})


# -- random: seeds


@pytest.mark.parametrize("balanced", [False, True])
def test_the_same_seed_draws_the_same(balanced: bool) -> None:
    retriever = Random(k=6, balanced=balanced)
    assert draw(retriever, rows(40), seed=3) == draw(retriever, rows(40), seed=3)


@pytest.mark.parametrize("balanced", [False, True])
def test_another_seed_draws_another_set(balanced: bool) -> None:
    draws = {tuple(ids(draw(Random(k=6, balanced=balanced), rows(40), seed=s))) for s in range(20)}
    assert len(draws) == 20


def test_the_retrievers_own_seed_stands_in_for_the_runs() -> None:
    own = Random(k=6, seed=5)
    assert (
        ids(draw(own, rows(40), seed=1)) == ids(draw(own, rows(40), seed=2)) == ids(draw(Random(k=6), rows(40), seed=5))
    )


def test_a_seed_of_zero_is_a_seed() -> None:
    assert ids(draw(Random(k=6, seed=0), rows(40), seed=9)) == ids(draw(Random(k=6), rows(40), seed=0))


def test_every_query_is_shown_one_and_the_same_draw() -> None:
    retriever = Random(k=3)
    state = retriever.fit(rows(10), who, 0)
    assert retriever.select(state, STRANGER, who) is retriever.select(state, Example("other", {"t": "!"}), who)


def test_a_larger_k_goes_on_where_the_smaller_ended() -> None:
    assert ids(draw(Random(k=4), rows(20))) == ids(draw(Random(k=9), rows(20)))[:4]


# -- random: balance


@pytest.mark.parametrize("k", range(1, 10))
def test_each_label_has_its_share_and_the_remainder_is_one_more_each(k: int) -> None:
    shares = Counter(d.example.target for d in draw(Random(k=k, balanced=True), rows(30, "abc")))
    assert sorted(shares[label] for label in "abc") == sorted(k // 3 + (i < k % 3) for i in range(3))


def test_the_remainder_goes_to_labels_drawn_by_seed() -> None:
    spare = {draw(Random(k=1, balanced=True), rows(30, "abc"), seed=s)[0].example.target for s in range(40)}
    assert spare == {"a", "b", "c"}


def test_a_balanced_draw_is_shuffled() -> None:
    orders = {tuple(d.example.target for d in draw(Random(k=4, balanced=True), rows(30), seed=s)) for s in range(60)}
    assert orders == {tuple(o) for o in ("aabb", "abab", "abba", "bbaa", "baba", "baab")}


def test_stored_numbers_are_labels_too() -> None:
    shares = Counter(d.example.target for d in draw(Random(k=4, balanced=True), rows(30, (0, 1))))
    assert shares == {0: 2, 1: 2}


# -- random: the query, and duplicates


def test_the_next_in_seeded_order_stands_in_for_the_query() -> None:
    drawn, longer = draw(Random(k=4), rows(20)), draw(Random(k=5), rows(20))
    for at, d in enumerate(drawn):
        shown = draw(Random(k=4), rows(20), x=twin(d.example))
        expected = list(ids(drawn))
        expected[at] = ids(longer)[-1]
        assert ids(shown) == expected


def test_the_stand_in_of_a_balanced_draw_has_the_label_of_the_one_it_replaces() -> None:
    retriever = Random(k=6, balanced=True)
    drawn = draw(retriever, rows(30, "abc"))
    for d in drawn:
        shown = draw(retriever, rows(30, "abc"), x=twin(d.example))
        assert [s.example.target for s in shown] == [s.example.target for s in drawn]
        assert d.example.id not in ids(shown)


def test_without_a_row_of_that_label_another_label_stands_in() -> None:
    pool = [*rows(1, "a"), *(Example(i, {"t": f"t{i}"}, "b") for i in range(1, 5))]
    shown = draw(Random(k=2, balanced=True), pool, x=twin(pool[0]))
    assert [d.example.target for d in shown] == ["b", "b"]
    assert len(set(ids(shown))) == 2


def test_without_any_other_row_the_query_is_left_out() -> None:
    assert sorted(map(str, ids(draw(Random(k=3), rows(3), x=twin(rows(3)[0]))))) == ["1", "2"]


def test_the_stand_in_says_why_it_is_shown() -> None:
    drawn = draw(Random(k=1), rows(5))
    assert "stands in" in draw(Random(k=1), rows(5), x=twin(drawn[0].example))[0].why


def test_a_pool_that_holds_too_few_different_rows_is_refused() -> None:
    pool = [*rows(3), *(Example(f"again {x.id}", {"t": f"{x.inputs['t']} "}, x.target) for x in rows(3))]
    with pytest.raises(TaskError, match="k is 4, but the train split has 3 different rows"):
        Random(k=4).fit(pool, who, 0)


def test_a_label_with_too_few_different_rows_is_refused() -> None:
    pool = [*(Example(i, {"t": f"t{i}"}, "a") for i in range(9)), Example(9, {"t": "t9"}, "b")]
    with pytest.raises(TaskError, match="needs 2 different rows labelled 'b', the train split has 1"):
        Random(k=4, balanced=True).fit(pool, who, 0)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(TaskError):
        Random(k=1, balanced=True).fit([], who, 0)


# -- fixed


@pytest.mark.parametrize(("k", "expected"), [(None, [0, 1, 2]), (2, [0, 1]), (0, [])])
def test_fixed_shows_the_first_k_in_the_order_written(k: int | None, expected: list[int]) -> None:
    retriever = Fixed(items=({"t": "unused"},), k=k)
    assert ids(retriever.select(retriever.fit(rows(3), who, 7), STRANGER, who)) == expected


def test_fixed_leaves_out_the_query_and_all_its_duplicates() -> None:
    pool = [*rows(3), Example("again", {"t": "T1"}, "a")]
    retriever = Fixed(items=({"t": "unused"},))
    state = retriever.fit(pool, who, 0)
    assert ids(retriever.select(state, twin(pool[1]), who)) == [0, 2]
    assert ids(retriever.select(state, STRANGER, who)) == [0, 1, 2, "again"]


@pytest.mark.parametrize("keys", [{}, {"path": "shots.jsonl", "items": [{"t": "a"}]}])
def test_fixed_takes_a_path_or_items(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either path"):
        Fixed.model_validate(keys)


# -- laws

TEXTS = st.lists(st.text("abAB ", min_size=1, max_size=3), min_size=1, max_size=25)
RETRIEVERS = st.builds(Random, k=st.integers(1, 8), balanced=st.booleans())


def labelled(texts: Sequence[str]) -> list[Example]:
    """Examples whose duplicates have the same label."""
    found = [Example(i, {"t": t}) for i, t in enumerate(texts)]
    return [Example(x.id, x.inputs, "xyz"[sum(map(ord, who(x))) % 3]) for x in found]


@given(TEXTS, RETRIEVERS, st.integers(0, 9), st.text("abAB ", max_size=3))
def test_a_draw_holds_k_different_rows_and_never_the_query(
    texts: list[str], retriever: Random, seed: int, q: str
) -> None:
    pool, x = labelled(texts), Example("query", {"t": q})
    sizes = Counter({who(p): p.target for p in pool}.values())
    try:
        state = retriever.fit(pool, who, seed)
    except TaskError:
        share = -(-retriever.k // len(sizes))
        assert sum(sizes.values()) < retriever.k or (retriever.balanced and min(sizes.values()) < share)
        return
    shown = retriever.select(state, x, who)
    keys = [who(d.example) for d in shown]
    assert len(set(keys)) == len(keys)
    assert who(x) not in keys
    others = sum(sizes.values()) - (who(x) in {who(p) for p in pool})
    assert len(shown) == min(retriever.k, others)
    assert all(d.example in pool for d in shown)
    if retriever.balanced and who(x) not in {who(p) for p in pool}:
        low = retriever.k // len(sizes)
        shares = Counter(d.example.target for d in shown)
        assert sorted(shares[label] - low for label in sizes) == sorted(
            int(i < retriever.k % len(sizes)) for i in range(len(sizes))
        )


@given(TEXTS, RETRIEVERS, st.integers(0, 9))
def test_a_state_that_went_through_json_selects_the_same(texts: list[str], retriever: Random, seed: int) -> None:
    pool = labelled(texts)
    try:
        state = retriever.fit(pool, who, seed)
    except TaskError:
        return
    again = retriever.restore(json.loads(json.dumps(retriever.dump(state))), who)
    for x in [STRANGER, *map(twin, pool)]:
        assert retriever.select(again, x, who) == retriever.select(state, x, who)
