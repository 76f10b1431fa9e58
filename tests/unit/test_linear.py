"""`linear` against scikit-learn's own probabilities and a plain minimiser; what too little data does."""

from __future__ import annotations

import json
import random
from math import exp, log
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from icl_engine.alignment.linear import GRID, LEAST, Linear
from icl_engine.protocols import Answered
from icl_engine.types import Reading

LABELS = ("a", "b", "c")


def drawn(
    n: int, labels: tuple[str, ...] = LABELS, *, lean: float = 2.0, hint: float = 2.0, seed: int = 0
) -> list[Answered]:
    """Rows of a model that leans to the first label and knows something of the right one."""
    rng, rows = random.Random(seed), []
    for i in range(n):
        y = labels[i % len(labels)]
        z = {label: rng.gauss(0, 1) + lean * (label == labels[0]) + hint * (label == y) for label in labels}
        total = sum(map(exp, z.values()))
        p = {label: exp(v) / total for label, v in z.items()}
        rows.append(Answered(max(p, key=p.__getitem__), p, y))
    return rows


def figures(row: Answered) -> list[float]:
    """A row's p, in the order of its labels."""
    assert row.distribution is not None
    return list(row.distribution.values())


def accuracy(step: Linear, state: Any, rows: list[Answered]) -> float:
    """The share of rows that are right after the step."""
    right = [step.apply(Reading(value=r.value, distribution=r.distribution), state).value == r.target for r in rows]
    return sum(map(bool, right)) / len(right)


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_full_form_is_scikit_learns_on_standardised_logs(labels: tuple[str, ...], c: float) -> None:
    rows = drawn(60, labels)
    x = np.log([figures(row) for row in rows])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = LogisticRegression(C=c, tol=1e-8).fit(scaled, [row.target for row in rows]).predict_proba(scaled)
    step = Linear(form="full", c=c)
    state = step.fit(rows)
    for row, p in zip(rows, expected, strict=True):
        q = step.apply(Reading(distribution=row.distribution), state).distribution
        assert q is not None
        assert list(q.values()) == pytest.approx(list(p), abs=5e-3)


def test_the_diagonal_form_minimises_its_penalised_loss() -> None:
    rows, c = drawn(30), 0.5

    def loss(at: Any) -> float:
        found = 0.5 * (sum((w - 1) ** 2 for w in at[:3]) + sum(b**2 for b in at[3:]))
        for row in rows:
            z = [at[i] * log(p) + at[3 + i] for i, p in enumerate(figures(row))]
            found -= c * (z[LABELS.index(row.target)] - log(sum(map(exp, z))))
        return float(found)

    state = Linear(form="diagonal", c=c).fit(rows)
    at = [*np.diag(state["weights"]), *state["bias"]]
    assert np.count_nonzero(state["weights"]) == 3
    assert loss(at) == pytest.approx(minimize(loss, at, method="Nelder-Mead").fun, abs=1e-4)


@pytest.mark.parametrize("form", ["auto", "full", "diagonal"])
def test_a_lean_is_unlearned(form: Any) -> None:
    step, rows, fresh = Linear(form=form), drawn(90, lean=4), drawn(300, lean=4, seed=1)
    state = step.fit(rows)
    before = sum(row.value == row.target for row in fresh) / len(fresh)
    assert before < 0.5 < accuracy(step, state, fresh) - 0.2
    assert state["c"] in GRID
    assert (state["form"], state["rows"], state["told"]) == (form if form != "auto" else state["form"], 90, [])


def test_scores_that_say_nothing_are_given_little_weight() -> None:
    rows = drawn(90, hint=0)
    state = Linear(form="full").fit(rows)
    assert state["c"] <= 0.1
    q = Linear().apply(Reading(distribution={"a": 0.98, "b": 0.01, "c": 0.01}), state).distribution
    assert q is not None
    assert max(q.values()) < 0.6


def test_the_order_of_rows_changes_nothing_and_the_state_is_plain_data() -> None:
    rows = drawn(40)
    state = Linear().fit(rows)
    assert json.loads(json.dumps(state)) == state == Linear().fit(rows[::-1]) == Linear().fit(rows[7:] + rows[:7])


def test_a_label_without_a_row_is_never_the_answer_and_told() -> None:
    rows = [row for row in drawn(60) if row.target != "c"]
    step = Linear()
    state = step.fit(rows)
    q = step.apply(Reading(distribution={"a": 0.01, "b": 0.01, "c": 0.98}), state).distribution
    assert q is not None
    assert (list(q), q["c"]) == (list(LABELS), 0.0)
    assert sum(q.values()) == pytest.approx(1)
    assert state["told"] == ["no train row has: 'c'", "a label that no train row has is never the answer"]


@pytest.mark.parametrize(
    "rows", [drawn(1), drawn(3), [Answered("a", {"a": 0.75, "b": 0.25}, "a")] * 9], ids=["one", "one each", "one label"]
)
def test_from_too_little_nothing_is_learned_and_scores_stay(rows: list[Answered]) -> None:
    step = Linear()
    state = step.fit(rows)
    reading = Reading(value="a", distribution=rows[0].distribution)
    assert step.apply(reading, state) == reading
    assert state["told"][-1] == "too little to learn from: label scores stay as they are"
    assert state["rows"] == len(rows)


@pytest.mark.parametrize("form", ["auto", "full", "diagonal"])
def test_labels_with_fewer_rows_than_folds_and_rows_that_can_be_parted_are_no_fault(form: Any) -> None:
    sure = [{"a": 1.0, "b": 0.0, "c": 0.0}, {"a": 0.0, "b": 1.0, "c": 0.0}, {"a": 0.0, "b": 0.0, "c": 1.0}]
    rows = [Answered("a", sure[0], "a")] * 8 + [Answered("b", sure[1], "b")] * 3 + [Answered("c", sure[2], "c")]
    step = Linear(form=form)
    state = step.fit(rows)
    assert [step.apply(Reading(distribution=p), state).value for p in sure[:2]] == ["a", "b"]
    assert any("rough" in line for line in state["told"])


def test_a_probability_of_zero_is_taken_as_the_least() -> None:
    state = {"labels": ["a", "b"], "features": ["a", "b"], "weights": [[1.0, 0.0], [0.0, 1.0]], "bias": [0.0, 0.0]}
    q = Linear().apply(Reading(distribution={"a": 1.0, "b": 0.0}), state).distribution
    assert q == pytest.approx({"a": 1 / (1 + LEAST), "b": LEAST / (1 + LEAST)})


def test_a_given_c_and_form_are_taken() -> None:
    state = Linear(form="diagonal", c=0.3).fit(drawn(30))
    assert (state["form"], state["c"]) == ("diagonal", 0.3)
    assert Linear(c=0.3).fit(drawn(30))["c"] == 0.3
