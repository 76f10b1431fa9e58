"""The driver: runs a request generator against an endpoint."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from icl_engine.asking import Started
from icl_engine.driver.budget import Budget, Caps
from icl_engine.driver.cache import Cache, Spent, content_key
from icl_engine.driver.counts import Counts
from icl_engine.driver.limiter import Limiter
from icl_engine.driver.slot import Slot
from icl_engine.errors import EndpointError, RequestError, StorageError
from icl_engine.protocols import Endpoint, Gathering, Recorded, Steps
from icl_engine.types import Capabilities, Exchange, Generate, Request, Response

log = logging.getLogger("icl_engine")

T = TypeVar("T")

Probing = Callable[[str, Capabilities, Collection[str]], Steps[tuple[Capabilities, bool]]]
"""(API, what is declared, what is wanted) -> questions that find what is there, and whether every reply was clear."""

PROBES = 1024
"""Answers kept in memory: to probes, which queries with the same demonstrations share, and of the tokenizer."""

TRIES = 3
"""How often a question for a capability is asked: servers answer 500 to what they cannot do."""


class StoppedError(Exception):
    """Nothing more is sent (`Driver.stop`)."""


class _GivenUpError(Exception):
    """A request in flight was cancelled by whoever asked it."""


class Driver:
    """Sends what generators yield: at most `concurrency` at once, from the cache where it can, again where it may help.

    Args:
        endpoint: who answers.
        cache: where answers are kept; None keeps none.
        concurrency: the most requests in flight.
        patience: seconds for which a request that fails is tried again.
        requests_per_minute: the most requests sent in any minute; None for no limit.
        tokens_per_minute: about the most tokens sent and asked for in any minute; None for no limit.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Cache | None = None,
        concurrency: int = 16,
        patience: float = 120.0,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._identity = endpoint.identity
        self._gathers = endpoint if isinstance(endpoint, Gathering) else None
        self._recorded = isinstance(endpoint, Recorded)
        self.cache = cache
        self.concurrency = min(concurrency, endpoint.capabilities.concurrency or concurrency)
        self.limiter = Limiter(self.concurrency, requests_per_minute, tokens_per_minute)
        self._rated = tokens_per_minute is not None
        self.counts = Counts()
        self.budget: Budget | None = None
        self.ledger: str | None = None
        """Under what name the cache adds up what is paid for."""
        self._flying: dict[str, asyncio.Future[Response]] = {}
        self._looked: dict[int, tuple[Request, str]] = {}  # requests that were looked for together, and their keys
        self._absent: set[str] = set()  # of these, what was not there, until it is
        self._probes: dict[str, Response] = {}
        self._checking: asyncio.Task[None] | None = None
        self._checked = False
        self._stopped = asyncio.Event()
        self._backoff = wait_random_exponential(multiplier=0.25, max=20.0)
        self._patience = patience

    async def begin(self, steps: Steps[T]) -> Started[T]:
        """Start a generator, and answer what it asks the tokenizer before its first question to the model."""
        started = Started(steps)
        while started.first and started.first[0].role == "spelling":
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

    def _shared(self, batch: Sequence[Request]) -> Iterator[Slot | None]:
        """A slot for each request that may travel with others in one HTTP request; these have it together."""
        slots: dict[Hashable, Slot] = {}
        for request in batch:
            kind = self._gathers.kind(request) if self._gathers is not None else None
            yield None if kind is None else slots.setdefault(kind, Slot(self.limiter))

    def look(self, requests: Sequence[Request]) -> None:
        """Look in the cache for all that will be asked soon, at once."""
        if self.cache is None:
            return
        keys = [content_key(self._identity, request) for request in requests]
        for request, key in zip(requests, keys, strict=True):
            self._looked[id(request)] = request, key  # it is held, so that no other gets its id
        self._absent.update(self.cache.missing(keys))

    async def ask(self, request: Request, slot: Slot | None = None) -> Exchange:
        """One request's answer: from the cache, from a twin in flight, or from the endpoint."""
        looked = self._looked.pop(id(request), None)
        key = content_key(self._identity, request) if looked is None else looked[1]
        if request.role not in ("probe", "spelling"):
            return await self._find(key, request, slot)
        if key in self._probes:
            return Exchange(request, self._probes[key], key)
        exchange = await self._find(key, request, slot)
        if len(self._probes) >= PROBES:
            self._probes.clear()
        self._probes[key] = exchange.response
        return exchange

    async def _find(self, key: str, request: Request, slot: Slot | None) -> Exchange:
        cache = None if request.role == "capability" else self.cache
        if cache is not None and key not in self._absent:
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
            if self.cache is not None:
                if self.ledger is not None and request.role != "spelling":
                    self.cache.charge(self.ledger, Spent(1, response.usage))
                if cache is not None:
                    await cache.keep(key, response)
            flight.set_result(response)
        except BaseException as error:
            flight.set_exception(error if isinstance(error, Exception) else _GivenUpError())
            flight.exception()  # a twin may or may not be waiting: either way it has been seen
            raise
        finally:
            del self._flying[key]
            self._absent.discard(key)  # whoever asks the same from now on looks for himself
        return Exchange(request, response, key)

    async def _send(self, request: Request, slot: Slot | None) -> Response:
        """The endpoint's answer; asked again for as long as that may help."""
        try:
            response = await self._try(request, slot)
        except RequestError as error:
            if not error.retryable:
                raise
            response = await self._retry(request, error)
        if request.role == "capability":
            self.counts.probes += 1
        elif self._recorded:
            self.counts.cached += request.role != "spelling"  # it was paid for when it was recorded
        elif request.role != "spelling":
            self.counts.paid += 1
            self.counts.pay(response.usage)
        return response

    async def _retry(self, request: Request, failed: RequestError | None) -> Response:
        """Ask again after a failure, with jitter; waiting its turn anew, so that others may go on meanwhile."""

        async def again() -> Response:
            nonlocal failed
            if failed is not None:
                error, failed = failed, None
                raise error
            self.counts.retries += 1
            return await self._try(request, None)

        tries = AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, RequestError) and e.retryable),
            stop=stop_after_attempt(TRIES) if request.role == "capability" else stop_after_delay(self._patience),
            wait=self._wait,
            sleep=self._rest,
            reraise=True,
        )
        return await tries(again)

    async def _try(self, request: Request, slot: Slot | None) -> Response:
        """Send a request once: within the budget, in its turn."""
        # Those that travel as one take one place, each its own tokens: these are charged when they are known.
        tokens = _about(request) if self._rated and slot is None else 0
        budget = self.budget if request.role != "spelling" else None
        # What it may cost is set aside before it has a place: who has one waits for nothing that a pause may overtake.
        claim = None if budget is None else await budget.claim(request)
        place, began = 0, math.inf
        try:
            if slot is not None:
                place = await slot.take()
            else:
                place = self.limiter.try_acquire(tokens) or await self.limiter.acquire(tokens)
            if not self._checked or self.budget is not None or (self.cache is not None and self.cache.fault):
                await self._may_send()
            began = time.monotonic()
            response = await self.endpoint.send(request)
        except BaseException as error:
            failed = error if isinstance(error, RequestError) else RequestError("", billed=_may_be_billed(error))
            sent = began < math.inf
            if place:
                seconds = time.monotonic() - began if sent and failed.congested else None
                self._leave(slot, place, seconds, congested=failed.congested, limited=failed.limited)
            if failed.retry_after is not None:
                self.limiter.pause(failed.retry_after)
            if sent and failed.billed:
                self._charge_lost(request)
            if budget is not None and claim is not None:
                budget.settle(claim, None, billed=sent and failed.billed)
            raise
        seconds = time.monotonic() - began
        self._leave(slot, place, seconds)
        if response.pause:
            self.limiter.pause(response.pause)
        if self._rated:
            self.limiter.used(tokens, response.usage.prompt_tokens + response.usage.completion_tokens, seconds)
        if budget is not None and claim is not None:
            budget.settle(claim, response.usage)
        return response

    async def _may_send(self) -> None:
        """Make sure of what may have changed while a request waited its turn."""
        if not self._checked:
            await self._check()
        if self.cache is not None and self.cache.fault is not None:
            raise StorageError(self.cache.fault)
        if self.budget is not None:
            self.budget.in_time()

    def _leave(self, slot: Slot | None, place: int, seconds: float | None, **told: bool) -> None:
        """Give a place back; `told` is what the endpoint said of its load."""
        if slot is not None:
            slot.leave(seconds, **told)
        else:
            self.limiter.release(seconds, place=place, **told)

    def _charge_lost(self, request: Request) -> None:
        """Count an answer that may have been paid for, but never came, among what the run has paid: at its worst."""
        if self.cache is not None and self.ledger is not None and request.role != "spelling":
            worst = (self.budget or Budget(Caps())).worst(request)
            self.cache.charge(self.ledger, Spent(1, worst))

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next try: exponential with full jitter; where the provider said how long, little more.

        What it asked for is waited for by all (`Limiter.pause`).
        """
        error = state.outcome.exception() if state.outcome else None
        asked = isinstance(error, RequestError) and error.retry_after is not None
        return 0.1 * self._backoff(state) if asked else self._backoff(state)

    async def _check(self) -> None:
        """Check the endpoint before its first request, once for all who wait."""
        check = self._checking
        if check is None:
            check = self._checking = asyncio.ensure_future(self.endpoint.check())
        try:
            await asyncio.shield(check)
            self._checked = True
        except EndpointError:
            # Whoever asks next checks anew; those who waited with us were told the same.
            if self._checking is check:
                self._checking = None
            raise

    def stop(self) -> None:
        """Send nothing more: what is in flight comes home, what waits for anything else ends with a StoppedError."""
        self.limiter.stop(StoppedError())
        self._stopped.set()

    async def _rest(self, seconds: float) -> None:
        """Wait before the next try, unless nothing is sent any more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def close(self) -> None:
        """Close the endpoint and the cache."""
        await self.endpoint.close()
        if self.cache is not None:
            self.cache.close()
            if self.cache.unsaved:
                log.warning("%d answers that were paid for could not be kept: there was no room", self.cache.unsaved)


def _may_be_billed(error: BaseException) -> bool:
    """Whether a request that was given up may have been charged for: not one that the endpoint refused."""
    return not isinstance(error, EndpointError)


def _about(request: Request) -> int:
    """About how many tokens a request takes of a minute's: providers count a prompt's characters and the most said."""
    prompt, readout = request.prompt, request.readout
    sent = len(prompt) if isinstance(prompt, str) else sum(len(message.text) for message in prompt)
    said = readout.sampling.max_tokens if isinstance(readout, Generate) else 1
    return sent // 4 + said
