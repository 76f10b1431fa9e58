"""What an answer is known by, and the bytes it is kept as."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from icl_engine.types import Continuation, Generate, NextToken, Place, Request, Response, Spelling, Usage


def content_key(identity: str, request: Request) -> str:
    """SHA-256 (hex) of the endpoint, the whole prompt, its sampling and readout, and the sample's index.

    An HTTP batch, `n`, retry settings and keys are not part of it; neither is whose question it was.

    >>> a = Request("2 + 2 =", Generate())
    >>> content_key("m", a) == content_key("m", Request("2 + 2 =", Generate(), role="probe"))
    True
    >>> content_key("m", a) == content_key("n", a)
    False
    """
    prompt: Any = request.prompt
    if not isinstance(prompt, str):
        prompt = [
            [m.role, *(part if isinstance(part, str) else ["image", part.identity] for part in m.parts)] for m in prompt
        ]
    match request.readout:
        case Generate(s, grammar, schema, choices):
            stop = list(s.stop)
            readout: list[Any] = ["text", s.max_tokens, s.temperature, stop, s.seed, grammar, schema, *choices]
        case NextToken(top, named, spelt, places):
            readout = ["next", top, named, spelt, places]
        case Continuation(text):
            readout = ["continuation", text]
        case Spelling(texts):
            readout = ["spelling", texts]
    parts = [identity, prompt, readout, request.sample]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def encode(response: Response) -> bytes:
    """A response as JSON; floats survive exactly."""
    u = response.usage
    used = [u.prompt_tokens, u.cached_prompt_tokens, u.completion_tokens]
    places = [[p.said, list(p.seen.items()), p.floor] for p in response.places]
    return orjson.dumps([response.text, response.tokens, response.finish, used, places, response.spelt])


def decode(body: bytes) -> Response:
    """The response that was encoded; what an older version kept has fewer parts."""
    text, tokens, finish, used, *more = orjson.loads(body)
    places, spelt = more or ((), ())
    return Response(
        text,
        tuple(map(tuple, tokens)),
        tuple([Place(said, dict(seen), floor) for said, seen, floor in places]),
        tuple(map(tuple, spelt)),
        finish,
        Usage(*used),
    )
