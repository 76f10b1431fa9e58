"""Data files, row by row: JSONL, JSON, CSV, TSV and Parquet, the texts also gzipped.

Another format is one function and one line in `READERS`.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePath
from typing import Any

import orjson

from icl_engine.data.json_list import JsonListError, objects
from icl_engine.data.separated import separated
from icl_engine.data.text import begin, wrong_bytes
from icl_engine.errors import DataError, MissingExtraError, bounded, did_you_mean

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int | None, Row]]
"""(line in the file, counted from 1, where the format has lines; the row)"""

Reader = Callable[[Path, BufferedReader], NumberedRows]
"""From a file's name, for errors, and its bytes, unpacked, to its rows."""

GZIP = ".gz"
BAD_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
NO_FILE = "no such file"
BATCH = 1024
"""Parquet rows that are made into Python values at a time."""


def rows(path: Path) -> NumberedRows:
    """The rows of a file, streamed.

    Raises:
        DataError: no such file, an unknown ending, or a bad row, named by its line or number.
    """
    suffix = PurePath(_unpacked(path.name)).suffix
    reader = READERS.get(suffix.lower())
    if reader is None:
        raise DataError(f"unknown data format {suffix or path.suffix!r}{did_you_mean(suffix, READERS)}", file=path)
    if not path.is_file():
        raise DataError(NO_FILE, file=path)
    try:
        with _opened(path) as file:
            yield from reader(path, file)
    except BAD_GZIP as error:
        raise DataError(_bad_gzip(path), file=path) from error
    except DataError as error:
        if _damaged(path):  # then what was wrong with a row is only what came of that
            raise DataError(_bad_gzip(path), file=path) from error
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or bounded(str(error))}", file=path) from error


def ending(name: str) -> str | None:
    """The part of a file's name that tells its format; None where it tells none that is known.

    >>> ending("reviews.jsonl.gz"), ending("test.Parquet"), ending("notes.txt")
    ('.jsonl.gz', '.Parquet', None)
    """
    plain = _unpacked(name)
    suffix = PurePath(plain).suffix
    return suffix + name[len(plain) :] if suffix.lower() in READERS else None


def common_ending(names: Iterable[str]) -> str | None:
    """The ending that most of the data files among some names have; None where none is a data file.

    >>> common_ending(["a.csv", "b.jsonl.gz", "c.jsonl.gz", "README.md"])
    '.jsonl.gz'
    """
    tally = Counter(filter(None, map(ending, names)))
    return min(tally, key=lambda e: (-tally[e], e), default=None)


def _unpacked(name: str) -> str:
    return name[: -len(GZIP)] if name.lower().endswith(GZIP) else name


def _opened(path: Path) -> BufferedReader:
    if path.suffix.lower() != GZIP:
        return path.open("rb")
    # GzipFile gives lines one Python call at a time; the reader around it does not.
    return io.BufferedReader(gzip.open(path), 1 << 16)


def _bad_gzip(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return f"is not gzip data, though its name ends in {path.suffix}; name it {_unpacked(path.name)}"
    return "the gzip file is damaged or cut off; make it or fetch it again"


def _damaged(path: Path) -> bool:
    """Whether it is a gzip file that cannot be read to its end."""
    if path.suffix.lower() != GZIP:
        return False
    try:
        with _opened(path) as file:
            while file.read(1 << 20):
                pass
    except BAD_GZIP:
        return True
    return False


def _jsonl(path: Path, file: BufferedReader) -> NumberedRows:
    begin(path, file)
    loads = orjson.loads
    for number, line in enumerate(file, start=1):
        try:
            row = loads(line)
        except orjson.JSONDecodeError as error:
            if not line.strip():
                continue
            raise _not_json(path, line, number, error) from error
        if type(row) is not dict:
            mend = "; a list of objects is a .json file" if isinstance(row, list) else ""
            raise DataError(f"row is a {type(row).__name__}, not an object with fields{mend}", file=path, line=number)
        yield number, row


def _not_json(path: Path, line: bytes, number: int, error: orjson.JSONDecodeError) -> DataError:
    what = f"not JSON: {bounded(error.msg)} (column {error.pos + 1})"
    if line.strip() in (b"[", b"{"):
        what += "; a .jsonl file holds one object a line (a list over several lines is a .json file)"
    return wrong_bytes(path, [line], number) or DataError(what, file=path, line=number)


def _json(path: Path, file: BufferedReader) -> NumberedRows:
    if not begin(path, file):
        raise DataError("is empty; a .json data file is a list of objects", file=path)
    try:
        for row in objects(file):
            yield None, row
    except JsonListError as error:
        line = None if error.at is None else _line(path, error.at)
        raise _bad_byte(path) or DataError(str(error), file=path, line=line) from error


def _bad_byte(path: Path) -> DataError | None:
    with _opened(path) as file:
        return wrong_bytes(path, file)


def _line(path: Path, at: int) -> int:
    """The line that a byte of a file stands in."""
    line = 1
    with _opened(path) as file:
        while at > 0 and (chunk := file.read(min(at, 1 << 20))):
            at -= len(chunk)
            line += chunk.count(b"\n")
    return line


def _parquet(path: Path, file: BufferedReader) -> NumberedRows:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("Parquet data", "pyarrow", "hf") from error
    if path.suffix.lower() == GZIP:
        raise DataError(f"Parquet is compressed inside, not outside; unpack it: gunzip {path.name}", file=path)
    try:
        # With a buffer and without reading ahead, what is held is some pages of a row group, not the group.
        with parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as stored:
            plain = {"maps_as_pydicts": "lossy"} if "map<" in str(stored.schema_arrow) else {}
            for batch in stored.iter_batches(BATCH):
                for row in batch.to_pylist(**plain):
                    yield None, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"not a Parquet file, or a damaged one ({bounded(str(error), 120)}); make it or fetch it again"
        raise DataError(what, file=path) from error


READERS: dict[str, Reader] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": partial(separated, delimiter=","),
    ".tsv": partial(separated, delimiter="\t"),
    ".parquet": _parquet,
}
"""A name's ending -> its reader; gzip is taken off before, in `rows`."""
