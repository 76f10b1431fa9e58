"""Metrics of labels (balanced accuracy, micro and macro F1, MCC) against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef
from sklearn.preprocessing import MultiLabelBinarizer

from icl_engine.metrics.accuracy import Accuracy
from icl_engine.metrics.f1 import MacroF1, MicroF1
from icl_engine.metrics.intervals import wilson
from icl_engine.metrics.labels import BalancedAccuracy, Mcc
from icl_engine.metrics.tally import Tally
from icl_engine.protocols import Metric
from icl_engine.types import Score

Pairs = Sequence[tuple[Any, Any]]
DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=60)
LABELS = st.sampled_from(["a", "b", "c", "d"])
ANSWERED = st.lists(st.tuples(LABELS, st.sampled_from(["a", "b", "c"])), min_size=1, max_size=30)
UNREAD = st.lists(st.tuples(LABELS | st.none(), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=20)


def scored(metric: Metric, pairs: Pairs) -> Score:
    tally = Tally(metric)
    for pair in pairs:
        tally.add(*pair)
    return tally.score()


def valued(metric: Metric, pairs: Pairs) -> float:
    sums: dict[str, float] = {}
    for pair in pairs:
        for name, amount in metric.counts(*pair)[1].items():
            sums[name] = sums.get(name, 0) + amount
    return float(metric.value(sums))


def drawn(n: int, seed: int, right: float = 0.6, labels: str = "aaaaaabbbc") -> Pairs:
    draw = Random(seed)
    targets = [draw.choice(labels) for _ in range(n)]
    return [(t if draw.random() < right else draw.choice(labels), t) for t in targets]


# -- against scikit-learn


@DETERMINISTIC
@given(ANSWERED)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_of_labels_equal_scikit_learns(pairs: Pairs) -> None:
    said, meant = zip(*pairs, strict=True)
    assert valued(BalancedAccuracy(), pairs) == pytest.approx(balanced_accuracy_score(meant, said))
    assert valued(Mcc(), pairs) == pytest.approx(matthews_corrcoef(meant, said), abs=1e-12)
    assert valued(MicroF1(), pairs) == pytest.approx(f1_score(meant, said, average="micro"))
    assert valued(MacroF1(), pairs) == pytest.approx(f1_score(meant, said, average="macro", zero_division=0))


SETS = st.lists(LABELS, max_size=3)


@DETERMINISTIC
@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=12))
def test_f1_of_lists_of_labels_equals_scikit_learns(pairs: Pairs) -> None:
    labels = sorted({label for pair in pairs for several in pair for label in several})
    if not labels:
        assert valued(MicroF1(), pairs) == valued(MacroF1(), pairs) == 1.0
        return
    columns = MultiLabelBinarizer(classes=["a", "b", "c", "d"])
    said, meant = (columns.fit_transform(side) for side in zip(*pairs, strict=True))
    named = {"labels": ["abcd".index(label) for label in labels], "zero_division": 0}
    assert valued(MicroF1(), pairs) == pytest.approx(f1_score(meant, said, average="micro", **named))
    assert valued(MacroF1(), pairs) == pytest.approx(f1_score(meant, said, average="macro", **named))


@pytest.mark.parametrize("metric", [BalancedAccuracy(), Mcc(), MicroF1()], ids=lambda m: m.use)
def test_the_interval_is_that_of_resampled_rows(metric: Metric) -> None:
    pairs = drawn(200, seed=1)
    rng = np.random.default_rng(0)
    resamples = [valued(metric, [pairs[i] for i in rng.integers(0, 200, 200)]) for _ in range(400)]
    score = scored(metric, pairs)
    assert score.value == pytest.approx(valued(metric, pairs))
    assert score.ci95 == pytest.approx(np.percentile(resamples, [2.5, 97.5]), abs=0.4 * float(np.std(resamples)))


# -- by hand


def test_balanced_accuracy_weighs_labels_alike() -> None:
    pairs = [*[("a", "a")] * 90, *[("a", "b")] * 10]
    assert valued(Accuracy(), pairs) == 0.9
    assert valued(BalancedAccuracy(), pairs) == 0.5


def test_an_unread_row_is_a_miss_of_balanced_accuracy() -> None:
    assert valued(BalancedAccuracy(), [("a", "a"), (None, "a"), ("b", "b")]) == 0.75
    assert valued(BalancedAccuracy(), [("x", "a"), ("a", "a")]) == 0.5


def test_a_rare_label_keeps_its_recall_in_resamples_without_it() -> None:
    score = scored(BalancedAccuracy(), [*[("a", "a")] * 99, ("a", "rare")])
    assert score.value == 0.5
    assert score.ci95 == pytest.approx((0.5, 0.5), abs=0.02)


@DETERMINISTIC
@given(ANSWERED)
def test_micro_f1_is_accuracy_where_all_is_answered(pairs: Pairs) -> None:
    assert valued(MicroF1(), pairs) == pytest.approx(valued(Accuracy(), pairs))


def test_micro_f1_of_unread_rows_has_no_false_alarm() -> None:
    assert valued(MicroF1(), [("a", "a"), (None, "a"), ("b", "b")]) == pytest.approx(2 * 2 / (2 + 3))


@pytest.mark.parametrize(
    ("prediction", "target", "own"),
    [
        (["a", "b"], ["b", "a"], 1.0),
        (["a", "a"], ["a"], 1.0),
        (["a", "b"], ["a"], 2 / 3),
        ("a", ["a"], 1.0),
        ([1], ["1"], 1.0),
        ([True], ["true"], 1.0),
        ([], [], 1.0),
        ([], ["a"], 0.0),
        (["a"], [], 0.0),
        (None, [], 0.0),
        (None, ["a"], 0.0),
    ],
)
def test_a_row_has_a_micro_f1_of_its_own(prediction: Any, target: Any, own: float) -> None:
    assert MicroF1().counts(prediction, target)[0] == pytest.approx(own)


@pytest.mark.parametrize("metric", [MicroF1(), MacroF1()], ids=lambda m: m.use)
def test_no_answer_is_wrong_where_there_was_no_label_to_find(metric: Metric) -> None:
    assert valued(metric, [(None, []), (None, [])]) == 0.0
    assert valued(metric, [([], []), ([], [])]) == 1.0
    assert scored(metric, [([], []), ([], [])]) == Score(1.0, wilson(2, 2), 2)


@pytest.mark.parametrize(
    ("pairs", "value"),
    [
        ([("a", "a"), ("b", "b")], 1.0),
        ([("a", "b"), ("b", "a")], -1.0),
        ([("a", "a"), ("a", "b")], 0.0),
        ([("a", "a"), ("a", "a")], 0.0),
        # 6 of 8: TP 2, FP 1, FN 1, TN 4
        ([*[("a", "a")] * 2, ("a", "b"), ("b", "a"), *[("b", "b")] * 4], (2 * 4 - 1) / 15),
        # no answer is a wrong one: of two labels the other
        ([("a", "a"), (None, "b"), ("b", "b"), (None, "a")], 0.0),
        ([(None, "a"), (None, "b")], -1.0),
        ([(None, "a"), (None, "a")], 0.0),
    ],
)
def test_mcc_gives_the_values_computed_by_hand(pairs: Pairs, value: float) -> None:
    assert valued(Mcc(), pairs) == pytest.approx(value)


def test_an_unread_row_of_mcc_is_spread_evenly_over_the_other_targets() -> None:
    """As the mean over all ways to read it wrongly would, but for the square root: by counts that are halved."""
    pairs = [("a", "a"), ("b", "b"), ("c", "c"), (None, "c")]
    c, s = 3, 4
    said, meant = {"a": 1.5, "b": 1.5, "c": 1.0}, {"a": 1, "b": 1, "c": 2}
    up = c * s - sum(said[k] * meant[k] for k in said)
    down = (s * s - sum(v * v for v in said.values())) * (s * s - sum(v * v for v in meant.values()))
    assert valued(Mcc(), pairs) == pytest.approx(up / down**0.5)


@DETERMINISTIC
@given(UNREAD, st.sampled_from(["a", "b", "c"]))
def test_withholding_a_right_answer_never_raises_mcc(pairs: Pairs, target: str) -> None:
    assert valued(Mcc(), [*pairs, (None, target)]) <= valued(Mcc(), [*pairs, (target, target)]) + 1e-12


def test_answers_withheld_for_one_label_are_no_evidence() -> None:
    """As a label of its own, no answer would raise R_K from 0.40 to 0.50 here."""
    pairs: Pairs = [("a", "a"), ("b", "b"), *[(None, "b")] * 8]
    assert valued(Mcc(), [("a", "a"), (None, "b"), *[(None, "b")] * 8]) < valued(Mcc(), pairs)


def test_mcc_of_many_rows_stays_exact() -> None:
    pairs = drawn(400, seed=2)
    sums: dict[str, float] = {}
    for pair in pairs:
        for name, amount in Mcc().counts(*pair)[1].items():
            sums[name] = sums.get(name, 0) + amount
    millions = {name: amount * 10_000 for name, amount in sums.items()}
    assert float(Mcc().value(millions)) == pytest.approx(float(Mcc().value(sums)), rel=1e-12)


@pytest.mark.parametrize("metric", [BalancedAccuracy(), Mcc()], ids=lambda m: m.use)
@pytest.mark.parametrize("label", ["", " ", "target a", "right a", "predicted ", "a b", "None", "rows"])
def test_any_text_may_be_a_label(metric: Metric, label: str) -> None:
    plain = [(p, t) for p, t in product(["x", "a", None], ["x", "a"])] + [("x", "x")]
    renamed = [(label if p == "x" else p, label if t == "x" else t) for p, t in plain]
    assert valued(metric, renamed) == pytest.approx(valued(metric, plain))


def test_numbers_and_texts_are_one_label() -> None:
    pairs = [("1", 1), (0, "0"), ("true", True)]
    assert [valued(metric, pairs) for metric in (BalancedAccuracy(), Mcc(), MicroF1(), MacroF1())] == [1.0] * 4
