"""`choice`: what names an option, whatever stands around it, and options that differ from row to row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.alignment.structural.choice import Choice
from icl_engine.alignment.structural.forms.phrasing import denied, ends, turn
from icl_engine.types import Reading

LETTERS = list("ABCDE")
CITIES = {"A": "Rome", "B": "Paris", "C": "New York", "D": "none of these"}

SAYS = [
    "{}",
    "({})",
    "[{}]",
    "{}.",
    "**{}**",
    "**({})**",
    "（{}）",
    "\\boxed{{{}}}",
    "$\\boxed{{\\text{{{}}}}}$",
    "Answer: {}.",
    "Answer\n\n{}",
    "**Answer:** {}",
    "Final answer: {}",
    "The answer is {}.",
    "The correct answer is **{}**.",
    "Option {}",
    "I'd go with {}",
    "I would choose option {}.",
    "{} is correct.",
    "({}) is the correct answer.",
    "It's {}",
    "It must be {}.",
    "Therefore, the answer is ({}).",
    "<answer>{}</answer>",
    "<think>A? B? C?</think>\n\n{}",
    "Let me think.\nIt rains.\n\n{}",
    "{}\n\nQuestion: And now?\nAnswer: B",
    "答案：{}",
    '{{"answer": "{}"}}',
]
"""How a letter alone is said."""

DENIES = [
    "not {}",
    "It is not {}.",
    "{} is wrong.",
    "({}) is incorrect",
    "I don't think the answer is {}.",
    "If {}, then",
]


def read(text: str, keys: Mapping[str, Any] | None = None, **inputs: Any) -> str | None:
    """The letter; None where there is none."""
    result = Choice(**(keys or {"choices": LETTERS})).apply(Reading(text=text, inputs=inputs))
    assert (result.value is None) == (result.status == "unparsed")
    value: str | None = result.value
    return value


@pytest.mark.parametrize("said", SAYS)
@given(letter=st.sampled_from(LETTERS))
def test_a_letter_is_read_however_it_is_said(said: str, letter: str) -> None:
    assert read(said.format(letter)) == letter


@pytest.mark.parametrize("said", [said for said in SAYS if "hink" not in said and "Question" not in said])
@given(pair=st.permutations(LETTERS))
def test_two_letters_with_equal_right_are_none(said: str, pair: Sequence[str]) -> None:
    for join in ("{} or {}", "{} and {}", "{}/{}", "{} & {}", "{} or maybe {}"):
        assert read(said.format(join.format(*pair))) is None


@pytest.mark.parametrize("said", DENIES)
@given(pair=st.permutations(LETTERS))
def test_what_is_denied_is_not_the_answer_and_what_follows_may_be(said: str, pair: Sequence[str]) -> None:
    assert read(said.format(pair[0])) is None
    assert read(f"{said.format(pair[0])}\nSo the answer is {pair[1]}.") == pair[1]


@given(pair=st.permutations(LETTERS))
def test_the_last_final_answer_wins(pair: Sequence[str]) -> None:
    first, last = pair[:2]
    assert read(f"The answer is {first}. Hmm.\n\nFinal answer: {last}") == last
    assert read(f"{first}) as I said.\n\nFinal answer: {last}") == last
    assert read(f"Final answer: {first}\nFinal answer: {last}") == last
    assert read(f"The answer is {first}. Wait, no, the answer is {last}.") == last


@given(letter=st.sampled_from("ABCD"), other=st.sampled_from("ABCD"))
@pytest.mark.parametrize(
    "said", ["({}) {}", "{}) {}", "{}. {}", "**{}: {}**", "The answer is ({}) {}.", "\\boxed{{{}. {}}}"]
)
def test_a_letter_beside_the_text_of_another_option_is_none(said: str, letter: str, other: str) -> None:
    assert read(said.format(letter, CITIES[other]), {"choices": CITIES}) == (letter if letter == other else None)


@pytest.mark.parametrize(
    "said", ["{}", "{}.", "It is {}.", "**{}**", '"{}"', "The answer is {}.", "the {}", "Answer: {}"]
)
@given(letter=st.sampled_from("ABCD"))
def test_an_option_is_named_by_its_text(said: str, letter: str) -> None:
    for spelt in (CITIES[letter], CITIES[letter].lower(), CITIES[letter].upper()):
        assert read(said.format(spelt), {"choices": CITIES}) == letter


@pytest.mark.parametrize(
    ("options", "letters"),
    [
        (["red", "green", "blue"], {"red": "A", "blue": "C"}),
        (("red", "green"), {"green": "B"}),
        ([10, 12.5, True], {"12.5": "B", "true": "C"}),
        ({"A": "red", "B": "green"}, {"green": "B"}),
        ({"b": "red", "a": "green"}, {"green": "A"}),
        ({"label": ["A", "B"], "text": ["red", "green"]}, {"green": "B"}),
        ("(A) red\n(B) green", {"green": "B"}),
        ("Which?\nA. red\nB. green\n", {"green": "B", "red": "A"}),
        (["(B) red", "(A) green"], {"green": "A", "red": "B"}),
    ],
)
def test_each_row_may_bring_its_own_options(options: Any, letters: Mapping[str, str]) -> None:
    for text, letter in letters.items():
        for said in (text, letter, f"({letter}) {text}", f"It is {text}."):
            assert read(said, {"options": "choices"}, choices=options) == letter
    assert read("E", {"options": "choices"}, choices=options) is None, "a letter that the row has not"


@pytest.mark.parametrize("options", ["red, green", 12, None, [], ["red"], {}, {"label": 1, "text": 2}, {"yes": "red"}])
def test_options_that_cannot_be_read_leave_the_letters(options: Any) -> None:
    keys = {"choices": CITIES, "options": "choices"}
    for text, letter in (("B", "B"), ("It is Paris.", "B"), ("red", None)):
        assert read(text, keys, choices=options) == read(text, keys) == letter


def test_a_row_without_the_field_is_read_by_the_choices() -> None:
    assert read("Paris", {"choices": CITIES, "options": "o"}, other=["Paris", "Rome"]) == "B"


def test_the_trace_tells_what_was_seen_and_taken() -> None:
    step = Choice(choices=CITIES)
    assert step.apply(Reading(text="It is Paris.")).trace == ("choice: 'B', of 'It is Paris.'",)
    assert step.apply(Reading(text="(A) Paris")).trace == ("choice: no single option, in '(A) Paris'",)
    assert step.apply(Reading(text="Berlin")).trace == ("choice: no option, in 'Berlin'",)


@given(st.text())
def test_the_row_stays_with_the_reading(text: str) -> None:
    inputs = {"q": "?"}
    assert Choice().apply(Reading(text=text, inputs=inputs)).inputs is inputs


PIECES = [
    "(A) or option ",
    "the answer is A ",
    "A:",
    "so ",
    "B is ",
    "\\boxed{",
    "\\text{",
    "<b>",
    "if B not ",
    "wait ",
    "\n",
]


@pytest.mark.parametrize(
    "piece", [*PIECES, "A) x\nB) y\n", "İ", "final answer: B ", "answer to ", "\t ", "A, ", "Paris or "]
)
def test_long_answers_take_little_time(piece: str) -> None:
    step = Choice(choices=CITIES)
    step.apply(Reading(text="B"))
    start = process_time()
    step.apply(Reading(text=(piece * 50_000)[:50_000]))
    assert process_time() - start < 0.5


# -- phrasing


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("B", "B"),
        ("<think>A</think>B", "B"),
        ("<think>A</think>", "<think>A</think>"),
        ("B\nQuestion: 2?\nA", "B"),
        ("B\n\n### Question 2: what?", "B\n"),
        ("B<|im_end|>\n<|im_start|>user", "B"),
        ("Q: what?\nA: B", "Q: what?\nA: B"),
        ("\nQ: what?\nQ: B", "\nQ: what?"),
    ],
)
def test_what_the_model_said_to_the_question_at_hand(text: str, kept: str) -> None:
    assert turn(text) == kept


@given(st.integers(0, 20_000))
def test_of_a_long_text_the_ends_are_looked_at(length: int) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + length)))
    kept = ends(text)
    assert kept == (text if length <= 5_000 else f"{text[:1000]}\n{text[-4000:]}")


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("x", False),
        ("not x", True),
        ("it is not the case that x", True),
        ("it is not y. x", False),
        ("not y but x", False),
        ("not only x", False),
        ("y rather than x", True),
        ("x is not right", True),
        ("x isnt right", True),
        ("x is certainly wrong", True),
        ("x is not only right", False),
        ("x cannot be", True),
        ("unless x", True),
        ("x knots", False),
    ],
)
def test_what_is_denied(text: str, no: bool) -> None:
    at = text.split().index("x")
    start = sum(len(word) + 1 for word in text.split()[:at])
    assert denied(text, start, start + 1) == no
