"""The laws of retrievers: seeded, never the query nor its duplicate, states that survive JSON."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from conformance.specs import Case, cases, made

from icl_engine.errors import TaskError
from icl_engine.protocols import View
from icl_engine.registry import resolve
from icl_engine.types import Demonstration, Example

EVERY = pytest.mark.parametrize(("name", "case"), cases("retriever"))
SCORED = pytest.mark.parametrize(
    ("name", "case"), [c for c in cases("retriever") if resolve("retriever", str(c.values[0])).scored]
)
BY_CONTENT = pytest.mark.parametrize(
    ("name", "case"), [c for c in cases("retriever") if c.values[0] not in ("fixed", "random")]
)
TEXTS = [
    "a good film",
    "a bad film",
    "good, good film!",
    "the day was long",
    "a long day",
    "rain again",
    "is the film good?",
    "bad rain",
    "a",
]
POOL = [Example(i, {"t": t, "rationale": f"{t}. Then. " * (i % 4)}, "ab"[i % 2]) for i, t in enumerate(TEXTS)]
POOL += [Example(f"again {x.id}", {**x.inputs, "t": f" {x.inputs['t'].upper()} "}, x.target) for x in POOL]
STRANGERS = [Example("query", {"t": t}) for t in ("?", "", "a good long day", "unheard of")]
QUERIES = [*STRANGERS, *POOL, *(Example("twin", {"t": f"{x.inputs['t']}\n"}) for x in POOL[: len(TEXTS)])]


who = View(lambda x: str(x.inputs["t"]).strip().lower())


def selections(retriever: Any, state: Any) -> list[tuple[Demonstration, ...]]:
    return [retriever.select(state, x, who) for x in QUERIES]


@EVERY
def test_the_query_and_its_duplicates_are_never_shown(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    shown = selections(retriever, retriever.fit(POOL, who, 0))
    for x, demonstrations in zip(QUERIES, shown, strict=True):
        assert demonstrations
        assert who(x) not in {who(d.example) for d in demonstrations}


@EVERY
def test_demonstrations_are_rows_of_the_pool_and_say_why(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    for demonstrations in selections(retriever, retriever.fit(POOL, who, 0)):
        assert all(d.example in POOL and d.why for d in demonstrations)


@EVERY
def test_the_same_seed_selects_the_same(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    assert selections(retriever, retriever.fit(POOL, who, 3)) == selections(retriever, retriever.fit(POOL, who, 3))


@EVERY
def test_a_state_that_went_through_json_selects_the_same(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    state = retriever.fit(POOL, who, 0)
    again = retriever.restore(json.loads(json.dumps(retriever.dump(state))), who)
    assert selections(retriever, again) == selections(retriever, state)


@EVERY
def test_fit_and_select_change_nothing_they_are_given(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    pool, spec = copy.deepcopy(POOL), retriever.model_dump()
    state = retriever.fit(pool, who, 0)
    saved = json.dumps(retriever.dump(state))
    selections(retriever, state)
    assert (pool, retriever.model_dump(), json.dumps(retriever.dump(state))) == (POOL, spec, saved)


def wanted(retriever: Any) -> int:
    """How many demonstrations it shows: k, for each of the two labels where it chooses by label."""
    k = len(TEXTS) if getattr(retriever, "k", None) is None else int(retriever.k)
    return 2 * k if retriever.use == "per_label" else k


@EVERY
def test_as_many_as_wanted_are_shown_and_none_twice(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    pool = POOL[: len(TEXTS)]
    state = retriever.fit(pool, who, 0)
    for x in QUERIES:
        keys = [who(d.example) for d in retriever.select(state, x, who)]
        assert len(set(keys)) == len(keys)
        # What the user wrote has no stand-ins.
        assert len(keys) in ({wanted(retriever), wanted(retriever) - 1} if name == "fixed" else {wanted(retriever)})


@EVERY
def test_many_queries_get_what_each_gets_alone(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    state = retriever.fit(POOL, who, 0)
    assert retriever.select_many(state, QUERIES, who) == selections(retriever, state)
    assert retriever.select_many(state, [], who) == []


@BY_CONTENT
def test_the_order_of_the_pool_is_no_matter(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    expected = selections(retriever, retriever.fit(POOL, who, 0))
    for seed in range(3):
        pool = random.Random(seed).sample(POOL, len(POOL))
        assert selections(retriever, retriever.fit(pool, who, 0)) == expected


@SCORED
def test_the_best_come_first(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    for demonstrations in selections(retriever, retriever.fit(POOL, who, 0)):
        scores = [d.score for d in demonstrations if d.score is not None]
        assert len(scores) == len(demonstrations)
        assert scores == sorted(scores, reverse=True)


@EVERY
def test_a_pool_that_holds_too_few_different_rows_is_refused(name: str, case: Case) -> None:
    retriever = made("retriever", name, case)
    if name == "fixed":
        return  # its rows are the user's own
    pool = [x for x in POOL if x.id in (0, "again 0")]
    with pytest.raises(TaskError, match=r"k is|balanced k") as caught:
        made("retriever", name, Case({**case.keys, "k": 2})).fit(pool, who, 0)
    assert caught.value.key == "input.demonstrations.k"
    assert retriever.fit(POOL, who, 0) is not None
