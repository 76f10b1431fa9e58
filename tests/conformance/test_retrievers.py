"""The laws of retrievers: seeded, never the query nor its duplicate, states that survive JSON."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from conformance.specs import Case, cases, made

from icl_engine.types import Demonstration, Example

EVERY = pytest.mark.parametrize(("name", "case"), cases("retriever"))
POOL = [Example(i, {"t": f"t{i}"}, "ab"[i % 2]) for i in range(9)]
POOL += [Example(f"again {x.id}", {"t": f" T{x.id} "}, x.target) for x in POOL]
QUERIES = [Example("query", {"t": "?"}), *POOL, *(Example("twin", {"t": f"{x.inputs['t']}\n"}) for x in POOL)]


def who(x: Example) -> str:
    return str(x.inputs["t"]).strip().lower()


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
