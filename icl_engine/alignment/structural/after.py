"""`after`: what stands behind a phrase, as in "… So the answer is 12."."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from icl_engine.alignment.text import quoted, said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class After(Aligner):
    r"""The text behind `marker`, without outer white space and without full stops at its end.

    The answer extraction of chain-of-thought prompting (Wei et al. 2022; the full stop as in BIG-Bench-Hard, Suzgun et
    al. 2022). The marker may stand in bold ("**Answer:** 12", "**Answer**: 12"). Later steps read what is left:
    `number`, `choice`, `verbalizer`.

    Args:
        marker: the phrase, or several of which any counts, compared without regard to case and to the kind of white
            space; it ends no earlier than a word does ("the answer is" is not in "the answer isn't").
        take: behind the ``first`` marker or the ``last``.
        until: to the end of the ``line`` (of the first that is not empty) or to the ``end`` of the text.

    >>> After().apply(Reading(text="4 + 8 = 12. So the answer is 12.\n\nQ: …")).value
    '12'
    >>> After(marker=["Answer:", "####"]).apply(Reading(text="**Answer:** Paris")).value
    'Paris'
    >>> After(marker="Answer:").apply(Reading(text="I do not know")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["after"] = "after"
    marker: str | tuple[str, ...] = "the answer is"
    take: Literal["first", "last"] = "last"
    until: Literal["line", "end"] = "line"

    @field_validator("marker", mode="before")
    @classmethod
    def _some(cls, marker: Any) -> Any:
        several = marker if isinstance(marker, list | tuple) else [marker]
        if not several or not all(isinstance(one, str) for one in several):
            raise ValueError("takes text, or a list of texts")
        if not all(several):
            raise ValueError("a marker has at least 1 character")
        return marker if isinstance(marker, str) else tuple(marker)

    @property
    def _markers(self) -> tuple[str, ...]:
        return (self.marker,) if isinstance(self.marker, str) else self.marker

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Of two markers that begin at one place, the longer.
        return re.compile("|".join(map(_phrase, sorted(self._markers, key=len, reverse=True))), re.IGNORECASE)

    def write(self, target: Any) -> str:
        """The target as text: the phrase itself is the template's, or `input.answer`'s, to show."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """Text without outer white space and without full stops at its end.

        Raises:
            ValueError: it could not be read back: nothing is left, or it holds the phrase, or a line break.
        """
        text = _bare(text_of(value))
        if not text:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} is empty")
        if self._pattern.search(text) or (self.until == "line" and len(text.splitlines()) > 1):
            raise ValueError(f"target {bounded(text, 60)!r} holds the marker or a line break, and cannot be read back")
        return text

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take what stands behind the phrase; without the phrase, or with nothing behind it, status ``unparsed``."""
        text = said(reading)
        ends = [m.end() for m in self._pattern.finditer(text)]
        if not ends:
            return unread(reading, self.use, f"no {' or '.join(map(quoted, self._markers[:3]))}")
        rest = text[ends[0 if self.take == "first" else -1] :]
        rest = rest[_LEAD.match(rest).end() :]  # type: ignore[union-attr]  # it matches nothing too
        taken = _bare(next(iter(rest.splitlines()), "") if self.until == "line" else rest)
        return took(reading, self.use, taken, text=taken) if taken else unread(reading, self.use, "nothing follows")


_LEAD = re.compile(r"(?:[\s:]|[*_]{1,3}(?=[\s:]))*+")
"""What stands between a phrase and the answer: white space, a colon, the end of bold type."""


def _phrase(marker: str) -> str:
    """A pattern for a phrase: bold type may end before its colon; "A:" is not in "Data:", nor "is" in "isn't"."""
    words = [r"[*_]{0,3}".join(map(re.escape, re.findall(r"\w+|[^\w\s]+", word))) for word in marker.split()]
    bare = marker.strip()
    begins = r"(?<!\w)" if bare[:1].isalnum() else ""
    ends = r"(?![^\W\d_]|['’]t)" if bare[-1:].isalpha() else ""
    return begins + (r"[*_]{0,3}\s++[*_]{0,3}".join(words) or re.escape(marker)) + ends


def _bare(text: str) -> str:
    """What stands behind a phrase without the white space, full stops and half of bold type around it."""
    text = text[_LEAD.match(text).end() :]  # type: ignore[union-attr]
    while True:
        bare = text.rstrip(". \t\r\n").rstrip()
        for mark in ("**", "__"):
            if bare.endswith(mark) and bare.count(mark) % 2:
                bare = bare.removesuffix(mark)
        if bare == text:
            return bare
        text = bare
