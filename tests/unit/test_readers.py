"""What readers make of real answers: each alone, in chains, behind demonstrations with rationales, and misspelt."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson
import pytest

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.choice import Choice
from icl_engine.alignment.structural.forms.numerals import Numerals
from icl_engine.alignment.structural.json_value import Json
from icl_engine.alignment.structural.listing import Items
from icl_engine.alignment.structural.number import Number
from icl_engine.alignment.text import quoted
from icl_engine.config.load import build, load_task
from icl_engine.pipeline import Pipeline
from icl_engine.protocols import Aligner
from icl_engine.types import Example, Reading


def read(step: Aligner, text: str | None) -> Reading:
    """What a step reads after another one that left a line of trace."""
    return step.apply(Reading(text=text, trace=("before",)))


def found(step: Aligner, text: str, value: Any, trace: str) -> Reading:
    """Assert what a step reads, and that true is not 1 and 1 is not 1.0."""
    result = read(step, text)
    assert (result.status, repr(result.value), result.trace) == ("ok", repr(value), ("before", trace))
    return result


def unparsed(step: Aligner, text: str | None, trace: str) -> None:
    """Assert that a step takes nothing, and leaves the text as it was."""
    assert read(step, text) == Reading(text=text, status="unparsed", trace=("before", trace))


# -- number

NUMBERS = [
    # text, the first number, the last, how many
    ("12", 12, 12, 1),
    (" 12\n", 12, 12, 1),
    ("$29.00", 29, 29, 1),
    ("$ 29.50", 29.5, 29.5, 1),
    ("€5", 5, 5, 1),
    ("£1,000", 1000, 1000, 1),
    ("¥500", 500, 500, 1),
    ("US$5", 5, 5, 1),
    ("5 dollars", 5, 5, 1),
    ("-5", -5, -5, 1),
    ("−5", -5, -5, 1),
    ("+5", 5, 5, 1),
    ("-$5", -5, -5, 1),
    ("$-5", -5, -5, 1),
    ("-€5", -5, -5, 1),
    ("+£5", 5, 5, 1),
    ("−¥5", -5, -5, 1),
    ("−$1,000.50", -1000.5, -1000.5, 1),
    ("1,234,567.89", 1234567.89, 1234567.89, 1),
    ("1234567.89", 1234567.89, 1234567.89, 1),
    ("10,000 digits", 10000, 10000, 1),
    ("1,23", None, None, 2),
    ("1,2345", None, None, 2),
    ("1, 2, 3", 1, 3, 3),
    ("3/4", 0.75, 0.75, 1),
    ("3 / 4 of a cup", 0.75, 0.75, 1),
    ("-1/8", -0.125, -0.125, 1),
    ("6/3", 2, 2, 1),
    ("50%", 50, 50, 1),
    ("12.5 %", 12.5, 12.5, 1),
    ("x = 12", 12, 12, 1),
    ("x=-12", -12, -12, 1),
    ("y=.5", 0.5, 0.5, 1),
    ("0.5.", 0.5, 0.5, 1),
    ("12.", 12, 12, 1),
    ("12, of course", 12, 12, 1),
    ("(12)", 12, 12, 1),
    ("**12**", 12, 12, 1),
    ("`12`", 12, 12, 1),
    ("$\\boxed{12}$", 12, 12, 1),
    ("#### 12", 12, 12, 1),
    ("12!", 12, 12, 1),
    ("007", 7, 7, 1),
    ("-0", 0, 0, 1),
    ("-0.0", 0, 0, 1),
    ("1e3", 1000, 1000, 1),
    ("1.5E-3", 0.0015, 0.0015, 1),
    ("1e400 or 2", 2, 2, 1),
    ("1/0 or 2", 2, 2, 1),
    ("9" * 400 + " or 2", 2, 2, 1),
    ("4611686018427387905", 2**62 + 1, 2**62 + 1, 1),
    ("9223372036854775808", 2.0**63, 2.0**63, 1),
    ("0.30000000000000004", 0.30000000000000004, 0.30000000000000004, 1),
    ("12 apples and 3 pears", 12, 3, 2),
    ("She pays 3 * $9 + $2 = $1,029.00 in all.", None, 1029, 4),
    ("16 - 3 - 4 = <<16-3-4=9>>9 eggs", None, 9, 8),
    ("5-3", None, None, 2),
    ("10-15 minutes", None, None, 2),
    ("2–3 hours", None, None, 2),
    ("3 x 4", None, None, 2),
    ("2^10", 1024, 1024, 1),
    ("the 3rd of 12th", 3, 12, 2),
    ("step 1.\nstep 2.\n7 in all", 7, 7, 1),
    ("½", 0.5, 0.5, 1),
    ("twelve", 12, 12, 0),
    ("\u0661\u0662", 12, 12, 1),
]


@pytest.mark.parametrize(("text", "first", "last", "count"), NUMBERS, ids=[row[0][:30] for row in NUMBERS])
def test_a_number_is_what_it_spells(text: str, first: float | None, last: float | None, count: int) -> None:
    assert len(list(Numerals(text))) == count
    for take, value in (("first", first), ("last", last)):
        step = Number.model_validate({"take": take})
        if value is None:
            assert read(step, text).status == "unparsed"
        else:
            result = found(step, text, value, f"number: {value}, of {quoted(text)}")
            assert result.text == str(value)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " \n",
        "no idea",
        "x12",
        "v1.2.3",
        "1/0",
        "1e999",
        "-",
        "$",
        ".",
        "e5",
        "NaN",
        "12:30",
        "2020-01-15",
        "1.2.3",
    ],
)
def test_what_spells_no_number_is_unparsed(text: str | None) -> None:
    unparsed(Number(), text, f"number: none, in {quoted(text or '')}")


@pytest.mark.parametrize(
    ("spellings", "value"),
    [
        ((29, 29.0, "29", "29.00", "$29", "$29.00", " 29\n", "29%", "29 apples", "+29", "2.9e1"), 29),
        ((-0.5, "-0.5", "-.50", "−0.5", "-1/2", "-$0.50"), -0.5),
        ((1000000, 1e6, "1,000,000", "1000000", "1e6", "$1,000,000.00"), 1000000),
        ((0, -0.0, "0", "-0", "0.00", "0/7"), 0),
    ],
)
def test_numbers_are_compared_by_value(spellings: Sequence[Any], value: float) -> None:
    assert [repr(Number().canon(spelt)) for spelt in spellings] == [repr(value)] * len(spellings)


@pytest.mark.parametrize("target", ["", "none", "5-3", "1, 2", "12 of 30", True, None, [1, 2], {"a": "b"}, "1e999"])
def test_a_target_that_is_not_one_number_is_refused(target: Any) -> None:
    with pytest.raises(ValueError, match=r"^target .* holds (no|2) numbers, not one"):
        Number().canon(target)


@pytest.mark.parametrize("target", ["$29.00", "1,000", 12, -0.5, "3/4"])
def test_a_number_is_shown_as_it_stands_in_the_data(target: Any) -> None:
    assert Number().write(target) == str(target)


# -- choice

CITIES = Choice(choices={"A": "Rome", "B": "Paris", "C": "New York", "D": "none of these"})
LETTERED = [
    # the whole text
    ("B", "B"),
    ("b", "B"),
    (" B\n", "B"),
    ("(B)", "B"),
    ("(b)", "B"),
    ("[B]", "B"),
    ("B.", "B"),
    ("B)", "B"),
    ("B:", "B"),
    ("(B).", "B"),
    ("**B**", "B"),
    ("**(B)**", "B"),
    ("`B`", "B"),
    ('"B"', "B"),
    ("$B$", "B"),
    ("I", "I"),
    # the beginning
    ("B) Paris", "B"),
    ("(B) Paris", "B"),
    ("( B ) Paris", "B"),
    ("[B] Paris", "B"),
    ("B. Paris is the capital.", "B"),
    ("B: Paris", "B"),
    ("B, because it is the capital", "B"),
    ("B - Paris", "B"),
    ("B – Paris", "B"),
    ("**B.** Paris", "B"),
    ("B\nParis is the capital.", "B"),
    ("B. Not (A), as Rome is in Italy.", "B"),
    # a phrase
    ("Answer: B", "B"),
    ("Answer: (B)", "B"),
    ("answer: b", "B"),
    ("Answer B", "B"),
    ("Answer = B", "B"),
    ("Answer:\nB", "B"),
    ("Answer:\n\n(B) Paris", "B"),
    ("**Answer:** B", "B"),
    ("Final answer: **B**", "B"),
    ("The answer is B", "B"),
    ("The answer is (B).", "B"),
    ("The answer is (b).", "B"),
    ("The answer is: **B**", "B"),
    ("The answer is option B.", "B"),
    ("So the correct answer is B, since it is the capital.", "B"),
    ("The correct option is C.", "C"),
    ("My choice is D!", "D"),
    ("Choice: c", "C"),
    ("Option (b)", "B"),
    ("I think\nit rains, so\nthe answer is (D).\nOK?", "D"),
    ("Is the answer is (A)? No, the answer is (C).", "C"),
    ("The answer is A because it is the capital.", "A"),
    ("The answer is A, the capital.", "A"),
    ("The answer is a.", "A"),
    ("the answer is I.", "I"),
    # the only one in brackets
    ("I think it is (B).", "B"),
    ("It must be (B), as I said: (B)!", "B"),
    ("my answer I think is (D)", "D"),
]


@pytest.mark.parametrize(("text", "letter"), LETTERED)
def test_a_letter_is_read_where_it_is_named(text: str, letter: str) -> None:
    result = read(Choice(), text)
    assert (result.status, result.value, result.text) == ("ok", letter, letter)


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", " \n", "?", "no idea", "42", "Paris", "Apple", "AB", "B2", "ABCDE"),
        *("the best option is a good one", "The answer is a matter of taste.", "The answer is I think hard to say."),
        *("the answer depends", "An answer is needed.", "Because it is so.", "A cat sat.", "I do not know"),
        *(
            "A and B",
            "A or B",
            "(A) and (B)",
            "(A) or (B)?",
            "A, B and C are all right",
            "Both (A) and (B).",
            "It is (A) or (B).",
            "Not sure\nbut maybe (B)",
        ),
        *("The answer is B's", "the answer is Bob", "the answer is 3", "(AB)", "(3)"),
    ],
)
def test_what_names_no_letter_is_unparsed(text: str | None) -> None:
    result = read(Choice(), text)
    assert (result.status, result.value, result.text) == ("unparsed", None, text)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("Paris", "B"), ("paris.", "B"), ("**Paris**", "B"), ('"Paris"', "B"), ("New York", "C"), ("ROME", "A")),
        *(("It is Paris.", "B"), ("The capital is Paris, of course.", "B"), ("The answer is Paris.", "B")),
        *(
            ("It is new york!", "C"),
            ("None of these.", "D"),
            ("It is Paris, not Rome.", "B"),
            ("Paris\nRome is in Italy.", "B"),
        ),
        *(("Rome? No: the answer is (B).", "B"), ("It is (B), and Rome is not.", "B")),
    ],
)
def test_an_option_is_read_by_its_text(text: str, letter: str) -> None:
    result = read(CITIES, text)
    assert (result.status, result.value) == ("ok", letter)


@pytest.mark.parametrize(
    "text",
    [
        *("(B) Rome", "E", "(E)", "The answer is E.", "Z", "Parisian", "the Romes", "York"),
        *("Rome or Paris", "It is Paris, or Rome.", "Not sure\nbut maybe Paris"),
    ],
)
def test_what_names_no_option_or_two_is_unparsed(text: str) -> None:
    assert read(CITIES, text).status == "unparsed"


def test_a_text_that_two_options_share_names_neither() -> None:
    step = Choice(choices={"A": "yes", "B": "Yes", "C": "no"})
    assert read(step, "yes").status == "unparsed"
    found(step, "no", "C", "choice: 'C', of 'no'")
    with pytest.raises(ValueError, match="'yes' is not a choice"):
        step.canon("yes")


@pytest.mark.parametrize(
    ("choices", "text", "letter"),
    [
        (["A", "B"], "b", "B"),
        (["a", "b"], "(B)", "B"),
        (["1", "2", "10"], "10", "10"),
        (["1", "2", "10"], "(1) it is", "1"),
        (["1", "2", "10"], "The answer is 10.", "10"),
        ({1: "yes", 2: "no"}, "no", "2"),
        ({"A": True, "B": False}, "true", "A"),
        ({"A": 12, "B": 13.5}, "It is 13.5.", "B"),
        ({"A1": "x", "A": "y"}, "The answer is A1", "A1"),
        ({"A": "no", "B": "yes"}, "**No.**", "A"),
        ({"A": "it's so", "B": "$5"}, "It's so", "A"),
        ({"A": "it's so", "B": "$5"}, "That makes $5 in all", "B"),
        ({"A": "U.S.", "B": "U.K."}, "U.K.", "B"),
    ],
)
def test_choices_may_be_letters_numbers_and_their_texts(choices: Any, text: str, letter: str) -> None:
    assert read(Choice(choices=choices), text).value == letter


@pytest.mark.parametrize("target", ["B", "b", "(B)", "B.", " B\n", "**B**", "Paris", "paris.", "PARIS"])
def test_a_choice_is_shown_as_it_stands_in_the_data_and_compared_by_its_letter(target: str) -> None:
    assert CITIES.write(target) == target
    assert CITIES.canon(target) == "B"


@pytest.mark.parametrize("target", ["", "E", "Pariss", "It is Paris", 2, None, ["Rome", "Paris"]])
def test_a_target_that_is_no_choice_is_refused(target: Any) -> None:
    with pytest.raises(ValueError, match=r"^target .* is not a choice"):
        CITIES.canon(target)


def test_a_target_that_is_no_choice_is_told_with_the_letters() -> None:
    with pytest.raises(ValueError, match=r"^target 'E' is not a choice \(valid: A, B, C, D\)$"):
        CITIES.canon("E")


# -- after


@pytest.mark.parametrize(
    ("keys", "text", "value"),
    [
        # the phrase
        ({}, "So the answer is 12.", "12"),
        ({}, "the answer is 12", "12"),
        ({}, "THE ANSWER IS 12", "12"),
        ({}, "The  answer\tis\n12", "12"),
        ({}, "The\u00a0answer is 12", "12"),
        ({}, "the answer is (B).", "(B)"),
        ({"marker": "Answer:"}, "ANSWER: no", "no"),
        ({"marker": "Answer :"}, "answer   : no", "no"),
        ({"marker": "####"}, "48 / 2 = 24\n#### 24", "24"),
        ({"marker": " ⟹ "}, "2 + 2⟹4", "4"),
        ({"marker": "(.*"}, "a(.*b", "b"),
        ({"marker": "\n"}, "thought\nanswer", "answer"),
        ({"marker": "</think>"}, "<think>\n5?\n</think>\n\n12", "12"),
        # full stops and white space
        ({}, "the answer is  12 . ", "12"),
        ({}, "the answer is U.S.", "U.S"),
        ({}, "the answer is 1.5.", "1.5"),
        ({}, "the answer is 12!", "12!"),
        ({}, "the answer is **12**.", "**12**"),
        # first and last
        ({}, "the answer is 1. No, the answer is 2.", "2"),
        ({"take": "last"}, "the answer is 1.\nthe answer is 2.\nthe answer is 3.", "3"),
        ({"take": "first"}, "the answer is 1.\nthe answer is 2.", "1"),
        ({"take": "first"}, "the answer is 1. the answer is 2.", "1. the answer is 2"),
        # the line and the end
        ({}, "the answer is 12.\n\nQ: And 3 + 4?\nA: 7", "12"),
        ({}, "the answer is 12.\r\nQ: And?", "12"),
        ({}, "the answer is\n\n 12.\nOK?", "12"),
        ({"until": "line"}, "the answer is one\ntwo", "one"),
        ({"until": "end"}, "the answer is one\ntwo\n\nthree.\n", "one\ntwo\n\nthree"),
        ({"until": "end"}, "the answer is one.\ntwo", "one.\ntwo"),
        ({"until": "end", "take": "first"}, "the answer is 1\nthe answer is 2.", "1\nthe answer is 2"),
    ],
)
def test_the_text_behind_the_phrase_is_taken(keys: Mapping[str, Any], text: str, value: str) -> None:
    assert found(After.model_validate(keys), text, value, f"after: {quoted(value)}, of {quoted(text)}").text == value


@pytest.mark.parametrize("text", [None, "", "12", "the answer", "answer is 12", "the answers is 12", "theanswer is 12"])
@pytest.mark.parametrize("take", ["first", "last"])
def test_without_the_phrase_nothing_is_read(text: str | None, take: str) -> None:
    unparsed(After.model_validate({"take": take}), text, f"after: no 'the answer is', in {quoted(text or '')}")


@pytest.mark.parametrize(
    "text", ["the answer is", "So the answer is \n\n", "the answer is .", "the answer is 12. the answer is"]
)
@pytest.mark.parametrize("until", ["line", "end"])
def test_with_nothing_behind_the_phrase_nothing_is_read(text: str, until: str) -> None:
    unparsed(After.model_validate({"until": until}), text, f"after: nothing follows, in {quoted(text)}")


def test_the_trace_shows_no_more_than_80_characters() -> None:
    text = f"the answer is {'1' * 500}"
    assert read(After(), text).trace == ("before", f"after: {quoted('1' * 500)}, of {quoted(text)}")
    assert read(After(marker="#" * 500), "12").trace == ("before", f"after: no {quoted('#' * 500)}, in '12'")
    assert len(quoted(text)) < 90


@pytest.mark.parametrize(
    ("target", "canonical"), [("12", "12"), (" No. ", "No"), (12, "12"), (True, "true"), ("a.b", "a.b")]
)
def test_a_target_loses_what_an_answer_loses(target: Any, canonical: str) -> None:
    assert After().canon(target) == canonical
    assert read(After(), f"So the answer is {After().write(target)}").value == canonical


# -- list


@pytest.mark.parametrize(
    ("keys", "text", "items"),
    [
        ({}, "red", ["red"]),
        ({}, " red, green,blue\n", ["red", "green", "blue"]),
        ({}, "red,, green,", ["red", "green"]),
        ({}, "red, New York, 1.5", ["red", "New York", "1.5"]),
        ({}, "red\ngreen\n\nblue", ["red", "green", "blue"]),
        ({}, "red\r\ngreen\u2028blue", ["red", "green", "blue"]),
        ({}, "red, green\nblue", ["red", "green", "blue"]),
        ({}, "- red\n- green", ["red", "green"]),
        ({}, "* red\n• green\n – blue", ["red", "green", "blue"]),
        ({}, "1. red\n2. green\n10. blue", ["red", "green", "blue"]),
        ({}, "1) red\n2) green", ["red", "green"]),
        ({}, "- 1. red\n- 2. green", ["red", "green"]),
        ({}, "1. red, green", ["red", "green"]),
        ({}, "-5, -6", ["-5", "-6"]),
        ({}, "- -5\n- -6", ["-5", "-6"]),
        ({}, "1.5, 2.5", ["1.5", "2.5"]),
        ({}, "well-known, 7-up", ["well-known", "7-up"]),
        ({}, "2.red", ["2.red"]),
        ({}, "-", ["-"]),
        ({}, "red and green", ["red and green"]),
        ({}, "none", []),
        ({}, " none\n", []),
        ({}, "- none", []),
        ({}, "none, red", ["none", "red"]),
        ({"empty": "[]"}, "[]", []),
        ({"empty": "[]"}, "none", ["none"]),
        ({"empty": "no items"}, "no items", []),
        ({"separator": ";"}, "a, b; c", ["a, b", "c"]),
        ({"separator": " and "}, "red and green and blue", ["red", "green", "blue"]),
        ({"separator": " "}, "syndrome  therefrom", ["syndrome", "therefrom"]),
        ({"separator": "\n"}, "red, green\nblue", ["red, green", "blue"]),
        ({"separator": "\t"}, "a b\tc", ["a b", "c"]),
        ({"separator": "|"}, "| a | b |", ["a", "b"]),
        ({"separator": "->"}, "a -> b->c", ["a", "b", "c"]),
    ],
)
def test_a_list_is_cut_at_separators_and_lines(keys: Mapping[str, Any], text: str, items: list[str]) -> None:
    found(Items.model_validate(keys), text, items, f"list: {quoted(items)}, of {quoted(text)}")


@pytest.mark.parametrize("text", [None, "", " \n\t"])
def test_an_empty_text_is_no_list(text: str | None) -> None:
    unparsed(Items(), text, f"list: no text, in {quoted(text or '')}")


@pytest.mark.parametrize(
    ("keys", "target", "written"),
    [
        ({}, ["red", "green"], "red, green"),
        ({}, ("red",), "red"),
        ({}, [1, 2.5, True, None], "1, 2.5, true, null"),
        ({}, [" red ", "", "green\n"], "red, green"),
        ({}, "red,green", "red, green"),
        ({}, "1. red\n2. green", "red, green"),
        ({}, [], "none"),
        ({}, [""], "none"),
        ({}, "", "none"),
        ({"empty": "[]"}, [], "[]"),
        ({"separator": ";"}, ["a, b", "c"], "a, b; c"),
        ({"separator": " and "}, ["red", "green"], "red and green"),
        ({"separator": " "}, ["b", "a"], "b a"),
        ({"separator": "\n"}, ["red", "green"], "red\ngreen"),
        ({"separator": "->"}, ["a", "b"], "a-> b"),
        # what would be read as other items
        ({}, ["salt", "bread and butter"], '["salt", "bread and butter"]'),
        ({}, ['"a"', '"b"'], '["\\"a\\"", "\\"b\\""]'),
        ({}, ["[a", "b]"], '["[a", "b]"]'),
        ({}, ["I cannot say"], '["I cannot say"]'),
    ],
)
def test_a_list_is_written_as_it_is_read(keys: Mapping[str, Any], target: Any, written: str) -> None:
    step = Items.model_validate(keys)
    assert step.write(target) == written
    assert read(step, written).value == step.canon(target)


@pytest.mark.parametrize(
    ("separator", "item"),
    [
        (",", "a, b"),
        (";", "a;b"),
        (" and ", "a and b"),
        (" ", "New York"),
        (",", "two\nlines"),
        (",", "two\u2028lines"),
    ],
)
def test_an_item_that_could_not_be_read_back_is_refused(separator: str, item: str) -> None:
    step = Items(separator=separator)
    with pytest.raises(ValueError, match=r"the item .* holds the list's separator"):
        step.canon(["red", item])
    with pytest.raises(ValueError, match=r"the item .* holds the list's separator"):
        step.write(["red", item])


# -- json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # the whole text
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        (" [1, 2]\n", [1, 2]),
        ("{}", {}),
        ("[]", []),
        ("12", 12),
        ("-0.5e1", -5.0),
        ("true", True),
        ('"yes"', "yes"),
        ('"{}"', "{}"),
        # fences and prose
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n[1, 2]\n```\nThat is all.', [1, 2]),
        ('Here you are:\n\n```json\n{\n  "a": 1\n}\n```\nOK?', {"a": 1}),
        ('The answer is {"a": "b"}.', {"a": "b"}),
        ('{"a": 1} is what I think', {"a": 1}),
        ('// a comment\n{"a": 1}', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('I think [sic] {it} is {"a": 1}', {"a": 1}),
        ('{{"a": 1}}', {"a": 1}),
        ('}{ ] {"a": 1}', {"a": 1}),
        # brackets, fences and quotes in texts
        ('{"a": "}", "b": "]["}', {"a": "}", "b": "]["}),
        ('{"a": "```"}', {"a": "```"}),
        ('So {"a": "say \\"hi\\" \\\\"}', {"a": 'say "hi" \\'}),
        # several values: the first
        ('{"a": 1} {"b": 2}', {"a": 1}),
        ('Either {"a": 1} or [2]', {"a": 1}),
        ('{"a": 1}\n{"b": 2}\n', {"a": 1}),
        # what is no JSON on the way
        ('{"a": NaN} or {"a": 1}', {"a": 1}),
        ('[Infinity] or [1]', [1]),
        ("{'a': 1} or {\"a\": 1}", {"a": 1}),
        ('["\\ud800"] or ["\\ud83d\\ude00"]', ["😀"]),
        # keys and numbers
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"": null}', {"": None}),
        ("18446744073709551615", 2**64 - 1),
        ("[123456789012345678901234567890]", [1.2345678901234568e29]),
        ("[0.1, 1.0, 1e-400]", [0.1, 1.0, 0.0]),
        # depth
        ("[" * 250 + "]" * 250, json.loads("[" * 250 + "]" * 250)),
        ("[x] " * 60 + "[1]", [1]),
    ],
)  # fmt: skip
def test_json_is_the_whole_text_or_its_first_object_or_list(text: str, value: Any) -> None:
    result = read(Json(), text)
    assert (result.status, repr(result.value), result.text) == ("ok", repr(value), text)


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", " ", "no idea", "yes", "[sic]", "{", "}", "``` ```", "The answer is 12.", 'I say "yes".'),
        *("NaN", "[Infinity]", "-Infinity", "[1e400]", '["\\ud800"]'),
        *('{"a": 1', '{"a": "b', '{"a":', '["a", "b', '```json\n{"a": 1,\n'),
        *("[" * 300 + "]" * 300, "[" * 100_000, '{"a":' * 20_000),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_what_holds_no_json_is_unparsed(text: str | None) -> None:
    unparsed(Json(), text, f"json: no JSON, in {quoted(text or '')}")


@pytest.mark.parametrize("depth", range(250, 258))
def test_json_that_is_too_deep_to_be_written_is_not_read(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, "So: " + '{"a":' * depth + "1" + "}" * depth):
        result = read(Json(), text)
        assert result.status == "ok" or depth > 250
        orjson.dumps({"prediction": result.value, "target": None})


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (PERSON, '{"name": "Ann", "age": 3}', {"name": "Ann", "age": 3}),
        (PERSON, 'Not {"age": 3} but {"name": "Ann"}, or {"name": "Bob"}', {"name": "Ann"}),
        (PERSON, '[1] ```json\n{"name": "Ann"}\n```', {"name": "Ann"}),
        ({"type": "integer"}, "12", 12),
        ({"type": "array", "items": {"type": "string"}}, '[1] or ["a"]', ["a"]),
        ({"enum": ["yes", "no"]}, '"yes"', "yes"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "array"}}}, '{"a": 1} [1]', [1]),
        ({}, "[1]", [1]),
    ],
)
def test_the_first_value_that_keeps_the_schema_is_taken(schema: Mapping[str, Any], text: str, value: Any) -> None:
    found(Json(schema=schema), text, value, f"json: {quoted(value)}, of {quoted(text)}")


@pytest.mark.parametrize(
    ("schema", "text", "why"),
    [
        (PERSON, '{"age": 3}', "$: 'name' is a required property"),
        (PERSON, '{"name": "Ann", "age": -1}', "$.age: -1 is less than the minimum of 0"),
        (PERSON, '{"name": 1}', "$.name: 1 is not of type 'string'"),
        (PERSON, "[]", "$: [] is not of type 'object'"),
        (PERSON, "no idea", "no JSON"),
        ({"type": "integer"}, "true", "$: True is not of type 'integer'"),
        ({"const": 1}, "true", "$: 1 was expected"),
        ({"$ref": "#"}, "1", "nested too deep"),
        ({"$ref": "#/$defs/none"}, "1", "the schema's $ref '/$defs/none' is not in it"),
    ],
)
def test_a_value_that_breaks_the_schema_is_unparsed_and_the_trace_says_how(
    schema: Mapping[str, Any], text: str, why: str
) -> None:
    unparsed(Json(schema=schema), text, f"json: {why}, in {quoted(text)}")


def test_the_trace_of_a_broken_schema_is_short_and_of_one_line() -> None:
    result = read(Json(schema={"enum": ["a\nb" * 500]}), json.dumps("\x1b[2J\n" * 500))
    assert result.status == "unparsed"
    assert len(result.trace[-1]) < 200
    assert result.trace[-1].isprintable()


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/person.json", "https://example.com/p.json", "file:///etc/hosts", "person.json", "urn:p"],
)
@pytest.mark.parametrize("schema", [{}, {"$id": "http://127.0.0.1:9/base.json"}])
def test_a_foreign_ref_never_touches_network_or_disk(
    schema: Mapping[str, Any], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*arguments: Any, **keywords: Any) -> NoReturn:
        asked.append(arguments)
        raise OSError("there is no network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    step = Json(schema={**schema, "properties": {"a": {"$ref": address}}})
    result = read(step, '{"a": 1}')
    assert (result.status, result.value) == ("unparsed", None)
    assert "$ref" in result.trace[-1]
    assert "is not in it" in result.trace[-1]
    with pytest.raises(ValueError, match="is not in it"):
        step.canon({"a": 1})
    assert read(step, '{"b": 1}').value == {"b": 1}
    assert asked == []


@pytest.mark.parametrize(
    ("target", "canonical", "written"),
    [
        ({"b": 1, "a": [True, None]}, {"b": 1, "a": [True, None]}, '{"b": 1, "a": [true, null]}'),
        ((1, "é"), [1, "é"], '[1, "é"]'),
        ({1: "a"}, {"1": "a"}, '{"1": "a"}'),
        ("yes", "yes", '"yes"'),
        ("12", "12", '"12"'),
        (12, 12, "12"),
        # a cell of a CSV file
        ('{"a": [1]}', {"a": [1]}, '{"a": [1]}'),
        (' [1,\n2] ', [1, 2], "[1, 2]"),
        ("[sic]", "[sic]", '"[sic]"'),
        ('{"a": NaN}', '{"a": NaN}', '"{\\"a\\": NaN}"'),
    ],
)  # fmt: skip
def test_a_json_target_is_plain_data_on_one_line(target: Any, canonical: Any, written: str) -> None:
    assert Json().canon(target) == canonical
    assert Json().write(target) == written
    assert read(Json(), written).value == canonical


@pytest.mark.parametrize("target", [{1, 2}, b"a", object(), "\ud800", {"a": 1j}])
def test_a_target_that_is_no_json_data_is_refused(target: Any) -> None:
    with pytest.raises(ValueError, match=r"^target is no JSON data"):
        Json().canon(target)


def test_a_target_that_breaks_the_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^target breaks the schema: \$\.age: -1 is less than the minimum of 0$"):
        Json(schema=PERSON).canon({"name": "Ann", "age": -1})


def test_a_csv_cell_that_holds_json_text_is_compared_as_json(tmp_path: Path) -> None:
    cells = '"[{""type"": ""city"", ""text"": ""Rome""}]"', "[]", '"{""a"": 1}"', "plain"
    (tmp_path / "rows.csv").write_text("q,y\n" + "".join(f"q{i},{cell}\n" for i, cell in enumerate(cells)))
    loaded = load_task(task(["json"], "{{ answer_text }}", [], data={"test": "rows.csv", "target": "y"}))
    chain = Chain(loaded.task.output)
    targets = [chain.canon(x.target) for x in loaded.test(need_target=True)]
    assert targets == [[{"type": "city", "text": "Rome"}], [], {"a": 1}, "plain"]


# -- chains, behind demonstrations that carry rationales

Row = tuple[str, Any]
"""A rationale and a target."""

ARITHMETIC: Sequence[Row] = [
    ("4 + 8 = 12.", 12),
    ("A third of 2 is left,\nso 2 / 3.", "2/3"),
    ("The answer is not 7, since 7 - 12 = -5.", "-5"),
    ("999 + 1 = 1000.", "$1,000.00"),
]
CHAINS: Mapping[str, tuple[Sequence[Any], str, Sequence[Row]]] = {
    "after": (
        ["after"],
        "{{ rationale }} So the answer is {{ answer_text }}.",
        [("It rains.", "yes"), ("The answer is\nnot clear.", "New York"), ("Well.", 12), ("So.", True)],
    ),
    "after, number": ([{"use": "after"}, "number"], "{{ rationale }} So the answer is {{ answer_text }}.", ARITHMETIC),
    "after the end, number": (
        [{"use": "after", "marker": "####", "until": "end"}, {"use": "number", "take": "first"}],
        "{{ rationale }}\n#### {{ answer_text }}\nThat is 1 of 2.",
        ARITHMETIC,
    ),
    "regex, number": (
        [{"use": "regex", "pattern": r"\\boxed\{(.*?)\}", "take": "last"}, "number"],
        "{{ rationale }} Not $\\boxed{3}$ but $\\boxed{ {{- answer_text -}} }$.",
        ARITHMETIC,
    ),
    "after, choice": (
        [{"use": "after"}, "choice"],
        "{{ rationale }} So the answer is ({{ answer_text }}).",
        [("(A) is in Italy.", "B"), ("B: no. C: no.", "A"), ("I think so.", "c"), ("(A) or (B)?", "I")],
    ),
    "after, choice of texts": (
        [{"use": "after", "marker": "Answer:"}, {"use": "choice", "choices": {"A": "Rome", "B": "New York"}}],
        "{{ rationale }}\nAnswer: {{ answer_text }}.",
        [("Not (A), Rome.", "New York"), ("Not (B).", "rome"), ("(A)?", "B"), ("(B)?", "(A)")],
    ),
    "after, verbalizer": (
        [{"use": "after"}, {"use": "verbalizer", "labels": {"good": ["positive", "fine"], "bad": "negative"}}],
        "{{ rationale }} So the answer is {{ answer_text }}.",
        [("It is not negative.", "good"), ("It could be positive.", "bad")],
    ),
    "after, list": (
        [{"use": "after", "marker": "Sorted:"}, {"use": "list", "separator": " "}],
        "{{ rationale }}\nSorted: {{ answer_text }}",
        [("b, a", ["a", "b"]), ("nothing", []), ("syndrome therefrom", "syndrome therefrom")],
    ),
    "regex, json": (
        [{"use": "regex", "pattern": "(?s)<json>(.*?)</json>", "take": "last"}, "json"],
        "{{ rationale }} <json>{{ answer_text }}</json>",
        [("Not {} or [].", {"a": [1, None]}), ("<json>?", '[{"text": "a } b"}]'), ("So.", "yes"), ("[1]", [])],
    ),
    "after the end, json": (
        [{"use": "after", "marker": "So:", "until": "end"}, {"use": "json", "schema": {"type": ["object", "array"]}}],
        "{{ rationale }} So:\n```json\n{{ answer_text }}\n```",
        [("First {}.", {"a": "b."}), ("Or [0]?", ["so", "```"])],
    ),
}
EVERY_CHAIN = pytest.mark.parametrize(("output", "answer", "rows"), CHAINS.values(), ids=CHAINS.keys())


def task(output: Sequence[Any], answer: str, rows: Sequence[Row], **keys: Any) -> dict[str, Any]:
    """A task that shows solved rows with their rationales; keywords stand in for its sections."""
    shown = [{"q": f"q{i}", "rationale": rationale, "y": target} for i, (rationale, target) in enumerate(rows)]
    return {
        "data": {"target": "y"},
        "input": {
            "template": {"inline": "Q: {{ q }}\nA: {{ answer }}"},
            "answer": answer,
            "demonstrations": {"use": "fixed", "items": shown},
        },
        "model": {"use": "fake"},
        "output": list(output),
        **keys,
    }


def shown_answers(pipeline: Pipeline) -> list[str]:
    """The assistant's turns in a chat prompt."""
    messages = pipeline.check(Example("query", {"q": "query"})).messages
    assert messages is not None
    return [message.text for message in messages if message.role == "assistant"]


