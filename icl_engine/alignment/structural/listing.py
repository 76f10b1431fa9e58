"""`list`: several items on a line or on lines of their own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.text import text_of
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_BULLET = re.compile(r"(?:(?:[-*•–]|\d{1,3}[.)])\s+)+")


class Items(Aligner):
    r"""The items of the text, cut at `separator` and at line breaks, without bullets and numbers before them.

    Args:
        separator: stands between items.
        empty: how an empty list is written.

    >>> Items().apply(Reading(text=" red, green,blue\n")).value
    ['red', 'green', 'blue']
    >>> Items().apply(Reading(text="1. red\n2. green")).value
    ['red', 'green']
    >>> Items().write([]), Items().apply(Reading(text="none")).value
    ('none', [])
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["list"] = "list"
    separator: str = Field(default=",", min_length=1)
    empty: str = Field(default="none", min_length=1)

    def model_post_init(self, context: Any) -> None:
        """Refuse a word for an empty list that would be read as an item."""
        if self._cut(self.empty) or not self.empty.strip():
            raise ValueError(f"empty: {self.empty!r} would be read as items, not as an empty list")

    def write(self, target: Any) -> str:
        """The items with the separator between (and a space, where the separator is one mark)."""
        return self._joined(self.canon(target))

    def canon(self, value: Any) -> list[str]:
        """The items as texts; a text is cut as the model's is.

        Raises:
            ValueError: the items could not be read back: one holds the separator or a line break.
        """
        if not isinstance(value, list | tuple):
            return self._cut(text_of(value))
        items = self._kept(map(text_of, value))
        if self._cut(self._joined(items)) != items:
            culprit = next((item for item in items if self._cut(item) != [item]), items)
            shown = bounded(repr(culprit), 80)
            raise ValueError(f"the item {shown} holds the list's separator {self.separator!r} or a line break")
        return items

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Cut what is left of the text; an empty text is status ``unparsed``."""
        text = (reading.text or "").strip()
        if not text:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "list: no text"))
        items = self._cut(text)
        return replace(reading, value=items, trace=(*reading.trace, f"list: {len(items)} items"))

    def _joined(self, items: list[str]) -> str:
        gap = f"{self.separator} " if not self.separator[-1].isspace() else self.separator
        return gap.join(items) if items else self.empty

    def _cut(self, text: str) -> list[str]:
        return self._kept(item for line in text.splitlines() for item in line.split(self.separator))

    def _kept(self, items: Any) -> list[str]:
        found = [bare for item in items if (bare := _bare(item))]
        said = [item.rstrip(".").casefold() for item in found]
        return [] if said == [self.empty.strip().rstrip(".").casefold()] else found


def _bare(item: str) -> str:
    """An item without white space around it and without the bullet or number before it."""
    bullet = _BULLET.match(item.strip())
    return item.strip()[bullet.end() if bullet else 0 :].strip()
