"""`date`: forms, orders, and what is no date."""

from __future__ import annotations

import datetime
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.alignment.structural.date import Date
from icl_engine.types import Reading

UNHURRIED = settings(deadline=None, max_examples=60)


def read(text: str, **keys: Any) -> Any:
    reading = Date.model_validate(keys).apply(Reading(text=text))
    assert (reading.value is None) == (reading.status == "unparsed")
    return reading.value


FORMS = ["%Y-%m-%d", "%Y/%m/%d", "%B %d, %Y", "%d %B %Y", "%b. %d, %Y", "%d-%b-%Y", "%d.%m.%Y", "%Y-%m-%dT10:30:00Z"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", ["{}", "It was on {}.", "**{}**", "({})", "Answer: {}\n\nQ: When?\nA: 1999-01-01"])
@given(day=st.dates(datetime.date(1000, 1, 1)))
@UNHURRIED
def test_every_day_is_read_in_every_form(form: str, said: str, day: datetime.date) -> None:
    assert read(said.format(day.strftime(form))) == day.isoformat()


@given(day=st.dates(datetime.date(1000, 1, 1)))
@UNHURRIED
def test_figures_are_read_by_their_order_or_not_at_all(day: datetime.date) -> None:
    american, european = day.strftime("%m/%d/%Y"), day.strftime("%d/%m/%Y")
    assert read(american, order="month_first") == read(european, order="day_first") == day.isoformat()
    clear = day.day > 12 or day.day == day.month
    assert read(american) == read(european) == (day.isoformat() if clear else None)


@given(target=st.dates(datetime.date(1000, 1, 1)) | st.text("0123456789-/. ", max_size=10))
@UNHURRIED
def test_any_target_it_accepts_reads_back(target: Any) -> None:
    step = Date(order="day_first")
    try:
        canonical = step.canon(target)
    except ValueError:
        return
    assert step.canon(canonical) == canonical
    assert step.apply(Reading(text=step.write(target))).value == canonical


def test_an_ambiguous_date_says_what_to_do() -> None:
    assert "set order" in Date().apply(Reading(text="03/04/2021")).trace[-1]
    with pytest.raises(ValueError, match="set order"):
        Date().canon("03/04/2021")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no idea",
        "March 2021",
        "March 5",
        "2021",
        "2021-02-30",
        "13/13/2021",
        "0000-01-01",
        "1.2.3.2021",
        "12345678",
        "2021-03-05 or 2021-03-06",
        "2021-03-05 to 2021-03-06",
        "not 2021-03-05",
        "v2021-03-05",
        "2021-03-05-7",
    ],
)
def test_what_is_no_single_date_is_unparsed(text: str) -> None:
    assert read(text) is None
    with pytest.raises(ValueError, match=r"^target"):
        Date().canon(text)


def test_two_digits_of_a_year_are_read_as_posix_does() -> None:
    assert [read(f"12/31/{y}") for y in ("00", "68", "69", "99")] == [f"{y}-12-31" for y in (2000, 2068, 1969, 1999)]


def test_first_and_last() -> None:
    said = "2021-03-05, and then on 2021-04-01"
    assert (read(said), read(said, take="first")) == ("2021-04-01", "2021-03-05")


def test_dates_in_boxes_and_behind_thoughts() -> None:
    assert read("\\boxed{\\text{March 5, 2021}} not 2020-01-01") == "2021-03-05"
    assert read("<think>2020-01-01</think> 2021-03-05") == "2021-03-05"


@pytest.mark.parametrize("text", ["1" * 50_000, "1/" * 25_000, "5 may " * 8000, "1.1.20 " * 7000, "2021-" * 10_000])
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    start = process_time()
    read(text)
    assert process_time() - start < 0.5
