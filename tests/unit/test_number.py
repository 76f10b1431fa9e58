"""`number`, `boxed` and what reads numbers beneath them: spellings, what is no answer, hostile text."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.alignment.structural.boxed import Boxed
from icl_engine.alignment.structural.forms.latex import ascii_digits, boxes, plain
from icl_engine.alignment.structural.forms.number_words import in_words
from icl_engine.alignment.structural.number import Number
from icl_engine.types import Reading

UNHURRIED = settings(deadline=None, max_examples=60)


def read(text: str, **keys: Any) -> Any:
    reading = Number.model_validate(keys).apply(Reading(text=text))
    assert (reading.value is None) == (reading.status == "unparsed")
    return reading.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17 × 23 = 391", 391),
        ("3.2 x 10^5", 320000),
        ("5x10^3", 5000),
        ("1.5×10^-3", 0.0015),
        ("6.02·10²³", 6.02e23),
        ("10^-3", 0.001),
        ("2**10", 1024),
        ("2^{10}", 1024),
        ("-2\\frac{1}{2}", -2.5),
        ("\\frac13", 1 / 3),
        ("⅓", 1 / 3),
        ("10 1/2", 10.5),
        ("two and a half", None),
        ("2 and a half", 2.5),
        ("5 thousand", 5000),
        ("$5 million", 5_000_000),
        ("2.5k", 2500),
        ("-5°C", -5),
        ("a 12-inch pizza", 12),
        ('{"answer": 42}', 42),
        ("12 000", 12000),
        ("1\u00a0234\u00a0567", 1234567),
        ("50¢", 50),
        ("答案是12。", 12),
    ],
)
def test_a_number_is_read_however_it_is_spelt(text: str, value: float | None) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "3-4 days",
        "10%-20%",
        "$10-$15",
        "10–15",
        "2 – 3 hours",
        "3 to 4",
        "12 or 13",
        "5 ± 1",
        "5 + 7",
        "10 - 3",
        "3 x 4",
        "2x",
        "2π",
        "2\\pi",
        "√3",
        "\\sqrt{3}",
        "2^n",
        "e^5",
        "1/2/3",
        "3:4",
        "3,14",
        "12 345",
        "1.234.567",
        "300K",
        "2021-03-05",
        "03/05/2021",
        "5.3.2021",
        "March 5, 2021",
        "5 March",
        "12:30",
        "v1.2.3",
        "1.2.3",
        "0x1F",
        "GPT-4",
        "+49 30 123 4567",
        "(555) 123-4567",
        "f(3)",
        "x_1",
        "x^2",
        "日期是2021年3月5日",
        "not 12",
        "5 feet 10 inches",
    ],
)
def test_what_is_no_single_number_is_unparsed(text: str) -> None:
    assert read(text) is None
    with pytest.raises(ValueError, match=r"^target"):
        Number().canon(text)


@pytest.mark.parametrize(
    "other", ["on 2021-03-05", "at 12:30", "in version 1.2.3", "(see 12/25/2020)", "to GPT-4", "not 13", "x_1", "m^2"]
)
def test_what_is_no_number_is_passed_over(other: str) -> None:
    assert read(f"There are 12 {other}.") == 12


def test_the_digits_of_every_script_are_read() -> None:
    assert [read(spelt) for spelt in ("１２．５", "١٢٫٥", "१२.५", "๑๒.๕")] == [12.5] * 4
    assert ascii_digits("Ⅻ ² ①") == "Ⅻ ² ①"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 24. There are 3 boxes with 8 each.", 24),
        ("**Answer:** 24 of 30", 24),
        ("#### 24\n(3 boxes of 8)", 24),
        ("Is the answer 5? The answer: $\\frac{3}{4}$ of 8", 0.75),
        ("The answer is about $24.50, not 12.", 24.5),
        ("The answer is 3 * 8 = 24", 24),
        ("The answer is 3 boxes + 4 = 7", 7),
        ("The answer is that 3 of 8 is 24", 24),
        ("The answer is not 24 but 12.", 12),
        ("The answer is 3-4", None),
    ],
)
def test_what_is_said_to_be_the_answer_comes_before_the_last_number(text: str, value: float | None) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("text", "value"), [("minus 7", -7), ("negative 0.5", -0.5), ("10 minus 7", None)])
def test_a_sign_in_words(text: str, value: float | None) -> None:
    assert read(text) == value


# -- boxes


@pytest.mark.parametrize(
    ("inside", "value"),
    [
        ("12", 12),
        ("x = -12", -12),
        ("\\$1{,}250", 1250),
        ("12 \\text{ cm}^2", 12),
        ("\\text{12 apples}", 12),
        ("50\\%", 50),
        ("\\approx 3.14", 3.14),
        ("3 \\times 10^{4}", 30000),
        ("\\dfrac{3}{4}", 0.75),
        ("3, 5", None),
        ("a = 5, b = 6", None),
        ("12\\text{ or }13", None),
        ("5x + 3", None),
        ("2\\sqrt{3}", None),
        ("x > 5", None),
        ("5!", None),
        ("B", None),
        ("", None),
        ("1 " * 5000, None),
    ],
)
def test_a_box_wins_and_holds_one_number(inside: str, value: float | None) -> None:
    assert read(f"\\boxed{{7}}? No, 8. $\\boxed{{{inside}}}$ since 9 > 3.") == value


def test_a_box_that_is_never_closed_is_none() -> None:
    assert boxes("\\boxed{1 \\boxed{2} \\fbox{\\{}") == []
    assert read("\\boxed{12") == 12
    assert boxes("\\fbox{a{b}\\}} \\boxed {c}") == ["a{b}\\}", "c"]


def test_the_boxed_step_takes_expressions() -> None:
    said = "\\boxed{1}. Hmm: \\[\\boxed{\\frac{\\sqrt{3}}{2}}\\]"
    assert Boxed().apply(Reading(text=said)).value == "\\frac{\\sqrt{3}}{2}"
    assert Boxed(take="first").apply(Reading(text=said)).text == "1"
    assert [Boxed().apply(Reading(text=t)).status for t in ("12", "\\boxed{}", "\\boxed{ }")] == ["unparsed"] * 3
    with pytest.raises(ValueError, match="braces"):
        Boxed().canon("}{")


@given(target=st.text())
@UNHURRIED
def test_a_boxed_target_reads_back_or_is_refused(target: str) -> None:
    try:
        canonical = Boxed().canon(target)
    except ValueError:
        return
    assert Boxed().canon(canonical) == canonical
    assert Boxed().apply(Reading(text=f"So {Boxed().write(target)}.")).value == canonical


# -- lists, labels, takes


def test_the_numbers_of_a_list_and_labels_are_not_answers() -> None:
    assert read("1. 12\n2. 15", take="first") == 12
    assert read("1. Add them up.\n2. The sum is 15.\n3. Done") == 15
    assert read("1. yes\n2. no") is None
    assert read("12. That is the answer.", take="first") == 12
    assert read("1. Paris") == 1
    assert read("### Step 2: we have\n**Step 3:** stop") is None
    assert read("the error is in step 5") == 5


def test_the_answer_stands_before_the_next_question_and_behind_the_thoughts() -> None:
    assert read(" 12\n\nQ: And 3 + 4?\nA: 7") == 12
    assert read("<think>13 or 14?</think>12") == 12


def test_of_a_long_answer_the_ends_are_looked_at() -> None:
    assert read("12 apples" + " and so on" * 3000) == 12
    assert read("and so on " * 3000 + "12", take="first") == 12


# -- keys


def test_a_decimal_comma() -> None:
    assert [read(t, decimal=",") for t in ("3,14", "1.234.567,5", "1.234", "3.14")] == [3.14, 1234567.5, 1234, None]
    assert Number(decimal=",").write(0.5) == "0,5"


def test_percent_as_a_fraction() -> None:
    assert [read(t, percent="fraction") for t in ("50%", "12.5 percent", "50", "29%")] == [0.5, 0.125, 50, 0.29]
    assert [read(t) for t in ("50%", "12.5 percent")] == [50, 12.5]


@pytest.mark.parametrize("keys", [{}, {"take": "first"}, {"decimal": ","}, {"percent": "fraction"}])
@given(
    target=st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("0123456789.,/-+%$e ^", max_size=8)
)
@UNHURRIED
def test_any_target_it_accepts_reads_back(keys: dict[str, Any], target: Any) -> None:
    step = Number.model_validate(keys)
    try:
        canonical = step.canon(target)
    except ValueError:
        return
    assert repr(step.canon(canonical)) == repr(canonical)
    assert repr(step.apply(Reading(text=step.write(target))).value) == repr(canonical)


@pytest.mark.parametrize("target", [float("nan"), float("inf"), 10**400, 10**5000], ids=["nan", "inf", "400", "5000"])
def test_a_target_beyond_floating_point_is_refused(target: Any) -> None:
    with pytest.raises(ValueError, match="not finite, or larger"):
        Number().canon(target)


# -- words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zero", 0),
        ("Nineteen", 19),
        ("**ninety-nine** bottles", 99),
        ("The answer is: forty-two.", 42),
        ("three hundred and five thousand and six", 305006),
        ("two million", 2_000_000),
        ("one", 1),
        ("one thing", None),
        ("no one", None),
        ("two or three", None),
        ("ten twenty", None),
        ("twenty eleven", None),
        ("hundred", None),
        ("and", None),
        ("five and", None),
        ("third", None),
        ("two words too many", None),
        ("", None),
    ],
)
def test_a_short_answer_in_words(text: str, value: int | None) -> None:
    assert in_words(text) == value


def test_words_count_only_where_there_are_no_digits() -> None:
    assert read("twelve") == 12
    assert read("twelve (12.5)") == 12.5
    assert Number().canon("twelve") == 12


# -- hostile text

HOSTILE = {
    "boxes": "\\boxed{" * 7000,
    "roots": "\\sqrt{" * 8000,
    "fractions": "\\frac{1}{" * 5000,
    "texts": "\\text{" * 8000,
    "ones": "1 " * 25_000,
    "terms": "1+" * 25_000,
    "ors": "1 or " * 10_000,
    "nots": "not 1 " * 8000,
    "halves": "½" * 50_000,
    "powers": "2^" * 25_000,
    "labels": "Step 1. " * 6000,
    "list": "1. x\n" * 8000,
    "months": "May 5 " * 8000,
    "capitals": "A" * 50_000,
    "money": "$" * 50_000,
    "arabic": "\u0661 " * 25_000,
    "huge": "1e999 " * 8000,
    "a full box": "\\boxed{" + "1 " * 24_000 + "}",
    "digits": "7" * 50_000,
    "lines": ("\n" + " " * 7) * 6000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("take", ["first", "last"])
def test_hostile_text_is_read_in_linear_time(text: str, take: str) -> None:
    start = process_time()
    read(text, take=take)
    plain(text)
    assert process_time() - start < 0.5
