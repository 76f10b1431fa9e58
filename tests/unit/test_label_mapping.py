"""`label_mapping` against the formulas in fractions, and against greedy search by hand; the hazards of the ports."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.statistical.label_mapping import LabelMapping, one_to_one
from icl_engine.protocols import Answered
from icl_engine.types import Reading

SOURCES, TARGETS = ("s", "t", "u"), ("x", "y", "z")
P = st.lists(st.integers(1, 9), min_size=3, max_size=3).map(
    lambda w: dict(zip(SOURCES, (n / sum(w) for n in w), strict=True))
)
SEEN = st.lists(st.tuples(P, st.sampled_from(TARGETS)), min_size=1, max_size=9)
COUNTS = st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=3, max_size=3).map(
    lambda rows: {s: dict(zip(TARGETS, row, strict=True)) for s, row in zip(SOURCES, rows, strict=True)}
)


def said(*pairs: tuple[str, str]) -> list[Answered]:
    """Rows whose answers were read as text: (answer, target)."""
    return [Answered(value, None, target) for value, target in pairs]


def blm(seen: list[tuple[dict[str, float], str]], smoothing: int, top: int, *, soft: bool) -> Any:
    """W in fractions, column by column, by the paper's formula."""
    counts = {(s, t): Fraction(0) for s in SOURCES for t in TARGETS}
    for p, t in seen:
        for s in sorted(SOURCES, key=lambda s: -p[s])[:top]:
            counts[s, t] += Fraction(p[s]) if soft else 1
    scaled = {}
    for s in SOURCES:
        whole = sum(counts[s, t] for t in TARGETS) + smoothing
        for t in TARGETS:
            scaled[s, t] = counts[s, t] / whole if whole else Fraction(0)
    columns = {t: sum(scaled[s, t] for s in SOURCES) for t in TARGETS}
    return {(s, t): scaled[s, t] / columns[t] if columns[t] else Fraction(0) for s, t in scaled}


@pytest.mark.parametrize("kind", ["bayesian", "bayesian_plus"])
@given(seen=SEEN, p=P, smoothing=st.integers(0, 3), top=st.integers(1, 3))
def test_bayesian_mapping_is_the_papers(
    kind: Any, seen: list[tuple[dict[str, float], str]], p: dict[str, float], smoothing: int, top: int
) -> None:
    soft = kind == "bayesian_plus"
    step = LabelMapping(kind=kind, smoothing=smoothing, top=top if soft else None)
    state = step.fit([Answered(None, q, t) for q, t in seen])
    weights = blm(seen, smoothing, top if soft else 1, soft=soft)
    for (s, t), w in weights.items():
        assert state["weights"].get(s, {}).get(t, 0.0) == pytest.approx(float(w))
    for t in {t for _, t in seen}:  # each column sums to 1
        assert sum(row.get(t, 0.0) for row in state["weights"].values()) == pytest.approx(1)
    mixed = {t: sum(Fraction(p[s]) * weights[s, t] for s in SOURCES) for t in TARGETS}
    if sum(mixed.values()):
        q = step.apply(Reading(value="s", distribution=p), state).distribution
        assert q is not None
        for t, m in mixed.items():
            assert q.get(t, 0.0) == pytest.approx(float(m / sum(mixed.values())))


@given(counts=COUNTS)
def test_the_frequency_map_takes_the_largest_entry_and_deletes_its_row_and_column(counts: Any) -> None:
    weights, _ = one_to_one(counts, counts, SOURCES, TARGETS)
    rows, columns, expected = list(SOURCES), list(TARGETS), {}
    while rows and columns:
        s, t = max(((s, t) for s in rows for t in columns), key=lambda pair: counts[pair[0]][pair[1]])
        if not counts[s][t]:
            break
        expected[s] = {t: 1.0}
        rows.remove(s)
        columns.remove(t)
    assert weights == expected


@given(seen=SEEN)
def test_the_frequency_map_is_one_to_one_and_maps_all_labels_that_scores_can_tell_apart(
    seen: list[tuple[dict[str, float], str]],
) -> None:
    step = LabelMapping(kind="frequency")
    state = step.fit([Answered(max(p, key=p.__getitem__), p, t) for p, t in seen])
    mapped = step.mapped(state)
    assert set(mapped) == set(state["targets"]) == {t for _, t in seen}
    assert len(set(mapped.values())) == len(mapped)
    assert all(len(row) == 1 for row in state["weights"].values())


def test_scores_are_renormalised_over_the_sources_that_are_mapped() -> None:
    state = LabelMapping(kind="frequency").fit(said(("s", "x"), ("t", "y")))
    result = LabelMapping(kind="frequency").apply(
        Reading(value="u", distribution={"s": 0.2, "t": 0.3, "u": 0.5}), state
    )
    assert result.value == "y"
    assert result.distribution == pytest.approx({"x": 0.4, "y": 0.6})
    assert result.trace == ("label_mapping: 'u' -> 'y'",)


