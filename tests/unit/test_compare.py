"""Paired comparisons against statsmodels and scipy, their false alarms among equally good runs, and their power."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from icl_engine.metrics import compare as comparing
from icl_engine.metrics.accuracy import Accuracy
from icl_engine.metrics.compare import Comparison, compare, holm, mcnemar
from icl_engine.metrics.f1 import MacroF1, SpanF1
from icl_engine.metrics.intervals import Z95
from icl_engine.metrics.row import RowMetric
from icl_engine.metrics.tally import UNITS, Tally
from icl_engine.metrics.text import Bleu, Chrf
from icl_engine.protocols import Metric

DETERMINISTIC = settings(deadline=None, derandomize=True)
Values = Any
"""A sequence or an array, one element a row."""


class Degree(RowMetric):
    """A row's score is what was predicted."""

    use: Literal["degree"] = "degree"
    graded: ClassVar[bool] = True

    def row(self, prediction: Any, target: Any) -> float:
        return float(prediction)


def tallied(metric: Metric, predictions: Values, targets: Values, clusters: Values | None = None) -> Tally:
    tally = Tally(metric)
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        tally.add(prediction, target, None if clusters is None else clusters[i])
    return tally


def compared(
    metric: Metric, a: Values, b: Values, targets: Values | None = None, clusters: Values | None = None, seed: int = 0
) -> Comparison:
    """As `compare_runs` does it. Without targets, predictions are scores (1 is right where the metric is accuracy)."""
    targets = [1] * len(a) if targets is None else targets
    of_a, of_b = tallied(metric, a, targets, clusters), tallied(metric, b, targets, clusters)
    verdicts = None
    if of_a.verdicts and of_b.verdicts:
        right = [(x == t, y == t) for x, y, t in zip(a, b, targets, strict=True)]
        verdicts = right.count((True, False)), right.count((False, True))
    return compare(of_a, of_b, verdicts, seed=seed)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples for many comparisons: p < 0.05 is then 10 of 220 chances, a level of 4.5%."""
    monkeypatch.setattr(comparing, "REPEATS", 219)


# -- McNemar's exact test

COUNTS = [0, 1, 2, 3, 5, 8, 13, 40, 101, 400, 1000]


@pytest.mark.parametrize("only_a", COUNTS)
def test_mcnemar_equals_statsmodels_and_the_binomial_test(only_a: int) -> None:
    for only_b in COUNTS:
        p = mcnemar(only_a, only_b)
        table = [[7, only_a], [only_b, 9]]
        if only_a + only_b:
            theirs = float(binomtest(only_a, only_a + only_b).pvalue)
            assert p == pytest.approx(theirs, rel=1e-9, abs=1e-300)
            assert p == pytest.approx(theirs, abs=1e-6)
            assert p == pytest.approx(float(statsmodels_mcnemar(table, exact=True).pvalue), rel=1e-9, abs=1e-300)
        assert 0 <= p <= 1
        assert p == mcnemar(only_b, only_a)


@DETERMINISTIC
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_sum(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    tail = sum(comb(n, i) for i in range(min(only_a, only_b) + 1))
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-12)


@DETERMINISTIC
@given(st.integers(1, 5000), st.floats(-6, 6))
def test_mcnemar_equals_the_binomial_test_at_any_count(half: int, sigmas: float) -> None:
    """Where p is neither 0 nor 1: some standard errors off the middle."""
    only_a = min(2 * half, max(0, round(half + sigmas * sqrt(half / 2))))
    theirs = float(binomtest(only_a, 2 * half).pvalue)
    assert mcnemar(only_a, 2 * half - only_a) == pytest.approx(theirs, rel=1e-9)


LARGE = [(100_000, b) for b in (99_999, 99_500, 99_000, 98_000, 95_000, 100, 0)] + [(60_000, 59_000), (3, 100_000)]


@pytest.mark.parametrize(("only_a", "only_b"), LARGE)
def test_mcnemar_of_large_counts_is_right_to_a_millionth(only_a: int, only_b: int) -> None:
    theirs = float(binomtest(only_a, only_a + only_b).pvalue)
    assert mcnemar(only_a, only_b) == pytest.approx(theirs, abs=1e-6)
    assert mcnemar(only_a, only_b) == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("only_b", [99_999, 99_500, 99_000])
def test_mcnemar_of_large_counts_is_right_to_nine_digits(only_b: int) -> None:
    assert mcnemar(100_000, only_b) == pytest.approx(float(binomtest(100_000, 100_000 + only_b).pvalue), rel=1e-9)


# -- Holm's adjustment


@settings(DETERMINISTIC, max_examples=15)
@given(st.lists(st.floats(0, 1) | st.floats(0, 0.05), min_size=1, max_size=30))
def test_holm_equals_statsmodels(ps: list[float]) -> None:
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]), rel=1e-12)


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [([], []), ([0.04], [0.04]), ([0.02, 0.02], [0.04, 0.04]), ([0.9, 0.6], [1.0, 1.0]), ([0.04, 0.01], [0.04, 0.02])],
)
def test_holm_gives_the_values_computed_by_hand(ps: list[float], adjusted: list[float]) -> None:
    assert holm(ps) == pytest.approx(adjusted)


# -- pairs of runs


def graded(n: int, gain: float, seed: int) -> tuple[Any, Any]:
    """Scores of two runs over the same rows, some hard and some easy."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(2, 2, n)
    a, b = np.clip(ease + rng.normal(0, 0.25, (2, n)) + np.array([[0.0], [gain]]), 0, 1)
    return a, b


