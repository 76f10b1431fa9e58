"""Arithmetic on label distributions that the calibrations share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from icl_engine.types import Reading

FLOOR = 1e-12
"""Below it a probability is taken as this: a label with no prior mass must not divide by zero."""


def divide(distribution: Mapping[str, float], prior: Mapping[str, float]) -> dict[str, float]:
    """q ∝ p / p̄, renormalised: what is left of p once the prior p̄ is taken out.

    >>> divide({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25})
    {'a': 0.25, 'b': 0.75}
    """
    weights = {label: p / max(prior[label], FLOOR) for label, p in distribution.items()}
    total = sum(weights.values()) or 1.0
    return {label: w / total for label, w in weights.items()}


def decide(reading: Reading, distribution: Mapping[str, float], step: str) -> Reading:
    """The reading with a new distribution; the value is its first largest label."""
    value = max(distribution, key=distribution.__getitem__)
    note = step if value == reading.value else f"{step}: {reading.value!r} -> {value!r}"
    return replace(reading, value=value, distribution=distribution, trace=(*reading.trace, note))
