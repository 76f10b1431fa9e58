"""`linear`: a logistic regression on the label scores, learned from labelled train rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from icl_engine.alignment.fits import rows_of
from icl_engine.alignment.statistical.distribution import decide, softmax
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Form = Literal["full", "diagonal"]

LEAST = 1e-6
"""Log p is taken of no less: that a label was in none of ten samples does not speak against it like e^-27."""

GRID = tuple(10.0**power for power in range(-3, 3))
"""The C that cross-validation chooses from."""


MOST = 200
"""Iterations of a fit: what is still to be gained after these shows in no answer."""


class Affine(NamedTuple):
    """z = W x + b for some of the labels: W has one row for each of `classes`, one column for each feature."""

    classes: tuple[int, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def log_likelihood(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> float:
        """Σ log q(y), q = softmax(z); a label that is not among the classes counts as `LEAST`."""
        import numpy as np
        from scipy.special import log_softmax

        logs = np.full((len(x), x.shape[1]), math.log(LEAST))
        logs[:, list(self.classes)] = log_softmax(x @ self.weights.T + self.bias, axis=1)
        return float(np.maximum(logs[np.arange(len(y)), y], math.log(LEAST)).sum())


class Linear(Aligner):
    """q = softmax(W log p + b), a multinomial logistic regression on the log-probabilities of the labels.

    W and b maximise C Σ log q(y) − ½ ‖W‖² over train rows, log p being standardised. ``diagonal`` has one weight a
    label (the per-class affine map of Gundem et al. 2025) and maximises C Σ log q(y) − ½ Σ (w − 1)² + b², so that
    little data leave p nearly as it is. C is the one under which rows left out, in stratified folds, are likeliest.

    Args:
        form: ``full``, ``diagonal``, or the one under which rows left out are likeliest.
        rows: from how many train rows it is learned.
        folds: into how many parts they are divided to choose C.
        c: C, where it is not to be chosen: the greater, the closer to the rows.

    >>> def said(p, y):
    ...     return Answered("a", {"a": p, "b": 1 - p}, y)
    >>> step = Linear(c=10)
    >>> state = step.fit([said(0.95, "a"), said(0.9, "a"), said(0.8, "b"), said(0.75, "b")])
    >>> step.apply(Reading(value="a", distribution={"a": 0.78, "b": 0.22}), state).value
    'b'
    """

    kind: ClassVar[Kind] = "linear"
    corrects: ClassVar[bool] = True

    use: Literal["linear"] = "linear"
    form: Form | Literal["auto"] = "auto"
    rows: int = Field(default=256, ge=1)
    folds: int = Field(default=5, ge=2)
    c: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def learns(self) -> int:
        """How many labelled rows it learns from."""
        return self.rows

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """{"labels": of z, "features": of p, "weights": W, "bias": b, "c": C, "rows", "told"}; no W of too little."""
        import numpy as np

        rows = rows_of(answered, self.use)
        counts = Counter(rows.targets)
        said = {"features": list(rows.labels), "rows": len(rows)}
        if len(counts) < 2 or max(counts.values()) < 2:
            nothing: dict[str, Any] = {"labels": [], "weights": [], "bias": [], "form": None, "c": None}
            return said | nothing | {"told": [*rows.told, "too little to learn from: label scores stay as they are"]}
        x = np.log(np.maximum(np.array(rows.p), LEAST))
        y = np.array([rows.labels.index(target) for target in rows.targets])
        form, c = self._chosen(x, y, ("diagonal", "full") if self.form == "auto" else (self.form,))
        model = fit_affine(x, y, form, c)
        never = ["a label that no train row has is never the answer"] if len(counts) < len(rows.labels) else []
        return said | {
            "labels": [rows.labels[i] for i in model.classes],
            "weights": model.weights.tolist(),
            "bias": model.bias.tolist(),
            "form": form,
            "c": c,
            "told": [*rows.told, *never],
        }

    def _chosen(self, x: NDArray[np.float64], y: NDArray[np.int64], forms: Sequence[Form]) -> tuple[Form, float]:
        """The form and C under which rows left out are likeliest: for each form C grows until they become less so."""
        import numpy as np

        grid = GRID if self.c is None else (self.c,)
        if len(forms) == len(grid) == 1:
            return forms[0], grid[0]
        folds = min(self.folds, int(np.bincount(y).max()))
        # Dealt out label by label, so that each fold has its share of each: of a label with fewer rows than folds some
        # have none, and every C pays the same for that.
        order = sorted(Random(0).sample(range(len(y)), len(y)), key=lambda i: y[i])
        fold = np.empty(len(y), dtype=int)
        fold[order] = np.arange(len(y)) % folds

        def left_out(form: Form, c: float) -> float:
            parts = ((fold != f, fold == f) for f in range(folds))
            return sum(fit_affine(x[seen], y[seen], form, c).log_likelihood(x[new], y[new]) for seen, new in parts)

        best = (-math.inf, forms[0], GRID[0])
        for form in forms:
            before = -math.inf
            for c in grid:
                likely = left_out(form, c)
                if likely < before:
                    break
                before = likely
                best = max(best, (likely, form, c), key=itemgetter(0))
        return best[1:]

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """softmax(W log p + b); a label that no train row had gets no probability."""
        import numpy as np

        p = reading.distribution
        if p is None or not state["weights"]:
            return reading
        of, weights, bias = self._kept.get("last", (None, None, None))
        if of is not state:
            weights, bias = np.array(state["weights"]), np.array(state["bias"])
            self._kept["last"] = state, weights, bias
        x = [math.log(max(p.get(label, 0.0), LEAST)) for label in state["features"]]
        q = softmax(dict(zip(state["labels"], ((weights * np.array(x)).sum(axis=1) + bias).tolist(), strict=True)))
        return decide(reading, {label: q.get(label, 0.0) for label in p}, self.use)

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """The last state, its W and b as arrays."""
        return {}


def fit_affine(x: NDArray[np.float64], y: NDArray[np.int64], form: Form, c: float) -> Affine:
    """The map of log p in the rows of x that has the largest penalised likelihood of the labels y.

    >>> import numpy as np
    >>> x = np.log([[0.9, 0.1], [0.6, 0.4]])
    >>> fitted = fit_affine(x, np.array([0, 1]), "diagonal", 1e-9)
    >>> fitted.classes, fitted.weights.round(3).tolist(), fitted.bias.round(3).tolist()
    ((0, 1), [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    """
    import numpy as np

    classes = tuple(np.unique(y).tolist())
    if len(classes) == 1:
        return Affine(classes, np.zeros((1, x.shape[1])), np.zeros(1))
    return (_diagonal if form == "diagonal" else _full)(x, y, c, classes)


def _full(x: NDArray[np.float64], y: NDArray[np.int64], c: float, classes: tuple[int, ...]) -> Affine:
    """The regression on all log p: fitted on standardised ones, its weights are for log p as they come."""
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    # The matrices are small: threads would wait for each other longer than they work.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable rows under a great C: near enough
        fitted = LogisticRegression(C=c, max_iter=MOST, tol=1e-3).fit((x - mean) / spread, y)
    weights, bias = fitted.coef_ / spread, fitted.intercept_ - (fitted.coef_ / spread) @ mean
    if len(classes) == 2:  # one row of weights: of the second label against the first
        weights, bias = np.vstack([0 * weights, weights]), np.concatenate([[0.0], bias])
    return Affine(classes, weights, bias)


def _diagonal(x: NDArray[np.float64], y: NDArray[np.int64], c: float, classes: tuple[int, ...]) -> Affine:
    """z_k = w_k log p_k + b_k for each label k that a row has."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import log_softmax
    from threadpoolctl import threadpool_limits

    own, k = x[:, list(classes)], len(classes)
    hits = (y[:, None] == np.array(classes)).astype(float)

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = at[:k], at[k:]
        logs = log_softmax(own * w + b, axis=1)
        off = c * (np.exp(logs) - hits)
        value = -c * float((hits * logs).sum()) + 0.5 * float(((w - 1) ** 2).sum() + (b**2).sum())
        return value, np.concatenate([(off * own).sum(axis=0) + w - 1, off.sum(axis=0) + b])

    start = np.concatenate([np.ones(k), np.zeros(k)])
    with threadpool_limits(1):
        at = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST}).x
    weights = np.zeros((k, x.shape[1]))
    weights[np.arange(k), list(classes)] = at[:k]
    return Affine(classes, weights, at[k:])
