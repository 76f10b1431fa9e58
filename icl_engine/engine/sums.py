"""What questions to the model add up to, and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from icl_engine.engine.prices import Price
from icl_engine.engine.stream import flat
from icl_engine.tokens import TokenCounter, Tokens, shared
from icl_engine.types import Message, Role

NONE = Tokens()

PROBE, PROBE_SAID = Tokens(8, 16, 64), 32
"""Tokens of a question about the endpoint itself, and the most tokens of its answer."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one question takes.

    Args:
        requests: sure to be sent.
        cached: of these, answers in the cache.
        beside: tokens they send beside the prompt, in all.
        said: the most tokens that the answers to be paid for have.
        places: tokens read for label scores.
        further: the most requests there may be beside these; each says at most `longest` tokens.
        longest: see there.
    """

    requests: int = 1
    cached: int = 0
    beside: Tokens = NONE
    said: int = 1
    places: int = 0
    further: int = 0
    longest: int = 1


@dataclass
class Sums:
    """Sums over questions, in the order in which they are sent.

    Args:
        count: counts a prompt's tokens.
        context: the longest prompt the model takes, where that is known.
        rows: examples.
        requests: role -> requests sure to be sent.
        further: role -> the most requests there may be beside these.
        cached: of the sure ones, those whose answers are in the cache.
        prompt: prompt tokens of the sure ones, cached or not.
        paid: prompt tokens of those that are to be paid for.
        again: of these, what the prompt sent before begins with too: what a prompt cache can serve.
        more: prompt tokens of the further ones.
        said: the most answer tokens of those that are to be paid for, and of the further ones.
        places: tokens read for label scores.
        over: rows with a prompt longer than the context window.
        first_over: the first of these, from 0.
        probing: rows whose content-free inputs were not asked for a row before.
        images: requests that show images.
    """

    count: TokenCounter
    context: int | None = None
    rows: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    further: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    prompt: Tokens = NONE
    paid: Tokens = NONE
    again: Tokens = NONE
    more: Tokens = NONE
    said: int = 0
    places: int = 0
    over: int = 0
    first_over: int | None = None
    probing: int = 0
    images: int = 0
    _last: str = ""
    _seen: set[int] = field(default_factory=set)

    def new(self, key: str) -> bool:
        """Whether a content key was not met before (64 bits of it: a million rows fit in memory)."""
        short = int(key[:16], 16)
        known = short in self._seen
        self._seen.add(short)
        return not known

    def add(self, index: int, role: Role, prompt: str | tuple[Message, ...], taken: Taken) -> None:
        """Add a question of a row."""
        text, tokens = flat(prompt), self.count(prompt)
        to_pay = taken.requests - taken.cached
        self.requests[role] += taken.requests
        self.further[role] += taken.further
        self.cached += taken.cached
        self.prompt += tokens * taken.requests + taken.beside
        self.paid += tokens * to_pay + taken.beside * (to_pay / max(1, taken.requests))
        if to_pay:
            self.again += tokens * (shared(self._last, text) / max(1, len(text)) + to_pay - 1)
            self._last = text
        self.more += tokens * taken.further
        self.said += taken.said + taken.further * taken.longest
        self.places += taken.places
        self.images += taken.requests if _shows_images(prompt) else 0
        if role in ("main", "sample") and self.context is not None and tokens.about > self.context:
            self.over += 1
            self.first_over = index if self.first_over is None else min(index, self.first_over)

    def extend(self, further: Mapping[Role, int], taken: Mapping[Role, Taken], length: float) -> None:
        """Add questions whose tokens are not counted, by those that are.

        Args:
            further: role -> questions.
            taken: role -> what each takes.
            length: of their prompts, in those of the counted ones.
        """
        before = self.requests.total()
        for role, n in further.items():
            each = taken.get(role, Taken())
            self.requests[role] += n * each.requests
            self.further[role] += n * each.further
        self.prompt, self.paid, self.again, self.more = (
            tokens * (1 + length) for tokens in (self.prompt, self.paid, self.again, self.more)
        )
        times = self.requests.total() / max(1, before)
        self.said, self.places, self.images = (round(n * times) for n in (self.said, self.places, self.images))

    @property
    def to_pay(self) -> int:
        """Sure requests that are not in the cache."""
        return self.requests.total() - self.cached

    def cost(self, price: Price, probes: int) -> tuple[float, float]:
        """USD at least and at most; `probes` more requests may be about the endpoint itself.

        At least: all that a prompt cache can serve comes from it, and an answer is one token. At most: nothing does,
        all is put there (which may cost more), and every answer is as long as it may be.
        """
        low = (self.paid.low - self.again.low) * price.input + self.again.low * price.read + self.to_pay * price.output
        prompts = self.paid.high + self.more.high + probes * PROBE.high
        high = prompts * max(price.input, price.written) + (self.said + probes * PROBE_SAID) * price.output
        return round(low / 1e6, 6), round(high / 1e6, 6)


def _shows_images(prompt: str | Sequence[Message]) -> bool:
    return not isinstance(prompt, str) and any(not isinstance(part, str) for m in prompt for part in m.parts)
