"""Rows of files and lists become examples; what does not fit is named by its line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icl_engine.data.formats import rows
from icl_engine.data.source import Schema, Source, examples, fingerprint
from icl_engine.errors import DataError
from icl_engine.types import Example

ROWS = [{"text": "fine, “really”", "label": "a"}, {"text": "poor", "label": "b"}]


def stored(tmp_path: Path, name: str, raw: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(raw)
    return path


def found(source: Source, schema: Schema | None = None, *, need_target: bool = False) -> list[Example]:
    return list(examples(source, schema or Schema(), need_target=need_target, key="data.test"))


def encoded(name: str) -> bytes:
    if name.endswith((".jsonl", ".ndjson")):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    if name.endswith(".json"):
        return json.dumps(ROWS, ensure_ascii=False, indent=2).encode()
    if name.endswith(".csv"):
        return 'text,label\n"fine, “really”",a\npoor,b\n'.encode()
    return "text\tlabel\nfine, “really”\ta\npoor\tb\n".encode()


NAMES = ["rows.jsonl", "rows.ndjson", "rows.json", "rows.csv", "rows.tsv", "ROWS.JSONL"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, mark: bytes) -> None:
    path = stored(tmp_path, name, mark + encoded(name.lower()))
    assert [row for _, row in rows(path)] == ROWS


@pytest.mark.parametrize("ending", [b"\r\n", b"\n\n"], ids=["crlf", "blank lines"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv"])
def test_line_ends_and_blank_lines_do_not_matter(tmp_path: Path, name: str, ending: bytes) -> None:
    path = stored(tmp_path, name, encoded(name).replace(b"\n", ending))
    assert [row for _, row in rows(path)] == ROWS


def test_the_last_line_needs_no_line_break(tmp_path: Path) -> None:
    path = stored(tmp_path, "rows.jsonl", encoded("rows.jsonl").rstrip(b"\n"))
    assert len(found(path)) == 2


def test_a_quoted_field_may_hold_line_breaks(tmp_path: Path) -> None:
    path = stored(tmp_path, "rows.csv", b'text,label\n"one\ntwo",a\nthree,b\n')
    assert [row["text"] for _, row in rows(path)] == ["one\ntwo", "three"]


def test_other_line_separators_belong_to_the_text(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0bfour"
    path = stored(tmp_path, "rows.jsonl", json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
    assert [row["text"] for _, row in rows(path)] == [text]


@pytest.mark.parametrize(
    ("name", "raw", "line", "words"),
    [
        ("r.jsonl", b'{"a": 1}\n{"a": \n', 2, "JSON"),
        ("r.jsonl", b'{"a": 1}\n\n[1, 2]\n', 3, "list"),
        ("r.jsonl", b'{"a": 1}\n"text"\n', 2, "str"),
        ("r.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', 2, "UTF-8"),
        ("r.jsonl", b'{"a": 1}\n{"a": NaN}\n', 2, "JSON"),
        ("r.json", b'[{"a": 1},\n {"a": }]', 2, "JSON"),
        ("r.json", b'[{"a": 1}, 2]', None, "row 1 is a int"),
        ("r.json", b'{"a": 1}', None, "list"),
        ("r.csv", b"a,b\n1,2\n3\n", 3, "1 field"),
        ("r.csv", b"a,b\n1,2\n3,4,5\n", 3, "3 fields"),
        ("r.csv", b'a,b\n1,2\n"3"x,4\n', 3, "well-formed"),
        ("r.csv", b"a,b\n1,2\n3,caf\xe9\n", 3, "UTF-8"),
        ("r.csv", b"", None, "empty"),
        ("r.tsv", b"a\tb\n1\t2\n3\n", 3, "1 field"),
        ("r.xlsx", b"", None, ".xlsx"),
        ("r.jsn", b"", None, ".json"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, name: str, raw: bytes, line: int | None, words: str) -> None:
    path = stored(tmp_path, name, raw)
    with pytest.raises(DataError) as error:
        list(rows(path))
    assert (error.value.file, error.value.line) == (str(path), line)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_field_named_twice_in_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text"):
        list(rows(stored(tmp_path, "r.csv", b"text,label,text\na,b,c\n")))


def test_the_second_item_of_a_json_list_is_not_called_a_line(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.json", b'[\n {\n  "a": 1\n },\n {\n  "b": 2\n }\n]\n')
    with pytest.raises(DataError) as error:
        found(path, Schema("a"), need_target=True)
    assert error.value.line in (None, 5)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(rows(tmp_path / "none.jsonl"))


def test_the_id_is_the_field_else_the_rows_number() -> None:
    given: list[dict[str, Any]] = [{"id": "q7", "t": 1}, {"t": 2}, {"id": 0, "t": 3}, {"t": 4}]
    assert [x.id for x in found(given)] == ["q7", 1, 0, 3]


def test_the_rows_number_counts_rows_not_lines(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl", b'\n{"t": 1}\n\n\n{"t": 2}\n')
    assert [x.id for x in found(path)] == [0, 1]


def test_the_target_is_no_template_variable() -> None:
    (x,) = found([{"text": "fine", "label": "a"}], Schema("label"))
    assert (x.target, dict(x.inputs)) == ("a", {"text": "fine"})


@pytest.mark.parametrize("target", [0, 1.5, True, False, "", ["a"], {"a": 1}])
def test_any_value_may_be_a_target(target: Any) -> None:
    (x,) = found([{"label": target}], Schema("label"), need_target=True)
    assert x.target == target


@pytest.mark.parametrize("row", [{"text": "fine"}, {"text": "fine", "label": None}], ids=["missing", "null"])
def test_a_missing_target_is_none_or_a_mistake(tmp_path: Path, row: dict[str, Any]) -> None:
    assert found([row], Schema("label"))[0].target is None
    with pytest.raises(DataError, match="label"):
        found([row], Schema("label"), need_target=True)
    path = stored(tmp_path, "r.jsonl", b'{"label": "a"}\n' + json.dumps(row).encode())
    with pytest.raises(DataError) as error:
        found(path, Schema("label"), need_target=True)
    assert error.value.line == 2


def test_the_nearest_field_is_named_where_the_target_is_missing() -> None:
    with pytest.raises(DataError, match="did you mean 'lable'"):
        found([{"lable": "a"}], Schema("label"), need_target=True)


def test_fields_are_renamed() -> None:
    schema = Schema("answer", {"text": "sentence", "answer": "gold"})
    (x,) = found([{"sentence": "fine", "gold": "a", "other": 1}], schema)
    assert (x.target, dict(x.inputs)) == ("a", {"text": "fine", "other": 1})


def test_fields_may_change_places() -> None:
    (x,) = found([{"a": 1, "b": 2}], Schema(None, {"a": "b", "b": "a"}))
    assert dict(x.inputs) == {"a": 2, "b": 1}


def test_a_renamed_field_that_is_missing_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'sentence'.*did you mean 'sentense'"):
        found([{"sentense": "fine"}], Schema(None, {"text": "sentence"}))


@pytest.mark.parametrize(
    ("stored_value", "label"), [(0, "negative"), ("0", "negative"), (1, "positive"), (True, "yes")]
)
def test_stored_values_become_labels_by_their_text(stored_value: Any, label: str) -> None:
    schema = Schema("label", labels={"0": "negative", "1": "positive", "true": "yes"})
    (x,) = found([{"label": stored_value}], schema)
    assert x.target == label


def test_a_value_that_is_no_label_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'positiv'.*did you mean 'positive'"):
        found([{"label": "positiv"}], Schema("label", labels={"positive": "p", "negative": "n"}))


def test_labels_of_a_task_may_have_numeric_keys() -> None:
    from icl_engine.config.load import load_task

    loaded = load_task(
        {
            "data": {"test": [{"t": "x", "label": 1}], "target": "label", "labels": {0: "negative", 1: "positive"}},
            "input": {"template": {"inline": "{{ t }} {{ answer }}"}},
            "model": {"use": "fake"},
        }
    )
    assert [x.target for x in loaded.test(need_target=True)] == ["positive"]


def test_a_row_that_is_no_mapping_is_named() -> None:
    bad: Any = [{"text": "a"}, "b"]
    with pytest.raises(DataError, match=r"data.test.*1.*str"):
        found(bad)


def test_rows_are_taken_one_at_a_time() -> None:
    taken = itertools.count()

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"n": next(taken)}

    first = list(itertools.islice(examples(endless(), Schema(), need_target=False, key="data.test"), 3))
    assert [x.inputs["n"] for x in first] == [0, 1, 2]
    assert next(taken) == 3


def test_the_rows_given_are_not_changed() -> None:
    given = [{"sentence": "fine", "label": "a"}]
    found(given, Schema("label", {"text": "sentence"}))
    assert given == [{"sentence": "fine", "label": "a"}]


def test_a_file_is_read_as_a_stream(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl", b'{"t": 1}\n{"t": 2}\nnot JSON\n')
    assert [row["t"] for _, row in itertools.islice(rows(path), 2)] == [1, 2]


def test_a_changed_row_changes_the_fingerprint(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl", b'{"t": 1}\n')
    before = fingerprint(path)
    path.write_bytes(b'{"t": 2}\n')
    assert fingerprint(path) != before
    assert fingerprint([{"t": 1}]) != fingerprint([{"t": 2}])
    assert fingerprint([{"t": 1}]) == fingerprint([{"t": 1}])
