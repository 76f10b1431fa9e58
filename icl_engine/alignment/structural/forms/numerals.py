"""Numbers as people and models write them, told from dates, times, ranges, expressions and digits inside words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from typing import Literal, NamedTuple

from icl_engine.alignment.structural.forms.latex import ascii_digits, plain
from icl_engine.alignment.structural.forms.numeral_patterns import (
    AREA,
    BULLET,
    COMPOUND,
    CUE,
    EQUATION,
    FORMULA,
    JOINED,
    LABEL,
    MINUS,
    MONEY,
    NOT,
    SCALE,
    SEVERAL,
    SUPERSCRIPT,
    TOKEN,
    UNSURE,
)

LARGEST = 2**63
"""Whole numbers from here on are kept as floating point, as JSON readers do."""
_LONGEST = 20_000
"""Characters of a text once it is spelt in ASCII: a vulgar fraction takes four."""
_TRIES = 200
"""Numbers that are looked at, and passed over, before a text is given up."""
DIGITS = 2000
"""What is longer is no number that anyone meant."""

Sign = Literal[".", ","]


class Numeral(NamedTuple):
    """A number in a text: its value, or why it is not one that was given as an answer."""

    value: int | float | None
    why: str = ""


class Numerals:
    """The numbers of a text, judged only where they are looked at: an answer may hold thousands.

    Args:
        text: what was said.
        decimal: the decimal mark, ``.`` or ``,``.
        fraction: whether 50% is 0.5 rather than 50.

    >>> [n.value for n in Numerals("3 * 4 = 12 on 2020-01-15")]
    [None, None, 12]
    """

    def __init__(self, text: str, decimal: Sign = ".", fraction: bool = False) -> None:
        text = plain(ascii_digits(text))[:_LONGEST]
        marked = {match.start(1) for match in LABEL.finditer(text)}
        self._bullets = _bullets(text)
        self._fraction = fraction
        self._text = text.translate(_SWAPPED) if decimal == "," else text
        self._tokens = [
            match
            for match in TOKEN.finditer(self._text)
            if match.lastgroup != "other" and match.start("digits") not in marked
        ]

    def __iter__(self) -> Iterator[Numeral]:
        """Every number and expression, in order."""
        return (n for i in range(len(self._tokens)) if (n := self._judged(i)) is not None)

    def taken(self, last: bool) -> Numeral | None:
        """The last number, or the first; None for none. A list's own numbers count only where there is no other."""
        if last and (said := self._answer()) is not None:
            return said
        places = range(len(self._tokens))
        spare = None
        for i in (places[::-1] if last else places)[:_TRIES]:
            if self._tokens[i].start("digits") in self._bullets:
                spare = spare or Numeral(self._value(i))
            elif (found := self._judged(i)) is not None:
                return found
        return spare if len(self._bullets) == 1 else None

    def _answer(self) -> Numeral | None:
        """The number directly behind the last "the answer is", where no equation begins there."""
        cues = list(CUE.finditer(self._text))
        if not cues:
            return None
        end = cues[-1].end()
        at = next((i for i, token in enumerate(self._tokens) if token.start() >= end), None)
        if at is None or self._tokens[at].start() > end + 1 or EQUATION.match(self._text, self._tokens[at].end()):
            return None
        found = self._judged(at)
        return found if found and found.value is not None else None

    @property
    def alone(self) -> Numeral:
        """The number of a text that holds one and no formula around it, as a box does; behind its last ``=``."""
        begun = max(self._text.rfind(mark) for mark in "=≈") + 1
        places = [i for i, token in enumerate(self._tokens) if token.start() >= begun]
        if len(places) != 1 or SEVERAL.search(self._text, 0, begun):
            return Numeral(None, f"{len(places) or 'no'} numbers in the box, not one")
        token = self._tokens[places[0]]
        rest = AREA.sub("", self._text[begun : token.start()] + " " + self._text[token.end() :])
        if formula := FORMULA.search(rest):
            return Numeral(None, f"a formula in the box: {formula[0]!r}")
        return self._judged(places[0]) or Numeral(None, "no number in the box")

    def _value(self, i: int) -> int | float | None:
        token = self._tokens[i]
        return None if token["number"] is None else _value(token, self._fraction)

    def _judged(self, i: int) -> Numeral | None:
        """A token as a number; None for what no computer holds, and for "not 12"."""
        token = self._tokens[i]
        if token["number"] is None:
            return Numeral(None, f"an expression or ratio: {token[0][:40]!r}")
        value = self._value(i)
        start, end = token.span()
        if value is None or NOT.search(self._text, max(0, start - 24), start):
            return None
        if UNSURE.match(self._text, end) or (token["letter"] and not _money(token)):
            return Numeral(None, f"no plain number: {self._text[start : end + 12]!r}")
        for left, right in ((i - 1, i), (i, i + 1)):
            if self._joined(left, right):
                both = self._text[self._tokens[left].start() : self._tokens[right].end()]
                return Numeral(None, f"a range, a choice or an expression: {both[:60]!r}")
        return Numeral(-value if MINUS.search(self._text, max(0, start - 10), start) else value)

    def _joined(self, left: int, right: int) -> bool:
        """Whether two neighbours are parts of one expression, range or measure, or said with equal right."""
        if left < 0 or right >= len(self._tokens):
            return False
        one, other = self._tokens[left], self._tokens[right]
        gap = other.start() - one.end()
        if gap > 24 or any(t["number"] and _value(t, self._fraction) is None for t in (one, other)):
            return False
        if one["number"] and COMPOUND.match(self._text, one.end()):
            return True
        if self._text[one.end() : other.start()] == " " and one["number"] and other["number"]:
            grouped = len(one["digits"]) <= 3 and len(other["digits"].partition(".")[0]) == 3
            return bool(other["sign"]) or grouped
        return JOINED.fullmatch(self._text, one.end(), other.start()) is not None


