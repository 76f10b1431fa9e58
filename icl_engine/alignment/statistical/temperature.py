"""`temperature`: probabilities as sure as the model is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.fits import rows_of
from icl_engine.alignment.statistical.distribution import FLOOR, decide, likeliest, softmax
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading

COLDEST, HOTTEST = 0.05, 20.0
"""Between these T is looked for."""


class Temperature(Aligner):
    """q ∝ p^(1/T), T the one with the least log-loss over train rows (Guo et al. 2017). The answer stays the same.

    Args:
        rows: from how many train rows T is learned.
        t: T, where it is known; then nothing is learned.

    >>> Temperature(t=2).apply(Reading(value="a", distribution={"a": 0.8, "b": 0.2})).distribution
    {'a': 0.666..., 'b': 0.333...}
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["temperature"] = "temperature"
    rows: int = Field(default=128, ge=1)
    t: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def learns(self) -> int:
        """How many labelled rows T is fitted on; 0 where it is given."""
        return 0 if self.t is not None else self.rows

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """{"t": T, "rows", "told"}: −Σ log q(y) is least at T, between `COLDEST` and `HOTTEST`; where it falls with T
        to the last, since every row is right, T stays 1.

        >>> sure = {"a": 0.99, "b": 0.01}
        >>> rows = [Answered("a", sure, y) for y in "aaab"]
        >>> t = Temperature().fit(rows)["t"]
        >>> Temperature(t=t).apply(Reading(distribution=sure)).distribution
        {'a': 0.75..., 'b': 0.2...}
        """
        import numpy as np
        from scipy.optimize import minimize_scalar
        from scipy.special import logsumexp

        rows = rows_of(answered, self.use)
        logs = np.log(np.maximum(np.array(rows.p), FLOOR))
        right = logs[range(len(rows)), [rows.labels.index(y) for y in rows.targets]]

        def loss(log_t: float) -> float:
            return float(np.mean(logsumexp(logs / np.exp(log_t), axis=1) - right / np.exp(log_t)))

        cold, hot = math.log(COLDEST), math.log(HOTTEST)
        found = float(minimize_scalar(loss, bounds=(cold, hot), method="bounded", options={"xatol": 1e-6}).x)
        told = list(rows.told)
        if loss(0.0) <= loss(found) + 1e-12:  # as good as it is: nothing is to be changed
            found = 0.0
        elif loss(cold) <= loss(found) + 1e-12:
            found = 0.0
            told.append("every one of these rows is right, which says nothing of how sure p may be: T stays 1")
        elif loss(hot) <= loss(found) + 1e-6:
            found = hot
            told.append(f"p says nothing of what is right in these rows: T is the greatest there is, {HOTTEST:g}")
        return {"t": math.exp(found), "rows": len(rows), "told": told}

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take the T-th root."""
        p = reading.distribution
        if p is None:
            return reading
        t = self.t if self.t is not None else state["t"]
        # Of equals, which a great T makes, the one that was the answer stays it.
        kept = isinstance(reading.value, str) and p.get(reading.value) == max(p.values())
        value = reading.value if kept else likeliest(p)
        return decide(reading, softmax({label: math.log(max(x, FLOOR)) / t for label, x in p.items()}), self.use, value)
