"""Log-probabilities as servers write them, read and checked.

There are two shapes: lists side by side (OpenAI's and vLLM's completions), or a row for each token (chats everywhere,
llama.cpp's completions). `rows` reads both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from icl_engine.errors import NoLogprobsError, RequestError
from icl_engine.models.places import LEFT_OUT, place
from icl_engine.types import NextToken, Place, Token

Logprobs = Mapping[str, Any] | None
"""A choice's ``logprobs``."""

TOKEN_ID = re.compile(r"token_id:(\d+)")
"""A token as vLLM writes it where ids were asked for."""


class Row(NamedTuple):
    """One place of an answer as it was written: the token said, its log p, and the others shown there."""

    said: Token
    logprob: float | None
    others: list[tuple[Token, float | None]]


def rows(logprobs: Logprobs, *, as_ids: bool) -> list[Row]:
    """The places of an answer, in order; none where the server left log-probabilities out.

    Args:
        logprobs: a choice's `logprobs`.
        as_ids: whether tokens are wanted as ids rather than as text.

    Raises:
        NoLogprobsError: ids are wanted, and the server does not show them.
    """
    found = logprobs or {}
    if "content" in found:
        return [
            Row(
                _token(row["token"], row.get("id"), as_ids=as_ids),
                row.get("logprob"),
                [(_token(r["token"], r.get("id"), as_ids=as_ids), r["logprob"]) for r in row.get("top_logprobs") or []],
            )
            for row in found["content"] or []
        ]
    tokens = found.get("tokens") or []
    figures = found.get("token_logprobs") or [None] * len(tokens)
    tops = found.get("top_logprobs") or [None] * len(tokens)
    return [
        Row(
            _token(token, None, as_ids=as_ids),
            p,
            [(_token(other, None, as_ids=as_ids), q) for other, q in (top or {}).items()],
        )
        for token, p, top in zip(tokens, figures, tops, strict=True)
    ]


def _token(text: str, number: int | None, *, as_ids: bool) -> Token:
    if not as_ids:
        return text
    if number is not None:
        return number
    written = TOKEN_ID.fullmatch(text)
    if written is None:
        raise NoLogprobsError(f"the server shows no token ids, only {text!r}")
    return int(written[1])


def places(logprobs: Logprobs, readout: NextToken) -> tuple[Place, ...]:
    """The places that were asked for.

    Raises:
        NoLogprobsError: figures are missing, partial, or cannot be any.
    """
    found = rows(logprobs, as_ids=isinstance(readout.spelt, tuple) or bool(readout.named))[: readout.places]
    if not found:
        raise NoLogprobsError("the model left out the log-probabilities it was asked for")
    read = tuple(_place(row, readout) for row in found)
    missing = [i for i in readout.named if i not in read[0].seen]
    if missing:
        raise NoLogprobsError(
            f"the server ignores logprob_token_ids: it gave no log-probability of {len(missing)} of "
            f"{len(readout.named)} named tokens"
        )
    return read


def _place(row: Row, readout: NextToken) -> Place:
    pairs = [*row.others, (row.said, row.logprob)]
    if readout.named:
        return place(row.said, pairs, ranked=False)
    real = {token: p for token, p in reversed(pairs) if p is not None and p > LEFT_OUT}
    if len(real) < min(readout.top, 2):
        # vLLM computes only the token said where a top-k shares a batch with named tokens, and writes -9999 for the
        # rest: another time, in other company, all will be there.
        partial = any(p is not None and p <= LEFT_OUT for _, p in pairs)
        raise NoLogprobsError(f"the server gave {len(real)} of {readout.top} log-probabilities", retryable=partial)
    # A token that was said though it is not among the k likeliest says nothing of how likely unseen ones are.
    likeliest = sorted(real.items(), key=lambda pair: -pair[1])[: max(readout.top, 1)]
    return place(row.said, likeliest, ranked=True)


# -- figures of a given text, by echo


def echoed_ids(logprobs: Logprobs, before: int, ids: Sequence[int]) -> tuple[tuple[Token, float], ...]:
    """(token, log p) of the tokens that stand after the first `before` ones of an echoed prompt of ids.

    Raises:
        NoLogprobsError: the server does not echo, or left figures out.
    """
    found = rows(logprobs, as_ids=False)
    if len(found) not in (before + len(ids), before + len(ids) + 1):
        raise NoLogprobsError(
            f"the server gives no log-probabilities of the prompt (echo): {len(found)} figures for "
            f"{before + len(ids)} tokens"
        )
    whole = found[: before + len(ids)]
    return _figures(whole, list(zip(ids, whole[before:], strict=True)))


def echoed_text(logprobs: Logprobs, prompt: str, text: str) -> tuple[tuple[Token, float], ...]:
    """(token, log p) of the tokens of `text` in the echoed ``prompt + text``.

    Raises:
        NoLogprobsError: the server does not echo, or left figures out.
        RequestError: a token reaches across the end of the prompt.
    """
    found = rows(logprobs, as_ids=False)
    tokens = [str(row.said) for row in found]
    whole = prompt + text
    # What a server puts before every prompt (BOS) is shown among the tokens, but is not part of the text.
    begin = next((i for i in range(min(3, len(tokens))) if "".join(tokens[i:]).startswith(whole)), None)
    if begin is None:
        raise NoLogprobsError("the server gives no log-probabilities of the prompt (echo): its tokens do not spell it")
    inside, at = [], 0
    end = len(found)
    for i, (token, row) in enumerate(zip(tokens[begin:], found[begin:], strict=True), begin):
        if at >= len(whole):
            end = i
            break
        if at < len(prompt) < at + len(token) or at < len(whole) < at + len(token):
            raise RequestError(f"the token {token!r} reaches across an end of {text!r}: it cannot be scored by echo")
        if at >= len(prompt):
            inside.append((token, row))
        at += len(token)
    return _figures(found[:end], inside)


def _figures(whole: Sequence[Row], inside: Sequence[tuple[Token, Row]]) -> tuple[tuple[Token, float], ...]:
    """The log-probabilities of the rows inside, once those of the whole prompt are seen to be some."""
    if not any(row.logprob for row in whole):
        raise NoLogprobsError("the server fills log-probabilities of the prompt with zeros, or leaves them out")
    read = []
    for token, row in inside:
        p = row.logprob
        if p is None or not LEFT_OUT < p <= 1e-6 or not math.isfinite(p):
            raise NoLogprobsError(f"the server gives {p} as the log-probability of {token!r}")
        read.append((token, float(p)))
    return tuple(read)