_SWAPPED = str.maketrans(".,", ",.")


def _bullets(text: str) -> set[int]:
    """Where the numbers of a numbered list stand: 1, and every one that follows the one before it."""
    places, due = set(), 1
    for match in BULLET.finditer(text):
        if int(match[1]) in (1, due):
            places.add(match.start(1))
            due = int(match[1]) + 1
    return places


def _money(token: re.Match[str]) -> bool:
    return token["money"] is not None or any(
        sign in MONEY for sign in token[0][: token.start("digits") - token.start()]
    )


def _power(token: re.Match[str], name: str) -> int | None:
    spelt = next((s for i in range(1, 5) if (s := token[f"{name}{i}"]) is not None), None)
    return None if spelt is None else int(spelt.translate(SUPERSCRIPT))


def _value(token: re.Match[str], fraction: bool = False) -> int | float | None:
    """The number a token spells; None where it is none that a computer holds (1e999, 1/0)."""
    if len(token[0]) > DIGITS:
        return None
    shift = int((token["exponent"] or "e0")[1:].translate(SUPERSCRIPT)) + (_power(token, "ten") or 0)
    shift += SCALE.get((token["scale"] or token["letter"] or "").lower(), 0)
    shift -= 2 if fraction and token["percent"] else 0
    digits = re.sub(r"[^\d.]", "", token["digits"])
    try:
        exact = Decimal(f"{digits}e{shift}")
        below = Decimal((token["below"] or "1").replace(",", ""))
        power = _power(token, "power")
        if token["above"] or token["half"]:
            above = Decimal(token["above"] or 1)
            below = below if token["above"] else Decimal(2)
            if above >= below:
                return None
            exact += above / below
            below = Decimal(1)
        rough = float(exact) / float(below)
        if power is not None:
            exact = exact**power
            rough = rough**power
    except (DecimalException, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(rough):
        return None
    whole = below == 1 and abs(exact) < LARGEST and exact == exact.to_integral_value()
    value: int | float = int(exact) if whole else rough
    value = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST else value
    return -value if token["sign"] in ("-", "\u2212") else value
