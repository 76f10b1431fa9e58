"""The laws of output steps: no exception on hostile text, nothing mutated, read(write(y)) = canon(y), Σp = 1."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from math import inf
from time import process_time
from typing import Any

import orjson
import pytest
from conformance.specs import Case, cases, made
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icl_engine.errors import TaskError
from icl_engine.protocols import Answered, Batched, Fitting, Grounded, Probing, Reader, Scorer
from icl_engine.registry import resolve
from icl_engine.types import Example, LabelScores, Reading


def named(*names: str) -> list[Any]:
    """The cases of some steps."""
    return [c for c in ALL if c.values[0] in names]


def same(one: Any, other: Any) -> bool:
    """Whether two cases differ at most in their targets."""
    return bool(one.values[0] == other.values[0] and one.values[1].keys == other.values[1].keys)


ALL = cases("aligner")
EVERY = pytest.mark.parametrize(("name", "case"), ALL)
ONCE = pytest.mark.parametrize(("name", "case"), [c for i, c in enumerate(ALL) if not any(same(c, d) for d in ALL[:i])])
CORRECTIONS = [c for c in ALL if made("aligner", *c.values).corrects]
READERS = [c for c in ALL if c not in CORRECTIONS and isinstance(made("aligner", *c.values), Reader)]
SCORERS = [c for c in ALL if isinstance(made("aligner", *c.values), Scorer)]
PRIORS = [c for c in CORRECTIONS if isinstance(made("aligner", *c.values), Probing | Batched)]
LEARNERS = [c for c in ALL if isinstance(step := made("aligner", *c.values), Fitting) and step.learns]
LABELS = ("a", "b", "c")
KINDS = {"identity", "structural", "statistical", "linear"}
LONG = {
    "one word": "a" * 300_000,
    "words": "yes no 12 " * 30_000,
    "lines": "\n" * 300_000,
    "quotes": "\"'`*(" * 60_000,
    "open brackets": "[" * 300_000,
    "closed brackets": "[" * 150_000 + "]" * 150_000,
    "open keys": '{"a":' * 60_000,
    "half lists": ("[" + "1," * 1000 + "x ") * 149,
    "a half text": '["' + "\\" * 300_000,
    "fences": "```json\n" * 37_500,
    "digits": "1" * 300_000,
    "thousands": "1" + ",111" * 75_000,
    "fractions": "1,1/" * 75_000,
    "signs": "-$ " * 100_000,
    "bullets": "- 1. " * 60_000,
    "a bullet": "-" + "\t" * 300_000 + "x",
    "the marker": "the answer is " * 21_500,
    "half a marker": "the" + " " * 300_000 + "answer",
    "options": "(A) or option " * 21_500,
    "right to left": "\u202e\u05d0\u0663" * 100_000,
    "control characters": "".join(map(chr, range(32))) * 9_375,
    "emoji": "\U0001f600\u200d" * 150_000,
}
SAID = (
    *(
        "the answer is",
        "So the answer is",
        "answer:",
        "A:",
        "option",
        "(A)",
        "(b)",
        "C.",
        "B",
        "yes",
        "no",
        "good",
        "bad",
    ),
    *(
        "12",
        "1,000",
        "3/4",
        "-0.5",
        "1e9",
        "1e400",
        "9" * 400,
        "$",
        "%",
        "−",
        ".",
        ",",
        ":",
        "None",
        "none",
        "- ",
        "1. ",
    ),
    *("```json\n", "```", '{"name": 1}', "[1, 2]", "{", "}", "[", "]", '"', "\\", "\\ud800", "null", "NaN", "true"),
    *(" ", "\n", "\n\n", "\t", "\x00", "\x85", "\u2028", "é", "\u202e", "\U0001f600"),
)
SPOKEN = st.text() | st.lists(st.sampled_from(SAID), max_size=12).map("".join)
"""What a model may say: any text, and what readers look out for."""

UNHURRIED = settings(deadline=None, max_examples=50)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | SPOKEN,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(SPOKEN, values, max_size=4),
    max_leaves=12,
)
"""What a data file may hold."""


def normalised(weights: tuple[float, ...]) -> dict[str, float]:
    return {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)}


DISTRIBUTIONS = st.tuples(*[st.floats(0, 1)] * len(LABELS)).filter(lambda w: sum(w) > 1e-6).map(normalised)


def fitted(step: Any, distributions: list[dict[str, float]]) -> Any:
    """The step's state, had it seen these distributions, each once with each target; None where it learns nothing."""
    if isinstance(step, Probing):
        return step.fit_probes(distributions)
    rows = [Answered(max(p, key=p.__getitem__), p, y) for p in distributions for y in LABELS]
    if isinstance(step, Batched):
        gathered = step.start()
        for distribution in distributions:
            gathered = step.gather(gathered, distribution)
        state = step.finish(gathered)
        return step.finish(gathered, step.fit(rows, state)) if isinstance(step, Fitting) and step.learns else state
    return step.fit(rows) if isinstance(step, Fitting) and step.learns else None


