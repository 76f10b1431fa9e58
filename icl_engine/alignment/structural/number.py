"""`number`: a number in the text."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Literal

from icl_engine.alignment.text import text_of
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_NUMBER = re.compile(
    r"""(?<![^\W_])(?<!\d\.)(?P<slash>(?<=/))?        # not inside a word or another number
        (?:[$€£¥]\s?)?(?P<sign>[-+\u2212])?(?:[$€£¥]\s?)?   # -5, −5, $5, -$5; in "10 - 3" there is no sign
        (?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\.)\.\d+)
        (?P<exponent>[eE][-+]?\d+(?!\w))?
        (?(slash)|(?:\s?/\s?(?P<below>\d+(?:,\d{3})*(?:\.\d+)?)(?![\d/]))?)   # 3/4, but not 12/25/2020
    """,
    re.VERBOSE,
)
_LARGEST = 2**63
"""Whole numbers from here on are kept as floating point, as JSON readers do."""
_DIGITS = 2000
"""What is longer is no number that anyone meant."""


class Number(Aligner):
    """The first or last number of the text: signs, thousands separators, currency, percent, decimals, fractions.

    Numbers are compared by value: 29 = 29.00 = "$29". A percent sign is dropped (50% = 50).

    Args:
        take: the ``first`` number of the text, or the ``last``.

    >>> Number().apply(Reading(text="She pays 3 * $9 + $2 = $1,029.00 in all.")).value
    1029
    >>> [Number().canon(v) for v in ("-0.50", "3/4", 7.0, "12 apples")]
    [-0.5, 0.75, 7, 12]
    >>> Number().apply(Reading(text="no idea")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["number"] = "number"
    take: Literal["first", "last"] = "last"

    def write(self, target: Any) -> str:
        """The target as it stands in the data."""
        return text_of(target)

    def canon(self, value: Any) -> int | float:
        """The number as int where it is whole, else as float."""
        found = _numbers(text_of(value))
        if len(found) != 1:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} holds {len(found) or 'no'} numbers, not one")
        return found[0]

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take a number of what is left of the text; none is status ``unparsed``."""
        found = _numbers(reading.text or "")
        if not found:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "number: none"))
        taken = found[0 if self.take == "first" else -1]
        return replace(
            reading, text=str(taken), value=taken, trace=(*reading.trace, f"number: {taken} of {len(found)}")
        )


def _numbers(text: str) -> list[int | float]:
    return [value for match in _NUMBER.finditer(text) if (value := _value(match)) is not None]


def _value(match: re.Match[str]) -> int | float | None:
    """The number a match spells; None where it is none that a computer holds (1e999, 1/0)."""
    digits = match["digits"].replace(",", "") + (match["exponent"] or "")
    if len(match[0]) > _DIGITS:
        return None
    try:
        exact, below = Decimal(digits), Decimal((match["below"] or "1").replace(",", ""))
        rough = float(exact) / float(below)
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(rough):
        return None
    whole = below == 1 and abs(exact) < _LARGEST and exact == exact.to_integral_value()
    value: int | float = int(exact) if whole else rough
    value = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST else value
    return -value if match["sign"] in ("-", "\u2212") else value
