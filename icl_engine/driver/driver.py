"""The driver: runs a request generator against an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from icl_engine.driver.budget import Budget
from icl_engine.driver.cache import Cache, content_key
from icl_engine.errors import EndpointError, RequestError
from icl_engine.protocols import Endpoint, Gathering, Steps
from icl_engine.types import Capabilities, Exchange, Request, Response

T = TypeVar("T")

Probing = Callable[[str, Capabilities, Collection[str]], Steps[tuple[Capabilities, bool]]]
"""(API, what is declared, what is wanted) -> questions that find what is there, and whether every reply was clear."""

PROBES = 1024
"""Answers kept in memory: to probes, which queries with the same demonstrations share, and of the tokenizer."""

TRIES = 3
"""How often a question for a capability is asked: servers answer 500 to what they cannot do."""


class Started(Generic[T]):
    """A request generator at its first requests, so that queries can be ordered before they are sent."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._result: list[T] = []
        self.first = self._advance(lambda: next(steps))

    def send(self, responses: Sequence[Response]) -> Sequence[Request] | None:
        """The next requests; None at the end."""
        return self._advance(lambda: self._steps.send(responses))

    def throw(self, error: RequestError) -> Sequence[Request] | None:
        """Tell the generator that its requests got no answer: its next requests, or the error again."""
        return self._advance(lambda: self._steps.throw(error))

    def _advance(self, step: Callable[[], Sequence[Request]]) -> Sequence[Request] | None:
        try:
            return step()
        except StopIteration as end:
            self._result.append(end.value)
            return None

    def result(self) -> T:
        """What the generator returned."""
        return self._result[0]


class _GivenUpError(Exception):
    """A request in flight was cancelled by whoever asked it."""