def verdicts(n: int, gain: float, seed: int) -> tuple[Any, Any]:
    """Right (1) and wrong (0) in two runs over the same rows; `gain` is in logits."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.7, 2, n)
    a, b = (rng.random((2, n)) < 1 / (1 + np.exp(-ease - np.array([[0.0], [gain]])))).astype(int)
    return a, b


PAIRED: dict[str, tuple[Metric, Callable[[int, float, int], tuple[Any, Any]]]] = {
    "right or wrong": (Accuracy(), verdicts),
    "graded": (Degree(), graded),
}


def difference_of_means(x: Any, y: Any, axis: int) -> Any:
    return x.mean(axis=axis) - y.mean(axis=axis)


@pytest.mark.parametrize(("n", "gain"), [(40, 0.2), (150, 0.0), (400, 0.1)])
@pytest.mark.parametrize(("metric", "make"), PAIRED.values(), ids=PAIRED.keys())
def test_the_interval_agrees_with_scipys_paired_bootstrap(
    metric: Metric, make: Callable[[int, float, int], tuple[Any, Any]], n: int, gain: float
) -> None:
    a, b = make(n, gain, n)
    found = compared(metric, a, b)
    theirs = bootstrap(
        (b, a),
        difference_of_means,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    )
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert found.difference == pytest.approx(b.mean() - a.mean(), abs=1e-12)
    # An end is off by 3% of the standard error; right and wrong move in steps of a row.
    steps = 1.001 / n if metric.use == "accuracy" else 0.0
    assert found.ci95 == pytest.approx(expected, abs=max(0.2 * theirs.standard_error, steps))


@pytest.mark.parametrize(("n", "gain", "seed"), [(30, 0.0, 1), (30, 0.08, 2), (60, 0.05, 3), (200, 0.05, 4)])
def test_randomisation_agrees_with_scipys_permutation_test(n: int, gain: float, seed: int) -> None:
    a, b = graded(n, gain, seed)
    theirs = permutation_test(
        (b, a),
        difference_of_means,
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(seed),
    )
    found = compared(Degree(), a, b)
    assert found.test == "randomisation"
    # Two Monte Carlo errors, scipy's of twice one tail; five standard errors.
    assert found.p == pytest.approx(theirs.pvalue, abs=5 * sqrt(3 * found.p * (1 - found.p) / 10_000))


@pytest.mark.parametrize(("gain", "seed"), [(0.0, 1), (0.1, 2), (0.2, 3)])
def test_randomisation_agrees_with_the_count_of_all_changes_of_hands(gain: float, seed: int) -> None:
    a, b = graded(11, gain, seed)
    exact = permutation_test(
        (b, a), difference_of_means, permutation_type="samples", vectorized=True, n_resamples=2**11
    ).pvalue
    assert compared(Degree(), a, b).p == pytest.approx(exact, abs=5 * sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_randomisation_of_ties_counts_them_as_large() -> None:
    """Changing hands in all rows gives the same size: of two rows, half of the ways are as large."""
    assert compared(Degree(), [0.1, 0.2], [0.4, 0.5]).p == pytest.approx(0.5, abs=0.025)
    assert compared(Degree(), [0.1], [0.7]).p == 1.0


def test_p_by_randomisation_is_never_less_than_one_of_the_ways_that_were_tried() -> None:
    a, b = graded(300, 0.5, 1)
    assert compared(Degree(), a, b).p == 1 / 10_001


def test_randomisation_of_clusters_changes_hands_in_whole_clusters() -> None:
    a, b = graded(12, 0.1, 5)
    of = np.repeat(np.arange(12), 7).tolist()
    once = compared(Degree(), a, b)
    repeated = compared(Degree(), np.repeat(a, 7), np.repeat(b, 7), clusters=of)
    assert (repeated.difference, *repeated.ci95, repeated.p) == pytest.approx((once.difference, *once.ci95, once.p))


def test_right_and_wrong_in_independent_rows_are_mcnemars() -> None:
    a, b = verdicts(200, 0.5, 1)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    found = compared(Accuracy(), a, b)
    assert (found.test, found.only_a, found.only_b) == ("mcnemar", only_a, only_b)
    assert found.p == mcnemar(only_a, only_b)
    assert found.difference == pytest.approx((only_b - only_a) / 200)


def test_right_and_wrong_in_clusters_are_not_mcnemars() -> None:
    a, b = verdicts(200, 0.5, 1)
    alone, clustered = compared(Accuracy(), a, b), compared(Accuracy(), a, b, clusters=[i // 4 for i in range(200)])
    assert clustered.test == "randomisation"
    assert (clustered.only_a, clustered.only_b) == (alone.only_a, alone.only_b)
    assert clustered.difference == pytest.approx(alone.difference)


# -- laws


def labels(n: int, gain: float, seed: int) -> tuple[Any, Any, Any]:
    """Targets, and the labels that two runs give them."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    right_a, right_b = verdicts(n, gain, seed)
    wrong = rng.choice(["a", "b", "c", "d"], (2, n))
    return targets, np.where(right_a == 1, targets, wrong[0]), np.where(right_b == 1, targets, wrong[1])


