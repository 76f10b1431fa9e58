"""The laws of metrics: the value within its interval, every row counted, no answer is a wrong answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from conformance.specs import Case, cases, made
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icl_engine.metrics.label import label_of
from icl_engine.metrics.tally import Tally
from icl_engine.protocols import Metric
from icl_engine.types import Score

EVERY = pytest.mark.parametrize(("name", "case"), cases("metric"))
ANSWERS = st.sampled_from(
    [
        *("a", "b", "c", " a", "", "A.", "the cat sat on the mat", "a cat is sitting on the mat", "dogs run"),
        *(1, True, 0.5),
        *(["a", "b"], {"person": ["Ann", "Bo"]}, [{"type": "person", "text": "Ann"}]),
    ]
)
PAIRS = st.lists(st.tuples(st.none() | ANSWERS, ANSWERS), min_size=1, max_size=12)
CLUSTERS = st.lists(st.sampled_from(["x", "y", "z", None]), min_size=12, max_size=12)

SCORED = settings(max_examples=6, deadline=None, derandomize=True)
"""An interval takes 2,000 resamples."""
COUNTED = settings(max_examples=15, deadline=None, derandomize=True)

Pairs = Sequence[tuple[Any, Any]]


# Long enough for pairs of words and 4-grams; without a letter in common with the others.
MEANT = st.sampled_from(["a bad cab faced decade", "each bee had a bead", "cabbage fed a deaf head"])
OTHER = st.sampled_from(["no", "until noon", "Our plum trip is out. Minus oil, plus sun", "I sit in t r u s t"])


def sure(prediction: Any) -> Mapping[str, float] | None:
    """The distribution of a model that is sure of its answer."""
    return None if prediction is None else {label_of(prediction): 1.0}


def scored(metric: Metric, pairs: Pairs, seed: int = 0, clusters: Sequence[Any] = ()) -> Score:
    tally = Tally(metric, seed)
    for i, (prediction, target) in enumerate(pairs):
        tally.add(prediction, target, clusters[i] if clusters else None, sure(prediction))
    return tally.score()


def own_scores(metric: Metric, pairs: Pairs) -> list[float | None]:
    tally = Tally(metric)
    return [tally.add(prediction, target, None, sure(prediction)) for prediction, target in pairs]


def scale(metric: Metric) -> tuple[float, float]:
    """The lowest and the highest value."""
    return min(metric.worst, metric.best), max(metric.worst, metric.best)


def gained(metric: Metric, value: float) -> float:
    """How much better than the worst a value is."""
    return metric.worst - value if metric.lower else value - metric.worst


def tells_nothing(metric: Metric, value: float) -> bool:
    """Whether a value is what wrong answers get: the worst, or, of a correlation, at most 0."""
    return value <= 0 if metric.worst < 0 else value == near(metric.worst)


def summed(metric: Metric, pairs: Pairs) -> dict[str, float]:
    sums: dict[str, float] = {}
    for prediction, target in pairs:
        for name, amount in metric.counts(prediction, target, sure(prediction))[1].items():
            sums[name] = sums.get(name, 0) + amount
    return sums


def valued(metric: Metric, pairs: Pairs) -> float:
    return float(metric.value(summed(metric, pairs)))


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


def near_all(sums: Mapping[str, float]) -> Any:
    return pytest.approx(dict(sums), rel=1e-12, abs=1e-12)


# -- value and interval


@EVERY
@SCORED
@given(pairs=PAIRS)
@example(pairs=[("b", "a")] * 7)
@example(pairs=[("a", "a")] * 10)
@example(pairs=[("the cat sat on the mat", "the cat sat on the mat")] * 3)
def test_the_value_lies_in_its_interval_and_every_row_counts(name: str, case: Case, pairs: Pairs) -> None:
    metric = made("metric", name, case)
    score = scored(metric, pairs)
    assert score.n == len(pairs)
    low, high = scale(metric)
    assert low <= score.ci95[0] <= score.value <= score.ci95[1] <= high + 1e-9


@EVERY
@SCORED
@given(pairs=PAIRS, clusters=CLUSTERS)
def test_clusters_change_the_interval_and_never_the_value(
    name: str, case: Case, pairs: Pairs, clusters: list[Any]
) -> None:
    metric = made("metric", name, case)
    score = scored(metric, pairs, clusters=clusters)
    assert (score.value, score.n) == (near(valued(metric, pairs)), len(pairs))
    low, high = scale(metric)
    assert low <= score.ci95[0] <= score.value <= score.ci95[1] <= high + 1e-9


@EVERY
@pytest.mark.parametrize("seed", [0, 2**32])
def test_the_same_seed_gives_the_same_interval(name: str, case: Case, seed: int) -> None:
    pairs = [
        ("the cat sat on a mat", "a cat sat on the mat"),
        ("dogs run", "the dogs run home"),
        (None, "b"),
        ("c", "c"),
    ]
    assert scored(made("metric", name, case), pairs, seed) == scored(made("metric", name, case), pairs, seed)


@EVERY
@COUNTED
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_change_the_value(name: str, case: Case, pairs: Pairs, seed: int) -> None:
    metric = made("metric", name, case)
    shuffled = list(pairs)
    Random(seed).shuffle(shuffled)
    assert valued(metric, shuffled) == near(valued(metric, pairs))


# -- right, wrong, and no answer


@EVERY
@COUNTED
@given(pairs=PAIRS)
def test_a_rows_own_score_is_right_or_wrong_unless_the_metric_is_graded(name: str, case: Case, pairs: Pairs) -> None:
    metric = made("metric", name, case)
    for own in own_scores(metric, pairs):
        low, high = (0.0, 1.0) if not metric.lower else scale(metric)
        assert own is None or (low <= own <= high if metric.graded else own in (0.0, 1.0))


@EVERY
@COUNTED
@given(targets=st.lists(MEANT, min_size=1, max_size=6))
def test_right_answers_give_the_best_value(name: str, case: Case, targets: list[str]) -> None:
    metric = made("metric", name, case)
    if metric.worst < 0:  # a correlation with what never changes is none
        targets = [*targets, "another", "still another"]
    pairs = [(target, target) for target in targets]
    assert valued(metric, pairs) == near(metric.best)
    assert set(own_scores(metric, pairs)) <= {None, 0.0 if metric.lower else 1.0}


@EVERY
@COUNTED
@given(pairs=st.lists(st.tuples(OTHER, MEANT), min_size=1, max_size=6))
def test_wrong_answers_give_nothing(name: str, case: Case, pairs: Pairs) -> None:
    metric = made("metric", name, case)
    assert tells_nothing(metric, valued(metric, pairs))
    assert set(own_scores(metric, pairs)) <= {None, metric.worst}


@EVERY
@SCORED
@given(targets=st.lists(ANSWERS, min_size=1, max_size=9))
def test_no_answer_is_a_wrong_answer(name: str, case: Case, targets: list[Any]) -> None:
    metric = made("metric", name, case)
    pairs = [(None, target) for target in targets]
    score = scored(metric, pairs)
    assert tells_nothing(metric, score.value)
    assert score.n == len(targets)
    assert set(own_scores(metric, pairs)) <= {None, metric.worst}


@EVERY
@COUNTED
@given(pairs=PAIRS, target=ANSWERS)
def test_a_row_without_an_answer_never_makes_the_value_better(name: str, case: Case, pairs: Pairs, target: Any) -> None:
    metric = made("metric", name, case)
    if metric.worst < 0:
        return  # a correlation: one row more changes what the others tell, whatever was answered
    with_it, without = valued(metric, [*pairs, (None, target)]), valued(metric, pairs)
    assert gained(metric, with_it) <= gained(metric, without) + 1e-9


@EVERY
@COUNTED
@given(pairs=PAIRS, target=MEANT)
def test_an_answer_that_goes_missing_never_makes_it_better(name: str, case: Case, pairs: Pairs, target: str) -> None:
    metric = made("metric", name, case)
    missing, there = valued(metric, [*pairs, (None, target)]), valued(metric, [*pairs, (target, target)])
    assert gained(metric, missing) <= gained(metric, there) + 1e-9


# -- sums


@EVERY
@COUNTED
@given(pairs=PAIRS, at=st.integers(0, 12))
def test_the_sums_of_two_halves_give_the_whole(name: str, case: Case, pairs: Pairs, at: int) -> None:
    metric = made("metric", name, case)
    first, second = summed(metric, pairs[:at]), summed(metric, pairs[at:])
    together = {key: first.get(key, 0) + second.get(key, 0) for key in {*first, *second}}
    tally = Tally(metric)
    for prediction, target in pairs:
        tally.add(prediction, target, None, sure(prediction))
    matrix = tally.matrix(tally.names)
    assert matrix.shape == (len(pairs), len(tally.names))
    assert (matrix >= 0).all()
    assert dict(zip(tally.names, matrix.sum(axis=0), strict=True)) == near_all(together)
    assert float(metric.value(together)) == near(valued(metric, pairs))


@EVERY
@COUNTED
@given(
    several=st.lists(st.lists(st.tuples(st.none() | ANSWERS, ANSWERS), min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_the_value_of_arrays_is_that_of_their_elements(name: str, case: Case, several: list[Pairs]) -> None:
    metric = made("metric", name, case)
    each = [summed(metric, pairs) for pairs in several]
    whole = summed(metric, [pair for pairs in several for pair in pairs])
    arrays = {key: np.array([sums.get(key, 0) for sums in each], dtype=float) for key in sorted(whole)}
    complete = [{key: float(values[i]) for key, values in arrays.items()} for i in range(len(each))]
    assert list(metric.value(arrays)) == [near(float(metric.value(sums))) for sums in each]
    assert list(metric.value(arrays, whole)) == [near(float(metric.value(sums, whole))) for sums in complete]


# -- tallies


@EVERY
def test_an_empty_tally_has_a_score_of_no_rows(name: str, case: Case) -> None:
    metric = made("metric", name, case)
    assert scored(metric, []) == Score(metric.worst, scale(metric), 0)


@EVERY
def test_a_score_may_be_taken_between_rows(name: str, case: Case) -> None:
    pairs: Pairs = [("a", "a"), ("b", "a"), (None, "b")]
    tally = Tally(made("metric", name, case))
    for n, pair in enumerate(pairs, start=1):
        tally.add(*pair, None, sure(pair[0]))
        assert tally.score() == scored(made("metric", name, case), pairs[:n])


@EVERY
def test_two_tallies_of_a_metric_share_nothing(name: str, case: Case) -> None:
    metric = made("metric", name, case)
    Tally(metric).add("a", "b")
    assert Tally(metric).score().n == 0


@EVERY
def test_a_metric_that_has_counted_is_still_its_spec(name: str, case: Case) -> None:
    used, unused = made("metric", name, case), made("metric", name, case)
    used.check()
    scored(used, [("a b", "a b")])
    assert used == unused
    assert used.model_dump() == unused.model_dump()


@EVERY
def test_a_metric_is_reported_under_its_name(name: str, case: Case) -> None:
    assert made("metric", name, case).title == case.keys.get("name", name)
