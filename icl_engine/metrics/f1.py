"""`macro_f1`: F1 of each label, averaged."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from icl_engine.metrics.intervals import bootstrap_counts
from icl_engine.protocols import Metric
from icl_engine.types import Score


class MacroF1(Metric):
    """The mean of 2·TP / (2·TP + FP + FN) over labels that are a target or a prediction; bootstrap interval.

    An unreadable answer is a miss for its target and a false alarm for no label.

    >>> tally = MacroF1().tally()
    >>> for p, t in (("a", "a"), ("a", "b"), ("b", "b"), (None, "b")):
    ...     _ = tally.add(p, t)
    >>> round(tally.score().value, 4)
    0.5833
    """

    use: Literal["macro_f1"] = "macro_f1"

    def tally(self, seed: int = 0) -> _Confusion:
        """An empty confusion matrix."""
        return _Confusion(seed)


class _Confusion:
    """Counts of (target, prediction) cells: all that a resample needs, whatever the number of examples."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._cells: Counter[tuple[str, str | None]] = Counter()

    def add(self, prediction: Any, target: Any) -> None:
        self._cells[str(target), None if prediction is None else str(prediction)] += 1

    def score(self) -> Score:
        import numpy as np

        cells = sorted(self._cells, key=lambda c: (c[0], c[1] is None, c[1] or ""))
        labels = sorted({label for cell in cells for label in cell if label is not None})
        n = sum(self._cells.values())
        if not n:
            return Score(0.0, (0.0, 1.0), 0)
        counts = np.array([self._cells[c] for c in cells])
        is_target = np.array([[c[0] == label for c in cells] for label in labels], dtype=float)
        is_predicted = np.array([[c[1] == label for c in cells] for label in labels], dtype=float)

        def macro(draws: Any) -> Any:
            """Shape (repeats, cells) -> (repeats,). A label absent from a resample is left out of its mean."""
            both = draws @ (is_target * is_predicted).T
            seen = draws @ is_target.T
            claimed = draws @ is_predicted.T
            f1 = 2 * both / np.maximum(seen + claimed, 1)
            return f1.sum(axis=1) / np.maximum((seen + claimed > 0).sum(axis=1), 1)

        value = float(macro(counts[None, :])[0])
        return Score(value, bootstrap_counts(counts, macro, seed=self._seed), n)
