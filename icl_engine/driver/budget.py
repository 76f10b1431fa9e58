"""What a run may spend: checked before each request, with the worst case of all that is in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from icl_engine.errors import BudgetError
from icl_engine.types import Continuation, Generate, Image, NextToken, Request, Usage

TURN, CHAT = 16, 256
"""Tokens of a turn's own marks, and of what a chat template says by itself, at most."""

IMAGE = 8192
"""Tokens of an image, at most; providers count some hundred to a few thousand."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a run may spend; None for no cap.

    Args:
        cost_usd: by the model's price.
        tokens: of prompts and answers, as the provider counts them.
        requests: answers that are paid for.
        seconds: after which nothing more is sent.
    """

    cost_usd: float | None = None
    tokens: int | None = None
    requests: int | None = None
    seconds: float | None = None

    def __bool__(self) -> bool:
        return any(cap is not None for cap in (self.cost_usd, self.tokens, self.requests, self.seconds))


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request in flight may yet cost, at most."""

    cost: float
    tokens: int


NOTHING = Usage()


def in_bytes(text: str) -> int:
    """The most tokens a text has, whatever the tokenizer: one a byte, and one that begins it.

    >>> in_bytes("né")
    4
    """
    return len(text.encode("utf-8", "surrogatepass")) + 1


@dataclass
class Budget:
    """Caps on what is paid for; answers from the cache cost nothing.

    A request is sent only if, with all that is in flight at its worst, no cap is passed:
    ``spent + Σ worst(in flight) + worst(request) ≤ cap``. Else it waits for what is in flight to turn out cheaper;
    where nothing is, the budget is spent.

    Args:
        caps: see there.
        cost: USD of a usage, at most, where some of a price is not told apart by what a provider counts.
        count: the most tokens a text has; its bytes, where no tokenizer is known.
        spent: usage so far.
        requests: answers paid for so far.

    >>> budget = Budget(Caps(requests=1))
    >>> first = budget.take(Request("2 + 2 =", Generate()))
    >>> budget.take(Request("3 + 3 =", Generate())) is None  # it waits for the first
    True
    >>> budget.settle(first, Usage(5, 0, 1))
    >>> budget.take(Request("3 + 3 =", Generate()))
    Traceback (most recent call last):
    icl_engine.errors.BudgetError: stopped at run.max_requests: 1 of 1 spent; raise it to go on from here
    """

    caps: Caps
    cost: Callable[[Usage], float] = lambda _: 0.0
    count: Callable[[str], int] = in_bytes
    spent: Usage = NOTHING
    requests: int = 0
    _dollars: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _flying: int = 0
    _claimed: Claim = Claim(0.0, 0)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _spent_up: BudgetError | None = None

    def __post_init__(self) -> None:
        self._dollars = self.cost(self.spent)

    async def claim(self, request: Request) -> Claim:
        """Set aside what a request may cost at most; waits while others in flight may leave enough.

        Raises:
            BudgetError: there is not enough left.
        """
        while (claim := self.take(request)) is None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        return claim

    def take(self, request: Request) -> Claim | None:
        """`claim` at once; None where it has to wait."""
        if self._spent_up is not None:
            raise self._spent_up
        worst = self.worst(request)
        claim = Claim(self.cost(worst), worst.prompt_tokens + worst.completion_tokens)
        over = self._over(claim)
        if over is None:
            self._flying += 1
            self._claimed = Claim(self._claimed.cost + claim.cost, self._claimed.tokens + claim.tokens)
            return claim
        if self._flying and not over.startswith("run.max_seconds"):
            return None
        raise self._stop(over)

    def in_time(self) -> None:
        """Make sure that there is time left, for a request that waited its turn since its claim.

        Raises:
            BudgetError: there is none.
        """
        if self.late is not None:
            raise self._stop(self.late)

    def _stop(self, over: str) -> BudgetError:
        """The first that does not fit ends it for all, so that a cheaper one does not go on in its place."""
        self._spent_up = self._spent_up or BudgetError(f"stopped at {over}; raise it to go on from here")
        return self._spent_up

    @property
    def late(self) -> str | None:
        """That time is up."""
        cap, gone = self.caps.seconds, time.monotonic() - self._began
        return None if cap is None or gone < cap else f"run.max_seconds: {gone:.0f} of {cap:g} seconds gone"

    def _over(self, claim: Claim) -> str | None:
        """The cap that a further request may pass, and how much of it is spent."""
        caps, flying = self.caps, self._claimed
        if (late := self.late) is not None:
            return late
        if caps.requests is not None and self.requests + self._flying + 1 > caps.requests:
            return f"run.max_requests: {self.requests} of {caps.requests} spent"
        tokens = self.spent.prompt_tokens + self.spent.completion_tokens
        if caps.tokens is not None and tokens + flying.tokens + claim.tokens > caps.tokens:
            return f"run.max_tokens: {tokens} of {caps.tokens} spent, and one more request may take {claim.tokens}"
        if caps.cost_usd is not None and self._dollars + flying.cost + claim.cost > caps.cost_usd:
            spent = f"${self._dollars:.6g} of ${caps.cost_usd:g}"
            return f"run.max_cost_usd: {spent} spent, and one more request may cost ${claim.cost:.6g}"
        return None

    def settle(self, claim: Claim, used: Usage | None, *, billed: bool = True) -> None:
        """Put what a request did cost in the place of what it might have.

        Args:
            claim: what was set aside.
            used: as the provider counted; None where no answer came.
            billed: whether it may have been charged for all the same; then the worst is taken for real.
        """
        self._flying -= 1
        self._claimed = Claim(max(0.0, self._claimed.cost - claim.cost), self._claimed.tokens - claim.tokens)
        if used is not None:
            self.spent += used
            self._dollars += self.cost(used)
            self.requests += 1
        elif billed:
            self.spent += Usage(claim.tokens)
            self._dollars += claim.cost
            self.requests += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def worst(self, request: Request) -> Usage:
        """The most a request can be charged for."""
        prompt, readout = request.prompt, request.readout
        if isinstance(prompt, str):
            sent = self.count(prompt)
        else:
            parts = [part for message in prompt for part in message.parts]
            sent = CHAT + TURN * len(prompt) + sum(IMAGE if isinstance(p, Image) else self.count(p) for p in parts)
        match readout:
            case Generate(sampling, grammar, schema, choices):
                beside = [orjson.dumps(schema).decode()] if schema is not None else [grammar or "", *choices]
                return Usage(sent + sum(self.count(text) for text in beside if text), 0, sampling.max_tokens)
            case NextToken(_, _, spelt, places):
                return Usage(sent + (self.count(spelt) if isinstance(spelt, str) else len(spelt)), 0, places)
            case Continuation(text):
                most = self.count(text)
                return Usage(sent + most, 0, most)
        return Usage()
