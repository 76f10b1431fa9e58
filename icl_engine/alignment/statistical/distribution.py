"""Arithmetic on label distributions that the calibrations share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from icl_engine.types import Reading

FLOOR = 1e-12
"""Below it a probability is taken as this: a label with no prior mass must not divide by zero."""


def divide(distribution: Mapping[str, float], prior: Mapping[str, float], strength: float = 1.0) -> dict[str, float]:
    """q ∝ p / p̄^γ, renormalised: what is left of p once the prior p̄ is taken out, with strength γ.

    >>> divide({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25})
    {'a': 0.25, 'b': 0.75}
    >>> divide({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25}, strength=0)
    {'a': 0.5, 'b': 0.5}
    """
    return normal({label: p / max(prior[label], FLOOR) ** strength for label, p in distribution.items()})


def normal(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights divided by their sum.

    >>> normal({"a": 3, "b": 1})
    {'a': 0.75, 'b': 0.25}
    """
    total = sum(weights.values()) or 1.0
    return {label: w / total for label, w in weights.items()}


def softmax(logs: Mapping[str, float]) -> dict[str, float]:
    """q ∝ exp(z).

    >>> softmax({"a": 1000.0, "b": 1000.0})
    {'a': 0.5, 'b': 0.5}
    """
    peak = max(logs.values())
    return normal({label: math.exp(z - peak) for label, z in logs.items()})


def mean(distributions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of distributions over the same labels.

    >>> mean([{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}])
    {'a': 0.75, 'b': 0.25}
    """
    return {label: sum(p[label] for p in distributions) / len(distributions) for label in distributions[0]}


def likeliest(distribution: Mapping[str, float]) -> str:
    """The first largest label.

    >>> likeliest({"a": 0.25, "b": 0.375, "c": 0.375})
    'b'
    """
    return max(distribution, key=distribution.__getitem__)


def decide(reading: Reading, distribution: Mapping[str, float], step: str, value: str | None = None) -> Reading:
    """The reading with a new distribution; the value is its first largest label, unless it is given."""
    value = likeliest(distribution) if value is None else value
    note = step if value == reading.value else f"{step}: {reading.value!r} -> {value!r}"
    return replace(reading, value=value, distribution=distribution, trace=(*reading.trace, note))
