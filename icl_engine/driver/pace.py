"""Rates a minute: at most so much in every minute, spread evenly."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MINUTE = 60.0

AHEAD = 1.0
"""Seconds by which a start may run ahead of the even pace: a late timer is made up for."""

GRAIN = 0.1
"""Seconds of starts that share one entry of the log."""


@dataclass(slots=True)
class _Started:
    """What started at about one time, and when that is over a minute ago."""

    leaves: float
    amount: int


class Pace:
    """Requests or tokens that may start a minute.

    An amount a starts at time t if both hold, M being the allowance:

        even:   t ≥ T − 1 s, and then T := max(T, t) + 60 s · a / M       (the leaky bucket as in ITU-T I.371, GCRA)
        law:    Σ amounts of (t − 60 s, t] + a ≤ M, or nothing started in these 60 s

    A bucket alone lets M and its burst start within a minute; the sum is what holds for every window of 60 s, wherever
    the provider's begins. An amount above M, which no window allows, goes when nothing started for a minute, and
    whoever comes next waits for the minutes it took.

    Args:
        allowance: M, of which at most so much starts in 60 s.

    >>> pace = Pace(2)
    >>> [pace.delay(1, 0.0), pace.take(1, 0.0)]
    [0.0, None]
    >>> pace.delay(1, 0.0)
    29.0
    """

    def __init__(self, allowance: int) -> None:
        if allowance < 1:
            raise ValueError(f"a rate a minute must be at least 1, not {allowance}")
        self._allowance = allowance
        self._even = float("-inf")
        self._sum = 0
        self._log: deque[_Started] = deque()  # the oldest first

    def delay(self, amount: int, now: float) -> float:
        """Seconds until the amount may start; 0 if it may now."""
        log = self._log
        while log and log[0].leaves <= now:
            self._sum -= log.popleft().amount
        wait = max(self._even - AHEAD - now, 0.0)
        over = self._sum + min(amount, self._allowance) - self._allowance
        if over > 0:
            for started in log:
                over -= started.amount
                if over <= 0:
                    return max(wait, started.leaves - now)
        return wait

    def take(self, amount: int, now: float) -> None:
        """Count the amount as started."""
        if amount <= 0:
            return
        self._even = max(self._even, now) + MINUTE * amount / self._allowance
        self._sum += amount
        log = self._log
        if log and now < log[-1].leaves - MINUTE:
            log[-1].amount += amount
        else:
            log.append(_Started(now + GRAIN + MINUTE, amount))

    def give_back(self, amount: int) -> None:
        """Count the amount as not started after all; it started within the last minute.

        It is taken from the oldest in the log: no window that is still to come holds these without the younger ones,
        so no sum is too small.
        """
        self._even -= MINUTE * amount / self._allowance
        log = self._log
        while amount > 0 and log:
            part = min(amount, log[0].amount)
            amount -= part
            self._sum -= part
            log[0].amount -= part
            if not log[0].amount:
                log.popleft()
