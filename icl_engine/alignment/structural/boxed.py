r"""`boxed`: what stands in ``\boxed{…}``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from icl_engine.alignment.structural.forms.latex import boxes
from icl_engine.alignment.text import canon_text, said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Boxed(Aligner):
    r"""The text in a ``\boxed{…}``, braces balanced: how answers to MATH (Hendrycks et al. 2021) are given.

    Later steps read what is left. Expressions are compared by the metric `numeric` with ``equal: math``.

    Args:
        take: of several boxes the ``first`` or the ``last``.

    >>> Boxed().apply(Reading(text=r"So $x = \boxed{\frac{\sqrt{3}}{2}}$.")).value
    '\\frac{\\sqrt{3}}{2}'
    >>> Boxed().apply(Reading(text="no idea")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["boxed"] = "boxed"
    take: Literal["first", "last"] = "last"

    def write(self, target: Any) -> str:
        r"""The target in ``\boxed{…}``; a target that has a box as it stands."""
        text = text_of(target)
        return text if boxes(text) else rf"\boxed{{{text}}}"

    def canon(self, value: Any) -> str:
        """What stands in the target's box, or all of it where there is none.

        Raises:
            ValueError: it is empty, or its braces are not balanced.
        """
        found = boxes(self.write(value))
        text = canon_text(found[0 if self.take == "first" else -1]) if found else ""
        if not text or boxes(text) or boxes(rf"\boxed{{{text}}}") != [text]:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} is empty, or its braces are not balanced")
        return text

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take what stands in the box; without one, or with an empty one, status ``unparsed``."""
        found = boxes(said(reading))
        if not found:
            return unread(reading, self.use, "no box")
        try:
            taken = self.canon(found[0 if self.take == "first" else -1])
        except ValueError:
            return unread(reading, self.use, "a box that cannot be read")
        return took(reading, self.use, taken, text=taken)
