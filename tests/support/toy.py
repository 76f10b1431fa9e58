"""A toy language model in memory that answers every readout exactly, so that what is read can be checked by hand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icl_engine.errors import NoLogprobsError, RequestError
from icl_engine.models.places import place
from icl_engine.protocols import Steps
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    LabelScores,
    NextToken,
    Place,
    Request,
    Response,
    Spelling,
    Token,
)

FEW = ("<end>", " the", " so", " well", "ly")


@dataclass
class Toy:
    """p(token | what was spelt), over a vocabulary; by a hash of what was spelt, but where `given` says otherwise.

    Args:
        vocabulary: its tokens; a text is cut into the longest ones.
        can: what it gives; anything else it refuses.
        given: spelt text -> {token: p}; what is left goes to the other tokens evenly.
        sharpness: how unequal the hashed probabilities are.
        asked: every batch of requests.
    """

    vocabulary: Sequence[str]
    can: Capabilities
    given: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sharpness: float = 6.0
    asked: list[list[Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(dict.fromkeys((*FEW, *self.vocabulary)))
        self.id_of = {token: i for i, token in enumerate(self.tokens)}

    def cut(self, text: str) -> tuple[int, ...]:
        found = []
        while text:
            token = max((t for t in self.tokens if text.startswith(t)), key=len, default="")
            if not token:
                raise AssertionError(f"no token begins {text!r}")
            found.append(self.id_of[token])
            text = text[len(token) :]
        return tuple(found)

    def logprobs(self, spelt: str) -> dict[str, float]:
        """log p of every token after what was spelt, the likeliest first."""
        if spelt in self.given:
            some = dict(self.given[spelt])
            others = [t for t in self.tokens if t not in some]
            left = (1 - sum(some.values())) / max(1, len(others))
            weights = {**some, **dict.fromkeys(others, max(left, 1e-12))}
        else:
            weights = {t: math.exp(self.sharpness * self._draw(spelt, t)) for t in self.tokens}
        total = math.log(sum(weights.values()))
        return dict(sorted(((t, math.log(w) - total) for t, w in weights.items()), key=lambda pair: -pair[1]))

    def _draw(self, spelt: str, token: str) -> float:
        digest = hashlib.blake2b(f"{spelt}|{token}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**32

    def word(self, text: str) -> list[float]:
        """log p of each token of a text: what a step-by-step reading gives."""
        spelt, figures = "", []
        for i in self.cut(text):
            figures.append(self.logprobs(spelt)[self.tokens[i]])
            spelt += self.tokens[i]
        return figures

    # -- as an endpoint

    def answer(self, request: Request) -> Response:
        match request.readout:
            case Spelling(texts) if self.can.spelling:
                return Response("", spelt=tuple(map(self.cut, texts)))
            case NextToken(top, named, spelt, places):
                if top > self.can.top_logprobs or len(named) > self.can.named:
                    raise RequestError("refused")
                return self._next(top, named, spelt, places)
            case Continuation(text) if self.can.continuation:
                return Response(text, tuple(zip(self._shown(text), self.word(text), strict=True)))
            case Generate():
                return self._generate(request)
        raise RequestError(f"refused: {request.readout}")

    def _shown(self, text: str) -> list[Token]:
        return [i if self.can.spelling else self.tokens[i] for i in self.cut(text)]

    def _next(self, top: int, named: tuple[int, ...], spelt: tuple[int, ...] | str, places: int) -> Response:
        by_id = not isinstance(spelt, str)
        at = "".join(self.tokens[i] for i in spelt) if not isinstance(spelt, str) else spelt
        read: list[Place] = []
        said = ""
        for _ in range(places):
            figures = self.logprobs(at + said)
            allowed = [self.tokens[i] for i in named] if named and places > 1 else list(figures)
            token = max(allowed, key=figures.__getitem__)
            shown = list(figures)[:top] + [self.tokens[i] for i in named]
            key: Any = self.id_of.__getitem__ if by_id else str
            read.append(place(key(token), [(key(t), figures[t]) for t in shown], ranked=not named))
            said += token
        return Response(said, places=tuple(read))

    def _generate(self, request: Request) -> Response:
        assert isinstance(request.readout, Generate)
        best = list(self.logprobs(""))[request.sample % 3]
        return Response(best.strip())


def drive(steps: Steps[LabelScores], toy: Toy) -> LabelScores:
    """Run a generator against the toy; an error goes to the generator, as the driver does it."""
    batch = next(steps)
    while True:
        toy.asked.append(list(batch))
        try:
            try:
                answers = [toy.answer(request) for request in batch]
            except (RequestError, NoLogprobsError) as error:
                batch = steps.throw(error)
            else:
                batch = steps.send(answers)
        except StopIteration as end:
            found = end.value
            assert isinstance(found, LabelScores)
            return found
