"""What a text file has to be: UTF-8, and what its name says. What it is instead is told with the way to mend it."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from icl_engine.errors import DataError, bounded

EXCEL = "save the sheet as CSV (UTF-8)"
DISGUISES: dict[bytes, str] = {
    b"PK\x03\x04": f"is a ZIP archive (an Excel file?); unpack it, or {EXCEL}",
    b"\xd0\xcf\x11\xe0": f"is an Excel file of the old kind; {EXCEL}",
    b"\x1f\x8b": "is gzip data; let its name end in .gz",
    b"PAR1": "is a Parquet file; let its name end in .parquet",
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""The first bytes of what is no UTF-8 text -> what to say of it, or the encoding; the longer mark stands first."""


def begin(path: Path, file: BufferedReader) -> bool:
    """Step over a byte order mark; whether anything comes after it.

    Raises:
        DataError: the first bytes are those of something else than UTF-8 text.
    """
    head = file.peek(4)[:4]
    for mark, what in DISGUISES.items():
        if head.startswith(mark):
            what = f"is {what} text, not UTF-8; {convert(path, what)}" if what.startswith("UTF") else what
            raise DataError(what, file=path)
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return bool(file.peek(1))


def decoded(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    """The lines as text.

    Raises:
        DataError: one is not UTF-8, or holds a NUL byte.
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(path, line, number, error) from error
        if "\0" in text:
            raise _nul(path, line, number)
        yield text


def wrong_bytes(path: Path, lines: Iterable[bytes], first: int = 1) -> DataError | None:
    """The first byte in some lines that is no UTF-8 text, as the mistake it is; None where all are."""
    for number, line in enumerate(lines, start=first):
        # UTF-16 without a byte order mark may fail either way; its NUL bytes tell what it is.
        if b"\0" in line:
            return _nul(path, line, number)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return _not_utf8(path, line, number, error)
    return None


def convert(path: Path, encoding: str) -> str:
    """The command that makes UTF-8 of a file.

    >>> convert(Path("my rows.csv"), "UTF-16")
    "convert it: iconv -f UTF-16 -t UTF-8 'my rows.csv' > 'utf8-my rows.csv'"
    >>> convert(Path("rows.csv.gz"), "UTF-16")
    'convert it: gunzip -c rows.csv.gz | iconv -f UTF-16 -t UTF-8 > utf8-rows.csv'
    """
    name = shlex.quote(path.name)
    if path.suffix.lower() != ".gz":
        return bounded(f"convert it: iconv -f {encoding} -t UTF-8 {name} > {shlex.quote('utf8-' + path.name)}")
    new = shlex.quote("utf8-" + path.stem)
    return bounded(f"convert it: gunzip -c {name} | iconv -f {encoding} -t UTF-8 > {new}")


def _not_utf8(path: Path, line: bytes, number: int, error: UnicodeDecodeError) -> DataError:
    if b"\0" in line:
        return _nul(path, line, number)
    column = len(line[: error.start].decode()) + 1
    what = f"column {column}: the byte 0x{line[error.start]:02X} is not UTF-8; it looks like Latin-1 or Windows-1252"
    return DataError(f"{what}; {convert(path, 'WINDOWS-1252')}", file=path, line=number)


def _nul(path: Path, line: bytes, number: int) -> DataError:
    at = line.index(b"\0")
    what = f"column {len(line[:at].decode(errors='replace')) + 1}: holds a NUL byte"
    # Latin letters in UTF-16 have a NUL as every second byte: before each where the byte order is big-endian.
    if line.count(b"\0") * 4 >= len(line):
        order = "BE" if line[::2].count(b"\0") > line[1::2].count(b"\0") else "LE"
        what += f", as UTF-16 text does; {convert(path, 'UTF-16' + order)}"
    else:
        what += r"; if the rest is text, take it out: tr -d '\000'"
    return DataError(what, file=path, line=number)
