"""`date`: a calendar date in the text."""

from __future__ import annotations

import datetime
import re
from typing import Any, ClassVar, Literal, NamedTuple

from icl_engine.alignment.structural.forms.latex import ascii_digits, boxes, plain
from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.text import said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_ORDINAL = r"(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"""(?=[\djfmasond])(?<![\w/.-])(?:
        (?P<y1>\d{{4}})(?P<s1>[-/.\u2010-\u2013])(?P<m1>\d{{1,2}})(?P=s1)(?P<d1>\d{{1,2}})
            (?:[T\ ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d{{1,9}})?)?(?:\ ?Z|\ ?[-+]\d{{2}}:?\d{{2}})?)?
        | (?P<y2>(?:1[0-9]|20)\d\d)(?P<m2>0[1-9]|1[0-2])(?P<d2>0[1-9]|[12]\d|3[01])
        | (?P<a>\d{{1,2}})(?P<s3>[-/.\u2010-\u2013]|\.\ )(?P<b>\d{{1,2}})(?P=s3)(?P<y3>\d{{4}}|\d{{2}})
        | (?P<d4>\d{{1,2}}){_ORDINAL}[\ .-]{{1,2}}(?:day\ )?(?:of\ )?
            (?P<m4>{_NAME})\b[\ .,-]{{0,3}}(?:of\ )?(?P<y4>\d{{4}})
        | (?P<m5>{_NAME})\b\.?[\ -](?:the\ )?(?P<d5>\d{{1,2}}){_ORDINAL}(?:,\ ?|\ |-|,?\ of\ )(?P<y5>\d{{4}})
        | (?P<y6>\d{{4}})[\ ,-]{{1,2}}(?P<m6>{_NAME})\b\.?[\ -](?P<d6>\d{{1,2}}){_ORDINAL}
        | (?P<y7>\d{{4}})\ ?年\ ?(?P<m7>\d{{1,2}})\ ?月\ ?(?P<d7>\d{{1,2}})\ ?日
    )(?![\w/]|[-.]\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_NOT = re.compile(r"(?:\bnot(?:\son)?|n't(?:\son)?|\brather than|\binstead of)\s$", re.IGNORECASE)
_JOINED = re.compile(r",?\s?(?:or|to|until|through|[-\u2013\u2014/])\s?(?:on\s)?", re.IGNORECASE)
_MARKUP = str.maketrans({"*": None, "_": " ", "`": None, "\u00a0": " ", "\u202f": " ", "\u200e": None, "\u200f": None})


class Found(NamedTuple):
    """A date in a text, or why what looks like one is none."""

    iso: str | None
    why: str = ""


class Date(Aligner):
    """The first or last date of the text, as ISO 8601 writes it: ``2021-03-05``.

    Read are "2021-03-05", date-times (their date), "March 5, 2021", "5th of March 2021", "Mar. 5, 2021", "25.03.2021"
    and "03/25/2021". A date in figures that could be read both ways (03/04/2021) is ``unparsed`` until `order` is set;
    one with full stops (03.04.2021) has the day first, as in the countries that write it so. Years have four digits;
    of two, 00 to 68 are 2000 to 2068, and 69 to 99 are 1969 to 1999 (POSIX). A day that no calendar has, a month alone,
    and two dates with "or", "to" or a dash between them are ``unparsed``; "not 2021-03-05" is passed over.

    Args:
        take: the ``first`` date of the text, or the ``last``.
        order: of dates in figures: ``month_first`` (03/04/2021 is in March) or ``day_first`` (in April).

    >>> Date().apply(Reading(text="He was born on the 5th of March 2021.")).value
    '2021-03-05'
    >>> Date().apply(Reading(text="03/04/2021")).status, Date(order="day_first").canon("03/04/2021")
    ('unparsed', '2021-04-03')
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["date"] = "date"
    take: Literal["first", "last"] = "last"
    order: Literal["month_first", "day_first"] | None = None

    def write(self, target: Any) -> str:
        """The target as it stands in the data; a date of the YAML file as ISO 8601."""
        return target.isoformat() if isinstance(target, datetime.date) else text_of(target)

    def canon(self, value: Any) -> str:
        """The date as ``YYYY-MM-DD``.

        Raises:
            ValueError: it is not one date, or may be read both ways.
        """
        text = self.write(value)
        matches = _matches(text)
        if len(matches) != 1:
            raise ValueError(f"target {bounded(text, 60)!r} holds {len(matches) or 'no'} dates, not one")
        found = self._judged(matches[0])
        if found.iso is None:
            raise ValueError(f"target {found.why}")
        return found.iso

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take a date of what is left of the text; none is status ``unparsed``."""
        text = said(reading)
        boxed = boxes(text)
        matches = _matches(boxed[-1] if boxed else turn(text))
        if not matches:
            return unread(reading, self.use, "no date")
        at = 0 if self.take == "first" else len(matches) - 1
        found = self._judged(matches[at])
        for one, other in zip(matches[max(0, at - 1) : at + 1], matches[max(0, at - 1) + 1 : at + 2], strict=False):
            if _JOINED.fullmatch(one.string, one.end(), other.start()):
                found = Found(None, f"two dates with equal right: {one.string[one.start() : other.end()]!r}")
        if found.iso is None:
            return unread(reading, self.use, found.why)
        return took(reading, self.use, found.iso, text=found.iso)

    def _judged(self, match: re.Match[str]) -> Found:
        """A match as a date, if the calendar has it."""
        if match["a"] is not None:
            return self._figures(match)
        parts = {key[0]: value for key, value in match.groupdict().items() if value is not None}
        month = parts["m"]
        number = int(month) if month.isdecimal() else _MONTHS.index(month[:3].lower()) + 1
        return _dated(int(parts["y"]), number, int(parts["d"]), match[0])

    def _figures(self, match: re.Match[str]) -> Found:
        a, b, year = int(match["a"]), int(match["b"]), int(match["y3"])
        if len(match["y3"]) == 2:
            year += 2000 if year < 69 else 1900
        order = "day_first" if self.order is None and match["s3"].strip() == "." else self.order
        # A month beyond 12 tells the order, whatever was set: people do not always keep to theirs.
        first = a <= 12 and (b > 12 or a == b or order == "month_first")
        if order is None and a <= 12 and b <= 12 and a != b:
            return Found(None, f"{match[0]!r} may be read both ways; set order")
        return _dated(year, *((a, b) if first else (b, a)), match[0])


def _dated(year: int, month: int, day: int, spelt: str) -> Found:
    try:
        return Found(datetime.date(year, month, day).isoformat())
    except ValueError:
        return Found(None, f"{spelt[:40]!r} is in no calendar")


def _matches(text: str) -> list[re.Match[str]]:
    """What looks like a date, but for what is denied."""
    text = plain(ascii_digits(text)).translate(_MARKUP)
    found = _DATE.finditer(text)
    return [m for m in found if not _NOT.search(text, max(0, m.start() - 16), m.start())]
