"""A JSON list of objects, object by object, so that a long list is never held as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import orjson

from icl_engine.errors import bounded

CHUNK = 1 << 20
_SPACE = re.compile(rb"[ \t\n\r]*")
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}]', re.DOTALL)
"""A whole string, a brace outside strings, or the beginning of a string that goes on after what has been read."""


class JsonListError(ValueError):
    """The text is no list of objects.

    Args:
        what: why not.
        at: where, in bytes, if it is not even JSON.
    """

    def __init__(self, what: str, at: int | None = None) -> None:
        super().__init__(what)
        self.at = at


def objects(file: BufferedReader) -> Iterator[dict[str, Any]]:
    """The objects of a list.

    Raises:
        JsonListError: it is another value, holds something else than objects, or is not JSON.
    """
    text = _Window(file)
    if text.next() != b"[":
        raise JsonListError("a .json data file is a list of objects (for one object a line, name it .jsonl)")
    text.at += 1
    number, mark = 0, b","
    if text.next() == b"]":
        mark = b"]"
        text.at += 1
    while mark == b",":
        if text.next() != b"{":
            raise text.no_object(number)
        yield text.object()
        mark = text.next()
        if mark not in (b",", b"]"):
            raise text.not_json(f"after row {number} comes neither ',' nor ']'" if mark else "it is cut off")
        text.at += 1
        number += 1
    if text.next():
        raise text.not_json("something comes after the end of the list")


class _Window:
    """What has been read of a file and not yet used: `buffer` from `at` on, where `buffer` begins `base` bytes in."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.buffer, self.at, self.base = b"", 0, file.tell()

    def more(self) -> bool:
        """Read on. What waits for its end is doubled, so that a long row is not looked through again and again."""
        kept = self.buffer[self.at :]
        chunk = self._file.read(max(CHUNK, len(kept)))
        self.base += self.at
        self.buffer, self.at = kept + chunk, 0
        return bool(chunk)

    def next(self) -> bytes:
        """The next byte that is not white space, not yet taken; nothing at the end of the file."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at : self.at + 1]
            if not self.more():
                return b""

    def object(self) -> dict[str, Any]:
        """Take the object that begins here."""
        end = self.buffer.find(b"}", self.at) + 1
        try:
            # Most rows hold no object and end at their first brace; no beginning of an object is itself one.
            row: dict[str, Any] = orjson.loads(self.buffer[self.at : end])
        except orjson.JSONDecodeError:
            end = self._end()
            row = self._parsed(end)
        self.at = end
        return row

    def _parsed(self, end: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads(self.buffer[self.at : end])
        except orjson.JSONDecodeError as error:
            self.at += len(error.doc[: error.pos].encode())
            raise self.not_json(error.msg) from error
        return found

    def _end(self) -> int:
        """Where the object ends that begins here: at the brace that closes its first one, strings stepped over."""
        depth, seen = 0, 0
        while True:
            for mark in _MARK.finditer(self.buffer, self.at + seen):
                if mark[0] == b'"':
                    seen = mark.start() - self.at
                    break
                depth += (mark[0] == b"{") - (mark[0] == b"}")
                seen = mark.end() - self.at
                if not depth:
                    return self.at + seen
            if not self.more():
                raise self.not_json("the file ends inside a row; is it cut off?")

    def not_json(self, why: str) -> JsonListError:
        """The mistake that the text from here on is not JSON."""
        return JsonListError(f"not JSON: {bounded(why)}", self.base + self.at)

    def no_object(self, number: int) -> JsonListError:
        """The mistake that an item is no object."""
        if not self.next():
            return self.not_json("the file ends inside the list; is it cut off?")
        try:
            found: Any = json.JSONDecoder().raw_decode(self.buffer[self.at :].decode(errors="replace"))[0]
        except ValueError:
            return self.not_json(f"row {number} cannot be read")
        return JsonListError(f"row {number} is a {type(found).__name__}, not an object with fields")
