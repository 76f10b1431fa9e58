"""`numeric`: numbers that are near enough, and expressions that are equal."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from icl_engine.errors import MissingExtraError
from icl_engine.metrics.row import RowMetric

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3}){1,30}|\d{1,400})?(?:\.\d{1,400})?(?:[eE][-+]?\d{1,4})?")


class Numeric(RowMetric):
    r"""The share of answers a that are near the target b: |a - b| ≤ max(absolute, relative · |b|); Wilson's interval.

    What is no number is right where it equals the target. With ``equal: math`` texts are expressions, LaTeX or plain,
    and right where math-verify (extra ``math``) finds them equal, as ``\frac{\sqrt{3}}{2}`` and ``sqrt(3)/2`` are. It
    works in a process of its own; what takes it longer than three seconds counts as wrong, as no answer does.

    Args:
        absolute: how far an answer may be off.
        relative: how far it may be off as a share of the target.
        equal: ``value``: numbers alone; ``math``: expressions too.

    >>> [Numeric(absolute=0.5).row(p, 12) for p in (12, 12.4, 13)]
    [1.0, 1.0, 0.0]
    >>> Numeric(relative=0.01).row(3.14, 3.1416), Numeric().row("3.14", "3.140")
    (1.0, 1.0)
    """

    use: Literal["numeric"] = "numeric"
    absolute: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    relative: float = Field(default=1e-9, ge=0, allow_inf_nan=False)
    equal: Literal["value", "math"] = "value"

    def check(self) -> None:
        """See that math-verify is there, where it is used."""
        if self.equal == "math" and find_spec("math_verify") is None:
            raise MissingExtraError("the metric numeric with equal: math", "math-verify", "math")

    def row(self, prediction: Any, target: Any) -> float:
        """1 where they are near enough."""
        a, b = _number(prediction), _number(target)
        if a is not None and b is not None:
            return float(a == b or abs(a - b) <= max(self.absolute, self.relative * abs(b)))
        if self.equal == "math" and all(isinstance(x, str | int | float) for x in (prediction, target)):
            from icl_engine.metrics.symbolic import equal

            return float(equal(str(prediction), str(target)))
        same = prediction.strip() == target.strip() if _texts(prediction, target) else prediction == target
        return float(same)


def _texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _number(value: Any) -> float | None:
    """A value as a number: an int, a float, or a text that is nothing else."""
    if isinstance(value, str):
        text = value.strip().replace("\u2212", "-")
        if not any(c.isdecimal() for c in text) or not _NUMBER.fullmatch(text):
            return None
        value = float(text.replace(",", ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
