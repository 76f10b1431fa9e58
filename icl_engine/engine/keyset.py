"""A set of content keys that a run of any length can keep."""

from __future__ import annotations

from array import array
from bisect import bisect_left

RECENT = 131_072
"""Keys kept as objects before they are packed."""


class KeySet:
    """Content keys (hex SHA-256) by their first 64 bits: eight bytes each, where a Python set takes a hundred.

    Two of a million keys share these bits once in about 40 million runs.

    >>> keys = KeySet()
    >>> keys.add("00ab" * 16), keys.add("00ab" * 16), len(keys)
    (True, False, 1)
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._packed = array("Q")

    def add(self, key: str) -> bool:
        """Add a key; whether it was not there."""
        short = int(key[:16], 16)
        if short in self._recent:
            return False
        packed = self._packed
        at = bisect_left(packed, short)
        if at < len(packed) and packed[at] == short:
            return False
        self._recent.add(short)
        if len(self._recent) >= RECENT:
            # Two sorted runs, which the sort merges in one pass.
            self._packed = array("Q", sorted([*packed, *sorted(self._recent)]))
            self._recent.clear()
        return True

    def __len__(self) -> int:
        return len(self._packed) + len(self._recent)
