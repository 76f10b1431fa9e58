"""`fake`: a model without weights, for tests and for trying a task file out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from icl_engine.errors import RequestError
from icl_engine.models.base import Provider
from icl_engine.models.places import place
from icl_engine.types import Capabilities, Continuation, Generate, NextToken, Request, Response, Spelling, Usage


class Fake(Provider):
    """Answers by a fixed function of the prompt's bytes: the same prompt always gets the same answer.

    Args:
        answers: what it may say; the prompt's hash weighs them.
        name: shown in summaries.
    """

    drawn: ClassVar[bool] = False

    use: Literal["fake"] = "fake"
    name: str = "fake"
    answers: tuple[str, ...] = Field(default=("positive", "negative"), min_length=1)

    @property
    def title(self) -> str:
        """Its name."""
        return self.name

    def connect(self) -> FakeEndpoint:
        """An endpoint in this process."""
        return FakeEndpoint(self.identity or f"fake:{self.name}:{'|'.join(self.answers)}", self.answers)


class FakeEndpoint:
    """See `Fake`."""

    uncertain: frozenset[str] = frozenset()
    capabilities = Capabilities(text=True, chat=True, top_logprobs=1000, continuation=True, images=True)

    def __init__(self, identity: str, answers: Sequence[str]) -> None:
        self.identity = identity
        self._answers = answers

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Holds nothing."""

    async def send(self, request: Request) -> Response:
        """The answers weighed by the prompt's hash."""
        prompt = request.prompt if isinstance(request.prompt, str) else "\n".join(m.text for m in request.prompt)
        weights = self._weights(f"{prompt}#{request.sample}")
        usage = Usage(prompt_tokens=len(prompt.split()), completion_tokens=1)
        lead = " " if isinstance(request.prompt, str) else ""
        match request.readout:
            case NextToken(top):
                tokens = sorted(((f"{lead}{a}", p) for a, p in weights.items()), key=lambda t: -t[1])[:top]
                return Response(tokens[0][0], places=(place(tokens[0][0], tokens, ranked=True),), usage=usage)
            case Continuation(text):
                logprob = weights.get(text.strip(), -20.0)
                return Response(text, ((text, logprob),), usage=usage)
            case Generate():
                return Response(f"{lead}{max(weights, key=weights.__getitem__)}", finish="stop", usage=usage)
            case Spelling():
                raise RequestError("the fake model has no tokenizer")

    def _weights(self, prompt: str) -> dict[str, float]:
        digest = hashlib.blake2b(prompt.encode(), digest_size=64).digest()
        raw = {a: digest[i % 64] / 64 for i, a in enumerate(self._answers)}
        total = math.log(sum(math.exp(v) for v in raw.values()))
        return {a: v - total for a, v in raw.items()}
