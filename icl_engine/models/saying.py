"""Rungs 5 and 6: the label from text, for endpoints that give no log-probabilities."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import orjson

from icl_engine.models.question import Question
from icl_engine.protocols import Steps
from icl_engine.types import Generate, LabelScores, Response, Sampling


def by_constraint(q: Question) -> Steps[LabelScores]:
    """The label that greedy generation says where it may say nothing but the words: no probability comes with it."""
    (answer,) = yield [q.ask(_shaped(q, replace(q.sampling, temperature=0.0)))]
    label = _said(q, answer)
    logprobs = {y: 0.0 if y == label else -math.inf for y in q.need.words}
    labels = tuple(q.need.words)
    return LabelScores(logprobs, "constrained", labels, whole=False, text=answer.text)


def by_votes(q: Question) -> Steps[LabelScores]:
    """p(y) = (votes of y + 1/K) / (n + 1): n samples under a symmetric Dirichlet prior of total weight 1."""
    sampling = replace(q.sampling, temperature=q.sampling.temperature or 1.0)
    answers = yield [q.ask(_shaped(q, sampling), sample=i) for i in range(q.need.samples)]
    votes = Counter(label for label in (_said(q, a) for a in answers) if label is not None)
    labels = tuple(q.need.words)
    total = votes.total() + 1
    logprobs = {y: math.log((votes[y] + 1 / len(labels)) / total) if votes else -math.inf for y in labels}
    return LabelScores(logprobs, "votes", labels, text=answers[0].text)


def _shaped(q: Question, sampling: Sampling) -> Generate:
    """Generation that can say only the words, where the endpoint can be told so."""
    words = tuple(w for ws in q.need.words.values() for w in ws)
    if q.can.choice:
        return Generate(sampling, choices=words)
    if q.can.schema:
        label = {"type": "string", "enum": list(words)}
        schema = {"type": "object", "properties": {"label": label}, "required": ["label"]}
        return Generate(sampling, schema={**schema, "additionalProperties": False})
    return Generate(sampling)


def _said(q: Question, answer: Response) -> str | None:
    """The label that a text says, also inside the JSON it was asked for."""
    text = answer.text
    if q.can.schema and not q.can.choice:
        with suppress(ValueError, KeyError, TypeError):
            text = str(orjson.loads(text)["label"])
    exact = {w: label for label, ws in q.need.words.items() for w in ws}.get(text.strip())
    return exact or (q.need.read(text) if q.need.read else None)