def read_through(chain: Chain, text: str) -> Reading:
    """What a whole chain reads in a text."""
    reading, at = chain.advance(Reading(text=text), 0, {}, len(chain.steps))
    assert at == len(chain.steps)
    return reading


@EVERY_CHAIN
def test_a_demonstration_shows_what_can_be_read(output: Sequence[Any], answer: str, rows: Sequence[Row]) -> None:
    spec = task(output, answer, rows)
    pipeline = build(load_task({**spec, "model": {"use": "fake", "api": "chat"}}))
    answers = shown_answers(pipeline)
    assert len(answers) == len(rows)
    for said, (rationale, target) in zip(answers, rows, strict=True):
        assert said.startswith(rationale)
        reading = read_through(pipeline.chain, said)
        assert (reading.status, reading.value) == ("ok", pipeline.chain.canon(target)), said
        assert [line.split(":")[0] for line in reading.trace] == [step.use for step in pipeline.chain.steps]
    prompt = build(load_task(spec)).check(Example("query", {"q": "query"}))
    assert prompt.text == "\n\n".join([*(f"Q: q{i}\nA: {said}" for i, said in enumerate(answers)), "Q: query\nA:"])


@EVERY_CHAIN
def test_an_answer_with_a_rationale_is_read_from_text(output: Sequence[Any], answer: str, rows: Sequence[Row]) -> None:
    chat = build(load_task(task(output, answer, rows, model={"use": "fake", "api": "chat"})))
    for said, (_, target) in zip(shown_answers(chat), rows, strict=True):
        spec = task(output, answer, rows, model={"use": "fake", "answers": [said]}, run={"cache": False})
        with build(load_task(spec)) as pipeline:
            prediction = pipeline.predict({"q": "query"})
            assert (prediction.status, prediction.text) == ("ok", f" {said}")
            assert prediction.value == pipeline.chain.canon(target)
            assert prediction.distribution is None
            assert len(prediction.reading.trace) == len(pipeline.chain.steps)


