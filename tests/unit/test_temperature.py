"""`temperature` against a grid: the least log-loss, and an answer that stays the same."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.statistical.temperature import COLDEST, HOTTEST, Temperature
from icl_engine.protocols import Answered
from icl_engine.types import Reading

LABELS = ("a", "b", "c")


def normalised(weights: tuple[float, ...]) -> dict[str, float]:
    return {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)}


P = st.tuples(*[st.floats(0, 1)] * 3).filter(lambda w: sum(w) > 1e-6).map(normalised)
SEEN = st.lists(st.tuples(P, st.sampled_from(LABELS)), min_size=1, max_size=10)


def loss(t: float, seen: list[tuple[dict[str, float], str]]) -> float:
    """The mean log-loss at T, by the formula."""
    total = 0.0
    for p, y in seen:
        powers = {label: max(x, 1e-12) ** (1 / t) for label, x in p.items()}
        total -= log(max(powers[y] / sum(powers.values()), 1e-300))
    return total / len(seen)


@given(seen=SEEN)
def test_no_temperature_of_a_grid_has_less_log_loss(seen: list[tuple[dict[str, float], str]]) -> None:
    state = Temperature().fit([Answered(None, p, y) for p, y in seen])
    if any("T stays 1" in line for line in state["told"]):
        assert all(p[y] == max(p.values()) for p, y in seen)
        return
    assert COLDEST * 0.999 <= state["t"] <= HOTTEST * 1.001
    grid = [COLDEST * (HOTTEST / COLDEST) ** (i / 60) for i in range(61)]
    assert loss(state["t"], seen) <= min(loss(t, seen) for t in (*grid, 1.0)) + 1e-4


@given(p=P, t=st.floats(1e-3, 1e3))
def test_the_answer_stays_and_p_is_a_distribution(p: dict[str, float], t: float) -> None:
    value = max(p, key=p.__getitem__)
    result = Temperature(t=t).apply(Reading(value=value, distribution=p))
    assert result.value == value
    assert result.distribution is not None
    assert sum(result.distribution.values()) == pytest.approx(1)
    assert result.distribution[value] == max(result.distribution.values())


@given(p=P)
def test_a_temperature_of_one_changes_nothing(p: dict[str, float]) -> None:
    assert Temperature(t=1).apply(Reading(distribution=p)).distribution == pytest.approx(p, abs=1e-11)


def test_of_equals_the_answer_is_the_one_that_was_read() -> None:
    p = {"a": 0.5, "b": 0.5}
    assert Temperature(t=2).apply(Reading(value="b", distribution=p)).value == "b"
    assert Temperature(t=1e9).apply(Reading(value="b", distribution={"a": 0.4, "b": 0.6})).value == "b"


def test_a_given_temperature_learns_nothing() -> None:
    assert (Temperature(t=2).learns, Temperature(rows=7).learns) == (0, 7)


@pytest.mark.parametrize(
    ("rows", "t", "told"),
    [
        ([Answered("a", {"a": 0.9, "b": 0.1}, "a")] * 10, 1.0, "is right"),
        ([Answered("a", {"a": 0.9, "b": 0.1}, "b")] * 10, HOTTEST, "says nothing of what is right"),
        ([Answered("a", {"a": 0.5, "b": 0.5}, "b")] * 10, 1.0, ""),
    ],
)
def test_where_rows_have_no_temperature_it_is_told(rows: list[Answered], t: float, told: str) -> None:
    state = Temperature().fit(rows)
    assert state["t"] == pytest.approx(t, rel=1e-3)
    assert [told in line for line in state["told"] if "T " in line] == ([True] if told else [])


@pytest.mark.parametrize("t", [0, -1, float("inf"), float("nan"), "hot"])
def test_a_temperature_is_positive(t: Any) -> None:
    with pytest.raises(ValueError, match="t"):
        Temperature(t=t)
