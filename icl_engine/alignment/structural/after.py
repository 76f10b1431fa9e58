"""`after`: what stands behind a phrase, as in "… So the answer is 12."."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.text import canon_text, text_of
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class After(Aligner):
    r"""The text behind `marker`, without outer white space and without full stops at its end.

    The answer extraction of chain-of-thought prompting (Wei et al. 2022; the full stop as in BIG-Bench-Hard, Suzgun et
    al. 2022). Later steps read what is left: `number`, `choice`, `verbalizer`.

    Args:
        marker: the phrase, compared without regard to case and to the kind of white space.
        take: behind the ``first`` marker or the ``last``.
        until: to the end of the ``line`` (of the first that is not empty) or to the ``end`` of the text.

    >>> After().apply(Reading(text="4 + 8 = 12. So the answer is 12.\n\nQ: …")).value
    '12'
    >>> After(marker="Answer:").apply(Reading(text="I do not know")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["after"] = "after"
    marker: str = Field(default="the answer is", min_length=1)
    take: Literal["first", "last"] = "last"
    until: Literal["line", "end"] = "line"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        phrase = r"\s+".join(map(re.escape, self.marker.split())) or re.escape(self.marker)
        # "A:" is not in "Data:".
        return re.compile((r"(?<!\w)" if self.marker.lstrip()[:1].isalnum() else "") + phrase, re.IGNORECASE)

    @staticmethod
    def _bare(text: str) -> str:
        return canon_text(text).rstrip(". \t\r\n")

    def write(self, target: Any) -> str:
        """The target as text: the phrase itself is the template's, or `input.answer`'s, to show."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """Text without outer white space and without full stops at its end.

        Raises:
            ValueError: it could not be read back: nothing is left, or it holds the phrase, or a line break.
        """
        text = self._bare(text_of(value))
        if not text:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} is empty")
        if self._pattern.search(text) or (self.until == "line" and len(text.splitlines()) > 1):
            raise ValueError(f"target {bounded(text, 60)!r} holds the marker or a line break, and cannot be read back")
        return text

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take what stands behind the phrase; without the phrase, or with nothing behind it, status ``unparsed``."""
        ends = [m.end() for m in self._pattern.finditer(reading.text or "")]
        if not ends:
            return replace(
                reading, value=None, status="unparsed", trace=(*reading.trace, f"after: no {self.marker[:80]!r}")
            )
        rest = (reading.text or "")[ends[0 if self.take == "first" else -1] :].lstrip(": \t\r\n")
        taken = self._bare(next(iter(rest.splitlines()), "") if self.until == "line" else rest)
        if not taken:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "after: nothing follows"))
        return replace(reading, text=taken, value=taken, trace=(*reading.trace, f"after: {taken[:80]!r}"))
