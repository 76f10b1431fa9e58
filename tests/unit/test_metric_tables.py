"""Confusion matrix, coverage-accuracy table and slices: against plain counting, bounded, mergeable, and as printed."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from io import StringIO
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import confusion_matrix

from icl_engine.console.tables import print_confusion, print_coverage, print_slices
from icl_engine.metrics.accuracy import Accuracy
from icl_engine.metrics.calibration import Brier
from icl_engine.metrics.confusion import Confusion
from icl_engine.metrics.coverage import LEVELS, Coverage
from icl_engine.metrics.f1 import MacroF1
from icl_engine.metrics.intervals import wilson
from icl_engine.metrics.label import LONGEST, OTHERS, short_label
from icl_engine.metrics.slices import UNITS, Slices
from icl_engine.metrics.tally import Tally

DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=60)


def pairs(n: int, seed: int, labels: int = 5) -> list[tuple[str | None, str]]:
    draw = Random(seed)
    names = [f"label {i}" for i in range(labels)]
    found: list[tuple[str | None, str]] = []
    for _ in range(n):
        target = draw.choice(names)
        found.append((draw.choice([target, target, draw.choice(names), None]), target))
    return found


def confused(rows: Any, kept: int = 200) -> Confusion:
    confusion = Confusion(kept)
    for prediction, target in rows:
        confusion.add(prediction, target)
    return confusion


# -- the confusion matrix


def test_the_confusion_matrix_equals_scikit_learns() -> None:
    rows = pairs(500, 1)
    record = confused(rows).record()
    read = [(p, t) for p, t in rows if p is not None]
    expected = confusion_matrix([t for _, t in read], [p for p, _ in read], labels=record["labels"])
    assert record["counts"] == expected.tolist()
    missing = Counter(t for p, t in rows if p is None)
    assert record["unread"] == [missing[label] for label in record["labels"]]


def test_targets_come_first_and_the_most_frequent_of_them() -> None:
    rows = [("x", "b"), ("x", "b"), ("x", "a"), (None, "c"), (None, "c"), (None, "c")]
    assert confused(rows).record()["labels"] == ["c", "b", "a", "x"]


def test_canonical_values_are_told_as_text() -> None:
    assert confused([(1, "1"), (True, "true"), (["a"], '["a"]')]).record() == {
        "labels": ["1", "true", '["a"]'],
        "counts": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "unread": [0, 0, 0],
    }


@DETERMINISTIC
@given(
    st.lists(st.tuples(st.none() | st.integers(0, 9), st.integers(0, 9)), max_size=40),
    st.integers(1, 6),
    st.integers(0, 40),
)
def test_every_row_is_counted_once_however_few_labels_are_kept(rows: Any, kept: int, cut: int) -> None:
    whole = confused(rows, kept)
    merged = confused(rows[:cut], kept)
    merged.merge(confused(rows[cut:], kept))
    for record in (whole.record(), merged.record()):
        size = len(record["labels"])
        assert size <= kept + 1
        assert len(set(record["labels"])) == size == len(record["counts"]) == len(record["unread"])
        assert sum(map(sum, record["counts"])) == sum(p is not None for p, _ in rows)
        assert sum(record["unread"]) == sum(p is None for p, _ in rows)


@DETERMINISTIC
@given(st.lists(st.tuples(st.none() | st.integers(0, 9), st.integers(0, 9)), max_size=40), st.integers(0, 40))
def test_the_matrices_of_two_halves_make_the_whole(rows: Any, cut: int) -> None:
    merged = confused(rows[:cut])
    merged.merge(confused(rows[cut:]))
    assert cells(merged) == cells(confused(rows))


def cells(confusion: Confusion) -> dict[tuple[str, str], int]:
    record = confusion.record()
    columns = [*record["labels"], None]
    rows = [[*row, without] for row, without in zip(record["counts"], record["unread"], strict=True)]
    return {(t, p): n for t, row in zip(record["labels"], rows, strict=True) for p, n in zip(columns, row) if n}  # noqa: B905


def test_a_model_that_never_says_the_same_twice_takes_no_memory() -> None:
    confusion = Confusion()
    tracemalloc.start()
    for i in range(20_000):
        confusion.add(f"{'x' * 2_000}{i}", f"target {i}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    record = confusion.record()
    assert len(record["labels"]) == 201
    assert record["labels"][-1] == OTHERS
    assert sum(map(sum, record["counts"])) == 20_000
    assert grown < 1_000_000
    assert max(map(len, record["labels"])) <= LONGEST


@DETERMINISTIC
@given(st.text(), st.text())
def test_long_labels_that_differ_stay_two(a: str, b: str) -> None:
    long = "x" * LONGEST
    assert len(short_label(long + a)) <= LONGEST
    assert (short_label(long + a) == short_label(long + b)) == (a == b)


# -- coverage and accuracy


def sure(n: int, seed: int) -> list[tuple[float, bool]]:
    """Confidences on a grid wider than the bins, and whether they are right; many are equal."""
    draw = Random(seed)
    rows = []
    for _ in range(n):
        confidence = draw.choice([i / 20 for i in range(1, 20)] + [0.99, 0.999, 0.9999])
        rows.append((confidence, draw.random() < confidence))
    return rows


def covered(rows: Any, thresholds: Any = ()) -> Coverage:
    coverage = Coverage(thresholds)
    for confidence, right in rows:
        coverage.add(confidence, right)
    return coverage


def plain_rows(rows: list[tuple[float, bool]]) -> list[tuple[float, int, float]]:
    """For each level: the threshold that the row at its place gives, rows at or above it, how many are right."""
    ranked = sorted((c for c, _ in rows), reverse=True)
    found = []
    for level in LEVELS:
        threshold = ranked[int(np.ceil(level * len(rows) - 1e-9)) - 1]
        answered = [right for c, right in rows if c >= threshold]
        found.append((threshold, len(answered), sum(answered) / len(answered)))
    return found


def plain_aurc(rows: list[tuple[float, bool]], seed: int) -> float:
    """The mean over i of the share of errors among the i surest, ties in a random order."""
    draw = Random(seed)
    ranked = sorted(rows, key=lambda row: (-row[0], draw.random()))
    wrong = np.cumsum([not right for _, right in ranked])
    return float(np.mean(wrong / np.arange(1, len(rows) + 1)))


@pytest.mark.parametrize("n", [1, 2, 10, 137, 1000])
def test_the_table_equals_that_of_sorted_rows(n: int) -> None:
    rows = sure(n, n)
    record = covered(rows).record()
    found = [(row["threshold"], row["n"], row["accuracy"]) for row in record["rows"]]
    assert found == [(t, count, pytest.approx(accuracy)) for t, count, accuracy in plain_rows(rows)]
    for row in record["rows"]:
        assert row["coverage"] == row["n"] / n
        assert tuple(row["ci95"]) == wilson(round(row["accuracy"] * row["n"]), row["n"])
    assert record["n"] == n


@pytest.mark.parametrize("n", [1, 10, 137, 400])
def test_the_area_is_that_of_sorted_rows_over_orders_of_equal_ones(n: int) -> None:
    rows = sure(n, n)
    orders = [plain_aurc(rows, seed) for seed in range(400)]
    error = 4 * float(np.std(orders)) / 20
    assert covered(rows).record()["aurc"] == pytest.approx(np.mean(orders), abs=error + 1e-12)


def test_the_area_of_rows_of_different_confidence_is_exact() -> None:
    draw = Random(3)
    rows = [(i / 501, draw.random() < i / 501) for i in range(1, 501)]
    spread = [(c, right) for c, right in rows if 0.3 < c < 0.7][::2]
    assert covered(spread).record()["aurc"] == pytest.approx(plain_aurc(spread, 0))


def test_confidences_within_a_percent_of_odds_cost_little() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(2, 2, 20_000)
    rows = [(float(c), bool(r)) for c, r in zip(1 / (1 + np.exp(-logits)), rng.random(20_000) < 0.8, strict=True)]
    record = covered(rows).record()
    for row, (threshold, count, accuracy) in zip(record["rows"], plain_rows(rows), strict=True):
        assert row["threshold"] == pytest.approx(threshold, rel=0.01)
        assert row["n"] == pytest.approx(count, rel=0.02)
        assert row["accuracy"] == pytest.approx(accuracy, abs=0.005)
    assert record["aurc"] == pytest.approx(plain_aurc(rows, 0), rel=0.01)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 0.95, 0.951, 1.0])
def test_a_threshold_that_is_asked_for_is_counted_exactly(threshold: float) -> None:
    rows = sure(300, 2)
    (line,) = covered(rows, [threshold]).record()["thresholds"]
    answered = [right for confidence, right in rows if confidence >= threshold]
    assert (line["threshold"], line["n"], line["coverage"]) == (threshold, len(answered), len(answered) / 300)
    assert line["accuracy"] == (sum(answered) / len(answered) if answered else None)
    assert (line["ci95"] is None) == (not answered)


def test_answering_at_a_lines_threshold_answers_its_rows() -> None:
    rows = sure(500, 4)
    for line in covered(rows).record()["rows"]:
        assert sum(confidence >= line["threshold"] for confidence, _ in rows) == line["n"]


def test_rows_without_a_confidence_are_answered_last() -> None:
    record = covered([*[(0.9, True)] * 6, *[(None, False)] * 3, (None, True)]).record()
    lines = {line["n"]: line for line in record["rows"]}
    assert lines.keys() == {6, 10}
    assert (lines[6]["accuracy"], lines[6]["threshold"]) == (1.0, 0.9)
    assert (lines[10]["accuracy"], lines[10]["threshold"]) == (0.7, None)


def test_a_row_gives_its_confidence_and_its_verdict() -> None:
    coverage = Coverage()
    coverage.add_row("a", "a", {"a": 0.9, "b": 0.1})
    coverage.add_row(None, "a", {"a": 0.6, "b": 0.4})  # withheld: it would have been right
    coverage.add_row("b", "a", {"a": 0.2, "b": 0.8})
    coverage.add_row("a", "a", None)  # read from text
    coverage.add_row(None, "a", None)
    (whole, *_) = coverage.record()["rows"]
    assert (whole["n"], whole["accuracy"]) == (5, 3 / 5)
    assert coverage.confident


def test_a_table_of_no_rows_and_of_no_confidences() -> None:
    assert Coverage([0.5]).record() == {
        "n": 0,
        "rows": [],
        "thresholds": [{"threshold": 0.5, "coverage": None, "accuracy": None, "ci95": None, "n": 0}],
        "aurc": None,
    }
    assert not covered([(None, True)]).confident


@DETERMINISTIC
@given(
    st.lists(st.tuples(st.none() | st.floats(0, 1), st.booleans()), max_size=30),
    st.integers(0, 30),
)
def test_the_tables_of_two_halves_make_the_whole(rows: Any, cut: int) -> None:
    merged = covered(rows[:cut], [0.5])
    merged.merge(covered(rows[cut:], [0.5]))
    assert merged.record() == covered(rows, [0.5]).record()
    assert merged.n == len(rows)


def test_many_confidences_take_the_memory_of_few() -> None:
    coverage, draw = Coverage(), Random(0)
    tracemalloc.start()
    for _ in range(50_000):
        coverage.add(1 / (1 + 2 ** draw.gauss(0, 60)), True)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2_500_000


# -- slices


def test_a_slice_is_the_tally_of_its_rows() -> None:
    rows = pairs(300, 2)
    slices = Slices(["lang", "long"], [Accuracy(), MacroF1()], seed=3)
    for i, pair in enumerate(rows):
        slices.add({"lang": ["en", "de", "fr"][i % 3], "long": i % 2 == 0, "text": "x"}, *pair)
    record = slices.record()
    assert {field: set(values) for field, values in record.items()} == {
        "lang": {"en", "de", "fr"},
        "long": {"true", "false"},
    }
    for metric in (Accuracy(), MacroF1()):
        tally = Tally(metric, 3, UNITS)
        for pair in rows[1::3]:
            tally.add(*pair)
        score = tally.score()
        found = record["lang"]["de"][metric.title]
        assert found == {"value": score.value, "ci95": list(score.ci95), "n": 100}
    assert json.loads(json.dumps(record)) == record


def test_slices_pass_on_distributions_and_clusters() -> None:
    slices = Slices(["f"], [Brier(), Accuracy()])
    for i in range(20):
        slices.add({"f": "x"}, "a", "a" if i % 4 else "b", cluster=i // 2, distribution={"a": 0.5, "b": 0.5})
    found = slices.record()["f"]["x"]
    assert found["brier"]["value"] == 0.5
    assert found["accuracy"]["ci95"] != list(wilson(15, 20))


def test_values_beyond_those_that_are_kept_are_one_slice() -> None:
    slices = Slices(["f", "g"], [Accuracy()], kept=3)
    for i in range(30):
        slices.add({"f": i, "g": i % 3}, "a", "a")
    record = slices.record()
    assert list(record["f"]) == ["0", "1", "2", OTHERS]
    assert record["f"][OTHERS]["accuracy"]["n"] == 27
    assert list(record["g"]) == ["0", "1", "2"]


def test_slices_are_ordered_by_their_rows_and_a_missing_field_is_null() -> None:
    slices = Slices(["f"], [Accuracy()])
    for value in ("a", "b", "b", None, None, None):
        slices.add({} if value is None else {"f": value}, "a", "a")
    assert list(slices.record()["f"]) == ["null", "b", "a"]


def test_no_slices_is_an_empty_record() -> None:
    slices = Slices([], [Accuracy()])
    slices.add({"f": 1}, "a", "a")
    assert slices.record() == {}


def test_tables_of_right_and_wrong_load_no_numpy() -> None:
    program = (
        "import sys\n"
        "from icl_engine.metrics.accuracy import Accuracy\n"
        "from icl_engine.metrics.confusion import Confusion\n"
        "from icl_engine.metrics.coverage import Coverage\n"
        "from icl_engine.metrics.slices import Slices\n"
        "parts = Confusion(), Coverage(), Slices(['f'], [Accuracy()])\n"
        "parts[0].add('a', 'a')\n"
        "parts[1].add_row('a', 'a', {'a': 1.0})\n"
        "parts[2].add({'f': 1}, 'a', 'a')\n"
        "print([bool(part.record()) for part in parts], 'numpy' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "[True, True, True] False\n"


# -- as printed


def printed(show: Any, record: Any, width: int = 80) -> str:
    out = Console(file=StringIO(), width=width, highlight=False, soft_wrap=True)
    show(out, record)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def figures(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_a_printed_confusion_matrix_has_a_row_for_each_target() -> None:
    lines = figures(printed(print_confusion, confused([("a", "a"), ("b", "a"), (None, "b"), ("b", "b")]).record()))
    assert lines[0] == ["target", "\\", "prediction", "a", "b", "no", "answer"]
    assert lines[2:] == [["a", "1", "1", "0"], ["b", "0", "1", "1"]]


def test_a_matrix_without_unread_rows_has_no_column_for_them() -> None:
    assert "no answer" not in printed(print_confusion, confused([("a", "a")]).record())
    assert printed(print_confusion, Confusion().record()) == ""


@pytest.mark.parametrize("labels", [12, 13, 14, 60, 300])
@pytest.mark.parametrize("width", [20, 80])
def test_a_printed_matrix_is_bounded_and_loses_no_row_and_no_digit(labels: int, width: int) -> None:
    confusion = confused(pairs(5000, labels, labels))
    lines = figures(printed(print_confusion, confusion.record(), width))[2:]
    assert len(lines) == min(labels, 13)
    names = 1 if lines[-1][0] == OTHERS else 2
    total = sum(int(figure.replace(",", "")) for line in lines[:-1] for figure in line[2:])
    total += sum(int(figure.replace(",", "")) for figure in lines[-1][names:])
    assert total == 5000


def test_a_printed_coverage_table_has_a_line_for_each_level() -> None:
    text = printed(print_coverage, covered([*sure(200, 1), (None, False)], [0.5]).record())
    lines = figures(text)
    assert (lines[2][0], lines[2][-1]) == ("100%", "201")
    assert any(line[1] == "0.5000" for line in lines[2:-1])
    assert len(lines) == 2 + len(LEVELS) + 1 + 1
    assert lines[-1][:5] == ["area", "under", "the", "risk-coverage", "curve"]
    assert printed(print_coverage, Coverage().record()) == ""


def test_printed_slices_have_a_table_for_each_field() -> None:
    slices = Slices(["f", "g"], [Accuracy(), MacroF1()])
    for i in range(60):
        slices.add({"f": i, "g": "x"}, "a", "a")
    text = printed(print_slices, slices.record())
    assert "and 31 more in summary.json" in text
    assert figures(text)[0] == ["f", "accuracy", "95%", "interval", "macro_f1", "95%", "interval", "n"]
    assert ["x", "1.0000", "0.9398", "–", "1.0000", "1.0000", "0.9398", "–", "1.0000", "60"] in figures(text)
    assert printed(print_slices, {}) == printed(print_slices, {"f": {}}) == ""


@pytest.mark.parametrize("label", ["\x1b[31mred", "[red]a[/red]", "a\nb\rc", "\u202eabc", ":smile:", "x" * 999, "[/]"])
def test_no_label_is_a_command(label: str) -> None:
    slices = Slices([label], [Accuracy()])
    slices.add({label: label}, label, "a")
    text = printed(print_confusion, confused([(label, label), ("a", label)]).record())
    text += printed(print_slices, slices.record())
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert "red" in text or "red" not in label
    assert ":smi" in text or label != ":smile:"
    assert max(map(len, text.splitlines())) < 120
