"""CSV and TSV: one row a line, or several where a quoted field holds line breaks."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from icl_engine.data.text import begin, decoded
from icl_engine.errors import DataError, bounded

NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
ENDINGS = {",": ".csv", "\t": ".tsv"}


def separated(path: Path, file: BufferedReader, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row under the header's names, with the line it begins in.

    Raises:
        DataError: no header, a header that cannot name the fields, or a row that does not fit it.
    """
    if not begin(path, file):
        raise DataError("is empty; its first line names the fields", file=path)
    lines = _lines(path, file, delimiter)
    line, header = next(lines, (1, []))
    if len(header) > 1 and not header[0] and "index" not in header:
        header[0] = "index"  # as pandas and R write their row numbers: a column without a name
    _check_header(path, line, header, delimiter)
    width = len(header)
    for line, values in lines:
        if len(values) != width:
            raise DataError(_ragged(len(values), width, delimiter), file=path, line=line)
        yield line, dict(zip(header, values, strict=True))


def _lines(path: Path, file: BufferedReader, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row that is not blank, with the line it begins in."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(decoded(path, file), delimiter=delimiter, strict=True)
    line = 1
    try:
        for values in reader:
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"not well-formed: {_malformed(str(error))}", file=path, line=line) from error


def _malformed(reason: str) -> str:
    """The csv module's reason with what to do about it."""
    if "expected after" in reason:
        return f'{reason}; inside a quoted field a double quote is written twice ("")'
    if "unexpected end" in reason:
        return 'a field of this row opens with a double quote that is never closed; close it, or write it as """"'
    if "new-line character" in reason:
        return r"lines end in a bare carriage return; turn these into line feeds: tr '\r' '\n'"
    return bounded(reason)


def _check_header(path: Path, line: int, header: Sequence[str], delimiter: str) -> None:
    what = None
    unnamed = next((i for i, name in enumerate(header, start=1) if not name.strip()), None)
    other = next((mark for mark in NAMES if len(header) == 1 and mark in header[0] and mark != delimiter), None)
    if not header:
        what = "names no fields; the first line is the header"
    elif other is not None:
        what = f"the header is one field with a {NAMES[other]} ({other!r}) in it, but fields are separated by a "
        what += f"{NAMES[delimiter]}; {_mend_separator(other, delimiter)}"
    elif unnamed is not None:
        what = f"the header gives field {unnamed} of {len(header)} no name; name it, or leave the column out"
    elif len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        what = f"the header names the field {bounded(repr(twice), 80)} twice; rename one of them"
    if what is not None:
        raise DataError(what, file=path, line=line)


def _mend_separator(found: str, delimiter: str) -> str:
    if found in ENDINGS:
        return f"let the file's name end in {ENDINGS[found]}"
    return f"save the file with a {NAMES[delimiter]} between fields"


def _ragged(found: int, width: int, delimiter: str) -> str:
    mark = NAMES[delimiter]
    what = f"has {found} field{'s' * (found != 1)}, the header has {width}"
    if found > width:
        return f"{what}; a {mark} inside a field needs double quotes around the field"
    return f"{what}; an empty field keeps its {mark}, and a line break inside a field needs double quotes around it"
