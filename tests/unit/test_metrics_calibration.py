"""ECE, Brier and log-loss against scikit-learn and plain loops; rows that have no distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from icl_engine.metrics.calibration import FLOOR, Brier, Ece, LogLoss, judged
from icl_engine.metrics.tally import Tally
from icl_engine.protocols import Metric
from icl_engine.types import Score

Row = tuple[str | None, str, Mapping[str, float] | None]
"""Prediction, target, distribution."""
DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=80)
ALL = pytest.mark.parametrize("metric", [Ece(), Ece(bins=3), Brier(), LogLoss()], ids=lambda m: f"{m.use}")
LABELS = ("a", "b", "c")


def drawn(n: int, seed: int, sharpness: float = 1.0) -> list[Row]:
    """Rows whose targets are drawn by distributions that are too sure, or (below 1) not sure enough."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for p in rng.dirichlet([0.7, 0.7, 0.7], n):
        target = LABELS[rng.choice(3, p=p)]
        sharp = p**sharpness / (p**sharpness).sum()
        rows.append((LABELS[int(sharp.argmax())], target, dict(zip(LABELS, map(float, sharp), strict=True))))
    return rows


def tallied(metric: Metric, rows: Sequence[Row]) -> Tally:
    tally = Tally(metric)
    for prediction, target, distribution in rows:
        tally.add(prediction, target, None, distribution)
    return tally


def valued(metric: Metric, rows: Sequence[Row]) -> float:
    sums: dict[str, float] = {}
    for row in rows:
        for name, amount in metric.counts(*row)[1].items():
            sums[name] = sums.get(name, 0) + amount
    return float(metric.value(sums))


def scored(metric: Metric, rows: Sequence[Row]) -> Score:
    return tallied(metric, rows).score()


def plain_ece(rows: Sequence[Row], bins: int) -> float:
    """As Guo et al. write it: bin m holds confidences in ((m - 1)/M, m/M]."""
    found, n = 0.0, len(rows)
    for m in range(1, bins + 1):
        inside = []
        for prediction, target, distribution in rows:
            assert distribution is not None
            confidence = max(distribution.values())
            if (m - 1) / bins < confidence <= m / bins:
                inside.append((confidence, prediction == target))
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            found += len(inside) / n * abs(accuracy - mean)
    return found


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("bins", [1, 7, 10, 15, 100])
def test_ece_equals_a_plain_loop(bins: int, sharpness: float) -> None:
    rows = drawn(400, bins, sharpness)
    assert scored(Ece(bins=bins), rows).value == pytest.approx(plain_ece(rows, bins))


@DETERMINISTIC
@given(st.lists(st.tuples(st.integers(50, 100), st.booleans()), min_size=1, max_size=20), st.integers(1, 20))
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(drawn: list[tuple[int, bool]], bins: int) -> None:
    rows: list[Row] = [("a", "a" if right else "b", {"a": c / 100, "b": 1 - c / 100}) for c, right in drawn]
    assert valued(Ece(bins=bins), rows) == pytest.approx(plain_ece(rows, bins))


def test_ece_equals_that_of_scikit_learns_calibration_curve() -> None:
    rows = drawn(500, 5, 2.0)
    sure = np.array([max(d.values()) for _, _, d in rows if d])
    right = np.array([p == t for p, t, _ in rows])
    accuracy, confidence = calibration_curve(right, sure, n_bins=10)
    sizes = np.histogram(sure, bins=np.linspace(0, 1, 11))[0]
    expected = (sizes[sizes > 0] / 500 * np.abs(accuracy - confidence)).sum()
    assert valued(Ece(), rows) == pytest.approx(expected)


def test_ece_tells_confidences_that_are_too_high_from_right_ones() -> None:
    honest, boastful = scored(Ece(), drawn(2000, 1)), scored(Ece(), drawn(2000, 1, 3.0))
    assert honest.value < 0.04 < 0.1 < boastful.ci95[0]


def test_the_interval_of_ece_holds_that_of_many_rows() -> None:
    """Percentiles of resamples, biased twice, would hold it in two of three such runs (and never a perfect one's 0)."""
    whole = valued(Ece(), drawn(20_000, 0, 1.5))
    ends = [scored(Ece(), drawn(100, seed, 1.5)).ci95 for seed in range(1, 31)]
    assert sum(low <= whole <= high for low, high in ends) >= 24
    perfect = [scored(Ece(), drawn(100, seed)).ci95[0] for seed in range(1, 21)]
    assert np.median(perfect) < 0.02


@DETERMINISTIC
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_brier_and_log_loss_equal_scikit_learns(seed: int, n: int) -> None:
    rows = drawn(n, seed)
    meant = [target for _, target, _ in rows]
    p = [[d[label] for label in LABELS] for _, _, d in rows if d]
    assert valued(Brier(), rows) == pytest.approx(brier_score_loss(meant, p, labels=LABELS, scale_by_half=False))
    assert valued(LogLoss(), rows) == pytest.approx(log_loss(meant, p, labels=LABELS))


