"""`rouge`, `bleu`, `chrf`: generated text against a reference, by the field's own packages (extra ``metrics``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from icl_engine.errors import MissingExtraError
from icl_engine.metrics.label import label_of
from icl_engine.metrics.row import RowMetric
from icl_engine.protocols import Metric, Sums


class Rouge(RowMetric):
    """ROUGE's F-measure (Lin 2004) by the package rouge-score, averaged over rows; bootstrap interval.

    Its tokeniser knows Latin letters and digits only.

    Args:
        variant: ``rouge1``, ``rouge2``: shared words, pairs of words; ``rougeL``: the longest common subsequence;
            ``rougeLsum``: the same, line by line.
        stem: compare Porter stems.

    >>> round(Rouge().row("the cat sat on the mat", "a cat sat on a mat"), 4)
    0.6667
    """

    use: Literal["rouge"] = "rouge"
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    stem: bool = False
    graded: ClassVar[bool] = True

    def check(self) -> None:
        """See that rouge-score is there."""
        _need("rouge", "rouge_score", "rouge-score")

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer([self.variant], use_stemmer=self.stem)

    def row(self, prediction: Any, target: Any) -> float:
        """The F-measure of one answer."""
        said, meant = label_of(prediction), label_of(target)
        if self.variant == "rougeL":
            return self._longest(said, meant)
        return float(self._scorer.score(meant, said)[self.variant].fmeasure)

    def _longest(self, said: str, meant: str) -> float:
        """ROUGE-L of the package's words, without its table of words by words, which a run-on answer makes slow."""
        from rouge_score.scoring import fmeasure

        a, b = self._words.tokenize(said), self._words.tokenize(meant)
        common = lcs_length(a, b)
        return float(fmeasure(common / len(a), common / len(b))) if common else 0.0

    @cached_property
    def _words(self) -> Any:
        from rouge_score.tokenizers import DefaultTokenizer

        return DefaultTokenizer(self.stem)


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bits (Hyyrö 2004): a bit for each place of the shorter.

    >>> lcs_length("the cat sat on the mat".split(), "a cat sat on a mat".split())
    4
    """
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    places: dict[str, int] = {}
    for i, word in enumerate(short):
        places[word] = places.get(word, 0) | 1 << i
    full = rest = (1 << len(short)) - 1
    for word in long:
        matched = rest & places.get(word, 0)
        rest = (rest + matched | rest - matched) & full
    return len(short) - rest.bit_count()


class _Corpus(Metric):
    """A metric of sacrebleu: a function of n-gram counts summed over rows, on its own scale of 0 to 100."""

    best: ClassVar[float] = 100.0

    def check(self) -> None:
        """See that sacrebleu is there."""
        _need(self.use, "sacrebleu", "sacrebleu")

    @cached_property
    def _scorer(self) -> Any:
        raise NotImplementedError

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[None, Mapping[str, float]]:
        """The row's statistics, as sacrebleu's own resampling adds them up; an unreadable answer is an empty text."""
        said = "" if prediction is None else label_of(prediction)
        (found,) = self._scorer._extract_corpus_statistics([said], [[label_of(target)]])
        return None, {f"{i:02}": count for i, count in enumerate(found)}

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The score of summed statistics."""
        import numpy as np

        columns = np.array([sums[name] for name in sorted(sums)], dtype=float)
        if columns.ndim == 1:
            return self._score(columns.astype(int).tolist())
        return np.array([self._score(row) for row in columns.T.astype(int).tolist()])

    def _score(self, statistics: list[int]) -> float:
        # Rounding may lift a perfect score above its best.
        return min(self.best, float(self._scorer._compute_score_from_stats(statistics).score))


class Bleu(_Corpus):
    """Corpus BLEU (Papineni et al. 2002) as sacrebleu gives it (Post 2018), 0 to 100; bootstrap interval.

    It is 0 for texts that are all shorter than four tokens, even right ones: `chrf` suits short texts better.

    Args:
        tokenize: sacrebleu's tokeniser.
        lowercase: compare in lower case.
    """

    use: Literal["bleu"] = "bleu"
    tokenize: Literal["13a", "char", "intl", "none", "zh"] = "13a"
    lowercase: bool = False

    @cached_property
    def _scorer(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase)


class Chrf(_Corpus):
    """Corpus chrF (Popović 2015) as sacrebleu gives it, 0 to 100; bootstrap interval.

    Args:
        word_order: 0 for chrF, 2 for chrF++.
        lowercase: compare in lower case.
    """

    use: Literal["chrf"] = "chrf"
    word_order: Literal[0, 1, 2] = 0
    lowercase: bool = False

    @cached_property
    def _scorer(self) -> Any:
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(word_order=self.word_order, lowercase=self.lowercase)


def _need(metric: str, module: str, package: str) -> None:
    if find_spec(module) is None:
        raise MissingExtraError(f"the metric {metric}", package, "metrics")
