"""Traps that a reader once fell into."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.choice import Choice
from icl_engine.alignment.structural.json_value import Json
from icl_engine.alignment.structural.listing import Items
from icl_engine.alignment.structural.number import Number
from icl_engine.types import Reading


def read(step: Any, text: str) -> Any:
    result = step.apply(Reading(text=text))
    return result.value if result.status == "ok" else "UNPARSED"


# -- list
@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Pride - Prejudice, b", ["Pride - Prejudice", "b"]),
        ("see item 3. next", ["see item 3. next"]),
        ("(1) red\n(2) green", ["(1) red", "(2) green"]),
        ("1000. x", ["1000. x"]),
    ],
)
def test_list_bullets_only_at_the_start(text: str, items: list[str]) -> None:
    assert read(Items(), text) == items
    assert Items().canon(items) == items


def test_list_canon_is_idempotent() -> None:
    once = Items().canon(["- 0- 0"])
    assert Items().canon(once) == once


@pytest.mark.parametrize(("separator", "items"), [(" and ", ["x and", "y"]), ("--", ["a-", "b"]), ("||", ["a|", "b"])])
def test_list_of_long_separators_reads_back_or_refuses(separator: str, items: list[str]) -> None:
    step = Items(separator=separator)
    try:
        written = step.write(items)
    except ValueError:
        return
    assert read(step, written) == step.canon(items)


@pytest.mark.parametrize("empty", [" none ", "a, b", "- none", " ", "no\nitems"])
def test_list_empty_reads_back_or_is_refused(empty: str) -> None:
    try:
        step = Items(empty=empty)
    except ValueError:
        return
    assert read(step, step.write([])) == []


@pytest.mark.parametrize("text", ["None", "None.", "none.", "NONE"])
def test_list_none_in_other_case_or_with_a_full_stop(text: str) -> None:
    assert read(Items(), text) == []


# -- choice
@pytest.mark.parametrize("text", ["The options are unclear", "There are several options here.", "Both answers hold"])
def test_choice_a_letter_inside_a_word(text: str) -> None:
    assert read(Choice(), text) == "UNPARSED"


def test_choice_a_before_the_next_question() -> None:
    assert read(Choice(), "So the answer is A\n\nQ: What is next?") == "A"


@pytest.mark.parametrize("text", ["answer" + " " * 20_000 + "!", "answer is" + " " * 20_000 + "!"])
def test_choice_is_not_quadratic(text: str) -> None:
    start = process_time()
    read(Choice(), text)
    assert process_time() - start < 1


@pytest.mark.parametrize("text", ["A:" * 100_000, "A: " * 100_000, "A:\n" * 100_000 + "B."])
def test_choice_of_many_answer_marks_ends(text: str) -> None:
    start = process_time()
    read(Choice(), text)
    assert process_time() - start < 5


@pytest.mark.parametrize("text", ["Paris (France)", "[1, 2]", "yes,", "note:", "(x)"])
def test_choice_canon_takes_its_own_options(text: str) -> None:
    assert Choice(choices={"A": text, "B": "other"}).canon(text) == "A"


@pytest.mark.parametrize(
    "text",
    [
        "A, B and C are all correct",
        "(A) and (B)",
        "The answer is (A) or (B)",
        "The answer is B or C",
        "The answer is B, C",
    ],
)
def test_choice_two_with_equal_right(text: str) -> None:
    assert read(Choice(), text) == "UNPARSED"


@pytest.mark.parametrize(("text", "letter"), [("A: (B)", "B"), ("A: The answer is C.", "C")])
def test_choice_the_a_of_question_and_answer(text: str, letter: str) -> None:
    assert read(Choice(), text) == letter


@pytest.mark.parametrize(
    "text", ["The answer is [B]", "(b) Paris", "b) Paris", "I think it is (b).", "B!", "The answer is definitely (b)."]
)
def test_choice_plain_enough(text: str) -> None:
    assert read(Choice(), text) == "B"


def test_choice_longest_option_wins() -> None:
    assert read(Choice(choices={"A": "York", "B": "New York"}), "It is New York.") == "B"


def test_choice_the_same_letter_twice_in_a_list() -> None:
    with pytest.raises(ValueError, match="same letter"):
        Choice.model_validate({"choices": ["A", "A", "B"]})


# -- after
@pytest.mark.parametrize("target", ["a..", "etc..."])
def test_after_canon_is_idempotent(target: str) -> None:
    assert After().canon(After().canon(target)) == After().canon(target)


def test_after_a_target_with_its_own_full_stop_in_a_sentence() -> None:
    assert read(After(), f"So the answer is {After().write('etc.')}.") == After().canon("etc.")


@pytest.mark.parametrize("target", ["", ".", "two\nlines", "the answer is 5"])
def test_after_reads_back_or_refuses(target: str) -> None:
    try:
        canonical = After().canon(target)
    except ValueError:
        return
    assert read(After(), f"So the answer is {After().write(target)}") == canonical


def test_after_marker_inside_a_word() -> None:
    assert read(After(marker="A:"), "A: 12\nData: none") == "12"


def test_after_colon() -> None:
    assert read(After(), "The answer is: Paris.") == "Paris"


# -- number
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("- 12 apples\n- 13 pears", 13),
        ("10 - 3", "UNPARSED"),
        ("Answer - 12", 12),
        ("_12_", 12),
        ("__12__", 12),
        ("The answer is...12", 12),
        ("1e99999", "UNPARSED"),
        ("12/25/2020", "UNPARSED"),
        ("1/2,000", 0.0005),
    ],
)
def test_number(text: str, value: Any) -> None:
    assert repr(read(Number(), text)) == repr(value)


# -- json
@pytest.mark.parametrize("text", ['{"a": [1, 2], "b": ', '{"items": [{"a": 1}, {"a": 2'])
def test_json_that_was_cut_off_is_not_its_first_part(text: str) -> None:
    assert read(Json(), text) == "UNPARSED"


@pytest.mark.parametrize("depth", [253, 254])
def test_json_deep_target_reads_back_or_is_refused(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    try:
        written = Json().write(value)
    except ValueError:
        return
    assert read(Json(), written) == value


def test_json_nan_target_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Json().canon([float("nan")])


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "^(a+)+$"}, '"' + "a" * 26 + '!"'),
        ({"uniqueItems": True}, "[" + ",".join(f'{{"a":{i}}}' for i in range(4000)) + "]"),
    ],
)
def test_json_schema_on_hostile_text_is_quick(schema: dict[str, Any], text: str) -> None:
    start = process_time()
    read(Json(schema=schema), text)
    assert process_time() - start < 1
