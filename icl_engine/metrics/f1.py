"""`macro_f1`, `micro_f1`, `token_f1`, `span_f1`: F1 = 2·TP / (2·TP + FP + FN) of labels, words, spans."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from icl_engine.metrics.label import label_of
from icl_engine.metrics.row import RowMetric
from icl_engine.protocols import Metric, Sums


class MacroF1(Metric):
    """The mean of 2·TP / (2·TP + FP + FN) over labels that are a target or a prediction; bootstrap interval.

    A row's answer is one label, or a list of labels of which each counts once. An unreadable answer is a miss for its
    targets and a false alarm for no label (where there was none to find, for a label of its own).

    >>> metric, sums = MacroF1(), Counter()
    >>> for p, t in (("a", "a"), ("a", "b"), ("b", "b"), (None, "b")):
    ...     sums.update(metric.counts(p, t)[1])
    >>> round(float(metric.value(sums)), 4)
    0.5833
    """

    use: Literal["macro_f1"] = "macro_f1"

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[None, Mapping[str, float]]:
        """For each label how often it was right, and how often it was a target or a prediction."""
        meant = _labels(target)
        said = _labels(prediction) if prediction is not None else set() if meant else {_UNREAD}
        found: dict[str, float] = {"rows": 1}
        for label in meant:
            found[f"named {label}"] = 1 + (label in said)
            found[f"right {label}"] = int(label in said)
        for label in said - meant:
            found[f"named {label}"] = 1
        return None, found

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The mean over labels. One that a resample lacks keeps its F1 of the whole: a mean over fewer labels is
        another quantity. 1 where there were no labels to find and none were found.
        """
        import numpy as np

        labels = [name.removeprefix("named ") for name in sums if name.startswith("named ")]
        if not labels:
            return np.ones_like(sums["rows"], dtype=float)
        named = np.array([sums[f"named {label}"] for label in labels], dtype=float)
        right = np.array([sums.get(f"right {label}", np.zeros_like(named[0])) for label in labels], dtype=float)
        f1 = np.divide(2 * right, named, out=np.full_like(named, np.nan), where=named > 0)
        if whole is not None:
            kept = [2 * whole.get(f"right {label}", 0) / whole[f"named {label}"] for label in labels]
            f1 = np.where(named > 0, f1, np.reshape(kept, (-1,) + (1,) * (f1.ndim - 1)))
        return np.nanmean(f1, axis=0)


class MicroF1(Metric):
    """2·TP / (2·TP + FP + FN) of all labels together; bootstrap interval.

    A row's answer is one label, or a list of labels of which each counts once. With one label a row it is the accuracy,
    but for unreadable answers: these are misses for their targets and false alarms for no label (one, where there was
    no label to find).

    >>> metric, sums = MicroF1(), Counter()
    >>> for p, t in ((["a", "b"], ["a"]), (["c"], ["c"]), (None, ["b"])):
    ...     sums.update(metric.counts(p, t)[1])
    >>> round(float(metric.value(sums)), 4)
    0.6667
    """

    use: Literal["micro_f1"] = "micro_f1"
    graded: ClassVar[bool] = True

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[float, Mapping[str, float]]:
        """The row's own F1; labels that are right, predicted, and the target's."""
        meant = _labels(target)
        if prediction is None:
            return 0.0, {"right": 0, "predicted": int(not meant), "target": len(meant)}
        said = _labels(prediction)
        right = len(said & meant)
        return _f1(right, len(said), len(meant)), {"right": right, "predicted": len(said), "target": len(meant)}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """F1 of the sums; 1 where there was nothing to find and nothing was found."""
        return _summed_f1(sums)


class TokenF1(RowMetric):
    """F1 of the words that prediction and target share, averaged over rows; bootstrap interval.

    Words as in SQuAD (Rajpurkar et al. 2016): lower case, without punctuation and the articles a, an, the.

    >>> round(TokenF1().row("The Eiffel tower, Paris", "Eiffel Tower"), 4)
    0.8
    """

    use: Literal["token_f1"] = "token_f1"
    graded: ClassVar[bool] = True

    def row(self, prediction: Any, target: Any) -> float:
        """F1 over the two bags of words; two empty ones agree."""
        said, meant = _words(label_of(prediction)), _words(label_of(target))
        return _f1(sum((said & meant).values()), sum(said.values()), sum(meant.values()))


