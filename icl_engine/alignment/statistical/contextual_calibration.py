"""`contextual_calibration`: take out what the prompt says before it has seen the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.statistical.distribution import decide, divide, mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Example, Reading


class ContextualCalibration(Aligner):
    """q = diag(p_cf)⁻¹ p, renormalised; p_cf is the mean of p over content-free inputs (Zhao et al. 2021).

    A content-free input replaces every template variable and keeps the query's demonstrations, so it is asked once for
    each demonstration set.

    Args:
        inputs: the content-free texts.
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["contextual_calibration"] = "contextual_calibration"
    inputs: tuple[str, ...] = Field(default=("N/A", "", "[MASK]"), min_length=1)

    def probes(self, x: Example, state: Any = None) -> tuple[Example, ...]:
        """x with every variable replaced, once for each content-free text.

        >>> [dict(p.inputs) for p in ContextualCalibration(inputs=("N/A",)).probes(Example(0, {"a": 1, "b": ["c"]}))]
        [{'a': 'N/A', 'b': ['N/A']}]
        """
        return tuple(content_free(x, text) for text in self.inputs)

    def fit_probes(self, distributions: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """p_cf: label -> mean p over the probes."""
        return mean(distributions)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Divide by p_cf."""
        if reading.distribution is None:
            return reading
        return decide(reading, divide(reading.distribution, state), "contextual_calibration")


def content_free(x: Example, text: str = "") -> Example:
    """x with every template variable replaced by a text that says nothing.

    >>> dict(content_free(Example(0, {"a": 1, "b": ["c"]})).inputs)
    {'a': '', 'b': ['']}
    """
    return Example(f"content-free {text!r}", _replaced(x.inputs, text))


def _replaced(value: Any, text: str) -> Any:
    """Every leaf replaced by the text; lists and mappings keep their shape, so that loops still run."""
    if isinstance(value, Mapping):
        return {k: _replaced(v, text) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(v, text) for v in value]
    return text
