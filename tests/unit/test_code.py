"""`code`, and the named groups of `regex`: parts of a text that later steps read."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.code import Code
from icl_engine.alignment.structural.json_value import Json
from icl_engine.alignment.structural.regex import Regex
from icl_engine.errors import TaskError
from icl_engine.types import Reading

UNHURRIED = settings(deadline=None, max_examples=80)


def read(text: str, **keys: Any) -> Any:
    return Code.model_validate(keys).apply(Reading(text=text)).value


@pytest.mark.parametrize(
    ("keys", "text", "value"),
    [
        ({}, "Here:\n```python\nif x:\n    y()\n```\nDone.", "if x:\n    y()"),
        ({}, "Sure! ```python\nx\n```", "x"),
        ({}, "~~~\nx\n```\n~~~", "x\n```"),
        ({}, "````md\n```py\nx\n```\n````", "```py\nx\n```"),
        ({}, "```py\nx = 1", "x = 1"),
        ({}, "  ```py\n    a\n  b\n  ```", "  a\nb"),
        ({}, "> ```\n> a\n> ```", "a"),
        ({}, "```a``` is code", "a"),
        ({}, " `x = 1`\n", "x = 1"),
        ({}, "Use `x` here.", None),
        ({}, "```\n\n```", None),
        ({}, "x = 1", None),
        ({}, "```\r\na\r\nb\r\n```", "a\nb"),
        ({"bare": True}, "x = 1\n", "x = 1"),
        ({"bare": True}, "Here: ```\ny\n```", "y"),
        ({"take": "first"}, "```\na\n```\n```\nb\n```", "a"),
        ({}, "```\na\n```\n```\nb\n```", "b"),
        ({"language": "SQL"}, "```py\na\n```\n```sql\nb\n```\n```\nc\n```", "b"),
        ({"language": "sql"}, "```\nc\n```", "c"),
        ({"language": "sql"}, "```py\na\n```", None),
    ],
)
def test_the_content_of_a_fence_is_taken(keys: dict[str, Any], text: str, value: str | None) -> None:
    assert read(text, **keys) == value


def test_the_trace_tells_which_languages_there_were() -> None:
    assert "only py, no language" not in Code(language="sql").apply(Reading(text="```py\na\n```")).trace[-1]
    assert "no sql block, only py" in Code(language="sql").apply(Reading(text="```py\na\n```")).trace[-1]


@given(target=st.text("a `~\n\t>#", max_size=20) | st.text())
@UNHURRIED
def test_any_code_reads_back_from_its_fence(target: str) -> None:
    try:
        canonical = Code().canon(target)
    except ValueError:
        assert not target.strip()
        return
    assert Code().canon(canonical) == canonical
    assert read(f"Here you are:\n{Code().write(target)}\nThat is all.") == canonical


def test_later_steps_read_the_code() -> None:
    chain = Chain((Code(language="json"), Json()))
    reading, _ = chain.advance(Reading(text='[1]?\n```json\n{"a": 2}\n```\n[3]'), 0, {}, 2)
    assert reading.value == {"a": 2}


@pytest.mark.parametrize("text", ["`", "~~~ a ", "```json\n", "``` a ", "```a```b", "\n", " ", "```\n~~~\n"])
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    start = process_time()
    read(text * (50_000 // len(text)))
    assert process_time() - start < 0.5


# -- regex

NAMED = Regex(pattern=r"(?P<city>[A-Z]\w+), (?P<year>\d{4})?", group=("year", "city"))


def test_named_groups_give_a_mapping() -> None:
    assert NAMED.apply(Reading(text="In Rome, 2020.")).value == {"year": "2020", "city": "Rome"}
    assert NAMED.apply(Reading(text="In Rome, Italy")).value == {"year": None, "city": "Rome"}
    assert NAMED.apply(Reading(text="rome")).status == "unparsed"
    several = NAMED.model_copy(update={"take": "all"})
    assert [v["city"] for v in several.apply(Reading(text="Rome, 2020 and Oslo, 2021")).value] == ["Rome", "Oslo"]


@pytest.mark.parametrize("target", [{"city": "Rome", "year": "2020"}, "Rome, 2020", {"city": "Rome", "year": 2020}])
def test_named_targets_read_back(target: Any) -> None:
    assert NAMED.canon(target) == NAMED.canon(NAMED.canon(target)) == {"year": "2020", "city": "Rome"}
    assert NAMED.apply(Reading(text=NAMED.write(target))).value == NAMED.canon(target)


def test_named_targets_that_cannot_be_written_are_told() -> None:
    step = Regex(pattern=r"from (?P<a>\w+) to (?P<b>\w+)", group=("a", "b"))
    with pytest.raises(TaskError, match="give the target as text"):
        step.write({"a": "x", "b": "y"})
    assert step.canon("from x to y") == {"a": "x", "b": "y"}
    for target in ("x to y", {"a": "x"}, [1], 12):
        with pytest.raises(ValueError, match=r"^target"):
            step.canon(target)


@pytest.mark.parametrize("group", [["c"], [], ["a", "c"]])
def test_a_group_that_is_not_there_is_refused(group: list[str]) -> None:
    with pytest.raises(ValueError, match="group"):
        Regex.model_validate({"pattern": "(?P<a>x)", "group": group})


# -- after


@pytest.mark.parametrize(
    ("keys", "text", "value"),
    [
        ({"marker": "Answer:"}, "**Answer:** 12", "12"),
        ({"marker": "Answer:"}, "**Answer**: 12", "12"),
        ({"marker": "Answer:"}, "**Answer: 12**", "12"),
        ({"marker": "Answer:"}, "### Answer:\n\n12", "12"),
        ({}, "**So the answer is 12.**", "12"),
        ({}, "The **answer** is 5", "5"),
        ({}, "The answer is: **Paris**.", "**Paris**"),
        ({"marker": ["Final answer:", "Answer:"]}, "Answer: 3\nFinal Answer: 4", "4"),
        ({"marker": ["Final answer:", "answer:"], "take": "first"}, "Answer: 3\nFinal Answer: 4", "3"),
        ({}, "the answer isn't 12", None),
        ({}, "the answer island 12", None),
    ],
)
def test_a_marker_in_bold_or_one_of_several(keys: dict[str, Any], text: str, value: str | None) -> None:
    assert After.model_validate(keys).apply(Reading(text=text)).value == value


@given(target=st.text("a*_.: \n", max_size=8))
@UNHURRIED
def test_a_target_behind_a_marker_reads_back_or_is_refused(target: str) -> None:
    step = After(until="end")
    try:
        canonical = step.canon(target)
    except ValueError:
        return
    assert step.canon(canonical) == canonical
    assert step.apply(Reading(text=f"So the answer is {step.write(target)}")).value == canonical
