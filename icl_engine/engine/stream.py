"""Rows through the driver as a stream: bounded memory, results in data order whatever order they arrive in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from icl_engine.asking import Started
from icl_engine.driver.driver import Driver, StoppedError
from icl_engine.engine.held import Held
from icl_engine.errors import RequestError
from icl_engine.protocols import Steps
from icl_engine.types import Exchange, Message

X = TypeVar("X")
T = TypeVar("T")
R = TypeVar("R")

WINDOW = 256
"""Rows rendered ahead and ordered by prompt, so that equal prefixes travel together and a prefix cache serves them."""

AHEAD = 100_000
"""Rows that may be done before one that is not: a straggler holds nothing back until then."""

HEAVY = 64_000_000
"""Bytes of images after which a window is closed early: they are held until their row is sent."""


class Stream(Generic[X, T, R]):
    """Runs ``steps(x)`` for every x, at most `driver.concurrency` at once.

    Args:
        driver: who sends.
        steps: the method.
        made: (number of the row, x, what came of it or why nothing did, exchanges) -> what is kept of a row.
        emit: takes what is kept, in the order of the rows.
        stopping: asked before a row is begun; true ends the stream after what is in flight.
        report: told how many rows are done, as they arrive.
        ahead: given the rows of a window before they are begun; it may take its time, in a thread of its own.
    """

    def __init__(
        self,
        driver: Driver,
        steps: Callable[[X], Steps[T]],
        made: Callable[[int, X, T | RequestError, tuple[Exchange, ...]], R],
        emit: Callable[[R], None],
        stopping: Callable[[], bool] = lambda: False,
        report: Callable[[int], None] = lambda _: None,
        ahead: Callable[[Sequence[X]], None] | None = None,
    ) -> None:
        self._driver, self._steps, self._made, self._emit = driver, steps, made, emit
        self._stopping, self._report, self._ahead = stopping, report, ahead
        self._read: deque[tuple[int, X]] = deque()
        self._ready: deque[tuple[int, X, Started[T]]] = deque()
        self._held: Held[R] = Held()
        self._filling = asyncio.Lock()
        self._moved = asyncio.Event()
        self._fault: Exception | None = None
        self._over = self._mute = False

    async def run(self, rows: Iterator[X]) -> int:
        """Take all rows; how many were emitted, fewer than there are if it was stopped.

        A row without an answer does not end the stream; any other error does, once what is in flight has come home
        and been kept.
        """
        numbered = enumerate(rows)
        workers = [asyncio.ensure_future(self._work(numbered)) for _ in range(self._driver.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            self._held.close()
        if self._fault is not None:
            raise self._fault
        return self._held.next

    async def _work(self, numbered: Iterator[tuple[int, X]]) -> None:
        """Take one row after the other, for as long as there are some and nothing is amiss."""
        try:
            while self._fault is None and not self._stopping():
                if not self._ready:
                    async with self._filling:
                        if not self._ready and not await self._fill(numbered):
                            return
                    continue
                await self._one(*self._ready.popleft())
        except StoppedError:
            pass  # it is begun anew when the run goes on
        except Exception as error:  # the first is told, when all others have come home
            self._fault = self._fault or error
        self._end()

    def _end(self) -> None:
        """Send nothing more, and wake whoever waits."""
        self._over = True
        self._driver.stop()
        self._moved.set()

    async def _fill(self, numbered: Iterator[tuple[int, X]]) -> bool:
        """Render the next window of rows; whether there were any."""
        while len(self._held) >= AHEAD and not self._over:
            self._moved.clear()
            await self._moved.wait()
        if self._over:
            return False
        window = await self._window(numbered)
        self._ready.extend(window)
        self._over = self._over or not window
        return bool(window)

    async def _window(self, numbered: Iterator[tuple[int, X]]) -> list[tuple[int, X, Started[T]]]:
        window: list[tuple[int, X, Started[T]]] = []
        weight = 0
        if not self._read:
            self._read.extend(islice(numbered, WINDOW))
            if self._ahead is not None and self._read:
                await asyncio.to_thread(self._ahead, [x for _, x in self._read])
        while self._read:
            i, x = self._read.popleft()
            started = await self._driver.begin(self._steps(x))
            window.append((i, x, started))
            weight += _weight(started)
            if weight > HEAVY:
                break
        self._driver.look([row[2].first[0] for row in window if row[2].first])
        return sorted(window, key=lambda row: order(row[2]))

    async def _one(self, number: int, x: X, started: Started[T]) -> None:
        try:
            result, exchanges = await self._driver.finish(started)
            kept = self._made(number, x, result, exchanges)
        except RequestError as error:
            kept = self._made(number, x, error, ())
        self._held.put(number, kept)
        if number == self._held.next and not self._mute:
            self._mute = True  # if one cannot be taken, none of those behind it is
            for due in self._held.due():
                self._emit(due)
            self._mute = False
            self._moved.set()
        self._report(self._held.next + len(self._held))


def _weight(started: Started[T]) -> int:
    """Bytes of the images that wait to be sent."""
    prompts = [request.prompt for request in started.first or () if not isinstance(request.prompt, str)]
    parts = (part for prompt in prompts for message in prompt for part in message.parts)
    return sum(len(part.data or b"") for part in parts if not isinstance(part, str))


def order(started: Started[T]) -> str:
    """By what rows of a window are sorted: the prompt that is asked first."""
    return flat(started.first[0].prompt) if started.first else ""


def flat(prompt: str | tuple[Message, ...]) -> str:
    """A prompt as one text."""
    return prompt if isinstance(prompt, str) else "\x1e".join(m.text for m in prompt)