def texts(n: int, seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    meant = [" ".join(rng.choice(list("abcdef"), 8)) for _ in range(n)]
    a, b = ([" ".join(rng.permutation(text.split())) for text in meant] for _ in range(2))
    return meant, a, b


def spans(n: int, seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    targets, a, b = ([rng.choice(list("abcd"), rng.integers(0, 4)).tolist() for _ in range(n)] for _ in range(3))
    return targets, a, b


def case(name: str) -> tuple[Metric, Values, Values, Values | None, Values | None]:
    """Metric, A, B, targets and clusters."""
    groups = [f"text {i // 5}" for i in range(80)]
    match name:
        case "right or wrong":
            return Accuracy(), *verdicts(80, 0.6, 4), None, None
        case "right or wrong, clustered":
            return Accuracy(), *verdicts(80, 0.6, 4), None, groups
        case "graded":
            return Degree(), *graded(80, 0.05, 4), None, None
        case "graded, clustered":
            return Degree(), *graded(80, 0.05, 4), None, groups
        case "macro_f1":
            targets, a, b = labels(80, 0.6, 4)
            return MacroF1(), a, b, targets, None
        case "span_f1":
            targets, a, b = spans(80, 4)
            return SpanF1(), a, b, targets, groups
        case "bleu":
            targets, a, b = texts(30, 4)
            return Bleu(), a, b, targets, None
        case _:
            targets, a, b = texts(30, 4)
            return Chrf(), a, b, targets, None


EVERY = pytest.mark.parametrize(
    "name",
    [
        "right or wrong",
        "right or wrong, clustered",
        "graded",
        "graded, clustered",
        "macro_f1",
        "span_f1",
        "bleu",
        "chrf",
    ],
)


@EVERY
@pytest.mark.usefixtures("quick")
def test_b_against_a_is_minus_a_against_b(name: str) -> None:
    metric, a, b, targets, clusters = case(name)
    forth, back = compared(metric, a, b, targets, clusters), compared(metric, b, a, targets, clusters)
    assert forth.difference != 0
    assert back.difference == -forth.difference
    assert back.ci95 == pytest.approx((-forth.ci95[1], -forth.ci95[0]), rel=1e-9, abs=1e-12)
    assert (back.p, back.test) == (forth.p, forth.test)
    assert (back.only_a, back.only_b) == (forth.only_b, forth.only_a)


@EVERY
@pytest.mark.usefixtures("quick")
def test_a_run_does_not_differ_from_itself(name: str) -> None:
    metric, a, _, targets, clusters = case(name)
    found = compared(metric, a, a, targets, clusters)
    assert (found.difference, found.ci95, found.p) == (0.0, (0.0, 0.0), 1.0)


@EVERY
@pytest.mark.usefixtures("quick")
def test_the_difference_lies_in_its_interval_and_is_that_of_the_values(name: str) -> None:
    metric, a, b, targets, clusters = case(name)
    meant = [1] * len(a) if targets is None else targets
    found = compared(metric, a, b, targets, clusters)
    values = [tallied(metric, said, meant, clusters).score().value for said in (a, b)]
    assert found.difference == pytest.approx(values[1] - values[0])
    assert found.ci95[0] <= found.difference <= found.ci95[1]
    assert 0 < found.p <= 1


@EVERY
@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_comparison(name: str) -> None:
    metric, a, b, targets, clusters = case(name)
    first = compared(metric, a, b, targets, clusters, seed=3)
    assert compared(metric, a, b, targets, clusters, seed=3) == first
    assert compared(metric, a, b, targets, clusters, seed=4).ci95 != first.ci95


def test_a_label_that_only_one_run_gives_is_counted_for_it_alone() -> None:
    targets = ["a", "b"] * 20
    found = compared(MacroF1(), targets, ["odd", *targets[1:]], targets)
    f1_of_a = 2 * 19 / 39
    assert found.difference == pytest.approx((f1_of_a + 1 + 0) / 3 - 1)


def test_the_interval_of_a_difference_in_macro_f1_is_not_widened_by_resamples_without_a_rare_label() -> None:
    targets = [*["a"] * 99, "rare"]
    found = compared(MacroF1(), ["a"] * 100, [*["a"] * 90, *["b"] * 9, "a"], targets)
    # Means over 2 and over 3 labels: about 0.5 and 0.32, whatever a resample lacks.
    assert found.ci95 == pytest.approx((-0.18, -0.18), abs=0.02)


@pytest.mark.parametrize("clustered", [False, True])
def test_more_rows_than_units_keep_the_difference_and_the_interval(
    clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "REPEATS", 2000)
    n, clusters = 9000, None
    a, b = graded(n, 0.02, 1)
    gaps = b - a
    if clustered:
        clusters = np.repeat(np.arange(n), 2).tolist()
        a, b = np.repeat(a, 2), np.repeat(b, 2)
    found = compared(Degree(), a, b, clusters=clusters)
    half = Z95 * gaps.std(ddof=1) / sqrt(n)
    assert n > 2 * UNITS
    assert found.difference == pytest.approx(gaps.mean(), rel=1e-9)
    assert found.ci95 == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.2 * half)
    assert found.p < 0.001


# -- false alarms: many pairs of equally good runs


def alarms(pairs: int, one: Callable[[int, Any], float]) -> float:
    """The share of p < 0.05 among pairs of 60 to 300 rows; `one` makes a pair and tests it."""
    rng = np.random.default_rng(2024)
    return float(np.mean([one(int(rng.integers(60, 301)), rng) < 0.05 for _ in range(pairs)]))


def test_mcnemar_raises_few_false_alarms() -> None:
    def one(n: int, rng: Any) -> float:
        right = 1 / (1 + np.exp(-rng.normal(0.7, 2, n)))
        a, b = rng.random((2, n)) < right
        return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))

    assert 0.01 < alarms(2000, one) <= 0.06