class _Slot:
    """A place among the requests in flight; several requests that travel as one share it.

    All who wait for it go on in the same turn of the event loop, so that they meet again at the endpoint.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots, self._holders = slots, 0
        self._taken: asyncio.Future[Literal[True]] | None = None

    async def __aenter__(self) -> None:
        self._holders += 1
        try:
            if self._taken is None:
                self._taken = asyncio.ensure_future(self._slots.acquire())
            await asyncio.shield(self._taken)
        except BaseException:
            self._let_go()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        self._holders -= 1
        taken = self._taken
        if self._holders or taken is None:
            return
        self._taken = None
        if taken.done() and not taken.cancelled():
            self._slots.release()
        else:
            taken.cancel()


@dataclass
class Counts:
    """What this process sent.

    Args:
        paid: answers paid for.
        cached: answers found in the cache.
        retries: requests sent again.
        probes: answers that told what the endpoint can do.
    """

    paid: int = 0
    cached: int = 0
    retries: int = 0
    probes: int = 0


class Driver:
    """Sends what generators yield: at most `concurrency` at once, from the cache where it can, again where it may help.

    Args:
        endpoint: who answers.
        cache: where answers are kept; None keeps none.
        concurrency: the most requests in flight.
        deadline: seconds after which a request is not tried again.
    """

    def __init__(
        self, endpoint: Endpoint, cache: Cache | None = None, concurrency: int = 16, deadline: float = 120.0
    ) -> None:
        self.endpoint = endpoint
        self._identity = endpoint.identity
        self.cache = cache
        self.concurrency = min(concurrency, endpoint.capabilities.concurrency or concurrency)
        self.counts = Counts()
        self.budget: Budget | None = None
        self._slots = asyncio.Semaphore(self.concurrency)
        self._flying: dict[str, asyncio.Future[Response]] = {}
        self._probes: dict[str, Response] = {}
        self._checked: asyncio.Task[None] | None = None
        self._backoff = wait_random_exponential(multiplier=0.25, max=20.0)
        self._deadline = deadline

    async def begin(self, steps: Steps[T]) -> Started[T]:
        """Start a generator, and answer what it asks the tokenizer before its first question to the model."""
        started = Started(steps)
        while started.first and all(request.role == "spelling" for request in started.first):
            try:
                answered = await self._answer(started.first)
            except RequestError as error:
                started.first = started.throw(error)
            else:
                started.first = started.send([e.response for e in answered])
        return started

    async def probe(self, api: str, wanted: Iterable[str], probing: Probing) -> None:
        """Find out which of the wanted capabilities the endpoint has, where that differs from server to server.

        Asked once per endpoint and model: what was found is kept in the cache, if every reply was clear.

        Args:
            api: ``completions`` or ``chat``.
            wanted: names of fields of `Capabilities`.
            probing: the questions.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        self.recall(api)
        endpoint = self.endpoint
        open_ = endpoint.uncertain.intersection(wanted) - endpoint.capabilities.probed
        if not open_:
            return
        await self._check()  # some endpoints learn what they can from the server's own description
        open_ -= endpoint.capabilities.probed
        # Only an endpoint that can gather samples in one request does so: to be tried, it is told that it can.
        can = replace(endpoint.capabilities, samples=endpoint.capabilities.samples or "samples" in open_)
        endpoint.capabilities = can
        (endpoint.capabilities, clear), _ = await self.drive(probing(api, can, open_))
        if clear and self.cache is not None:
            found = endpoint.capabilities
            self.cache.remember(
                f"{self._identity}|{api}", {field: getattr(found, field) for field in sorted(found.probed)}
            )

    def recall(self, api: str) -> None:
        """Take in what was found of the endpoint before."""
        kept = self.cache.recall(f"{self._identity}|{api}") if self.cache is not None else None
        if kept is not None:
            can = self.endpoint.capabilities
            known: dict[str, Any] = {field: kept[field] for field in kept.keys() & self.endpoint.uncertain}
            self.endpoint.capabilities = replace(can, **known, probed=can.probed | known.keys())

    def forget(self, api: str) -> None:
        """Have `probe` find everything anew."""
        self.endpoint.capabilities = replace(self.endpoint.capabilities, probed=frozenset())
        if self.cache is not None:
            self.cache.forget(f"{self._identity}|{api}")

    async def drive(self, steps: Steps[T]) -> tuple[T, tuple[Exchange, ...]]:
        """Run a generator to its end; returns its result and every exchange it rests on, in the order asked.

        Raises:
            RequestError: a request got no answer; EndpointError: none would.
        """
        return await self.finish(Started(steps))

    async def finish(self, started: Started[T]) -> tuple[T, tuple[Exchange, ...]]:
        """`drive` for a generator that has been started."""
        exchanges: list[Exchange] = []
        batch = started.first
        while batch is not None:
            try:
                answered = await self._answer(batch)
            except RequestError as error:
                batch = started.throw(error)  # it may know another way; else it raises the error again
                continue
            exchanges += answered
            batch = started.send([e.response for e in answered])
        return started.result(), tuple(exchanges)

    async def _answer(self, batch: Sequence[Request]) -> list[Exchange]:
        if len(batch) == 1:
            return [await self.ask(batch[0])]
        # All are waited for, and the first in order is the one that is told: what is done never depends on timing.
        asking = (self.ask(request, slot) for request, slot in zip(batch, self._shared(batch), strict=True))
        answered = await asyncio.gather(*asking, return_exceptions=True)
        for exchange in answered:
            if isinstance(exchange, BaseException):
                raise exchange
        return [exchange for exchange in answered if isinstance(exchange, Exchange)]

    def _shared(self, batch: Sequence[Request]) -> Iterator[_Slot]:
        """A slot for each request; those that will travel in one HTTP request have it together."""
        gathers = self.endpoint if isinstance(self.endpoint, Gathering) else None
        slots: dict[Hashable, _Slot] = {}
        for request in batch:
            kind = gathers.kind(request) if gathers is not None else None
            yield _Slot(self._slots) if kind is None else slots.setdefault(kind, _Slot(self._slots))

    async def ask(self, request: Request, slot: _Slot | None = None) -> Exchange:
        """One request's answer: from the cache, from a twin in flight, or from the endpoint."""
        key = content_key(self._identity, request)
        shared = request.role in ("probe", "spelling")
        if shared and key in self._probes:
            return Exchange(request, self._probes[key], key)
        exchange = await self._find(key, request, slot or _Slot(self._slots))
        if shared:
            if len(self._probes) >= PROBES:
                self._probes.clear()
            self._probes[key] = exchange.response
        return exchange

    async def _find(self, key: str, request: Request, slot: _Slot) -> Exchange:
        cache = None if request.role == "capability" else self.cache
        if cache is not None:
            kept = cache.get(key)
            if kept is not None:
                self.counts.cached += request.role != "spelling"
                return Exchange(request, kept, key)
        while (twin := self._flying.get(key)) is not None:
            try:
                return Exchange(request, await asyncio.shield(twin), key)
            except _GivenUpError:
                continue  # whoever asked first was cancelled: ask in its place
        flight = self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            response = await self._send(request, slot)
            if cache is not None:
                cache.put(key, response)
            flight.set_result(response)
        except BaseException as error:
            flight.set_exception(error if isinstance(error, Exception) else _GivenUpError())
            flight.exception()  # a twin may or may not be waiting: either way it has been seen
            raise
        finally:
            del self._flying[key]
        return Exchange(request, response, key)

    async def _send(self, request: Request, slot: _Slot) -> Response:
        async with slot:
            # Looked at here, a slot at hand: no more than what is in flight can go over the cap.
            if self.budget is not None:
                self.budget.check()
            await self._check()
            tries = AsyncRetrying(
                retry=retry_if_exception(lambda e: isinstance(e, RequestError) and e.retryable),
                stop=stop_after_attempt(TRIES) if request.role == "capability" else stop_after_delay(self._deadline),
                wait=self._wait,
                reraise=True,
            )
            async for attempt in tries:
                with attempt:
                    self.counts.retries += attempt.retry_state.attempt_number > 1
                    response = await self.endpoint.send(request)
                    self.counts.paid += request.role not in ("spelling", "capability")
                    self.counts.probes += request.role == "capability"
            if self.budget is not None:
                self.budget.charge(response.usage)
            return response

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next try: what the provider asked for, else exponential with full jitter."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, RequestError) else None
        return self._backoff(state) if asked is None else asked + 0.1 * self._backoff(state)

    async def _check(self) -> None:
        """Check the endpoint before its first request, once for all who wait."""
        check = self._checked
        if check is None:
            check = self._checked = asyncio.ensure_future(self.endpoint.check())
        try:
            await asyncio.shield(check)
        except EndpointError:
            # Whoever asks next checks anew; those who waited with us were told the same.
            if self._checked is check:
                self._checked = None
            raise

    async def close(self) -> None:
        """Close the endpoint and the cache."""
        await self.endpoint.close()
        if self.cache is not None:
            self.cache.close()
