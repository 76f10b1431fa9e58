"""How far a run is."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from icl_engine.driver.counts import Counts
from icl_engine.engine.prices import Price

OFTEN = 0.1
"""Seconds between two reports."""

SPAN = 30.0
"""Seconds over which the rate is taken."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Args:
        done: rows, whether they have an answer or not.
        total: rows there are.
        failed: rows that got no answer.
        paid: requests paid for by this process.
        cached: answers found in the cache.
        retries: requests sent again.
        tokens: of prompts and answers paid for by this process.
        cost_usd: of these; None where the price is unknown.
        rate: rows a second, of late.
        eta: seconds to go at that rate; None where nothing is known.
    """

    done: int
    total: int
    failed: int
    paid: int
    cached: int
    retries: int
    tokens: int
    cost_usd: float | None
    rate: float
    eta: float | None


class Meter:
    """Makes progress of counts.

    Args:
        total: rows there are.
        counts: the driver's.
        price: of the model's tokens, where it is known.
    """

    def __init__(self, total: int, counts: Counts, price: Price | None) -> None:
        self._total, self._counts, self._price = total, counts, price
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._said = 0.0

    def due(self, done: int) -> bool:
        """Whether it is time for a report: at the last row, and now and then before."""
        now = time.monotonic()
        if now - self._said < OFTEN and done < self._total:
            return False
        self._said = now
        return True

    def read(self, done: int, failed: int) -> Progress:
        """The progress now."""
        now, points, c = time.monotonic(), self._points, self._counts
        while len(points) > 1 and now - points[1][0] > SPAN:
            points.popleft()
        began, before = points[0]
        rate = (done - before) / (now - began) if now > began else 0.0
        points.append((now, done))
        eta = (self._total - done) / rate if rate > 0 else None
        cost = None if self._price is None else self._price.of(c.usage)
        tokens = c.prompt_tokens + c.completion_tokens
        counts = (c.paid, c.cached, c.retries, tokens)
        return Progress(done, self._total, failed, *counts, cost, round(rate, 2), eta if eta is None else round(eta, 1))
