"""The laws of output steps: no exception on hostile text, nothing mutated, read(write(y)) = canon(y), Σp = 1."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from math import inf
from typing import Any

import pytest
from conformance.specs import Case, cases, made
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.protocols import Batched, Probing, Reader, Scorer
from icl_engine.registry import resolve
from icl_engine.types import Example, LabelScores, Reading

ALL = cases("aligner")
EVERY = pytest.mark.parametrize(("name", "case"), ALL)
READERS = [c for c in ALL if isinstance(made("aligner", *c.values), Reader)]
SCORERS = [c for c in ALL if isinstance(made("aligner", *c.values), Scorer)]
CORRECTIONS = [c for c in ALL if isinstance(made("aligner", *c.values), Probing | Batched)]
LABELS = ("a", "b", "c")
KINDS = {"identity", "structural", "statistical", "linear"}
LONG = {"one word": "a" * 300_000, "words": "yes no 12 " * 30_000, "lines": "\n" * 300_000, "quotes": "\"'`*(" * 60_000}


def normalised(weights: tuple[float, ...]) -> dict[str, float]:
    return {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)}


DISTRIBUTIONS = st.tuples(*[st.floats(0, 1)] * len(LABELS)).filter(lambda w: sum(w) > 1e-6).map(normalised)


def fitted(step: Any, distributions: list[dict[str, float]]) -> Any:
    """The step's state, had it seen these distributions; None for a step that learns nothing."""
    if isinstance(step, Probing):
        return step.fit_probes(distributions)
    if isinstance(step, Batched):
        gathered = step.start()
        for distribution in distributions:
            gathered = step.gather(gathered, distribution)
        return step.finish(gathered)
    return None


UNIFORM = {label: 1 / len(LABELS) for label in LABELS}


def taken(step: Any, reading: Reading) -> Reading:
    result = step.apply(reading, fitted(step, [UNIFORM]))
    assert isinstance(result, Reading)
    assert result.status in ("ok", "unparsed")
    if result.status == "unparsed":
        assert result.value is None
    return result


# -- every step


@EVERY
@given(text=st.none() | st.text())
def test_a_step_reads_any_text_without_raising(name: str, case: Case, text: str | None) -> None:
    step = made("aligner", name, case)
    assert taken(step, Reading(text=text)) == taken(step, Reading(text=text))


@EVERY
@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_a_step_reads_very_long_text_without_raising(name: str, case: Case, text: str) -> None:
    result = taken(made("aligner", name, case), Reading(text=text))
    assert len("".join(result.trace)) < 1000


@EVERY
@pytest.mark.parametrize("text", ["\ud800", "yes \udfff no", "\x00yes\x00", "\ufeffyes"])
def test_a_step_reads_damaged_text_without_raising(name: str, case: Case, text: str) -> None:
    taken(made("aligner", name, case), Reading(text=text))


@EVERY
@given(text=st.none() | st.text(), distribution=st.none() | DISTRIBUTIONS)
def test_a_step_changes_nothing_it_is_given(
    name: str, case: Case, text: str | None, distribution: dict[str, float] | None
) -> None:
    step = made("aligner", name, case)
    reading = Reading(text=text, value="a", distribution=distribution, trace=("before",))
    state = fitted(step, [UNIFORM])
    before, spec = copy.deepcopy((reading, state)), step.model_dump()
    result = step.apply(reading, state)
    assert ((reading, state), step.model_dump()) == (before, spec)
    assert result.trace[:1] == ("before",)


@EVERY
def test_a_step_has_a_kind_of_the_survey(name: str, case: Case) -> None:
    assert resolve("aligner", name).kind in KINDS


# -- readers


