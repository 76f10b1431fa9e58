"""What a run writes of each example: a line of `predictions.jsonl`, and lines of `answers.jsonl`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from icl_engine.alignment.text import text_of
from icl_engine.errors import RequestError
from icl_engine.images import written
from icl_engine.types import (
    Asked,
    Example,
    Exchange,
    Image,
    LabelScores,
    Message,
    Prediction,
    Prompt,
    Reading,
    Usage,
    total,
    usage_of,
)

Record = dict[str, Any]


def line(record: Record) -> bytes:
    """A record as one line of JSON."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS, default=str)


def prediction_record(x: Example, result: Prediction | RequestError, exchanges: Sequence[Exchange] = ()) -> Record:
    """The line of an example, before it is judged; `exchanges` are what its prediction rests on."""
    record: Record = {"id": x.id, "inputs": dict(written(x.inputs))}
    if isinstance(result, RequestError):
        failed = {"prompt_sha256": None, "text": None, "prediction": None, "target": x.target, "correct": None}
        rest: Record = {"demonstrations": [], "trace": [], "usage": usage_record(Usage()), "error": str(result)}
        return {**record, **failed, "scores": {}, "status": "failed", "distribution": None, **rest}
    record["prompt_sha256"] = prompt_sha256(result.prompt)
    record["text"] = result.text
    record |= {"prediction": result.value, "target": x.target, "correct": None, "scores": {}}
    record |= {"status": result.status, "distribution": result.distribution}
    record["demonstrations"] = [d.example.id for d in result.demonstrations]
    if result.prompt.dropped:
        record["dropped"] = [d.example.id for d in result.prompt.dropped]
    if result.prompt.first is not None:
        record["rationale"] = result.prompt.thought
    record["trace"] = list(result.reading.trace)
    record["usage"] = usage_record(usage_of(exchanges))
    return record


def cluster_of(inputs: Mapping[str, Any], field: str | None) -> str | None:
    """What a row was drawn together with: the value of `data.cluster`'s field as text; None where it has none."""
    return None if field is None or inputs[field] is None else text_of(inputs[field])


def reading_of(record: Record) -> Reading:
    """The reading that a record keeps, for steps that are taken in a second pass."""
    trace = tuple(record["trace"])
    return Reading(
        record["text"], record["prediction"], record["distribution"], record["status"], trace, record["inputs"]
    )


def with_reading(record: Record, reading: Reading) -> Record:
    """The record after further steps."""
    value = reading.value if reading.status == "ok" else None
    new = {"prediction": value, "status": reading.status, "distribution": reading.distribution}
    return {**record, **new, "trace": list(reading.trace)}


def usage_record(usage: Usage) -> dict[str, int]:
    """Tokens as first counted."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }


def answer_records(prediction: Prediction, answers: Sequence[Exchange]) -> list[Record]:
    """One line for each question put to the model: its key, prompt, text, label log-probabilities and usage."""
    by_prompt: dict[str | tuple[Message, ...], list[Exchange]] = {}
    for exchange in answers:
        by_prompt.setdefault(exchange.request.prompt, []).append(exchange)
    records = []
    sampled = any(asked.role == "sample" for asked in prediction.asked)
    for asked in prediction.asked:
        shown = asked.prompt.shown
        # Two questions about one prompt share them, but for samples.
        exchanges = by_prompt.get(shown) or list(told(asked))
        if asked.role in ("sample", "rationale", "repair"):
            exchanges = [e for e in exchanges if e.request.sample == asked.sample]
        exchanges = list({e.key: e for e in exchanges}.values())
        form: Record = (
            {"prompt": shown}
            if isinstance(shown, str)
            else {"messages": [{"role": m.role, "content": content(m)} for m in shown]}
        )
        records.append(
            {
                "key": exchanges[0].key,
                "id": prediction.example.id,
                "role": asked.role,
                **({"sample": asked.sample} if sampled else {}),
                **form,
                "text": asked.text,
                "logprobs": dict(asked.scores.logprobs) if asked.scores else None,
                "bounded": list(asked.scores.bounded) if asked.scores else [],
                "usage": usage_record(total(exchanges)),
                **_scored(asked.scores, exchanges),
            }
        )
    return records


def _scored(scores: LabelScores | None, exchanges: Sequence[Exchange]) -> Record:
    """What a line about label scores tells beside them, so that they can be read again; nothing for text.

    `requests` are the key, and the tokens of prompt, prompt cache and answer, of each request that they took.
    """
    if scores is None:
        return {}
    used = [(e.key, *usage_record(e.response.usage).values()) for e in exchanges if e.request.role != "spelling"]
    rest = {"requests": used} if len(used) > 1 else {}
    return {"method": scores.method, "whole": scores.whole, **rest}


def told(asked: Asked) -> tuple[Exchange, ...]:
    """What label scores took that are on record: nobody was asked for them."""
    found = asked.scores.exchanges if asked.scores else ()
    return tuple(replace(e, request=replace(e.request, role=asked.role)) for e in found)


def rests_on(prediction: Prediction, exchanges: Sequence[Exchange]) -> tuple[Exchange, ...]:
    """All exchanges of a prediction: what was asked, and what was on record."""
    return (*exchanges, *(exchange for asked in prediction.asked for exchange in told(asked)))


def lesson_record(exchange: Exchange) -> Record:
    """The line of a question that I asked before the first row."""
    request, response = exchange.request, exchange.response
    return {
        "key": exchange.key,
        "id": None,
        "role": request.role,
        **_form(request.prompt),
        "text": response.text,
        "logprobs": None,
        "bounded": [],
        "usage": usage_record(response.usage),
    }


def _form(shown: str | tuple[Message, ...]) -> Record:
    if isinstance(shown, str):
        return {"prompt": shown}
    return {"messages": [{"role": m.role, "content": content(m)} for m in shown]}


def content(message: Message) -> str | list[str | Record]:
    """What a turn says: its text, or its texts and images in order, an image by its name and URL or hash."""
    return message.content if isinstance(message.content, str) else [_part(part) for part in message.content]


def _part(part: str | Image) -> str | Record:
    if isinstance(part, str):
        return part
    known = {"sha256": part.identity.removeprefix("sha256:")} if part.data is not None else {"url": part.url}
    return {"image": part.name, **known}


def prompt_sha256(prompt: Prompt) -> str:
    """SHA-256 of the prompt's bytes (of its messages as JSON, for chat); an image counts by its URL or hash."""
    shown = prompt.shown
    if isinstance(shown, str):
        return hashlib.sha256(shown.encode()).hexdigest()
    said = [[m.role, m.content if isinstance(m.content, str) else [_known(part) for part in m.content]] for m in shown]
    return hashlib.sha256(orjson.dumps(said)).hexdigest()


def _known(part: str | Image) -> str | list[str]:
    return part if isinstance(part, str) else ["image", part.identity]
