"""The Messages API's forms: turns and JSON Schemas as it takes them, its answers as we read them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from icl_engine.types import Image, Message, Response, Usage

Block = dict[str, Any]

BREAKPOINT = {"cache_control": {"type": "ephemeral"}}
"""The prompt up to and with the block that holds it is worth keeping."""


def turns(prompt: Sequence[Message], cache: bool) -> dict[str, Any]:
    """``system`` and ``messages`` of a request.

    Args:
        prompt: the turns.
        cache: mark the last turn that many queries share.

    >>> turns([Message("system", "Judge."), Message("user", "fine")], cache=False)
    {'system': 'Judge.', 'messages': [{'role': 'user', 'content': 'fine'}]}
    """
    shared = max((i for i, message in enumerate(prompt) if message.shared), default=-1) if cache else -1
    system = "\n\n".join(message.text for message in prompt if message.role == "system")
    messages = []
    for i, message in enumerate(prompt):
        if message.role != "system":
            # White space at the end of an answer that is begun for the model is refused.
            begun = message.role == "assistant" and i == len(prompt) - 1
            messages.append({"role": message.role, "content": _content(message, i == shared, begun)})
    if not system.strip():
        return {"messages": messages}
    marked = shared >= 0 and prompt[shared].role == "system"
    return {"system": [{"type": "text", "text": system, **BREAKPOINT}] if marked else system, "messages": messages}


def _content(message: Message, marked: bool, begun: bool) -> str | list[Block]:
    """A turn's content: its text, or blocks where it has images or a breakpoint."""
    parts = list(message.parts)
    if begun and parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    if len(parts) == 1 and isinstance(parts[0], str) and not (marked and parts[0].strip()):
        return parts[0]
    # A block of white space alone is refused, and says nothing.
    blocks = [_block(part) for part in parts if isinstance(part, Image) or part.strip()]
    if marked and blocks:
        blocks[-1] |= BREAKPOINT
    return blocks


def _block(part: str | Image) -> Block:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.data is None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    data = base64.b64encode(part.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def message_of(answer: Mapping[str, Any], stop: Sequence[str]) -> Response:
    """The response that an answer's body holds; a refusal is an answer, and so is an empty text.

    Args:
        answer: the body.
        stop: where the text ends, whether the server heeded that or not.

    Raises:
        LookupError, TypeError, ValueError: neither a text nor a reason why there is none, or no body of this form.
    """
    texts = [block["text"] for block in answer["content"] if block["type"] == "text"]
    finish = answer.get("stop_reason")
    if not texts and not finish:
        raise LookupError("no text")
    text = "".join(texts)
    text.encode()  # half a character (a lone surrogate) could not be kept
    at = min((text.index(s) for s in stop if s and s in text), default=None)
    used = answer.get("usage") or {}
    read = used.get("cache_read_input_tokens") or 0
    fresh = (used.get("input_tokens") or 0) + (used.get("cache_creation_input_tokens") or 0)
    return Response(
        text[:at],
        finish=finish if at is None else "stop_sequence",
        usage=Usage(fresh + read, read, used.get("output_tokens") or 0),
    )


KEPT = ("$ref", "const", "default", "description", "enum", "required", "title", "type")
FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid")
SAYS = ("$ref", "allOf", "anyOf", "const", "enum", "type")
"""A schema without one of these says too little for the API."""


def closed(schema: Any) -> Block:
    """A copy of a JSON Schema as the API takes it: objects closed, what it cannot hold an answer to left out.

    Raises:
        ValueError: it would then say something else, or too little.

    >>> closed({"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}})
    {'type': 'object', 'properties': {'age': {'type': 'integer'}}, 'additionalProperties': False}
    """
    if not isinstance(schema, Mapping):
        raise ValueError("true or false in place of a schema")
    made: Block = {key: schema[key] for key in KEPT if key in schema}
    made |= {key: schema[key] for key, known in (("format", FORMATS), ("minItems", (0, 1))) if schema.get(key) in known}
    for key in ("$defs", "definitions", "properties"):
        if key in schema:
            made[key] = {name: closed(found) for name, found in schema[key].items()}
    # Any of several is less than one of them, and all the API knows.
    for key, theirs in (("oneOf", "anyOf"), ("anyOf", "anyOf"), ("allOf", "allOf")):
        if key in schema:
            made[theirs] = [closed(found) for found in schema[key]]
    if "items" in schema:
        made["items"] = closed(schema["items"])
    if len(made.get("allOf", ())) > 1:
        raise ValueError("allOf of several")
    if "properties" in made or "object" in _types(schema):
        _close(made, schema)
    if not any(key in made for key in SAYS):
        raise ValueError("a part of it names no type")
    return made


def _close(made: Block, schema: Mapping[str, Any]) -> None:
    """Forbid keys that an object schema does not list."""
    known = made.get("properties")
    more = schema.get("additionalProperties", False)
    if not known or isinstance(more, Mapping) or "patternProperties" in schema:
        raise ValueError("an object with keys of any name")
    if not set(made.get("required", ())) <= set(known):
        raise ValueError("a required key that it does not describe")
    made.setdefault("type", "object")
    made["additionalProperties"] = False


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    found = schema.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)