def test_log_loss_is_floored_as_scikit_learn_does() -> None:
    rows: list[Row] = [("a", "b", {"a": 1.0, "b": 0.0}), ("a", "a", {"a": 1.0, "b": 0.0})]
    assert valued(LogLoss(), rows) == pytest.approx(log_loss(["b", "a"], [[1.0, 0.0], [1.0, 0.0]], labels=["a", "b"]))
    assert LogLoss().counts(*rows[0])[0] == LogLoss.worst == -math.log(FLOOR)
    assert LogLoss().counts(*rows[1])[0] == 0.0
    assert np.finfo(float).eps == FLOOR


@pytest.mark.parametrize(
    ("metric", "target", "distribution", "own"),
    [
        (Brier(), "a", {"a": 1.0, "b": 0.0}, 0.0),
        (Brier(), "b", {"a": 1.0, "b": 0.0}, 2.0),
        (Brier(), "a", {"a": 0.5, "b": 0.5}, 0.5),
        (Brier(), "c", {"a": 0.5, "b": 0.5}, 1.5),
        (Brier(), 1, {"1": 1.0, "2": 0.0}, 0.0),
        (LogLoss(), "a", {"a": 0.25, "b": 0.75}, math.log(4)),
        (LogLoss(), "c", {"a": 0.25, "b": 0.75}, LogLoss.worst),
        (LogLoss(), True, {"true": 0.5, "false": 0.5}, math.log(2)),
        (LogLoss(), "a", {"a": 1.0 + 1e-15}, 0.0),
        (LogLoss(), "a", {}, LogLoss.worst),
        (Brier(), "a", None, 2.0),
    ],
)
def test_a_row_has_a_penalty_of_its_own(
    metric: Metric, target: Any, distribution: Mapping[str, float] | None, own: float
) -> None:
    assert metric.counts("a", target, distribution)[0] == pytest.approx(own)


@pytest.mark.parametrize(
    ("prediction", "target", "distribution", "found"),
    [
        ("a", "a", {"a": 0.6, "b": 0.4}, (0.6, True)),
        ("b", "a", {"a": 0.5, "b": 0.5}, (0.5, False)),
        (None, "a", {"a": 0.6, "b": 0.4}, (0.6, True)),
        (1, "1", {"1": 1.0}, (1.0, True)),
        ("a", "a", {"a": 1.0 + 1e-12}, (1.0, True)),
        ("a", "a", {}, None),
        ("a", "a", None, None),
    ],
)
def test_a_row_is_judged_by_its_likeliest_label(
    prediction: Any, target: Any, distribution: Mapping[str, float] | None, found: tuple[float, bool] | None
) -> None:
    assert judged(prediction, target, distribution) == found


# -- rows that say nothing


@ALL
@DETERMINISTIC
@given(
    st.integers(0, 500),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01),
    st.sampled_from(LABELS),
)
def test_a_row_that_says_nothing_never_scores_better_than_one_that_does(
    metric: Metric, seed: int, p: list[float], target: str
) -> None:
    others = drawn(seed % 7, seed)
    says = {label: share / sum(p) for label, share in zip(LABELS, p, strict=True)}
    said = valued(metric, [*others, (max(says, key=says.__getitem__), target, says)])
    silences: list[Row] = [(None, target, None), ("a", target, None), (None, target, {})]
    for silent in silences:
        assert valued(metric, [*others, silent]) >= said - 1e-12


@ALL
def test_a_withheld_answer_is_judged_by_its_distribution(metric: Metric) -> None:
    rows = drawn(50, 3)
    withheld = [(None if i % 2 else p, t, d) for i, (p, t, d) in enumerate(rows)]
    assert valued(metric, withheld) == pytest.approx(valued(metric, rows))


@ALL
def test_lower_is_better_and_a_distribution_is_needed(metric: Metric) -> None:
    assert metric.lower
    assert metric.needs_distribution
    assert metric.best == 0.0 < metric.worst
    values = [valued(metric, drawn(3000, 8, sharpness)) for sharpness in (1.0, 2.0, 5.0)]
    assert all(better < worse for better, worse in pairwise(values))


@ALL
@pytest.mark.parametrize("n", [1, 2, 30])
def test_the_interval_stays_in_range_and_holds_the_value(metric: Metric, n: int) -> None:
    rows = [*drawn(n, n), (None, "a", None)]
    score = scored(metric, rows)
    assert 0.0 <= score.ci95[0] <= score.value <= score.ci95[1] <= metric.worst
    assert score.value == pytest.approx(valued(metric, rows))
    assert score.n == n + 1


@pytest.mark.parametrize("metric", [Brier(), LogLoss()], ids=lambda m: m.use)
def test_a_scoring_rules_rows_are_no_verdicts(metric: Metric) -> None:
    tally = tallied(metric, [("a", "a", {"a": 1.0}), ("a", "b", {"a": 1.0})])
    assert not tally.verdicts
    assert metric.graded


@pytest.mark.parametrize("metric", [Brier(), LogLoss()], ids=lambda m: m.use)
def test_the_interval_of_a_scoring_rule_is_that_of_a_mean(metric: Metric) -> None:
    rows = drawn(400, 9)
    own = np.array([metric.counts(*row)[0] for row in rows], dtype=float)
    score = scored(metric, rows)
    half = 1.96 * float(own.std()) / math.sqrt(400)
    assert score.ci95 == pytest.approx((own.mean() - half, own.mean() + half), abs=0.25 * half)
