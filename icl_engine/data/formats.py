"""Data files, row by row: JSONL, JSON, CSV and TSV. Another format is one function and one line in `READERS`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from icl_engine.errors import DataError, bounded, did_you_mean

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int | None, Row]]
"""(line in the file, counted from 1, where the format has lines; the row)"""


def rows(path: Path) -> NumberedRows:
    """The rows of a file, streamed where the format allows.

    Raises:
        DataError: no such file, an unknown ending, or a bad row, named by its number.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"unknown data format {path.suffix!r}{did_you_mean(path.suffix, READERS)}", file=path)
    if not path.is_file():
        raise DataError("no such file", file=path)
    try:
        yield from reader(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path) from error


def _jsonl(path: Path) -> NumberedRows:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, _object(path, number, _json(path, line, number))


def _json_array(path: Path) -> NumberedRows:
    found = _json(path, path.read_bytes().removeprefix(b"\xef\xbb\xbf"), None)
    if not isinstance(found, list):
        raise DataError("a .json data file is a list of objects (for one object a line, name it .jsonl)", file=path)
    for index, row in enumerate(found):
        if not isinstance(row, dict):
            raise DataError(f"row {index} is a {type(row).__name__}, not an object with fields", file=path)
        yield None, row


def _separated(delimiter: str) -> Callable[[Path], NumberedRows]:
    def read(path: Path) -> NumberedRows:
        csv.field_size_limit(sys.maxsize)
        with path.open("rb") as file:
            reader = csv.reader(_decoded(path, file), delimiter=delimiter, strict=True)
            try:
                header = next(reader, None)
                if header is None:
                    raise DataError("is empty; its first line names the fields", file=path)
                if len(set(header)) < len(header):
                    twice = next(name for name in header if header.count(name) > 1)
                    raise DataError(f"the header names the field {twice!r} twice", file=path, line=1)
                for values in reader:
                    if not values:
                        continue
                    if len(values) != len(header):
                        what = f"has {len(values)} fields, the header has {len(header)}"
                        raise DataError(what, file=path, line=reader.line_num)
                    yield reader.line_num, dict(zip(header, values, strict=True))
            except csv.Error as error:
                raise DataError(f"not well-formed: {error}", file=path, line=reader.line_num) from error

    return read


def _decoded(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 text ({error.reason})", file=path, line=number) from error


def _json(path: Path, raw: bytes, line: int | None) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DataError(f"not JSON: {bounded(str(error))}", file=path, line=line or error.lineno) from error


def _object(path: Path, number: int, row: Any) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"row is a {type(row).__name__}, not an object with fields", file=path, line=number)
    return row


READERS: dict[str, Callable[[Path], NumberedRows]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json_array,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
}
