"""The laws of metrics: the value within its interval, every row counted, no answer is a wrong answer."""

from __future__ import annotations

from typing import Any

import pytest
from conformance.specs import Case, cases, made
from hypothesis import example, given
from hypothesis import strategies as st

from icl_engine.types import Score

EVERY = pytest.mark.parametrize(("name", "case"), cases("metric"))
ANSWERS = st.sampled_from(["a", "b", "c", " a", "", 1, True])
PAIRS = st.lists(st.tuples(st.none() | ANSWERS, ANSWERS), min_size=1, max_size=30)

Pairs = list[tuple[Any, Any]]


def scored(metric: Any, pairs: Pairs, seed: int = 0) -> tuple[Score, list[float | None]]:
    tally = metric.tally(seed)
    own = [tally.add(prediction, target) for prediction, target in pairs]
    return tally.score(), own


@EVERY
@given(pairs=PAIRS)
@example(pairs=[("b", "a")] * 7)
@example(pairs=[("a", "a")] * 10)
def test_the_value_lies_in_its_interval_and_every_row_counts(name: str, case: Case, pairs: Pairs) -> None:
    score, _ = scored(made("metric", name, case), pairs)
    assert score.n == len(pairs)
    assert 0 <= score.ci95[0] <= score.value <= score.ci95[1] <= 1


@EVERY
@given(pairs=PAIRS)
def test_a_rows_own_score_is_right_or_wrong_unless_the_metric_is_graded(name: str, case: Case, pairs: Pairs) -> None:
    metric = made("metric", name, case)
    for own in scored(metric, pairs)[1]:
        assert own is None or (0 <= own <= 1 if metric.graded else own in (0.0, 1.0))


@EVERY
def test_right_answers_score_one_and_wrong_ones_nothing(name: str, case: Case) -> None:
    metric = made("metric", name, case)
    assert scored(metric, [("a", "a"), ("b", "b")])[0].value == 1.0
    assert scored(metric, [("a", "b"), ("b", "a")])[0].value == 0.0


@EVERY
@given(targets=st.lists(ANSWERS, min_size=1, max_size=9))
def test_no_answer_is_a_wrong_answer(name: str, case: Case, targets: list[Any]) -> None:
    score, own = scored(made("metric", name, case), [(None, target) for target in targets])
    assert (score.value, score.n) == (0.0, len(targets))
    assert set(own) <= {None, 0.0}


@EVERY
def test_an_empty_tally_has_a_score_of_no_rows(name: str, case: Case) -> None:
    score, _ = scored(made("metric", name, case), [])
    assert (score.n, score.ci95) == (0, (0.0, 1.0))


@EVERY
def test_a_score_may_be_taken_between_rows(name: str, case: Case) -> None:
    pairs: Pairs = [("a", "a"), ("b", "a"), (None, "b")]
    tally = made("metric", name, case).tally(0)
    for n, pair in enumerate(pairs, start=1):
        tally.add(*pair)
        assert tally.score() == scored(made("metric", name, case), pairs[:n])[0]


@EVERY
def test_two_tallies_of_a_metric_share_nothing(name: str, case: Case) -> None:
    metric = made("metric", name, case)
    metric.tally(0).add("a", "b")
    assert metric.tally(0).score().n == 0