@EVERY_CHAIN
def test_a_saved_program_keeps_its_readers(
    output: Sequence[Any], answer: str, rows: Sequence[Row], tmp_path: Path
) -> None:
    with build(load_task(task(output, answer, rows))) as pipeline:
        saved = build(load_task(pipeline.save(tmp_path / "readers.icl.json")))
    assert saved.chain == pipeline.chain
    assert saved.check(Example(0, {"q": "query"})) == pipeline.check(Example(0, {"q": "query"}))


@pytest.mark.parametrize(
    ("output", "text", "trace"),
    [
        ([After(), Number()], "4 + 8 = 12", ("after: no 'the answer is', in '4 + 8 = 12'",)),
        (
            [After(), Number()],
            "4 + 8 = 12. So the answer is",
            ("after: nothing follows, in '4 + 8 = 12. So the answer is'",),
        ),
        (
            [After(), Number()],
            "So the answer is nil.",
            ("after: 'nil', of 'So the answer is nil.'", "number: none, in 'nil'"),
        ),
        (
            [After(), Choice()],
            "(B)? The answer is hard to say.",
            ("after: 'hard to say', of '(B)? The answer is hard to say.'", "choice: no option, in 'hard to say'"),
        ),
        (
            [After(until="end"), Json()],
            "[1] The answer is [2, 3",
            ("after: '[2, 3', of '[1] The answer is [2, 3'", "json: no JSON, in '[2, 3'"),
        ),
        ([After(), Items()], "red, green", ("after: no 'the answer is', in 'red, green'",)),
    ],
)
def test_a_chain_stops_at_the_first_step_that_reads_nothing(
    output: Sequence[Aligner], text: str, trace: tuple[str, ...]
) -> None:
    reading = read_through(Chain(tuple(output)), text)
    assert (reading.status, reading.value, reading.trace) == ("unparsed", None, trace)


