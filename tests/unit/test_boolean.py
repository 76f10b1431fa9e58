"""`boolean`: how yes and no are said, and what says neither."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from icl_engine.alignment.structural.boolean import FALSE, TRUE, Boolean
from icl_engine.types import Reading


def read(text: str, **keys: Any) -> Any:
    reading = Boolean.model_validate(keys).apply(Reading(text=text))
    assert (reading.value is None) == (reading.status == "unparsed")
    return reading.value


SAID = [
    "{}",
    "{}.",
    "**{}**",
    '"{}"',
    "{}!",
    "The answer is {}.",
    "Answer: {}",
    "So the answer is: **{}**.",
    "I would say {}.",
]
SAID += ["Well, {}.", "({})", "{}, because it is so.", "It rained.\nThe grass is wet.\n{}.", "\\boxed{{\\text{{{}}}}}"]
SAID += ["<think>yes or no?</think>{}", "{}\n\nQ: And now?\nA: yes\n\nQ: And?\nA: no", "{} - it is so", "Probably {}."]


@pytest.mark.parametrize("said", SAID)
def test_every_word_is_read_in_every_phrase(said: str) -> None:
    for words, value in ((TRUE, True), (FALSE, False)):
        for word in words:
            for spelt in (word, word.capitalize(), word.upper()):
                assert read(said.format(spelt)) is value, spelt


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is not true.", False),
        ("That isn't correct", False),
        ("That isn’t quite right.", False),
        ("not wrong", True),
        ("The claim is false.", False),
        ("I find that this statement is definitely incorrect.", False),
        ("I don't think so.", False),
        ("I do not believe so", False),
        ("I think so.", True),
        ("Definitely not!", False),
        ("Of course!", True),
        ("No doubt.", True),
        ("There is no doubt that it is true.", True),
        ("Yes, no doubt.", True),
        ("It does not.", False),
        ("No, that's wrong.", False),
        ("y", True),
        ("F", False),
        ("0", False),
        ("Ｙｅｓ", True),
    ],
)
def test_phrases_that_say_it_otherwise(text: str, value: bool) -> None:
    assert read(text) is value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes and no.",
        "Yes or no?",
        "yes no",
        "True/False",
        "Neither yes nor no.",
        "I cannot answer yes or no.",
        "No one knows.",
        "Not necessarily true.",
        "It is unclear whether it is true.",
        "If it is true, we win.",
        "Is it true?",
        "It depends.",
        "Nothing",
        "Yesterday",
        "truely",
        "He is right-handed.",
        "Right now I cannot say.",
        "The answer is not yes.",
        "No idea",
        "Yes.\nBut wait.\nSo the answer is no.",
        "I doubt that it is true.",
        "I can't say that it is correct.",
        "\\boxed{12} yes",
    ],
)
def test_what_says_neither_or_both_is_unparsed(text: str) -> None:
    assert read(text) is None


def test_words_of_a_task() -> None:
    keys = {"true": ["plausible", "1"], "false": "not plausible"}
    assert read("So the answer is not plausible.", **keys) is False
    assert read("The sentence is plausible.", **keys) is True
    assert read("implausible", **keys) is None
    assert [Boolean.model_validate(keys).write(t) for t in (True, 0)] == ["plausible", "not plausible"]
    assert read("I think so.", **keys) is None


@pytest.mark.parametrize(
    ("target", "value"),
    [(True, True), (1, True), (1.0, True), ("1", True), ("TRUE", True), ("Yes.", True), (0, False), ("no", False)],
)
def test_a_target_is_true_or_false(target: Any, value: bool) -> None:
    assert Boolean().canon(target) is value
    assert read(Boolean().write(target)) is value


@pytest.mark.parametrize("target", [None, 2, "maybe", [], "yess"])
def test_a_target_that_is_neither_is_refused(target: Any) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        Boolean().canon(target)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"true": ["yes"], "false": ["YES"]}, "stands for both"),
        ({"true": [""]}, "no letter"),
        ({"true": []}, "at least 1"),
    ],
)
def test_words_that_cannot_be_told_apart_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Boolean.model_validate(keys)


@pytest.mark.parametrize(
    "text", ["yes ", "not ", "is ", "the answer is ", "\n", "- ", "no,", "well, ", "i think ", "true. "]
)
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    start = process_time()
    read(text * (50_000 // len(text)))
    assert process_time() - start < 0.5