@pytest.mark.usefixtures("quick")
def test_randomisation_of_graded_scores_raises_few_false_alarms() -> None:
    def one(n: int, rng: Any) -> float:
        ease = rng.beta(2, 1, n)
        a, b = np.clip(ease + rng.normal(0, 0.3, (2, n)), 0, 1)
        return compared(Degree(), a, b).p

    assert 0.01 < alarms(2000, one) <= 0.06


@pytest.mark.usefixtures("quick")
def test_randomisation_of_macro_f1_raises_few_false_alarms() -> None:
    def one(n: int, rng: Any) -> float:
        targets = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
        right = rng.random((2, n)) < 1 / (1 + np.exp(-rng.normal(0.7, 2, n)))
        a, b = np.where(right, targets, rng.choice(["a", "b", "c"], (2, n)))
        return compared(MacroF1(), a, b, targets).p

    assert 0.01 < alarms(1000, one) <= 0.06


def of_clusters(n: int, rng: Any) -> tuple[Any, Any, Any]:
    """Right and wrong in texts of 10 questions: a run that has misread a text fails in most of its questions."""
    clusters = np.arange(n) // 10
    shift = rng.normal(0, 1.5, (2, clusters[-1] + 1))[:, clusters]
    a, b = (rng.random((2, n)) < 1 / (1 + np.exp(-rng.normal(0.7, 1, n) - shift))).astype(int)
    return a, b, clusters.tolist()


