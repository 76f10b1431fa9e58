"""`json` on what is nearly JSON: what is repaired, and what is not, since it would be guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import process_time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.alignment.structural.json_value import Json
from icl_engine.types import Reading

UNHURRIED = settings(deadline=None, max_examples=60)
OBJECT: Mapping[str, Any] = {"type": "object", "required": ["a"]}


def read(text: str, **keys: Any) -> Any:
    result = Json.model_validate(keys).apply(Reading(text=text))
    return result.value if result.status == "ok" else "UNPARSED"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # quotes
        ("{'a': 1}", {"a": 1}),
        ("{'a': 'it's fine'}", {"a": "it's fine"}),
        ("{'a': \"it's\", 'b': 'O\\'Brien'}", {"a": "it's", "b": "O'Brien"}),
        ("{“a”: “b”, “c”: “say ‘so’”}", {"a": "b", "c": "say ‘so’"}),
        ("{‘a’: ‘it’s’}", {"a": "it’s"}),
        ("{„a“: „b“}", {"a": "b"}),
        ('{"a": "say "so" now"}', {"a": 'say "so" now'}),
        ("{`a`: `b`}", {"a": "b"}),
        # keys and words
        ("{a: 1, b_c: [2], $d: null}", {"a": 1, "b_c": [2], "$d": None}),
        ('{"a": True, "b": False, "c": None}', {"a": True, "b": False, "c": None}),
        ('{"a": TRUE, "b": NaN, "c": undefined}', {"a": True, "b": None, "c": None}),
        ('{"a": positive, "b": very good}', {"a": "positive", "b": "very good"}),
        ('{"a": [Ann, Bo]}', {"a": ["Ann", "Bo"]}),
        ('{"a": 2021-03-05, "b": 5km, "c": $5.00}', {"a": "2021-03-05", "b": "5km", "c": "$5.00"}),
        # numbers
        ('{"a": +5, "b": .5, "c": 5., "d": 007}', {"a": 5, "b": 0.5, "c": 5.0, "d": 7}),
        # commas
        ("[1, 2,]", [1, 2]),
        ('{"a": 1,}', {"a": 1}),
        ('{"a": 1,, "b": 2}', {"a": 1, "b": 2}),
        ('{"a": "x"\n "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('["a" "b"]', ["a", "b"]),
        # brackets
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('{"a": {"b": [1, {"c": 2}}', "UNPARSED"),
        ('{"a": 1]}', {"a": 1}),
        # comments, line breaks
        ('{"a": 1, // one\n "b": 2 /* two */, # three\n "c": 3}', {"a": 1, "b": 2, "c": 3}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ('{"a": "C:\\path", }', {"a": "C:\\path"}),
        ('{"a": "http://x.y/#z",}', {"a": "http://x.y/#z"}),
        # where it stands
        ("Sure! Here it is:\n```python\n{'a': [1, 2,],}\n```\nAsk (me) for {more}.", {"a": [1, 2]}),
        ("The answer is {'a': 1}, since {'b': 2} is not.", {"a": 1}),
        ("<think>{'a': 1}?</think>{'a': 2,}", {"a": 2}),
        # what is JSON as it stands comes first
        ("{'a': 1} or {\"a\": 2}", {"a": 2}),
    ],
)
def test_what_is_nearly_json_is_repaired(text: str, value: Any) -> None:
    assert read(text) == value
    if value != "UNPARSED":
        assert repr(read(text)) == repr(value)
        assert read(text, repair=False) in ("UNPARSED", {"a": 2})


@pytest.mark.parametrize(
    "text",
    [
        # prose
        *("[sic]", "[see page 3]", "{it}", "{note}", "[1, see p. 3]", "{a; b}", "f{x: y}", "[12:30]", "(1, 2,)"),
        *("I mean {this: that}.", "{Note: I am not sure}", "[Ann, Bo]", "[...]", "{...}", "df['a'], df['b']"),
        *("\\frac{1}{2}", "\\boxed{5}", "{1, 2, 3}", "{ x : x > 0 }", "[[link]]", "[Ann](http://x.y)", "x[1:2]"),
        # what a repair would have to invent, or leave out
        *('{"a": , "b": 1}', '{"a": "x", "b": }', '{"a": ...}', '["a", "b", ...]', '{"a": "b" + "c"}', '{"a", "b"}'),
        *('{"a": 1,000}', '{"a": 1, "a": 2,}', '{"a": Infinity,}', '{"a": 1e999,}', '{"a": "\\ud800",}', '{"a"=1}'),
        *('{"a": ("x", "y")}', '{"a": 1;\n"b": 2}', '{"a": [1 2]}', '{"url": http://x.y/z}'),
        '{"a": "He said, "yes", and left",}',
        # what stands inside a broken value is not the answer
        *('{"a": , "b": {"c": 1}}', "{'a': {\"b\": 1}, 'c': ", '[{"a": 1}, {"b": ]', '{"a": {"b": [1]}, c: d: 1}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("schema", [None, {"type": ["object", "array"]}])
def test_what_would_be_guessed_is_not_repaired(text: str, schema: Mapping[str, Any] | None) -> None:
    doubtful = {"I mean {this: that}.", "f{x: y}"}  # with a schema, that is to judge
    if schema is None or text not in doubtful:
        assert read(text, schema=schema) == "UNPARSED"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "b"', {"a": "b"}),
        ('{"a": ["b", "c"', {"a": ["b", "c"]}),
        ('{"a": {"b": [true]}', {"a": {"b": [True]}}),
        ('```json\n{"a": 12\n```\nThat is all.', {"a": 12}),
        ("{'a': 'b'", {"a": "b"}),
        ('{"a": 1\n', {"a": 1}),
        # a number, a word or a text may go on; a comma, a colon and a key say that something follows
        *((text, "UNPARSED") for text in ('{"a": 1', '{"a": tru', '{"a": "b', '{"a": "b",', '{"a": "b", "c"')),
        *((text, "UNPARSED") for text in ('{"a": "b", "c":', '{"a": [', "{", '{"a": "b" and so on', '{"c": "b"')),
    ],
)  # fmt: skip
def test_an_answer_that_was_cut_off_needs_a_schema_and_lacks_only_brackets(text: str, value: Any) -> None:
    assert read(text, schema=OBJECT) == value
    assert read(text) == "UNPARSED"
    assert read(text, schema=OBJECT, repair=False) == "UNPARSED"


def test_a_value_that_breaks_the_schema_gives_way_to_a_repaired_one_that_keeps_it() -> None:
    assert read("{\"b\": 1} {'a': 2}", schema=OBJECT) == {"a": 2}
    assert read("{'b': 1}", schema=OBJECT) == "UNPARSED"


def test_the_trace_says_that_it_was_repaired() -> None:
    result = Json().apply(Reading(text="So: {'a': 1}"))
    assert result.trace == ('json (repaired): {"a": 1}, of "So: {\'a\': 1}"',)


# -- laws

NAMES = st.from_regex(r"[a-f_][A-Za-z0-9_]{0,6}", fullmatch=True)  # "Q:" on a line would be the next question
TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs"), exclude_characters="\"'`\\“”„‘’"), max_size=8)
PLAIN = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN | TEXTS, lambda v: st.lists(v, max_size=4) | st.dictionaries(NAMES, v, max_size=4), max_leaves=10
)
HOLDERS = st.lists(VALUES, min_size=1, max_size=4) | st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)


def spelt(value: Any, *, names: str = '"{}"', texts: str = '"{}"', last: str = "", gap: str = " ") -> str:
    """A value as JSON, but with other quotes, and with something before its closing brackets."""
    inner = {"names": names, "texts": texts, "last": last, "gap": gap}
    if isinstance(value, dict):
        members = [f"{names.format(key)}:{gap}{spelt(item, **inner)}" for key, item in value.items()]
        return "{" + f",{gap}".join(members) + (last if members else "") + "}"
    if isinstance(value, list):
        return "[" + f",{gap}".join(spelt(item, **inner) for item in value) + (last if value else "") + "]"
    return texts.format(value) if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(
    "ways",
    [
        {"names": "'{}'", "texts": "'{}'"},
        {"names": "“{}”", "texts": "“{}”"},
        {"names": "{}"},
        {"last": ","},
        {"gap": "/* so */ "},
        {"gap": "\n  // so\n  ", "last": ",", "names": "{}", "texts": "'{}'"},
    ],
    ids=str,
)
@given(value=HOLDERS)
@UNHURRIED
def test_a_value_that_is_misspelt_reads_as_itself(ways: Mapping[str, str], value: Any) -> None:
    assert read("It is\n" + spelt(value, **ways) + "\nor so.") == value


@given(value=HOLDERS)
@UNHURRIED
def test_what_python_prints_reads_as_itself(value: Any) -> None:
    assert read(str(value)) == value


@given(value=HOLDERS, data=st.data())
@UNHURRIED
def test_a_part_of_an_answer_is_not_read_as_a_whole(value: Any, data: st.DataObject) -> None:
    whole = json.dumps(value, ensure_ascii=False)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert read(part) == "UNPARSED"
    with_schema = read(part, schema={"type": ["object", "array"]})
    if with_schema != "UNPARSED":
        assert set(whole[len(part) :]) <= set("]} ,") or len(json.dumps(with_schema)) <= len(whole)
        assert json.dumps(with_schema, ensure_ascii=False).rstrip("]}") == part.rstrip().rstrip("]}")


PIECES = ("{", "}", "[", "]", '"', "'", ",", ":", '"a"', "'b'", "c", "12", "-", "null", "None", "//", "/*", "*/", "#")
MORE = ("\n", " ", "\\", "“", "”", "```", "{'a': 1}", '{"b": [', "\\u00e9", "\ud800", "...", "NaN", "say so", "é")


@given(text=st.lists(st.sampled_from(PIECES + MORE), max_size=25).map("".join))
@settings(deadline=None, max_examples=300)
def test_nothing_is_read_that_was_not_said(text: str) -> None:
    schemas: tuple[Any, ...] = (None, {})
    for schema in schemas:
        result = Json(schema=schema).apply(Reading(text=text))
        orjson.dumps([result.value, result.trace])
        if result.status == "ok":
            assert all(atom in text.replace("\\u00e9", "é") for atom in words(result.value))


def words(value: Any) -> list[str]:
    """The letters and digits in the texts and keys of a value."""
    if isinstance(value, dict):
        return [word for pair in value.items() for part in pair for word in words(part)]
    if isinstance(value, list):
        return [word for item in value for word in words(item)]
    return "".join(c if c.isalnum() else " " for c in value).split() if isinstance(value, str) else []


# -- bounds


@pytest.mark.parametrize(
    "text",
    [
        *("{" * 50_000 + "x]", "{'" * 20_000, '{"a":' * 10_000, "[(" * 20_000, "[1," * 15_000, "{a:" * 15_000),
        *('{"a": "' * 5_000, "{'a': 'it's " * 4_000, '["' + '\\"' * 20_000, "[" + "1," * 25_000 + "x", "{/*" * 15_000),
        *("{'a': 1} " * 5_000, "{'a' 1} " * 5_000, "[{'a': " * 5_000, '{"a": [' + "'b', " * 9_000),
        *("{'a': '" + "b\n" * 20_000, '{"a": 1e' + "9" * 10_000, "[" * 49_990 + "]" * 10),
        *("```json\n{" * 5_000, "{“" * 20_000, '{"a": "' + 'x" ' * 15_000),
        *('{"a": ' + "9" * 10_000 + ",}", '{"' + "a" * 49_000 + '": 1,}', "[" + "'a'" * 15_000 + "]"),
    ],
    ids=lambda text: repr(text)[:20],
)  # fmt: skip
@pytest.mark.parametrize("schema", [None, {"type": ["object", "array"]}])
def test_hostile_text_is_bounded(text: str, schema: Mapping[str, Any] | None) -> None:
    step = Json(schema=schema)
    start = process_time()
    result = step.apply(Reading(text=text))
    assert process_time() - start < 1
    orjson.dumps([result.value, result.trace])


def test_a_text_that_was_capped_is_not_repaired() -> None:
    items = ", ".join(f"'{i}'" for i in range(20_000))
    assert read(f"[{items}]") == "UNPARSED"


def test_a_long_list_is_repaired_up_to_a_bound() -> None:
    assert read(str([{"a": str(i)} for i in range(400)])) == [{"a": str(i)} for i in range(400)]
    assert read(str([{"a": str(i)} for i in range(4_000)])) == "UNPARSED"
