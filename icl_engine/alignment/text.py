"""What the steps that read text share: how values are written and compared, how much is read, what the trace says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from icl_engine.types import Reading

LONGEST = 50_000
"""Characters of an answer that are read: of a longer one the beginning and the end, half each."""

_HALVES = re.compile("[\ud800-\udfff]+")

SHOWN = 80
"""Characters of what a trace quotes."""


def text_of(value: Any) -> str:
    """A value as text: strings as they are, all else as JSON, so that 1 equals "1" and true equals "true".

    >>> [text_of(v) for v in ("a ", 1, True, None, [1, "b"])]
    ['a ', '1', 'true', 'null', '[1, "b"]']
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def canon_text(value: Any) -> str:
    r"""What free-text answers are compared as: their text without outer white space.

    >>> canon_text(" 12 \n") == canon_text(12)
    True
    """
    return text_of(value).strip()


def capped(text: str) -> str:
    r"""A text of at most about `LONGEST` characters: hostile text must not cost more time than an answer is worth.

    Half characters (lone surrogates), which no file can hold, become question marks.

    >>> len(capped("x" * 10**6)), capped("short"), capped("half \ud800")
    (50001, 'short', 'half ?')
    """
    half = LONGEST // 2
    text = text if len(text) <= LONGEST else f"{text[:half]}\n{text[-half:]}"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def said(reading: Reading) -> str:
    """What is left to read of the answer, capped: what every step that reads text looks at.

    Half characters (lone surrogates), which no file can hold, are shown as U+FFFD.
    """
    return _HALVES.sub("\ufffd", capped(reading.text or ""))


def took(reading: Reading, step: str, value: Any, *, text: str | None = None, seen: str | None = None) -> Reading:
    """The reading once a step took a value; the trace tells what it took, and of what.

    Args:
        reading: as it was.
        step: the step's name.
        value: what it took.
        text: what is left to read for later steps; by default all that was.
        seen: what it looked at, where that is less than the reading's text.

    >>> took(Reading(text="It is 12."), "number", 12, text="12").trace
    ("number: 12, of 'It is 12.'",)
    """
    looked = said(reading) if seen is None else seen
    note = f"{step}: {quoted(value)}, of {quoted(looked)}"
    left = reading.text if text is None else text
    return replace(reading, text=left, value=value, status="ok", trace=(*reading.trace, note))


def unread(reading: Reading, step: str, why: str) -> Reading:
    """The reading where a step could read nothing; the trace tells why, and what it looked at.

    >>> unread(Reading(text="no idea"), "number", "no number").trace
    ("number: no number, in 'no idea'",)
    """
    note = f"{step}: {why}, in {quoted(said(reading))}"
    return replace(reading, value=None, status="unparsed", trace=(*reading.trace, note))


def quoted(value: Any) -> str:
    """A value in few characters on one line, for traces: of a long one the beginning and the end."""
    if isinstance(value, str):
        half = SHOWN // 2
        return repr(value if len(value) <= SHOWN else f"{value[:half]}…{value[-half:]}")
    shown = repr(value) if isinstance(value, bool | int | float) else text_of(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    return "".join(c if c.isprintable() else "\ufffd" for c in shown)
