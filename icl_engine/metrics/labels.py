"""`balanced_accuracy` and `mcc`: single-label classification where labels are not equally frequent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from icl_engine.metrics.label import label_of
from icl_engine.protocols import Metric, Sums


class BalancedAccuracy(Metric):
    """The mean over target labels of recall, right / rows with that target; bootstrap interval.

    Every label weighs the same, however rare. An unreadable answer is a miss for its target.

    >>> from icl_engine.metrics.tally import Tally
    >>> tally = Tally(BalancedAccuracy())
    >>> for p, t in (("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), (None, "b"), ("a", "b")):
    ...     _ = tally.add(p, t)
    >>> tally.score().value
    0.625
    """

    use: Literal["balanced_accuracy"] = "balanced_accuracy"

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[None, Mapping[str, float]]:
        """How often the target's label was a target, and how often it was right."""
        label = label_of(target)
        return None, {f"target {label}": 1, f"right {label}": int(_right(prediction, label))}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The mean over target labels. One that a resample lacks keeps its recall of the whole."""
        import numpy as np

        labels, target = _of_labels("target", sums)
        _, right = _of_labels("right", sums, labels)
        recall = np.divide(right, target, out=np.full_like(target, np.nan), where=target > 0)
        if whole is not None:
            kept = [whole[f"right {label}"] / whole[f"target {label}"] for label in labels]
            recall = np.where(target > 0, recall, np.reshape(kept, (-1,) + (1,) * (recall.ndim - 1)))
        return np.nanmean(recall, axis=0)


class Mcc(Metric):
    """Matthews' correlation coefficient of predictions and targets, from -1 to 1; bootstrap interval.

    For several labels R_K (Gorodkin 2004): with c right answers of s, and label k predicted p_k and meant t_k times,

    R_K = (c·s - Σ_k p_k·t_k) / √((s² - Σ_k p_k²)·(s² - Σ_k t_k²)),

    0 where the denominator is. It is 0 for predictions that tell nothing of the targets (always the same label, or by
    chance). An unreadable answer counts as a wrong one: it is spread evenly over the other target labels. (As a label
    of its own it would count as evidence: answers could be withheld for the rows of one label to raise the value.)

    >>> from icl_engine.metrics.tally import Tally
    >>> tally = Tally(Mcc())
    >>> for p, t in (("a", "a"), ("a", "a"), ("a", "b"), ("b", "b")):
    ...     _ = tally.add(p, t)
    >>> round(tally.score().value, 4)
    0.5774
    """

    use: Literal["mcc"] = "mcc"
    worst: ClassVar[float] = -1.0

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[None, Mapping[str, float]]:
        """How often a label was predicted, meant, and meant where nothing was read; rows, and how many were right."""
        label = label_of(target)
        said = f"missed {label}" if prediction is None else f"predicted {label_of(prediction)}"
        return None, {"rows": 1, "right": int(_right(prediction, label)), f"target {label}": 1, said: 1}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """R_K of the sums."""
        import numpy as np

        labels = sorted({name.partition(" ")[2] for name in sums if " " in name})
        (_, predicted), (_, target), (_, missed) = (
            _of_labels(kind, sums, labels) for kind in ("predicted", "target", "missed")
        )
        rows, right = (np.asarray(sums[name], dtype=float) for name in ("rows", "right"))
        others = (target > 0).sum(axis=0) - 1
        spread = (missed.sum(axis=0) - missed) / np.maximum(others, 1)
        predicted = predicted + np.where((target > 0) & (others > 0), spread, 0.0)
        gain = right * rows - (predicted * target).sum(axis=0)
        squares = (rows**2 - (predicted**2).sum(axis=0)) * (rows**2 - (target**2).sum(axis=0))
        # The squares of counts are whole numbers, but for what is spread: below 1e-9 of them is nothing.
        some = squares > 1e-9 * rows**2
        found = np.divide(gain, np.sqrt(np.where(some, squares, 1.0)), out=np.zeros_like(gain), where=some)
        return np.clip(found, -1.0, 1.0)


def _right(prediction: Any, label: str) -> bool:
    return prediction is not None and label_of(prediction) == label


def _of_labels(kind: str, sums: Sums, labels: list[str] | None = None) -> tuple[list[str], Any]:
    """The counts of a kind by label, shape (labels,) or (labels, resamples); 0 where a label has none."""
    import numpy as np

    if labels is None:
        labels = [name.partition(" ")[2] for name in sums if name.startswith(f"{kind} ")]
    nothing = np.zeros(np.shape(next(iter(sums.values()))))
    return labels, np.array([sums.get(f"{kind} {label}", nothing) for label in labels], dtype=float)
