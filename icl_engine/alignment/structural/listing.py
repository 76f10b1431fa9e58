"""`list`: several items on a line or on lines of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.structural.forms.json_text import values
from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.text import LONGEST, said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_BULLET = re.compile(r"(?:(?:[-*•–]|\d{1,3}[.)])\s+)+")
_CUE = re.compile(
    r"(?:\*\*)?(?:so\s|the\s)?(?:final\s|sorted\s)?(?:answer|list|items?|result|output)(?:\sis|\sare)?:(?:\*\*)?\s*",
    re.IGNORECASE,
)
_JSON = re.compile(
    r"""\A\s{0,9}(?:```\w{0,9}\s{1,9})?[\[{]\s{0,9}[\"'\[\d\u201c\]]
       |[:\n]\s{0,9}(?:```\w{0,9}\s{1,9})?[\[{]\s{0,9}[\"'\u201c]""",
    re.VERBOSE,
)
"""A JSON list alone, or one of texts behind a colon or a line break."""
_AND = re.compile(r"(?:and|&)\s+", re.IGNORECASE)
_EMPTY = re.compile(r"(?:there are none|(?:the list is |an )?empty(?: list)?|no items)[.!]?", re.IGNORECASE)
_MARKUP = ("**", "__", "`", '"', "'", "\u201c\u201d", "\u2018\u2019", "*", "_")
_REFUSAL = re.compile(
    r"""(?:sorry|i'?m\b|i\b|unfortunately|as\ an\ ai)[^\n]{0,80}?
        \b(?:cannot|can['\u2019]t|unable|sorry|not\ sure|don['\u2019]t\ know|do\ not\ know)\b""",
    re.IGNORECASE | re.VERBOSE,
)


class Items(Aligner):
    r"""The items of the text, cut at `separator` and at line breaks, without bullets and numbers before them.

    A JSON list is read as such. Of an answer's own words are left out: a line that announces the list, an "and" before
    the last item (``a, b, and c``; ``a, b and c`` where all are single words), a full stop at the end, quotes or
    markup around every item.

    Args:
        separator: stands between items.
        empty: how an empty list is written.

    >>> Items().apply(Reading(text=" red, green,blue\n")).value
    ['red', 'green', 'blue']
    >>> Items().apply(Reading(text="Here they are:\n1. **red**\n2. **green**")).value
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
        """The items with the separator between (and a space, where the separator is one mark).

        What would then be read as other items (quotes around all, "and" before the last) is written as a JSON list.
        """
        items = self.canon(target)
        joined = self._joined(items)
        return joined if self._read(joined) == items else json.dumps(items, ensure_ascii=False)

    def canon(self, value: Any) -> list[str]:
        """The items as texts; a text is cut as the model's is.

        Raises:
            ValueError: the items could not be read back: one holds the separator or a line break.
        """
        if not isinstance(value, list | tuple):
            value = self._read(text_of(value)) or []
        items = self._kept(map(text_of, value))
        if self._cut(self._joined(items)) != items:
            culprit = next((item for item in items if self._cut(item) != [item]), items)
            shown = bounded(repr(culprit), 80)
            raise ValueError(f"the item {shown} holds the list's separator {self.separator!r} or a line break")
        return items

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Cut what is left of the text; an empty text, or a refusal, is status ``unparsed``."""
        text = said(reading)
        if not text.strip():
            return unread(reading, "list", "no text")
        items = self._read(text)
        return unread(reading, "list", "no list") if items is None else took(reading, "list", items)

    def _joined(self, items: list[str]) -> str:
        gap = f"{self.separator} " if not self.separator[-1].isspace() else self.separator
        return gap.join(items) if items else self.empty

    def _read(self, text: str) -> list[str] | None:
        """The items that an answer lists; None where it refuses to."""
        listed = self._json(text)
        if listed is not None:
            return listed
        text = turn(text)
        if _REFUSAL.match(text.strip()):
            return None
        if _EMPTY.fullmatch(text.strip()):
            return []
        return self._plain([item for line in _lines(text) if line for item in self._line(line)])

    def _json(self, text: str) -> list[str] | None:
        """The items of a JSON list, or of an object's only list, that stands alone or behind a colon."""
        if not _JSON.search(text):
            return None
        value = next((found.value for found in values(text, repair=len(text) <= LONGEST)), None)
        if isinstance(value, dict) and len(value) == 1:
            value = next(iter(value.values()))
        if not isinstance(value, list) or any(isinstance(item, dict | list) for item in value):
            return None
        texts = [text_of(item).strip() for item in value]
        return [item for item in texts if item]

    def _line(self, line: str) -> list[str]:
        """The items of a line; "and" before the last of several is none of its words."""
        items = [bare for item in line.split(self.separator) if (bare := _bare(item))]
        if len(items) < 2 or self.separator.strip() not in (",", ";"):
            return items
        *others, last = items
        if (joined := _AND.match(last)) and joined.end() < len(last):
            return [*others, last[joined.end() :]]
        words = last.split()
        if len(words) == 3 and words[1].casefold() in ("and", "&") and all(len(item.split()) == 1 for item in others):
            return [*others, words[0], words[2]]
        return items

    def _plain(self, items: list[str]) -> list[str]:
        """Items without the marks that stand around all of them, and without the full stop that ends the answer."""
        kept = self._kept(items)
        stops = [item.endswith(".") and item.count(".") == 1 and len(item) > 2 for item in kept]
        if self.separator.strip() in (",", ";") and kept and stops[-1] and (all(stops) or not any(stops[:-1])):
            kept = [item.removesuffix(".").strip() if stop else item for item, stop in zip(kept, stops, strict=True)]
        whole = list(kept)
        for mark in _MARKUP:
            opening, closing = (mark[0], mark[1]) if mark[0] != mark[-1] else (mark, mark)
            size = len(opening)
            if all(len(x) > 2 * size and x.startswith(opening) and x.endswith(closing) for x in kept):
                kept = [item[size:-size].strip() for item in kept]
        return kept if kept == whole else self._kept(kept)

    def _cut(self, text: str) -> list[str]:
        return self._kept(item for line in text.splitlines() for item in line.split(self.separator))

    def _kept(self, items: Iterable[str]) -> list[str]:
        found = [bare for item in items if (bare := _bare(item))]
        said = [item.rstrip(".").casefold() for item in found]
        return [] if said == [self.empty.strip().rstrip(".").casefold()] else found


def _lines(text: str) -> Sequence[str]:
    """The lines that hold items: without fences, what announces a list, and what follows one with bullets."""
    lines = [bare for line in text.strip().splitlines() if not (bare := line.strip()).startswith("```")]
    bullets = [i for i, line in enumerate(lines) if line and _BULLET.match(line)]
    if len(lines) > 1 and lines[0].endswith(":") and 0 not in bullets:
        lines[0] = ""
    elif lines:
        cue = _CUE.match(lines[0])
        lines[0] = lines[0][cue.end() if cue else 0 :]
    if bullets and "" in lines[bullets[-1] :]:
        lines = lines[: lines.index("", bullets[-1])]
    if len(lines) == 1 and re.fullmatch(r"\[[^\[\]]+\]", lines[0]):
        return [lines[0][1:-1]]
    return lines


def _bare(item: str) -> str:
    """An item without white space around it and without the bullet or number before it."""
    bullet = _BULLET.match(item.strip())
    return item.strip()[bullet.end() if bullet else 0 :].strip()
