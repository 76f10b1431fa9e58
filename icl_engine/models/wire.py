"""OpenAI's wire forms, as its API and the servers that follow it write them: turns and schemas sent, answers read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from icl_engine.models.figures import places
from icl_engine.types import Generate, Image, Message, NextToken, Request, Response, Usage

Body = dict[str, Any]

# -- what is sent


def turns(messages: Iterable[Message]) -> list[Body]:
    """The turns of a chat; content parts only where a turn holds an image.

    >>> turns([Message("user", "fine")])
    [{'role': 'user', 'content': 'fine'}]
    """
    return [{"role": m.role, "content": _content(m)} for m in messages]


def _content(message: Message) -> str | list[Body]:
    parts = message.parts
    if not any(isinstance(part, Image) for part in parts):
        return message.text
    return [_part(part) for part in parts if isinstance(part, Image) or part]


def _part(part: str | Image) -> Body:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    data = base64.b64encode(part.data or b"").decode("ascii")
    url = part.url if part.data is None else f"data:{part.media_type};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def has_images(prompt: str | Sequence[Message]) -> bool:
    """Whether a turn holds an image."""
    return not isinstance(prompt, str) and any(isinstance(part, Image) for m in prompt for part in m.parts)


def json_format(schema: Mapping[str, Any]) -> Body:
    """``response_format`` for answers that keep a JSON Schema."""
    strict = schema.get("type") == "object" and closed(schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": strict}}


def closed(schema: Any) -> bool:
    """Whether a schema keeps OpenAI's rules for ``strict``: every object names all its fields, and all are required.

    >>> closed({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False})
    True
    >>> closed({"type": "object", "properties": {"a": {"type": "object"}}})
    False
    """
    if isinstance(schema, list | tuple):
        return all(map(closed, schema))
    if not isinstance(schema, Mapping):
        return True
    kind = schema.get("type")
    named = schema.get("properties")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or isinstance(named, Mapping):
        fields = named if isinstance(named, Mapping) else {}
        required = schema.get("required") or []
        if schema.get("additionalProperties") is not False or set(required) != set(fields):
            return False
    inside = [v for k, v in schema.items() if k not in ("properties", "$defs", "definitions", "enum", "const")]
    for key in ("properties", "$defs", "definitions"):
        inside += list((schema.get(key) or {}).values())
    return all(map(closed, inside))


# -- what comes back


def choices(answer: Any) -> list[Body]:
    """The choices of an answer, in the order of their index.

    Raises:
        ValueError, or what comes of reading something else: it is no answer.
    """
    found = [choice for _, choice in sorted(enumerate(answer["choices"]), key=lambda c: (c[1].get("index") or 0, c[0]))]
    if not found:
        raise ValueError("no choice")
    return found


def usage(answer: Body) -> Usage:
    """The tokens an answer cost."""
    used = answer.get("usage") or {}
    return Usage(
        used.get("prompt_tokens") or 0,
        (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        used.get("completion_tokens") or 0,
    )


def said(choice: Body) -> str:
    """The text of a choice; a refusal is what the model said, too."""
    if "text" in choice:
        text = choice["text"]
    else:
        message = choice["message"]
        text = message.get("content") or message.get("refusal")
    if not isinstance(text or "", str):
        raise TypeError("a text that is none")
    return text or ""


def response(choice: Body, request: Request, used: Usage, pause: float = 0.0) -> Response:
    """A choice as what the request asked for: text, or the next tokens' log-probabilities.

    Raises:
        NoLogprobsError: figures are missing, partial, or cannot be any.
    """
    readout = request.readout
    found = places(choice.get("logprobs"), readout) if isinstance(readout, NextToken) else ()
    return Response(said(choice), (), found, (), choice.get("finish_reason"), used, pause)


def stopped(answer: Response, request: Request) -> Response:
    """The answer up to the first stop text, for a model that takes none."""
    stops = request.readout.sampling.stop if isinstance(request.readout, Generate) else ()
    ends = [at for stop in stops if (at := answer.text.find(stop)) >= 0]
    if not ends:
        return answer
    return Response(answer.text[: min(ends)], finish="stop", usage=answer.usage, pause=answer.pause)
