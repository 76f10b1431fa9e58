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

    def write(self, target: Any) -> str:
        """The items with the separator between (and a space, where the separator is one mark)."""
        items = self.canon(target)
        gap = f"{self.separator} " if not self.separator[-1].isspace() else self.separator
        return gap.join(items) if items else self.empty

    def canon(self, value: Any) -> list[str]:
        """The items as texts; a text is cut as the model's is.

        Raises:
            ValueError: an item holds the separator or a line break, so that it could not be read back.
        """
        if not isinstance(value, list | tuple):
            return self._cut(text_of(value))
        for item in map(text_of, value):
            if self.separator in item or len(item.splitlines()) > 1:
                raise ValueError(f"the item {bounded(item, 60)!r} holds the list's separator {self.separator!r}")
        return self._kept(map(text_of, value))

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Cut what is left of the text; an empty text is status ``unparsed``."""
        text = (reading.text or "").strip()
        if not text:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "list: no text"))
        items = self._cut(text)
        return replace(reading, value=items, trace=(*reading.trace, f"list: {len(items)} items"))

    def _cut(self, text: str) -> list[str]:
        return self._kept(item for line in text.splitlines() for item in line.split(self.separator))

    def _kept(self, items: Any) -> list[str]:
        bare = [_BULLET.sub("", item.strip(), count=1).strip() for item in items]
        found = [item for item in bare if item]
        return [] if found == [self.empty] else found
