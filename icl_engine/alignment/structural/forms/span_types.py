"""The types of spans: which one a name means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from icl_engine.errors import bounded, did_you_mean

_ALIKE = 85
"""How alike, of 100, a type's name and what was said for it have to be."""


class Types:
    """The types there are; without any given, every name is one.

    >>> types = Types(["Character_Name", "Year"])
    >>> [types.named(said) for said in ("character name", "YEARS", "title")]
    ['Character_Name', 'Year', None]
    """

    def __init__(self, types: Sequence[str] | None) -> None:
        self.given = types
        self._names = {folded(one): one for one in types or ()}

    def named(self, said: str) -> str | None:
        """The type that a name means: its own, or the only one that is nearly spelt so."""
        name = folded(said[:100])
        if self.given is None:
            return said.strip() or None
        if name in self._names or len(name) < 4:
            return self._names.get(name)
        from rapidfuzz import fuzz, process

        near = process.extract(name, list(self._names), scorer=fuzz.ratio, score_cutoff=_ALIKE, limit=2)
        return self._names[near[0][0]] if near and (len(near) == 1 or near[0][1] > near[1][1]) else None

    def of_target(self, kind: str) -> str:
        """The type of a target. Raises ValueError for one that is none."""
        if self.given is None:
            return kind.strip()
        if (name := folded(kind)) not in self._names:
            raise ValueError(f"target's type {bounded(kind, 40)!r} is none of types{did_you_mean(kind, self.given)}")
        return self._names[name]


def folded(kind: str) -> str:
    """A type's name without regard to case, and to how its words are joined."""
    return " ".join(re.sub(r"[\s_-]+", " ", kind).split()).casefold()
