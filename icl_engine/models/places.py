"""What an endpoint says of the next token, checked: a figure it left out or made up is never taken for a real one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from icl_engine.errors import NoLogprobsError
from icl_engine.types import Place, Token

LEFT_OUT = -9999.0
"""What OpenAI's and vLLM's servers write in place of minus infinity, for a figure that was not computed."""

SLACK = 1e-6
"""Probability that rounding may hide: an unseen token is bounded by what the seen ones leave, and this."""


def place(said: Token, pairs: Iterable[tuple[Token, float | None]], *, ranked: bool) -> Place:
    """A `Place` from (token, log p) pairs; figures that are missing or stand for "not computed" are dropped.

    Args:
        said: the token that was said.
        pairs: log-probabilities, nats; of tokens of the same text the first counts.
        ranked: whether they are the likeliest tokens, so that no other is likelier than the last of them.

    Raises:
        NoLogprobsError: no figure is left, or they cannot be log-probabilities of one token: positive, all zero, or of
            a sum above 1.

    >>> place("a", [("b", -2.0), ("a", -0.5), ("c", -9999.0)], ranked=True).seen
    {'a': -0.5, 'b': -2.0}
    >>> round(place("a", [("a", -0.01)], ranked=False).floor, 1)
    -4.6
    """
    seen: dict[Token, float] = {}
    for token, logprob in pairs:
        if logprob is not None and math.isfinite(logprob) and logprob > LEFT_OUT:
            seen.setdefault(token, float(logprob))
    if not seen:
        raise NoLogprobsError("the model left out the log-probabilities it was asked for")
    if len(seen) > 1 and not any(seen.values()):
        raise NoLogprobsError("the model fills log-probabilities with zeros")
    mass = sum(map(math.exp, seen.values()))
    if mass > 1.01:
        raise NoLogprobsError(f"the model's log-probabilities are none: they sum to a probability of {mass:.2f}")
    ordered = dict(sorted(seen.items(), key=lambda pair: -pair[1]))
    left = math.log(max(1.0 - mass, 0.0) + SLACK)
    return Place(said, ordered, min(left, *ordered.values()) if ranked else left)
