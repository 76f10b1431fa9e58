"""`knn_prompting` against the definition, in loops."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.statistical.knn_prompting import KnnPrompting
from icl_engine.protocols import Answered
from icl_engine.types import Reading

LABELS = ("a", "b", "c")
P = (
    st.lists(st.integers(0, 20), min_size=3, max_size=3)
    .filter(any)
    .map(lambda w: dict(zip(LABELS, (n / sum(w) for n in w), strict=True)))
)
SEEN = st.lists(st.tuples(P, st.sampled_from(LABELS)), min_size=1, max_size=10)


def divergence(p: dict[str, float], other: dict[str, float]) -> float:
    """KL(p ‖ other), nats."""
    return sum(x * (log(x) - log(max(other[label], 1e-12))) for label, x in p.items() if x)


@given(seen=SEEN, p=P, k=st.integers(1, 12))
def test_the_nearest_rows_vote(seen: list[tuple[dict[str, float], str]], p: dict[str, float], k: int) -> None:
    step = KnnPrompting(k=k)
    result = step.apply(Reading(value="a", distribution=p), step.fit([Answered(None, q, y) for q, y in seen]))
    far = sorted(divergence(p, q) for q, _ in seen)[:k][-1]
    inside = [y for q, y in seen if divergence(p, q) < far - 1e-4]
    within = [y for q, y in seen if divergence(p, q) < far + 1e-4]  # anchors are kept to six digits
    n = min(k, len(seen))
    assert result.distribution is not None
    assert sum(result.distribution.values()) == pytest.approx(1)
    for label, share in result.distribution.items():
        assert inside.count(label) <= round(share * n) <= within.count(label)
    assert result.distribution[result.value] == max(result.distribution.values())


@given(seen=SEEN)
def test_a_row_is_nearest_to_itself(seen: list[tuple[dict[str, float], str]]) -> None:
    step = KnnPrompting(k=1)
    state = step.fit([Answered(None, q, y) for q, y in seen])
    for q, _ in seen:
        alike = {y for other, y in seen if divergence(q, other) < 1e-4}
        assert step.apply(Reading(distribution=q), state).value in alike


def test_of_equal_votes_the_nearest_wins() -> None:
    step, p = KnnPrompting(k=2), {"a": 0.8, "b": 0.2}
    rows = [Answered(None, {"a": 0.6, "b": 0.4}, "a"), Answered(None, {"a": 0.79, "b": 0.21}, "b")]
    for order in (rows, rows[::-1]):
        result = step.apply(Reading(value="a", distribution=p), step.fit(order))
        assert (result.value, result.distribution) == ("b", {"a": 0.5, "b": 0.5})
        assert result.trace == ("knn_prompting: 'a' -> 'b'",)


def test_two_states_of_one_step_are_not_mixed_up() -> None:
    step, p = KnnPrompting(k=1), {"a": 0.8, "b": 0.2}
    states = [step.fit([Answered(None, p, y)]) for y in ("a", "b")]
    found = [step.apply(Reading(distribution=p), states[i]).value for i in (0, 1, 0, 1)]
    assert found == ["a", "b", "a", "b"]
    assert step == KnnPrompting(k=1)


def test_a_row_of_zeros_is_as_far_as_can_be_and_no_fault() -> None:
    step = KnnPrompting(k=1)
    rows = [Answered(None, {"a": 1.0, "b": 0.0}, "a"), Answered(None, {"a": 0.5, "b": 0.5}, "b")]
    assert step.apply(Reading(distribution={"a": 0.1, "b": 0.9}), step.fit(rows)).value == "b"
    assert step.apply(Reading(distribution={"a": 1.0, "b": 0.0}), step.fit(rows)).value == "a"


def test_fewer_rows_than_votes_are_told() -> None:
    rows = [Answered("a", {"a": 0.8, "b": 0.2}, y) for y in "ab"]
    told = KnnPrompting(k=3).fit(rows)["told"]
    assert told == ["2 train rows for 2 labels: the fit is rough", "all of 2 rows vote: k is 3"]
    assert Counter(KnnPrompting(k=3).fit(rows)["targets"]) == Counter("ab")
