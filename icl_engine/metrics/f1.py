"""`macro_f1`, `token_f1`, `span_f1`: F1 = 2·TP / (2·TP + FP + FN) of labels, words, spans."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from icl_engine.metrics.row import RowMetric
from icl_engine.protocols import Metric, Sums


class MacroF1(Metric):
    """The mean of 2·TP / (2·TP + FP + FN) over labels that are a target or a prediction; bootstrap interval.

    An unreadable answer is a miss for its target and a false alarm for no label.

    >>> metric, sums = MacroF1(), Counter()
    >>> for p, t in (("a", "a"), ("a", "b"), ("b", "b"), (None, "b")):
    ...     sums.update(metric.counts(p, t)[1])
    >>> round(float(metric.value(sums)), 4)
    0.5833
    """

    use: Literal["macro_f1"] = "macro_f1"

    def counts(self, prediction: Any, target: Any) -> tuple[None, Mapping[str, float]]:
        """For each label how often it was right, and how often it was a target or a prediction."""
        found = Counter({f"named {target}": 1})
        if prediction is not None:
            found[f"named {prediction}"] += 1
            found[f"right {target}"] += str(prediction) == str(target)
        return None, found

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The mean over labels. One that a resample lacks keeps its F1 of the whole: a mean over fewer labels is
        another quantity.
        """
        import numpy as np

        labels = [name.removeprefix("named ") for name in sums if name.startswith("named ")]
        named = np.array([sums[f"named {label}"] for label in labels], dtype=float)
        right = np.array([sums.get(f"right {label}", np.zeros_like(named[0])) for label in labels], dtype=float)
        f1 = np.divide(2 * right, named, out=np.full_like(named, np.nan), where=named > 0)
        if whole is not None:
            kept = [2 * whole.get(f"right {label}", 0) / whole[f"named {label}"] for label in labels]
            f1 = np.where(named > 0, f1, np.reshape(kept, (-1,) + (1,) * (f1.ndim - 1)))
        return np.nanmean(f1, axis=0)


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
        said, meant = _words(str(prediction)), _words(str(target))
        return _f1(sum((said & meant).values()), sum(said.values()), sum(meant.values()))


class SpanF1(Metric):
    """Micro-averaged F1 of typed spans: TP are those whose type and text are both the target's; bootstrap interval.

    Spans are objects with ``type`` and ``text``, an object of type -> texts (``{"person": ["Ann"]}``), or plain texts.
    A text is compared without outer white space, a span that is named twice counts twice. An unreadable answer is a
    miss for each of its target's spans, and one false alarm where there are none.

    >>> SpanF1().counts({"person": ["Ann", "Bo"]}, [{"type": "person", "text": "Ann"}])[1]
    {'right': 1, 'predicted': 2, 'target': 1}
    """

    use: Literal["span_f1"] = "span_f1"
    graded: ClassVar[bool] = True

    def counts(self, prediction: Any, target: Any) -> tuple[float, Mapping[str, float]]:
        """The row's own F1; spans that are right, predicted, and the target's."""
        meant = _spans(target)
        if prediction is None:
            return 0.0, {"right": 0, "predicted": int(not meant), "target": sum(meant.values())}
        said = _spans(prediction)
        right, n_said, n_meant = sum((said & meant).values()), sum(said.values()), sum(meant.values())
        return _f1(right, n_said, n_meant), {"right": right, "predicted": n_said, "target": n_meant}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """F1 of the sums; 1 where there was nothing to find and nothing was found."""
        import numpy as np

        named = np.asarray(sums["predicted"] + sums["target"], dtype=float)
        return np.divide(2 * np.asarray(sums["right"], dtype=float), named, out=np.ones_like(named), where=named > 0)


def _f1(right: int, predicted: int, target: int) -> float:
    return 2 * right / (predicted + target) if predicted + target else 1.0


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> Counter[str]:
    return Counter(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _spans(value: Any) -> Counter[tuple[str, str]]:
    """(type, text) pairs of whatever shape the answer has; what is no span counts as a span of its own."""
    if isinstance(value, Mapping):
        if "text" in value:
            return Counter([(str(value.get("type", "")).strip(), str(value["text"]).strip())])
        pairs = ((str(k).strip(), v) for k, several in value.items() for v in _several(several))
        return Counter((kind, str(text).strip()) for kind, text in pairs)
    found: Counter[tuple[str, str]] = Counter()
    for item in _several(value):
        found += _spans(item) if isinstance(item, Mapping) else Counter([("", str(item).strip())])
    return found


def _several(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
