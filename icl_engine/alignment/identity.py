"""`identity`: the model's text is the answer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from icl_engine.alignment.text import canon_text, said, text_of, took
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Identity(Aligner):
    r"""ŷ = the text, without outer white space unless `strip` is false.

    Identity alignment of the survey (arXiv 2506.04650): the model's own output space is the task's.

    Args:
        strip: take away white space around the text.

    >>> Identity().apply(Reading(text=" Paris\n")).value
    'Paris'
    """

    kind: ClassVar[Kind] = "identity"

    use: Literal["identity"] = "identity"
    strip: bool = True

    def write(self, target: Any) -> str:
        """The target as text."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """The text, stripped as asked."""
        return canon_text(value) if self.strip else text_of(value)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take what is left of the text as the value; an empty answer is read as an empty answer."""
        return took(reading, self.use, self.canon(said(reading)))