class SpanF1(Metric):
    """Micro-averaged F1 of typed spans: TP are those whose type and text are both the target's; bootstrap interval.

    Spans are objects with ``type`` and ``text``, an object of type -> texts (``{"person": ["Ann"]}``), or plain texts.
    A text is compared without outer white space, a span that is named twice counts twice. Two spans that both have
    their ``start`` and ``end`` in the row's text are compared by these and the type. An unreadable answer is a miss
    for each of its target's spans, and one false alarm where there are none.

    >>> SpanF1().counts({"person": ["Ann", "Bo"]}, [{"type": "person", "text": "Ann"}])[1]
    {'right': 1, 'predicted': 2, 'target': 1}
    """

    use: Literal["span_f1"] = "span_f1"
    graded: ClassVar[bool] = True

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[float, Mapping[str, float]]:
        """The row's own F1; spans that are right, predicted, and the target's."""
        meant = _spans(target)
        if prediction is None:
            return 0.0, {"right": 0, "predicted": int(not meant), "target": len(meant)}
        said = _spans(prediction)
        right, n_said, n_meant = _agreeing(said, meant), len(said), len(meant)
        return _f1(right, n_said, n_meant), {"right": right, "predicted": n_said, "target": n_meant}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """F1 of the sums; 1 where there was nothing to find and nothing was found."""
        return _summed_f1(sums)


def _summed_f1(sums: Sums) -> Any:
    """F1 of the counts ``right``, ``predicted`` and ``target``; 1 where the latter are both 0."""
    import numpy as np

    named = np.asarray(sums["predicted"] + sums["target"], dtype=float)
    return np.divide(2 * np.asarray(sums["right"], dtype=float), named, out=np.ones_like(named), where=named > 0)


def _f1(right: int, predicted: int, target: int) -> float:
    return 2 * right / (predicted + target) if predicted + target else 1.0


_UNREAD = "(no answer)"


def _labels(value: Any) -> set[str]:
    """The labels of an answer: those of a list, else the one that it is."""
    if isinstance(value, list | tuple):
        return set(map(label_of, value))
    return {value if isinstance(value, str) else label_of(value)}


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> Counter[str]:
    return Counter(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


_Span = tuple[str, str, tuple[int, int] | None]
"""Type, text, and where it starts and ends."""


def _spans(value: Any) -> list[_Span]:
    """The spans of whatever shape the answer has; what is no span counts as a span of its own."""
    if isinstance(value, Mapping):
        if "text" in value:
            start, end = value.get("start"), value.get("end")
            place = (start, end) if type(start) is int and type(end) is int else None
            return [(str(value.get("type", "")).strip(), str(value["text"]).strip(), place)]
        pairs = ((str(k).strip(), v) for k, several in value.items() for v in _several(several))
        return [(kind, str(text).strip(), None) for kind, text in pairs]
    found: list[_Span] = []
    for item in _several(value):
        found += _spans(item) if isinstance(item, Mapping) else [("", str(item).strip(), None)]
    return found


def _agreeing(said: list[_Span], meant: list[_Span]) -> int:
    """How many spans agree: in type and place where both have one, else in type and text."""
    same = Counter((kind, place) for kind, _, place in said if place)
    same &= Counter((kind, place) for kind, _, place in meant if place)
    right, (loose, fixed), (loose_too, fixed_too) = same.total(), _left(said, same), _left(meant, same)
    for span, several in loose_too.items():
        right += min(fixed[span], several)
        loose_too[span] -= min(fixed[span], several)
    return right + sum(min(n, loose_too[span] + fixed_too[span]) for span, n in loose.items())


def _left(spans: list[_Span], same: Counter[tuple[str, Any]]) -> tuple[Counter[tuple[str, str]], ...]:
    """(type, text) of the spans that did not agree by their place: of those without one, of those with one."""
    left, found = Counter(same), (Counter[tuple[str, str]](), Counter[tuple[str, str]]())
    for kind, text, place in spans:
        if place and left[kind, place]:
            left[kind, place] -= 1
        else:
            found[place is not None][kind, text] += 1
    return found


def _several(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