UNIFORM = {label: 1 / len(LABELS) for label in LABELS}


def taken(step: Any, reading: Reading) -> Reading:
    result = step.apply(reading, fitted(step, [UNIFORM]))
    assert isinstance(result, Reading)
    assert result.status in ("ok", "unparsed", "abstained")
    if result.status != "ok":
        assert result.value is None
    return result


# -- every step


@ONCE
@given(text=st.none() | SPOKEN)
@UNHURRIED
def test_a_step_reads_any_text_without_raising(name: str, case: Case, text: str | None) -> None:
    step = made("aligner", name, case)
    assert taken(step, Reading(text=text)) == taken(step, Reading(text=text))


@ONCE
@given(text=SPOKEN)
@UNHURRIED
def test_what_is_read_can_be_written_to_a_run_directory(name: str, case: Case, text: str) -> None:
    result = taken(made("aligner", name, case), Reading(text=text))
    written = orjson.dumps({"prediction": result.value, "trace": result.trace})
    assert orjson.loads(written) == {"prediction": result.value, "trace": list(result.trace)}


@ONCE
@given(text=SPOKEN)
@UNHURRIED
def test_a_step_leaves_at_most_one_line_of_trace(name: str, case: Case, text: str) -> None:
    result = taken(made("aligner", name, case), Reading(text=text, trace=("before",)))
    assert result.trace[0] == "before"
    assert len(result.trace) <= 2
    assert all(len(line.splitlines()) == 1 for line in result.trace)


@ONCE
@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_a_step_reads_very_long_text_quickly_and_without_raising(name: str, case: Case, text: str) -> None:
    step = made("aligner", name, case)
    start = process_time()
    result = taken(step, Reading(text=text))
    assert process_time() - start < 5
    assert len("".join(result.trace)) < 1000
    orjson.dumps({"prediction": result.value, "trace": result.trace})


@ONCE
@pytest.mark.parametrize("text", ["\ud800", "yes \udfff no", "\x00yes\x00", "\ufeffyes"])
def test_a_step_reads_damaged_text_without_raising(name: str, case: Case, text: str) -> None:
    taken(made("aligner", name, case), Reading(text=text))


@ONCE
@given(text=st.none() | st.text(), distribution=st.none() | DISTRIBUTIONS)
@UNHURRIED
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
        said = case.says.replace("{}", step.write(target))
        result = step.apply(Reading(text=said))
        assert (result.status, result.value) == ("ok", step.canon(target)), target


