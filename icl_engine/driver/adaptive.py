"""How many requests in flight the endpoint bears: found while it answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

START = 16
"""In flight at the start."""

CONGESTED = 0.7
"""The decrease when the endpoint says that it has too much to do (RFC 9438, section 4.6)."""

RECOVERY = 8
"""Round trips from a decrease back to the limit before it."""

RISING = 0.85
"""The least decrease when answers take longer and no more of them come."""

CAREFUL, LONGER = 1.5, 2.0
"""So many times the latency at a smaller load: nothing is added unless more answers come; the limit is decreased."""

BETTER, WORSE = 1.05, 0.9
"""So many times a throughput is more; is less."""

SAME = 0.75
"""So many times the throughput it had at a smaller load is still the same server with the same prompts."""

FLOOR = 4
"""Neither latency nor word of too many requests brings the limit below this: waiting is what helps then."""

EPOCHS = 20
"""Epochs remembered: older ones tell of other prompts, or another server."""

TOLERATED = 0.1
"""The share of an epoch's answers that may be faults of a server without it being taken for too busy."""

FEWEST = 32
"""Answers of which that is a share, at least."""

SAMPLES = 64
"""The fewest answers whose median is believed."""

ROUND_TRIP = 1.0
"""Seconds assumed for a round trip before one was measured (the first retransmission timeout of RFC 6298)."""


class Epoch(NamedTuple):
    """What was measured while about one limit's worth of answers came: load, its latency (s), throughput (1/s)."""

    load: float
    latency: float
    rate: float


class Trial(NamedTuple):
    """What was before a decrease that has yet to show that nothing was lost by it."""

    limit: float
    rate: float
    slow_start: bool