@pytest.mark.parametrize(("name", "case"), READERS)
def test_a_reader_reads_back_what_it_writes(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    assert case.targets, f"{name!r} is a reader: give its example specs targets in tests/conformance/specs.py"
    for target in case.targets:
        result = step.apply(Reading(text=step.write(target)))
        assert (result.status, result.value) == ("ok", step.canon(target)), target


@pytest.mark.parametrize(("name", "case"), READERS)
def test_canon_of_a_canonical_value_is_itself(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    for target in case.targets:
        assert step.canon(step.canon(target)) == step.canon(target)


# -- scorers


@pytest.mark.parametrize(("name", "case"), SCORERS)
def test_a_scorer_reads_the_only_likely_label(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    labels = list(step.need().words)
    for likely in labels:
        reading = step.from_scores(LabelScores({x: 0.0 if x == likely else -inf for x in labels}, "top_k"))
        assert (reading.status, reading.value) == ("ok", step.canon(likely))
        assert reading.distribution == {x: float(x == likely) for x in labels}


@pytest.mark.parametrize(("name", "case"), SCORERS)
@given(data=st.data())
def test_a_scorer_gives_a_distribution_over_its_labels(name: str, case: Case, data: st.DataObject) -> None:
    step = made("aligner", name, case)
    labels = list(step.need().words)
    logprobs = {x: data.draw(st.floats(-1e4, 0) | st.just(-inf)) for x in labels}
    reading = step.from_scores(LabelScores(logprobs, "top_k"))
    if max(logprobs.values()) == -inf:
        assert (reading.status, reading.value, reading.distribution) == ("unparsed", None, None)
        return
    assert set(reading.distribution) == set(labels)
    assert sum(reading.distribution.values()) == pytest.approx(1)
    assert logprobs[reading.value] == pytest.approx(max(logprobs.values()))


@pytest.mark.parametrize(("name", "case"), SCORERS)
def test_a_scorer_writes_a_word_that_it_asks_for(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    for label, words in step.need().words.items():
        assert step.write(label) in words


# -- steps that correct a distribution


@pytest.mark.parametrize(("name", "case"), CORRECTIONS)
@given(seen=st.lists(DISTRIBUTIONS, min_size=1, max_size=5), p=DISTRIBUTIONS)
def test_a_corrected_distribution_sums_to_one_over_the_same_labels(
    name: str, case: Case, seen: list[dict[str, float]], p: dict[str, float]
) -> None:
    step = made("aligner", name, case)
    result = step.apply(Reading(value="a", distribution=p), fitted(step, seen))
    assert isinstance(result.distribution, Mapping)
    assert set(result.distribution) == set(LABELS)
    assert all(q >= 0 for q in result.distribution.values())
    assert sum(result.distribution.values()) == pytest.approx(1)
    assert result.distribution[result.value] == max(result.distribution.values())


@pytest.mark.parametrize(("name", "case"), CORRECTIONS)
@given(p=DISTRIBUTIONS)
def test_a_uniform_prior_corrects_nothing(name: str, case: Case, p: dict[str, float]) -> None:
    step = made("aligner", name, case)
    assert step.apply(Reading(distribution=p), fitted(step, [UNIFORM])).distribution == pytest.approx(p)


@pytest.mark.parametrize(("name", "case"), CORRECTIONS)
@given(seen=st.lists(DISTRIBUTIONS, min_size=1, max_size=5), p=DISTRIBUTIONS)
def test_what_a_correction_learned_survives_json(
    name: str, case: Case, seen: list[dict[str, float]], p: dict[str, float]
) -> None:
    step = made("aligner", name, case)
    state = fitted(step, seen)
    reading = Reading(distribution=p)
    assert step.apply(reading, json.loads(json.dumps(state))) == step.apply(reading, state)


@pytest.mark.parametrize(("name", "case"), CORRECTIONS)
def test_a_correction_leaves_a_reading_without_a_distribution_alone(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    reading = Reading(text="yes", value="a")
    assert step.apply(reading, fitted(step, [UNIFORM])) == reading


@pytest.mark.parametrize(("name", "case"), [c for c in CORRECTIONS if isinstance(made("aligner", *c.values), Probing)])
def test_probes_hold_nothing_of_the_example_and_leave_it_alone(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    inputs = {"text": "secret", "words": ["secret", {"deep": "secret"}]}
    x = Example(0, copy.deepcopy(inputs), "secret")
    probes = step.probes(x)
    assert probes
    for probe in probes:
        assert set(probe.inputs) == set(inputs)
        assert len(probe.inputs["words"]) == 2
        assert "secret" not in repr(probe)
    assert x == Example(0, inputs, "secret")


@pytest.mark.parametrize(("name", "case"), [c for c in CORRECTIONS if isinstance(made("aligner", *c.values), Batched)])
def test_a_batch_step_does_not_depend_on_the_order_of_rows(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    seen = [normalised((0.5, 0.25, 0.25)), normalised((0.125, 0.5, 0.375)), UNIFORM]
    reading = Reading(distribution=normalised((0.2, 0.3, 0.5)))
    forth, back = step.apply(reading, fitted(step, seen)), step.apply(reading, fitted(step, seen[::-1]))
    assert forth.distribution == pytest.approx(back.distribution)
