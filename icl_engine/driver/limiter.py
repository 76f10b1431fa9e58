"""Who may send now."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from icl_engine.driver.adaptive import Adaptive
from icl_engine.driver.pace import Pace
from icl_engine.driver.places import Places

SOON = 1e-6
"""Seconds: a timer that came a rounding error early waits so long."""

STUCK = 5.0
"""Seconds, or times the usual latency if that is longer, after which a request no longer counts while others wait."""


class Limiter:
    """Who may send now: adaptive concurrency up to `most`, requests and tokens a minute, pauses of the whole endpoint.

    The equations are those of `Adaptive` (what is in flight) and `Pace` (rates). Places are given in the order they
    were asked for; who cannot start holds back those behind. For one event loop.

    Who is overtaken by many that were sent later does not count against the limit (`Places`), nor does one that takes
    five times the usual latency, and 5 s, while others wait.

    Args:
        most: the most requests in flight.
        requests_per_minute: the most requests that start in any 60 s; None: any number.
        tokens_per_minute: the most tokens, as expected by who sends, of requests that start in any 60 s.
        clock: seconds that never go back.

    >>> limiter = Limiter(most=1)
    >>> place = limiter.try_acquire()
    >>> limiter.try_acquire()
    0
    >>> limiter.release(seconds=0.2, place=place)
    >>> limiter.flying
    0
    """

    def __init__(
        self,
        most: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self._places = Places(most)
        self._clock = clock
        self._adaptive = Adaptive(most, clock)
        self._requests = None if requests_per_minute is None else Pace(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Pace(tokens_per_minute)
        self._rates = self._requests is not None or self._tokens is not None
        self._timed = self._rates  # whether the clock has a say: rates, or a pause
        self._resume = -math.inf
        self._waiting: deque[tuple[asyncio.Future[int], int]] = deque()  # the first of them was not cancelled
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._over: Exception | None = None

    @property
    def flying(self) -> int:
        """Places taken."""
        return self._places.flying

    @property
    def limit(self) -> int:
        """The most in flight at present."""
        return self._adaptive.limit

    def try_acquire(self, tokens: int = 0) -> int:
        """The number of a place, if one is free now and nobody waits for it; else 0."""
        if self._over is not None:
            raise self._over
        limit = self._adaptive.limit
        if self._waiting or self._places.full(limit) or (self._timed and self._charge(tokens) > 0):
            return 0
        return self._places.take(limit)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that a few that hang do not hold up those who wait, where too few come back to overtake them."""

        def look(newest: int) -> None:
            self._stuck = None
            self._places.forgive(newest)
            if self._waiting and self._timer is None:
                self._wake()

        usual = self._adaptive.latency
        if usual and self._stuck is None and self.flying < self.most:
            self._stuck = loop.call_later(STUCK * max(1.0, usual), look, self._places.newest)

    async def acquire(self, tokens: int = 0) -> int:
        """The number of a place, after all who asked before.

        Args:
            tokens: what the request is expected to take of the minute's tokens.
        """
        if place := self.try_acquire(tokens):
            return place
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, tokens))
        if self._timer is None:
            self._wake()
        try:
            return await waiter
        except BaseException:
            if not (waiter.cancelled() or waiter.cancel() or waiter.exception()):
                self._places.leave(waiter.result())  # the place came in the same turn: it goes to the next
                if self._requests is not None:
                    self._requests.give_back(1)
                if self._tokens is not None:
                    self._tokens.give_back(tokens)
            self._wake()  # it may have held back those behind it
            raise

    def release(
        self, seconds: float | None = None, *, congested: bool = False, limited: bool = False, place: int = 0
    ) -> None:
        """Give a place back.

        Args:
            seconds: from sending to the answer, or to the error if congested; None tells nothing.
            congested: the endpoint may have too much to do.
            limited: it said so.
            place: its number; 0 for that of the oldest.
        """
        flying = self._places.counted
        self._places.leave(place)
        if congested:
            self._adaptive.congested(seconds, sure=limited)
        elif seconds is not None:
            self._adaptive.answered(seconds, flying)
        if self._waiting and self._timer is None:
            self._wake()

    def pause(self, seconds: float) -> None:
        """Let nobody start for so many seconds; a longer pause stays, and what is no time is no pause."""
        if 0 < seconds < math.inf:
            self._resume = max(self._resume, self._clock() + seconds)
            self._timed = True

    def stop(self, reason: Exception) -> None:
        """Let nobody start any more: who waits, and who asks from now on, is told the reason."""
        self._over = reason
        waiting, self._waiting = self._waiting, deque()
        for waiter, _ in waiting:
            if not waiter.done():
                waiter.set_exception(reason)
        for timer in (self._timer, self._stuck):
            if timer is not None:
                timer.cancel()
        self._timer = self._stuck = None

    def used(self, expected: int, real: int, seconds: float = 0.0) -> None:
        """Correct the minute's tokens by what an answer took.

        Args:
            expected: as given to `acquire`.
            real: what the answer says.
            seconds: since it was sent; what began more than a minute ago takes nothing of this one.
        """
        if self._tokens is None:
            return
        if real > expected:
            self._tokens.take(real - expected, self._clock())
        elif real < expected and seconds < 60:
            self._tokens.give_back(expected - real)
            if self._timer is not None:
                self._wake()

    def _charge(self, tokens: int) -> float:
        """Take a request and its tokens of the minute, or return the seconds until they can be had."""
        now = self._clock()
        wait = self._resume - now
        if not self._rates:
            self._timed = wait > 0
            return wait
        if self._requests is not None:
            wait = max(wait, self._requests.delay(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(tokens, now))
        if wait <= 0:
            if self._requests is not None:
                self._requests.take(1, now)
            if self._tokens is not None:
                self._tokens.take(tokens, now)
        return wait

    def _wake(self) -> None:
        """Start those who may, in order; if the first has to wait for the clock, wake again when it may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            waiter, tokens = self._waiting[0]
            if not waiter.done():
                if self._places.full(self._adaptive.limit):
                    self._watch(waiter.get_loop())
                    return
                wait = self._charge(tokens) if self._timed else 0.0
                if wait > 0:
                    self._timer = waiter.get_loop().call_later(max(wait, SOON), self._wake)
                    return
                waiter.set_result(self._places.take(self._adaptive.limit))
            self._waiting.popleft()