class Adaptive:
    """The limit on what is in flight, as congestion control finds it (Jacobson 1988; Chiu and Jain 1989).

    Growth: limit := limit + 1 for each answer, which doubles it every round trip, until the first decrease (slow start;
    answers that took more than 1.5 times the last epoch's latency do not count, as in HyStart, Ha and Rhee 2011).
    After a decrease from P to L the limit follows k, the round trips since, along the cubic of RFC 9438, scaled so that
    it is back at P after K = 8 whatever P is: it stays near P, which was too much, and beyond grows ever faster:

        limit(k) = P + (P − L) · (k/K − 1)³

    It only grows with answers that came while all places were taken, and never above `most`.

    Congestion: limit := max(4, 0.7 · limit) when a request comes back because there are too many of them, or when one
    in ten of an epoch's comes back for a fault that may mean the same; unless it was sent before the last decrease:
    that one tells nothing of the limit now. So it decreases once a round trip.

    Rising latency: an epoch is as many answers as the limit was when it began, or 64. It has a mean load L, a median
    latency W and by Little's law (L = X · W, with the mean of W) a throughput X. If W > 2 · W₀ and X ≤ 1.05 · X₀ for a
    recent epoch with L₀ < 0.9 · L, the smallest such load would do: limit := max(L₀, 4, min(0.85 · limit, 1.5 · L₀)),
    and then limit(k) = limit · (1 + 0.15 · (k/K)³). From W > 1.5 · W₀ on it stays as it is, or, in slow start, is
    decreased. If then the latency does not fall half as far as the limit, but stays above 1.1 · W · (1 + r) / 2 where
    the limit became r times what it was, it was not the load: the limit is put back, and what was measured before is
    forgotten. So a server that batches, and answers later the more it has in hand but more in all, is left alone, and
    so is one that was fast at this load: it became slower or the prompts longer, and fewer in flight would only mean
    fewer answers. The epoch after a change is not remembered, for the quick come back first.

    Args:
        most: the most requests in flight.
        clock: seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        if most < 1:
            raise ValueError(f"at least 1 request must be allowed in flight, not {most}")
        self.limit = min(most, START)
        self._most, self._clock = most, clock
        self._exact = self._load = float(self.limit)
        self._slow_start, self._held = True, False
        self._peak, self._depth, self._turn = self._exact, 0.0, 0.0  # P or L, P − L, k/K − 1 or k/K
        self._changed, self._settled = float("-inf"), True
        self.latency = 0.0  # of the last epoch; 0: none yet
        self._epochs: deque[Epoch] = deque(maxlen=EPOCHS)
        self._trial: Trial | None = None
        self._begin()

    def answered(self, seconds: float, flying: int) -> None:
        """An answer came after so many seconds; so many were in flight, it included."""
        now = self._clock()
        if now - seconds < self._changed:
            return
        if flying >= self.limit < self._most and not self._held:
            self._grow(seconds)
        self._took.append(seconds)
        self._flying += flying
        if len(self._took) >= self._length:
            self._measure(now)

    def congested(self, seconds: float | None, *, sure: bool = True) -> None:
        """A request came back because the endpoint has too much to do.

        Args:
            seconds: since it was sent; None: that is not known.
            sure: the endpoint said so. Else it may have been a fault that comes and goes: one in ten is needed.
        """
        now = self._clock()
        if now - ((self.latency or ROUND_TRIP) if seconds is None else seconds) < self._changed:
            return
        self._lost += 1
        if not sure and self._lost < TOLERATED * max(len(self._took) + self._lost, FEWEST):
            return
        self._trial = None
        limit = max(min(FLOOR, self._exact), CONGESTED * self._exact)
        self._depth = self._exact - limit or 1.0 - CONGESTED
        self._peak, self._turn = limit + self._depth, -1.0
        self._change(limit, now, slow_start=False)

    def _grow(self, seconds: float) -> None:
        if not self._slow_start:
            self._turn += 1.0 / (RECOVERY * self.limit)
            self._exact = self._peak + self._depth * self._turn**3
        elif seconds <= CAREFUL * self.latency or not self.latency:
            self._exact += 1.0
        self._exact = max(1.0, min(self._exact, float(self._most)))
        self.limit = int(self._exact)

    def _change(self, limit: float, now: float, *, slow_start: bool) -> None:
        if self._slow_start or slow_start:
            self._epochs.clear()  # while the limit doubles, the quick answers come first: they flatter
        self._exact, self.limit, self._slow_start = limit, int(limit), slow_start
        self._changed, self._held, self._settled = now, False, False
        self._begin()

    def _begin(self) -> None:
        self._took: list[float] = []
        self._flying, self._lost, self._length = 0, 0, max(self.limit, SAMPLES)

    def _measure(self, now: float) -> None:
        """End an epoch: what it says of the limit."""
        took, count = self._took, len(self._took)
        before, self._load = self._load, self._flying / count
        settled, self._settled = self._settled, True
        self.latency = sorted(took)[count // 2]
        self._begin()
        # What came back was sent an epoch ago: the load it met is between that of then and that of now.
        low, high = sorted((before, self._load))
        mean = max(sum(took) / count, 1e-9)
        epoch = Epoch((low + high) / 2, self.latency, (low + high) / 2 / mean)
        trial, self._trial = self._trial, None  # the load is here the mean of before and after: half as far would do
        if trial is not None and epoch.rate < WORSE * trial.rate:
            self._epochs.clear()
            self._peak, self._depth, self._turn = trial.limit, trial.limit - self._exact, 0.0
            self._change(trial.limit, now, slow_start=trial.slow_start)
            return
        if self.limit <= 2 * high:  # else it is not the limit that keeps the load
            self._compare(epoch, low / mean, high / mean, now)
        if settled and (self._slow_start or low >= WORSE * high):
            self._epochs.append(epoch)

    def _compare(self, epoch: Epoch, low: float, high: float, now: float) -> None:
        """Decrease the limit if a smaller load would do, and hold it while that may be: throughput is low to high."""
        faster = [past for past in self._epochs if CAREFUL * past.latency < epoch.latency]
        enough = [past for past in faster if BETTER * past.rate >= low]
        self._held = bool(enough) and all(past.load < WORSE * epoch.load for past in faster)
        if not self._held:
            return
        least = min(enough)
        if epoch.rate >= SAME * least.rate:  # what it did at the smaller load is kept in memory
            self._epochs.remove(least)
            self._epochs.append(least)
        longer = CAREFUL if self._slow_start else LONGER
        least = min(
            (p for p in enough if longer * p.latency < epoch.latency and BETTER * p.rate >= high), default=epoch
        )
        limit = max(least.load, min(FLOOR, self._most), min(RISING * self._exact, CAREFUL * least.load))
        if limit < self._exact and least is not epoch:
            self._trial = Trial(self._exact, epoch.rate, self._slow_start)
            self._peak, self._depth, self._turn = limit, (1.0 - RISING) * limit, 0.0
            self._change(limit, now, slow_start=False)
