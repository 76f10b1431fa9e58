"""The JSON values of a text, in prose and fences, as they stand or repaired."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.structural.forms.repair import begins, repaired

_TRIES = 64
"""Beginnings that are tried in one text: hostile text may be all brackets."""
_REPAIRS = 3
"""Values in one text that are broken, or have to be repaired."""

_OPENING = re.compile(r"\{|(?<![\w)\]])\[|(?<=```json)\[")
"""A bracket that a value may begin with: that of row["name"] is none."""


_FIRM = re.compile(r"\{|\[\s*+[\[{\"'\u201c]")
"""What begins a value for sure, unlike the interval [0, 1)."""
_DECODER = json.JSONDecoder()


class Found(NamedTuple):
    """A JSON value that stands in a text.

    Args:
        value: plain data.
        repaired: whether it had to be repaired.
    """

    value: Any
    repaired: bool


def values(text: str, *, repair: bool = True, schema: bool = False) -> Iterator[Found]:
    r"""The whole text, else the objects and lists in it: first those that are JSON, then those that are nearly.

    What stands inside a broken or cut-off value is not a value of the text.

    Args:
        text: what a model said.
        repair: whether to repair what is no JSON.
        schema: whether a schema will judge the values, so that closing brackets may be missing at the end.

    >>> [found.value for found in values('Not [sic], {"a": "}"} or {b: 1,}.')]
    [{'a': '}'}, {'b': 1}]
    """
    whole = plain(text.strip())
    if whole is not ...:
        yield Found(whole, False)
        return
    yield from _inside(turn(text), repair=repair, schema=schema)


def plain(text: str) -> Any:
    """The value of a text that is all JSON, if it can be written again (not too deep, no half characters); else `...`.

    >>> plain("[1]"), plain("[1,]")
    ([1], Ellipsis)
    """
    try:
        value = orjson.loads(text)
    except ValueError:
        return ...
    return value if _is_writable(value) else ...


def _is_writable(value: Any) -> bool:
    """Whether a run directory can hold it: not too deep, no half characters."""
    try:
        orjson.dumps([[value]])
    except TypeError:
        return False
    return True


def _inside(text: str, *, repair: bool, schema: bool) -> Iterator[Found]:
    later: list[Any] = []
    at, repairs = 0, _REPAIRS
    for _ in range(_TRIES):
        opening = _OPENING.search(text, at)
        if opening is None:
            break
        start = opening.start()
        end, cut = _end(text, start)
        value = ... if end is None else plain(text[start:end])
        if end is not None and value is not ...:
            yield Found(value, False)
        elif begins(text, start):
            mended = next(repaired(text, start, schema=schema), None) if repair else None
            later += [] if mended is None else [mended[0]]
            end = mended[1] if mended else _closing(text, start)
            repairs -= 1
            cut = (cut and mended is None) or repairs == 0 or (end is None and _FIRM.match(text, start) is not None)
        if cut:
            break
        at = start + 1 if end is None else end
    yield from (Found(value, True) for value in later if _is_writable(value))


def _end(text: str, start: int) -> tuple[int | None, bool]:
    """Where the JSON value at a place ends, None for none, and whether there is none since the text ends inside."""
    try:
        return _DECODER.raw_decode(text, start)[1], False
    except json.JSONDecodeError as error:
        return None, error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        return None, False


_BRACKETS = re.compile(r"[\[\]{}]")


def _closing(text: str, start: int) -> int | None:
    """Where the bracket at a place is closed, whatever stands inside; None where it is not."""
    depth = 0
    for bracket in _BRACKETS.finditer(text, start):
        depth += 1 if bracket[0] in "[{" else -1
        if depth == 0:
            return bracket.end()
    return None
