"""Batch, contextual and domain calibration: the formulas against naive ones, what is fitted, what probes hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.statistical import domain_calibration
from icl_engine.alignment.statistical.batch_calibration import BatchCalibration
from icl_engine.alignment.statistical.contextual_calibration import ContextualCalibration
from icl_engine.alignment.statistical.domain_calibration import DomainCalibration
from icl_engine.errors import TaskError
from icl_engine.protocols import Answered
from icl_engine.types import Example, Image, Reading

P = st.floats(0.01, 0.99).map(lambda p: {"a": p, "b": 1 - p})


def gathered(step: BatchCalibration, *seen: Mapping[str, float] | None) -> Any:
    """What a batch step has gathered over some distributions."""
    found = step.start()
    for p in seen:
        found = step.gather(found, p)
    return found


# -- batch


@given(seen=st.lists(P, min_size=1, max_size=6), p=P, strength=st.floats(-5, 5))
def test_the_log_of_the_prior_is_taken_off_as_strongly_as_asked(
    seen: list[dict[str, float]], p: dict[str, float], strength: float
) -> None:
    step = BatchCalibration(strength=strength)
    q = step.apply(Reading(distribution=p), step.finish(gathered(step, *seen))).distribution
    prior = {label: sum(x[label] for x in seen) / len(seen) for label in "ab"}
    assert q is not None
    naive = {label: log(p[label]) - strength * log(prior[label]) for label in "ab"}
    assert log(q["a"]) - log(q["b"]) == pytest.approx(naive["a"] - naive["b"], abs=1e-6)


def test_no_strength_leaves_p_and_a_row_without_a_distribution_adds_nothing() -> None:
    step, p = BatchCalibration(strength=0), {"a": 0.25, "b": 0.75}
    state = step.finish(gathered(step, {"a": 0.5, "b": 0.5}, None, {"a": 1.0, "b": 0.0}))
    assert state == {"prior": {"a": 0.75, "b": 0.25}, "rows": 2, "strength": 0}
    assert step.apply(Reading(distribution=p), state).distribution == p


def test_a_state_of_an_older_program_has_strength_one() -> None:
    p = {"a": 0.5, "b": 0.5}
    reading = BatchCalibration().apply(Reading(distribution=p), {"prior": {"a": 0.75, "b": 0.25}, "rows": 4})
    assert reading.distribution == {"a": 0.25, "b": 0.75}


@given(seen=st.lists(st.tuples(P, st.sampled_from("ab")), min_size=1, max_size=12))
def test_the_fitted_strength_has_the_most_rows_right_and_is_the_nearest_to_one_of_those(
    seen: list[tuple[dict[str, float], str]],
) -> None:
    step = BatchCalibration(strength="fitted")
    state = step.finish(gathered(step, *[p for p, _ in seen]))
    fitted = step.fit([Answered(None, p, y) for p, y in seen], state)

    def right(strength: float) -> int:
        tried = {**state, "strength": strength}
        return sum(step.apply(Reading(distribution=p), tried).value == y for p, y in seen)

    every = [twentieths / 20 for twentieths in range(-100, 101)]
    # A tie between labels may be broken either way by rounding: one row more or less.
    assert right(fitted["strength"]) >= max(map(right, every)) - sum(abs(p["a"] - 0.5) < 1e-9 for p, _ in seen)
    assert not [g for g in every if right(g) > right(fitted["strength"]) and abs(g - 1) < abs(fitted["strength"] - 1)]
    assert fitted["rows"] == len(seen)


def test_a_prior_of_the_rows_is_kept_where_it_is_right() -> None:
    """Where nine in ten are a, to take the prior out makes mistakes: the fitted strength is less than 1."""
    step = BatchCalibration(strength="fitted")
    rows = [Answered("a", {"a": 0.7, "b": 0.3}, "a")] * 9 + [Answered("b", {"a": 0.3, "b": 0.7}, "b")]
    state = step.finish(gathered(step, *[r.distribution for r in rows]))
    assert step.apply(Reading(distribution={"a": 0.6, "b": 0.4}), state).value == "b"
    fitted = step.fit([*rows, Answered("a", {"a": 0.6, "b": 0.4}, "a")], state)
    assert 0 < fitted["strength"] < 1
    merged = step.finish(gathered(step, {"a": 0.5, "b": 0.5}), fitted)
    assert merged == {"prior": {"a": 0.5, "b": 0.5}, "rows": 1, "strength": fitted["strength"]}


@pytest.mark.parametrize("strength", [5.5, "half", float("nan"), None])
def test_a_strength_is_a_number_or_fitted(strength: Any) -> None:
    with pytest.raises(ValueError, match="strength"):
        BatchCalibration(strength=strength)


# -- contextual


@given(seen=st.lists(P, min_size=1, max_size=4), p=P)
def test_contextual_and_domain_calibration_divide_by_the_mean_of_their_probes(
    seen: list[dict[str, float]], p: dict[str, float]
) -> None:
    prior = {label: sum(x[label] for x in seen) / len(seen) for label in "ab"}
    weights = {label: p[label] / prior[label] for label in "ab"}
    for step in (ContextualCalibration(), DomainCalibration()):
        q = step.apply(Reading(distribution=p), step.fit_probes(seen)).distribution
        assert q == pytest.approx({label: w / sum(weights.values()) for label, w in weights.items()})


# -- domain

ROWS = [
    {"text": "one two three", "n": 4, "options": ["red hat", "blue"], "meta": {"by": "Ann Lee", "ok": True}},
    {"text": "four five", "n": 7, "options": ["green"], "meta": {"by": "Bo", "ok": False}},
    {"text": "", "n": 9, "options": [], "meta": {"by": "Cy", "ok": None}},
]
POOL = [Example(i, row) for i, row in enumerate(ROWS)]


def probed(step: DomainCalibration, x: dict[str, Any], pool: list[Example], seed: int = 0) -> list[Any]:
    """The inputs of the probes for x."""
    return [probe.inputs for probe in step.probes(Example("q", x), step.ground(pool, seed))]


def test_each_field_has_the_words_and_the_average_length_of_its_own() -> None:
    x = {"text": "new", "n": 0, "options": ["x", "y", "z"], "meta": {"by": "Me", "ok": True}}
    found = probed(DomainCalibration(texts=50), x, POOL)
    assert len(found) == 50
    words = {"one", "two", "three", "four", "five"}
    assert all(len(p["text"].split()) == 2 for p in found)  # 5 words in 3 rows: 1.67
    assert {word for p in found for word in p["text"].split()} == words
    assert {p["n"] for p in found} == {4, 7, 9}
    assert {p["meta"]["ok"] for p in found} == {True, False, None}
    assert all(len(p["options"]) == 3 and {"red", "hat", "blue", "green"}.issuperset(p["options"]) for p in found)
    assert any(p["options"][0] != p["options"][1] for p in found)  # each part has a text of its own …
    assert all(p["options"][0] == p["options"][2] for p in found)  # … as many as a train row has at most


def test_words_are_drawn_with_replacement_as_often_as_they_stand_there() -> None:
    pool = [Example(0, {"t": "a a a b"})]
    drawn = "".join(p["t"] for p in probed(DomainCalibration(texts=500), {"t": ""}, pool)).replace(" ", "")
    assert len(drawn) == 2000
    assert drawn.count("a") / len(drawn) == pytest.approx(0.75, abs=0.04)


def test_the_seed_decides_and_the_state_is_plain_data() -> None:
    step, x = DomainCalibration(texts=3), {"text": "x", "n": 1}
    state = step.ground(POOL, 1)
    assert json.loads(json.dumps(state)) == state == step.ground(POOL, 1)
    assert state != step.ground(POOL, 2)
    saved = step.probes(Example(0, x), json.loads(json.dumps(state)))
    assert [dict(p.inputs) for p in saved] == probed(step, x, POOL, 1)


def test_the_query_leaves_nothing_in_its_probes_and_what_train_rows_lack_is_empty() -> None:
    image = Image("cat.png", data=b"secret")
    x = {"text": "secret", "image": image, "new": ["secret"], "options": "secret"}
    found = probed(DomainCalibration(texts=2), x, [*POOL, Example(3, {"image": image})])
    assert "secret" not in repr(found)
    assert all((p["image"], p["new"], p["options"]) == ("", [""], "") for p in found)


def test_numbers_that_no_json_holds_are_not_drawn() -> None:
    pool = [Example(0, {"t": "a", "n": float("nan")}), Example(1, {"t": "b", "n": 2.5})]
    assert {p["n"] for p in probed(DomainCalibration(), {"n": 1.0}, pool)} == {2.5}


@pytest.mark.parametrize("pool", [[], [{"n": 1}], [{"t": " \n"}], [{"t": Image("x", url="http://127.0.0.1/x.png")}]])
def test_train_rows_without_words_are_a_mistake(pool: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskError, match="domain_calibration draws words"):
        DomainCalibration().ground([Example(i, row) for i, row in enumerate(pool)], 0)


def test_of_many_train_rows_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_calibration, "LOOKED_AT", 5)
    pool = [Example(i, {"t": f"w{i}"}) for i in range(1000)]
    drawn = {p["t"] for p in probed(DomainCalibration(texts=100), {"t": ""}, pool)}
    assert len(drawn) <= 5
    assert drawn != {f"w{i}" for i in range(5)}


def test_a_list_of_any_length_in_a_query_is_filled() -> None:
    pool = [Example(0, {"words": ["w"] * 1000})]
    state = DomainCalibration(texts=1).ground(pool, 0)
    assert len(state[0][".words[]"]) == domain_calibration.WIDEST
    [probe] = DomainCalibration(texts=1).probes(Example(1, {"words": list(range(3000))}), state)
    assert probe.inputs["words"] == ["w"] * 3000


def test_a_fitted_strength_far_from_one_is_told() -> None:
    step = BatchCalibration(strength="fitted")
    rows = [Answered("a", {"a": 0.8, "b": 0.2}, "b"), Answered("a", {"a": 0.6, "b": 0.4}, "b")] * 10
    fitted = step.fit(rows, {"prior": {"a": 0.6, "b": 0.4}})
    assert fitted["strength"] > 3
    assert any("far from 1" in told for told in fitted["told"])
    near = step.fit(rows, {"prior": {"a": 0.95, "b": 0.05}})
    assert not any("far from 1" in told for told in near["told"])
