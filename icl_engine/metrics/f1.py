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

        def f1(draws: Any) -> tuple[Any, Any]:
            """Shape (repeats, cells) -> F1 and support, each (repeats, labels)."""
            support = draws @ (is_target + is_predicted).T
            return 2 * (draws @ (is_target * is_predicted).T) / np.maximum(support, 1), support

        whole = f1(counts[None, :])[0]

        def macro(draws: Any) -> Any:
            """A label that a resample lacks keeps its F1 of the whole: a mean over fewer labels is another quantity."""
            value, support = f1(draws)
            return np.where(support > 0, value, whole).mean(axis=1)

        return Score(float(whole.mean()), bootstrap_counts(counts, macro, seed=self._seed), n)
