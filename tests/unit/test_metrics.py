"""Metrics against values computed by hand, and their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from math import isclose, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.metrics.accuracy import Accuracy, ExactMatch
from icl_engine.metrics.f1 import MacroF1
from icl_engine.metrics.intervals import Z95, wilson
from icl_engine.protocols import Metric, Tally
from icl_engine.types import Score

Pairs = Iterable[tuple[Any, Any]]

CONFUSION: Pairs = [
    *[("a", "a")] * 3,
    ("b", "a"),
    *[("b", "b")] * 2,
    ("c", "b"),
    ("c", "c"),
    (None, "c"),
]
"""(prediction, target): a has F1 6/7, b 4/6, c 2/4."""


def scored(metric: Metric, pairs: Pairs, seed: int = 0) -> Score:
    tally = metric.tally(seed)
    for prediction, target in pairs:
        tally.add(prediction, target)
    return tally.score()


# -- Wilson's interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (8, 10, 0.4902, 0.9433),
        (10, 10, 0.7225, 1.0),
        (174, 200, 0.8163, 0.9097),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_gives_the_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_where_the_score_test_just_rejects(counts: tuple[int, int]) -> None:
    successes, n = counts
    for end in wilson(successes, n):
        assert isclose(abs(successes / n - end), Z95 * sqrt(max(0.0, end * (1 - end)) / n), abs_tol=1e-7)


@pytest.mark.parametrize("n", [1, 7, 9, 10, 200, 12345])
def test_wilson_reaches_the_edge_where_all_are_right_or_wrong(n: int) -> None:
    assert (wilson(0, n)[0], wilson(n, n)[1]) == (0.0, 1.0)


# -- accuracy and exact match


def test_accuracy_is_the_share_of_equal_answers() -> None:
    score = scored(Accuracy(), CONFUSION)
    assert (score.value, score.n) == (6 / 9, 9)
    assert score.ci95 == wilson(6, 9)


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [("a", "a", 1.0), ("a", "b", 0.0), (None, "a", 0.0), (None, None, 0.0), (["a"], ["a"], 1.0), ("a", "A", 0.0)],
)
def test_accuracy_judges_one_answer(prediction: Any, target: Any, right: float) -> None:
    assert Accuracy().tally().add(prediction, target) == right


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [
        ("Paris", "Paris", 1.0),
        (" Paris\n", "Paris", 1.0),
        ("Paris", "\tParis ", 1.0),
        ("paris", "Paris", 0.0),
        ("Paris.", "Paris", 0.0),
        ("The Paris", "Paris", 0.0),
        ("New  York", "New York", 0.0),
        (1, "1", 1.0),
        ("", "", 1.0),
        (None, "None", 0.0),
        (None, "", 0.0),
    ],
)
def test_exact_match_strips_and_nothing_else(prediction: Any, target: Any, right: float) -> None:
    assert ExactMatch().tally().add(prediction, target) == right


# -- macro F1


def test_macro_f1_is_the_mean_of_each_labels_f1() -> None:
    score = scored(MacroF1(), CONFUSION)
    assert score.value == pytest.approx((6 / 7 + 4 / 6 + 2 / 4) / 3)
    assert score.n == 9


def test_an_unreadable_answer_is_no_label_of_macro_f1() -> None:
    assert scored(MacroF1(), [("a", "a"), (None, "a"), ("b", "b")]).value == pytest.approx((2 / 3 + 1) / 2)


def test_a_label_only_ever_predicted_counts_in_macro_f1() -> None:
    assert scored(MacroF1(), [("a", "a"), ("b", "a")]).value == pytest.approx((2 / 3 + 0) / 2)


def test_numbers_and_texts_are_one_label_of_macro_f1() -> None:
    assert scored(MacroF1(), [("1", 1), (0, "0")]).value == 1.0


def test_an_answer_alone_has_no_macro_f1() -> None:
    tally: Tally = MacroF1().tally()
    assert tally.add("a", "a") is None


def test_the_bootstrap_interval_is_seeded() -> None:
    assert scored(MacroF1(), CONFUSION, seed=1) == scored(MacroF1(), CONFUSION, seed=1)
    assert scored(MacroF1(), CONFUSION, seed=1).ci95 != scored(MacroF1(), CONFUSION, seed=2).ci95


def test_the_bootstrap_interval_does_not_depend_on_the_order_of_rows() -> None:
    assert scored(MacroF1(), CONFUSION) == scored(MacroF1(), reversed(list(CONFUSION)))


def test_the_bootstrap_interval_holds_the_value_and_narrows() -> None:
    few, many = scored(MacroF1(), CONFUSION), scored(MacroF1(), list(CONFUSION) * 50)
    for score in (few, many):
        assert score.ci95[0] < score.value < score.ci95[1]
    assert few.value == pytest.approx(many.value)
    assert many.ci95[1] - many.ci95[0] < (few.ci95[1] - few.ci95[0]) / 3


def test_the_bootstrap_interval_holds_the_value_where_labels_are_rare() -> None:
    score = scored(MacroF1(), [*[("a", "a")] * 90, *(("a", f"rare {i}") for i in range(10))])
    assert score.ci95[0] <= score.value <= score.ci95[1]
