"""Rows of files and lists become examples; what does not fit is named by its line."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.config.load import load_task
from icl_engine.data import json_list
from icl_engine.data.files import files
from icl_engine.data.formats import READERS, rows
from icl_engine.data.source import Schema, Source, examples, fingerprint, place
from icl_engine.errors import DataError, MissingExtraError
from icl_engine.types import Example

ROWS = [{"text": "fine, “really”", "label": "a"}, {"text": "poor", "label": "b"}]


def stored(tmp_path: Path, name: str, raw: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(raw)
    return path


def found(source: Source, schema: Schema | None = None, *, need_target: bool = False) -> list[Example]:
    return list(examples(source, schema or Schema(), need_target=need_target, key="data.test"))


def encoded(name: str) -> bytes:
    """The two rows in the format of a name."""
    if name.endswith(".gz"):
        return gzip.compress(encoded(name.removesuffix(".gz")))
    if name.endswith(".parquet"):
        return parquet(ROWS)
    if name.endswith((".jsonl", ".ndjson")):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    if name.endswith(".json"):
        return json.dumps(ROWS, ensure_ascii=False, indent=2).encode()
    if name.endswith(".csv"):
        return 'text,label\n"fine, “really”",a\npoor,b\n'.encode()
    return "text\tlabel\nfine, “really”\ta\npoor\tb\n".encode()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    raw = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), raw, **options)
    return raw.getvalue()


def mistake(path: Path) -> DataError:
    """What is wrong with a file, told in one line."""
    with pytest.raises(DataError) as error:
        list(rows(path))
    assert "\n" not in str(error.value)
    assert error.value.file == str(path)
    return error.value


TEXTS = ["rows.jsonl", "rows.ndjson", "rows.json", "rows.csv", "rows.tsv", "ROWS.JSONL"]
NAMES = [*TEXTS, *(f"{name}.gz" for name in TEXTS), "rows.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path, name, encoded(name.lower()))
    assert [row for _, row in rows(path)] == ROWS


@pytest.mark.parametrize("name", TEXTS)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    marked = b"\xef\xbb\xbf" + encoded(name.lower())
    assert [row for _, row in rows(stored(tmp_path, name, marked))] == ROWS
    assert [row for _, row in rows(stored(tmp_path, name + ".gz", gzip.compress(marked)))] == ROWS


def test_every_format_is_tried_here() -> None:
    assert {Path(name.removesuffix(".gz")).suffix.lower() for name in NAMES} == set(READERS)


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


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("r.jsonl", b'{"t": "1"}\n{"t": "2"}\nnot JSON\n'),
        ("r.json", b'[{"t": "1"}, {"t": "2"}, not JSON'),
        ("r.csv", b't\n1\n2\n3,"\n'),
        ("r.tsv", b't\n1\n2\n3\t"\n'),
    ],
)
def test_a_file_is_read_as_a_stream(tmp_path: Path, name: str, raw: bytes, packed: bool) -> None:
    path = stored(tmp_path, name + ".gz" * packed, gzip.compress(raw) if packed else raw)
    assert [row["t"] for _, row in itertools.islice(rows(path), 2)] == ["1", "2"]
    with pytest.raises(DataError):
        list(rows(path))


def test_a_changed_row_changes_the_fingerprint(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl", b'{"t": 1}\n')
    before = fingerprint(path)
    path.write_bytes(b'{"t": 2}\n')
    assert fingerprint(path) != before
    assert fingerprint([{"t": 1}]) != fingerprint([{"t": 2}])
    assert fingerprint([{"t": 1}]) == fingerprint([{"t": 1}])


# JSON lists, object by object

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
STRINGS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(['"', "{", "}", '\\"}', "],[", "\\\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a{}"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text('ab"}', max_size=2), VALUES, max_size=4)


def listed(raw: bytes, chunk: int) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_list, "CHUNK", chunk)
        return list(json_list.objects(io.BufferedReader(io.BytesIO(raw))))


@given(st.lists(OBJECTS, max_size=5), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
@settings(deadline=None)
def test_a_json_list_is_read_wherever_it_is_cut(given: Any, indent: int | None, plain: bool, chunk: int) -> None:
    raw = json.dumps(given, indent=indent, ensure_ascii=plain).encode()
    assert listed(b" \n" + raw + b"\r\n\t", chunk) == given


@given(st.lists(OBJECTS, min_size=1, max_size=3), st.data(), st.integers(1, 40))
@settings(deadline=None)
def test_a_json_list_that_is_cut_off_is_refused(given: Any, data: st.DataObject, chunk: int) -> None:
    raw = json.dumps(given).encode()
    with pytest.raises(json_list.JsonListError):
        listed(raw[: data.draw(st.integers(0, len(raw) - 1))], chunk)


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b'[{"a": 1},\n {"a": 2}\n {"a": 3}]', 3, "after row 1 comes neither ',' nor ']'"),
        (b'[{"a": 1},\n]', 2, "row 1 cannot be read"),
        (b'[{"a": 1},\n {"b": {"a": 1', 2, "cut off"),
        (b'[{"a": 1},\n', 2, "cut off"),
        (b'[{"a": 1}\n', 2, "cut off"),
        (b'[{"a": 1}]\n[]', 2, "after the end"),
        (b'[{"a": 1},\n{"a": {"b": tru}}]', 2, "not JSON"),
        (b'[{"a": 1},\n{"a": "b\n"}]', 2, "not JSON"),
        (b'[{"a": 1},\n["a"]]', None, "row 1 is a list"),
        (b"null", None, "list of objects"),
        (b" \n ", None, "list of objects"),
        (b"", None, "empty"),
    ],
)
def test_a_bad_json_list_is_told_with_its_line(tmp_path: Path, raw: bytes, line: int | None, words: str) -> None:
    for path in (stored(tmp_path, "r.json", raw), stored(tmp_path, "r.json.gz", gzip.compress(raw))):
        error = mistake(path)
        assert error.line == line
        assert words in error.what


# gzip


def noise(n: int) -> bytes:
    return b"".join(b'{"n": "%s"}\n' % hashlib.sha256(str(i).encode()).hexdigest().encode() for i in range(n))


@pytest.mark.parametrize("name", ["r.jsonl.gz", "r.json.gz", "r.csv.gz", "r.tsv.gz"])
@pytest.mark.parametrize(
    "damaged",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-4],
        lambda raw: raw[: len(raw) // 2] + b"\xff" * 9 + raw[len(raw) // 2 + 9 :],
        lambda raw: raw[:-8] + b"\0\0\0\0" + raw[-4:],
        lambda raw: raw + b"more",
    ],
    ids=["cut off", "cut off at the end", "changed inside", "wrong checksum", "something after it"],
)
def test_a_damaged_gzip_file_is_told_in_one_line(tmp_path: Path, name: str, damaged: Any) -> None:
    lines = noise(3000)
    texts = {"r.jsonl.gz": lines, "r.json.gz": b"[" + lines.strip().replace(b"\n", b",") + b"]"}
    raw = texts.get(name, b"n\n" + lines.replace(b'{"n": "', b"").replace(b'"}', b""))
    path = stored(tmp_path, name, damaged(gzip.compress(raw)))
    assert mistake(path).what == "the gzip file is damaged or cut off; make it or fetch it again"


def test_text_that_is_named_as_gzip_and_gzip_that_is_named_as_text(tmp_path: Path) -> None:
    plain, packed = encoded("r.csv"), encoded("r.csv.gz")
    error = mistake(stored(tmp_path, "r.csv.gz", plain))
    assert error.what == "is not gzip data, though its name ends in .gz; name it r.csv"
    assert mistake(stored(tmp_path, "r.csv", packed)).what == "is gzip data; let its name end in .gz"


@pytest.mark.parametrize(
    ("name", "words"),
    [("r.gz", "'.gz'"), ("r.jsnl.gz", "'.jsnl'; did you mean '.jsonl'?"), ("r.parquet.gz", "gunzip r.parquet.gz")],
)
def test_gzip_around_what_is_no_text(tmp_path: Path, name: str, words: str) -> None:
    assert words in mistake(stored(tmp_path, name, encoded("r.jsonl.gz"))).what


def test_the_line_in_a_gzip_file_is_that_of_its_text(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": \n'))
    assert mistake(path).line == 2


# Parquet


def test_parquet_values_are_pythons(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    nested = {"list": [[1, 2], []], "of": [{"a": None, "b": ["x"]}, {"a": 1.5, "b": []}], "n": [None, 7]}
    mapped = pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    pyarrow.parquet.write_table(pyarrow.table({**nested, "map": mapped}), tmp_path / "r.parquet")
    assert [row for _, row in rows(tmp_path / "r.parquet")] == [
        {"list": [1, 2], "of": {"a": None, "b": ["x"]}, "n": None, "map": {"k": 1}},
        {"list": [], "of": {"a": 1.5, "b": []}, "n": 7, "map": {}},
    ]


def test_any_parquet_value_may_be_a_target_with_labels(tmp_path: Path) -> None:
    from decimal import Decimal

    path = stored(tmp_path, "r.parquet", parquet([{"label": Decimal("1.5")}]))
    assert [x.target for x in found(path, Schema("label", labels={'"1.5"': "much"}))] == ["much"]


@pytest.mark.parametrize("raw", [b"", b"text,label\n", encoded("r.parquet")[:-9], encoded("r.parquet")[4:]])
def test_a_damaged_parquet_file_is_told_in_one_line(tmp_path: Path, raw: bytes) -> None:
    what = mistake(stored(tmp_path, "r.parquet", raw)).what
    assert what.startswith("not a Parquet file, or a damaged one (")
    assert what.endswith("); make it or fetch it again")


def test_parquet_that_is_damaged_inside(tmp_path: Path) -> None:
    raw = bytearray(parquet([{"text": f"row {i}"} for i in range(5000)], compression="gzip"))
    raw[400:900] = b"\xff" * 500
    assert "damaged" in mistake(stored(tmp_path, "r.parquet", bytes(raw))).what


def test_a_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.parquet", parquet([{"label": "a"}, {"label": None}]))
    with pytest.raises(DataError, match="label") as error:
        found(path, Schema("label"), need_target=True)
    assert (error.value.file, error.value.line, error.value.key) == (str(path), None, "row 1")


def test_what_is_held_of_a_parquet_file_does_not_grow_with_it(tmp_path: Path) -> None:
    import pyarrow

    many = [{"id": i, "text": f"{i:06d}" * 40} for i in range(100_000)]
    raw = parquet(many, row_group_size=len(many), compression="none", use_dictionary=False)
    path = stored(tmp_path, "r.parquet", raw)
    before = pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() - before for i, _ in enumerate(rows(path)) if i % 5000 == 0]
    assert max(held) < len(raw) / 3


def test_a_parquet_file_need_not_be_read_to_its_end(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.parquet", parquet([{"n": i} for i in range(5000)], row_group_size=100))
    reading = rows(path)
    assert [next(reading)[1]["n"] for _ in range(3)] == [0, 1, 2]
    reading.close()  # type: ignore[attr-defined]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, "r.parquet", encoded("r.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Parquet data needs .* pyarrow; run: pip install 'icl-engine\[hf\]'"):
        list(rows(path))


def test_nothing_optional_is_imported_before_it_is_used() -> None:
    code = "import sys, icl_engine.config.load; print({'pyarrow', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# what is no UTF-8 text

TABLES = {".csv": "text,label\nbon,a\nété,b\n", ".tsv": "text\tlabel\nbon\ta\nété\tb\n"}
LINES = {".jsonl": '{"text": "bon"}\n{"no": 1}\n{"text": "été"}\n', ".json": '[{"text": "bon"},\n\n{"text": "été"}]\n'}
COLUMN = {".csv": 1, ".tsv": 1, ".jsonl": 11, ".json": 11}


@pytest.mark.parametrize("ending", [*TABLES, *LINES])
def test_utf_16_is_told_with_the_command_that_converts_it(tmp_path: Path, ending: str) -> None:
    text = {**TABLES, **LINES}[ending]
    path = stored(tmp_path, f"r{ending}", text.encode("utf-16"))
    command = f"convert it: iconv -f UTF-16 -t UTF-8 r{ending} > utf8-r{ending}"
    assert mistake(path).what == f"is UTF-16 text, not UTF-8; {command}"
    packed = stored(tmp_path, f"r{ending}.gz", gzip.compress(text.encode("utf-16")))
    assert f"gunzip -c r{ending}.gz | iconv -f UTF-16 -t UTF-8 > utf8-r{ending}" in mistake(packed).what


@pytest.mark.parametrize("order", ["LE", "BE"])
@pytest.mark.parametrize("ending", [*TABLES, *LINES])
def test_utf_16_without_a_mark_is_told_too(tmp_path: Path, ending: str, order: str) -> None:
    text = {**TABLES, **LINES}[ending]
    error = mistake(stored(tmp_path, f"r{ending}", text.encode(f"utf-16-{order}")))
    assert error.line == 1
    assert f"NUL byte, as UTF-16 text does; convert it: iconv -f UTF-16{order} -t UTF-8" in error.what


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("ending", [*TABLES, *LINES])
def test_a_byte_that_is_not_utf_8_is_told_with_its_place(
    tmp_path: Path, ending: str, packed: bool, encoding: str
) -> None:
    raw = {**TABLES, **LINES}[ending].encode(encoding)
    path = stored(tmp_path, f"r{ending}" + ".gz" * packed, gzip.compress(raw) if packed else raw)
    error = mistake(path)
    assert error.line == 3
    assert f"column {COLUMN[ending]}: the byte 0xE9 is not UTF-8; it looks like Latin-1 or Windows-1252" in error.what
    assert "iconv -f WINDOWS-1252 -t UTF-8" in error.what


def test_the_column_counts_characters(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.csv", "text\nçà ".encode() + "là\n".encode("latin-1"))
    assert "column 5:" in mistake(path).what


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json"])
def test_other_files_by_the_name_of_a_text(tmp_path: Path, ending: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    for raw, words in [
        (archive.getvalue(), "is a ZIP archive (an Excel file?); unpack it, or save the sheet as CSV (UTF-8)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel file of the old kind; save the sheet as CSV (UTF-8)"),
        (encoded("r.parquet"), "is a Parquet file; let its name end in .parquet"),
        ("text".encode("utf-32"), "is UTF-32 text, not UTF-8; convert it: iconv -f UTF-32"),
    ]:
        assert mistake(stored(tmp_path, f"r{ending}", raw)).what.startswith(words)


@pytest.mark.parametrize(
    ("name", "raw", "column"),
    [
        ("r.csv", b"text,label\ngood one,a\nnot\0good,b\n", 4),
        ("r.tsv", b"text\tlabel\ngood one\ta\nnot\0good\tb\n", 4),
        ("r.jsonl", b'{"text": 1}\n\n{"text": "not\0good"}\n', 14),
        ("r.json", b'[{"text": 1},\n\n{"text": "not\0good"}]\n', 14),
    ],
)
def test_a_nul_byte_is_told_with_its_place(tmp_path: Path, name: str, raw: bytes, column: int) -> None:
    error = mistake(stored(tmp_path, name, raw))
    assert error.line == 3
    assert error.what == rf"column {column}: holds a NUL byte; if the rest is text, take it out: tr -d '\000'"


# tables


@pytest.mark.parametrize(
    ("name", "raw", "line", "words"),
    [
        (
            "r.csv",
            b'a,b\n"one\ntwo\n",1\n\n"three\nfour",1,2\n5,6\n',
            6,
            "has 3 fields, the header has 2; a comma inside a field needs double quotes around the field",
        ),
        (
            "r.csv",
            b'a,b\n1,2\n"x\ny"\n',
            3,
            "has 1 field, the header has 2; an empty field keeps its comma, and a line break inside a field needs "
            "double quotes around it",
        ),
        ("r.tsv", b"a\tb\n1\t2\t3\n", 2, "has 3 fields, the header has 2; a tab inside a field needs double quotes"),
        ("r.csv", b'a,b\n1,2\n"3,4\n5,6\n', 3, "a double quote that is never closed"),
        ("r.csv", b'a,b\n"1\n2"x,4\n', 2, 'a double quote is written twice ("")'),
        ("r.csv", b"a,b\r1,2\r3,4\r", 1, r"tr '\r' '\n'"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_first_line(
    tmp_path: Path, name: str, raw: bytes, line: int, words: str
) -> None:
    error = mistake(stored(tmp_path, name, raw))
    assert error.line == line
    assert words in error.what


def test_rows_of_a_table_stand_in_their_first_line(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.csv", b'\na,b\n"one\ntwo",1\r\n\n3,"4\n5"\n6,7\n')
    assert [line for line, _ in rows(path)] == [3, 6, 8]


@pytest.mark.parametrize(
    ("name", "header", "found", "taken", "mend"),
    [
        ("r.csv", "text;label", "semicolon (';')", "comma", "save the file with a comma between fields"),
        ("r.csv", "text\tlabel", "tab ('\\t')", "comma", "let the file's name end in .tsv"),
        ("r.csv", "text|label", "vertical bar ('|')", "comma", "save the file with a comma between fields"),
        ("r.tsv", "text,label", "comma (',')", "tab", "let the file's name end in .csv"),
        ("r.tsv", "text;label", "semicolon (';')", "tab", "save the file with a tab between fields"),
    ],
)
def test_another_separator_is_told(tmp_path: Path, name: str, header: str, found: str, taken: str, mend: str) -> None:
    error = mistake(stored(tmp_path, name, f"{header}\nfine\n".encode()))
    assert error.line == 1
    what = f"the header is one field with a {found} in it, but fields are separated by a {taken}; {mend}"
    assert error.what == what


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("text,,label", "the header gives field 2 of 3 no name; name it, or leave the column out"),
        ("text,label, ", "the header gives field 3 of 3 no name; name it, or leave the column out"),
        ("text,label,text", "the header names the field 'text' twice; rename one of them"),
    ],
)
def test_a_header_that_does_not_name_every_field_is_told(tmp_path: Path, header: str, words: str) -> None:
    error = mistake(stored(tmp_path, "r.csv", f"{header}\n1,2,3\n".encode()))
    assert (error.line, error.what) == (1, words)


def test_a_table_may_have_one_column(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.csv", b"text\nfine\npoor; dull\n")
    assert [row for _, row in rows(path)] == [{"text": "fine"}, {"text": "poor; dull"}]


# several files


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with the rows 0 to 6 in files of five formats, in the order of their names."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    written: list[tuple[str, list[int]]] = [
        ("part-0.jsonl", [0, 1]),
        ("part-1.csv.gz", [2]),
        ("part-2.parquet", [3, 4]),
        ("part-3.json", [5]),
        ("part-4.tsv", [6]),
        ("deep/other.jsonl", [7]),
    ]
    for name, numbers in written:
        given = [{"n": str(n)} for n in numbers]
        if name.endswith(".parquet"):
            raw = parquet(given)
        elif name.endswith(".json"):
            raw = json.dumps(given).encode()
        elif name.endswith(".jsonl"):
            raw = b"".join(json.dumps(row).encode() + b"\n" for row in given)
        else:
            raw = ("n\n" + "".join(f"{n}\n" for n in numbers)).encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


def test_a_pattern_names_files_of_any_format_in_order(parts: Path) -> None:
    read = found(parts / "part-*")
    assert [(x.id, x.inputs["n"]) for x in read] == [(i, str(i)) for i in range(7)]
    assert [x.inputs["n"] for x in found(str(parts / "part-[02]*"))] == ["0", "1", "3", "4"]
    assert [x.inputs["n"] for x in found(str(parts / "**/*.jsonl"))] == ["7", "0", "1"]


def test_a_row_of_several_files_is_placed_in_its_own(parts: Path) -> None:
    source = str(parts / "part-*")
    at = [place(source, i, "data.test") for i in range(7)]
    names = ["0.jsonl", "0.jsonl", "1.csv.gz", "2.parquet", "2.parquet", "3.json", "4.tsv"]
    assert [p["file"] for p in at] == [parts / f"part-{name}" for name in names]
    assert [p.get("line", p.get("key")) for p in at] == [1, 2, 2, "row 0", "row 1", "row 0", 2]
    assert place([{"n": 1}, {"n": 2}], 1, "data.test") == {"key": "data.test[1]"}


@pytest.mark.parametrize(
    ("name", "raw", "line", "key"),
    [
        ("part-5.jsonl", b'{"n": 1, "label": "x"}\n{"n": 2}\n', 2, None),
        ("part-5.json", b'[{"n": 1, "label": "x"}, {"n": 2}]', None, "row 1"),
        ("part-5.parquet", parquet([{"n": 1, "label": "x"}, {"n": 2, "label": None}]), None, "row 1"),
    ],
)
def test_a_mistake_names_the_file_of_its_row(
    tmp_path: Path, name: str, raw: bytes, line: int | None, key: str | None
) -> None:
    stored(tmp_path, "part-0.jsonl", b'{"n": 0, "label": "x"}\n')
    path = stored(tmp_path, name, raw)
    with pytest.raises(DataError, match="label") as error:
        found(tmp_path / "part-*", Schema("label"), need_target=True)
    assert (error.value.file, error.value.line, error.value.key) == (str(path), line, key)


def test_several_files_are_opened_one_after_the_other(tmp_path: Path) -> None:
    stored(tmp_path, "0.jsonl", b'{"n": 0}\n')
    stored(tmp_path, "1.jsonl", b"not JSON\n")
    assert [x.inputs["n"] for x in itertools.islice(examples(tmp_path / "*", Schema(), need_target=False, key="k"), 1)]


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    stored(tmp_path, "a[12].jsonl", b'{"n": "brackets"}\n')
    stored(tmp_path, "a1.jsonl", b'{"n": "one"}\n')
    folder = tmp_path / "set [v1] *"
    folder.mkdir()
    stored(folder, "x-1.jsonl", b'{"n": "inside"}\n')
    assert files(tmp_path / "a[12].jsonl") == (tmp_path / "a[12].jsonl",)
    assert files(str(folder / "x-*.jsonl")) == (folder / "x-1.jsonl",)
    with pytest.raises(DataError) as error:
        files(str(folder / "y.jsonl"))
    assert error.value.what == "no such file"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("data/tset-*.jsonl", "the folder {}/data holds part-0.jsonl, part-1.csv.gz, part-2.parquet, …"),
        ("data/deep/*.csv", "the folder {}/data/deep holds other.jsonl"),
        ("data/**/x-*.csv", "the folder {}/data holds deep/other.jsonl, part-0.jsonl, part-1.csv.gz, …"),
        ("dta/*.jsonl", "there is no folder {}/dta"),
        ("data/deep/none/*.jsonl", "there is no folder {}/data/deep/none"),
    ],
)
def test_a_pattern_that_matches_nothing(parts: Path, pattern: str, words: str) -> None:
    source = parts.parent / pattern
    with pytest.raises(DataError) as error:
        found(source)
    assert error.value.file == str(source)
    assert error.value.what == f"no file matches this pattern; {words.format(parts.parent)}"


def test_a_folder_is_told_with_a_pattern_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match="there is no data file in it"):
        files(tmp_path / "a")
    stored(tmp_path / "a" / "b", "x.tsv.gz", b"")
    with pytest.raises(DataError) as error:
        files(str(tmp_path / "a"))
    assert error.value.what == f"is a folder; name its files: {tmp_path}/a/**/*.tsv.gz"
    for name in ("x.csv", "y.jsonl", "z.jsonl", "README.md"):
        stored(tmp_path / "a", name, b"")
    with pytest.raises(DataError) as error:
        files(str(tmp_path / "a") + "/")
    assert error.value.what == f"is a folder; name its files: {tmp_path}/a/*.jsonl"


@pytest.mark.parametrize(
    ("source", "words"),
    [("s3://bucket/test.jsonl", "download this first"), ("x" * 5000 + ".jsonl", "cannot be read")],
)
def test_what_names_no_file(source: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        files(source)
    assert len(str(error.value)) < 500


def test_the_fingerprint_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = stored(tmp_path, "r.jsonl", b'{"t": 1}\n')
    assert fingerprint(path) == fingerprint(str(tmp_path / "*")) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_fingerprint_covers_all_files_in_their_order(tmp_path: Path) -> None:
    source = str(tmp_path / "*.jsonl")
    seen = set()
    for first, second in [(b"1", b"2"), (b"2", b"1"), (b"1", b"3"), (b"12", b""), (b"", b"12")]:
        stored(tmp_path, "0.jsonl", first)
        stored(tmp_path, "1.jsonl", second)
        seen.add(fingerprint(source))
    assert len(seen) == 5


# at a task's keys

TASK = """\
data:
  train: {train}
  test: {test}
  target: label