@pytest.mark.parametrize("kind", ["frequency", "iterative", "bayesian", "bayesian_plus"])
def test_an_inverted_model_is_put_right(kind: Any) -> None:
    step = LabelMapping(kind=kind)
    state = step.fit(said(*[("no", "yes")] * 6, *[("yes", "no")] * 6))
    assert step.mapped(state) == {"no": "yes", "yes": "no"}
    assert step.apply(Reading(value="no"), state).value == "yes"
    assert state["told"] == []


def test_of_equal_counts_the_same_name_stands_for_itself() -> None:
    step = LabelMapping(kind="frequency")
    every = [(said, target) for said in ("a", "b") for target in ("a", "b")]
    assert step.mapped(step.fit(said(*every))) == {"a": "a", "b": "b"}


@pytest.mark.parametrize("kind", ["frequency", "bayesian", "bayesian_plus"])
def test_what_no_train_row_answered_is_unparsed_and_the_trace_says_so(kind: Any) -> None:
    step = LabelMapping(kind=kind)
    state = step.fit(said(("s", "x"), ("t", "y")))
    result = step.apply(Reading(text="u", value="u", trace=("before",)), state)
    assert (result.status, result.value, result.distribution) == ("unparsed", None, None)
    assert result.trace[0] == "before"
    assert "'u' stands for no label" in result.trace[1]


def test_fewer_answers_than_labels_are_told_and_not_guessed() -> None:
    step = LabelMapping(kind="frequency")
    state = step.fit(said(*[("s", "x")] * 5, *[("s", "y")] * 4, ("t", "x")))
    assert step.mapped(state) == {"x": "s"}  # t was said of an x, so it is no y
    assert "never the answer, since no answer is left for it: 'y'" in state["told"]


def test_a_label_mapped_by_probability_alone_is_told() -> None:
    rows = [Answered("s", {"s": 0.6, "t": 0.4}, t) for t in ("x", "x", "y")]
    state = LabelMapping(kind="frequency").fit(rows)
    assert LabelMapping().mapped(state) == {"x": "s", "y": "t"}
    assert any("'y'" in line and "probability" in line for line in state["told"])


def test_few_sources_still_count_at_least_one_each_row() -> None:
    """The authors' int(0.15 K) is 0 for fewer than 7 labels."""
    rows = [Answered("s", {"s": 0.75, "t": 0.25}, "x"), Answered("t", {"s": 0.25, "t": 0.75}, "y")]
    state = LabelMapping(kind="bayesian_plus", smoothing=0).fit(rows)
    assert state["weights"] == {"s": {"x": 1.0}, "t": {"y": 1.0}}


def test_a_label_whose_rows_could_not_be_read_is_told_and_never_the_answer() -> None:
    step = LabelMapping()
    state = step.fit([*said(("s", "x"), ("s", "x")), Answered(None, None, "y")])
    assert state["targets"] == ["x"]
    assert state["rows"] == 2
    assert "1 of 3 train rows left out: no answer" in state["told"]
    assert any(line.startswith("never the answer") and "'y'" in line for line in state["told"])
    assert step.apply(Reading(value="s"), state).distribution == {"x": 1.0}


def test_one_row_is_enough_to_say_that_it_is_too_few() -> None:
    state = LabelMapping().fit(said(("s", "x")))
    assert state["told"] == ["1 train row for 1 label: the fit is rough"]
    assert state["weights"] == {"s": {"x": 1.0}}


def test_any_value_is_an_answer_and_long_ones_take_little_room() -> None:
    step = LabelMapping()
    values = [12, True, ["a", {"b": 1}], "x" * 50_000]
    state = step.fit([Answered(value, None, "y") for value in values])
    assert sum(map(len, state["weights"])) < 500
    assert all(step.apply(Reading(value=value), state).value == "y" for value in values)


def test_what_it_writes_is_the_label_and_targets_of_any_type_are_text() -> None:
    step = LabelMapping()
    assert [step.canon(v) for v in (1, "1", True)] == ["1", "1", "true"]
    assert step.write(1) == "1"
    assert (step.passes, LabelMapping(kind="iterative", rounds=3).passes, step.learns) == (1, 3, 128)
    assert step.apply(Reading(value="s"), step.fit([Answered("s", None, 1)])).value == "1"


def test_top_is_of_one_kind() -> None:
    with pytest.raises(ValueError, match="top is of kind: bayesian_plus"):
        LabelMapping(kind="frequency", top=2)