@pytest.mark.parametrize(
    ("output", "text", "value"),
    [
        ([After(), Number(take="first")], "12? The answer is 3 of 4.", 3),
        ([After(), Number()], "12? The answer is 3.\n\nQ: 5 + 6?\nA: 11", 3),
        ([After(take="first"), Number()], "The answer is 3.\n\nQ: 5 + 6?\nA: The answer is 11.", 3),
        ([After(), Choice()], "(A)? The answer is B.\n\nQ: (C)", "B"),
        ([After(), Choice(choices={"A": "yes", "B": "no"})], "Yes? So the answer is No.", "B"),
        ([After(), Items()], "So, the answer is red, green.", ["red", "green"]),
    ],
)
def test_a_step_reads_what_the_one_before_it_left(output: Sequence[Aligner], text: str, value: Any) -> None:
    assert read_through(Chain(tuple(output)), text).value == value


# -- mistakes

TASK = """\
name: small
data:
  train: train.jsonl
  test: train.jsonl
  target: y
input:
  template: {inline: "Q: {{ q }} A: {{ answer }}"}
  demonstrations: {use: random, k: 1}
model: {use: fake}
output:
  - use: STEP
    KEY: VALUE
metrics: [accuracy]
"""


@pytest.mark.parametrize(
    ("step", "key", "value", "words"),
    [
        ("choice", "choices", "[A]", ("at least 2", "not 1")),
        ("choice", "choices", "{A: Rome}", ("at least 2", "not 1")),
        ("choice", "choices", "[]", ("at least 2", "not 0")),
        ("choice", "choices", "[A, a]", ("two choices", "same letter")),
        ("choice", "choices", "{A: Rome, a: Paris}", ("two choices", "same letter")),
        ("choice", "choices", "{1: Rome, '1': Paris}", ("two choices", "same letter")),
        ("choice", "choices", "[yes, no, maybe]", ("letter", "'YES'")),
        ("choice", "choices", "['(A)', '(B)']", ("letter", "'(A)'")),
        ("choice", "choices", "{'': Rome, B: Paris}", ("letter", "''")),
        ("choice", "choices", "ABCD", ("takes a mapping",)),
        ("choice", "choice", "[A, B]", ("unknown key", "did you mean 'choices'")),
        ("after", "marker", "''", ("at least 1 character",)),
        ("after", "marker", "[a, '']", ("at least 1 character",)),
        ("after", "marker", "{a: b}", ("takes text",)),
        ("after", "take", "all", ("'all'", "valid: first, last")),
        ("after", "until", "lines", ("'lines'", "did you mean 'line'")),
        ("after", "markr", "x", ("unknown key", "did you mean 'marker'")),
        ("json", "schema", "{type: text}", ("not a JSON Schema", "'text'")),
        ("json", "schema", "{required: name}", ("not a JSON Schema", "'name'")),
        ("json", "schema", "{pattern: '('}", ("not a JSON Schema", "'('")),
        ("json", "schema", "{$ref: 1}", ("not a JSON Schema", "1")),
        ("json", "schema", "[name]", ("takes a mapping",)),
        ("json", "schema", "person.json", ("takes a mapping",)),
        ("json", "shape", "{type: object}", ("unknown key", "schema")),
        ("list", "separator", "''", ("at least 1 character",)),
        ("list", "empty", "''", ("at least 1 character",)),
        ("list", "seperator", "','", ("unknown key", "did you mean 'separator'")),
        ("number", "take", "lst", ("'lst'", "did you mean 'last'")),
        ("number", "take", "all", ("'all'", "valid: first, last")),
    ],
)
def test_a_mistake_in_a_reader_is_told_in_one_line(
    step: str, key: str, value: str, words: Sequence[str], icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace("STEP", step).replace("KEY", key).replace("VALUE", value), encoding="utf-8")
    (tmp_path / "train.jsonl").write_text('{"q": "a", "y": "A"}\n{"q": "b", "y": "B"}\n')
    status, out, err = icl("run", path, "--out", "out")
    assert status == 2, out + err
    assert err.startswith(f"error: {path}:12: output[0].{key}: "), err
    assert err.count("\n") == 1, err
    assert [word for word in words if word not in err] == [], err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("step", "key", "value", "target", "words"),
    [
        ("choice", "choices", "[A, B]", "C", ("'C' is not a choice", "valid: A, B")),
        ("choice", "choices", "{A: Rome, B: Paris}", "Pariss", ("'Pariss' is not a choice",)),
        ("number", "take", "last", "a dozen", ("'a dozen'", "no numbers")),
        ("number", "take", "first", "5-3", ("'5-3'", "2 numbers")),
        ("json", "schema", "{type: object}", [1], ("breaks the schema", "[1] is not of type 'object'")),
        ("list", "separator", "','", ["a", "b, c"], ("'b, c'", "separator ','")),
    ],
)
def test_a_target_that_a_reader_cannot_express_is_told_in_one_line(
    step: str,
    key: str,
    value: str,
    target: Any,
    words: Sequence[str],
    icl: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    good: Mapping[str, Any] = {"choice": "A", "number": 12, "json": {}, "list": []}
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace("STEP", step).replace("KEY", key).replace("VALUE", value), encoding="utf-8")
    rows = [{"q": "a", "y": good[step]}, {"q": "b", "y": target}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = icl("run", path, "--out", "out")
    assert status == 2, out + err
    assert err.startswith(f"error: {tmp_path / 'train.jsonl'}:2: "), err
    assert err.count("\n") == 1, err
    assert [word for word in words if word not in err] == [], err
    assert not (tmp_path / "out").exists()
