"""`number`: a number in the text."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, ClassVar, Literal

from icl_engine.alignment.structural.forms.latex import boxes
from icl_engine.alignment.structural.forms.number_words import in_words
from icl_engine.alignment.structural.forms.numerals import DIGITS, LARGEST, Numeral, Numerals
from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.text import said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Number(Aligner):
    r"""The first or last number of the text: signs, thousands separators, currency, percent, decimals, fractions.

    Numbers are compared by value: 29 = 29.00 = "$29" = 29 EUR; units are dropped (5 km = 5). Read too: 1½,
    ``\frac{3}{4}``, 3.2 × 10^5, 2^10, 3.5 million, 2k, $3M, digits of any script, ``1\,000``, and, where a short answer
    holds no digits, a number in English words. What stands in the last ``\boxed{…}`` wins over all else; with
    ``take: last`` next comes what directly follows the last "the answer is", "Answer:" or "####".

    Passed over: dates, times, telephone numbers, versions, digits inside words, "Step 2:", the numbers of a list, and
    "not 12". Where what is to be taken is part of a range (3-4), of an expression (5 + 7, 2π), of a ratio or of
    "12 or 13", or may have a decimal comma (3,14), or shares its box, the answer is ``unparsed``.

    Args:
        take: the ``first`` number of the text, or the ``last``.
        decimal: the decimal mark; with a comma 1.234,5 is 1234.5.
        percent: what becomes of a percent sign: ``drop`` it (50% = 50), or read a ``fraction`` (50% = 0.5).

    >>> Number().apply(Reading(text="She pays 3 * $9 + $2 = $1,029.00 in all.")).value
    1029
    >>> [Number().canon(v) for v in ("-0.50", "3/4", 7.0, "12 apples")]
    [-0.5, 0.75, 7, 12]
    >>> Number().apply(Reading(text="It takes 3-4 days")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["number"] = "number"
    take: Literal["first", "last"] = "last"
    decimal: Literal[".", ","] = "."
    percent: Literal["drop", "fraction"] = "drop"

    def write(self, target: Any) -> str:
        """The target as it stands in the data; a number with the decimal mark asked for."""
        text = text_of(target)
        return text.replace(".", ",") if self.decimal == "," and _is_number(target) else text

    def canon(self, value: Any) -> int | float:
        """The number as int where it is whole, else as float."""
        if _is_number(value):
            return _plain(value)
        text = text_of(value)
        n = sum(1 for _ in self._numerals(text))
        found = self._found(text) if n <= 1 else None
        if found is None or (n == 0 and found.value is None):
            raise ValueError(f"target {bounded(text, 60)!r} holds {n or 'no'} numbers, not one")
        if found.value is None:
            raise ValueError(f"target {bounded(text, 60)!r} is not one number: {found.why}")
        return found.value

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take a number of what is left of the text; none is status ``unparsed``."""
        found = self._found(said(reading))
        if found is None or found.value is None:
            return unread(reading, "number", (found.why if found else "") or "none")
        return took(reading, "number", found.value, text=str(found.value))

    def _numerals(self, text: str) -> Numerals:
        return Numerals(text, self.decimal, self.percent == "fraction")

    def _found(self, text: str) -> Numeral | None:
        if boxed := boxes(text):
            return self._numerals(boxed[-1]).alone if len(boxed[-1]) < DIGITS else Numeral(None, "too much in the box")
        last = self.take == "last"
        heard = turn(text)
        places = [*_windows(heard, last), *(_windows(text, last) if heard != text else ())]
        found = next((n for place in places if (n := self._numerals(place).taken(last)) is not None), None)
        words = in_words(text) if found is None else None
        return Numeral(words) if words is not None else found


_WINDOW = 8_000
"""Characters at the end (or the beginning) of a long answer that are looked at first, and then at the other end."""


def _windows(text: str, last: bool) -> tuple[str, ...]:
    """The parts of a text to look at, in order: all of it, or its two ends, cut at white space."""
    if len(text) <= _WINDOW:
        return (text,)
    head, tail = text[:_WINDOW], text[-_WINDOW:]
    ends = (head[: head.rfind(" ") + 1] or head, tail[tail.find(" ") + 1 :])
    return ends[::-1] if last else ends


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: float) -> int | float:
    """A number as readers give it, by its decimal spelling: int where it is whole and below 2^63."""
    try:
        rough = float(value)
    except OverflowError:
        rough = math.inf
    if not math.isfinite(rough):
        raise ValueError("target is not finite, or larger than 64-bit floating point holds")
    exact = Decimal(repr(value))
    return int(exact) if exact == exact.to_integral_value() and abs(exact) < LARGEST else rough
