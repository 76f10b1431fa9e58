"""Who is in flight, and who of them counts against the limit."""

from __future__ import annotations

OVERTAKEN = 8
"""Limits' worth of requests, sent later, that came back before one that no longer counts."""


class Places:
    """Places of requests in flight, by numbers in the order they were taken.

    A straggler that 8 limits' worth of requests sent after it have overtaken counts against `most` alone: the limit is
    on what the endpoint has in hand, and a few that hang must not fill it. If all are slow, none is overtaken.

    Args:
        most: how many there are.

    >>> places = Places(most=100)
    >>> slow = places.take(limit=1)
    >>> for _ in range(10):
    ...     places.leave(places.take(limit=1))
    >>> places.flying, places.counted
    (1, 0)
    """

    def __init__(self, most: int) -> None:
        self.most, self.flying = most, 0
        self.newest = 0
        """The number of the place taken last."""
        self._back = 0
        self._due: dict[int, int] = {}  # those that count, the oldest first -> at how many back it is overtaken

    @property
    def counted(self) -> int:
        """How many count against the limit."""
        return len(self._due)

    def full(self, limit: int) -> bool:
        """Whether none is free."""
        return len(self._due) >= limit or self.flying >= self.most

    def take(self, limit: int) -> int:
        """The number of a place."""
        self.flying += 1
        self.newest += 1
        # Those in flight may come back before it without having overtaken it.
        self._due[self.newest] = self._back + self.flying + OVERTAKEN * limit
        return self.newest

    def leave(self, place: int) -> None:
        """Give a place back; 0 is the oldest."""
        self.flying -= 1
        self._back += 1
        due = self._due
        due.pop(place or next(iter(due), 0), 0)
        while due:
            oldest, at = next(iter(due.items()))
            if at > self._back:
                break
            del due[oldest]

    def forgive(self, newest: int) -> None:
        """Let none that was taken up to `newest` count any more."""
        for place in [place for place in self._due if place <= newest]:
            del self._due[place]
