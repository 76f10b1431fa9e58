"""Rows through the driver as a stream: bounded memory, results in data order whatever order they arrive in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from icl_engine.driver.driver import Driver, Started
from icl_engine.errors import RequestError
from icl_engine.protocols import Steps
from icl_engine.types import Exchange, Message

X = TypeVar("X")
T = TypeVar("T")

WINDOW = 256
"""Rows rendered ahead and ordered by prompt, so that equal prefixes travel together and a prefix cache serves them."""

HEAVY = 64_000_000
"""Bytes of images after which a window is closed early: they are held until their row is sent."""

Outcome = tuple[X, T | RequestError, tuple[Exchange, ...]]


class Stream(Generic[X, T]):
    """Runs ``steps(x)`` for every x, at most `driver.concurrency` at once.

    Args:
        driver: who sends.
        steps: the method.
        stopping: asked before a new row is begun; true ends the stream after what is in flight.
        report: told how many rows are done, as they arrive.
    """

    def __init__(
        self,
        driver: Driver,
        steps: Callable[[X], Steps[T]],
        stopping: Callable[[], bool] = lambda: False,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._driver, self._steps, self._stopping, self._report = driver, steps, stopping, report

    async def over(self, rows: Iterator[X]) -> AsyncIterator[Outcome[X, T]]:
        """(x, result or the reason there is none, exchanges) of each row, in the order of the rows.

        A row without an answer does not end the stream; any other error does, once what is in flight has been kept.
        """
        numbered = enumerate(rows)
        ready: deque[tuple[int, X, Started[T]]] = deque()
        flying: set[asyncio.Task[tuple[int, Outcome[X, T]]]] = set()
        done: dict[int, Outcome[X, T]] = {}
        emitted = 0
        try:
            while True:
                while len(flying) < self._driver.concurrency and not self._stopping():
                    if not ready:
                        # A straggler holds back its window: begin no third one, so that memory stays bounded.
                        if len(done) > 2 * WINDOW:
                            break
                        ready.extend(await self._window(numbered))
                    if not ready:
                        break
                    flying.add(asyncio.ensure_future(self._one(*ready.popleft())))
                if not flying:
                    return
                finished, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                # Every task is looked at, so that none reports its error a second time on its own.
                for error in [task.exception() for task in finished]:
                    if error is not None:
                        raise error
                done.update(task.result() for task in finished)
                self._report(emitted + len(done))
                while emitted in done:
                    yield done.pop(emitted)
                    emitted += 1
        except Exception:
            await asyncio.gather(*flying, return_exceptions=True)
            raise
        finally:
            for task in flying:
                task.cancel()

    async def _window(self, numbered: Iterator[tuple[int, X]]) -> list[tuple[int, X, Started[T]]]:
        window: list[tuple[int, X, Started[T]]] = []
        weight = 0
        for i, x in islice(numbered, WINDOW):
            started = await self._driver.begin(self._steps(x))
            window.append((i, x, started))
            weight += _weight(started)
            if weight > HEAVY:
                break
        return sorted(window, key=lambda row: order(row[2]))

    async def _one(self, index: int, x: X, started: Started[T]) -> tuple[int, Outcome[X, T]]:
        try:
            result, exchanges = await self._driver.finish(started)
            return index, (x, result, exchanges)
        except RequestError as error:
            return index, (x, error, ())


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
