"""The label-score ladder: log p(label | prompt) from whatever the endpoint can give, cheapest rung first.

1. the next token's top log-probabilities: one request for all labels that are one token and likely enough;
2. exact log-probabilities of a given continuation: one request for each word the first rung did not settle;
3. where there is no second rung, the k-th log-probability bounds what was not seen, and is marked as a bound.

A figure the endpoint left out is never taken for zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl_engine.errors import RequestError, TaskError
from icl_engine.protocols import Steps
from icl_engine.types import (
    Capabilities,
    Continuation,
    LabelScores,
    Need,
    NextToken,
    Prompt,
    Request,
    Response,
    Role,
)

TOP = 50
"""Next tokens asked for where the endpoint sets no narrower limit: wide enough for most labels, as fast as 1."""


Spelt = tuple[tuple[str, float], ...]
"""The tokens of a word, each with its log p."""


@dataclass(frozen=True)
class _Word:
    """A label's word as it would follow the prompt, and its log p by token once known."""

    label: str
    text: str


def label_scores(prompt: Prompt, need: Need, can: Capabilities, *, role: Role = "main") -> Steps[LabelScores]:
    """Ask for the log-probabilities of the need's labels after the prompt.

    log p(y) = log Σ_{w ∈ v(y)} p(w | prompt), nats. For a cloze, w runs to the end of its sentence.

    Args:
        prompt: what the model is shown.
        need: the labels and their words.
        can: what the endpoint can give.
        role: whose question it is.

    Raises:
        RequestError: the endpoint left out the log-probabilities it was asked for.
    """
    shown, said = prompt.shown, ""
    lead = prompt.lead if prompt.text is not None else ""
    tail = prompt.after if prompt.after.strip() else ""
    words = [_Word(label, f"{lead}{w}{tail}") for label, ws in need.words.items() for w in ws]
    known: dict[str, Spelt] = {}
    bounds: dict[str, float] = {}
    if can.top_logprobs and not tail:
        top = min(can.top_logprobs, max(TOP, 2 * len(words)))
        (response,) = yield [Request(shown, NextToken(top), role=role)]
        said = response.text
        words, known, bounds = _from_next_token(words, response, exact_only=can.continuation)
    missing = [w for w in words if w.text not in known]
    if can.continuation and missing:
        answers = yield [Request(shown, Continuation(w.text), role=role) for w in missing]
        known |= {w.text: _complete(w, a) for w, a in zip(missing, answers, strict=True)}
    method = "continuation" if len(missing) == len(words) else "top_k+continuation" if missing else "top_k"
    if not can.continuation:
        method = "top_k"
    logprobs = _sequence(words, known, bounds) if need.scores == "sequence" else _trie(words, known, bounds)
    bounded = tuple(dict.fromkeys(w.label for w in words if _inexact(w, need, can, known)))
    if need.want == "argmax" and max(logprobs, key=logprobs.__getitem__) not in bounded:
        bounded = ()  # no bound reaches the best label: the argmax is exact
    return LabelScores(logprobs, method, bounded, said)


def _inexact(word: _Word, need: Need, can: Capabilities, known: Mapping[str, Spelt]) -> bool:
    """Whether a word's figure is a bound: it was not seen, or only its first token was (which settles a trie)."""
    if word.text not in known:
        return True
    spelt = "".join(token for token, _ in known[word.text])
    return need.scores == "sequence" and not can.continuation and spelt != word.text


def _from_next_token(
    words: Sequence[_Word], response: Response, *, exact_only: bool
) -> tuple[list[_Word], dict[str, Spelt], dict[str, float]]:
    """The words that count, those settled by the next token, and for the others an upper bound of log p.

    A word that begins with the same token as another of its label adds nothing that can be seen, and is left out.
    """
    if not response.tokens:
        raise RequestError(
            "the model left out the log-probabilities it was asked for; set output's verbalizer to read: text"
        )
    top: dict[str, float] = {}
    for token, logprob in response.tokens:
        top.setdefault(token, logprob)
    known: dict[str, Spelt] = {w.text: ((w.text, top[w.text]),) for w in words if w.text in top}
    if exact_only:
        return list(words), known, {}
    floor = min(top.values())
    heads = {w.text: w.label for w in words if w.text in known}
    bounds: dict[str, float] = {}
    for w in words:
        if w.text in known:
            continue
        head = max((t for t in top if t.strip() and w.text.startswith(t)), key=len, default=None)
        if head is None:
            bounds[w.text] = floor
            continue
        rival = heads.get(head, w.label)
        if rival != w.label:
            raise TaskError(
                f"labels {rival!r} and {w.label!r} begin with the same token {head!r}, and the model gives only the "
                "next token's log-probabilities; choose words that differ, or set read: text",
                key="output",
            )
        if head not in heads:
            heads[head] = w.label
            known[w.text] = ((head, top[head]),)
    return [w for w in words if w.text in known or w.text in bounds], known, bounds


def _complete(word: _Word, response: Response) -> Spelt:
    if not response.tokens or any(not math.isfinite(p) for _, p in response.tokens):
        raise RequestError(f"the model left out log-probabilities of {word.text!r}")
    return response.tokens


def _log_sum(values: Sequence[float]) -> float:
    peak = max(values)
    return peak if peak == -math.inf else peak + math.log(sum(math.exp(v - peak) for v in values))


def _by_label(words: Sequence[_Word], logprob: Mapping[str, float]) -> dict[str, float]:
    per: dict[str, list[float]] = {}
    for w in words:
        per.setdefault(w.label, []).append(logprob[w.text])
    return {label: _log_sum(values) for label, values in per.items()}


def _sequence(words: Sequence[_Word], known: Mapping[str, Spelt], bounds: Mapping[str, float]) -> dict[str, float]:
    """log p of the whole token sequence: the sum over its tokens."""
    total = {text: sum(p for _, p in tokens) for text, tokens in known.items()} | dict(bounds)
    return _by_label(words, total)


def _trie(words: Sequence[_Word], known: Mapping[str, Spelt], bounds: Mapping[str, float]) -> dict[str, float]:
    """log p under decoding that may only spell the words: at each node p is renormalised over the node's children.

    Where a word ends at a node from which others go on, its end has what the children leave of the node's mass.
    """
    paths = {w.text: known.get(w.text) or ((w.text, bounds[w.text]),) for w in words}
    children: dict[tuple[str, ...], dict[str, float]] = {}
    for path in paths.values():
        for i, (token, logprob) in enumerate(path):
            children.setdefault(tuple(t for t, _ in path[:i]), {})[token] = logprob
    ends = {tuple(t for t, _ in path) for path in paths.values()}
    total: dict[str, float] = {}
    for text, path in paths.items():
        spelt: tuple[str, ...] = ()
        score = 0.0
        for token, step in path:
            score += step - _log_sum(_options(children[spelt], spelt in ends))
            spelt = (*spelt, token)
        if spelt in children:
            options = _options(children[spelt], True)
            score += options[-1] - _log_sum(options)
        total[text] = score
    return _by_label(words, total)


def _options(children: Mapping[str, float], may_end: bool) -> list[float]:
    """log p of each child, and last of ending here where a word does."""
    options = list(children.values())
    if may_end:
        left = 1.0 - sum(math.exp(p) for p in options)
        options.append(math.log(left) if left > 0 else -math.inf)
    return options
