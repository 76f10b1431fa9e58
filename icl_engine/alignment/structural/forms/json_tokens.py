"""The signs, texts and words of JSON that a model misspelt."""

from __future__ import annotations

import math
import re
from typing import Any

QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u201e": "\u201d\u201c", "\u2018": "\u2019", "`": "`"}
"""Opening quote -> the quotes that close it."""


def _string(opening: str, closing: str, *, inner: bool) -> str:
    """A quoted text; with `inner`, a quote closes it only before a comma, colon, bracket or line break."""
    marks = re.escape(closing)
    own = rf"|[{marks}](?!\s*(?:[,:}}\]]|\Z)|[^\S\n]*\n)" if inner else ""
    opening = r"`(?!``)" if opening == "`" else opening
    return rf"{opening}(?:[^{marks}\\]|\\.{own})*+[{marks}]"


def _tokens(*, inner: bool) -> re.Pattern[str]:
    strings = "|".join(_string(opening, closing, inner=inner) for opening, closing in QUOTES.items())
    return re.compile(
        rf"""(?P<gap>\s++|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/|\#[^\n]*+)
            |(?P<mark>[{{}}\[\],:])
            |(?P<string>{strings})
            |(?P<word>[^\s{{}}\[\],:"`\u201c\u201d]++(?:[^\S\n]++(?!//|/\*|\#)[^\s{{}}\[\],:"`\u201c\u201d]++)*+)
        """,
        re.VERBOSE | re.DOTALL,
    )


SPLITS = (_tokens(inner=False), _tokens(inner=True))

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_SPELT = {"true": True, "false": False, "null": None, "none": None, "nan": None, "undefined": None}
_MARKS = frozenset("\\\"'`;")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SUM = re.compile(r"[\"'`]\s*+\+\s*+[\"'`]")
"""Texts that a program would put together."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}


class UnclearError(Exception):
    """What is no JSON however it is mended."""


def unquoted(said: str) -> str:
    """The text between quotes, with the escapes of JSON, Python and JavaScript."""

    def plain(escape: re.Match[str]) -> str:
        sign = escape[1]
        if len(sign) > 1:
            return chr(int(sign[1:], 16))
        return _ESCAPES.get(sign, f"\\{sign}" if sign.isalnum() else sign)  # C:\path

    if _SUM.search(said):
        raise UnclearError
    try:  # an escaped character may come as two halves
        return _ESCAPE.sub(plain, said[1:-1]).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError:
        raise UnclearError from None


def spelt(said: str, *, key: bool) -> Any:
    """What a word without quotes stands for."""
    if key and re.fullmatch(r"[\w$-]+", said):
        return said
    if not key and said.casefold() in _SPELT:
        return _SPELT[said.casefold()]
    if not key and _NUMBER.fullmatch(said):
        number = float(said)
        if not math.isfinite(number):
            raise UnclearError
        return int(said) if re.fullmatch(r"[-+]?\d{1,18}", said) else number
    several = all(map(_NUMBER.fullmatch, said.split()))
    if (
        key
        or several
        or "..." in said
        or not _MARKS.isdisjoint(said)
        or "infinity" in said.casefold()
        or not any(c.isalnum() for c in said)
    ):
        raise UnclearError
    return said