@pytest.mark.usefixtures("quick")
def test_randomisation_of_clusters_raises_few_false_alarms() -> None:
    def one(n: int, rng: Any) -> float:
        a, b, clusters = of_clusters(n, rng)
        return compared(Accuracy(), a, b, clusters=clusters).p

    assert 0.01 < alarms(2000, one) <= 0.06


def test_a_test_that_ignores_clusters_raises_many_false_alarms() -> None:
    def one(n: int, rng: Any) -> float:
        a, b, _ = of_clusters(n, rng)
        return mcnemar(int((a > b).sum()), int((b > a).sum()))

    assert alarms(2000, one) > 0.15


# -- power and coverage


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["right or wrong", "graded", "macro_f1", "clustered"])
def test_ten_points_among_800_rows_are_found(kind: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        uniform = rng.random((2, 800))
        a, b = (uniform < [[0.65], [0.75]]).astype(int)
        match kind:
            case "right or wrong":
                found = compared(Accuracy(), a, b)
            case "graded":
                a, b = np.clip(rng.normal(0.5, 0.3, (2, 800)) + np.array([[0.0], [0.1]]), 0, 1)
                found = compared(Degree(), a, b)
            case "macro_f1":
                targets = rng.choice(["a", "b"], 800)
                other = np.where(targets == "a", "b", "a")
                a, b = (np.where(right == 1, targets, other) for right in (a, b))
                found = compared(MacroF1(), a, b, targets)
            case _:
                found = compared(Accuracy(), a, b, clusters=[i // 4 for i in range(800)])
        assert found.difference > 0
        assert found.p < 0.05


@pytest.mark.parametrize(("metric", "make"), PAIRED.values(), ids=PAIRED.keys())
def test_the_interval_holds_the_true_difference_95_times_in_100(
    metric: Metric, make: Callable[[int, float, int], tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "REPEATS", 400)
    many_a, many_b = make(1_000_000, 0.2, 0)
    truth, held = float(many_b.mean() - many_a.mean()), 0
    for seed in range(1, 401):
        low, high = compared(metric, *make(150, 0.2, seed)).ci95
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.98
