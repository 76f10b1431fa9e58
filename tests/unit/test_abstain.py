"""`abstain`: what is kept, the threshold that an accuracy takes, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.abstain import NEVER, Abstain
from icl_engine.errors import TaskError
from icl_engine.protocols import Answered
from icl_engine.types import Reading

SEEN = st.lists(st.tuples(st.integers(50, 100).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=20)


def rows(seen: list[tuple[float, bool]]) -> list[Answered]:
    """Rows that answer a with p, rightly or not."""
    return [Answered("a", {"a": p, "b": 1 - p}, "a" if right else "b") for p, right in seen]


@given(seen=SEEN, goal=st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_the_threshold_is_the_lowest_that_reaches_the_accuracy(seen: list[tuple[float, bool]], goal: float) -> None:
    state = Abstain(accuracy=goal).fit(rows(seen))

    def share(threshold: float) -> tuple[float, float]:
        kept = [right for p, right in seen if p >= threshold]
        return (sum(kept) / len(kept) if kept else 0.0), len(kept) / len(seen)

    reached = [p for p, _ in seen if share(p)[0] >= goal]
    assert state["below"] == min(reached, default=NEVER)
    assert state["coverage"] == (share(state["below"])[1] if reached else 0.0)
    kept = [Abstain(accuracy=goal).apply(Reading(value="a", distribution=r.distribution), state) for r in rows(seen)]
    assert sum(r.status == "ok" for r in kept) / len(seen) == state["coverage"]


def test_what_is_not_sure_enough_has_no_answer_and_the_trace_has_it() -> None:
    step = Abstain(below=0.8)
    sure = Reading(value="a", distribution={"a": 0.8, "b": 0.2})
    assert step.apply(sure) == sure
    result = step.apply(Reading(value="a", distribution={"a": 0.53, "b": 0.47}, trace=("before",)))
    assert (result.status, result.value, result.distribution) == ("abstained", None, {"a": 0.53, "b": 0.47})
    assert result.trace == ("before", "abstain: 'a' with p 0.53, below 0.8")


def test_a_reading_without_a_distribution_is_left() -> None:
    reading = Reading(text="a", value="a")
    assert Abstain(below=0.9).apply(reading) == reading


def test_where_no_threshold_reaches_the_accuracy_nothing_is_answered_and_it_is_told() -> None:
    step = Abstain(accuracy=0.9)
    state = step.fit(rows([(0.99, False), (1.0, False), (0.6, True)]))
    assert state == {
        "below": NEVER,
        "coverage": 0.0,
        "rows": 3,
        "told": ["nothing is answered: at no p are 90% of 3 train rows right"],
    }
    result = step.apply(Reading(value="a", distribution={"a": 1.0}), state)
    assert (result.status, result.trace) == ("abstained", ("abstain: 'a' with p 1, nothing is sure enough",))


def test_rows_without_a_distribution_are_not_answered() -> None:
    state = Abstain(accuracy=1.0).fit([*rows([(0.9, True)]), Answered(None, None, "a")])
    assert (state["coverage"], state["rows"]) == (0.5, 1)
    assert state["told"][0] == "1 of 2 train rows left out: no distribution"
    with pytest.raises(TaskError, match="none of 1 train row has one"):
        Abstain(accuracy=1.0).fit([Answered("a", None, "a")])


@pytest.mark.parametrize("keys", [{}, {"below": 0.5, "accuracy": 0.9}, {"below": 0}, {"below": 1.1}, {"accuracy": 2}])
def test_one_of_two_keys_is_given_and_is_a_probability(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Abstain"):
        Abstain(**keys)


def test_a_given_threshold_learns_nothing() -> None:
    assert (Abstain(below=0.5).learns, Abstain(accuracy=0.5, rows=9).learns) == (0, 9)
