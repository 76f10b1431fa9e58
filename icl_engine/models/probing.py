"""What an endpoint can really do, found by asking: each capability is judged by its effect, never by a name or a 200.

Servers ignore fields they do not know in silence, fill figures with zeros, and begin a new turn where an answer was to
be continued. So every probe asks for something that only an endpoint with the capability would answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import orjson

from icl_engine.errors import RequestError
from icl_engine.protocols import Steps
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    Image,
    Message,
    NextToken,
    Request,
    Response,
    Sampling,
    Spelling,
)

WIDTHS = (100, 20, 5, 1)
"""Widths of a top-k that servers are set to."""

NAMED = (128, 16, 2)
"""Numbers of named tokens that are tried; vLLM scores up to 128."""

FIRST_ID = 200
"""Named tokens are tried from this id on: in every vocabulary, and never the likeliest ones all together."""

AGREE = 0.25
"""Nats by which two measurements of one log p may differ: engines compute in few bits, and by batch."""

TEXT = "The colour I like best is"
CHAT = (Message("user", "Name a colour."),)
ODD = ("zq", "xv")
"""Answers that no model gives by itself."""

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c63f8cfc0f01f00050001ffa4a7b5e30000000049454e44ae426082"
)
"""A PNG of one pixel."""


class Probe:
    """One endpoint's questions; each method answers for one capability.

    Args:
        api: ``completions`` or ``chat``.
        declared: what the provider says it can give.
    """

    def __init__(self, api: str, declared: Capabilities) -> None:
        self.chat = api == "chat"
        self.prompt: Any = CHAT if self.chat else TEXT
        self.found = declared
        self.clear = True

    def _try(self, *requests: Request) -> Steps[list[Response] | None]:
        """The answers, or None where the endpoint refuses; a fault that may pass leaves the outcome unclear."""
        try:
            return list((yield requests))
        except RequestError as error:
            self.clear = self.clear and not error.retryable
            return None

    def _request(self, readout: Any, prompt: Any = None, sample: int = 0) -> Request:
        return Request(self.prompt if prompt is None else prompt, readout, sample, "capability")

    def top_logprobs(self) -> Steps[int]:
        for width in (w for w in WIDTHS if w <= max(self.found.top_logprobs, WIDTHS[0])):
            answers = yield from self._try(self._request(NextToken(width)))
            if answers and answers[0].places:
                return min(width, len(answers[0].places[0].seen))
        # Nothing at all? Where not even plain text is given, the reason ends the run.
        yield from self._try(self._request(Generate(Sampling(max_tokens=1))))
        return 0

    def spelling(self) -> Steps[bool]:
        end: Any = () if self.chat else TEXT.rsplit(None, 1)[-1]
        texts = ("blue", "grey green") if self.chat else (" blue", " grey green")
        answers = yield from self._try(Request(end, Spelling(texts), role="capability"))
        return answers is not None and len(answers[0].spelt) == len(texts) and all(answers[0].spelt)

    def named(self) -> Steps[int]:
        for width in NAMED:
            wanted = tuple(range(FIRST_ID, FIRST_ID + width))
            answers = yield from self._try(self._request(NextToken(0, wanted, ())))
            if answers and answers[0].places and set(wanted) <= set(answers[0].places[0].seen):
                return width
        return 0

    def continuation(self) -> Steps[bool]:
        """A continuation's first figure must be what the next token's is."""
        answers = yield from self._try(self._request(NextToken(1)))
        if not answers or not answers[0].places:
            return False
        said, logprob = next(iter(answers[0].places[0].seen.items()))
        if not isinstance(said, str) or not said.strip():
            return False
        again = yield from self._try(self._request(Continuation(said)))
        figures = [] if again is None else [p for _, p in again[0].tokens]
        return len(figures) == 1 and abs(figures[0] - logprob) < AGREE

    def prefill(self) -> Steps[bool]:
        """An answer that is gone on with costs its own tokens; one that was taken for ended also costs a new turn."""
        if not self.chat:
            return True
        bare = self._request(Generate(Sampling(max_tokens=1)))
        begun = [self._request(NextToken(1, (), " ".join(["the"] * n))) for n in (2, 4)]
        answers = yield from self._try(bare, *begun)
        if answers is None:
            return False
        none, two, four = (a.usage.prompt_tokens for a in answers)
        return 0 < two - none <= four - two

    def schema(self) -> Steps[bool]:
        shape = {"type": "object", "properties": {"a": {"type": "string", "enum": [ODD[0]]}}, "required": ["a"]}
        readout = Generate(Sampling(max_tokens=32), schema={**shape, "additionalProperties": False})
        answers = yield from self._try(self._request(readout))
        try:
            return answers is not None and orjson.loads(answers[0].text) == {"a": ODD[0]}
        except ValueError:
            return False

    def grammar(self) -> Steps[bool]:
        answers = yield from self._try(self._request(Generate(Sampling(max_tokens=8), grammar=f'root ::= "{ODD[0]}"')))
        return answers is not None and answers[0].text.strip() == ODD[0]

    def choice(self) -> Steps[bool]:
        answers = yield from self._try(self._request(Generate(Sampling(max_tokens=8), choices=ODD)))
        return answers is not None and answers[0].text.strip() in ODD

    def samples(self) -> Steps[bool]:
        readout = Generate(Sampling(max_tokens=4, temperature=1.0))
        answers = yield from self._try(self._request(readout), self._request(readout, sample=1))
        return answers is not None

    def seed(self) -> Steps[bool]:
        """Two requests of one seed say the same (they are two samples, so that neither is served from a cache)."""
        one = self._request(Generate(Sampling(max_tokens=12, temperature=1.0, seed=8)))
        same = self._request(Generate(Sampling(max_tokens=12, temperature=1.0, seed=7)), sample=1)
        answers = yield from self._try(one, same)
        return answers is not None and answers[0].text == answers[1].text != ""

    def images(self) -> Steps[bool]:
        """An image that is looked at costs tokens."""
        if not self.chat:
            return False
        shown = (Message("user", (str(CHAT[0].content), Image("pixel.png", data=PIXEL, media_type="image/png"))),)
        readout = Generate(Sampling(max_tokens=1))
        answers = yield from self._try(self._request(readout, shown), self._request(readout))
        return answers is not None and answers[0].usage.prompt_tokens > answers[1].usage.prompt_tokens


ALL: dict[str, Callable[[Probe], Steps[Any]]] = {
    "top_logprobs": Probe.top_logprobs,
    "spelling": Probe.spelling,
    "named": Probe.named,
    "continuation": Probe.continuation,
    "prefill": Probe.prefill,
    "schema": Probe.schema,
    "grammar": Probe.grammar,
    "choice": Probe.choice,
    "samples": Probe.samples,
    "seed": Probe.seed,
    "images": Probe.images,
}
"""Every capability that is probed, in order: a later one may rest on an earlier one."""


def probe(api: str, declared: Capabilities, wanted: Collection[str]) -> Steps[tuple[Capabilities, bool]]:
    """Try the wanted capabilities; returns what was found, and whether every reply was clear enough to be kept.

    Args:
        api: ``completions`` or ``chat``.
        declared: what is known or assumed of the endpoint.
        wanted: names of fields of `Capabilities`.
    """
    probing = Probe(api, declared)
    for name, ask in ALL.items():
        if name not in wanted or name in probing.found.probed:
            continue
        useless = name == "named" and not probing.found.spelling
        value = 0 if useless else (yield from ask(probing))
        tried: dict[str, Any] = {name: value, "probed": probing.found.probed | {name}}
        probing.found = replace(probing.found, **tried)
    return probing.found, probing.clear


def hoped(declared: Capabilities, uncertain: Iterable[str]) -> Capabilities:
    """What the endpoint may turn out to give: what was not tried yet is taken to be there.

    >>> hoped(Capabilities(top_logprobs=20), ["continuation"]).continuation
    True
    """
    widths = {"top_logprobs": WIDTHS[1], "named": NAMED[0]}
    open_ = [name for name in uncertain if name not in declared.probed]
    best: dict[str, Any] = {n: getattr(declared, n) or widths[n] if n in widths else True for n in open_}
    return replace(declared, **best)
