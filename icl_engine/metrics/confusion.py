"""The confusion matrix: which labels were taken for which."""

from __future__ import annotations

from collections import Counter
from typing import Any

from icl_engine.metrics.label import OTHERS, short_label

KEPT = 200
"""Labels that are told apart; the rest are counted as one."""


class Confusion:
    """Rows by target and prediction, counted in one pass; its size is bounded, whatever a model says.

    Labels are told apart as they come, up to `kept` targets and as many predictions. `record` shows `kept` of them:
    targets first, then labels that are only ever predicted, the most frequent first.

    Args:
        kept: the most labels that are shown, beside that of all others.

    >>> confusion = Confusion()
    >>> for p, t in (("a", "a"), ("b", "a"), (None, "a"), ("b", "b"), ("b", "b"), ("a", "b"), ("b", "b")):
    ...     confusion.add(p, t)
    >>> confusion.record()
    {'labels': ['b', 'a'], 'counts': [[3, 1], [1, 1]], 'unread': [0, 1]}
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._targets: Counter[str] = Counter()
        self._predictions: Counter[str] = Counter()
        self._cells: Counter[tuple[str, str]] = Counter()
        self._unread: Counter[str] = Counter()

    def add(self, prediction: Any, target: Any) -> None:
        """Count one row (prediction None: no answer)."""
        self._count(self._cells if prediction is not None else self._unread, target, prediction, 1)

    def merge(self, other: Confusion) -> None:
        """Count what another has counted."""
        for (target, prediction), count in other._cells.items():
            self._count(self._cells, target, prediction, count)
        for target, count in other._unread.items():
            self._count(self._unread, target, None, count)

    def _count(self, table: Counter[Any], target: Any, prediction: Any, count: int) -> None:
        row = self._told(self._targets, target, count)
        table[row if prediction is None else (row, self._told(self._predictions, prediction, count))] += count

    def _told(self, known: Counter[str], value: Any, count: int) -> str:
        """The label under which a value is counted."""
        label = short_label(value)
        if label not in known and len(known) - (OTHERS in known) >= self.kept:
            label = OTHERS
        known[label] += count
        return label

    @property
    def labels(self) -> list[str]:
        """The labels that are shown, the most frequent first, those of no row's target after those of some; then
        `OTHERS`, where there are others.
        """
        targets = [label for label, _ in self._targets.most_common() if label != OTHERS]
        only_said = [label for label, _ in self._predictions.most_common() if label not in {*targets, OTHERS}]
        found = [*targets, *only_said]
        rest = len(found) > self.kept or OTHERS in self._targets or OTHERS in self._predictions
        return [*found[: self.kept], *([OTHERS] if rest else [])]

    def record(self) -> dict[str, Any]:
        """As JSON: `labels`, `counts` by target (row) and prediction (column), and by target the rows `unread`."""
        labels = self.labels
        place = {label: i for i, label in enumerate(labels)}
        last = len(labels) - 1
        counts = [[0] * len(labels) for _ in labels]
        for (target, prediction), count in self._cells.items():
            counts[place.get(target, last)][place.get(prediction, last)] += count
        unread = [0] * len(labels)
        for target, count in self._unread.items():
            unread[place.get(target, last)] += count
        return {"labels": labels, "counts": counts, "unread": unread}
