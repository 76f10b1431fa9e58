"""Where mentions stand in a text: exactly, else but for case, spaces and punctuation, else nearly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

_LONGEST = 20_000
"""Characters of a text in which a mention is looked for that stands there only nearly."""
_NEARLY = 20
"""Mentions of one answer that are looked for so."""


class Aligned:
    """Places of mentions in a text: the nth mention of a text stands at its nth place.

    Args:
        text: what the mentions were taken from.
        nearest: how alike, from 0 to 1, a mention and its place have to be; None for equal but for case, spaces and
            punctuation.

    >>> found = Aligned("Ann met Anna-Marie in Rome.")
    >>> [found.place("person", mention) for mention in ("Ann", "anna marie", "Rom", "Ann", "Paris")]
    [(0, 3), (8, 18), None, None, None]
    """

    def __init__(self, text: str, nearest: float | None = 0.9) -> None:
        self.text = text
        self.nearest = nearest
        self._left = _NEARLY
        self._known: dict[str, list[tuple[int, int]]] = {}
        self._taken: set[tuple[int, int]] = set()
        self._typed: set[tuple[str, int, int]] = set()

    def holds(self, mention: str) -> bool:
        """Whether a mention stands in the text, at least but for case, spaces and punctuation."""
        if len(mention) > 2 * len(self.text) + 100:
            return False  # a text has no room for it
        return next(self._exact(mention), None) is not None or next(self._folded(mention), None) is not None

    def says(self, mention: str) -> bool:
        """Whether the text holds a mention with all its punctuation."""
        return " ".join(mention.split()).casefold() in self._spoken

    def parts(self, mention: str) -> list[str]:
        """A mention as the text holds it: without a remark in brackets, or as several with commas between.

        >>> found = Aligned("Ann met Bo.")
        >>> found.parts("Ann (twice)"), found.parts("Ann, Bo"), found.parts("Ann, Zoe")
        (['Ann'], ['Ann', 'Bo'], ['Ann, Zoe'])
        """
        if self.holds(mention):
            return [mention]
        bare = mention.partition(" (")[0].strip()
        if bare != mention and bare and self.holds(bare):
            return [bare]
        several = [part.strip() for part in mention.split(",")[:50]]
        return several if len(several) > 1 and all(self.holds(part) for part in several) else [mention]

    def place(self, kind: str, mention: str) -> tuple[int, int] | None:
        """Where the next mention of this text stands; None where it stands nowhere else.

        Two mentions stand at the same place only with different types.
        """
        places = self._places(mention)
        free = [p for p in places if p not in self._taken] or [p for p in places if (kind, *p) not in self._typed]
        if not free:
            return None
        self.take(kind, *free[0])
        return free[0]

    def spells(self, start: int, end: int, mention: str) -> bool:
        """Whether a mention stands at a place, but for case, spaces and punctuation."""
        return self.text[start:end] == mention or _folded(self.text[start:end])[0] == _folded(mention)[0] != ""

    def take(self, kind: str, start: int, end: int) -> None:
        """Note a place as taken."""
        self._taken.add((start, end))
        self._typed.add((kind, start, end))

    def _places(self, mention: str) -> list[tuple[int, int]]:
        if mention not in self._known:
            places = [*self._exact(mention), *self._folded(mention)]
            if not places:
                places = list(self._nearly(mention))
            self._known[mention] = list(dict.fromkeys(places))
        return self._known[mention]

    def _exact(self, mention: str) -> Iterator[tuple[int, int]]:
        return self._whole(_finds(self.text, mention))

    def _folded(self, mention: str) -> Iterator[tuple[int, int]]:
        letters, at = self._letters
        return self._whole((at[start], at[end - 1] + 1) for start, end in _finds(letters, _folded(mention)[0]))

    def _nearly(self, mention: str) -> Iterator[tuple[int, int]]:
        """The words that are most like a mention, if they are alike enough and have the same digits."""
        if self.nearest is None or not self._left or not 4 <= len(mention) <= 200:
            return
        from rapidfuzz import fuzz

        self._left -= 1
        text, meant = self.text[:_LONGEST].lower(), mention.lower()
        near = fuzz.partial_ratio_alignment(meant, text, score_cutoff=100 * self.nearest)
        if near is None or len(text) != len(self.text[:_LONGEST]):
            return
        start, end = self._words(near.dest_start, near.dest_end)
        found = text[start:end]
        alike = fuzz.ratio(meant, found) >= 100 * self.nearest
        if alike and [c for c in meant if c.isdigit()] == [c for c in found if c.isdigit()]:
            yield start, end

    def _words(self, start: int, end: int) -> tuple[int, int]:
        """A place, grown to whole words and without white space around them."""
        while start < end and not self.text[start].isalnum():
            start += 1
        while end > start and not self.text[end - 1].isalnum():
            end -= 1
        while start > 0 and self._joins(start):
            start -= 1
        while end < len(self.text) and self._joins(end):
            end += 1
        return start, end

    def _whole(self, places: Any) -> Iterator[tuple[int, int]]:
        """The places that do not begin or end inside a word."""
        return ((start, end) for start, end in places if not (self._joins(start) or self._joins(end)))

    def _joins(self, at: int) -> bool:
        """Whether a place is inside a word: where scripts put no spaces between words, none is."""
        return 0 < at < len(self.text) and _of_word(self.text[at - 1]) and _of_word(self.text[at])

    @cached_property
    def _spoken(self) -> str:
        return " ".join(self.text.split()).casefold()

    @cached_property
    def _letters(self) -> tuple[str, Sequence[int]]:
        return _folded(self.text)


def _of_word(sign: str) -> bool:
    return sign.isdigit() or (sign.isalpha() and sign.lower() != sign.upper())


def _folded(text: str) -> tuple[str, list[int]]:
    """The letters and digits of a text in small letters, and where each stands in it."""
    pairs = [(small, i) for i, sign in enumerate(text) if sign.isalnum() for small in sign.casefold()]
    return "".join(small for small, _ in pairs), [i for _, i in pairs]


def _finds(text: str, part: str) -> Iterator[tuple[int, int]]:
    """Every place of a part, from the first; they may overlap."""
    at = text.find(part) if part else -1
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + 1)