input:
  template: {{inline: "{{{{ text }}}} {{{{ answer }}}}"}}
model: {{use: fake}}
"""


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("none.jsonl", "no such file: {}/none.jsonl"),
        ("none-*.jsonl", "{}/none-*.jsonl: no file matches this pattern; the folder {} holds train.jsonl"),
        ("folder", "{}/folder: is a folder; name its files: {}/folder/*.csv"),
        ("hf://org", "hf://org: an address is hf://org/set?split=test"),
        ("hf://org/set?splt=test", "hf://org/set?splt=test: unknown key 'splt'; did you mean 'split'?"),
    ],
)
def test_a_source_without_files_is_told_at_its_key(tmp_path: Path, test: str, words: str) -> None:
    stored(tmp_path, "train.jsonl", b'{"text": "a", "label": "x"}\n')
    (tmp_path / "folder").mkdir()
    stored(tmp_path / "folder", "r.csv", b"text,label\n")
    task = stored(tmp_path, "task.yaml", TASK.format(train="train-*.jsonl", test=test).replace("n-*", "n").encode())
    with pytest.raises(DataError) as error:
        load_task(task)
    assert (error.value.file, error.value.line, error.value.key) == (str(task), 3, "data.test")
    assert words.replace("{}", str(tmp_path)) in error.value.what
    assert "\n" not in str(error.value)


def test_a_task_reads_several_files(parts: Path, tmp_path: Path) -> None:
    stored(tmp_path, "train.jsonl", b'{"text": "a", "label": "x"}\n')
    task = stored(tmp_path, "task.yaml", TASK.format(train="train.jsonl", test="data/part-*").encode())
    loaded = load_task(task)
    assert [x.inputs["n"] for x in loaded.test(need_target=False)] == [str(n) for n in range(7)]
    before = loaded.fingerprint
    stored(parts, "part-5.jsonl", b'{"n": "7"}\n')
    assert load_task(task).fingerprint != before


def test_a_first_column_without_a_name_is_the_index(tmp_path: Path) -> None:
    path = tmp_path / "exported.csv"
    path.write_text(",text,label\n0,fine,positive\n1,poor,negative\n", encoding="utf-8")
    assert [row for _, row in rows(path)] == [
        {"index": "0", "text": "fine", "label": "positive"},
        {"index": "1", "text": "poor", "label": "negative"},
    ]