@pytest.mark.parametrize(("name", "case"), READERS)
def test_canon_of_a_canonical_value_is_itself(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    for target in case.targets:
        assert step.canon(step.canon(target)) == step.canon(target)


@pytest.mark.parametrize(("name", "case"), named("choice", "identity", "json", "number", "regex", "verbalizer"))
@given(value=VALUES)
@UNHURRIED
def test_canon_of_any_canonical_value_is_itself(name: str, case: Case, value: Any) -> None:
    step = made("aligner", name, case)
    with suppress(ValueError):
        canonical = step.canon(value)
        assert step.canon(canonical) == canonical
        orjson.dumps({"target": canonical})


@pytest.mark.parametrize(("name", "case"), named("choice", "identity", "number", "regex", "verbalizer"))
@given(text=SPOKEN)
@UNHURRIED
def test_what_is_read_is_canonical(name: str, case: Case, text: str) -> None:
    step = made("aligner", name, case)
    result = taken(step, Reading(text=text))
    if result.status == "ok":
        assert step.canon(result.value) == result.value


@pytest.mark.parametrize(("name", "case"), named("choice", "identity", "json", "number", "verbalizer"))
@given(target=VALUES)
@UNHURRIED
def test_a_reader_reads_back_any_target_it_accepts(name: str, case: Case, target: Any) -> None:
    step = made("aligner", name, case)
    with suppress(ValueError):
        canonical = step.canon(target)
        result = taken(step, Reading(text=step.write(target)))
        assert (result.status, result.value) == ("ok", canonical)


# -- readers, one by one

CHOICE, LIST = (resolve("aligner", name) for name in ("choice", "list"))
JSON, NUMBER = (resolve("aligner", name)() for name in ("json", "number"))
WORDS = st.text(st.characters(categories=("L", "Nd")), min_size=3, max_size=8)


def read(step: Any, text: str) -> Any:
    """What a step reads in a text, and that it can be written down."""
    result = taken(step, Reading(text=text))
    assert result.status == "ok", text
    assert orjson.loads(orjson.dumps(result.value)) == result.value
    return result.value


@pytest.mark.parametrize(
    "said", ["{}", "It is {}.", "{} apples", "It was 10, now it is ({})", "x={}", "€{}!", "**{}**"]
)
@given(target=NUMBERS)
@UNHURRIED
def test_a_number_reads_back_as_itself(said: str, target: float) -> None:
    value = read(NUMBER, said.format(NUMBER.write(target)))
    assert value == NUMBER.canon(target)
    assert value == target or float(value) == float(target)
    assert isinstance(value, int) == (float(value).is_integer() and abs(value) < 2**63)


@pytest.mark.parametrize("minus", ["", "-", "−"])
@pytest.mark.parametrize(
    "said",
    ["{}{:f}", "{}{:,f}", "({}{:,f})", "It is {}{:,f}.", "It was 10, now it is {}${:,f}!", "${}{:,f}", "x={}000{:f}%"],
)
@given(size=st.decimals(0, 10**15, allow_nan=False) | st.integers(0, 10**15).map(Decimal))
@UNHURRIED
def test_a_number_spelt_with_sign_separators_and_currency_is_its_value(said: str, minus: str, size: Decimal) -> None:
    assert read(NUMBER, said.format(minus, size)) == (-float(size) if minus else float(size))


@given(above=st.integers(-(10**9), 10**9), below=st.integers(1, 10**9))
@UNHURRIED
def test_a_fraction_is_its_quotient(above: int, below: int) -> None:
    assert read(NUMBER, f"{above}/{below}") == NUMBER.canon(f"{above} / {below}") == above / below


@given(items=st.lists(st.text(st.characters(exclude_characters="-*•–.),", exclude_categories=("C", "Zl", "Zp")))))
@UNHURRIED
def test_a_list_of_printable_items_reads_back(items: list[str]) -> None:
    bare = [item.strip() for item in items if item.strip()]
    assume([item.casefold() for item in bare] != ["none"])
    assert LIST().canon(items) == bare
    assert read(LIST(), LIST().write(items)) == bare
    if bare:
        assert read(LIST(), "".join(f"- {item}\n" for item in bare)) == bare
        assert read(LIST(), "".join(f"{i}. {item}\n" for i, item in enumerate(bare, 1))) == bare


@given(target=VALUES.filter(lambda value: value is not None))
@UNHURRIED
def test_any_json_value_reads_back(target: Any) -> None:
    assume(not isinstance(target, str) or target.lstrip()[:1] not in ("{", "["))
    assert read(JSON, JSON.write(target)) == JSON.canon(target) == target


@pytest.mark.parametrize("said", ["Here you are: {}.", "```json\n{}\n```", "So (I think)\n```\n{}\n```\nIs that all?"])
@given(target=st.lists(VALUES, max_size=4) | st.dictionaries(SPOKEN, VALUES, max_size=4))
@UNHURRIED
def test_json_reads_back_from_prose_and_fences(said: str, target: Any) -> None:
    assert read(JSON, said.replace("{}", JSON.write(target))) == target


@pytest.mark.parametrize("depth", [1, 100, 250])
def test_json_that_is_nested_reads_back(depth: int) -> None:
    text = '[{"a": ' * (depth // 2) + "[" * (depth % 2) + "]" * (depth % 2) + "}]" * (depth // 2)
    text = text.replace(": }", ": 1}")
    assert read(JSON, text) == JSON.canon(text) == json.loads(text)


@pytest.mark.parametrize("said", ["{}", "({})", "{}.", "{}:", "{})", "({}).", "**{}**", " `{}`\n", '"{}."'])
@pytest.mark.parametrize(
    "answer", ["{}", "The answer is {}", "Answer: {}", "So I think that option {}", "It rains.\nChoice: {}"]
)
@pytest.mark.parametrize("choices", ["ABCDE", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "12345"])
def test_a_letter_reads_back_in_brackets_marks_and_phrases(answer: str, said: str, choices: str) -> None:
    step = CHOICE(choices=list(choices))
    for letter in choices:
        assert step.canon(said.format(letter)) == letter
        for spelt in (letter, letter.lower()):
            assert read(step, answer.format(said.format(spelt))) == letter


@given(texts=st.lists(st.lists(WORDS, min_size=1).map(" ".join), min_size=2, max_size=5, unique_by=str.casefold))
@UNHURRIED
def test_an_options_text_is_its_letter(texts: list[str]) -> None:
    step = CHOICE(choices=dict(zip("ABCDE", texts, strict=False)))
    for letter, text in step.choices.items():
        for said in ("{}", "{}.", "**{}**", "({})", f"{letter}) {{}}", f"{letter}. {{}}, of course"):
            assert read(step, said.format(text)) == letter
        assert step.canon(text) == step.canon(f" {text}.\n") == letter


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
@UNHURRIED
def test_a_corrected_distribution_sums_to_one_over_the_same_labels(
    name: str, case: Case, seen: list[dict[str, float]], p: dict[str, float]
) -> None:
    step = made("aligner", name, case)
    result = step.apply(Reading(value=max(p, key=p.__getitem__), distribution=p), fitted(step, seen))
    if result.status == "unparsed":  # all of p is on labels that stand for none of the task's
        assert isinstance(step, Reader)
        assert result.distribution is None
        return
    assert isinstance(result.distribution, Mapping)
    assert set(result.distribution) == set(LABELS)
    assert all(q >= 0 for q in result.distribution.values())
    assert sum(result.distribution.values()) == pytest.approx(1)
    assert result.distribution[result.value] == max(result.distribution.values())


@pytest.mark.parametrize(("name", "case"), PRIORS)
@given(p=DISTRIBUTIONS)
@UNHURRIED
def test_a_uniform_prior_corrects_nothing(name: str, case: Case, p: dict[str, float]) -> None:
    step = made("aligner", name, case)
    assert step.apply(Reading(distribution=p), fitted(step, [UNIFORM])).distribution == pytest.approx(p)


@pytest.mark.parametrize(("name", "case"), [*CORRECTIONS, *named("abstain")])
@given(seen=st.lists(DISTRIBUTIONS, min_size=1, max_size=5), p=DISTRIBUTIONS)
@UNHURRIED
def test_what_a_correction_learned_survives_json(
    name: str, case: Case, seen: list[dict[str, float]], p: dict[str, float]
) -> None:
    step = made("aligner", name, case)
    state = fitted(step, seen)
    reading = Reading(distribution=p)
    assert step.apply(reading, json.loads(json.dumps(state))) == step.apply(reading, state)


@pytest.mark.parametrize(("name", "case"), [c for c in CORRECTIONS if c not in named("label_mapping")])
def test_a_correction_leaves_a_reading_without_a_distribution_alone(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    reading = Reading(text="yes", value="a")
    assert step.apply(reading, fitted(step, [UNIFORM])) == reading


@pytest.mark.parametrize(("name", "case"), [c for c in PRIORS if isinstance(made("aligner", *c.values), Probing)])
def test_probes_hold_nothing_of_the_example_and_leave_it_alone(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    inputs = {"text": "secret", "words": ["secret", {"deep": "secret"}]}
    x = Example(0, copy.deepcopy(inputs), "secret")
    pool = [Example(1, {"text": "other words", "words": ["no", {"deep": "1 2"}]})]
    probes = step.probes(x, step.ground(pool, 0) if isinstance(step, Grounded) else None)
    assert probes
    for probe in probes:
        assert set(probe.inputs) == set(inputs)
        assert len(probe.inputs["words"]) == 2
        assert "secret" not in repr(probe)
    assert x == Example(0, inputs, "secret")


@pytest.mark.parametrize(("name", "case"), [c for c in PRIORS if isinstance(made("aligner", *c.values), Batched)])
def test_a_batch_step_does_not_depend_on_the_order_of_rows(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    seen = [normalised((0.5, 0.25, 0.25)), normalised((0.125, 0.5, 0.375)), UNIFORM]
    reading = Reading(distribution=normalised((0.2, 0.3, 0.5)))
    forth, back = step.apply(reading, fitted(step, seen)), step.apply(reading, fitted(step, seen[::-1]))
    assert forth.distribution == pytest.approx(back.distribution)


# -- steps that learn from labelled rows


@pytest.mark.parametrize(("name", "case"), LEARNERS)
@given(seen=st.lists(st.tuples(DISTRIBUTIONS, st.sampled_from(LABELS)), min_size=1, max_size=8), data=st.data())
@UNHURRIED
def test_a_fit_is_plain_data_whatever_the_rows_and_their_order(
    name: str, case: Case, seen: list[tuple[dict[str, float], str]], data: st.DataObject
) -> None:
    step = made("aligner", name, case)
    rows = [Answered(max(p, key=p.__getitem__), p, y) for p, y in seen]
    prior = {"prior": UNIFORM, "rows": 1} if isinstance(step, Batched) else None
    state = step.fit(rows, prior)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert 0 < state["rows"] <= len(rows)
    assert all(isinstance(told, str) and len(told) < 400 and "\n" not in told for told in state["told"])
    assert step.fit(data.draw(st.permutations(rows)), prior) == state


@pytest.mark.parametrize(("name", "case"), LEARNERS)
def test_a_fit_on_rows_that_say_nothing_is_a_mistake_that_names_the_step(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    for rows in ([], [Answered(None, None, "a")]):
        with pytest.raises(TaskError, match=name):
            step.fit(rows, {"prior": {}, "rows": 0})


@pytest.mark.parametrize(("name", "case"), [c for c in ALL if c not in LEARNERS])
def test_a_step_that_learns_nothing_says_so(name: str, case: Case) -> None:
    step = made("aligner", name, case)
    assert not isinstance(step, Fitting) or step.learns == 0
