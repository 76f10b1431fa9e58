"""Requests that arrive together travel together, where the server can answer several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import orjson

from icl_engine.errors import RequestError
from icl_engine.types import Generate, Request, Response, Usage

Ask = Callable[[Sequence[Request]], Awaitable[Sequence[Response]]]
"""Requests of one kind -> their answers in order; fewer, where the server gave fewer."""


MOST = 64
"""Samples in one request."""


def is_drawn(request: Request) -> bool:
    """Whether it is one of several answers that are drawn: without a seed, which would tell them apart."""
    readout = request.readout
    return isinstance(readout, Generate) and readout.sampling.temperature > 0 and readout.sampling.seed is None


def samples_of(request: Request) -> Hashable:
    """What the samples of one prompt have in common: all but their number."""
    readout = request.readout
    if not isinstance(readout, Generate):
        return replace(request, sample=0)
    return replace(request, readout=replace(readout, schema=None), sample=0), orjson.dumps(readout.schema)


@dataclass
class _Group:
    """Requests that leave in one HTTP request."""

    requests: list[Request] = field(default_factory=list)
    answers: list[asyncio.Future[Response]] = field(default_factory=list)


class Together:
    """Gathers the requests of one turn of the event loop by what they have in common.

    A group that fails for good is asked again one by one, since one of its requests may be the reason. If that goes
    well, the server cannot answer several at once, and no group is made from then on.

    Args:
        ask: sends requests that have the same key, one or several.
        key: what requests must have in common; None for one that travels alone.
        most: the most requests in a group of a key.
    """

    def __init__(self, ask: Ask, key: Callable[[Request], Hashable | None], most: Callable[[Request], int]) -> None:
        self._ask, self._key, self._most = ask, key, most
        self._waiting: dict[Hashable, _Group] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._alone: set[type] = set()
        """Kinds of readouts of which the server was seen to answer only one at a time."""

    async def send(self, request: Request) -> Response:
        """One request's answer."""
        key = None if type(request.readout) in self._alone else self._key(request)
        if key is None:
            return (await self._ask([request]))[0]
        loop = asyncio.get_running_loop()
        group = self._waiting.get(key)
        if group is None:
            group = self._waiting[key] = _Group()
            loop.call_soon(self._leave, key, group)
        answer: asyncio.Future[Response] = loop.create_future()
        group.requests.append(request)
        group.answers.append(answer)
        if len(group.requests) >= self._most(request):
            self._leave(key, group)
        return await answer

    def _leave(self, key: Hashable, group: _Group) -> None:
        if self._waiting.get(key) is group:
            del self._waiting[key]
            flight = asyncio.ensure_future(self._fly(group))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, group: _Group) -> None:
        """Ask for a group, and hand the answers out."""
        answers: Sequence[Response | BaseException]
        try:
            answers = await self._asked(group.requests)
        except Exception as error:  # whatever it is, those who wait are told
            answers = [error] * len(group.requests)
        except asyncio.CancelledError:
            for waiting in group.answers:
                waiting.cancel()
            raise
        for waiting, answer in zip(group.answers, answers, strict=True):
            if waiting.done():  # whoever asked was cancelled
                continue
            if isinstance(answer, BaseException):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    async def _asked(self, requests: Sequence[Request]) -> Sequence[Response | BaseException]:
        try:
            got: Sequence[Response] = await self._ask(requests)
        except RequestError as error:
            if error.retryable or len(requests) == 1 or requests[0].role == "capability":
                raise
            got = ()
        left = requests[len(got) :]
        if not left:
            return got
        if requests[0].role == "capability":  # whether several can be answered at once is just what is asked
            raise RequestError(f"the server answers {len(got)} of {len(requests)} requests that travel together")
        each = await asyncio.gather(*(self._ask([request]) for request in left), return_exceptions=True)
        if any(not isinstance(answer, BaseException) for answer in each):
            self._alone.add(type(requests[0].readout))
        return [*got, *(answer if isinstance(answer, BaseException) else answer[0] for answer in each)]

    async def close(self) -> None:
        """Give up what is in flight."""
        for flight in tuple(self._flights):
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)


def shares(used: Usage, count: int, *, one_prompt: bool) -> list[Usage]:
    """What each of several answers cost of what a request did: in sum exactly that.

    Args:
        used: what the HTTP request cost.
        count: its answers.
        one_prompt: whether they are answers to one prompt, which the first then paid for.

    >>> shares(Usage(7, 0, 3), 2, one_prompt=True)
    [Usage(prompt_tokens=7, cached_prompt_tokens=0, completion_tokens=2), \
Usage(prompt_tokens=0, cached_prompt_tokens=0, completion_tokens=1)]
    """
    if count == 1:
        return [used]

    def part(total: int, i: int) -> int:
        return total // count + (i < total % count)

    if one_prompt:
        first = (used.prompt_tokens, used.cached_prompt_tokens)
        return [Usage(*(first if i == 0 else (0, 0)), part(used.completion_tokens, i)) for i in range(count)]
    return [
        Usage(part(used.prompt_tokens, i), part(used.cached_prompt_tokens, i), part(used.completion_tokens, i))
        for i in range(count)
    ]
